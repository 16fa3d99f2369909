"""The one declaration: which actions follow an impression, and what of them we predict.

Labels, finality flags, spaces, towers, losses, metrics, score columns and checks are derived from it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, get_args

Kind = Literal["binary", "value"]
KINDS = get_args(Kind)
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One action that a user may take after an impression.

    Attributes:
        name: noun used in column names: ``y_click``, ``p_click``.
        log: name of the scenario's source that yields its events.
        given: objective that this one is conditioned on; ``None`` means the impression itself.
        window: attribution window, counted from the event it is conditioned on (or the exposure).
            Zero means that the outcome arrives with the row it belongs to.
        kind: what is predicted. ``binary``: whether it happens, a Bernoulli event. ``value``: the sum of
            ``value`` over its events, 0 where there is none; nothing can be given such an objective. Counts
            and values are columns beside the label whatever the kind is.
        value: integer column of the log that is summed per impression, in its smallest unit (cents,
            milliseconds); ``None`` where events have no size.
        scale: smallest units in one unit of what is learned and published, for the kind ``value``: 1000.0
            predicts milliseconds in seconds. Best chosen so that usual values are near 1, where a fresh
            model begins.
        reversals: name of the source whose rows take events of the log back (refunds, cancellations).
        reversible: how long after its event a reversal still counts; the label stays open as long.
        segment: column of the samples by whose values the delay of the events differs; ``completeness``
            is estimated for each.
    """

    name: str
    log: str
    given: str | None = None
    window: timedelta
    kind: Kind = "binary"
    value: str | None = None
    scale: float = 1.0
    reversals: str | None = None
    reversible: timedelta = timedelta(0)
    segment: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"Objective name must match {_NAME.pattern!r}, got {self.name!r}.")
        if self.window < timedelta(0):
            raise ValueError(f"Window of objective {self.name!r} must not be negative, got {self.window}.")
        if (self.reversals is not None) != (self.reversible > timedelta(0)):
            raise ValueError(
                f"Objective {self.name!r} must name the source of its reversals and how long they count, "
                f"or neither of them; got reversals={self.reversals!r}, reversible={self.reversible}."
            )
        self._check_kind()

    def _check_kind(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Kind of objective {self.name!r} must be one of {KINDS}, got {self.kind!r}.")
        if self.kind == "value" and self.value is None:
            raise ValueError(f"Objective {self.name!r} is a value and must name its column as 'value'.")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"Scale of objective {self.name!r} must be above 0, got {self.scale}.")
        if self.kind == "binary" and self.scale != 1:
            raise ValueError(
                f"Objective {self.name!r} is binary and has no scale, got {self.scale}; "
                "only the kind 'value' is predicted in a unit."
            )

    @property
    def label(self) -> str:
        """Column of the label: 1 if the action happened within its window and was not taken back."""
        return f"y_{self.name}"

    @property
    def count(self) -> str:
        """Column of the number of attributed events, without those that were taken back."""
        return f"n_{self.name}"

    @property
    def total(self) -> str:
        """Column of the sum of ``value`` over the attributed events, less what was taken back."""
        return f"v_{self.name}"

    @property
    def completeness(self) -> str:
        """Column of the expected share of positives of the row's age whose label is 1 by now."""
        return f"completeness_{self.name}"

    @property
    def final(self) -> str:
        """Column that says by the clock alone whether the label can still change."""
        return f"final_{self.name}"

    @property
    def space(self) -> str:
        """Column that says whether the row lies in the objective's own space (its parent happened)."""
        return f"in_space_{self.name}"

    @property
    def occurred(self) -> str:
        """Column of the instant of the first attributed event, null if there was none.

        Never before the event (or exposure) that it is given: where clocks disagree, the delay is zero.
        """
        return f"{self.name}_at"

    @property
    def known(self) -> str:
        """Column of the instant at which we first knew that it happened, null if it did not.

        Not before we knew of the impression and of what the objective is given.
        """
        return f"{self.name}_known_at"

    @property
    def changed(self) -> str:
        """Column of the instant at which we knew of the last event or reversal; not part of the samples."""
        return f"{self.name}_changed_at"


@dataclass(frozen=True)
class ScoreColumn:
    """One published number: a probability, or the expected value of an objective of that kind.

    Attributes:
        name: column in the score table.
        objective: the objective that it speaks of.
        joint: per impression if true, per event of the objective's parent otherwise.
        kind: that of the objective. A probability lies in [0, 1], an expected value is any finite number
            in the objective's unit.
    """

    name: str
    objective: str
    joint: bool
    kind: Kind = "binary"

    @property
    def calibrated(self) -> str:
        """Column of the same probability after calibration; an expected value has none."""
        return f"{self.name}_cal"


