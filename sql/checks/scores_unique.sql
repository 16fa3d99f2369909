-- table:   scores
-- promise: a pair is scored once a day by a line (once per request where requests are known)
SELECT dt, line, user_id, item_id, request_id, count(*) AS copies
FROM this
GROUP BY dt, line, user_id, item_id, request_id
HAVING count(*) > 1
