-- table:   samples
-- promise: an impression is one sample
SELECT impression_id, count(*) AS copies
FROM this
GROUP BY impression_id
HAVING count(*) > 1
