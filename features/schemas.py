"""The tables of a scenario, derived from its declaration."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

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
}


def events(source: Source) -> Table:
    """Typed rows of a source, by day of arrival."""
    return Table(
        name=source.table,
        schema=source.schema,
        sort_by=(source.key,),
        description=f"{source.name}: typed, deduplicated rows; dt is the day on which they arrived.",
        columns=_comments(source.schema),
    )


def rollup(rollup: Rollup, scenario: Scenario) -> Table:
    """Daily partial counts of an entity."""
    columns = [
        (rollup.entity, _key_type(rollup.entity, scenario)),
        ("day", pa.date32()),
        *((count, pa.int64()) for count in rollup.counts),
    ]
    return Table(
        name=rollup.table,
        schema=pa.schema(columns),
        sort_by=(rollup.entity, "day"),
        description=f"Counts per {rollup.entity} and day of the events that arrived on dt.",
        columns=_comments(pa.schema(columns)),
    )


def view(view: View, scenario: Scenario) -> Table:
    """Snapshots of a feature view; dt is the day at whose start a snapshot is valid."""
    item = pl.String() if pa.types.is_string(_key_type("item_id", scenario)) else pl.Int64()
    features = {f.name: f.dtype for f in view.features} | dict(state_columns(view, item))
    schema = pa.schema([(view.entity, _key_type(view.entity, scenario)), *arrow_schema(features)])
    comments = {feature.name: feature.description for feature in view.features}
    return Table(
        name=view.table,
        schema=schema,
        sort_by=(view.entity,),
        description=f"{view.description} Valid from the start of dt.",
        columns={**_comments(schema), **comments, "dt": "Day at whose start the values were known."},
    )


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
        columns += [
            (o.label, pa.int8()),
            (o.occurred, TIMESTAMP),
            (o.final, pa.bool_()),
            (o.space, pa.bool_()),
        ]
        comments |= {
            o.label: f"1 if {o.name} happened within {o.window} of its {o.given or 'exposure'}, else 0.",
            o.occurred: f"Instant of the first {o.name} that belongs to the impression, UTC.",
            o.final: f"By the clock alone: y_{o.name} can no longer change.",
            o.space: f"Row lies in the space of {o.name}: "
            + (f"{o.given} happened." if o.given else "always."),
        }
    columns += [("age_hours", pa.float32()), ("weight", pa.float32()), ("label_as_of", TIMESTAMP)]
    comments |= {
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
    )


def scores(scenario: Scenario) -> Table:
    """Published probabilities of user-item pairs, by day and line."""
    types = scenario.impressions.schema
    funnel = scenario.funnel
    columns = [
        ("user_id", types.field("user_id").type),
        ("item_id", types.field("item_id").type),
        ("request_id", pa.string()),
        *((column.name, pa.float32()) for column in funnel.score_columns),
        ("user_rank", pa.int32()),
        ("unknown_user", pa.bool_()),
        ("unknown_item", pa.bool_()),
        ("model_version", pa.string()),
        ("features_as_of", TIMESTAMP),
    ]
    comments = {
        column.name: f"Probability of {column.objective} "
        + ("per impression." if column.joint else f"given {funnel[column.objective].given}.")
        for column in funnel.score_columns
    }
    schema = pa.schema(columns)
    return Table(
        name="scores",
        schema=schema,
        partition_by=("dt", "line"),
        sort_by=("user_id", "user_rank"),
        description="Probabilities of user-item pairs for a day, one row per pair and line.",
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
            "features_as_of": "Instant (UTC) as of which the features were known.",
        },
    )


def _key_type(entity: str, scenario: Scenario) -> pa.DataType:
    schemas = [scenario.impressions.schema, *(source.schema for source in scenario.attributes)]
    return next(schema.field(entity).type for schema in schemas if entity in schema.names)


def _comments(schema: pa.Schema) -> dict[str, str]:
    return {name: text for name, text in _KEYS.items() if name in schema.names}
