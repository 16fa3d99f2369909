-- table:   gate
-- promise: a check fails beyond its limit and passes within it, and evidence that is too small decides nothing
SELECT dt, line, "check", objective, space, slice, over, measured, fail_limit, outcome
FROM this
WHERE
    (outcome IN ('passed', 'warned') AND if("check" = 'auc', measured < fail_limit, measured > fail_limit)
        AND "check" <> 'evidence')
    OR (outcome = 'failed' AND NOT if("check" = 'auc', measured < fail_limit, measured > fail_limit))
    OR (outcome = 'failed' AND fail_limit IS NULL)
    OR (outcome <> 'undecided' AND measured IS NULL)
