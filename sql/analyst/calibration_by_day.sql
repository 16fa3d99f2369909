-- grain:    day of the evaluated rows, objective, space, model line, slice
-- question: how far was each line's level off, before and after calibration, as it was published for the day?
-- reads:    metrics_daily
SELECT
    dt,
    objective,
    space,
    line,
    slice,
    max("value") FILTER (metric = 'pcoc') AS pcoc,
    max("value") FILTER (metric = 'pcoc_cal') AS pcoc_calibrated,
    max("value") FILTER (metric = 'ece') AS ece,
    max("value") FILTER (metric = 'ece_cal') AS ece_calibrated,
    max("rows") AS impressions,
    max(positives) AS positives
FROM metrics_daily
WHERE space <> 'conditional_over_impressions'
GROUP BY dt, objective, space, line, slice
ORDER BY dt, objective, space, line, slice
