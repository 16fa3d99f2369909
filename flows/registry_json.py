"""What `funnelcast features --json` prints: everything that the registry knows, versions in full."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict

from features.feature_set import FeatureSet
from flows.feature_sets import Trained
from flows.house import House
from flows.registry import Entry, stale_of
from flows.stale import rebuild_command


def views(house: House, found: Sequence[Entry]) -> None:
    """Views with their fields, lineage and state, and the command that rebuilds their stale days."""
    _print(
        {
            "scenario": house.scenario.name,
            "feature_set": FeatureSet.of(house.scenario).label,
            "views": [_view(entry) for entry in found],
            "rebuild": rebuild_command(house, *stale_of(found)),
        }
    )


def trained(house: House, found: Trained) -> None:
    """A feature set, the models that were trained on it, and what is declared otherwise now."""
    declared = FeatureSet.of(house.scenario)
    _print(
        {
            "feature_set": found.features.label,
            "models": [
                {"day": day, "line": line, "model_version": name} for day, line, name in found.versions
            ],
            "features": [asdict(member) for member in found.features.members],
            "declared": declared.label,
            "changes": asdict(declared.difference(found.features)),
        }
    )


def _view(entry: Entry) -> dict[str, object]:
    shot = entry.snapshot
    fields = [
        {
            "name": feature.name,
            "type": str(feature.dtype),
            "encoding": str(feature.encoding),
            "default": feature.default,
            "description": feature.description,
            "reads": entry.reads.get(feature.name, ()),
            "nulls": shot.nulls[feature.name] if shot else None,
        }
        for feature in entry.features
    ]
    return {
        "name": entry.name,
        "description": entry.description,
        "owner": entry.owner,
        "version": entry.version,
        "keys": entry.keys,
        "source": entry.source,
        "lineage": [asdict(origin) for origin in entry.lineage],
        "clocks": entry.clocks,
        "fields": fields,
        "newest": shot.day if shot else None,
        "rows": shot.rows if shot else None,
        "wanted": entry.wanted,
        "age_days": entry.age_days,
        "max_age_days": entry.max_age_days,
        "expired": entry.expired,
        "stale": [{"day": day, "differs": differs} for day, differs in entry.stale.items()],
    }


def _print(value: object) -> None:
    def text(other: object) -> str:
        assert isinstance(other, dt.date)  # noqa: S101 - nothing else is among what we print
        return other.isoformat()

    print(json.dumps(value, default=text, ensure_ascii=False))
