-- grain:    logical date of the run, stage, table and part that it wrote
-- question: where did the rows and the seconds of a run go? rows_in = rows_out + quarantined + deduplicated
-- reads:    runs, the latest entry of each part of each day
SELECT
    dt,
    stage,
    "table",
    part,
    rows_in,
    rows_out,
    quarantined,
    deduplicated,
    round(seconds, 1) AS seconds
FROM runs
WHERE state = 'finished'
QUALIFY row_number() OVER (PARTITION BY dt, stage, "table", part ORDER BY started_at DESC NULLS LAST) = 1
ORDER BY dt, started_at, "table", part
