-- table:   scores
-- promise: a calibrated conversion is never likelier than its calibrated click
SELECT user_id, item_id, line, pctr_cal, pctcvr_cal
FROM this
WHERE pctcvr_cal > pctr_cal
