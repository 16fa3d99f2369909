"""Lines with a sampling policy through the days of the shop: what they learn from, and what they publish."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from shop_logs import write_logs

from features.bookkeeping import METRICS, MODELS
from features.errors import UsageError
from features.sampling.aman import AMAN
from features.sampling.base import Sampling
from features.sampling.everything import Everything
from features.sampling.negative_down import NegativeDown
from features.sampling.oversampling import Oversampling
from features.sampling.unbias import Unbias
from flows import recipes
from flows.house import House
from flows.recipes import Recipe, shop
from flows.settings import Settings
from flows.stages import read, sample, train
from flows.stages import view as views
from flows.stages.record import StageRecord
from models.balancing.static import Static
from models.entire_space.base import EntireSpace
from models.entire_space.division import Division
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.towers import Towers

DAYS = [date(2026, 3, 23) + timedelta(days=n) for n in range(4)]
LINES: dict[str, tuple[EntireSpace, Sampling]] = {
    "joint": (ESMM(), Everything()),
    "thinned": (ESMM(), NegativeDown(objectives=("click",), rate=0.2)),
    "masked": (Masked(), Everything()),
    "aman": (Masked(), AMAN(objective="conversion", rate=1.0)),
    "oversampled": (Masked(), Oversampling(objective="conversion", factor=3)),
    "unbiased": (Masked(), Unbias(objective="conversion", floor=0.05)),
}


def recipe(
    name: str, method: EntireSpace = LINES["joint"][0], sampling: Sampling = LINES["joint"][1]
) -> Recipe:
    return Recipe(
        name=name,
        description="For a test.",
        architecture=partial(Towers, layers=(8,)),
        method=method,
        balancer=Static,
        sampling=sampling,
        dim=4,
        batch_rows=64,
        window_rows=700,
        dense_rate=1e-2,
        averaging=0.98,
    )


def offer(patch: pytest.MonkeyPatch, name: str, made: Callable[[], Recipe]) -> None:
    """Put a line among those of the shop."""

    def line() -> Recipe:
        return made()

    line.__module__ = shop.__name__
    patch.setattr(shop, name, line, raising=False)


class Walk:
    """A warehouse after all days, and what the training of every line and day said."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        for name in [name for name in os.environ if name.startswith("FUNNELCAST_")]:
            patch.delenv(name)
        for name, (method, sampling) in LINES.items():
            offer(patch, name, partial(recipe, name, method, sampling))
        settings = Settings(
            warehouse=root / "warehouse",
            logs={"shop": root / "logs"},
            scenario="shop",
            memory_limit="1GB",
            threads=2,
        )
        write_logs(root / "logs", DAYS)
        self.house = House.open(settings)
        self.learned: dict[tuple[str, date], StageRecord] = {}
        for day in DAYS:
            for stage in (read, views, sample):
                stage.run(self.house, day, ())
            for record in self.train(day):
                self.learned[record.part, day] = record

    def train(self, day: date) -> list[StageRecord]:
        made = train.run(self.house, day, tuple(LINES))
        return [record for record in made if record.table == MODELS.name]

    def trained(self, line: str, day: date, objective: str) -> int:
        return int(self.learned[line, day].notes["trained"][objective])  # type: ignore[index]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Walk(tmp_path_factory.mktemp("sampled"), patch)


def conversions(walk: Walk, day: date) -> tuple[int, int]:
    """Rows and positives that the metrics of a day were measured on, in the space of clicks."""
    row = (
        walk.house.store.scan(METRICS, [day], line="masked")
        .filter(objective="conversion", space="given_click", slice="all", metric="auc")
        .select("rows", "positives")
        .collect()
        .row(0)
    )
    return int(row[0]), int(row[1])