@dataclass(frozen=True)
class Funnel:
    """Objectives ordered so that each comes after the one it is conditioned on.

    Attributes:
        objectives: the tree, parents first.
        click: objective published as ``pctr``.
        conversion: objective published as ``pcvr`` (given its parent) and ``pctcvr`` (per impression).

    Raises:
        ValueError: a name is declared twice, a parent is not declared before its child, or an objective of
            the kind ``value`` is a parent, the click or the conversion.
    """

    objectives: tuple[Objective, ...]
    click: str
    conversion: str

    def __post_init__(self) -> None:
        declared: list[str] = []
        for objective in self.objectives:
            if objective.name in declared:
                raise ValueError(f"Objective {objective.name!r} is declared twice.")
            if objective.given is not None and objective.given not in declared:
                raise ValueError(
                    f"Objective {objective.name!r} is given {objective.given!r}, which is not declared "
                    f"before it. Declared so far: {', '.join(declared) or 'none'}."
                )
            if objective.given is not None and self[objective.given].kind == "value":
                raise ValueError(
                    f"Objective {objective.name!r} is given {objective.given!r}, which is a value. "
                    "Give it the binary objective whose event it follows."
                )
            declared.append(objective.name)
        for role, name in (("click", self.click), ("conversion", self.conversion)):
            if name not in declared:
                raise ValueError(f"Role {role!r} names {name!r}; declared objectives: {', '.join(declared)}.")
            if self[name].kind == "value":
                raise ValueError(f"Role {role!r} names {name!r}, which is a value; it needs a probability.")
        if self[self.conversion].given != self.click:
            raise ValueError(
                f"Conversion {self.conversion!r} must be given the click {self.click!r}, "
                f"got given={self[self.conversion].given!r}."
            )

    def __iter__(self) -> Iterator[Objective]:
        return iter(self.objectives)

    def __len__(self) -> int:
        return len(self.objectives)

    def __getitem__(self, name: str) -> Objective:
        return self.objectives[self.names.index(name)]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the objectives, in the order of every (B, K) tensor."""
        return tuple(objective.name for objective in self.objectives)

    @property
    def binary(self) -> Funnel:
        """The funnel of the binary objectives alone; whole, as nothing is given a value."""
        if all(objective.kind == "binary" for objective in self.objectives):
            return self
        return replace(self, objectives=tuple(o for o in self.objectives if o.kind == "binary"))

    def parent_index(self, objective: Objective) -> int | None:
        """Position of the objective that this one is conditioned on; ``None`` for the impression."""
        return None if objective.given is None else self.names.index(objective.given)

    def path(self, name: str) -> tuple[Objective, ...]:
        """Objectives from the first after the impression down to ``name``, both included."""
        objective = self[name]
        above = () if objective.given is None else self.path(objective.given)
        return (*above, objective)

    def closes_after(self, name: str) -> timedelta:
        """Time after the exposure when the label of ``name`` can no longer change, whatever happened.

        The sum of the windows along the path: a click at the last instant of its window opens the
        conversion's window. Where an event of the path can be taken back, the label is open until then,
        too. It depends on the clock alone, never on the row's labels.
        """
        happens = changes = timedelta(0)
        for step in self.path(name):
            happens += step.window
            changes = max(changes, happens + step.reversible)
        return changes

    @property
    def horizon(self) -> timedelta:
        """Time after the exposure when every label is final."""
        return max(self.closes_after(name) for name in self.names)

    @property
    def score_columns(self) -> tuple[ScoreColumn, ...]:
        """Published numbers: ``pctr``, ``pcvr``, ``pctcvr``, then those of every further objective.

        ``p_*`` are probabilities, ``e_*`` expected values, both per impression; ``*_given_*`` are per event
        of the parent.
        """
        columns = [
            ScoreColumn("pctr", self.click, True),
            ScoreColumn("pcvr", self.conversion, False),
            ScoreColumn("pctcvr", self.conversion, True),
        ]
        for o in self.objectives:
            if o.name in (self.click, self.conversion):
                continue
            name = f"{'e' if o.kind == 'value' else 'p'}_{o.name}"
            columns.append(ScoreColumn(name, o.name, True, o.kind))
            if o.given is not None:
                columns.append(ScoreColumn(f"{name}_given_{o.given}", o.name, False, o.kind))
        return tuple(columns)

    @property
    def probabilities(self) -> tuple[ScoreColumn, ...]:
        """The score columns that are probabilities; each is calibrated by itself."""
        return tuple(column for column in self.score_columns if column.kind == "binary")
