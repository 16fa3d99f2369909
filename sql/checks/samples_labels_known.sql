-- table:   samples
-- promise: every label is 0 or 1
SELECT impression_id, label, y
FROM (SELECT impression_id, COLUMNS('^y_') FROM this)
UNPIVOT INCLUDE NULLS (y FOR label IN (COLUMNS('^y_')))
WHERE y IS NULL OR y NOT IN (0, 1)
