"""Which model versions live: those whose weights stay, with everything that they were trained on."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from features.bookkeeping import MODELS
from features.errors import BadWarehouse
from features.schemas import scores
from flows.house import House
from flows.stages.standing import standing_after

_KEY = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Living:
    """What upkeep must leave because of model versions.

    Attributes:
        checkpoints: folders whose weights stay.
        named: folders that some version names, living or not; their manifests stay.
        inputs: keys of the generations that living versions were trained on.
    """

    checkpoints: frozenset[Path]
    named: frozenset[Path]
    inputs: frozenset[str]


def living(house: House, days: int, weeks: int) -> Living:
    """The versions that may still be gone on from, scored with or fallen back to.

    Of each line the newest ``days`` versions and the last of each of its newest ``weeks`` ISO weeks, by
    logical date; those that stood after each of these days, however old; the versions that the newest
    ``days`` days of published scores were made with; and the parent of each of these.

    Raises:
        BadWarehouse: a model row cannot be read.
    """
    columns = ("dt", "line", "model_version", "parent_version", "inputs", "checkpoint")
    rows = house.store.scan(MODELS).select(columns).collect().rows(named=True)
    by_line: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["dt"]):
        by_line[row["line"]].append(row)
    recent = [row for line in by_line.values() for row in _recent(line, days, weeks)]
    held = {row["model_version"] for row in recent}
    stood = (standing_after(house, row["line"], row["dt"]) for row in recent)
    held |= {version.version for version in stood if version is not None}
    held |= _published(house, days)
    held |= {row["parent_version"] for row in rows if row["model_version"] in held}
    alive = [row for row in rows if row["model_version"] in held]
    return Living(
        checkpoints=frozenset(house.store.root / row["checkpoint"] for row in alive),
        named=frozenset(house.store.root / row["checkpoint"] for row in rows),
        inputs=frozenset(key for row in alive for key in _keys(row)),
    )


def _recent(line: list[dict[str, Any]], days: int, weeks: int) -> list[dict[str, Any]]:
    """Of the rows of a line, oldest first, those of the newest days and weeks."""
    last: dict[tuple[int, int], dict[str, Any]] = {}
    for row in line:
        told: date = row["dt"]
        last[told.isocalendar()[:2]] = row
    newest_weeks: Iterable[dict[str, Any]] = [last[week] for week in sorted(last)[-weeks:]] if weeks else []
    return [*line[-days:], *newest_weeks]


def _published(house: House, days: int) -> set[str]:
    table = scores(house.scenario)
    newest = house.store.days(table)[-days:]
    return set(house.store.scan(table, newest).select("model_version").unique().collect()["model_version"])


def _keys(row: dict[str, Any]) -> list[str]:
    try:
        inputs = json.loads(row["inputs"])
        return [value for value in inputs.values() if isinstance(value, str) and _KEY.fullmatch(value)]
    except (ValueError, TypeError, AttributeError) as error:
        where = f"model {row['line']} of {row['dt']}"
        raise BadWarehouse(where, f"its inputs cannot be read ({error})", "funnelcast verify") from error
