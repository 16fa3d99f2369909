-- table:   metrics_daily
-- promise: an AUC lies between 0 and 1 and no metric is NaN
SELECT dt, line, objective, space, metric, value
FROM this
WHERE isnan(value) OR (metric IN ('auc', 'gauc') AND (value < 0 OR value > 1))
