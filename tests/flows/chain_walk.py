"""Lines of the shop that differ in how a day is learned, and a warehouse in which they have learned three."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import polars as pl
import pytest
from shop_house import open_house
from shop_house import run as run_stages
from shop_logs import write_logs
from test_sampled_lines import offer, recipe
from torch import Tensor

from features.bookkeeping import METRICS, MODELS
from flows.house import House
from flows.recipes import Recipe
from flows.stages import train
from flows.stages.publish import refresh_catalogue
from flows.stages.record import StageRecord
from flows.stages.replay import Replay
from flows.stages.version import version_of
from models import checkpoint
from models.carry import Reset
from models.handover import Handover
from models.late.naive import Naive

DAYS = [date(2026, 3, 27) + timedelta(days=n) for n in range(3)]
REPLAY = Replay(days=2, fraction=0.25)
HANDOVER = Handover(line="plain", take=(("embedding.", "embedding."), ("embedding_optimizer.",) * 2))
OPTIONS: MappingProxyType[str, dict[str, Any]] = MappingProxyType(
    {
        "plain": {},
        "twice": {"epochs_per_day": 2},
        "replaying": {"replay": REPLAY},
        "forgetful": {"dense_state": Reset(), "embedding_state": Reset()},
        "begun": {"handover": HANDOVER},
        "early": {"late": Naive()},
    }
)
#: Days of a line; one that takes over from another begins after it.
FIRST = {"begun": DAYS[1]}


def made(name: str) -> Recipe:
    return replace(recipe(name), **OPTIONS[name])


@dataclass
class Walk:
    """A warehouse after three days, and what training said."""

    house: House
    learned: dict[tuple[str, date], StageRecord]

    def metrics(self, line: str, day: date) -> pl.DataFrame:
        return self.house.store.scan(METRICS, [day], line=line).collect()

    def state(self, line: str, day: date) -> dict[str, Tensor]:
        version = version_of(self.house, line, day)
        assert version is not None
        return checkpoint.load(version.folder)[0]


def built(root: Path) -> Iterator[Walk]:
    """Three days of the shop, and what every line learned of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in OPTIONS:
            offer(patch, name, partial(made, name))
        write_logs(root / "logs", DAYS)
        house, learned = open_house(root), {}
        run_stages(house, *DAYS)
        for day in DAYS:
            lines = tuple(name for name in OPTIONS if day >= FIRST.get(name, day))
            for record in train.run(house, day, lines):
                if record.table == MODELS.name:
                    learned[record.part, day] = record
        refresh_catalogue(house)
        yield Walk(house, learned)