def test_every_policy_hands_each_objective_the_rows_that_it_says(walk: Walk) -> None:
    for day in DAYS:
        for line in ("masked", "aman", "oversampled", "unbiased"):
            assert walk.trained(line, day, "click") == walk.trained("joint", day, "click") > 1_000
    for day in DAYS[-2:]:  # conversions are known two days after their clicks
        rows, positives = conversions(walk, day)
        assert walk.trained("masked", day, "conversion") == rows
        assert walk.trained("oversampled", day, "conversion") == rows + 2 * positives
        assert positives > 0
        # at a rate of 1, all impressions are in the space of conversions, as they are for ESMM
        assert (
            walk.trained("aman", day, "conversion") == walk.trained("joint", day, "conversion") > 5 * rows / 2
        )
        assert 0 < walk.trained("unbiased", day, "conversion") < 0.9 * rows


def test_thinned_negatives_leave_about_the_share_that_was_declared(walk: Walk) -> None:
    for day in DAYS[1:]:
        ((rows, positives),) = (
            walk.house.store.scan(METRICS, [day], line="joint")
            .filter(objective="click", space="impressions", slice="all", metric="auc")
            .select("rows", "positives")
            .collect()
            .rows()
        )
        negatives = walk.trained("thinned", day, "click") - positives
        # five standard deviations of some 1,300 draws
        assert negatives == pytest.approx(0.2 * (rows - positives), abs=5 * (0.16 * rows) ** 0.5)


def test_a_line_of_thinned_negatives_publishes_the_rates_of_the_logs(walk: Walk) -> None:
    """Without the shift it would predict clicks several times too often."""
    found = (
        walk.house.store.scan(METRICS, DAYS[-1:])
        .filter(objective="click", space="impressions", slice="all", metric="pcoc")
        .filter(pl.col("line").is_in(["joint", "thinned"]))
        .select("line", "value")
        .collect()
    )
    for line, pcoc in found.rows():
        assert pcoc == pytest.approx(1, abs=0.25), line
    assert found.height == 2


def test_the_rate_stands_in_the_table_of_models(walk: Walk) -> None:
    told = walk.house.store.scan(MODELS, DAYS[-1:], line="thinned").select("recipe").collect().item()
    assert json.loads(told)["sampling"] == {
        "call": "features.sampling.negative_down.NegativeDown",
        "objectives": ["click"],
        "rate": 0.2,
    }


def test_a_lost_checkpoint_comes_back_with_the_same_bytes(walk: Walk) -> None:
    """Also where the rows are drawn by the propensities of the model before."""
    paths = {
        line: walk.house.store.root
        / walk.house.store.scan(MODELS, DAYS[-1:], line=line).select("checkpoint").collect().item()
        for line in LINES
    }
    before = {line: (path / "model.safetensors").read_bytes() for line, path in paths.items()}
    for path in paths.values():
        shutil.rmtree(path)
    walk.train(DAYS[-1])
    assert {line: (path / "model.safetensors").read_bytes() for line, path in paths.items()} == before
    assert len(set(before.values())) == len(LINES)


@pytest.mark.parametrize("line", ["aman", "oversampled", "unbiased"])
def test_a_policy_for_own_spaces_is_refused_with_a_method_of_the_entire_space(line: str) -> None:
    with pytest.raises(
        UsageError, match=r"^E201 .*recipe 'mine'.*own space, and the method ESMM .*such as Masked"
    ):
        recipe("mine", ESMM(), LINES[line][1])


@pytest.mark.parametrize(
    ("method", "objective", "message"),
    [
        (ESMM(), "conversion", r"'conversion' is given 'click'.*down-sample 'click'"),
        (Division(), "click", r"NegativeDown changes the odds .* Division cannot"),
    ],
)
def test_odds_that_funnel_or_method_cannot_put_right_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, method: EntireSpace, objective: str, message: str
) -> None:
    offer(
        monkeypatch,
        "mine",
        lambda: recipe("mine", method, NegativeDown(objectives=(objective,), rate=0.5)),
    )
    with pytest.raises(UsageError, match=message):
        recipes.get("shop", "mine")
    assert recipes.get("shop", "ple").sampling == Everything()
