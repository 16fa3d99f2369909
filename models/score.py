"""The one scoring path: what is evaluated is what is published.

Shapes: B rows, K objectives in the order of the funnel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.batch import Batch
from models.line import Line


@torch.inference_mode()
def probabilities(line: Line, batch: Batch) -> dict[str, Tensor]:
    """Published probabilities of every row, by the funnel's score columns.

    Returns:
        Float32 tensors of shape (B,) in [0, 1]. A joint probability is never above that of its parent.
    """
    funnel = line.funnel
    log_p_conditional_BK, log_p_joint_BK = line.log_probabilities(batch)
    conditional = list(log_p_conditional_BK.exp().unbind(dim=1))
    joint = list(log_p_joint_BK.exp().unbind(dim=1))
    for k, objective in enumerate(funnel):
        parent = funnel.parent_index(objective)
        if parent is not None:
            # the logarithms are ordered; no exp promises to keep the order of its last digits
            joint[k] = torch.minimum(joint[k], joint[parent])
    return {
        column.name: (joint if column.joint else conditional)[funnel.names.index(column.objective)]
        for column in funnel.score_columns
    }


def score_arrays(
    line: Line, arrays: Mapping[str, np.ndarray[Any, Any]], *, block_rows: int = 2048
) -> dict[str, np.ndarray[Any, Any]]:
    """``probabilities`` of encoded rows, ``block_rows`` at a time: activations of a block stay in cache.

    Args:
        line: the model.
        arrays: at least one row, as ``Batch.from_numpy`` takes them.
        block_rows: rows of one forward pass.
    """
    starts = range(0, len(arrays["rows"]), block_rows)
    cut = ({name: array[start : start + block_rows] for name, array in arrays.items()} for start in starts)
    scored = [probabilities(line, Batch.from_numpy(block)) for block in cut]
    return {name: torch.cat([block[name] for block in scored]).numpy() for name in scored[0]}
