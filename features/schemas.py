"""The tables of a scenario, derived from its declaration."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from features.aggregates import State
from features.declared import once_each
from features.funnel import Objective, ScoreColumn
from features.samples import ROW_GROUP
from features.scenario import TIMESTAMP, Rollup, Scenario, Source
from features.snapshots import state_columns
from features.tables import Table, arrow_schema
from features.view import View

_KEYS = {
    "impression_id": "Key of the impression, as the log or its query gives it.",
    "user_id": "The user, as the log names them.",
    "item_id": "The item, as the log names it.",
    "dt": "Logical date, in the scenario's time zone.",
    "line": "Model line, the name of its recipe.",
    "exposed_at": "Instant of the exposure, UTC.",
    "occurred_at": "Instant of the event, UTC.",
    "arrived_at": "Instant at which we knew of it, UTC.",
    "day": "Logical date on which it happened; dt is the one on which it arrived.",
    "hour": "Instant (UTC) at which the hour begins in which it happened; hours end with the logical day.",
}


@once_each
def events(source: Source) -> Table:
    """Typed rows of a source, by day of arrival."""
    return Table(
        name=source.table,
        schema=source.schema,
        sort_by=(source.key,),
        description=f"{source.name}: typed, deduplicated rows; dt is the day on which they arrived.",
        columns=_comments(source.schema),
    )


@once_each
def rollup(rollup: Rollup, scenario: Scenario) -> Table:
    """Partial states of an entity, by day or hour of the events and day of their arrival."""
    columns = [
        *((key, _key_type(key, scenario)) for key in rollup.keys),
        *zip(rollup.buckets, (pa.date32(), TIMESTAMP), strict=False),
        *(column for state in rollup.states for column in _state(state, rollup, scenario)),
    ]
    return Table(
        name=rollup.table,
        schema=pa.schema(columns),
        sort_by=(*rollup.keys, *rollup.buckets),
        description=f"Partial states per {', '.join(rollup.keys)} and {rollup.bucket} "
        "of the events that arrived on dt.",
        columns=_comments(pa.schema(columns)),
    )


def _state(state: State, rollup: Rollup, scenario: Scenario) -> list[tuple[str, pa.DataType]]:
    """Columns of a state in a roll-up, with their types.

    Raises:
        ValueError: no source has its value, or it adds up what is no integer.
    """
    if state.counts:
        return [(state.name, pa.int64())]
    followed = {"impression": scenario.impressions, **{source.name: source for source in scenario.events}}
    sources = followed.values() if state.action is None else [followed[state.action]]
    found = [s.schema.field(state.column).type for s in sources if state.column in s.schema.names]
    if not found or (state.merge == "sum" and not pa.types.is_integer(found[0])):
        raise ValueError(
            f"Roll-up {rollup.name!r}, measure {state.name!r}: its source must have {state.column!r}, as an "
            f"integer in the smallest unit if it is to be added up; found {found or 'none'}."
        )
    kind = {"sum": pa.int64(), "union": pa.list_(found[0]), "sketch": pa.list_(pa.int32())}
    order = (TIMESTAMP, TIMESTAMP, pa.string())
    return list(zip(state.columns, (kind.get(state.merge, found[0]), *order), strict=False))


@once_each
def view(view: View, scenario: Scenario) -> Table:
    """Snapshots of a feature view; dt is the day at whose start a snapshot is valid."""
    item = pl.String() if pa.types.is_string(_key_type("item_id", scenario)) else pl.Int64()
    features = {f.name: f.dtype for f in view.features} | dict(state_columns(view, item))
    schema = pa.schema([*((key, _key_type(key, scenario)) for key in view.keys), *arrow_schema(features)])
    comments = {feature.name: feature.description for feature in view.features}
    return Table(
        name=view.table,
        schema=schema,
        sort_by=view.keys,
        description=f"{view.description} Valid from the start of dt.",
        columns={**_comments(schema), **comments, "dt": "Day at whose start the values were known."},
    )


@once_each
def samples(scenario: Scenario) -> Table:
    """The entire-space sample table, by day of exposure."""
    context = {
        field.name: field.type
        for field in scenario.impressions.schema
        if field.name not in ("day", *(f.name for f in scenario.features))
    }
    features = {f.name: f.dtype for f in scenario.features if f.name not in context}
    keys = ["impression_id", "user_id", "item_id", "exposed_at", "arrived_at"]
    types = {**context, **{f.name: f.type for f in arrow_schema(features)}}
    columns = [(name, types[name]) for name in keys]
    columns += [(f.name, types[f.name]) for f in scenario.features if f.name not in keys]
    comments = {f.name: f.description for f in scenario.features}
    for o in scenario.funnel:
        _check_objective(o, scenario, {name for name, _ in columns})
        told = _objective(o)
        columns += [(name, kind) for name, kind, _ in told]
        comments |= {name: comment for name, _, comment in told}
    columns += [
        ("label_state", pa.string()),
        ("revised_at", TIMESTAMP),
        ("age_hours", pa.float32()),
        ("weight", pa.float32()),
        ("label_as_of", TIMESTAMP),
    ]
    comments |= {
        "label_state": "By the clock alone: fresh, partial or mature as no, some or all labels are final.",
        "revised_at": "When we knew of the last event or reversal that came after its label was final (UTC); "
        "null if none did.",
        "age_hours": "Hours from the exposure to label_as_of.",
        "weight": "Weight of the row in every loss.",
        "label_as_of": "Watermark (UTC) as of which the labels were derived.",
        "dt": "Logical date of the exposure.",
    }
    schema = pa.schema(columns)
    return Table(
        name="samples",
        schema=schema,
        sort_by=("exposed_at", "impression_id"),
        description="Every impression with what was known of it and what happened next, one row each.",
        columns={**_comments(schema), **comments},
        row_group=ROW_GROUP,
    )


def _objective(o: Objective) -> list[tuple[str, pa.DataType, str]]:
    """Columns of the samples that speak of one objective, with their comments."""
    parent = o.given or "exposure"
    learned = f" Learned and predicted in units of {o.scale:g}." if o.kind == "value" else ""
    value = [(o.total, pa.int64(), f"Sum of {o.value} over the {o.name} events that count.{learned}")]
    return [
        (o.label, pa.int8(), f"1 if {o.name} happened within {o.window} of its {parent}, else 0."),
        (o.count, pa.int32(), f"Number of {o.name} events that count, without those that were taken back."),
        *(value if o.value else []),
        (o.occurred, TIMESTAMP, f"Instant of the first {o.name} that counts, not before its {parent}, UTC."),
        (o.known, TIMESTAMP, f"Instant at which we first knew of the {o.name}, UTC."),
        (o.final, pa.bool_(), f"By the clock alone: {o.label} can no longer change."),
        (
            o.space,
            pa.bool_(),
            f"Row lies in the space of {o.name}: " + (f"{o.given} happened." if o.given else "always."),
        ),
        (
            o.completeness,
            pa.float32(),
            f"Share of the positives of the row's age whose {o.label} is 1 by now; 1 if final, "
            "null if nothing is known of young labels yet.",
        ),
    ]


def _check_objective(o: Objective, scenario: Scenario, columns: set[str]) -> None:
    """Hold what an objective names to what the scenario declares.

    Raises:
        ValueError: its source has no such value, its reversals no ``reverses``, or no such segment is there.
    """
    log = scenario.source(o.log).schema
    if o.value is not None and (o.value not in log.names or not pa.types.is_integer(log.field(o.value).type)):
        raise ValueError(
            f"Objective {o.name!r}: source {o.log!r} must have {o.value!r} as an integer, in the smallest "
            f"unit, so that no sum depends on the order of its terms; it has {log.names}."
        )
    if o.reversals is not None and "reverses" not in scenario.source(o.reversals).schema.names:
        raise ValueError(
            f"Objective {o.name!r}: source {o.reversals!r} must have 'reverses', the id of the event that a "
            f"row takes back; it has {scenario.source(o.reversals).schema.names}."
        )
    if o.segment is not None and o.segment not in columns:
        raise ValueError(
            f"Objective {o.name!r}: segment {o.segment!r} is no column of the samples: {sorted(columns)}."
        )


COMPLETENESS = Table(
    name="completeness",
    schema=pa.schema(
        [
            ("objective", pa.string()),
            ("segment", pa.string()),
            ("step", pa.int32()),
            ("age_from_hours", pa.float64()),
            ("age_to_hours", pa.float64()),
            ("completeness_from", pa.float64()),
            ("completeness_to", pa.float64()),
            ("positives", pa.int64()),
        ]
    ),
    sort_by=("objective", "segment", "step"),
    description="Share of final positives that is known at an age, one row per objective, segment and step.",
    columns={
        "objective": "What happened.",
        "segment": "Value of the objective's segment; null for all of them together.",
        "step": "Number of the step, from 0.",
        "age_from_hours": "Hours after the exposure at which the step begins.",
        "age_to_hours": "Hours after the exposure at which it ends.",
        "completeness_from": "Share of final positives known when the step begins.",
        "completeness_to": "Share of final positives known when it ends.",
        "positives": "Final positives of the segment, over all steps.",
        "dt": "Day whose samples use it; made from days whose labels were final before it.",
    },
)


@once_each
def scores(scenario: Scenario) -> Table:
    """Published probabilities and expected values of user-item pairs, by day and line."""
    types = scenario.impressions.schema
    funnel = scenario.funnel
    columns = [
        ("user_id", types.field("user_id").type),
        ("item_id", types.field("item_id").type),
        ("request_id", pa.string()),
        *((column.name, pa.float32()) for column in funnel.score_columns),
        *((column.calibrated, pa.float32()) for column in funnel.probabilities),
        ("user_rank", pa.int32()),
        ("unknown_user", pa.bool_()),
        ("unknown_item", pa.bool_()),
        ("model_version", pa.string()),
        ("calibrator_version", pa.string()),
        ("features_as_of", TIMESTAMP),
    ]
    comments = {column.name: _score(column, funnel[column.objective]) for column in funnel.score_columns}
    comments |= {
        column.calibrated: f"{column.name}, calibrated on days that the models had not learned from; null if "
        "the line is not calibrated."
        for column in funnel.probabilities
    }
    schema = pa.schema(columns)
    return Table(
        name="scores",
        schema=schema,
        partition_by=("dt", "line"),
        sort_by=("user_id", "user_rank"),
        description="Probabilities and expected values of user-item pairs for a day, one a pair and line.",
        columns={
            **_comments(schema),
            **comments,
            "dt": "Logical date that the scores are for.",
            "line": _KEYS["line"],
            "request_id": "Request of the candidates log; null where candidates follow from the rule.",
            "user_rank": "Place of the item for the user (and request) by pctcvr, from 1; ties by item.",
            "unknown_user": "The model has no row of its own for the user.",
            "unknown_item": "The model has no row of its own for the item.",
            "model_version": "Model that made the score; see view models.",
            "calibrator_version": "What calibrated the score; see view calibrators. Null if nothing did.",
            "features_as_of": "Instant (UTC) as of which the features were known.",
        },
    )


def _score(column: ScoreColumn, o: Objective) -> str:
    """Comment of a published number."""
    if column.kind == "value":
        unit = o.value if o.scale == 1 else f"{o.value} / {o.scale:g}"
        return f"Expected {o.name} ({unit}) " + (
            "per impression." if column.joint else f"per {o.given}, if it happens."
        )
    return f"Probability of {o.name} " + ("per impression." if column.joint else f"given {o.given}.")


def _key_type(key: str, scenario: Scenario) -> pa.DataType:
    schemas = [scenario.impressions.schema, *(source.schema for source in scenario.attributes)]
    return next(schema.field(key).type for schema in schemas if key in schema.names)


def _comments(schema: pa.Schema) -> dict[str, str]:
    return {name: text for name, text in _KEYS.items() if name in schema.names}
