-- grain:    action of one kind on one impression (the log keeps no time of its own for it)
-- time:     occurred_at, UTC, the exposure's own instant
-- raw:      log_standard; $action names the flag that is read: click, long_view or like
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (events delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      the flags of an exposure are read as logs of their own, so that a scenario with real separate
--           logs is labelled by the same code; a flag that is neither 0 nor 1 says nothing
WITH raw AS (
    SELECT * FROM read_parquet($files)
),

flagged AS (
    SELECT
        user_id,
        video_id AS item_id,
        time_ms,
        tab,
        CASE $action WHEN 'click' THEN is_click WHEN 'long_view' THEN long_view WHEN 'like' THEN is_like END AS flag,
        raw AS original
    FROM raw
),

placed AS (
    SELECT
        user_id,
        item_id,
        tab,
        make_timestamp(CASE WHEN time_ms BETWEEN $oldest_ms AND $newest_ms THEN time_ms * 1000 END) AS occurred_at,
        flag,
        row_number() OVER (
            PARTITION BY user_id, item_id, time_ms ORDER BY flag IS DISTINCT FROM 1, original
        ) AS copy,
        CAST(original AS VARCHAR) AS row_text
    FROM flagged
    WHERE flag IS DISTINCT FROM 0
)

SELECT
    concat_ws('-', placed.user_id, placed.item_id, epoch_ms(placed.occurred_at)) AS event_id,
    concat_ws('-', placed.user_id, placed.item_id, epoch_ms(placed.occurred_at)) AS impression_id,
    placed.user_id,
    placed.item_id,
    calendar.day,
    placed.occurred_at,
    greatest(placed.occurred_at, $arrives_at) AS arrived_at,
    placed.tab,
    CASE
        WHEN placed.user_id IS NULL OR placed.item_id IS NULL THEN 'NULL_KEY'
        WHEN placed.occurred_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.flag IS DISTINCT FROM 1 THEN 'BAD_FLAG'
        WHEN placed.copy > 1 THEN 'DUPLICATE'
        WHEN calendar.day IS NULL THEN 'OUTSIDE_DELIVERY'
        WHEN earlier.event_id IS NOT NULL THEN 'DUPLICATE'
    END AS verdict,
    placed.row_text
FROM placed
LEFT JOIN calendar ON placed.occurred_at >= calendar.starts_at AND placed.occurred_at < calendar.ends_at
LEFT JOIN earlier
    ON earlier.event_id = concat_ws('-', placed.user_id, placed.item_id, epoch_ms(placed.occurred_at))
