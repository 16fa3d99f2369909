"""The features that a model reads, named and hashed: what it was trained on stays known after a change."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

from features.fingerprint import canonical, fingerprint
from features.on_demand import ON_DEMAND
from features.scenario import Scenario
from features.versions import on_demand_version, request_version, view_version
from features.view import Feature

#: In the place of a view's name: features that come with the impression itself.
REQUEST = "request"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One feature of a set, as it was declared.

    Attributes:
        name: the column.
        view: its view, `REQUEST`, or `ON_DEMAND`.
        view_version: version of that view.
        dtype: type of the column.
        encoding: how the model reads it.
        default: value for an entity that the view does not know, as text; ``None`` keeps it missing.
        definition: hash of everything that its values follow from.
    """

    name: str
    view: str
    view_version: str
    dtype: str
    encoding: str
    default: str | None
    definition: str

    @classmethod
    def of(cls, feature: Feature, view: str, version: str) -> Self:
        """The member that a declared feature makes."""
        return cls(
            name=feature.name,
            view=view,
            view_version=version,
            dtype=str(feature.dtype),
            encoding=str(feature.encoding),
            default=None if feature.default is None else str(feature.default),
            definition=fingerprint(feature.definition),
        )


@dataclass(frozen=True)
class FeatureSet:
    """Features in the order in which a model reads them.

    Attributes:
        name: the scenario's; all its lines read all its features.
        members: the features.
    """

    name: str
    members: tuple[Member, ...]

    @classmethod
    def of(cls, scenario: Scenario) -> Self:
        """The set that a scenario declares now."""
        versions = {view.name: view_version(scenario, view) for view in scenario.views}
        views = {feature.name: view.name for view in scenario.views for feature in view.features}
        views |= {feature.name: ON_DEMAND for feature in scenario.on_demand}
        versions |= {REQUEST: request_version(scenario), ON_DEMAND: on_demand_version(scenario)}
        owners = [(feature, views.get(feature.name, REQUEST)) for feature in scenario.features]
        return cls(scenario.name, tuple(Member.of(f, view, versions[view]) for f, view in owners))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The set that ``text`` told of."""
        told = json.loads(text)
        return cls(told["name"], tuple(Member(**member) for member in told["features"]))

    @property
    def text(self) -> str:
        """The whole set as JSON, the same in every process."""
        return canonical({"name": self.name, "features": [asdict(member) for member in self.members]})

    @property
    def version(self) -> str:
        """Hash of the ordered features and of the versions of their views, 16 hex digits."""
        return fingerprint([asdict(member) for member in self.members])

    @property
    def label(self) -> str:
        """Name and version, as the table ``models`` has them: ``shop@0123456789abcdef``."""
        return f"{self.name}@{self.version}"

    def difference(self, older: FeatureSet) -> Difference:
        """What was changed since ``older`` to make this set."""
        new = {member.name: member for member in self.members}
        old = {member.name: member for member in older.members}
        both = [name for name in new if name in old]
        added = [member for name, member in new.items() if name not in old]
        removed = [member for name, member in old.items() if name not in new]
        changed = [new[name] for name in both if _own(new[name]) != _own(old[name])]
        explained = {member.view for member in (*added, *removed, *changed)}
        moved = [new[name].view for name in both if new[name] != old[name]]
        return Difference(
            added=tuple(member.name for member in added),
            removed=tuple(member.name for member in removed),
            changed=tuple(member.name for member in changed),
            views=tuple(dict.fromkeys(view for view in moved if view not in explained)),
            reordered=both != [name for name in old if name in new],
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What lies between two feature sets; each entry in the order of its set.

    Attributes:
        added: features that only the newer has.
        removed: features that only the older has.
        changed: features of both whose own definition, type, encoding or default is another.
        views: further views of another version, such as another max age or another query of the roll-up.
        reordered: the features of both stand in another order.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    reordered: bool = False

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.views or self.reordered)

    def __str__(self) -> str:
        named = {"added": self.added, "removed": self.removed, "changed": self.changed}
        told = [f"{word} {', '.join(names)}" for word, names in named.items() if names]
        if self.views:
            told.append(f"another version of view {', '.join(self.views)}")
        if self.reordered:
            told.append("another order")
        return "; ".join(told) or "nothing"


def _own(member: Member) -> tuple[str | None, ...]:
    """What a feature is by itself, whatever else its view declares."""
    return (member.view, member.dtype, member.encoding, member.default, member.definition)
