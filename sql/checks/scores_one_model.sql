-- table:   scores
-- promise: all scores of a line and day come from one known model
SELECT dt, line, count(DISTINCT model_version) AS models, count(*) - count(model_version) AS without_model
FROM this
GROUP BY dt, line
HAVING count(DISTINCT model_version) <> 1 OR count(model_version) <> count(*)
