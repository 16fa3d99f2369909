-- grain:    refund of a product bought in an order
-- time:     occurred_at, UTC
-- raw:      refund, one row per refund; ts_us is Unix time in microseconds; amount_cents is what was paid back,
--           positive, null for all of it
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (refunds delivered before)
-- verdict:  null for an event; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      a refund names its order; of the purchase that it takes back it says no more than the event id
WITH typed AS (
    SELECT
        raw.refund_id,
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
            PARTITION BY typed.refund_id ORDER BY calendar.day IS NULL, typed.occurred_at, typed.original
        ) AS copy
    FROM typed
    LEFT JOIN calendar ON typed.occurred_at >= calendar.starts_at AND typed.occurred_at < calendar.ends_at
)

SELECT
    placed.refund_id AS event_id,
    CAST(NULL AS VARCHAR) AS impression_id,
    placed.user_id,
    placed.sku AS item_id,
    placed.day,
    placed.occurred_at,
    greatest(placed.occurred_at, $arrives_at) AS arrived_at,
    placed.purchase_id AS reverses,
    placed.amount_cents,
    CASE
        WHEN placed.refund_id IS NULL OR placed.purchase_id IS NULL OR placed.user_id IS NULL THEN 'NULL_KEY'
        WHEN placed.occurred_at IS NULL THEN 'TIME_OUT_OF_RANGE'
        WHEN placed.copy > 1 OR earlier.event_id IS NOT NULL THEN 'DUPLICATE'
        WHEN placed.day IS NULL THEN 'OUTSIDE_DELIVERY'
    END AS verdict,
    CAST(placed.original AS VARCHAR) AS row_text
FROM placed
LEFT JOIN earlier ON placed.refund_id = earlier.event_id
