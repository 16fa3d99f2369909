-- grain:    scored day, model line
-- question: did the published probabilities move from one day to the next?
-- reads:    scores
SELECT
    dt,
    line,
    count(*) AS pairs,
    count(DISTINCT user_id) AS users,
    count(DISTINCT item_id) AS items,
    round(avg(pctr), 4) AS mean_pctr,
    round(avg(pcvr), 4) AS mean_pcvr,
    round(avg(pctcvr), 4) AS mean_pctcvr,
    round(avg(unknown_user::INTEGER), 4) AS unknown_users,
    round(avg(unknown_item::INTEGER), 4) AS unknown_items
FROM scores
GROUP BY dt, line
ORDER BY dt, line
