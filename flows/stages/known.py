"""What was known of entities at the start of a day, held to what their view declares today."""

from __future__ import annotations

from datetime import date

import polars as pl

from features.errors import BadWarehouse
from features.schemas import view as view_table
from features.view import View
from flows.house import House


def known(house: House, declared: View, valid: date) -> pl.LazyFrame:
    """The rows of the view's snapshot that is valid from the start of ``valid``, which is live.

    A table that was widened reads as null what its older days lack, which is right for analysts. To a join
    it would be an entity of which nothing is known.

    Raises:
        BadWarehouse: a declared column is missing or of another type in the snapshot.
    """
    table = view_table(declared, house.scenario)
    rows = house.store.scan(table, [valid])
    live = house.store.generation(table, valid)
    types = rows.drop(table.partition_by).collect_schema()
    faults = []
    for file in () if live is None else live.files:
        found = pl.read_parquet_schema(file)
        faults += [f"missing column {name!r}" for name in types if name not in found]
        faults += [
            f"column {name!r} is {found[name]}, declared {kind}"
            for name, kind in types.items()
            if name in found and found[name] != kind
        ]
    if faults:
        raise BadWarehouse(
            f"{table.name}/dt={valid}",
            f"made from another declaration of the view: {'; '.join(dict.fromkeys(faults))}",
            "make the stale days anew, with the command that funnelcast features ends with",
        )
    return rows
