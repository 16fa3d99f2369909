"""Two model versions side by side: lineage, settings, inputs, numbers, and how far the weights moved."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import polars as pl

from features.bookkeeping import METRICS, MODELS
from features.errors import UsageError
from features.promotion import GATE
from flows.house import House
from models import checkpoint
from models.manifest import TENSORS

#: Columns of ``models`` that are shown of both.
_LINEAGE = (
    *("line", "dt", "model_version", "parent_version", "watermark", "trained_since", "rows", "steps"),
    *("parameters", "feature_set"),
)
#: What belongs to a version's training and not to what it says of a row.
_OPTIMISERS = ("dense_optimizer.", "embedding_optimizer.")
#: The metric behind a check of the gate.
_MEASURED = {
    "auc": "auc",
    "auc_drop": "auc",
    "calibration": "pcoc",
    "log_loss_rise": "log_loss",
    "rmse_rise": "rmse",
}
_METRICS = ("auc", "log_loss", "pcoc", "rmse")


@dataclass(frozen=True)
class Number:
    """One metric of both versions.

    Attributes:
        on: the rows: ``fresh`` or ``earlier`` where the gate measured both on the same ones, else the day of
            each.
        objective: what was predicted.
        space: as in ``metrics_daily``.
        metric: its name.
        a: of the one; ``None`` where it was not measured.
        b: of the other.
    """

    on: str
    objective: str
    space: str
    metric: str
    a: float | None
    b: float | None


@dataclass(frozen=True)
class Distance:
    """How far a tensor moved.

    Attributes:
        name: of the tensor.
        shape: its shape.
        relative: norm of the difference over the norm in A; ``None`` where the shapes differ, one lacks it,
            or it is 0 in A.
        norm_a: Euclidean norm in A; ``None`` where A lacks it.
        norm_b: likewise in B.
    """

    name: str
    shape: tuple[int, ...]
    relative: float | None
    norm_a: float | None
    norm_b: float | None


@dataclass(frozen=True)
class Difference:
    """What two versions differ in.

    Attributes:
        a: lineage of the one, by the columns of ``models``.
        b: of the other.
        kinship: how they are related, in words.
        recipe: settings that differ, by path, with both values; ``None`` where one lacks it.
        inputs: generations and hashes that differ, likewise.
        numbers: metrics of both.
        weights: distance of every tensor that scores, and of all together under the name ``all``; empty where
            the weights of one were removed.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    kinship: str
    recipe: Mapping[str, tuple[object, object]]
    inputs: Mapping[str, tuple[object, object]]
    numbers: tuple[Number, ...]
    weights: tuple[Distance, ...]


def difference(house: House, a: str, b: str) -> Difference:
    """Compare two live versions.

    Args:
        house: where.
        a: how the hash of a version begins, or ``line@day``.
        b: the other one.

    Raises:
        UsageError: none or several versions begin so, or a line has none of that day.
        BrokenCheckpoint: the weights of one are damaged.
    """
    rows = house.store.scan(MODELS).sort("dt", "line").collect().rows(named=True)
    one, other = _found(rows, a), _found(rows, b)
    return Difference(
        a={name: one[name] for name in _LINEAGE},
        b={name: other[name] for name in _LINEAGE},
        kinship=_kinship({row["model_version"]: row for row in rows}, one, other),
        recipe=_differing(_flat(json.loads(one["recipe"])), _flat(json.loads(other["recipe"]))),
        inputs=_differing(json.loads(one["inputs"]), json.loads(other["inputs"])),
        numbers=(*_same_rows(house, one, other), *_by_day(house, one, other)),
        weights=tuple(_weights(house, one, other)),
    )


def _found(rows: list[dict[str, Any]], text: str) -> dict[str, Any]:
    line, at, day = text.partition("@")
    if at:
        found = [row for row in rows if (row["line"], str(row["dt"])) == (line, day)]
    else:
        found = [row for row in rows if text and row["model_version"].startswith(text)]
    if len(found) == 1:
        return found[0]
    count = f"{len(found)} versions are" if found else "no version is"
    step = "give more digits" if found else 'line@day does too; funnelcast sql "FROM models" lists them'
    raise UsageError(f"version {text!r}", f"{count} called so", step)


