"""One historical retrieval by one peer, measured in a process of its own: started by ``point_in_time.py``.

    PYTHON benchmarks/point_in_time_peers.py PEER FOLDER ROWS [ANSWER]

It prints one line of JSON: CPU and wall seconds of the retrieval, and the process's peak memory in MiB. With
ANSWER, the retrieved table is written there afterwards. Each peer reads Parquet files and ends with an Arrow
table in memory, except ``ours, streaming``, which ends with a Parquet file.

This file runs under the Python of each peer, so it imports a peer's packages where they are used.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from peak import peak_mib

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from feast import FeatureStore

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MAX_AGE = timedelta(days=7)
AT = "exposed_at"


class Shape(NamedTuple):
    """Keys of a view and its number of features."""

    keys: tuple[str, ...]
    width: int


VIEWS = {
    "user_daily": Shape(("user_id",), 6),
    "item_daily": Shape(("item_id",), 6),
    "user_cat_weekly": Shape(("user_id", "category_id"), 3),
    "seller_daily": Shape(("seller_id",), 3),
}
FEATURES = {view: [f"{view}_{n}" for n in range(shape.width)] for view, shape in VIEWS.items()}


def history_file(folder: Path, view: str) -> Path:
    """Versions of a view as they were logged: any order, some twice, with both clocks."""
    return folder / f"{view}.parquet"


def ready_file(folder: Path, view: str) -> Path:
    """The same, stored as-of ready."""
    return folder / f"{view}.ready.parquet"


def _joined(folder: Path, rows: Path) -> pl.LazyFrame:
    import polars as pl

    from features.point_in_time import pit_join

    joined = pl.scan_parquet(rows)
    for view, shape in VIEWS.items():
        ready = pl.scan_parquet(ready_file(folder, view))
        joined = pit_join(joined, ready, keys=shape.keys, at=AT, fields=FEATURES[view], max_age=MAX_AGE)
    return joined


def ours(folder: Path, rows: Path) -> pa.Table:
    """``pit_join`` on views that are stored as-of ready."""
    return _joined(folder, rows).collect().to_arrow()


def ours_streaming(folder: Path, rows: Path) -> Path:
    """The same from a file to a file, without all rows in memory."""
    out = folder / "streamed.parquet"
    _joined(folder, rows).sink_parquet(out)
    return out


def asof(folder: Path, rows: Path) -> pa.Table:
    """One SQL query as one writes it by hand, with four ASOF joins on the same as-of-ready files."""
    import duckdb

    hours = int(MAX_AGE / timedelta(hours=1))
    columns, joins = ["r.*"], []
    for view, shape in VIEWS.items():
        young = f"r.{AT} - {view}.event_time <= INTERVAL {hours} HOURS"
        columns += [f"CASE WHEN {young} THEN {view}.{name} END AS {name}" for name in FEATURES[view]]
        on = " AND ".join(f"r.{key} = {view}.{key}" for key in shape.keys)
        file = ready_file(folder, view)
        joins.append(f"ASOF LEFT JOIN '{file}' AS {view} ON {on} AND r.{AT} >= {view}.visible_from")
    with duckdb.connect() as connection:
        return connection.sql(
            f"SELECT {', '.join(columns)} FROM '{rows}' AS r {' '.join(joins)}"
        ).to_arrow_table()


def feast(folder: Path, rows: Path) -> pa.Table:
    """Feast's duckdb offline store on the logged history, arrivals honoured."""
    import pandas as pd

    store = _feast_store(folder)
    job = store.get_historical_features(
        entity_df=pd.read_parquet(rows),
        features=[f"{view}:{name}" for view in VIEWS for name in FEATURES[view]],
        filter_by_created_timestamp=True,
    )
    return job.to_arrow()


def _feast_store(folder: Path) -> FeatureStore:
    import feast as fs
    from feast.types import Float64

    config = fs.RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store=None,
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
    )
    store = fs.FeatureStore(config=config)
    if (folder / "registry.db").exists():
        return store
    names = {key for shape in VIEWS.values() for key in shape.keys}
    entities = {
        key: fs.Entity(name=key, join_keys=[key], value_type=fs.ValueType.INT64) for key in sorted(names)
    }
    views = [
        fs.FeatureView(
            name=view,
            entities=[entities[key] for key in shape.keys],
            ttl=MAX_AGE,
            schema=[fs.Field(name=name, dtype=Float64) for name in FEATURES[view]],
            source=fs.FileSource(
                path=str(history_file(folder, view)),
                timestamp_field="event_time",
                created_timestamp_column="arrived_at",
            ),
        )
        for view, shape in VIEWS.items()
    ]
    store.apply([*entities.values(), *views])
    return store


PEERS = {"feast": feast, "asof": asof, "ours": ours, "ours, streaming": ours_streaming}


def main() -> None:
    """Warm up on few rows, measure once, print."""
    peer, folder, rows, *answer = sys.argv[1:]
    os.environ["FEAST_USAGE"] = "False"
    run = PEERS[peer]
    run(Path(folder), Path(folder) / "rows-1000.parquet")
    cpu, wall = time.process_time(), time.perf_counter()
    table = run(Path(folder), Path(rows))
    figures = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall, "peak": peak_mib()}
    if answer and not isinstance(table, Path):
        import pyarrow.parquet as pq

        pq.write_table(table, answer[0])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
