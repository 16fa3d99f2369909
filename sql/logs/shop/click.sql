-- grain:    click
-- time:     occurred_at, UTC, whole seconds: a click may seem to come up to a second before its exposure
-- raw:      click, one row per click; ts_s is Unix time in seconds; exposure_id is null where the client lost it
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (clicks delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      clients retry with the same click_id and a later time; the earliest one that can be placed wins
WITH typed AS (
    SELECT
        raw.click_id,
        raw.exposure_id,
        raw.user_id,
        raw.sku,
        make_timestamp(
            CASE WHEN raw.ts_s BETWEEN $oldest_ms // 1000 AND $newest_ms // 1000 THEN raw.ts_s * 1000000 END
        ) AS occurred_at,
        raw AS original
    FROM read_parquet($files) AS raw
),

placed AS (
    SELECT
        typed.*,
        calendar.day,
        row_number() OVER (
            PARTITION BY typed.click_id ORDER BY calendar.day IS NULL, typed.occurred_at, typed.original
        ) AS copy
    FROM typed
    LEFT JOIN calendar ON typed.occurred_at >= calendar.starts_at AND typed.occurred_at < calendar.ends_at
)

SELECT
    placed.click_id AS event_id,
    placed.exposure_id AS impression_id,
    placed.user_id,
    placed.sku AS item_id,
    placed.day,
    placed.occurred_at,
    greatest(placed.occurred_at, $arrives_at) AS arrived_at,
    CASE
        WHEN placed.click_id IS NULL OR placed.user_id IS NULL OR placed.sku IS NULL THEN 'NULL_KEY'
        WHEN placed.occurred_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.copy > 1 OR earlier.event_id IS NOT NULL THEN 'DUPLICATE'
        WHEN placed.day IS NULL THEN 'OUTSIDE_DELIVERY'
    END AS verdict,
    CAST(placed.original AS VARCHAR) AS row_text
FROM placed
LEFT JOIN earlier ON placed.click_id = earlier.event_id
