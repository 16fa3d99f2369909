-- grain:    author_id, day
-- time:     day, on which the events happened; all of them arrived on one logical day
-- reads:    events (kind, user_id, item_id, day): everything that arrived on that day; item: attributes of items
-- why:      an author's counts are the sums of those of their items; items without an author count for none
SELECT
    item.author_id,
    events.day,
    count(*) FILTER (events.kind = 'exposure') AS impression,
    count(*) FILTER (events.kind = 'click') AS click,
    count(*) FILTER (events.kind = 'long_view') AS long_view,
    count(*) FILTER (events.kind = 'like') AS "like"
FROM events
INNER JOIN item ON events.item_id = item.item_id
WHERE item.author_id IS NOT NULL
GROUP BY item.author_id, events.day
