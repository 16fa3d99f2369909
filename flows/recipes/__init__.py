"""How one model line is made from a scenario: a typed, frozen object; a user passes only its name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from features import scenarios
from features.errors import UsageError
from features.funnel import Funnel
from features.readings import late
from features.sampling.base import Sampling
from features.sampling.everything import Everything
from flows.limits import Gate
from flows.stages.replay import Replay
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.calibration import Calibration
from models.carry import Carry, Keep
from models.entire_space.base import EntireSpace
from models.handover import Handover
from models.interaction.base import Interaction
from models.interaction.concatenate import Concatenate
from models.late.base import Late
from models.late.es_dfm import ESDFM
from models.late.wait import Wait
from models.lazy_adam import LazyAdam
from models.machine import Products
from models.row_optimizer import RowOptimizer

_KEEP = Keep()
#: Of a recipe that says nothing of late labels; ``get`` knows the scenario and decides.
_UNSAID = Wait()
#: Where labels stay open for longer, waiting for them costs more than reading them early.
_LONG_OPEN = timedelta(days=3)
#: Settings that came later: at their default they are not told, and versions of before stay what they are.
_LATER = ("dense_state", "embedding_state", "epochs_per_day", "replay", "handover", "late")
#: What is done with the scores of a model is no part of it.
_APART = ("top", "calibration", "gate")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that distinguishes one trained line.

    Attributes:
        name: the line's name: partition of scores, models and metrics.
        description: what it is, in one line.
        architecture: builds the network over the embeddings.
        method: how conditional and joint probabilities become losses.
        balancer: how the losses of K objectives become one update.
        interaction: what is done to the embedding vectors before the network reads them.
        embedding_optimizer: how the rows of the embedding table move.
        sampling: which rows train which objectives, and how often.
        dim: width of an embedding.
        batch_rows: rows of one update; a row of a large batch takes less time, see ``models.folded``.
        window_rows: rows among which a day is shuffled; they are held in memory.
        dense_rate: learning rate of the network.
        embedding_rate: learning rate of the embeddings.
        weight_decay: L2 coefficient of the network.
        averaging: share of the old average of the network's weights that a step keeps; see ``Line.fresh``.
        products: dtype of the matrix products; ``bfloat16`` where the device has it, and float32 elsewhere.
        dense_state: what the network's optimiser remembers over the night: ``Keep()``, ``Decay(gamma)`` or
            ``Reset()``; each wants its own rate.
        embedding_state: the same of the optimiser of the embeddings.
        epochs_per_day: passes over a day's rows, each in another order. One is best almost always; with more,
            ``metrics_daily`` tells what each pass is worth on the day after.
        replay: rows of earlier days that are learned before the fresh ones; ``None``: none.
        handover: what the line takes over from another one on its first day; ``None``: it begins afresh.
        late: what is made of conversions that may still come: ``Wait()`` until labels are final, or a policy
            of ``models/late`` that reads them earlier. If nothing is said: ``ESDFM()`` where such labels stay
            open for more than three days and method and sampling allow it, else ``Wait()``.
        seed: of initial weights, of the shuffle and of the sampling.
        top: how many items of a user (of a request, where they are known) are published, the best by
            ``pctcvr``; ``None``: all. No part of the model: another number scores anew and trains nothing.
        calibration: how scores become rates; ``None``: the calibrated columns are empty. No part of the model
            either.
        gate: what a new version must keep before it scores. No part of the model either: other limits judge
            anew.

    Raises:
        UsageError: what is chosen does not go together.
    """

    name: str
    description: str
    architecture: Callable[..., Architecture]
    method: EntireSpace
    balancer: Callable[..., Balancer]
    interaction: Callable[..., Interaction] = Concatenate
    embedding_optimizer: Callable[..., RowOptimizer] = LazyAdam
    sampling: Sampling = field(default_factory=Everything)
    dim: int = 16
    batch_rows: int = 128
    window_rows: int = 131_072
    dense_rate: float = 1e-3
    embedding_rate: float = 5e-3
    weight_decay: float = 0.0
    averaging: float = 0.995
    products: Products = "float32"
    dense_state: Carry = _KEEP
    embedding_state: Carry = _KEEP
    epochs_per_day: int = 1
    replay: Replay | None = None
    handover: Handover | None = None
    late: Late = _UNSAID
    seed: int = 20220425
    top: int | None = None
    calibration: Calibration | None = field(default_factory=Calibration)
    gate: Gate = field(default_factory=Gate)

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise UsageError(
                f"recipe {self.name!r}", f"top={self.top} publishes nothing", "name a number from 1, or None"
            )
        if self.epochs_per_day < 1:
            found = f"epochs_per_day={self.epochs_per_day} learns nothing"
            raise UsageError(f"recipe {self.name!r}", found, "name a number from 1")
        if self.sampling.own_space and not self.method.own_space:
            raise UsageError(
                f"recipe {self.name!r}",
                f"sampling {type(self.sampling).__name__} changes an objective's own space, and the method "
                f"{type(self.method).__name__} learns over the entire space",
                "use a method that learns each objective in its own space, such as Masked, or the sampling "
                "Everything",
            )
        self._check_late()

    def _check_late(self) -> None:
        """Refuse what does not go with labels that may still change."""
        if isinstance(self.late, Wait):
            return
        policy, where = type(self.late).__name__, f"recipe {self.name!r}"
        if not self.method.takes_open:
            raise UsageError(
                where,
                f"late={policy} reads labels that may still change, and the method "
                f"{type(self.method).__name__} takes final ones alone",
                "use ESMM, Masked, Division, Ordered, MultiIPW or ESCM2IPS, or late=Wait()",
            )
        if not isinstance(self.sampling, Everything):
            raise UsageError(
                where,
                f"sampling {type(self.sampling).__name__} decides by labels, which late={policy} reads while "
                "they may still change",
                "use the sampling Everything, or late=Wait()",
            )

    def settings(self) -> dict[str, object]:
        """The model's settings as plain values: what was imported by which name, and with which keywords."""
        told = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _APART}
        plain = {name: _plain(value) for name, value in told.items()}
        as_before = [f.name for f in fields(self) if f.name in _LATER and plain[f.name] == _plain(f.default)]
        return {name: value for name, value in plain.items() if name not in as_before}


