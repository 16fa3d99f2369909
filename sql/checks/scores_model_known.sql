-- table:   scores
-- reads:   models
-- promise: the version that made a score is one that was trained
SELECT DISTINCT this.dt, this.line, this.model_version
FROM this
ANTI JOIN models USING (line, model_version)
