"""When a line reads labels that can still change: rows, labels as they were known, and how far they could be.

The label of an objective that is given another (a conversion) is read first at the instant

    first = min(final_at, max(final_at of its parent, exposed_at + hours))

so that its clock follows the parent's and never its own labels. All other objectives (clicks, values) are
read when they are final, as by ``features.batches.fresh_rows``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from features.completeness import at_age
from features.funnel import Funnel, Objective
from features.labels import final_at, newly_final
from features.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Readings:
    """Which readings of late labels train.

    Attributes:
        reads: ``early``: the first reading. ``turned``: again, when the label became positive after it.
            ``ripe``: again, when it is final. ``nightly``: in every run from the first reading on, until it
            is final.
        begins: by late objective, since when labels are read early: since the line reads so, and F is known
            if it is asked for. Labels that would have been read before that (all, of an objective that is
            not there) wait until they are final, and none of them is read again.
        hours: least age at the first reading.
        completeness: F at the age of the first reading is asked for; a run without it reads none early.
    """

    reads: tuple[str, ...]
    begins: Mapping[str, datetime]
    hours: float = 0.0
    completeness: bool = False

    def first(self, scenario: Scenario, objective: Objective) -> pl.Expr:
        """The instant at which a late label is read first."""
        final = final_at(scenario.funnel, objective.name, scenario.lateness)
        parent = final_at(scenario.funnel, str(objective.given), scenario.lateness)
        aged = pl.col("exposed_at") + timedelta(hours=self.hours)
        early = pl.min_horizontal(final, pl.max_horizontal(parent, aged))
        begins = self.begins.get(objective.name)
        return final if begins is None else pl.when(early >= begins).then(early).otherwise(final)


def late(funnel: Funnel) -> tuple[Objective, ...]:
    """Objectives whose labels may be read while they are open: binary ones that are given another."""
    return tuple(o for o in funnel if o.given is not None and o.kind == "binary")


def open_rows(
    samples: pl.LazyFrame,
    scenario: Scenario,
    since: datetime,
    until: datetime,
    asked: Readings,
    curves: pl.LazyFrame | None,
) -> pl.LazyFrame:
    """Samples of which some label is read after ``since`` and by ``until``, with what was known by then.

    Beside ``trains_*``, per objective: ``open_*`` (it could change when it was read first), ``again_*`` (it
    was read before) and ``complete_*`` (F at the first reading; 1 where it was final, or nobody asks). Labels
    of late objectives are as of ``until``, whatever the samples know by now; one whose events were all taken
    back since is 0.

    Args:
        samples: of all days whose labels may be read now.
        scenario: the scenario.
        since: the watermark of the run before.
        until: the watermark of this run.
        asked: which readings.
        curves: rows of the table ``completeness`` as of ``until``; ``None``: there are none.
    """
    rows, funnel = samples, scenario.funnel
    for o in funnel:
        masks = _late if o in late(funnel) else _closed
        rows = masks(rows, scenario, o, since, until, asked)
    read = pl.any_horizontal(f"trains_{o.name}" for o in funnel)
    rows = rows.filter(read)
    for o in late(funnel):
        rows = _with_complete(rows, scenario, o, until, asked, curves)
    return rows.filter(read)


def _closed(
    rows: pl.LazyFrame, scenario: Scenario, o: Objective, since: datetime, until: datetime, asked: Readings
) -> pl.LazyFrame:
    """Masks of an objective that is read when it is final."""
    del asked
    return rows.with_columns(
        newly_final(scenario.funnel, o.name, scenario.lateness, since, until).alias(f"trains_{o.name}"),
        pl.lit(value=False).alias(f"open_{o.name}"),
        pl.lit(value=False).alias(f"again_{o.name}"),
        pl.lit(1.0, dtype=pl.Float32).alias(f"complete_{o.name}"),
    )


def _late(
    rows: pl.LazyFrame, scenario: Scenario, o: Objective, since: datetime, until: datetime, asked: Readings
) -> pl.LazyFrame:
    """Masks of a late objective, and its label as of ``until``."""
    final = final_at(scenario.funnel, o.name, scenario.lateness)
    known, first = pl.col(o.known), asked.first(scenario, o)
    now, before = (first >= since) & (first < until), first < since
    positive = ((pl.col(o.label) == 1) & (known < until)).fill_null(value=False)
    repeats = {
        "turned": before & positive & (known >= since).fill_null(value=False) & (known <= final),
        "ripe": before & (final >= since) & (final < until),
        "nightly": before & (final >= since),
    }
    wanted = [repeats[name] for name in asked.reads if name in repeats]
    again = pl.any_horizontal(pl.lit(value=False), *wanted)
    return rows.with_columns(
        (now | again).alias(f"trains_{o.name}"),
        again.alias(f"again_{o.name}"),
        # what is read again was open: else nothing would have to be read again
        (again | (now & (final >= until))).alias(f"open_{o.name}"),
        positive.cast(pl.Int8).alias(o.label),
    )


def _with_complete(
    rows: pl.LazyFrame,
    scenario: Scenario,
    o: Objective,
    until: datetime,
    asked: Readings,
    curves: pl.LazyFrame | None,
) -> pl.LazyFrame:
    """F of a late objective at its first reading; where it is asked for and not known, nothing is read."""
    name, opened = f"complete_{o.name}", pl.col(f"open_{o.name}")
    if not asked.completeness:
        return rows.with_columns(pl.lit(1.0, dtype=pl.Float32).alias(name))
    if curves is None:
        rows = rows.with_columns(pl.when(~opened).then(1.0).alias(name))
    else:
        first_run = _end_of_day(asked.first(scenario, o), scenario.zone)
        read_at = pl.when(pl.col(f"again_{o.name}")).then(first_run).otherwise(until)
        rows = at_age(rows, curves, scenario, o, read_at - pl.col("exposed_at"), name)
        rows = rows.with_columns(pl.when(opened).then(pl.col(name)).otherwise(1.0))
    return rows.with_columns(
        (pl.col(f"trains_{o.name}") & pl.col(name).is_not_null()).alias(f"trains_{o.name}"),
        pl.col(name).fill_null(1.0).cast(pl.Float32),
    )


def _end_of_day(instant: pl.Expr, zone: str) -> pl.Expr:
    """The watermark of the run of the day on which an instant lies."""
    local = instant.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
    after = local.dt.truncate("1d").dt.offset_by("1d")
    return after.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
