"""What learning several objectives together gained over learning each alone: MTL gain and Δm.

Better is positive in both, whichever way the metric points. Both sides must be measured on the same rows, the
single-task models must have the same structure; nothing here can see that.
"""

from __future__ import annotations

from collections.abc import Mapping

HIGHER_IS_BETTER = frozenset({"auc", "gauc", "gauc_unweighted", "ks"})
LOWER_IS_BETTER = frozenset({"log_loss", "normalized_entropy", "ece", "rmse", "mae"})

ByObjective = Mapping[str, Mapping[str, float | None]]
"""Value of each metric by its name, by objective."""


def mtl_gain(metric: str, together: float | None, alone: float | None) -> float | None:
    """What the model of several objectives is better by, in the unit of the metric; ``None`` if either is.

    ``together - alone`` where higher is better, ``alone - together`` where lower is. Source: Tang et al.,
    Progressive Layered Extraction, RecSys 2020, equation 11.

    Args:
        metric: its name, as ``evaluate`` has it.
        together: its value for the model of several objectives.
        alone: its value for the single-task model.

    Raises:
        ValueError: a metric that has no better direction, such as ``pcoc``, whose best value is 1.

    >>> mtl_gain("log_loss", together=0.5, alone=0.75)
    0.25
    """
    sign = _sign(metric)
    if together is None or alone is None:
        return None
    return sign * (together - alone)


def delta_m(together: ByObjective, alone: ByObjective) -> float | None:
    """Mean relative gain over objectives, each the mean of its metrics, as a fraction; ``None`` if one lacks.

    ``1/K sum_k 1/M_k sum_m s_km (together_km - alone_km) / alone_km`` with s = -1 where lower is better, so
    0.01 is one per cent better. Source: Maninis et al., Attentive Single-Tasking of Multiple Tasks, CVPR
    2019, whose text could not be read, with one metric per task; equation and inner mean after the page of
    LibMTL's function. Nash-MTL and FAMO report the opposite sign (a drop, lower is better) and one mean over
    all metrics: for that, name each metric an objective of its own, and negate.

    One undefined value, or one baseline of 0, makes the whole undefined: a mean over what is left would be of
    other objectives than the name says.

    Args:
        together: metrics of the model of several objectives.
        alone: the same of the single-task models.

    Raises:
        ValueError: nothing to compare, objectives or metrics that are not the same on both sides, or a metric
            that has no better direction.

    >>> delta_m({"click": {"auc": 0.75, "log_loss": 0.5}}, {"click": {"auc": 0.5, "log_loss": 0.5}})
    0.25
    """
    shape = {objective: set(metrics) for objective, metrics in alone.items()}
    if shape != {objective: set(metrics) for objective, metrics in together.items()}:
        raise ValueError("Both sides need the same metrics of the same objectives.")
    if not shape or not all(shape.values()):
        raise ValueError("No metric to compare.")
    of_objectives = [_relative(together[objective], metrics) for objective, metrics in alone.items()]
    known = [gain for gain in of_objectives if gain is not None]
    return sum(known) / len(known) if len(known) == len(of_objectives) else None


def _relative(together: Mapping[str, float | None], alone: Mapping[str, float | None]) -> float | None:
    gains = [(mtl_gain(metric, together[metric], base), base) for metric, base in alone.items()]
    known = [gain / base for gain, base in gains if gain is not None and base]
    return sum(known) / len(known) if len(known) == len(gains) else None


def _sign(metric: str) -> int:
    if metric in HIGHER_IS_BETTER:
        return 1
    if metric in LOWER_IS_BETTER:
        return -1
    known = ", ".join(sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER))
    raise ValueError(f"Whether more {metric!r} is better is not known; it is of {known}.")
