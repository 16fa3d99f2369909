"""What the table ``completeness`` promised of a day, against what was seen of it once all was known.

Of the conversions of a day whose labels are final, so many were known at the end of its first day, of its
third and of its seventh. The curves of those days foretold how many: the sum of F at the age that each had
then. A level of pCVR that was learned with F is off by about as much as F was.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import polars as pl
import pyarrow as pa

from features.completeness import at_age
from features.funnel import Objective
from features.scenario import Scenario
from features.tables import Table

#: Ages in days at which a promise is held to what was seen, and by how much it may be off.
AGES, TOLERANCE = (1, 3, 7), 0.15
#: Standard deviations beyond which it is not luck.
_LUCK = 3.0

FORETOLD = Table(
    name="completeness_daily",
    schema=pa.schema(
        [
            ("objective", pa.string()),
            ("segment", pa.string()),
            ("age_days", pa.int32()),
            ("exposed_on", pa.date32()),
            ("positives", pa.int64()),
            ("seen", pa.int64()),
            ("foretold", pa.float64()),
            ("deviation", pa.float64()),
            ("ratio", pa.float64()),
        ]
    ),
    sort_by=("objective", "segment", "age_days"),
    description="Events of a day known at an age, against how many the table completeness foretold.",
    columns={
        "dt": "Logical date of the run in which the labels of the exposures became final.",
        "objective": "What happened.",
        "segment": "Value of the objective's segment; null for all of them together.",
        "age_days": "1: at the end of the day of the exposures; 3: two days later; 7: six days later.",
        "exposed_on": "Day of the exposures.",
        "positives": "Exposures of the day with a final label of 1.",
        "seen": "Those of them that were known at the age.",
        "foretold": "Sum over the positives of F at the age that each had then, as it was known on that day.",
        "deviation": "Standard deviation of seen where F is right.",
        "ratio": "seen over foretold; null where nothing was foretold.",
    },
)
#: Columns of a part, beside ``objective`` and ``exposed_on``.
_PART = ("segment", "age_days", "positives", "seen", "foretold", "deviation", "ratio")


def held(
    positives: pl.LazyFrame,
    scenario: Scenario,
    objective: Objective,
    curves: Mapping[int, tuple[datetime, pl.LazyFrame]],
) -> pl.DataFrame:
    """Of one objective, what was foretold and seen: one row per age and segment, and per age for all.

    Args:
        positives: exposures of a day whose label is final and 1.
        scenario: the scenario.
        objective: the objective.
        curves: by age in days, the instant at which the day had it and the rows of the table
            ``completeness`` as of that instant. An age at which there was no curve has no row.
    """
    segment = pl.lit(None, dtype=pl.String()) if objective.segment is None else pl.col(objective.segment)
    told = []
    for age, (at, known) in curves.items():
        aged = at_age(positives, known, scenario, objective, pl.lit(at) - pl.col("exposed_at"), "f")
        rows = aged.drop_nulls("f").select(
            segment.cast(pl.String).alias("segment"), "f", (pl.col(objective.known) < at).alias("seen")
        )
        whole = rows.with_columns(pl.lit(None, dtype=pl.String()).alias("segment"))
        for part in (whole, rows.drop_nulls("segment")):
            found = part.group_by("segment").agg(
                pl.lit(age, dtype=pl.Int32).alias("age_days"),
                pl.len().cast(pl.Int64).alias("positives"),
                pl.col("seen").sum().cast(pl.Int64),
                pl.col("f").sum().alias("foretold"),
                (pl.col("f") * (1 - pl.col("f"))).sum().sqrt().alias("deviation"),
            )
            ratio = pl.when(pl.col("foretold") > 0).then(pl.col("seen") / pl.col("foretold"))
            told.append(found.with_columns(ratio.alias("ratio")).select(_PART))
    return pl.concat(told).sort("segment", "age_days", nulls_last=False).collect()


def broken(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table that are off by more than the tolerance and more than luck, the farthest first."""
    gap = (pl.col("seen") - pl.col("foretold")).abs()
    off = (pl.col("ratio") - 1).abs() > TOLERANCE
    beyond = rows.filter(off & (gap > _LUCK * pl.col("deviation"))).sort(FORETOLD.sort_by)
    return beyond.sort((pl.col("ratio") - 1).abs(), descending=True, maintain_order=True)
