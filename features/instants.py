"""Instants of any unit and zone as integers: microseconds since 1970 in UTC."""

from __future__ import annotations

import polars as pl

from features.errors import SchemaDrift

_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}


def microseconds(column: str, dtype: pl.DataType, *, up: bool) -> pl.Expr:
    """An Int64 expression of a column of instants; null stays null.

    A zone changes how an instant is written, not when it is; one without a zone is UTC. Nanoseconds are
    rounded, since a cast would round to the nearest microsecond or towards zero, which differs before 1970.

    Args:
        column: name of the column.
        dtype: its type.
        up: round up, as the time at which something became known must be; else down.

    Raises:
        SchemaDrift: the column holds no instants. A date is a day, which begins somewhere else in every
            zone, and text has no one reading.
    """
    if not isinstance(dtype, pl.Datetime):
        raise SchemaDrift(
            f"column {column!r}", f"{dtype} where an instant is needed", "convert it to a Datetime in UTC"
        )
    ticks = pl.col(column).to_physical()
    per_microsecond = _PER_SECOND[dtype.time_unit] // 10**6
    if per_microsecond == 0:
        return ticks * (10**6 // _PER_SECOND[dtype.time_unit])
    return -(-ticks // per_microsecond) if up else ticks // per_microsecond
