-- grain:    item_id
-- time:     none; the items of the delivery's day and of the next
-- raw:      item, one row per item
-- verdict:  null for an item; DUPLICATE for a copy; NULL_KEY without an id
-- why:      a new item is announced the day before it is shown
SELECT
    raw.item_id,
    raw.category,
    CASE
        WHEN raw.item_id IS NULL THEN 'NULL_KEY'
        WHEN row_number() OVER (PARTITION BY raw.item_id ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
