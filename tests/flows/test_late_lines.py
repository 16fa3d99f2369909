"""Lines that read conversions while they may still come, through the stages of a small simulated funnel."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial
from importlib import import_module
from pathlib import Path

import polars as pl
import pytest

from features.bookkeeping import METRICS, MODELS
from features.errors import UsageError
from features.funnel import Funnel
from features.sampling.negative_down import NegativeDown
from features.sampling.oversampling import Oversampling
from features.scenarios import simulated
from features.schemas import COMPLETENESS, samples
from features.simulation import Simulation, SimulationSettings
from features.simulation.delays import known_share
from features.validation.foretold import FORETOLD
from flows import recipes
from flows.house import House
from flows.recipes import Recipe
from flows.recipes import simulated as lines
from flows.settings import Settings
from flows.stages import foretold, read, sample, train, view
from flows.stages.late import begun, lesson_rows
from flows.stages.version import version_of
from models.balancing.static import Static
from models.entire_space.esmm import ESMM
from models.entire_space.masked import Masked
from models.entire_space.nise import NISE
from models.late.base import Late
from models.late.es_dfm import ESDFM
from models.late.likelihood import Likelihood
from models.late.naive import Naive
from models.late.soft_label import SoftLabel
from models.late.wait import Wait
from models.towers import Towers

WORLD = SimulationSettings(
    impressions=600, users=60, items=20, ctr=0.4, cvr=0.5, horizon_days=1, quick=0.3, seed=4
)
DAYS = [WORLD.start + timedelta(days=n) for n in range(5)]
#: A conversion counts for a day: what is shown on the first day is final on the third, and known as F on the
#: fourth.
CLICK, CONVERSION = simulated.FUNNEL.objectives
SHORT = replace(CONVERSION, window=timedelta(days=1))
FUNNEL = Funnel((CLICK, SHORT), click="click", conversion="conversion")
SCENARIO = replace(simulated.SCENARIO, funnel=FUNNEL)
BEGINS = DAYS[3]
LINES: dict[str, Late] = {
    "waits": Wait(),
    "naive": Naive(),
    "es_dfm": ESDFM(),
    "soft": SoftLabel(floor=0.4),
}


def recipe(name: str, late: Late) -> Recipe:
    return Recipe(
        name=name,
        description="For a test.",
        architecture=partial(Towers, layers=(8,)),
        method=ESMM(),
        balancer=Static,
        late=late,
        dim=4,
        batch_rows=64,
        window_rows=500,
    )


class Walk:
    """A warehouse after all days, and what every line learned on each: rows by objective."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        for name, late in LINES.items():
            made = partial(recipe, name, late)

            def line(made: partial[Recipe] = made) -> Recipe:
                return made()

            line.__module__ = lines.__name__
            patch.setattr(lines, name, line, raising=False)
        Simulation(WORLD).write(root / "logs", DAYS)
        settings = Settings(
            warehouse=root / "warehouse", logs={"simulated": root / "logs"}, scenario="simulated", threads=1
        )
        self.house = replace(House.open(settings), scenario=SCENARIO)
        self.learned: dict[tuple[str, date], dict[str, int]] = {}
        self.told: dict[tuple[str, date], dict[str, dict[str, int]]] = {}
        for day in DAYS:
            for stage in (read, view, sample):
                stage.run(self.house, day, ())
            for record in train.run(self.house, day, tuple(LINES)):
                if record.table == MODELS.name:
                    self.learned[str(record.part), day] = record.notes["trained"]  # type: ignore[assignment]
                    self.told[str(record.part), day] = record.notes.get("late", {})  # type: ignore[assignment]

    def counted(self, day: date, *, early: bool, since: datetime | None = None) -> int:
        """Impressions whose conversion is read on a day: early, or when final if it was to be read before."""
        begins, ends = self.house.day_start(day), self.house.watermark(day)
        count = 0
        for exposed, arrived in self.rows.select("exposed_at", "arrived_at").rows():
            parent = max(exposed + CLICK.window + SCENARIO.lateness, arrived)
            final = max(exposed + CLICK.window + timedelta(days=1) + SCENARIO.lateness, arrived)
            if early:
                count += begins <= parent < ends
            else:
                count += begins <= final < ends and (since is None or parent < since)
        return count

    @property
    def rows(self) -> pl.DataFrame:
        return self.house.store.scan(samples(SCENARIO)).collect()

    def weights(self, line: str, day: date) -> Path:
        version = version_of(self.house, line, day)
        assert version is not None
        return version.folder / "model.safetensors"


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with pytest.MonkeyPatch.context() as patch:
        yield Walk(tmp_path_factory.mktemp("late"), patch)


