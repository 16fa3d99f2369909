-- table:   scores
-- promise: every published probability is a finite number between 0 and 1, every expected value a finite one
SELECT user_id, item_id, line, score, published
FROM this
UNPIVOT INCLUDE NULLS (published FOR score IN (COLUMNS('^(p(ctr|cvr|ctcvr)(_cal)?|p_.*|e_.*)$')))
WHERE
    (published IS NULL AND NOT ends_with(score, '_cal'))
    OR NOT isfinite(published)
    OR (starts_with(score, 'p') AND published NOT BETWEEN 0 AND 1)
