"""A delivery that is not what was agreed stops with an error that names file, column and remedy."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import duckdb
import polars as pl
import pytest

from features.contracts import check_raw, raw_files
from features.errors import CorruptInput, MissingLog, SchemaDrift
from features.scenarios.shop import SCENARIO

DAY = date(2026, 3, 28)
CLICK = SCENARIO.source("click")
GOOD = pl.DataFrame(
    {"click_id": ["c"], "exposure_id": ["e"], "user_id": [1], "sku": ["a"], "ts_s": [1_774_700_000]}
)


def deliver(root: Path, frame: pl.DataFrame = GOOD, name: str = "part-0.parquet") -> Path:
    file = root / "click" / f"dt={DAY}" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(file)
    return file


def check(root: Path) -> dict[str, tuple[str, ...]]:
    with duckdb.connect() as connection:
        return check_raw(connection, CLICK, raw_files(CLICK, root, DAY))


def test_a_delivery_as_agreed_passes(tmp_path: Path) -> None:
    deliver(tmp_path)
    assert check(tmp_path) == {}


def test_the_order_of_the_columns_does_not_matter(tmp_path: Path) -> None:
    deliver(tmp_path, GOOD.select(reversed(GOOD.columns)))
    assert check(tmp_path) == {}


def test_a_missing_day_names_the_pattern_that_found_nothing(tmp_path: Path) -> None:
    with pytest.raises(MissingLog, match=rf"E401 .*click of 2026-03-28.*click/dt={DAY}.*Next: deliver"):
        raw_files(CLICK, tmp_path, DAY)


def test_files_that_are_still_being_written_are_left_out(tmp_path: Path) -> None:
    deliver(tmp_path, name=".part-0.parquet")
    deliver(tmp_path, name="_part-0.parquet")
    with pytest.raises(MissingLog):
        raw_files(CLICK, tmp_path, DAY)
    wanted = [deliver(tmp_path, name="part-1.parquet"), deliver(tmp_path, name="part-2.parquet")]
    assert raw_files(CLICK, tmp_path, DAY) == wanted


def test_a_file_without_bytes_is_corrupt(tmp_path: Path) -> None:
    deliver(tmp_path).write_bytes(b"")
    with pytest.raises(CorruptInput, match=r"E403 .*part-0\.parquet.*deliver the file again"):
        check(tmp_path)


@pytest.mark.parametrize("kept", [4, 50, -1])
def test_a_truncated_file_is_corrupt(tmp_path: Path, kept: int) -> None:
    file = deliver(tmp_path)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(CorruptInput, match=r"part-0\.parquet"):
        check(tmp_path)


def test_a_file_that_is_no_parquet_is_corrupt(tmp_path: Path) -> None:
    deliver(tmp_path).write_text("click_id,user_id\n" * 20)
    with pytest.raises(CorruptInput):
        check(tmp_path)


def test_a_missing_column_is_named_with_its_type(tmp_path: Path) -> None:
    deliver(tmp_path, GOOD.drop("ts_s"))
    with pytest.raises(SchemaDrift, match=r"E404 .*column 'ts_s': missing, expected BIGINT\. Next"):
        check(tmp_path)


def test_a_renamed_column_is_guessed(tmp_path: Path) -> None:
    deliver(tmp_path, GOOD.rename({"user_id": "userid"}))
    with pytest.raises(
        SchemaDrift, match=r"'user_id': missing, expected BIGINT; did 'userid' take its place\?"
    ):
        check(tmp_path)


def test_a_column_that_has_its_own_place_is_no_guess(tmp_path: Path) -> None:
    """``exposure_id`` looks like ``user_id``, but it is a column of the contract itself."""
    deliver(tmp_path, GOOD.drop("user_id"))
    with pytest.raises(SchemaDrift, match=r"'user_id': missing, expected BIGINT\. Next"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("column", "kind", "found"),
    [
        ("user_id", pl.String(), "VARCHAR"),
        ("ts_s", pl.Float64(), "DOUBLE"),
        ("user_id", pl.Int32(), "INTEGER"),
    ],
)
def test_a_column_of_another_type_is_never_cast(
    tmp_path: Path, column: str, kind: pl.DataType, found: str
) -> None:
    deliver(tmp_path, GOOD.cast({column: kind}))
    with pytest.raises(SchemaDrift, match=rf"column '{column}': type {found}, expected BIGINT"):
        check(tmp_path)


def test_every_file_of_a_delivery_is_held_to_the_contract(tmp_path: Path) -> None:
    deliver(tmp_path)
    deliver(tmp_path, GOOD.cast({"user_id": pl.String()}), "part-1.parquet")
    with pytest.raises(SchemaDrift, match=r"part-1\.parquet"):
        check(tmp_path)


def test_a_column_that_nobody_reads_is_a_warning(tmp_path: Path) -> None:
    deliver(tmp_path, GOOD.with_columns(colour=pl.lit("red"), agent=pl.lit("x")))
    assert check(tmp_path) == {"part-0.parquet": ("agent", "colour")}
