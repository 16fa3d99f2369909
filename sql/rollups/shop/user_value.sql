-- grain:    user_id, day
-- time:     day, on which the events happened; all of them arrived on one logical day
-- reads:    events (kind, user_id, item_id, day, occurred_at, arrived_at, event_id, amount_cents):
--           everything that arrived on that day
-- why:      states of disjoint events merge into those of all; the last click is by event, arrival, id,
--           and the shown items are listed for the sketch that the stage makes of them
SELECT
    user_id,
    day,
    count(amount_cents) FILTER (kind = 'conversion') AS conversion_amount_cents_n,
    coalesce(sum(amount_cents) FILTER (kind = 'conversion'), 0) AS conversion_amount_cents_sum,
    min(amount_cents) FILTER (kind = 'conversion') AS conversion_amount_cents_min,
    max(amount_cents) FILTER (kind = 'conversion') AS conversion_amount_cents_max,
    last(item_id ORDER BY occurred_at, arrived_at, event_id) FILTER (kind = 'click') AS click_item_id_last,
    last(occurred_at ORDER BY occurred_at, arrived_at, event_id) FILTER (kind = 'click') AS click_item_id_last_at,
    last(arrived_at ORDER BY occurred_at, arrived_at, event_id) FILTER (kind = 'click') AS click_item_id_last_arrived,
    last(event_id ORDER BY occurred_at, arrived_at, event_id) FILTER (kind = 'click') AS click_item_id_last_id,
    coalesce(list_sort(list(DISTINCT item_id) FILTER (kind = 'click')), []) AS click_item_id_set,
    list_sort(list(DISTINCT item_id) FILTER (kind = 'exposure')) AS impression_item_id_sketch
FROM events
GROUP BY user_id, day
