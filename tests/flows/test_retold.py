"""A restated day keeps the features that its samples have, exactly where they would come out the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_house import copy_house, live, open_house, run
from shop_logs import write_logs

from features.generation import Generation
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from flows.house import House
from flows.stages import exposures, read, sample, view
from flows.stages.completeness import told_until
from flows.stages.retold import standing

DAYS = [date(2026, 4, 7) + timedelta(days=n) for n in range(4)]
TABLE = samples(SCENARIO)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Three days of samples, and all of the fourth but them."""
    root = tmp_path_factory.mktemp("retold")
    write_logs(root / "logs", DAYS)
    house = open_house(root)
    run(house, *DAYS[:3])
    for stage in (read, view):
        stage.run(house, DAYS[3], ())
    return house


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[date, date | None]]:
    """The days whose impressions are met with their views, and after which arrival."""
    told: list[tuple[date, date | None]] = []
    original = sample.exposures

    def listed(house: House, day: date, as_of: date, *, after: date | None = None) -> Iterator[pl.DataFrame]:
        told.append((day, after))
        return original(house, day, as_of, after=after)

    monkeypatch.setattr(sample, "exposures", listed)
    return told


@pytest.mark.parametrize("rows", [exposures.BLOCK, 256])
def test_a_restated_day_has_the_bytes_of_one_that_is_made_anew_though_only_new_impressions_are_asked(
    walked: House,
    tmp_path: Path,
    asked: list[tuple[date, date | None]],
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    monkeypatch.setattr(exposures, "BLOCK", rows)
    kept = copy_house(walked, tmp_path / "kept")
    sample.run(kept, DAYS[3], ())
    # Of the third day, what was delivered since; of the two before it, nothing can be new.
    assert asked == [(DAYS[2], DAYS[2]), (DAYS[3], None)]
    asked.clear()

    anew = copy_house(walked, tmp_path / "anew")
    monkeypatch.setattr(sample, "standing", lambda *_: None)
    sample.run(anew, DAYS[3], ())
    assert asked == [(day, None) for day in DAYS]
    assert live(kept, TABLE) == live(anew, TABLE)

    before, after = (house.store.scan(TABLE, [DAYS[2]]).collect() for house in (walked, kept))
    assert 0 < after.height - before.height <= 64
    assert after.select("exposed_at", "impression_id").equals(
        after.select("exposed_at", "impression_id").sort("exposed_at", "impression_id")
    )
    assert after["y_conversion"].sum() > before["y_conversion"].sum()


def test_more_new_impressions_than_a_block_holds_are_no_reason_to_hold_them_all(
    walked: House, tmp_path: Path, asked: list[tuple[date, date | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposures, "BLOCK", 20)  # 22 are new
    sample.run(copy_house(walked, tmp_path / "copy"), DAYS[3], ())
    assert asked == [(DAYS[2], None), (DAYS[3], None)]


def test_only_later_arrivals_and_curves_leave_the_features_as_they_are(walked: House) -> None:
    day, as_of = DAYS[2], DAYS[3]
    inputs = dict(sample.plan_sample(walked, day, as_of).inputs)

    def found(changed: dict[str, str]) -> Generation | None:
        return standing(walked, day, as_of, changed)

    there = found(inputs)
    assert there is not None
    assert told_until(there) == day
    harmless = {name for name in inputs if found({**inputs, name: "another"}) is not None}
    later = {f"events/{source} {as_of}" for source in ("exposure", "click", "conversion", "refund")}
    later.add("completeness")
    assert harmless == later
    # One that is gone, or is there for the first time, is a change as well.
    assert {name for name in inputs if found({k: v for k, v in inputs.items() if k != name})} == later
    assert found({**inputs, "features/unheard": "of"}) is None


def test_impressions_that_were_known_and_are_others_now_make_the_day_anew(
    walked: House, tmp_path: Path
) -> None:
    house = copy_house(walked, tmp_path / "copy")
    day, told = DAYS[1], DAYS[2]  # its late impressions came with the third day
    inputs = dict(sample.plan_sample(house, day, DAYS[3]).inputs)
    assert standing(house, day, DAYS[3], inputs) is not None
    for arrived, kept in ((day, False), (told, False), (DAYS[3], True)):
        changed = {**inputs, f"events/exposure {arrived}": "another"}
        assert (standing(house, day, DAYS[3], changed) is not None) is kept
    # Samples that know more than is asked for say nothing of what was known then.
    assert standing(house, day, day, inputs) is None


def test_samples_that_rotted_are_not_read_and_are_whole_again_after_the_run(
    walked: House, tmp_path: Path, asked: list[tuple[date, date | None]]
) -> None:
    house = copy_house(walked, tmp_path / "copy")
    (file,) = house.store.snapshot(TABLE).by_day[DAYS[0]]
    (path,) = house.store.paths(TABLE, [file])
    rotten = bytearray(path.read_bytes())
    rotten[len(rotten) // 2] ^= 1
    path.write_bytes(rotten)
    sample.run(house, DAYS[3], ())
    assert (DAYS[0], None) in asked
    whole = copy_house(walked, tmp_path / "whole")
    sample.run(whole, DAYS[3], ())
    assert live(house, TABLE) == live(whole, TABLE)
