"""The figures of a day, held to their bands: what is odd is named, what blocks stops it before training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path

import polars as pl

from features.bookkeeping import ID_MAPS
from features.errors import BlockedDay
from features.fingerprint import fingerprint
from features.generation import Generation
from features.scenario import Source
from features.schemas import events, samples, scores
from features.validation.bands import FIGURES, QUALITY, judged, name
from features.validation.drift import DRIFT
from features.validation.figures import frame, of_columns, of_ids, of_objective
from features.view import History
from features.withheld import withheld
from flows.house import House
from flows.overrides import overridden
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.sample import plan_sample
from flows.stages.settle import Built, Plan, code
from flows.stages.unlearned import is_empty, settled_on

STAGE = "validate"
_CODE = (
    "features/validation",
    "features/withheld.py",
    "flows/stages/quality.py",
    "flows/stages/unlearned.py",
    "flows/stages/validate.py",
)
#: From here on a figure is a count, whose digits after the point nobody reads.
_COUNTS = 100.0
#: Gives samples of a day, or an evenly spread part of them.
Part = Callable[[date], pl.DataFrame]


def plan_quality(house: House, day: date) -> Plan:
    """What the figures and their bands depend on; those of the days before are the baseline."""
    scenario, store = house.scenario, house.store
    told = {exposed for exposed in _settled(house, day).values() if exposed is not None}
    inputs = {f"samples {exposed}": plan_sample(house, exposed, day).key for exposed in {day, *told}}
    found: list[tuple[str, Generation | None]] = [
        *((events(source).name, store.generation(events(source), day)) for source in scenario.sources),
        (DRIFT.name, store.generation(DRIFT, day)),
        (ID_MAPS.name, _id_maps(house, day)),
        *((QUALITY.name, store.generation(QUALITY, earlier)) for earlier in _before(house, day)),
    ]
    histories = [view.source.source for view in scenario.views if isinstance(view.source, History)]
    shown = {known for name in histories for known in _shown(house, day, scenario.source(name))}
    impressions = events(scenario.impressions)
    found += [(impressions.name, store.generation(impressions, known)) for known in shown]
    inputs |= {f"{table} {g.partition.day}": g.key for table, g in found if g is not None}
    inputs |= {
        "bands": fingerprint(list(scenario.bands)),
        "overrides": fingerprint(list(overridden(house, day))),
        "code": code(*_CODE),
    }
    return Plan(stage=STAGE, table=QUALITY, day=day, inputs=dict(sorted(inputs.items())))


def judge(house: House, day: date, part: Part) -> StageRecord:
    """Take the figures of a day and hold them to their bands; what lies outside stands in the notes."""
    return keep(house, plan_quality(house, day), lambda: _built(house, day, part))


def refuse_blocked(house: House, day: date) -> None:
    """Stop before a day is learned that is blocked, or that comes after a blocked one.

    Raises:
        BlockedDay: names the figure, its band and what to do; what is published stays.
    """
    if not (blocked := blocked_days(house, [*_before(house, day), day])):
        return
    first, found = next(iter(blocked.items()))
    published = house.store.days(scores(house.scenario))
    stays = f"the scores of {published[-1]} stay" if published else "nothing was published yet"
    after = "" if first == day else f", and {day} would be learned after it"
    raise BlockedDay(
        f"data of {first}",
        f"{'; '.join(found)}{after}; no model was trained, {stays}",
        f"deliver {first} again, or answer for it: funnelcast run --date {first} --override "
        f"{','.join(one.partition(':')[0] for one in found)} --reason TEXT",
    )


def is_blocked(house: House, day: date) -> bool:
    """Whether `refuse_blocked` would stop the day."""
    return bool(blocked_days(house, [*_before(house, day), day]))


def blocked_days(house: House, days: Iterable[date]) -> dict[date, list[str]]:
    """What blocks each of the days that are blocked, oldest first, as ``volume.click: 45, expected ...``."""
    found: dict[date, list[str]] = {}
    for day in days:
        told = house.store.generation(QUALITY, day)
        if told is not None and (why := _blocking(told.files)):
            found[day] = list(why)
    return found


@lru_cache(maxsize=4096)
def _blocking(files: tuple[Path, ...]) -> tuple[str, ...]:
    """What blocks a day, from its files, whose names tell their content; `status` asks for all days."""
    rows = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])
    return tuple(_text(row) for row in rows.filter(outcome="block").iter_rows(named=True))


def _built(house: House, day: date, part: Part) -> Built:
    if is_empty(house, day):  # nobody learns it, and it is no measure for other days
        return Built(rows=pl.DataFrame(QUALITY.schema.empty_table()), notes={"warnings": []})
    earlier = house.store.scan(QUALITY, _before(house, day)).filter(pl.col("outcome") != "block")
    named = ["dt", *FIGURES.names()[:4]]
    rows = judged(
        house.scenario.bands,
        day,
        pl.concat(_figures(house, day, part)),
        earlier.select(named).unique(maintain_order=True).collect(),
        overridden(house, day),
    )
    odd = rows.filter(pl.col("outcome").is_in(["warn", "overridden"])).iter_rows(named=True)
    return Built(rows=rows, notes={"warnings": [f"{_text(row)} ({row['outcome']})" for row in odd]})


def _figures(house: House, day: date, part: Part) -> Iterator[pl.DataFrame]:
    """The figures that some band asks for."""
    scenario, asked = house.scenario, {band.rule for band in house.scenario.bands}
    table = samples(scenario).name
    yield frame(_deliveries(house, day))
    if asked & {"nulls", "constant"}:
        yield of_columns(table, scenario.features, part(day))
    for objective, exposed in _settled(house, day).items() if "positives" in asked else ():
        if exposed is not None:
            yield of_objective(table, scenario.funnel[objective], part(exposed))
    if "unknown" in asked and (maps := _id_maps(house, day)) is not None:
        known = house.store.scan(ID_MAPS, [maps.partition.day])
        needed = ["vocabulary", "id_int", "id_text", "row"]
        yield of_ids(table, scenario.features, part(day), known.select(needed).collect())
    if "withheld" in asked:
        yield frame(_withheld(house, day))
    if "drift" in asked:
        shifts = house.store.scan(DRIFT, [day]).collect()
        yield frame(
            (table, "drift", n, psi, size) for n, psi, size in shifts.select("name", "psi", "rows").rows()
        )


def _deliveries(house: House, day: date) -> Iterator[tuple[str, str, str, float | None, int]]:
    """Rows of every source and the share of copies among what was delivered."""
    for source in house.scenario.sources:
        found = house.store.generation(events(source), day)
        if found is not None:
            delivered, copies = found.record["rows_in"], found.record["deduplicated"]
            assert isinstance(delivered, int) and isinstance(copies, int)  # noqa: S101, PT018 - read records them
            yield source.table, "volume", "", float(found.rows), found.rows
            yield source.table, "copies", "", copies / delivered if delivered else None, delivered


def _withheld(house: House, day: date) -> Iterator[tuple[str, str, str, float | None, int]]:
    """Of every history, the share of impressions that the day's changes came too late for."""
    scenario, store = house.scenario, house.store
    for view in scenario.views:
        if isinstance(view.source, History):
            log = scenario.source(view.source.source)
            shown = store.scan(events(scenario.impressions), _shown(house, day, log))
            late = withheld(view, store.scan(events(log), [day]), shown).height
            rows = int(shown.select(pl.col("impression_id").n_unique()).collect().item())
            yield log.table, "withheld", view.name, late / rows if rows else None, rows


