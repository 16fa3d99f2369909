-- grain:    candidate (request_id)
-- time:     none; what will be shown on the day of the delivery
-- raw:      candidate, one row per impression to come; request_id is its impression_id
-- verdict:  null for a candidate; DUPLICATE for a copy; NULL_KEY without request, user or item
-- why:      scores of the very impressions that follow can be held to the truth about each
SELECT
    raw.request_id AS candidate_id,
    raw.request_id,
    raw.user_id,
    raw.item_id,
    raw."position",
    CASE
        WHEN raw.request_id IS NULL OR raw.user_id IS NULL OR raw.item_id IS NULL THEN 'NULL_KEY'
        WHEN row_number() OVER (PARTITION BY raw.request_id ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
