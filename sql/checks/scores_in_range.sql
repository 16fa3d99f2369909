-- table:   scores
-- promise: every published probability is a finite number between 0 and 1
SELECT user_id, item_id, line, score, p
FROM this
UNPIVOT INCLUDE NULLS (p FOR score IN (COLUMNS('^p(ctr|cvr|ctcvr|_.*)$')))
WHERE p IS NULL OR NOT isfinite(p) OR p < 0 OR p > 1
