"""Whatever is delivered, a reader reads it whole or refuses it with an error of ours.

A few inputs, the same ones each time, in every run of the tests; thousands, new ones each time, with
``pytest -m slow tests/fuzz -s``.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from fuzz_deliveries import SPOILS, Sound, as_file, schemas, spoiled, told, values, verdict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.errors import CorruptInput
from features.schemas import events
from flows.house import House
from flows.settings import Settings
from flows.stages import read

FEW = settings(
    max_examples=20, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
MANY = settings(FEW, max_examples=1500, derandomize=False)


def spoil(data: st.DataObject, sound: list[Sound]) -> str:
    one = data.draw(st.sampled_from(sound))
    return verdict(
        one, spoiled(one.bytes(), data.draw(SPOILS), data.draw(st.sampled_from([0, 0, 0, 1, 8, 99])))
    )


def reshape(data: st.DataObject, sound: list[Sound]) -> str:
    one = data.draw(st.sampled_from(sound))
    return verdict(one, as_file(data.draw(schemas(one.rows))))


def go_wild(data: st.DataObject, sound: list[Sound]) -> str:
    one = data.draw(st.sampled_from(sound))
    return verdict(one, as_file(data.draw(values(one.rows))))


def test_what_is_sound_is_read(sound: list[Sound]) -> None:
    """Else the tests below would be of readers that refuse everything."""
    assert {(one.scenario, one.source.name): verdict(one, one.bytes()) for one in sound} == {
        (one.scenario, one.source.name): "read" for one in sound
    }


@pytest.mark.parametrize("way", [spoil, reshape, go_wild])
def test_a_delivery_is_read_whole_or_refused_in_our_words(sound: list[Sound], way: object) -> None:
    counts: Counter[str] = Counter()

    @FEW
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        counts[way(data, sound)] += 1  # type: ignore[operator]

    attempt()
    assert sum(counts.values()) >= 12


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("way", [spoil, reshape, go_wild])
def test_thousands_of_deliveries_are_read_whole_or_refused(sound: list[Sound], way: object) -> None:
    counts: Counter[str] = Counter()

    @MANY
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        counts[way(data, sound)] += 1  # type: ignore[operator]

    attempt()
    print(f"{getattr(way, '__name__', way)}: {told(counts)}")
    assert len(counts) > 1  # some are read, some refused


def test_the_file_that_cannot_be_decoded_is_named_among_others(sound: list[Sound], tmp_path: Path) -> None:
    """A footer that is sound over pages that are not: DuckDB says `Out of buffer`, and of no file."""
    one = next(one for one in sound if (one.scenario, one.source.name) == ("shop", "click"))
    folder = tmp_path / "logs" / "click" / f"dt={one.day}"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"part-{number}.parquet").write_bytes(one.bytes())
    broken = bytearray(one.bytes())
    broken[30:60] = bytes(30)
    (folder / "part-1.parquet").write_bytes(broken)
    house = House.open(Settings(warehouse=tmp_path / "w", logs={"shop": tmp_path / "logs"}, scenario="shop"))
    with pytest.raises(
        CorruptInput, match=r"^E403 CorruptInput: \S*part-1\.parquet: .*Next: deliver the file"
    ):
        read.read(house, one.source, one.day)
    assert house.store.days(events(one.source)) == []


def test_a_tag_that_is_no_number_is_refused_with_its_row_not_with_its_day(
    sound: list[Sound], tmp_path: Path
) -> None:
    """Found by the thousands: DuckDB's cast ended the day in an error of no code."""
    one = next(one for one in sound if (one.scenario, one.source.name) == ("kuairand", "item"))
    rows = pl.concat([one.rows.with_columns(pl.col("video_id") + 1000 * n) for n in range(2)])
    for tag, refused in (("39,", {"BAD_NUMBER": 1}), ("39,x", {"BAD_NUMBER": 1}), (None, {}), ("3,9", {})):
        spoiled = rows.with_columns(
            tag=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(tag, pl.String)).otherwise("tag")
        )
        root = tmp_path / f"{tag}"
        (root / "logs").mkdir(parents=True)
        spoiled.write_parquet(root / "logs" / "video_features_basic_pure.parquet")
        house = House.open(Settings(warehouse=root / "w", logs={"kuairand": root / "logs"}))
        assert read.read(house, one.source, one.day)[-1].quarantined == refused, tag
