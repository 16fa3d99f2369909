"""Stage "score": the candidates of the next day as of its start; written, but not yet live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import date, timedelta

import polars as pl

from features.calendar import days_between
from features.candidate_log import Listed, from_log
from features.candidates import Product, from_rule
from features.encode import Encoder
from features.errors import MissingStage
from features.fingerprint import fingerprint
from features.prefetch import ahead
from features.restage import restage
from features.scenario import Source
from features.schemas import events, scores
from features.staging import Staged
from flows import recipes
from flows.house import House
from flows.recipes import Recipe
from flows.stages.calibrate import Calibrator, calibrator_of, calibrator_version
from flows.stages.encode import encoder_of
from flows.stages.known import known
from flows.stages.pairs import BLOCK, listed_scores, product_scores
from flows.stages.read import delivered, is_read, read
from flows.stages.record import StageRecord
from flows.stages.settle import Built, Plan, code, live, now, stage
from flows.stages.standing import scoring_version
from flows.stages.version import Version, load
from flows.stages.view import snapshot_of
from models.calibration.scores import calibrated
from models.line import Line
from models.machine import prepare

STAGE = "score"
_CODE = (
    "features/candidates.py",
    "features/candidate_log.py",
    "features/sides.py",
    "features/on_demand.py",
    "features/samples.py",
    "features/encode.py",
    "features/id_lookup.py",
    "features/encodings.py",
    "features/hashing.py",
    "flows/stages/score.py",
    "flows/stages/pairs.py",
    "models",
)


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Score the next day's candidates with the version of every line that stands: this day's, if it passed.

    Raises:
        MissingStage: a line has no version of the day, it was not judged, or the views of the next day are
            not there.
    """
    read_now = _read_log(house, day)
    prepare()  # one thread per line beats several inside one line's small products
    workers = max(1, min(len(lines), house.settings.threads))
    own = house.shared(workers)
    with ThreadPoolExecutor(workers) as pool:
        return (*read_now, *pool.map(lambda name: _score(own, day, name), lines))


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the scores of some line are neither live nor staged."""
    unread = log_pending(house, day)
    return unread or any(_rows_there(house, plan_scores(house, day, name)) is None for name in lines)


def log_pending(house: House, day: date) -> bool:
    """Whether a candidates log of the next day was delivered and is not read."""
    log, for_day = house.scenario.candidates_log, day + timedelta(days=1)
    return log is not None and delivered(house, log, for_day) and not is_read(house, log, for_day)


def needed_calibrator(house: House, day: date, recipe: Recipe) -> str:
    """Version of the line's curves of the day.

    Raises:
        MissingStage: they are not fitted.
    """
    version = calibrator_version(house, day, recipe)
    if version is None:
        where = f"calibrator {recipe.name} of {day}"
        raise MissingStage(where, "not fitted", f"run the stage calibrate of {day} first")
    return version


def _read_log(house: House, day: date) -> tuple[StageRecord, ...]:
    log, for_day = house.scenario.candidates_log, day + timedelta(days=1)
    if log is None or not delivered(house, log, for_day):
        return ()
    return read(house, log, for_day)


def plan_scores(house: House, day: date, line: str) -> Plan:
    """What the scores for the day after ``day`` depend on: the model, the views, the candidates."""
    for_day, scenario = day + timedelta(days=1), house.scenario
    version = scoring_version(house, line, day)
    inputs = {"model": version.version, "id_maps": version.id_maps_key}
    for view in scenario.views:
        snapshot = snapshot_of(house, view, for_day)
        if snapshot is None:
            raise MissingStage(
                f"{view.table} of {for_day}", "not there", f"run the stage view of {day} first"
            )
        inputs[view.table] = snapshot.key
    inputs |= _candidate_keys(house, for_day)
    inputs["rule"] = fingerprint(scenario.candidates)
    recipe = recipes.get(scenario.name, line)
    if recipe.top is not None:
        inputs["top"] = str(recipe.top)
    if recipe.calibration is not None:
        inputs["calibrator"] = needed_calibrator(house, day, recipe)
    inputs["code"] = code(*_CODE)
    return Plan(stage=STAGE, table=scores(scenario), day=for_day, part=line, inputs=inputs)


def staged(house: House, plan: Plan) -> Staged | None:
    """What the plan asks for, if it is written, whole and not yet live."""
    return restage(house.store, plan.table, plan.day, plan.key, shards=1, **plan.cuts)


def _rows_there(house: House, plan: Plan) -> int | None:
    """Rows of the planned scores, if they are live or staged."""
    found = live(house.store, plan)
    if found is not None:
        return found.rows
    waiting = staged(house, plan)
    return None if waiting is None else sum(file.rows for file in waiting.files)


def _score(house: House, day: date, name: str) -> StageRecord:
    plan, version = plan_scores(house, day, name), scoring_version(house, name, day)
    # who was kept out does not score: the ledger says whose model did
    notes: dict[str, object] = {} if version.day == day else {"model_of": version.day.isoformat()}
    rows_out = _rows_there(house, plan)
    again = rows_out is not None
    started, clock = now(), time.perf_counter()
    if rows_out is None:
        recipe = recipes.get(house.scenario.name, name)
        line = load(house, recipe, version)
        encoder = encoder_of(house, version.day, version.id_maps_key)
        # the next block is scored while this one is written
        curves = calibrator_of(house, day, recipe)
        found = _scores(house, line, encoder, version, curves, plan.day, recipe.top)
        with closing(ahead(found, waiting=1)) as rows:
            written = stage(house.store, plan, Built(rows=rows, notes=notes))
        rows_out = sum(file.rows for file in written.files)
    return StageRecord(
        stage=STAGE,
        table=plan.table.name,
        day=plan.day,
        part=name,
        key=plan.key,
        repeated=again,
        rows_in=None,
        rows_out=rows_out,
        inputs=dict(plan.inputs),
        notes=notes,
        started_at=None if again else started,
        seconds=None if again else time.perf_counter() - clock,
    )


def _scores(
    house: House,
    line: Line,
    encoder: Encoder,
    version: Version,
    calibrator: Calibrator | None,
    for_day: date,
    top: int | None,
) -> Iterator[pl.DataFrame]:
    """Scores of the day's candidates in blocks, ordered by user, request and rank."""
    found = _candidates(house, for_day)
    if isinstance(found, Product):
        blocks = product_scores(line, encoder, found, top)
    else:
        blocks = listed_scores(line, encoder, found, top)
    of_all = (
        pl.lit(version.version).alias("model_version"),
        pl.lit(calibrator.version if calibrator else None, dtype=pl.String()).alias("calibrator_version"),
        pl.lit(house.day_start(for_day), dtype=pl.Datetime("us")).alias("features_as_of"),
    )
    names = scores(house.scenario).schema.names
    return (
        block.with_columns(*of_all, *_calibrated(house, calibrator, block)).select(names) for block in blocks
    )


