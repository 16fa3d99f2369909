-- grain:    product bought in an order (order_id, sku)
-- time:     occurred_at, UTC
-- raw:      conversion, one row per product of an order; ts_us is Unix time in microseconds
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (purchases delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      the till knows nothing of exposures, so a purchase belongs to the last click of its user and product
WITH typed AS (
    SELECT
        raw.order_id || '/' || raw.sku AS purchase_id,
        raw.user_id,
        raw.sku,
        raw.amount_cents,
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
            PARTITION BY typed.purchase_id ORDER BY calendar.day IS NULL, typed.occurred_at, typed.original
        ) AS copy
    FROM typed
    LEFT JOIN calendar ON typed.occurred_at >= calendar.starts_at AND typed.occurred_at < calendar.ends_at
)

SELECT
    placed.purchase_id AS event_id,
    CAST(NULL AS VARCHAR) AS impression_id,
    placed.user_id,
    placed.sku AS item_id,
    placed.day,
    placed.occurred_at,
    greatest(placed.occurred_at, $arrives_at) AS arrived_at,
    placed.amount_cents,
    CASE
        WHEN placed.purchase_id IS NULL OR placed.user_id IS NULL THEN 'NULL_KEY'
        WHEN placed.occurred_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.copy > 1 OR earlier.event_id IS NOT NULL THEN 'DUPLICATE'
        WHEN placed.day IS NULL THEN 'OUTSIDE_DELIVERY'
    END AS verdict,
    CAST(placed.original AS VARCHAR) AS row_text
FROM placed
LEFT JOIN earlier ON placed.purchase_id = earlier.event_id
