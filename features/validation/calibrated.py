"""What calibration promises row by row: of its evidence, its curves, and the calibrated scores."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from features.scenario import Scenario
from features.validation.contract import Contract
from features.validation.draft import Draft


def evidence(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """Bins hold no more positives, and no greater sum of probabilities, than rows."""
    del name
    draft.needs(*draft.table.schema.names)
    draft.limit("score", {"check": {"declared": _declared(scenario)}})
    draft.limit("bin", {"min": 0, "max": 511})
    draft.limit("rows", {"min": 1})
    for part in ("positives", "predicted"):
        draft.rule(f"{part}_among_rows", pl.col(part).is_between(0, pl.col("rows")))
    return draft.finish("dt", "line", *draft.table.sort_by)


def knots(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """Curves rise between 0 and 1, so that calibration never changes an order."""
    del name
    draft.needs(*draft.table.schema.names)
    draft.limit("score", {"check": {"declared": _declared(scenario)}})
    draft.limit("method", {"check": {"known": _among("identity", "withheld", "platt", "isotonic")}})
    draft.limit("share", {"min": 0.0, "max": 1.0})
    for side in ("raw", "calibrated"):
        whole = pl.concat_list(pl.lit(0.0), side, pl.lit(1.0))
        rises = whole.list.diff(null_behavior="drop").list.min() > 0
        draft.rule(f"{side}_rises_between_0_and_1", rises)
    draft.rule("a_value_a_knot", pl.col("raw").list.len() == pl.col("calibrated").list.len())
    draft.rule("positives_among_rows", pl.col("positives").is_between(0, pl.col("rows")))
    return draft.finish("dt", "line", *draft.table.sort_by)


def twins(draft: Draft, scenario: Scenario) -> None:
    """Calibrated columns are there if a version is named, and no joint one exceeds that of its parent."""
    funnel = scenario.funnel
    versed = pl.col("calibrator_version").is_not_null()
    for score in funnel.probabilities:
        draft.limit(score.calibrated, {"min": 0.0, "max": 1.0})
        draft.rule(f"{score.calibrated}_if_calibrated", pl.col(score.calibrated).is_not_null() == versed)
    joint = {score.objective: score.calibrated for score in funnel.probabilities if score.joint}
    for objective in funnel.binary:
        if objective.given is not None:
            below, above = joint[objective.name], joint[objective.given]
            draft.rule(f"{below}_within_{above}", pl.col(below) <= pl.col(above))


def _declared(scenario: Scenario) -> Callable[[pl.Expr], pl.Expr]:
    return _among(*(score.name for score in scenario.funnel.probabilities))


def _among(*names: str) -> Callable[[pl.Expr], pl.Expr]:
    return lambda column: column.is_in(names)
