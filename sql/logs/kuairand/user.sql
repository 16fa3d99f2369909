-- grain:    user_id
-- time:     none; the publisher took one snapshot of the users, which holds for all days
-- raw:      user_features_pure
-- verdict:  null for a user; DUPLICATE for a copy; NULL_KEY without an id
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
    onehot_feat4::BIGINT AS onehot_feat4,
    onehot_feat5,
    onehot_feat6,
    onehot_feat7,
    onehot_feat8,
    onehot_feat9,
    onehot_feat10,
    onehot_feat11,
    onehot_feat12::BIGINT AS onehot_feat12,
    onehot_feat13::BIGINT AS onehot_feat13,
    onehot_feat14::BIGINT AS onehot_feat14,
    onehot_feat15::BIGINT AS onehot_feat15,
    onehot_feat16::BIGINT AS onehot_feat16,
    onehot_feat17::BIGINT AS onehot_feat17,
    CASE
        WHEN user_id IS NULL THEN 'NULL_KEY'
        WHEN row_number() OVER (PARTITION BY user_id ORDER BY raw) > 1 THEN 'DUPLICATE'
    END AS verdict,
    CAST(raw AS VARCHAR) AS row_text
FROM read_parquet($files) AS raw
