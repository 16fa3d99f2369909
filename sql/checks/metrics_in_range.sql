-- table:   metrics_daily
-- promise: an AUC, KS or calibration error lies between 0 and 1 and no metric is NaN
SELECT dt, line, objective, space, metric, value
FROM this
WHERE isnan(value) OR (metric IN ('auc', 'gauc', 'gauc_unweighted', 'ks', 'ece') AND (value < 0 OR value > 1))
