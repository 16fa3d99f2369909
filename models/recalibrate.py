"""Sampled negatives: a line learns from the odds of its sample and predicts those of the logs.

Shapes: B rows, K objectives in the order of the funnel, H heads (the objectives first).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def log_rates(negative_rates: Sequence[float] | None, num_objectives: int) -> Tensor:
    """Logarithms of the rates at which the negatives of each objective are learned, float32, shape (K,).

    Args:
        negative_rates: negatives in the sample per negative in the logs, over the same of the positives,
            for every objective in its own space; ``None`` where nothing is sampled.
        num_objectives: K.

    Raises:
        ValueError: another number of rates, or one that is not positive and finite.
    """
    rates_K = torch.tensor(negative_rates or (1.0,) * num_objectives, dtype=torch.float64)
    if len(rates_K) != num_objectives or not ((rates_K > 0) & rates_K.isfinite()).all():
        raise ValueError(f"Expected {num_objectives} positive rates of negatives, got {negative_rates}.")
    return rates_K.log().float()


def sample_logits(logits_BH: Tensor, log_rates_K: Tensor) -> Tensor:
    """Logits in the sample of what has these logits in the logs, shape (B, H).

    A probability q in a sample with the negatives' rate w is p = q / (q + (1 - q) / w) in the logs. Divided
    by 1 - p this says that the odds q / (1 - q) are p / (1 - p) / w: in logits, a shift by log w and no
    more. It stands between the network and its losses, so that what the network says is always meant for
    the logs, at whatever rate a day is sampled, and scoring has nothing to put right.

    Source: He et al., Practical Lessons from Predicting Clicks on Ads at Facebook, ADKDD 2014, section 6.3.

    Args:
        logits_BH: logits in the logs; of each objective given its parent, then those that a method adds,
            which are not shifted.
        log_rates_K: as ``log_rates`` gives them.
    """
    return logits_BH - functional.pad(log_rates_K, (0, logits_BH.shape[1] - len(log_rates_K)))
