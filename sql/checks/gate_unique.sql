-- table:   gate
-- promise: a check is asked once of a version, objective, space, slice and set of rows
SELECT dt, line, "check", objective, space, slice, over, count(*) AS copies
FROM this
GROUP BY dt, line, "check", objective, space, slice, over
HAVING count(*) > 1
