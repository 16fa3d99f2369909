-- grain:    logical date of the exposure, objective
-- question: of a day's impressions, how many led to each objective, and how many of those labels are final?
-- reads:    samples; all its columns y_* and final_*, so it serves every funnel
WITH flags AS (
    SELECT
        dt,
        regexp_extract(flag, '^(y|final)_', 1) AS kind,
        regexp_replace(flag, '^(y|final)_', '') AS objective,
        happened
    FROM (SELECT dt, COLUMNS('^(y|final)_')::INTEGER FROM samples)
    UNPIVOT (happened FOR flag IN (COLUMNS('^(y|final)_')))
)

SELECT
    dt,
    objective,
    count(*) FILTER (kind = 'y') AS impressions,
    count(*) FILTER (kind = 'y' AND happened = 1) AS positives,
    round(avg(happened) FILTER (kind = 'y'), 4) AS rate,
    round(avg(happened) FILTER (kind = 'final'), 4) AS final_share
FROM flags
GROUP BY dt, objective
ORDER BY dt, objective
