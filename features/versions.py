"""The version of a view: a hash of everything in the declarations that its values follow from.

It ends where the tables of events begin; what fills those has contracts of its own, and another delivery
makes another generation of the snapshot, not another version of the view. What only people read does not
enter: a description, an owner, a comment in a query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass

import duckdb
import polars as pl
import pyarrow as pa

import sql
from features.declared import once_each
from features.fingerprint import fingerprint
from features.scenario import Rollup, Scenario
from features.schemas import view as view_table
from features.view import Feature, View, Windows

#: Fields of a declaration that say something to people and change no value.
_WORDS = frozenset({"owner", "description"})


def view_version(scenario: Scenario, view: View) -> str:
    """Version of a view, 16 hex digits; equal versions compute equal snapshots from equal events.

    It covers the keys, the features with their defaults and encodings, the source with its windows, the max
    age and whatever else the view declares; the types of all columns; the queries and the states of its
    roll-ups, or the columns of its event source; and the zone in which days begin.
    """
    source = view.source
    named = (source.rollup, source.hourly) if isinstance(source, Windows) else ()
    read = (rollup_version(rollup) for rollup in scenario.rollups if rollup.name in named)
    return _view_version(scenario, view, *read)


@once_each
def _view_version(scenario: Scenario, view: View, *rollups: str) -> str:
    """The same, by the versions of the roll-ups that it reads."""
    if isinstance(view.source, Windows):
        told: dict[str, object] = {"rollups": list(rollups)}
    else:
        log = scenario.source(view.source.source)
        told = {"events": [log.table, log.key, log.timeless, _plain(log.schema)]}
    columns = _plain(view_table(view, scenario).schema)
    return fingerprint({"view": _plain(view), "columns": columns, "zone": scenario.zone, **told})


def rollup_version(rollup: Rollup) -> str:
    """Version of a roll-up, 16 hex digits: its keys, states and bucket, and its query without comments."""
    return _rollup_version(rollup, sql.load(rollup.query).text)


@once_each
def _rollup_version(rollup: Rollup, query: str) -> str:
    return fingerprint({"rollup": _plain(rollup), "query": without_comments(query)})


@once_each
def request_version(scenario: Scenario) -> str:
    """Version of the features that the impressions bring along, 16 hex digits."""
    read = scenario.impressions
    return fingerprint({"request": _plain(scenario.context), "events": [read.table, _plain(read.schema)]})


@once_each
def on_demand_version(scenario: Scenario) -> str:
    """Version of the features on demand, 16 hex digits: their declarations in order.

    The views that they read have versions of their own, which a feature set holds beside this one.
    """
    return fingerprint({"on_demand": _plain(scenario.on_demand)})


def without_comments(query: str) -> str:
    r"""The tokens of a query, one blank apart: its text without comments and line breaks.

    >>> without_comments("-- grain: user\nSELECT user_id, 'a -- b' /* c */\nFROM  events -- all")
    "SELECT user_id , 'a -- b' FROM events"
    """
    tokens = duckdb.tokenize(query)
    ends = [start for start, _ in tokens[1:]] + [len(query.encode())]
    text = query.encode()  # positions are in bytes
    return " ".join(
        text[start:end].decode().strip()
        for (start, kind), end in zip(tokens, ends, strict=True)
        if kind != duckdb.token_type.comment
    )


def _plain(value: object) -> object:
    """A declaration without its words, from types that a fingerprint takes.

    Raises:
        TypeError: by the fingerprint, if a declaration holds what has no lasting text.
    """
    if isinstance(value, Feature):
        return list(value.definition)
    if isinstance(value, pl.Expr):  # str() shortens what is long, and repr() ends in an address
        return value.meta.serialize(format="json")
    if isinstance(value, pl.DataType | pa.DataType):
        return str(value)
    if isinstance(value, pa.Schema):
        return [[column.name, str(column.type)] for column in value]
    if isinstance(value, Mapping):
        return {key: _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(held) for held in value]
    if is_dataclass(value) and not isinstance(value, type):
        own = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in _WORDS}
        return {type(value).__qualname__: own}
    return value
