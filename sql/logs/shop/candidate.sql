-- grain:    candidate (request_id, item_id)
-- time:     none; what may be shown on the day of the delivery
-- raw:      candidate, one row per request and product
-- verdict:  null for a candidate; DUPLICATE for a copy; NULL_KEY without request, user or product
-- why:      a request asks for a product once, however often the recall lists repeat it
SELECT
    raw.request_id || '/' || raw.sku AS candidate_id,
    raw.request_id,
    raw.user_id,
    raw.sku AS item_id,
    raw.surface,
    raw."position",
    CASE
        WHEN raw.request_id IS NULL OR raw.user_id IS NULL OR raw.sku IS NULL THEN 'NULL_KEY'
        WHEN row_number() OVER (PARTITION BY raw.request_id, raw.sku ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
