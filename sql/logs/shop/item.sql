-- grain:    item_id
-- time:     none; the catalogue as it stood when the day was delivered
-- raw:      item, one row per product
-- verdict:  null for an item; DUPLICATE for a copy; NULL_KEY without an id
-- why:      prices are whole cents so that no sum depends on the order of its terms
SELECT
    raw.sku AS item_id,
    raw.category,
    raw.brand_id,
    raw.price_cents / 100 AS price,
    CASE
        WHEN raw.sku IS NULL THEN 'NULL_KEY'
        WHEN row_number() OVER (PARTITION BY raw.sku ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