def test_clicks_have_the_clock_of_before_and_conversions_that_of_their_policy(walk: Walk) -> None:
    assert walk.house.store.days(COMPLETENESS) == [BEGINS, DAYS[4]]
    for day in DAYS:
        clicks = walk.counted(day, early=True)  # a conversion is read first when its click is final
        for line in LINES:
            assert walk.learned[line, day]["click"] == clicks > 300
        assert walk.learned["naive", day]["conversion"] == clicks
        assert walk.learned["waits", day]["conversion"] == walk.counted(day, early=False)
    for day in DAYS[:3]:  # nothing is known of F yet: labels wait
        assert walk.learned["soft", day] == walk.learned["waits", day]
    begun = walk.house.day_start(BEGINS)
    for day in DAYS[3:]:
        expected = walk.counted(day, early=True) + walk.counted(day, early=False, since=begun)
        assert walk.learned["soft", day]["conversion"] == expected
    # what was read early and converted by the next day comes again
    late = walk.learned["es_dfm", DAYS[4]]["conversion"] - walk.learned["soft", DAYS[4]]["conversion"]
    since, until = walk.house.watermark(BEGINS), walk.house.watermark(DAYS[4])
    turned = walk.rows.filter(
        pl.col("conversion_known_at").is_between(since, until, closed="left"),
        pl.max_horizontal(pl.col("exposed_at") + CLICK.window + SCENARIO.lateness, "arrived_at").is_between(
            begun, since, closed="left"
        ),
    )
    assert late == turned.height > 20
    told = walk.told["es_dfm", DAYS[4]]["conversion"]
    assert told["again"] == late
    assert told["open"] == walk.counted(DAYS[4], early=True) + late
    assert walk.told["waits", DAYS[4]] == {}
    clipped = walk.told["soft", DAYS[4]]["conversion"]
    assert 0 < clipped["clipped"] < clipped["positives"] == told["positives"] - late


def test_conversions_are_judged_by_a_version_that_had_read_none_of_them(walk: Walk) -> None:
    for line in LINES:
        found = (
            walk.house.store.scan(METRICS, DAYS[4:], line=line)
            .filter(metric="log_loss", space="impressions", slice="all")
            .select("objective", "model_version", "rows")
            .collect()
        )
        told = {objective: (version, rows) for objective, version, rows in found.rows()}
        before = DAYS[3] if line == "waits" else DAYS[2]
        for objective, day in (("click", DAYS[3]), ("conversion", before)):
            judge = version_of(walk.house, line, day)
            assert judge is not None
            assert told[objective][0] == judge.version
        assert told["conversion"][1] == walk.counted(DAYS[4], early=False)


def test_a_finished_day_changes_nothing_and_a_lost_checkpoint_comes_back_to_the_bit(walk: Walk) -> None:
    assert not train.pending(walk.house, DAYS[4], tuple(LINES))
    files = {line: walk.weights(line, DAYS[4]) for line in LINES}
    before = {line: file.read_bytes() for line, file in files.items()}
    assert len(set(before.values())) == len(LINES)
    for file in files.values():
        shutil.rmtree(file.parent)
    assert train.pending(walk.house, DAYS[4], tuple(LINES))
    train.run(walk.house, DAYS[4], tuple(LINES))
    assert {line: file.read_bytes() for line, file in files.items()} == before


