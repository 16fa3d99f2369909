-- grain:    impression
-- time:     exposed_at, UTC
-- raw:      exposure, one row per item shown; ts_us is Unix time in microseconds
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (impressions delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      a retry has the same exposure_id and a later time; the earliest one that can be placed wins
WITH typed AS (
    SELECT
        raw.exposure_id,
        raw.user_id,
        raw.item_id,
        raw."position",
        make_timestamp(
            CASE WHEN raw.ts_us BETWEEN $oldest_ms * 1000 AND $newest_ms * 1000 THEN raw.ts_us END
        ) AS exposed_at,
        raw AS original
    FROM read_parquet($files) AS raw
),

placed AS (
    SELECT
        typed.*,
        calendar.day,
        row_number() OVER (
            PARTITION BY typed.exposure_id ORDER BY calendar.day IS NULL, typed.exposed_at, typed.original
        ) AS copy
    FROM typed
    LEFT JOIN calendar ON typed.exposed_at >= calendar.starts_at AND typed.exposed_at < calendar.ends_at
)

SELECT
    placed.exposure_id AS impression_id,
    placed.user_id,
    placed.item_id,
    placed.day,
    placed.exposed_at,
    greatest(placed.exposed_at, $arrives_at) AS arrived_at,
    placed."position",
    CASE
        WHEN placed.exposure_id IS NULL OR placed.user_id IS NULL OR placed.item_id IS NULL THEN 'NULL_KEY'
        WHEN placed.exposed_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.copy > 1 OR earlier.impression_id IS NOT NULL THEN 'DUPLICATE'
        WHEN placed.day IS NULL THEN 'OUTSIDE_DELIVERY'
    END AS verdict,
    CAST(placed.original AS VARCHAR) AS row_text
FROM placed
LEFT JOIN earlier ON placed.exposure_id = earlier.impression_id
