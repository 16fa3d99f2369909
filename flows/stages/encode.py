"""Grow the id maps by a day, and find the version that a model reads ids with."""

from __future__ import annotations

from datetime import date, timedelta

import polars as pl

from features.bookkeeping import ID_MAPS
from features.encode import Encoder, Layout
from features.errors import BadWarehouse, MissingStage
from features.generation import Generation
from features.id_maps import empty_map, grow
from features.schemas import samples
from flows.house import House
from flows.stages.keep import keep
from flows.stages.record import StageRecord
from flows.stages.sample import plan_sample
from flows.stages.settle import Built, Plan, code

_CODE = ("features/id_maps.py", "features/encodings.py", "flows/stages/encode.py")


def plan_id_maps(house: House, day: date) -> Plan:
    """What the id maps after ``day`` depend on: those before it, and the samples that arrived on it."""
    before = _before(house, day)
    inputs = {f"{ID_MAPS.name} {before.partition.day}": before.key} if before else {}
    for exposed in _exposed(house, day):
        inputs[f"samples {exposed}"] = plan_sample(house, exposed, day).key
    inputs["code"] = code(*_CODE)
    return Plan(stage="train", table=ID_MAPS, day=day, inputs=inputs)


def grow_id_maps(house: House, day: date) -> StageRecord:
    """Count the day's ids, forget those that expired, admit those that were seen often enough.

    Raises:
        MissingStage: the day has no samples.
    """
    plan = plan_id_maps(house, day)

    def build() -> Built:
        before = _before(house, day)
        if before is not None:
            before.verify()  # what is read wrongly here would be the base of every later day
        old = empty_map() if before is None else _frame(house, before)
        arrived = (pl.col("arrived_at") >= house.day_start(day)) & (
            pl.col("arrived_at") < house.watermark(day)
        )
        rows = house.store.scan(samples(house.scenario), _exposed(house, day)).filter(arrived)
        grown = grow(old, rows, house.scenario.features, day)
        admitted = {
            str(name): count
            for name, count in grown.group_by("vocabulary")
            .agg(pl.col("row").count())
            .sort("vocabulary")
            .rows()
        }
        return Built(rows=grown, notes={"admitted": admitted, "freed": _freed(old, grown)})

    return keep(house, plan, build)


def encoder_of(house: House, day: date, key: str) -> Encoder:
    """The encoder of the id maps after ``day``, which must be generation ``key``.

    Raises:
        BadWarehouse: the maps of that day are another generation; rows would name other ids.
    """
    found = house.store.generation(ID_MAPS, day)
    if found is None or found.key != key:
        raise BadWarehouse(
            f"id maps of {day}",
            f"generation {found.key if found else 'none'}, the model was trained with {key}",
            f"run {day} again, then every later day",
        )
    found.verify()
    return Encoder(Layout.of(house.scenario.features), _frame(house, found))


def _freed(old: pl.DataFrame, grown: pl.DataFrame) -> dict[str, int]:
    """How many rows each vocabulary took back from ids that expired; vocabularies without one left out."""
    owner = ["vocabulary", "id_int", "id_text"]
    owned = old.filter(pl.col("row").is_not_null() & pl.col("edge").is_null())
    gone = owned.join(grown, on=owner, how="anti", nulls_equal=True)
    return dict(gone.group_by("vocabulary").len().sort("vocabulary").rows())


def _frame(house: House, generation: Generation) -> pl.DataFrame:
    return house.store.scan(ID_MAPS, [generation.partition.day]).drop("dt").collect()


def _before(house: House, day: date) -> Generation | None:
    known = [earlier for earlier in house.store.days(ID_MAPS) if earlier < day]
    return house.store.generation(ID_MAPS, known[-1]) if known else None


def _exposed(house: House, day: date) -> list[date]:
    """Days of exposure of the samples that arrived on ``day``."""
    first = day - timedelta(days=house.scenario.impressions.late_days)
    found = [known for known in house.store.days(samples(house.scenario)) if first <= known <= day]
    if day not in found:
        raise MissingStage(f"samples of {day}", "not there", f"run the stage sample of {day} first")
    return found