def _kinship(known: Mapping[str, dict[str, Any]], a: dict[str, Any], b: dict[str, Any]) -> str:
    """By parents, as far as their rows are live."""
    ours, theirs = list(_ancestors(known, a)), list(_ancestors(known, b))
    common = next((version for version in ours if version in theirs), None)
    if common is None:
        return "A and B have no common ancestor that is known"
    back_a, back_b = ours.index(common), theirs.index(common)
    if back_a == back_b == 0:
        return "A and B are the same version"
    if 0 in (back_a, back_b):
        older, newer = ("A", "B") if back_a == 0 else ("B", "A")
        back = back_a + back_b
        return (
            f"{older} is the parent of {newer}" if back == 1 else f"{older} is {back} versions before {newer}"
        )
    return f"A and B branch from {common}, {back_a} and {back_b} versions back"


def _ancestors(known: Mapping[str, dict[str, Any]], row: dict[str, Any]) -> Iterator[str]:
    """The version itself, its parent and so on; the last may be known by its name alone."""
    version: str | None = row["model_version"]
    while version is not None:
        yield version
        version = known[version]["parent_version"] if version in known else None


def _flat(value: object, path: str = "") -> dict[str, object]:
    """Leaves of nested settings by their path, as in ``architecture.layers``."""
    if isinstance(value, dict) and value:
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{path}.{key}").items()}
    return {path.removeprefix("."): value}


def _differing(a: Mapping[str, object], b: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    names = dict.fromkeys((*a, *b))
    return {name: (a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)}


def _same_rows(house: House, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Number]:
    """What the gate measured when it judged the one beside the other."""
    for judged, other, swapped in ((b, a, False), (a, b, True)):
        told = house.store.scan(GATE, [judged["dt"]], line=judged["line"]).filter(
            model_version=judged["model_version"], champion_version=other["model_version"], slice="all"
        )
        seen = set()
        for row in told.collect().rows(named=True):
            metric = _MEASURED.get(row["check"])
            if metric is None or (key := (row["over"], row["objective"], row["space"], metric)) in seen:
                continue
            seen.add(key)
            first, second = row["champion_value"], row["value"]
            yield Number(*key, *((second, first) if swapped else (first, second)))


def _by_day(house: House, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Number]:
    """What each was worth on the first day that it had not seen; these are other rows for each."""
    ours, theirs = _prequential(house, a), _prequential(house, b)
    days = " and ".join("none" if day is None else str(day) for day, _ in (ours, theirs))
    for key in dict.fromkeys((*ours[1], *theirs[1])):
        yield Number(f"next day ({days})", *key, ours[1].get(key), theirs[1].get(key))


def _prequential(
    house: House, version: dict[str, Any]
) -> tuple[date | None, dict[tuple[str, str, str], float | None]]:
    rows = (
        house.store.scan(METRICS, line=version["line"])
        .filter(pl.col("metric").is_in(_METRICS), model_version=version["model_version"], slice="all")
        .filter(pl.col("rows") > 0, pl.col("space") != "conditional_over_impressions")
        .collect()
    )
    if rows.is_empty():
        return None, {}
    first = rows["dt"].min()
    assert isinstance(first, date)  # noqa: S101 - a column of dates
    told = rows.filter(dt=first).select("objective", "space", "metric", "value").rows()
    return first, {(objective, space, metric): value for objective, space, metric, value in told}


def _weights(house: House, a: dict[str, Any], b: dict[str, Any]) -> Iterator[Distance]:
    folders = [house.store.root / row["checkpoint"] for row in (a, b)]
    if not all((folder / TENSORS).is_file() for folder in folders):
        return
    one, other = (checkpoint.load(folder)[0] for folder in folders)
    names = [n for n in sorted({*one, *other}) if not n.startswith(_OPTIMISERS)]
    apart = own = others = 0.0
    for name in names:
        x, y = one.get(name), other.get(name)
        shapes = [tuple(t.shape) for t in (x, y) if t is not None]
        if not all(t is None or t.is_floating_point() for t in (x, y)):
            continue  # counts of steps
        norm_a, norm_b = (None if t is None else float(t.double().norm()) for t in (x, y))
        relative = None
        if x is not None and y is not None and x.shape == y.shape and norm_a and norm_b is not None:
            gap = float((y.double() - x.double()).norm())
            relative, apart = gap / norm_a, apart + gap**2
            own, others = own + norm_a**2, others + norm_b**2
        yield Distance(name, shapes[0], relative, norm_a, norm_b)
    if own:
        yield Distance("all", (), (apart / own) ** 0.5, own**0.5, others**0.5)
