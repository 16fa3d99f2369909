-- table:   samples
-- promise: an objective never happens without the one it is given
WITH labels AS (
    -- A row whose labels are all equal keeps this promise; only the others are joined.
    UNPIVOT (
        SELECT impression_id, COLUMNS('^y_') FROM this
        WHERE greatest(*COLUMNS('^y_')) > least(*COLUMNS('^y_'))
    ) ON COLUMNS('^y_') INTO NAME label VALUE y
)

SELECT child.impression_id, child.label, child.y, parent.label AS parent, parent.y AS parent_y
FROM funnel
INNER JOIN labels AS child ON child.label = 'y_' || funnel.objective
INNER JOIN labels AS parent
    ON parent.label = 'y_' || funnel."given" AND parent.impression_id = child.impression_id
WHERE child.y > parent.y
