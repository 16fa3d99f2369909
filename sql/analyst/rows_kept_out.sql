-- grain:    day of delivery, where the row was refused, reason
-- question: which rows did not make it into the tables, how many, and what does one look like?
-- reads:    quarantine; copies are not in it, they are counted in runs.deduplicated
SELECT
    dt,
    origin,
    reason,
    count(*) AS refused,
    min(row_text) AS example
FROM quarantine
GROUP BY dt, origin, reason
ORDER BY dt, origin, reason
