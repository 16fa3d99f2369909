-- grain:    day, model line
-- question: which versions were kept out, what decided it, and what stood instead?
-- reads:    promotions, gate
SELECT
    p.dt,
    p.line,
    p.decision,
    p.decided_by,
    p.stands_dt AS stands_since,
    count(*) FILTER (g.outcome = 'failed') AS failed,
    count(*) FILTER (g.outcome = 'warned') AS warned,
    count(*) FILTER (g.outcome = 'undecided') AS undecided,
    p.reason
FROM promotions AS p
LEFT JOIN gate AS g ON g.dt = p.dt AND g.line = p.line AND g.model_version = p.model_version
GROUP BY ALL
ORDER BY p.dt, p.line, max(p.nth)