def _calibrated(house: House, calibrator: Calibrator | None, block: pl.DataFrame) -> list[pl.Series]:
    """The calibrated columns of a block; empty where the line is not calibrated."""
    funnel = house.scenario.funnel
    if calibrator is None:
        nothing = pl.repeat(None, block.height, dtype=pl.Float32(), eager=True)
        return [nothing.alias(column.calibrated) for column in funnel.probabilities]
    raw = {column.name: block[column.name].to_numpy() for column in funnel.probabilities}
    return [pl.Series(name, p) for name, p in calibrated(funnel, calibrator.curves, raw).items()]


def _candidates(house: House, for_day: date) -> Product | Listed:
    """Pairs with their features: from the candidates log if one was delivered, else by rule."""
    scenario, store = house.scenario, house.store
    snapshots: dict[str, pl.LazyFrame | None] = {
        view.name: known(house, view, for_day) for view in scenario.views
    }
    log = scenario.candidates_log
    given = store.generation(events(log), for_day) if log is not None else None
    if given is not None:
        return from_log(given.files, scenario, snapshots, house.limits, BLOCK)
    impressions, clicks = (_recent(house, source, for_day) for source in _rule_sources(house))
    return from_rule(impressions, clicks, scenario, snapshots, for_day)


def _candidate_keys(house: House, for_day: date) -> dict[str, str]:
    """Generations that decide which pairs are scored."""
    store, log = house.store, house.scenario.candidates_log
    if log is not None and (found := store.generation(events(log), for_day)) is not None:
        return {f"{log.table} {for_day}": found.key}
    keys = {}
    for source in _rule_sources(house):
        for arrived in _rule_days(house, source, for_day):
            generation = store.generation(events(source), arrived)
            if generation is not None:
                keys[f"{source.table} {arrived}"] = generation.key
    return keys


def _rule_sources(house: House) -> tuple[Source, Source]:
    """Sources that the rule reads: who was active, and what was clicked."""
    scenario = house.scenario
    return scenario.impressions, scenario.source(scenario.funnel[scenario.funnel.click].log)


def _rule_days(house: House, source: Source, for_day: date) -> tuple[date, ...]:
    rule = house.scenario.candidates
    back = rule.user_days if source.role == "impression" else rule.item_days
    return days_between(for_day - timedelta(days=back), for_day - timedelta(days=1))


def _recent(house: House, source: Source, for_day: date) -> pl.LazyFrame:
    return house.store.scan(events(source), _rule_days(house, source, for_day)).drop("dt")
