"""The scenarios, each found by its module's name."""

from __future__ import annotations

import difflib
from importlib import import_module
from pkgutil import iter_modules

from features.errors import UsageError
from features.scenario import Scenario


def names() -> tuple[str, ...]:
    """Names of all scenarios, sorted."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def get(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        UsageError: there is none; the message suggests the nearest.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}" if near else f"one of {', '.join(names())}"
        raise UsageError(f"scenario {name!r}", "there is no such scenario", hint)
    scenario = import_module(f"{__name__}.{name}").SCENARIO
    assert isinstance(scenario, Scenario)  # noqa: S101 - our own invariant
    return scenario
