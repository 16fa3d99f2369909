"""Stage "train": score the day with the model as it stands, then learn from the day; line by line."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path

import polars as pl
import torch

from features.batches import fresh_rows
from features.bookkeeping import CALIBRATION, METRICS, MODELS
from features.calendar import day_of
from features.feature_set import FeatureSet
from features.fingerprint import canonical, fingerprint
from features.generation import Generation
from features.schemas import samples
from flows import recipes
from flows.house import House
from flows.recipes import Recipe
from flows.stages.bad_steps import refusing_bad_steps
from flows.stages.begin import begin, giver_of
from flows.stages.calibrate import calibrator_version
from flows.stages.encode import encoder_of, grow_id_maps, plan_id_maps
from flows.stages.keep import keep
from flows.stages.late import begun, late_key, lesson_rows, reads_open, told_open, unseen
from flows.stages.passes import Lesson, learn, partial_of
from flows.stages.per_pass import keep_pass
from flows.stages.prequential import judged
from flows.stages.propensity import propensity_of
from flows.stages.record import StageRecord
from flows.stages.replay import replayed
from flows.stages.sample import plan_sample
from flows.stages.settle import Built, Plan, code, live, repeated
from flows.stages.unlearned import taught, untaught, untaught_days, untaught_key
from flows.stages.version import Version, load, parent_of, refuse_other_features
from models import checkpoint
from models.line import Line
from models.machine import prepare

log = logging.getLogger("funnelcast.train")

STAGE = "train"
_ENCODING = (
    "features/encode.py",
    "features/encodings.py",
    "features/hashing.py",
    "features/id_lookup.py",
)
_READS = (*_ENCODING, "features/batches.py", "features/labels.py")
_LATE = ("features/readings.py", "features/completeness.py", "flows/stages/late.py")
_SAMPLING = ("features/sampling", "features/hashing.py", "flows/stages/propensity.py")
_SCORED = ("models/score.py", "flows/stages/evaluate.py", "flows/stages/prequential.py")
_MEASURES = ("models/metrics", "models/calibration", *_SCORED, "flows/stages/per_pass.py")
_EVIDENCE = ("models/calibration/bins.py", "models/metrics/spaces.py", "flows/stages/evidence.py", *_SCORED)
_PASSES = ("flows/stages/passes.py", "flows/stages/replay.py")
_HOW = ("flows/stages/train.py", "flows/stages/begin.py", "flows/stages/unlearned.py")
_CODE = ("models", *_READS, *_SAMPLING, *_PASSES, *_LATE, *_HOW)


def run(house: House, day: date, lines: tuple[str, ...]) -> tuple[StageRecord, ...]:
    """Evaluate and train every line on the rows whose labels became final since its parent.

    Raises:
        MissingStage: the day has no samples.
        UsageError: an unknown recipe.
        OtherFeatures: a line's parent was trained with another feature set; nothing was written.
        NotFinite: a loss or gradient was not finite; no version was written.
    """
    prepare()
    chosen = [recipes.get(house.scenario.name, name) for name in lines]
    for recipe in chosen:
        base = parent_of(house, recipe.name, day) or giver_of(house, recipe, day)
        if base is not None:
            refuse_other_features(house, base, day)
    grown = grow_id_maps(house, day)
    return (grown, *(record for recipe in chosen for record in _train(house, day, recipe, grown.key)))


def pending(house: House, day: date, lines: tuple[str, ...]) -> bool:
    """Whether the id maps or some line's metrics or model of the day are not what they should be."""
    maps = plan_id_maps(house, day)
    if live(house.store, maps) is None:
        return True
    for name in lines:
        recipe = recipes.get(house.scenario.name, name)
        plan = plan_model(house, day, recipe, maps.key)
        measured = (plan_metrics(house, day, recipe), plan_evidence(house, day, recipe))
        if _trained(house, plan) is None or any(live(house.store, one) is None for one in measured):
            return True
    return False


def plan_model(house: House, day: date, recipe: Recipe, id_maps_key: str) -> Plan:
    """What a version depends on: its parent, samples, id maps, features, the recipe and the code."""
    parent = parent_of(house, recipe.name, day)
    inputs = {
        "parent": parent.version if parent else "none",
        "id_maps": id_maps_key,
        "feature_set": FeatureSet.of(house.scenario).version,
        "recipe": fingerprint(recipe.settings()),
        "code": code(*_CODE),
        "torch": torch.__version__,
        **late_key(house, day, recipe, _since(house, day, parent)),
        **untaught_key(house, day),
        **_sample_keys(house, day, _replayed_since(house, day, recipe, parent)),
    }
    if parent is None and (giver := giver_of(house, recipe, day)) is not None:
        inputs["handover"] = giver.version
    return Plan(stage=STAGE, table=MODELS, day=day, part=recipe.name, inputs=inputs)


