-- grain:    item_id, day
-- time:     day, on which the events happened; all of them arrived on one logical day
-- reads:    events (kind, user_id, item_id, day): everything that arrived on that day
-- why:      sums over days are sums of these rows; a late event adds a row to an old day instead of changing one
SELECT
    item_id,
    day,
    count(*) FILTER (kind = 'exposure') AS impression,
    count(*) FILTER (kind = 'click') AS click,
    count(*) FILTER (kind = 'conversion') AS conversion
FROM events
GROUP BY item_id, day
