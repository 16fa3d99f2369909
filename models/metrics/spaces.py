"""The rows that a score speaks of, of every objective of a funnel; B rows, K objectives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from features.funnel import Funnel, Objective, ScoreColumn
from models.metrics.rows import Array, Vector


@dataclass(frozen=True)
class Space:
    """One score column on the rows that it is measured on.

    Attributes:
        objective: what is predicted.
        place: of the objective in the funnel.
        name: ``impressions``, ``given_<parent>`` or ``conditional_over_impressions``, as of ``Metric``.
        column: the score that is measured.
        inside_B: the rows, bool.
    """

    objective: Objective
    place: int
    name: str
    column: ScoreColumn
    inside_B: Array

    @property
    def own(self) -> bool:
        """Whether the score speaks of exactly these rows, so that it can be calibrated on them."""
        return self.name != "conditional_over_impressions"


def spaces(funnel: Funnel, y_BK: Vector, valid_BK: Vector) -> Iterator[Space]:
    """Every space of every objective, in the funnel's order.

    Args:
        funnel: the objectives.
        y_BK: joint labels, 0 or 1, and values; anything where they are not valid.
        valid_BK: labels that may be measured.
    """
    labels_BK, known_BK = np.asarray(y_BK), np.asarray(valid_BK, dtype=np.bool_)
    column = {(c.objective, c.joint): c for c in funnel.score_columns}
    for k, objective in enumerate(funnel):
        valid_B = known_BK[:, k]
        yield Space(objective, k, "impressions", column[objective.name, True], valid_B)
        parent = funnel.parent_index(objective)
        if parent is not None:
            given = column[objective.name, False]
            happened_B = valid_B & (labels_BK[:, parent] == 1)
            yield Space(objective, k, f"given_{objective.given}", given, happened_B)
            if objective.kind == "binary":
                yield Space(objective, k, "conditional_over_impressions", given, valid_B)
