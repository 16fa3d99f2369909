"""The contract of every table, derived from what is declared already.

Types come from the table's schema. Floats are finite everywhere. A feature's range comes from its own
declaration, or from its encoding: ``log1p`` reads counts, ``logit`` probabilities strictly inside (0, 1).
Rows that come from outside (a delivered log, an attribute) are quarantined where a value is out of its
declared range; what we computed ourselves fails, because the fault is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa

from features.declared import once_each
from features.encode import CLIP
from features.encodings import Dense
from features.scenario import Scenario, Source
from features.tables import Table
from features.validation.calibrated import evidence, knots, twins
from features.validation.contract import Contract, Level
from features.validation.draft import Draft, column
from features.validation.judgements import completeness, drift, foretold, quality
from features.view import Attributes, Feature, History, LastEvents

#: Columns of a source that tell who, what and when; no row is one without them.
_KEYS = ("user_id", "item_id", "day", "exposed_at", "occurred_at", "arrived_at")
#: Instants outside of these years are a mistaken unit, not a time.
_YEARS = {"min": datetime(2000, 1, 1), "max": datetime(2100, 1, 1)}
_USUAL = "usual"


@once_each
def contract(table: Table, scenario: Scenario) -> Contract:
    """What every row of a table of this scenario must be like.

    Raises:
        ValueError: a feature declares a range that its type or encoding contradicts.
    """
    draft = Draft(table)
    draft.needs(*table.partition_by)
    family, _, name = table.name.partition("/")
    return _FAMILIES.get(family, _plain)(draft, scenario, name)


def _plain(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """Types and finite floats, where nothing more is declared."""
    del scenario, name
    return draft.finish()


def _events(draft: Draft, scenario: Scenario, name: str) -> Contract:
    delivered = (*scenario.sources, *([scenario.candidates_log] if scenario.candidates_log else []))
    source = next(one for one in delivered if one.name == name)
    draft.needs(source.key)
    if source.role != "attribute":
        draft.needs(*_KEYS)
    for instant in ("exposed_at", "occurred_at", "arrived_at"):
        draft.limit(instant, _YEARS)
    for field in source.schema:  # a number that is none came from outside; it is in no sum and no model
        if pa.types.is_floating(field.type):
            draft.limit(field.name, {}, "quarantine")
    told = [v for v in scenario.views if isinstance(v.source, History) and v.source.source == source.name]
    _days(draft, source, skewed="quarantine" if told else "warn")
    # What impressions bring along and what a history tells reaches the samples without a snapshot between.
    brought = scenario.context if source.role == "impression" else ()
    for feature in (*brought, *(feature for view in told for feature in view.features)):
        known = set(feature.expr.meta.root_names()) <= set(source.schema.names)
        for kind, holds in _holds(feature, feature.expr.cast(feature.dtype)).items() if known else ():
            draft.rule(f"{feature.name}_{kind}", holds, "quarantine")
    return draft.finish("dt", source.key, max_quarantined=source.max_quarantined)


def _days(draft: Draft, source: Source, *, skewed: Level) -> None:
    """A delivery holds its own day and the late ones before; nothing happens after it was known."""
    names = draft.table.schema.names
    if "day" in names:
        oldest = pl.col("dt") - timedelta(days=source.late_days)
        draft.rule("day_of_the_delivery", pl.col("day").is_between(oldest, pl.col("dt")))
    if "arrived_at" in names and "occurred_at" in names:
        early = pl.col("arrived_at") >= pl.col("occurred_at")
        draft.rule("arrives_after_it_occurred", early, skewed)


def _rollups(draft: Draft, scenario: Scenario, name: str) -> Contract:
    declared = next(one for one in scenario.rollups if one.name == name)
    draft.needs(*draft.table.sort_by, *declared.counts)
    for count in declared.counts:
        draft.limit(count, {"min": 0})
    return draft.finish("dt", *draft.table.sort_by)


def _view(draft: Draft, scenario: Scenario, name: str) -> Contract:
    view = next(one for one in scenario.views if one.name == name)
    draft.needs(*draft.table.sort_by)
    outside: Level = "quarantine" if isinstance(view.source, Attributes | History) else "fail"
    for feature in view.features:
        draft.limit(feature.name, _limits(feature), outside)
        if not feature.nullable:
            draft.limit(feature.name, {"nullable": False}, outside)
    if isinstance(view.source, LastEvents):
        items, times = (f"{view.source.source}_{what}" for what in ("items", "times"))
        if {items, times} <= set(draft.table.schema.names):
            draft.rule("an_item_a_time", pl.col(items).list.len() == pl.col(times).list.len())
    return draft.finish("dt", *draft.table.sort_by)


def _samples(draft: Draft, scenario: Scenario, name: str) -> Contract:
    del name
    draft.needs("impression_id", *_KEYS, "age_hours", "weight", "label_as_of")
    draft.limit("weight", {"min": 0.0})
    for feature in scenario.features:
        if feature.name in ("user_id", "item_id"):
            continue
        draft.limit(feature.name, _limits(feature))
        if feature.default is not None:
            draft.needs(feature.name)
        if not feature.nullable and feature in scenario.on_demand:
            draft.needs(feature.name)
        if isinstance(feature.encoding, Dense):
            draft.columns[feature.name]["check"] = {_USUAL: _usual(feature.encoding)}
            draft.levels[f"{feature.name}|check__{_USUAL}"] = "warn"
    for o in scenario.funnel:
        draft.needs(o.label, o.final, o.space)
        draft.limit(o.label, {"min": 0, "max": 1})
        draft.limit(o.count, {"min": 0})
        if o.kind == "value":
            draft.needs(o.total)
        draft.limit(o.completeness, {"min": 0.0, "max": 1.0})
        happened = pl.col(o.label) == 1
        draft.rule(f"{o.occurred}_if_{o.label}", happened == pl.col(o.occurred).is_not_null())
        draft.rule(f"{o.count}_if_{o.label}", happened == (pl.col(o.count) > 0))
        draft.rule(f"{o.completeness}_if_{o.final}", ~pl.col(o.final) | (pl.col(o.completeness) == 1))
        if o.given is not None:
            draft.rule(
                f"{o.occurred}_after_{o.given}",
                pl.col(o.occurred) >= pl.col(scenario.funnel[o.given].occurred),
            )
    draft.rule("labels_after_arrival", pl.col("label_as_of") >= pl.col("arrived_at"))
    return draft.finish("impression_id")


def _scores(draft: Draft, scenario: Scenario, name: str) -> Contract:
    del name
    draft.needs("user_id", "item_id", "user_rank", "unknown_user", "unknown_item", "model_version")
    draft.limit("user_rank", {"min": 1})
    for score in scenario.funnel.score_columns:
        limits = {"min": 0.0, "max": 1.0} if score.kind == "binary" else {}
        draft.limit(score.name, {**limits, "nullable": False})
    twins(draft, scenario)
    return draft.finish("dt", "line", "user_id", "item_id", "request_id")


def _id_maps(draft: Draft, scenario: Scenario, name: str) -> Contract:
    del scenario, name
    draft.needs("vocabulary", "count", "first_seen", "last_seen")
    draft.limit("row", {"min": 0})
    draft.limit("count", {"min": 1})
    draft.rule("seen_first_then_last", pl.col("first_seen") <= pl.col("last_seen"))
    return draft.finish("dt", *draft.table.sort_by)


def _models(draft: Draft, scenario: Scenario, name: str) -> Contract:
    del scenario, name
    optional = {"parent_version"}
    draft.needs(*(column for column in draft.table.schema.names if column not in optional))
    for count in ("rows", "steps", "parameters"):
        draft.limit(count, {"min": 0})
    draft.rule("trained_forward", pl.col("trained_since") < pl.col("watermark"))
    return draft.finish("dt", "line")


def _metrics(draft: Draft, scenario: Scenario, name: str) -> Contract:
    draft.needs(*(column for column in draft.table.schema.names if column != "value"))
    draft.limit("objective", {"check": {"declared": lambda column: column.is_in(scenario.funnel.names)}})
    draft.rule("positives_among_rows", pl.col("positives").is_between(0, pl.col("rows")))
    del name
    return draft.finish("dt", "line", "objective", "space", "slice", "metric")


def _quarantine(draft: Draft, scenario: Scenario, name: str) -> Contract:
    del scenario, name
    draft.needs("reason", "row_text")
    draft.limit("reason", {"regex": "^[A-Z0-9_]+$"})
    return draft.finish()


def _runs(draft: Draft, scenario: Scenario, name: str) -> Contract:
    del scenario, name
    draft.needs("run_key", "stage", "state")
    draft.limit("state", {"check": {"known": lambda column: column.is_in(STATES)}})
    for count in ("rows_in", "rows_out", "quarantined", "deduplicated"):
        draft.limit(count, {"min": 0})
    return draft.finish()


#: What the ledger says of how a run ended.
STATES = ("finished", "failed", "interrupted", "skipped", "accepted")

_FAMILIES: Mapping[str, Callable[[Draft, Scenario, str], Contract]] = {
    "events": _events,
    "rollups": _rollups,
    "features": _view,
    "samples": _samples,
    "scores": _scores,
    "id_maps": _id_maps,
    "models": _models,
    "metrics_daily": _metrics,
    "calibration_daily": evidence,
    "calibrators": knots,
    "quarantine": _quarantine,
    "runs": _runs,
    "completeness": completeness,
    "drift_daily": drift,
    "quality_daily": quality,
    "completeness_daily": foretold,
}


def _limits(feature: Feature) -> dict[str, Any]:
    """Least and greatest value of a feature, as keyword arguments of its column.

    A range does not widen what the encoding reads: of two edges on one side the narrower holds.
    """
    read = _read(feature)
    if feature.range is not None:
        if not feature.dtype.is_numeric():
            raise ValueError(f"Feature {feature.name!r} declares a range, but is {feature.dtype}.")
        low, high = feature.range
        if not low <= high:
            raise ValueError(f"Range of feature {feature.name!r} must ascend, got {feature.range}.")
        bound = int if feature.dtype.is_integer() else float
        limits = {
            kind: bound(edge)
            for kind, edge in (("min", low), ("max", high))
            if abs(edge) != float("inf")
        }  # fmt: skip
        if "min" in read and low < read["min"]:
            limits["min"] = read["min"]
        if "min_exclusive" in read and low <= read["min_exclusive"]:
            limits = {kind: edge for kind, edge in limits.items() if kind != "min"}
            limits["min_exclusive"] = read["min_exclusive"]
        if "max_exclusive" in read and high >= read["max_exclusive"]:
            limits = {kind: edge for kind, edge in limits.items() if kind != "max"}
            limits["max_exclusive"] = read["max_exclusive"]
        return limits
    return read


def _read(feature: Feature) -> dict[str, Any]:
    """What the encoding of a feature can read, likewise."""
    if isinstance(feature.encoding, Dense) and feature.dtype.is_numeric():
        if feature.encoding.scale == "log1p":
            return {"min": 0 if feature.dtype.is_integer() else 0.0}
        if feature.encoding.scale == "logit":
            return {"min_exclusive": 0.0, "max_exclusive": 1.0}
    return {}


def _holds(feature: Feature, value: pl.Expr) -> dict[str, pl.Expr]:
    """The same limits as rules over an expression, for a value that is not a column of its own yet."""
    return column(feature.dtype, {**_limits(feature), "nullable": feature.nullable}).validation_rules(value)


def _usual(encoding: Dense) -> Callable[[pl.Expr], pl.Expr]:
    """Whether the encoder takes a value as it is; what lies further out, it cuts off."""

    def inside(value: pl.Expr) -> pl.Expr:
        scaled = value.cast(pl.Float64)
        if encoding.scale == "log1p":
            scaled = scaled.log1p()
        elif encoding.scale == "logit":
            scaled = (scaled / (1 - scaled)).log()
        return (scaled - encoding.center).abs() <= CLIP * encoding.spread

    return inside
