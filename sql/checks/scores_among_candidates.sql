-- table:   scores
-- reads:   candidate_users, candidate_items
-- promise: the users and items that are scored for a day are among its candidates
SELECT this.dt, this.line, this.user_id, this.item_id
FROM this
LEFT JOIN candidate_users ON candidate_users.dt = this.dt AND candidate_users.user_id = this.user_id
LEFT JOIN candidate_items ON candidate_items.dt = this.dt AND candidate_items.item_id = this.item_id
WHERE candidate_users.user_id IS NULL OR candidate_items.item_id IS NULL
