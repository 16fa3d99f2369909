-- table:   metrics_daily
-- promise: a metric is told once for its day, line, objective, space and slice
SELECT dt, line, objective, space, slice, metric, count(*) AS copies
FROM this
GROUP BY dt, line, objective, space, slice, metric
HAVING count(*) > 1
