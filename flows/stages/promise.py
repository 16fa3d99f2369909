"""Hold staged partitions to the promises of their table before they are committed."""

from __future__ import annotations

from collections.abc import Iterable

from features.bookkeeping import METRICS, RUNS
from features.errors import BrokenPromise
from features.promises import Offence, broken
from features.schemas import samples, scores
from features.staging import Staged
from features.tables import Table
from flows.house import House


def hold(house: House, table: Table, staged: Iterable[Staged]) -> None:
    """Run every check of the table over the staged files.

    Raises:
        BrokenPromise: a check selected offenders; names it, their number and the first of them.
    """
    folder = house.store.folder(table)
    files = [folder / str(file.path) for part in staged for file in part.files]
    offences = broken(table.name, files, house.scenario.funnel, house.limits)
    if offences:
        first = offences[0]
        raise BrokenPromise(
            f"table {table.name}, check {first.check}",
            f"{first.offenders} rows break the promise that {first.promise}; first: {first.examples[0]}",
            "nothing was committed; correct the input or the code and run the day again",
        )


def check_published(house: House) -> list[Offence]:
    """Hold everything that is live to its promises."""
    found: list[Offence] = []
    for table in (samples(house.scenario), scores(house.scenario), METRICS, RUNS):
        snapshot = house.store.snapshot(table)
        files = house.store.paths(table, snapshot.files)
        found += broken(table.name, files, house.scenario.funnel, house.limits)
    return found