def plan_metrics(house: House, day: date, recipe: Recipe) -> Plan:
    """What the prequential metrics depend on: the version before the day, its curves, the day's samples."""
    parent = parent_of(house, recipe.name, day)
    curves = None if parent is None else calibrator_version(house, parent.day, recipe)
    inputs = {
        **_judged_by(house, day, recipe, parent),
        "calibrator": curves or "none",
        "code": code(*_MEASURES, *_READS),
    }
    return Plan(stage=STAGE, table=METRICS, day=day, part=recipe.name, inputs=inputs)


def plan_evidence(house: House, day: date, recipe: Recipe) -> Plan:
    """What the evidence for calibration depends on: the version before the day, and the day's samples."""
    parent = parent_of(house, recipe.name, day)
    judges = _judged_by(house, day, recipe, parent)
    inputs = {**judges, **untaught_key(house, day), "code": code(*_EVIDENCE, *_READS)}
    return Plan(stage=STAGE, table=CALIBRATION, day=day, part=recipe.name, inputs=inputs)


def _judged_by(house: House, day: date, recipe: Recipe, parent: Version | None) -> dict[str, str]:
    since = _since(house, day, parent)
    inputs = {"model": parent.version if parent else "none", **_sample_keys(house, day, since)}
    if reads_open(recipe):
        judge = unseen(house, recipe, since)
        inputs |= {"unseen": judge.version if judge else "none", "late": code(*_LATE)}
    return inputs


def _train(house: House, day: date, recipe: Recipe, id_maps_key: str) -> Iterator[StageRecord]:
    parent = parent_of(house, recipe.name, day)
    metrics, evident = plan_metrics(house, day, recipe), plan_evidence(house, day, recipe)
    model = plan_model(house, day, recipe, id_maps_key)
    there = [(plan, found) for plan in (metrics, evident) if (found := live(house.store, plan)) is not None]
    trained = _trained(house, model)
    if trained is not None and len(there) == 2:
        yield from (repeated(plan, found) for plan, found in there)
        yield repeated(model, trained)
        partial_of(house, model).discard()  # of a run that was killed after its commit
        return
    since, until = _since(house, day, parent), house.watermark(day)
    known = house.store.scan(samples(house.scenario), sample_days(house, day, since)).drop("dt")
    rows = fresh_rows(known, house.scenario, since, until)
    read = lesson_rows(house, day, recipe, known, since, begun(house, day, recipe, since))
    lesson = taught(house, read, untaught(house, day))
    giver = giver_of(house, recipe, day) if parent is None else None
    line = load(house, recipe, parent) if parent else begin(house, recipe, giver)
    yield from judged(house, recipe, line, parent, rows, since, metrics, evident)
    learned = partial(_learn, house, day, recipe, line, parent, giver, lesson, model)
    if live(house.store, model) is not None and trained is None:
        learned()  # its checkpoint was lost: the same bytes again
    yield keep(house, model, learned)
    partial_of(house, model).discard()


def _trained(house: House, plan: Plan) -> Generation | None:
    """The planned version, if its checkpoint is there too."""
    found = live(house.store, plan)
    return found if (house.store.root / _folder(plan)).is_dir() else None


def _folder(plan: Plan) -> Path:
    """The checkpoint of a planned version, below the warehouse."""
    return Path("checkpoints") / str(plan.part) / plan.key


