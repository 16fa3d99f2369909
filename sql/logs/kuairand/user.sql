-- grain:    user_id
-- time:     none; the publisher took one snapshot of the users, which holds for all days
-- raw:      user_features_pure
-- verdict:  null for a user; DUPLICATE for a copy; NULL_KEY without an id; BAD_NUMBER where a code is NaN or infinite
-- why:      -124 is the log's way to say that a flag is not known; one-hot codes are whole numbers stored as
--           doubles wherever one of them is null
SELECT
    user_id,
    user_active_degree,
    nullif(is_live_streamer, -124) AS is_live_streamer,
    is_video_author,
    follow_user_num,
    fans_user_num,
    friend_user_num,
    register_days,
    onehot_feat0,
    onehot_feat1,
    onehot_feat2,
    onehot_feat3,
    TRY_CAST(onehot_feat4 AS BIGINT) AS onehot_feat4,
    onehot_feat5,
    onehot_feat6,
    onehot_feat7,
    onehot_feat8,
    onehot_feat9,
    onehot_feat10,
    onehot_feat11,
    TRY_CAST(onehot_feat12 AS BIGINT) AS onehot_feat12,
    TRY_CAST(onehot_feat13 AS BIGINT) AS onehot_feat13,
    TRY_CAST(onehot_feat14 AS BIGINT) AS onehot_feat14,
    TRY_CAST(onehot_feat15 AS BIGINT) AS onehot_feat15,
    TRY_CAST(onehot_feat16 AS BIGINT) AS onehot_feat16,
    TRY_CAST(onehot_feat17 AS BIGINT) AS onehot_feat17,
    CASE
        WHEN user_id IS NULL THEN 'NULL_KEY'
        WHEN NOT isfinite(onehot_feat4) OR NOT isfinite(onehot_feat12) OR NOT isfinite(onehot_feat13)
            OR NOT isfinite(onehot_feat14) OR NOT isfinite(onehot_feat15) OR NOT isfinite(onehot_feat16)
            OR NOT isfinite(onehot_feat17) THEN 'BAD_NUMBER'
        WHEN row_number() OVER (PARTITION BY user_id ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
