-- table:   samples
-- promise: an impression arrives no earlier than it was made, and its labels are as of a later instant
SELECT impression_id, exposed_at, arrived_at, label_as_of
FROM this
WHERE arrived_at < exposed_at OR label_as_of < arrived_at
