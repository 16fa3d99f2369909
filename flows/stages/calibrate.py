"""Stage "calibrate": curves that turn the line's scores into rates, from days that were only evaluated.

The evidence of a day is what the version before it predicted of the day's rows, before any version learned
from them (stage "train"). The run of D fits its curves to the evidence of D and of the days before it.
The scores of D+1 are calibrated by them, and the calibrated metrics of D+1 are measured with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import partial

import numpy as np
import polars as pl

from features.bookkeeping import CALIBRATION, CALIBRATORS
from features.calendar import days_between
from features.errors import MissingStage
from features.fingerprint import fingerprint
from features.generation import Generation
from flows import recipes
from flows.house import House
from flows.recipes import Recipe
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan, code, live
from models.calibration import Bins, Calibration, Curve
from models.calibration.bins import COUNT

STAGE = "calibrate"
_CODE = ("models/calibration", "flows/stages/calibrate.py")


@dataclass(frozen=True)
class Calibrator:
    """The curves of a line as of a day.

    Attributes:
        version: what the table ``calibrators`` calls them.
        curves: by name of the score column.
    """

    version: str
    curves: Mapping[str, Curve]


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Fit the curves of every line that is calibrated.

    Raises:
        MissingStage: a line was not evaluated on the day.
    """
    return tuple(
        keep(house, plan, partial(_fitted, house, plan, recipe.name, calibration))
        for recipe in _chosen(house, lines)
        if (calibration := recipe.calibration) is not None
        and (plan := plan_calibrators(house, day, recipe)) is not None
    )


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the curves of some line are not those of its evidence."""
    plans = (plan_calibrators(house, day, recipe) for recipe in _chosen(house, lines))
    return any(plan is not None and live(house.store, plan) is None for plan in plans)


def plan_calibrators(house: House, day: date, recipe: Recipe) -> Plan | None:
    """What the curves of a day depend on: the evidence of its days and the setting; ``None`` without one.

    Raises:
        MissingStage: the line was not evaluated on the day.
    """
    if recipe.calibration is None:
        return None
    known = _evidence(house, day, recipe.name, recipe.calibration)
    inputs = {f"{CALIBRATION.name} {earlier}": generation.key for earlier, generation in known.items()}
    inputs["calibration"] = fingerprint(asdict(recipe.calibration))
    inputs["scores"] = fingerprint([column.name for column in house.scenario.funnel.probabilities])
    inputs["code"] = code(*_CODE)
    return Plan(stage=STAGE, table=CALIBRATORS, day=day, part=recipe.name, inputs=inputs)


def calibrator_version(house: House, day: date, recipe: Recipe) -> str | None:
    """Version of the live curves of a day; ``None`` if there are none, or the line is not calibrated."""
    found = house.store.generation(CALIBRATORS, day, line=recipe.name)
    return None if recipe.calibration is None or found is None else found.key


def calibrator_of(house: House, day: date, recipe: Recipe) -> Calibrator | None:
    """The live curves of a day, as of ``calibrator_version``."""
    version = calibrator_version(house, day, recipe)
    if version is None:
        return None
    known = house.store.scan(CALIBRATORS, [day], line=recipe.name).collect()
    knots = known.select("score", "method", "raw", "calibrated").rows()
    return Calibrator(version, {score: Curve(how, np.array(x), np.array(y)) for score, how, x, y in knots})


def _chosen(house: House, lines: tuple[str, ...]) -> list[Recipe]:
    return [recipes.get(house.scenario.name, name) for name in lines]


def _evidence(house: House, day: date, line: str, calibration: Calibration) -> dict[date, Generation]:
    """Live evidence of the last days; a day that was left out is a day less.

    Raises:
        MissingStage: there is none of the day itself.
    """
    table, found = CALIBRATION, {}
    for known in days_between(day - timedelta(days=calibration.reach - 1), day):
        generation = house.store.generation(table, known, line=line)
        if generation is not None:
            found[known] = generation
    if day not in found:
        where = f"{table.name} {line} of {day}"
        raise MissingStage(where, "not there", f"run the stage train of {day} first")
    return found


def _fitted(house: House, plan: Plan, line: str, calibration: Calibration) -> Built:
    """Rows of the table ``calibrators``."""
    days = list(_evidence(house, plan.day, line, calibration))
    known = house.store.scan(CALIBRATION, days, line=line).collect()
    told = []
    for column in house.scenario.funnel.probabilities:
        own = known.filter(score=column.name)
        history = [_sums(own.filter(pl.col("dt") == day)) for day in days]
        curve, share = calibration.fit(history)
        bins = Bins.total(history[-calibration.days :])
        given = house.scenario.funnel[column.objective].given
        told.append(
            {
                "calibrator_version": plan.key,
                "objective": column.objective,
                "space": "impressions" if column.joint else f"given_{given}",
                "score": column.name,
                "method": curve.method,
                "share": share,
                "raw": curve.raw_J.tolist(),
                "calibrated": curve.calibrated_J.tolist(),
                "days": len(history[-calibration.days :]),
                "rows": bins.rows,
                "positives": bins.positives,
                "predicted": float(bins.predicted_M.sum()),
            }
        )
    rows = pl.DataFrame(told, schema=pl.DataFrame(CALIBRATORS.schema.empty_table()).schema)
    notes: dict[str, object] = {"methods": {row["score"]: row["method"] for row in told}}
    if known.is_empty():
        notes["evidence"] = "none yet: scores stay as they are"
    return Built(rows=rows, notes=notes)


def _sums(rows: pl.DataFrame) -> Bins:
    """Evidence of one score column on a day."""
    place = rows["bin"].to_numpy()
    of_rows, of_positives, predicted = (
        np.bincount(place, rows[name].to_numpy(), COUNT) for name in ("rows", "positives", "predicted")
    )
    return Bins(of_rows.astype(np.int64), of_positives.astype(np.int64), predicted.astype(np.float64))
