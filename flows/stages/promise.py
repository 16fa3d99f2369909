"""Hold staged partitions to the contract and the promises of their table before they are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from features.bookkeeping import CALIBRATION, CALIBRATORS, ID_MAPS, METRICS, MODELS, QUARANTINE, RUNS
from features.calendar import days_between
from features.errors import BrokenPromise
from features.promises import Offence, Relation, broken, reads
from features.promotion import GATE, PROMOTIONS
from features.scenario import Source
from features.schemas import COMPLETENESS, events, rollup, samples, scores
from features.schemas import view as view_table
from features.staging import Staged
from features.tables import Table
from features.validation.bands import QUALITY
from features.validation.contract import BLOCK, breaches
from features.validation.drift import DRIFT
from features.validation.foretold import FORETOLD
from features.validation.leakage import copies
from features.validation.tables import contract
from features.validation.thinning import Thinned
from flows.house import House

_STEP = "nothing was committed; correct the input or the code and run the day again"


def hold(house: House, table: Table, staged: Iterable[Staged]) -> None:
    """Hold staged files to every rule and every check of their table, and samples to telling no label.

    Raises:
        BrokenPromise: names the table, the rule or check, the number of offenders and the first of them.
    """
    parts = list(staged)
    days = sorted({part.partition.day for part in parts})
    thinned: list[Thinned] = []
    rows = _passing(house, table, parts, thinned)
    if found := breaches(contract(table, house.scenario), rows, ("quarantine", "fail")):
        first = found[0]
        raise BrokenPromise(
            f"table {table.name}, rule {first.rule}",
            f"{first.rows} rows break the rule that {first.says}; first: {first.example}",
            _STEP,
        )
    if offences := _broken(house, table, _paths(house, table, parts), days):
        told = offences[0]
        raise BrokenPromise(
            f"table {table.name}, check {told.check}",
            f"{told.offenders} rows break the promise that {told.promise}; first: {told.examples[0]}",
            _STEP,
        )
    for kept in thinned:
        _refuse_leaks(house, table, kept.rows)


def check_published(house: House) -> list[Offence]:
    """Hold everything that is live to its contract and its promises."""
    found: list[Offence] = []
    for table in tables(house):
        live = house.store.snapshot(table)
        if not live.files:
            continue
        told = contract(table, house.scenario)
        found += [
            Offence(f"contract of {table.name}: {breach.rule}", breach.says, breach.rows, (breach.example,))
            for breach in breaches(told, blocks(house.store.scan(table)), ("quarantine", "fail"))
        ]
        files = house.store.intact(table, live.files)
        found += _broken(house, table, files, house.store.days(table))
    return found


def tables(house: House) -> tuple[Table, ...]:
    """Every table of the scenario."""
    scenario = house.scenario
    log = (scenario.candidates_log,) if scenario.candidates_log else ()
    return (
        *(events(source) for source in (*scenario.sources, *log)),
        *(rollup(declared, scenario) for declared in scenario.rollups),
        *(view_table(view, scenario) for view in scenario.views),
        samples(scenario),
        scores(scenario),
        *(COMPLETENESS, FORETOLD, ID_MAPS, MODELS, METRICS, GATE, PROMOTIONS, CALIBRATION, CALIBRATORS),
        *(DRIFT, QUALITY, QUARANTINE, RUNS),
    )


def _broken(house: House, table: Table, files: Sequence[Path], days: Sequence[date]) -> tuple[Offence, ...]:
    relations = {name: _RELATIONS[name](house, days) for name in reads(table.name)}
    return broken(table.name, files, house.scenario.funnel, house.limits, relations=relations)


def _passing(
    house: House, table: Table, parts: Iterable[Staged], thinned: list[Thinned]
) -> Iterator[pl.DataFrame]:
    """The rows of all parts in blocks; of samples, ``thinned`` gets those in which leaks are looked for.

    Files are read once for both.
    """
    scenario = house.scenario
    known = dict.fromkeys(f.name for f in scenario.features)
    labels = (column for o in scenario.funnel for column in (o.label, o.space))
    told = (*known, *labels)
    for part in parts:
        rows = blocks(scan(house, table, [part]))
        if table.name == samples(scenario).name:
            thinned.append(Thinned(sum(file.rows for file in part.files), told))
            rows = thinned[-1].watch(rows)
        yield from rows


def _refuse_leaks(house: House, table: Table, part: pl.DataFrame) -> None:
    """Refuse samples of a day of which one column is a label by another name; ``part`` is some of them."""
    scenario = house.scenario
    if part.is_empty():
        return
    if leaks := copies(scenario.features, scenario.funnel, part):
        first = leaks[0]
        raise BrokenPromise(
            f"table {table.name}, feature {first.feature}",
            f"it alone tells the {first.positives} positives of {first.objective} among {first.rows} rows "
            "from the others without an error, so it was made from the label",
            "read what was known before the exposure, or drop the feature; nothing was committed",
        )


def scan(house: House, table: Table, staged: Iterable[Staged]) -> pl.LazyFrame:
    """Rows of staged partitions, with the partition columns last."""
    empty = pl.DataFrame(table.all_columns.empty_table())
    files = _paths(house, table, staged)
    if not files:
        return empty.lazy()
    return pl.scan_parquet(
        files,
        glob=False,
        hive_partitioning=True,
        hive_schema={name: empty.schema[name] for name in table.partition_by},
    )


def blocks(rows: pl.LazyFrame) -> Iterator[pl.DataFrame]:
    """The rows in order, one block in memory at a time."""
    return iter(rows.collect_batches(chunk_size=BLOCK, maintain_order=True, engine="streaming"))


def _paths(house: House, table: Table, staged: Iterable[Staged]) -> list[Path]:
    folder = house.store.folder(table)
    return [folder / str(file.path) for part in staged for file in part.files]


def _impressions(house: House, days: Sequence[date]) -> Relation:
    """Impressions that may lie on one of the days, whenever they arrived."""
    source = house.scenario.impressions
    until = max(days) + timedelta(days=source.late_days)
    files = _files(house, source, days_between(min(days), until))
    columns = "impression_id, user_id, item_id, exposed_at"
    return Relation(source.schema, ((files, columns),), once=False)


def _models(house: House, days: Sequence[date]) -> Relation:
    del days
    files = house.store.intact(MODELS, house.store.snapshot(MODELS).files)
    return Relation(MODELS.all_columns, ((files, "line, model_version"),))


def _candidate_users(house: House, days: Sequence[date]) -> Relation:
    rule = house.scenario.candidates
    return _candidates(house, days, "user_id", house.scenario.impressions, rule.user_days)


def _candidate_items(house: House, days: Sequence[date]) -> Relation:
    scenario = house.scenario
    clicks = scenario.source(scenario.funnel[scenario.funnel.click].log)
    return _candidates(house, days, "item_id", clicks, scenario.candidates.item_days)


def _candidates(house: House, days: Sequence[date], key: str, source: Source, back: int) -> Relation:
    """``dt`` and key of what may be scored for the days: of their log, or of the rule's ``back`` days."""
    log = house.scenario.candidates_log
    logged = set(house.store.days(events(log))) & set(days) if log is not None else set()
    parts = []
    if log is not None:
        parts.append((_files(house, log, logged), f"dt, {key}"))
    for day in sorted(set(days) - logged):
        recent = _files(house, source, days_between(day - timedelta(days=back), day - timedelta(days=1)))
        parts.append((recent, f"DATE '{day}' AS dt, {key}"))
    return Relation(events(source).all_columns, tuple(parts))


def _files(house: House, source: Source, days: Iterable[date]) -> tuple[Path, ...]:
    table, wanted = events(source), set(days)
    live = house.store.snapshot(table).files
    return house.store.intact(table, [file for file in live if file.path.partition.day in wanted])


_RELATIONS: dict[str, Callable[[House, Sequence[date]], Relation]] = {
    "impressions": _impressions,
    "models": _models,
    "candidate_users": _candidate_users,
    "candidate_items": _candidate_items,
}
