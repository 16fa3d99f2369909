-- grain:    item_id
-- time:     none; the basic attributes of a video do not change, all were uploaded before the first day
-- raw:      video_features_basic_pure
-- verdict:  null for an item; DUPLICATE for a copy; NULL_KEY without an id; BAD_NUMBER where a length or a size is
--           NaN or infinite, or a tag is no number
-- classes:  of length, each 95 % longer than the one before (1.5 classes per factor e)
-- why:      a video of no author or no music has id 0, which would make one busy author of them all
SELECT
    video_id AS item_id,
    nullif(author_id, 0) AS author_id,
    video_type,
    upload_type,
    video_duration / 1000 AS duration_s,
    CASE WHEN video_duration >= 0 THEN TRY_CAST(floor(1.5 * ln(1 + video_duration / 1000)) AS BIGINT) END
        AS duration_class,
    server_height / nullif(server_width, 0) AS aspect,
    nullif(music_id, 0) AS music_id,
    TRY_CAST(music_type AS BIGINT) AS music_type,
    list_transform(string_split(tag, ','), lambda code: TRY_CAST(code AS BIGINT)) AS tags,
    CASE
        WHEN video_id IS NULL THEN 'NULL_KEY'
        WHEN NOT isfinite(video_duration) OR NOT isfinite(server_width) OR NOT isfinite(server_height)
            OR NOT isfinite(music_type)
            OR len(list_filter(string_split(tag, ','), lambda code: TRY_CAST(code AS BIGINT) IS NULL)) > 0
            THEN 'BAD_NUMBER'
        WHEN row_number() OVER (PARTITION BY video_id ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