def _learn(
    house: House,
    day: date,
    recipe: Recipe,
    line: Line,
    parent: Version | None,
    giver: Version | None,
    rows: pl.LazyFrame,
    plan: Plan,
) -> Built:
    """One pass, then the checkpoint; the row of the table ``models`` is what makes it a version."""
    encoder = encoder_of(house, day, plan.inputs["id_maps"])
    lesson = Lesson(
        scenario=house.scenario,
        recipe=recipe,
        day=day,
        rows=rows,
        encoder=encoder,
        propensity=propensity_of(house, recipe, parent),
        replayed=replayed_rows(house, day, recipe, parent),
    )
    if (base := parent or giver) is not None:  # rows that changed owners since, also on days left out
        line.reset_rows(torch.from_numpy(encoder.rows_given_after(base.day)), recipe.seed)
    version, features = plan.key, FeatureSet.of(house.scenario)
    folder = _folder(plan)
    between = partial(keep_pass, house.store.root / folder, line)
    with refusing_bad_steps(f"line {recipe.name} of {day}", line.steps):
        report = learn(line, lesson, partial_of(house, plan), between)
    home = (house.store.root / folder).parent
    home.mkdir(parents=True, exist_ok=True)
    for debris in home.glob(".*"):  # of runs that were killed; one run at a time holds the warehouse
        shutil.rmtree(debris, ignore_errors=True)
    told: dict[str, object] = {
        "model_version": version,
        "parent_version": parent.version if parent else None,
        "watermark": house.watermark(day),
        "trained_since": _since(house, day, parent),
        "rows": report.rows,
        "steps": line.steps,
        "parameters": line.num_parameters,
        "id_maps_key": plan.inputs["id_maps"],
        "feature_set": features.label,
        "features": features.text,
        "recipe": canonical(recipe.settings()),
        "inputs": canonical(dict(plan.inputs)),
        "losses": canonical(report.mean_loss),
        "checkpoint": folder.as_posix(),
    }
    lineage = {
        "scenario": house.scenario.name,
        "line": recipe.name,
        "day": day.isoformat(),
        **{name: value.isoformat() if isinstance(value, datetime) else value for name, value in told.items()},
    }
    notes: dict[str, object] = {"trained": report.trained}
    if read_open := told_open(house, recipe, rows):
        notes["late"] = read_open
    if left_out := untaught_days(house, day):
        notes["untaught"] = left_out
        days = "; ".join(f"{name} of {', '.join(of)}" for name, of in left_out.items())
        log.warning("%s of %s: not learned, no label is positive: %s", recipe.name, day, days)
    if giver is not None:
        lineage["handover"] = notes["handover"] = {"line": giver.line, "version": giver.version}
    if lesson.replayed is not None:
        found = lesson.replayed.select(pl.len()).collect(engine="streaming").item()
        begins = _replayed_since(house, day, recipe, parent)
        lineage["replayed"] = notes["replayed"] = {"rows": int(found), "since": begins.isoformat()}
    checkpoint.save(house.store.root / folder, line.state(), lineage)
    frame = pl.DataFrame([told], schema_overrides=_TYPES)
    skipped = 0 if parent is None else (day - parent.day).days - 1
    return Built(rows=frame, notes={**notes, "days_skipped": skipped})


_TYPES = {
    "parent_version": pl.String(),
    "watermark": pl.Datetime("us"),
    "trained_since": pl.Datetime("us"),
    "rows": pl.Int64(),
    "steps": pl.Int64(),
    "parameters": pl.Int64(),
}


def _since(house: House, day: date, parent: Version | None) -> datetime:
    """Labels final by this instant have been learned; a line without parent begins with the day."""
    return house.day_start(day) if parent is None else parent.watermark


def _replayed_since(house: House, day: date, recipe: Recipe, parent: Version | None) -> datetime:
    """The beginning of the oldest day whose rows are replayed; without replay, of the fresh rows."""
    if recipe.replay is None or parent is None:
        return _since(house, day, parent)
    return house.day_start(parent.day - timedelta(days=recipe.replay.days - 1))


def replayed_rows(house: House, day: date, recipe: Recipe, parent: Version | None) -> pl.LazyFrame | None:
    """Rows that are learned before the fresh ones; a line's first day has none."""
    if recipe.replay is None or parent is None:
        return None
    since = _replayed_since(house, day, recipe, parent)
    known = house.store.scan(samples(house.scenario), sample_days(house, day, since)).drop("dt")
    return replayed(known, house.scenario, recipe.replay, since, parent.watermark, day)


def sample_days(house: House, day: date, since: datetime) -> list[date]:
    """Days of exposure whose labels may have become final after ``since`` and by the end of ``day``."""
    first = day_of(since, house.scenario.zone) - timedelta(days=house.scenario.restated_days)
    return [known for known in house.store.days(samples(house.scenario)) if first <= known <= day]


def _sample_keys(house: House, day: date, since: datetime) -> dict[str, str]:
    return {
        f"samples {exposed}": plan_sample(house, exposed, day).key
        for exposed in sample_days(house, day, since)
    }
