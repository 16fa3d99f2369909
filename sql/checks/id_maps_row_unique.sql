-- table:   id_maps
-- promise: an embedding row of a vocabulary belongs to one id
SELECT dt, vocabulary, "row", count(*) AS ids
FROM this
WHERE "row" IS NOT NULL
GROUP BY dt, vocabulary, "row"
HAVING count(*) > 1
