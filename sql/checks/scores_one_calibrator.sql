-- table:   scores
-- promise: all scores of a line and day are calibrated by one version, or none is
SELECT dt, line, count(DISTINCT calibrator_version) AS versions, count(*) - count(calibrator_version) AS without
FROM this
GROUP BY dt, line
HAVING versions > 1 OR count(calibrator_version) NOT IN (0, count(*))
