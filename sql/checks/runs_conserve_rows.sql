-- table:   runs
-- promise: rows in = rows out + quarantined + deduplicated, at every stage that passes rows on
SELECT dt, stage, "table", rows_in, rows_out, quarantined, deduplicated
FROM this
WHERE rows_in IS NOT NULL AND rows_in <> rows_out + quarantined + deduplicated
