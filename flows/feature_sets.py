"""The feature sets that models were trained on, as the table ``models`` tells of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from features.bookkeeping import MODELS
from features.errors import UsageError
from features.feature_set import FeatureSet
from flows.house import House
from flows.registry import unknown


@dataclass(frozen=True)
class Trained:
    """A feature set and the live model versions that were trained on it.

    Attributes:
        features: the set.
        versions: day, line and version of each model, by day and line; none if it is only declared.
    """

    features: FeatureSet
    versions: tuple[tuple[date, str, str], ...]


def of_version(house: House, text: str) -> Trained:
    """The one set whose hash, or ``name@hash``, begins with ``text``: trained on, or declared now.

    Raises:
        UsageError: none does, or several do.
    """
    declared = FeatureSet.of(house.scenario)
    sets = {one.features.label: one for one in _trained(house)}
    sets.setdefault(declared.label, Trained(declared, ()))
    found = [label for label in sets if label.startswith(text) or label.partition("@")[2].startswith(text)]
    if not found:
        raise unknown(f"feature set {text!r} of scenario {house.scenario.name!r}", text, tuple(sets))
    if len(found) > 1:
        raise UsageError(f"feature set {text!r}", f"several: {', '.join(found)}", "give more digits")
    return sets[found[0]]


def of_line(house: House, line: str, day: date | None = None) -> Trained:
    """The set that the newest version of a line was trained on, or its version of ``day``.

    Raises:
        UsageError: no such line was trained, or not on that day, or before feature sets were kept.
    """
    versions = _versions(house)
    lines = tuple(versions["line"].unique().sort())
    if line not in lines:
        raise unknown(f"line {line!r} of scenario {house.scenario.name!r}", line, lines)
    own = versions.filter(line=line)
    days = own["dt"].to_list()
    wanted = days[-1] if day is None else day
    if wanted not in days:
        step = f"name one of its days, from {days[0]} to {days[-1]}"
        raise UsageError(f"line {line!r}", f"was not trained on {wanted}", step)
    label = own.filter(dt=wanted)["feature_set"].item()
    if label is None:
        step = "train it again to have it kept"
        raise UsageError(f"line {line!r}", f"the feature set of {wanted} was not kept", step)
    return of_version(house, label)


def _trained(house: House) -> list[Trained]:
    """Every set with its versions, in the order of their first day."""
    kept = _versions(house).filter(pl.col("features").is_not_null())
    return [
        Trained(
            FeatureSet.from_text(str(text)), tuple(part.select("dt", "line", "model_version").iter_rows())
        )
        for (text,), part in kept.group_by("features", maintain_order=True)
    ]


def _versions(house: House) -> pl.DataFrame:
    told = house.store.scan(MODELS).select("dt", "line", "model_version", "feature_set", "features")
    return told.sort("dt", "line").collect()
