"""Users who stay away give their embedding rows to others: the shop with room for ten of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from shop_logs import write_logs
from torch import Tensor

from features.batches import fresh_rows, training_batches
from features.bookkeeping import ID_MAPS
from features.encode import Layout
from features.encodings import Binned, Category, Hashed
from features.scenario import Scenario
from features.scenarios.shop import SCENARIO
from features.schemas import samples
from features.view import Feature
from flows import recipes
from flows.house import House
from flows.settings import Settings
from flows.stages import calibrate, read, sample, score, train
from flows.stages import view as views
from flows.stages.encode import encoder_of
from flows.stages.version import load, version_of
from models import checkpoint
from models.batch import Batch
from models.train import train_one_pass

DAYS = [date(2026, 4, 7) + timedelta(days=n) for n in range(3)]
LINE = "esmm"
USER = Category(vocabulary="user_id", capacity=12, expire_days=1)
#: The id of the first row of users in the packed table.
FIRST_ROW = 1 + 2


def scenario_of_few() -> Scenario:
    """The shop with a small id map of users, a cross by hash, and prices in learned bins."""
    user, *others = SCENARIO.context
    crossed = Feature(
        name="user_by_surface",
        expr=pl.col("user_id"),
        dtype=pl.Int64(),
        encoding=Hashed(vocabulary="user by surface", buckets=64, by=("surface",)),
        description="The user on this page.",
    )
    profile, *rest = SCENARIO.views
    *attributes, price = profile.features
    binned = replace(price, encoding=Binned(vocabulary="price", bins=4))
    return replace(
        SCENARIO,
        context=(replace(user, encoding=USER), *others, crossed),
        views=(replace(profile, features=(*attributes, binned)), *rest),
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Three days; the line leaves out the second, on which the id maps grow all the same.

    Users of even id are there on the first day alone.
    """
    root = tmp_path_factory.mktemp("few rows")
    settings = Settings(
        warehouse=root / "warehouse",
        logs={"shop": root / "logs"},
        scenario="shop",
        memory_limit="1GB",
        threads=2,
    )
    write_logs(root / "logs", DAYS)
    for day in DAYS[1:]:
        for source in ("exposure", "click", "conversion"):
            for file in (root / "logs" / source / f"dt={day}").iterdir():
                pl.read_parquet(file).filter(pl.col("user_id") % 2 == 1).write_parquet(file)
    house = replace(House.open(settings), scenario=scenario_of_few())
    for day in DAYS:
        for stage in (read, views, sample):
            stage.run(house, day, ())
        train.run(house, day, () if day == DAYS[1] else (LINE,))
    return house


def id_map(house: House, day: date) -> pl.DataFrame:
    return house.store.scan(ID_MAPS, [day]).filter(pl.col("row").is_not_null()).collect()


def owners(house: House, day: date) -> dict[int, int]:
    """Which user owns which row of the vocabulary."""
    return dict(id_map(house, day).filter(pl.col("vocabulary") == "user_id")["row", "id_int"].rows())


def test_rows_of_users_who_stayed_away_for_a_day_belong_to_others(house: House) -> None:
    shown = house.store.scan(samples(SCENARIO)).collect()
    for day in DAYS:
        arrived = shown.filter(
            pl.col("arrived_at").is_between(house.day_start(day), house.watermark(day), closed="left")
        )
        assert set(owners(house, day).values()) <= set(arrived["user_id"].to_list())
        assert set(owners(house, day)) == set(range(2, 12))
    first, second = owners(house, DAYS[0]), owners(house, DAYS[1])
    assert [user % 2 for user in first.values()] == [0, 1] * 5
    assert {row: user for row, user in second.items() if user == first[row]} == {
        row: user for row, user in first.items() if user % 2
    }


def state_of(house: House, day: date) -> dict[str, Tensor]:
    version = version_of(house, LINE, day)
    assert version is not None
    return dict(checkpoint.load(version.folder)[0])


def learned_by_hand(house: House, *, reset: bool) -> dict[str, Tensor]:
    """The third day's pass from the first day's checkpoint, with rows of new owners begun anew or not."""
    recipe, parent, day = recipes.get("shop", LINE), version_of(house, LINE, DAYS[0]), DAYS[2]
    version = version_of(house, LINE, day)
    assert parent is not None
    assert version is not None
    line, fresh = load(house, recipe, parent), load(house, recipe, None)
    assert line.spec.vocabularies == Layout.of(house.scenario.features).ranges
    before, after = owners(house, DAYS[0]), owners(house, day)
    if reset:
        moved = [FIRST_ROW + row - 2 for row, user in after.items() if before[row] != user]
        for name, tensor in line.state().items():
            if name.startswith("embedding"):
                tensor[moved] = fresh.state()[name][moved]
    rows = fresh_rows(
        house.store.scan(samples(house.scenario)).drop("dt"),
        house.scenario,
        parent.watermark,
        house.watermark(day),
    )
    batches = training_batches(
        rows,
        house.scenario,
        encoder_of(house, day, version.id_maps_key),
        batch_rows=recipe.batch_rows,
        window_rows=recipe.window_rows,
        seed=int(np.random.SeedSequence([recipe.seed, day.toordinal()]).generate_state(1)[0]),
    )
    torch.set_num_threads(1)
    train_one_pass(line, map(Batch.from_numpy, batches))
    return line.state()


def test_a_row_begins_anew_before_it_learns_of_its_new_owner(house: House) -> None:
    trained = state_of(house, DAYS[2])
    by_hand, kept = learned_by_hand(house, reset=True), learned_by_hand(house, reset=False)
    assert trained.keys() == by_hand.keys()
    assert [name for name in trained if not torch.equal(trained[name], by_hand[name])] == []
    assert not torch.equal(trained["embedding.weight_RD"], kept["embedding.weight_RD"])


def test_learned_bins_and_old_versions_of_the_maps_stay(house: House) -> None:
    edges = [id_map(house, day).filter(pl.col("edge").is_not_null()).drop("dt") for day in DAYS]
    assert [one.height for one in edges] == [0, 3, 3]  # the first day's catalogue is known from the second on
    assert edges[2].equals(edges[1])
    assert owners(house, DAYS[0]) != owners(house, DAYS[2])


def test_a_day_is_scored_with_hashed_binned_and_expiring_ids(house: House, tmp_path: Path) -> None:
    calibrate.run(house, DAYS[2], (LINE,))
    (scored,) = (record for record in score.run(house, DAYS[2], (LINE,)) if record.table == "scores")
    assert scored.rows_out > 0
