-- grain:    impression (user_id, item_id, exposed_at)
-- time:     exposed_at, UTC; the logical day comes from the calendar, not from the log's own `date`
-- raw:      log_standard, one row per exposure; time_ms is Unix time in milliseconds
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (impressions delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      the log repeats rows exactly, repeats some with another hourmin, and delivers rows of the
--           last hour of a day with the next day; such a row belongs to the day of its timestamp
WITH raw AS (
    SELECT * FROM read_parquet($files)
),

placed AS (
    SELECT
        user_id,
        video_id AS item_id,
        make_timestamp(CASE WHEN time_ms BETWEEN $oldest_ms AND $newest_ms THEN time_ms * 1000 END) AS exposed_at,
        tab,
        row_number() OVER (PARTITION BY user_id, video_id, time_ms ORDER BY raw) AS copy,
        CAST(raw AS VARCHAR) AS row_text
    FROM raw
)

SELECT
    concat_ws('-', placed.user_id, placed.item_id, epoch_ms(placed.exposed_at)) AS impression_id,
    placed.user_id,
    placed.item_id,
    calendar.day,
    placed.exposed_at,
    greatest(placed.exposed_at, $arrives_at) AS arrived_at,
    placed.tab,
    CASE
        WHEN placed.user_id IS NULL OR placed.item_id IS NULL THEN 'NULL_KEY'
        WHEN placed.exposed_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.copy > 1 THEN 'DUPLICATE'
        WHEN calendar.day IS NULL THEN 'OUTSIDE_DELIVERY'
        WHEN earlier.impression_id IS NOT NULL THEN 'DUPLICATE'
    END AS verdict,
    placed.row_text
FROM placed
LEFT JOIN calendar ON placed.exposed_at >= calendar.starts_at AND placed.exposed_at < calendar.ends_at
LEFT JOIN earlier
    ON earlier.impression_id = concat_ws('-', placed.user_id, placed.item_id, epoch_ms(placed.exposed_at))