def names(scenario: str) -> tuple[str, ...]:
    """Names of the recipes of a scenario, in the order in which they are written."""
    return tuple(_functions(scenario))


def get(scenario: str, name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        UsageError: there is none, and the message suggests the nearest; or its sampling does not go with
            the scenario's funnel.
    """
    functions = _functions(scenario)
    if name not in functions:
        near = difflib.get_close_matches(name, functions, n=1)
        known = ", ".join(functions) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {known}"
        raise UsageError(f"recipe {name!r} of scenario {scenario!r}", f"unknown; known are {known}", hint)
    recipe = functions[name]()
    funnel = scenarios.get(scenario).funnel
    recipe.gate.check(funnel, name)
    recipe.sampling.check(funnel, own_space=recipe.method.own_space)
    if not recipe.method.chained and any(rate != 1.0 for rate in recipe.sampling.negative_rates(funnel)):
        raise UsageError(
            f"recipe {name!r}",
            f"sampling {type(recipe.sampling).__name__} changes the odds of an objective, which the method "
            f"{type(recipe.method).__name__} cannot put right along the funnel",
            "use a method that multiplies conditional probabilities, such as ESMM or Masked, or the sampling "
            "Everything",
        )
    return _with_late(recipe, funnel)


def _with_late(recipe: Recipe, funnel: Funnel) -> Recipe:
    """The recipe with the policy for late labels that won where it was measured, if it says none itself."""
    allowed = recipe.method.takes_open and isinstance(recipe.sampling, Everything)
    open_for = max((funnel.closes_after(o.name) for o in late(funnel)), default=timedelta(0))
    chosen = recipe.late is _UNSAID and allowed and open_for > _LONG_OPEN
    return replace(recipe, late=ESDFM()) if chosen else recipe


def _functions(scenario: str) -> dict[str, Callable[[], Recipe]]:
    module_name = f"{__name__}.{scenario}"
    if find_spec(module_name) is None:
        return {}
    module = import_module(module_name)
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module_name and not name.startswith("_")
    }


def _plain(value: object) -> object:
    if isinstance(value, partial):
        return {"call": _plain(value.func), **{k: _plain(v) for k, v in value.keywords.items()}}
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    # A method object without settings of its own is named by its class.
    state = {k: _plain(v) for k, v in vars(value).items() if not k.startswith("_")}
    return {"call": _plain(type(value)), **state}
