"""AdamW that keeps moments per objective for parameters that several objectives move.

Shapes: K objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from models.balancing.dense_adamw import DenseAdamW


class PerObjectiveAdamW(DenseAdamW):
    """Shared parameters take the sum of the steps that Adam would take for every objective alone.

    All others are moved as by ``AdamW``. An objective without rows in a batch takes no step, and its moments
    and count stay. Weights decay once per step.

    Args:
        groups: parameter groups of ``AdamW``; shared parameters are among them.
        shared: parameters with moments per objective, each of shape (K, *its own).
        objectives: K.
        rate: step size.
        gradients: asked at every step; for each of ``shared`` its gradients, shape (K, *its own), and which
            objectives had rows, boolean, shape (K,).
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        shared: Sequence[Tensor],
        objectives: int,
        *,
        rate: float,
        gradients: Callable[[], tuple[list[Tensor], Tensor]],
    ) -> None:
        super().__init__(groups, lr=rate, fused=True)
        self._shared, self._gradients = tuple(shared), gradients
        known = {id(parameter) for parameter in shared}
        self._group_of: dict[int, dict[str, Any]] = {}
        for group in self.param_groups:
            for parameter in group["params"]:
                self._group_of[id(parameter)] = group
                leading = (objectives,) if id(parameter) in known else ()
                self.state[parameter] = {
                    "step": torch.zeros(leading, device=parameter.device),
                    "exp_avg": parameter.new_zeros((*leading, *parameter.shape)),
                    "exp_avg_sq": parameter.new_zeros((*leading, *parameter.shape)),
                }

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        """Move all parameters; a closure is not looked at."""
        for parameter in self._shared:
            parameter.grad = None  # AdamW passes over it
        super().step()
        gradients, present_K = self._gradients()
        for parameter, grad_K in zip(self._shared, gradients, strict=True):
            group = self._group_of[id(parameter)]
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.sub_(self._direction(parameter, grad_K, present_K, group), alpha=group["lr"])

    def _direction(
        self, parameter: Tensor, grad_K: Tensor, present_K: Tensor, group: dict[str, Any]
    ) -> Tensor:
        """Sum over the objectives of their bias-corrected moments, one over the root of the other."""
        state = self.state[parameter]
        (decay, decay_square), wide = group["betas"], (-1, *[1] * parameter.dim())
        state["step"] += present_K
        state["exp_avg"].lerp_(grad_K, (present_K * (1 - decay)).view(wide))
        state["exp_avg_sq"].lerp_(grad_K.square(), (present_K * (1 - decay_square)).view(wide))
        # an objective that never had rows is not counted, whatever its correction
        steps_K = state["step"].clamp(min=1)
        moment_K = state["exp_avg"] * (present_K / (1 - decay**steps_K)).view(wide)
        root_K = (state["exp_avg_sq"] / (1 - decay_square**steps_K).view(wide)).sqrt_()
        total: Tensor = moment_K.div_(root_K.add_(group["eps"])).sum(dim=0)
        return total
