"""The one scoring path: what is evaluated is what is published.

Shapes: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.batch import Batch
from models.entire_space.values import Predictions
from models.line import Line

#: Bytes of one unit, over the rows of a forward pass.
_UNIT = 16_384


def rows_at_a_time(line: Line) -> int:
    """Rows of one forward pass.

    With more, what layers hand on leaves the cache; with fewer, what a pass costs once counts.
    """
    return _UNIT // line.products.itemsize


def probabilities(line: Line, batch: Batch) -> dict[str, Tensor]:
    """What is published of every row of a batch; see ``published``."""
    return published(line, line.predict(batch))


@torch.inference_mode()
def published(line: Line, found: Predictions) -> dict[str, Tensor]:
    """Published probabilities and expected values of every row, by the funnel's score columns.

    Returns:
        Float32 tensors of shape (B,). Probabilities lie in [0, 1], and a joint one is never above that of its
        parent. An expected value per impression is that per event of its parent times the parent's joint
        probability as it is published.
    """
    funnel, binary = line.funnel, line.objectives.binary
    conditional = dict(zip(binary.names, found.conditional_BJ.exp().unbind(dim=1), strict=True))
    joint = dict(zip(binary.names, found.joint_BJ.exp().unbind(dim=1), strict=True))
    for objective in binary:
        if objective.given is not None:
            # the logarithms are ordered; no exp promises to keep the order of its last digits
            joint[objective.name] = torch.minimum(joint[objective.name], joint[objective.given])
    values = [objective for objective in funnel if objective.kind == "value"]
    for objective, value_B in zip(values, found.value_BV.unbind(dim=1), strict=True):
        conditional[objective.name] = value_B
        given = objective.given
        joint[objective.name] = value_B if given is None else joint[given] * value_B
    return {
        column.name: (joint if column.joint else conditional)[column.objective]
        for column in funnel.score_columns
    }


def score_arrays(
    line: Line, arrays: Mapping[str, np.ndarray[Any, Any]], *, block_rows: int | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """``probabilities`` of encoded rows, block by block.

    Args:
        line: the model.
        arrays: at least one row, as ``Batch.from_numpy`` takes them.
        block_rows: rows of one forward pass; ``rows_at_a_time`` if absent.
    """
    block_rows = rows_at_a_time(line) if block_rows is None else block_rows
    starts = range(0, len(arrays["rows"]), block_rows)
    cut = ({name: array[start : start + block_rows] for name, array in arrays.items()} for start in starts)
    scored = [probabilities(line, Batch.from_numpy(block)) for block in cut]
    return {name: torch.cat([block[name] for block in scored]).numpy() for name in scored[0]}
