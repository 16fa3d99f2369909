-- grain:    item_id, tab, day
-- time:     day, on which the events happened; all of them arrived on one logical day
-- reads:    events (kind, user_id, item_id, day, tab): everything that arrived on that day
-- why:      the same video is clicked twice as often in one scene as in another
SELECT
    item_id,
    tab,
    day,
    count(*) FILTER (kind = 'exposure') AS impression,
    count(*) FILTER (kind = 'click') AS click,
    count(*) FILTER (kind = 'long_view') AS long_view,
    count(*) FILTER (kind = 'like') AS "like"
FROM events
WHERE tab IS NOT NULL
GROUP BY item_id, tab, day
