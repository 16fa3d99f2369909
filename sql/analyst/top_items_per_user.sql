-- grain:    user, place
-- question: which five items of the newest day would each user most likely click and then convert on?
-- reads:    scores_latest; write the line that fusion uses instead of 'esmm'
SELECT
    user_id,
    user_rank,
    item_id,
    pctr,
    pcvr,
    pctcvr
FROM scores_latest
WHERE line = 'esmm' AND user_rank <= 5
ORDER BY user_id, request_id, user_rank
