"""Deliveries that nobody would make: bytes, schemas and values, and what a reader may do with them."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
from hypothesis import strategies as st

from features.bookkeeping import QUARANTINE
from features.errors import FunnelcastError
from features.scenario import Source
from flows.house import House
from flows.settings import Settings
from flows.stages import read
from flows.surroundings import telling

DAYS = {"shop": date(2026, 3, 27), "simulated": date(2026, 1, 5), "kuairand": date(2022, 4, 25)}


@dataclass(frozen=True)
class Sound:
    """Rows as they should be delivered.

    Attributes:
        scenario: whose they are.
        source: which log.
        day: of the delivery.
        rows: some of them.
    """

    scenario: str
    source: Source
    day: date
    rows: pl.DataFrame

    def bytes(self) -> bytes:
        """The file that they would be."""
        file = io.BytesIO()
        self.rows.write_parquet(file)
        return file.getvalue()


def verdict(sound: Sound, content: bytes) -> str:
    """What the reader makes of a file: the code of its error, or ``read`` and every row accounted for.

    Raises:
        AssertionError: a row is lost or made up, or a second look comes to another end.
        Exception: anything that is no error of ours is a fault.
    """
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        file = root / "logs" / sound.source.files.format(day=sound.day).replace("*", "part-0")
        file.parent.mkdir(parents=True)
        file.write_bytes(content)
        told = Settings(
            warehouse=root / "w", logs={sound.scenario: root / "logs"}, scenario=sound.scenario, threads=1
        )
        house = House.open(told)
        try:
            with telling(house, "read"):
                records = read.read(house, sound.source, sound.day)
        except FunnelcastError as error:
            return error.code
        kept = records[-1]
        refused = house.store.scan(QUARANTINE).collect().height
        assert kept.rows_in == kept.rows_out + kept.deduplicated + sum(kept.quarantined.values())
        assert refused == sum(kept.quarantined.values())
        again = read.read(house, sound.source, sound.day)
        assert [one.key for one in again] == [one.key for one in records]
        assert all(one.repeated for one in again)
        return "read"
    finally:
        shutil.rmtree(root)


#: Where, counted from either end, since the footer decides most; how many bytes go; what comes instead.
SPOILS = st.lists(
    st.tuples(st.integers(-400, 400), st.integers(0, 9), st.binary(max_size=9)), min_size=1, max_size=5
)


def spoiled(content: bytes, spoils: list[tuple[int, int, bytes]], cut: int) -> bytes:
    """The bytes with some of them exchanged, taken out or put in, and the last ``cut`` of them gone."""
    found = bytearray(content)
    for place, gone, put in spoils:
        at = place if place >= 0 else max(len(found) + place, 0)
        found[at : at + gone] = put
    return bytes(found[: max(len(found) - cut, 0)])


TYPES: list[Any] = [
    pl.Int8, pl.Int32, pl.Int64, pl.UInt64, pl.Float32, pl.Float64, pl.String, pl.Binary, pl.Boolean, pl.Date,
    pl.Datetime("ms"), pl.Datetime("us", "UTC"), pl.Datetime("ns"), pl.Duration, pl.Time, pl.Categorical,
    pl.List(pl.Int64), pl.Struct({"a": pl.Int64}), pl.Decimal(38, 2), pl.Null,
]  # fmt: skip
NAMES = st.sampled_from(
    ["dt", "user_id", "USER_ID", "verdict", "row_text", "day", "a b", '"', "'; --", "é", ""]
)


@st.composite
def schemas(draw: st.DrawFn, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with columns gone, renamed, of other types, doubled in other spelling, or added."""
    found = rows.head(draw(st.integers(0, 3)))
    for name in found.columns:
        what = draw(st.sampled_from(["stay", "stay", "stay", "stay", "drop", "rename", "retype", "upper"]))
        if what == "drop":
            found = found.drop(name)
        elif what == "rename" and (new := draw(NAMES)) not in found.columns:
            found = found.rename({name: new})
        elif what == "retype":
            found = found.with_columns(pl.lit(None).cast(draw(st.sampled_from(TYPES))).alias(name))
        elif what == "upper" and name.upper() not in found.columns:
            found = found.rename({name: name.upper()})
    if draw(st.booleans()) and (new := draw(NAMES)) not in found.columns:
        found = found.with_columns(pl.lit(None).cast(draw(st.sampled_from(TYPES))).alias(new))
    return found


_WHOLE = [0, 1, -1, 2**31, -(2**31), 2**53 + 1, 2**62, 2**63 - 1, -(2**63), 1_774_566_000, 1_774_566_000_000,
          1_774_566_000_000_000, 946_684_800_000, 4_102_444_800_000]  # fmt: skip
_TEXT = ["", " ", "\x00", "a\x00b", "'", '"', "\n", "\x1b[2J", "0012", "é", "e\u0301", "\U0001f680",
         "x" * 5000, "NaN", "null", "{}", "[]", "2026-03-27"]  # fmt: skip
_REAL = [0.0, -0.0, 1.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e308, 5e-324, 0.5]
_TIMES = [datetime(1, 1, 1), datetime(1970, 1, 1), datetime(2026, 3, 27, 12), datetime(9999, 12, 31)]


def _pool(kind: pl.DataType) -> list[Any]:
    if kind.is_integer():
        low, high = (pl.select(f(kind)).item() for f in (lambda k: k.min(), lambda k: k.max()))
        return [value for value in _WHOLE if low <= value <= high]
    if kind.is_float():
        return _REAL
    if kind == pl.Boolean:
        return [True, False]
    if kind.is_temporal():
        return [value.date() for value in _TIMES] if kind == pl.Date else list(_TIMES)
    if isinstance(kind, pl.List):
        return [[], _pool(kind.inner)[:3]]  # type: ignore[arg-type]
    return _TEXT


@st.composite
def values(draw: st.DrawFn, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of the agreed columns and types whose values are what such types can hold at worst."""
    count = draw(st.integers(1, 12))
    made = {}
    for name, kind in rows.schema.items():
        own = rows[name].drop_nulls().unique(maintain_order=True).to_list()[:6]
        pool = st.one_of(st.sampled_from(own) if own else st.none(), st.sampled_from(_pool(kind)), st.none())
        made[name] = pl.Series(
            name, draw(st.lists(pool, min_size=count, max_size=count)), dtype=kind, strict=False
        )
    return pl.DataFrame(made)


def as_file(rows: pl.DataFrame) -> bytes:
    """The rows as Parquet."""
    file = io.BytesIO()
    rows.write_parquet(file)
    return file.getvalue()


def told(counts: Counter[str]) -> str:
    """How many inputs ended how."""
    return f"{sum(counts.values()):,} inputs: " + ", ".join(f"{k} {n:,}" for k, n in counts.most_common())