def _shown(house: House, day: date, log: Source) -> list[date]:
    """Days of arrival of the impressions that a change may be about that is delivered on the day."""
    there = house.store.days(events(house.scenario.impressions))
    return [known for known in there if day - timedelta(days=log.late_days) <= known <= day]


def _settled(house: House, day: date) -> dict[str, date | None]:
    """By objective, the newest day of exposure with final labels; ``None`` where it has no samples."""
    scenario = house.scenario
    known = set(house.store.days(samples(scenario)))
    newest = {objective.name: settled_on(scenario, objective, day) for objective in scenario.funnel}
    return {name: exposed if exposed in known else None for name, exposed in newest.items()}


def _before(house: House, day: date) -> Sequence[date]:
    """The days whose figures some band may look at, and that have any."""
    wanted = {earlier for band in house.scenario.bands for earlier in band.before(day)}
    return [known for known in house.store.days(QUALITY) if known in wanted]


def _id_maps(house: House, day: date) -> Generation | None:
    known = [earlier for earlier in house.store.days(ID_MAPS) if earlier < day]
    return house.store.generation(ID_MAPS, known[-1]) if known else None


def _text(row: dict[str, object]) -> str:
    """``volume.click: 45, expected 222 to 888 (usual 444 of 7 days)``."""
    edges = " to ".join(_number(row[edge]) for edge in ("low", "high") if row[edge] is not None)
    if row["low"] is None or row["high"] is None:
        edges = f"at {'least' if row['high'] is None else 'most'} {edges}"
    days = f"of {row['reference_days']} days"
    usual = "" if row["usual"] is None else f" (usual {_number(row['usual'])} {days})"
    what = name(str(row["rule"]), str(row["table"]), str(row["column"]))
    return f"{what}: {_number(row['value'])}, expected {edges}{usual}"


def _number(value: object) -> str:
    assert isinstance(value, float)  # noqa: S101 - figures and edges are
    return f"{value:,.0f}" if value >= _COUNTS else f"{value:.3g}"
