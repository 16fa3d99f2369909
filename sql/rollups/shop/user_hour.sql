-- grain:    user_id, day, hour
-- time:     hour, in which the events happened, counted back from the end of their logical day
-- reads:    events (kind, user_id, item_id, day, hour): everything that arrived on one logical day
-- why:      windows shorter than a day end with the day, also where the day has 23 or 25 hours
SELECT
    user_id,
    day,
    hour,
    count(*) FILTER (kind = 'exposure') AS impression,
    count(*) FILTER (kind = 'click') AS click
FROM events
GROUP BY user_id, day, hour
