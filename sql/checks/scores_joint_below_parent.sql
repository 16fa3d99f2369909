-- table:   scores
-- promise: a conversion is never likelier than its click
SELECT user_id, item_id, line, pctr, pctcvr
FROM this
WHERE pctcvr > pctr
