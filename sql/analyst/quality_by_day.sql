-- grain:    day of the evaluated rows, objective, model line
-- question: how well did each line rank the impressions of a day before it learned from them?
-- reads:    metrics_daily
SELECT
    dt,
    objective,
    line,
    max("value") FILTER (metric = 'auc') AS auc,
    max("value") FILTER (metric = 'gauc') AS gauc,
    max("value") FILTER (metric = 'pcoc') AS pcoc,
    max("value") FILTER (metric = 'normalized_entropy') AS normalized_entropy,
    max("value") FILTER (metric = 'rmse') AS rmse,
    max("rows") AS impressions,
    max(positives) AS positives
FROM metrics_daily
WHERE space = 'impressions' AND slice = 'all'
GROUP BY dt, objective, line
ORDER BY dt, objective, line
