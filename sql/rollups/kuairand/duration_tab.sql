-- grain:    duration_class, tab, day
-- time:     day, on which the events happened; all of them arrived on one logical day
-- reads:    events (kind, user_id, item_id, day, tab): everything that arrived on that day; item: attributes of items
-- why:      how long a video may be to be watched depends on the scene; new items know it from the first day
SELECT
    item.duration_class,
    events.tab,
    events.day,
    count(*) FILTER (events.kind = 'exposure') AS impression,
    count(*) FILTER (events.kind = 'click') AS click,
    count(*) FILTER (events.kind = 'long_view') AS long_view,
    count(*) FILTER (events.kind = 'like') AS "like"
FROM events
INNER JOIN item ON events.item_id = item.item_id
WHERE item.duration_class IS NOT NULL AND events.tab IS NOT NULL
GROUP BY item.duration_class, events.tab, events.day
