-- grain:    click, or conversion
-- time:     occurred_at, UTC
-- raw:      click or conversion, one row per event; ts_us is Unix time in microseconds
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (events delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      both logs have one form; a retry has the same event_id and a later time, the earliest one wins
WITH typed AS (
    SELECT
        raw.event_id,
        raw.exposure_id,
        raw.user_id,
        raw.item_id,
        make_timestamp(
            CASE WHEN raw.ts_us BETWEEN $oldest_ms * 1000 AND $newest_ms * 1000 THEN raw.ts_us END
        ) AS occurred_at,
        raw AS original
    FROM read_parquet($files) AS raw
),

placed AS (
    SELECT
        typed.*,
        calendar.day,
        row_number() OVER (
            PARTITION BY typed.event_id ORDER BY calendar.day IS NULL, typed.occurred_at, typed.original
        ) AS copy
    FROM typed
    LEFT JOIN calendar ON typed.occurred_at >= calendar.starts_at AND typed.occurred_at < calendar.ends_at
)

SELECT
    placed.event_id,
    placed.exposure_id AS impression_id,
    placed.user_id,
    placed.item_id,
    placed.day,
    placed.occurred_at,
    greatest(placed.occurred_at, $arrives_at) AS arrived_at,
    CASE
        WHEN placed.event_id IS NULL OR placed.user_id IS NULL OR placed.item_id IS NULL THEN 'NULL_KEY'
        WHEN placed.occurred_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.copy > 1 OR earlier.event_id IS NOT NULL THEN 'DUPLICATE'
        WHEN placed.day IS NULL THEN 'OUTSIDE_DELIVERY'
    END AS verdict,
    CAST(placed.original AS VARCHAR) AS row_text
FROM placed
LEFT JOIN earlier ON placed.event_id = earlier.event_id
