-- table:   scores
-- promise: every score names its user and its item
SELECT dt, line, user_id, item_id
FROM this
WHERE user_id IS NULL OR item_id IS NULL