def test_a_line_that_comes_to_read_early_begins_with_its_parents_watermark(walk: Walk) -> None:
    """What it would have read before was never read early: it is learned once, when it is final."""
    since = walk.house.watermark(DAYS[3])
    assert begun(walk.house, DAYS[4], recipe("naive", Naive()), since) == walk.house.day_start(DAYS[3])
    assert begun(walk.house, DAYS[4], recipe("naive", Naive(hours=3)), since) == since
    assert begun(walk.house, DAYS[4], recipe("waits", ESDFM()), since) == since
    known = walk.house.store.scan(samples(SCENARIO)).drop("dt")
    switched = lesson_rows(walk.house, DAYS[4], recipe("waits", ESDFM()), known, since, since).collect()
    order = switched.filter("trains_conversion")
    assert not order["again_conversion"].any()
    assert order["open_conversion"].sum() == walk.counted(DAYS[4], early=True)
    assert order.height == walk.counted(DAYS[4], early=True) + walk.counted(DAYS[4], early=False)


def test_a_line_that_waits_is_the_line_of_before() -> None:
    assert "late" not in recipe("mine", Wait()).settings()
    assert recipe("mine", Likelihood(hours=6)).settings()["late"] == {
        "call": "models.late.likelihood.Likelihood",
        "hours": 6,
    }


def test_what_does_not_go_with_open_labels_is_refused_by_name() -> None:
    good = recipe("mine", Naive())
    with pytest.raises(UsageError, match=r"^E201 .*'mine'.*late=Naive .*the method NISE.*late=Wait\(\)"):
        replace(good, method=NISE())
    with pytest.raises(UsageError, match=r"^E201 .*'mine'.*sampling NegativeDown decides by labels"):
        replace(good, sampling=NegativeDown(objectives=("click",), rate=0.5))


def test_what_f_promised_of_a_young_day_is_held_to_what_was_seen(walk: Walk) -> None:
    """The day on which F begins is final two days later: its first day's promise is held to it."""
    assert foretold.run(walk.house, DAYS[4]) == ()  # F had promised nothing of the day that is final now
    later = DAYS[4] + timedelta(days=1)
    assert SCENARIO.restated_days == 2
    Simulation(WORLD).write(walk.house.logs, [later])
    for stage in (read, view, sample):
        stage.run(walk.house, later, ())
    assert foretold.pending(walk.house, later)
    (record,) = foretold.run(walk.house, later)
    assert not foretold.pending(walk.house, later)
    found = walk.house.store.scan(FORETOLD, [later]).collect()
    assert set(found.select("objective", "age_days", "exposed_on").rows()) == {("conversion", 1, BEGINS)}
    (whole,) = found.filter(pl.col("segment").is_null()).rows(named=True)
    day = walk.rows.filter(dt=BEGINS, y_conversion=1)
    known = day.filter(pl.col("conversion_known_at") < walk.house.watermark(BEGINS))
    assert (whole["positives"], whole["seen"]) == (day.height, known.height)
    # what the simulation itself says of clicks of that age
    true = sum(
        known_share(WORLD, int(category[1:]), (walk.house.watermark(BEGINS) - clicked).total_seconds())
        for category, clicked in day.select("category", "click_at").rows()
    )
    assert whole["foretold"] == pytest.approx(true, rel=0.15)
    parts = found.filter(pl.col("segment").is_not_null())
    assert parts["seen"].sum() == known.height
    assert parts["foretold"].sum() == pytest.approx(whole["foretold"])
    assert record.notes["exposed_on"] == str(BEGINS)


@pytest.mark.parametrize(
    ("scenario", "said", "expected"),
    [
        ("simulated", {}, ESDFM),  # seven days
        ("simulated", {"late": Wait()}, Wait),
        ("simulated", {"late": Naive()}, Naive),
        ("simulated", {"method": NISE()}, Wait),
        ("simulated", {"method": Masked(), "sampling": Oversampling(objective="conversion", factor=2)}, Wait),
        ("shop", {}, Wait),  # two days
        ("kuairand", {}, Wait),  # none
    ],
)
def test_what_a_recipe_does_not_say_of_late_labels_follows_from_how_long_they_are_open(
    monkeypatch: pytest.MonkeyPatch, scenario: str, said: dict[str, object], expected: type[Late]
) -> None:
    module = import_module(f"flows.recipes.{scenario}")

    def mine() -> Recipe:
        return replace(module.esmm(), name="mine", **said)

    mine.__module__ = module.__name__
    monkeypatch.setattr(module, "mine", mine, raising=False)
    assert type(recipes.get(scenario, "mine").late) is expected
