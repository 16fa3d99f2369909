"""Every query file keeps its word: header, parameters, columns."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import sql
from features import scenarios
from features.scenario import Rollup, Source

#: What a header must say, by the folder of the file.
HEADER = {
    "logs": {"grain", "time", "raw", "verdict", "why"},
    "rollups": {"grain", "time", "reads", "why"},
    "checks": {"table", "promise"},
    "analyst": {"grain"},
}
#: What the stage read binds, beside the parameters that the source itself declares.
BOUND = {"files", "arrives_at", "oldest_ms", "newest_ms"}
SCENARIOS = [scenarios.get(name) for name in scenarios.names()]
SOURCES = [
    pytest.param(source, id=f"{scenario.name}-{source.name}")
    for scenario in SCENARIOS
    for source in (*scenario.sources, *([scenario.candidates_log] if scenario.candidates_log else []))
]
ROLLUPS = [
    pytest.param(rollup, id=f"{scenario.name}-{rollup.name}")
    for scenario in SCENARIOS
    for rollup in scenario.rollups
]


def folder(kind: str) -> list[str]:
    return [name for name in sql.names() if name.startswith(f"{kind}/")]


@pytest.mark.parametrize("name", sql.names())
def test_a_query_says_in_its_header_what_its_kind_must_say(name: str) -> None:
    header = sql.load(name).header
    assert HEADER[name.partition("/")[0]] <= header.keys()
    assert all(header.values())


@pytest.mark.parametrize("name", sql.names())
def test_a_query_is_one_statement_and_only_log_queries_take_parameters(name: str) -> None:
    params = sql.load(name).params
    assert name.startswith(("logs/", "analyst/")) or not params


@pytest.mark.parametrize("source", SOURCES)
def test_a_log_query_asks_for_nothing_that_the_stage_does_not_bind(source: Source) -> None:
    params = sql.load(source.query).params
    assert params <= BOUND | source.params.keys()
    assert source.params.keys() <= params
    assert "files" in params


def test_every_log_query_and_roll_up_belongs_to_a_scenario() -> None:
    assert {source.values[0].query for source in SOURCES} == set(folder("logs"))  # type: ignore[union-attr]
    assert {rollup.values[0].query for rollup in ROLLUPS} == set(folder("rollups"))  # type: ignore[union-attr]


@pytest.mark.parametrize("source", SOURCES)
def test_a_log_query_reads_only_contracted_columns_and_yields_the_declared_ones(
    source: Source, tmp_path: Path
) -> None:
    columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in source.raw.items())
    file = tmp_path / "raw.parquet"
    with duckdb.connect() as connection:
        connection.sql(f"SELECT {columns} WHERE false").write_parquet(str(file))
        connection.sql(
            "SELECT NULL::DATE AS day, NULL::TIMESTAMP AS starts_at, NULL::TIMESTAMP AS ends_at WHERE false"
        ).create("calendar")
        connection.register("earlier", source.schema.empty_table())
        query = sql.load(source.query)
        values = {
            "files": [str(file)],
            "arrives_at": datetime(2026, 1, 5),
            "oldest_ms": 0,
            "newest_ms": 4_102_444_800_000,
            **source.params,
        }
        found = connection.sql(
            query.text, params={name: value for name, value in values.items() if name in query.params}
        ).to_arrow_table()
    assert set(found.schema.names) == {*source.schema.names, "verdict", "row_text"}
    # The stage widens a number (int32 to int64, say), but never reads text as one.
    for declared in source.schema:
        one = found.schema.field(declared.name).type
        both_integers = pa.types.is_integer(one) and pa.types.is_integer(declared.type)
        assert one == declared.type or both_integers
    assert source.key in source.schema.names


@pytest.mark.parametrize("rollup", ROLLUPS)
def test_a_roll_up_yields_its_keys_its_bucket_and_its_states(rollup: Rollup) -> None:
    with duckdb.connect() as connection:
        columns = ["kind VARCHAR", "user_id BIGINT", "item_id BIGINT", "day DATE", "hour TIMESTAMP"]
        columns += ["occurred_at TIMESTAMP", "arrived_at TIMESTAMP", "event_id VARCHAR"]
        values = [name for name in rollup.values if name not in ("user_id", "item_id", *rollup.context)]
        columns += [f"{name} BIGINT" for name in (*rollup.context, *values)]
        connection.execute(f"CREATE TABLE events ({', '.join(columns)})")
        for name in rollup.attributes:
            told = [key for key in rollup.keys if key not in ("user_id", "item_id", *rollup.context)]
            columns = [f"{key} BIGINT" for key in ("item_id", *told)]
            connection.execute(f'CREATE TABLE "{name}" ({", ".join(columns)})')
        found = connection.sql(sql.load(rollup.query).text)
        assert found.columns == [*rollup.keys, *rollup.buckets, *rollup.columns]


def test_an_indented_comment_line_continues_the_field_above() -> None:
    query = sql.Query(
        "logs/x", "-- grain: one\n--         two: three\n-- time:  none\n\n-- not: header\nSELECT 1"
    )
    assert query.header == {"grain": "one two: three", "time": "none"}


def test_a_query_that_does_not_exist_names_its_neighbours() -> None:
    with pytest.raises(LookupError, match=r"logs/shop/clicks.*logs/shop/click, logs/shop/conversion"):
        sql.load("logs/shop/clicks")
