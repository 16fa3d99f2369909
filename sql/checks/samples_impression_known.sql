-- table:   samples
-- reads:   impressions
-- promise: every sample is an impression that was read, of the same user, item and instant
SELECT this.impression_id, this.user_id, this.item_id, this.exposed_at
FROM this
ANTI JOIN impressions USING (impression_id, user_id, item_id, exposed_at)
