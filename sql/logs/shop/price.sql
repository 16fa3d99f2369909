-- grain:    change_id
-- time:     occurred_at, UTC, whole milliseconds; the price holds from then until the next change
-- raw:      price, one row per change of a product's price; ts_ms is Unix time in milliseconds
-- reads:    calendar (logical days on which a row of this delivery may lie), earlier (changes delivered before)
-- verdict:  null for a change; DUPLICATE for a copy, within this delivery or of an earlier one;
--           otherwise the reason for which the row is quarantined
-- why:      a later delivery may correct the price of an instant; of two changes of a product at one instant in
--           one delivery nothing tells which holds, so that the one with the greater id does, by decree
WITH typed AS (
    SELECT
        raw.change_id,
        raw.sku,
        raw.price_cents,
        make_timestamp(
            CASE WHEN raw.ts_ms BETWEEN $oldest_ms AND $newest_ms THEN raw.ts_ms * 1000 END
        ) AS occurred_at,
        raw AS original
    FROM read_parquet($files) AS raw
),

placed AS (
    SELECT
        typed.*,
        calendar.day,
        row_number() OVER (
            PARTITION BY typed.change_id ORDER BY calendar.day IS NULL, typed.occurred_at, typed.original
        ) AS copy
    FROM typed
    LEFT JOIN calendar ON typed.occurred_at >= calendar.starts_at AND typed.occurred_at < calendar.ends_at
),

judged AS (
    SELECT
        placed.*,
        CASE
            WHEN placed.change_id IS NULL OR placed.sku IS NULL THEN 'NULL_KEY'
            WHEN placed.occurred_at IS NULL THEN 'TIME_OUT_OF_RANGE'
            WHEN placed.copy > 1 OR earlier.change_id IS NOT NULL THEN 'DUPLICATE'
            WHEN placed.day IS NULL THEN 'OUTSIDE_DELIVERY'
        END AS verdict
    FROM placed
    LEFT JOIN earlier ON placed.change_id = earlier.change_id
)

SELECT
    judged.change_id,
    judged.sku AS item_id,
    judged.price_cents,
    judged.occurred_at,
    greatest(judged.occurred_at, $arrives_at) AS arrived_at,
    CASE
        WHEN judged.verdict IS NOT NULL THEN judged.verdict
        WHEN row_number() OVER (
            PARTITION BY judged.sku, judged.occurred_at, judged.verdict ORDER BY judged.change_id DESC
        ) > 1 THEN 'AMBIGUOUS'
    END AS verdict,
    CAST(judged.original AS VARCHAR) AS row_text
FROM judged
