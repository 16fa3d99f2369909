"""The shop's warehouse for the cases of the fault list, and what they ask of it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import polars as pl

from features.bookkeeping import METRICS, MODELS, RUNS
from features.fingerprint import file_sha256
from features.scenarios.shop import SCENARIO
from features.schemas import scores
from flows.house import House
from flows.settings import Settings

FIRST, SECOND = date(2026, 3, 27), date(2026, 3, 28)
LINES = ("esmm",)


def open_house(root: Path, memory_limit: str = "1GB") -> House:
    """The house of a folder that holds ``logs`` and ``warehouse``."""
    settings = Settings(
        warehouse=root / "warehouse",
        logs={"shop": root / "logs"},
        scenario="shop",
        threads=2,
        memory_limit=memory_limit,
    )
    return House.open(settings)


def delivery(house: House, source: str, day: date = SECOND) -> Path:
    """The raw file of a source and day."""
    return house.logs / source / f"dt={day}" / "part-0.parquet"


def rewrite(file: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Deliver a file again, changed."""
    change(pl.read_parquet(file)).write_parquet(file)


def tree(house: House) -> dict[str, str]:
    """Every file of the warehouse with its hash, but for the locks."""
    files = (file for file in house.store.root.rglob("*") if file.is_file() and "_locks" not in file.parts)
    return {str(file): file_sha256(file) for file in files}


def published(house: House) -> dict[str, list[date]]:
    """The days that have metrics, a model and scores."""
    return {table.name: list(house.store.days(table)) for table in (METRICS, MODELS, scores(SCENARIO))}


def ledger(house: House) -> list[tuple[str, str]]:
    """State and notes of the runs that did not finish, oldest first."""
    rows = house.store.scan(RUNS).filter(pl.col("state") != "finished").sort("started_at").collect()
    return rows.select("state", "notes").rows()


def nothing_is_left(house: House) -> None:
    """No staged file, nothing spilled."""
    for folder in ("_staging", "_scratch"):
        left = [p for p in (house.store.root / folder).rglob("*") if p.is_file() and p.suffix != ".lock"]
        assert left == []


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writing past this size fails with EFBIG, as a quota does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
