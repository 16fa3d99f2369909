"""A line that begins with parts of another line, by a map that names them; nothing is taken otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from models.line import Line, StateMismatch


@dataclass(frozen=True, kw_only=True)
class Handover:
    """What a new line takes over from another one on its first day; the rest begins as in a fresh line.

    Names are those of ``Line.state``: ``embedding.weight_RD``, ``embedding_optimizer.``, ``network.``,
    ``average.`` (what rows are scored with), ``dense_optimizer.``, ``balancer.``, ``steps``. A pair takes
    every tensor of the new line whose name begins with its first text, from the one whose name begins with
    the second and ends alike. All of both must match, so a map says what is meant to the last tensor.

    Attributes:
        line: whose version of before the first day is taken from. It has the same features.
        take: pairs of prefixes, own and the other line's.

    Raises:
        ValueError: no pair.

    >>> Handover(line="esmm", take=(("embedding.", "embedding."), ("embedding_optimizer.",) * 2)).line
    'esmm'
    """

    line: str
    take: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not self.take:
            raise ValueError("A handover without a pair takes nothing; leave it out.")


@torch.no_grad()
def take_over(line: Line, handover: Handover, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Copy what the map names from another line's state; names of what was taken, sorted.

    Args:
        line: a fresh line.
        handover: the map.
        state: of the other line.

    Raises:
        StateMismatch: naming everything that the map leaves without a partner, that differs in shape, type
            or unit, or that is taken twice; nothing was copied.
    """
    own = line.state()
    pairs: dict[str, str] = {}
    problems = []
    for mine, theirs in handover.take:
        here = {name.removeprefix(mine): name for name in own if name.startswith(mine)}
        there = {name.removeprefix(theirs): name for name in state if name.startswith(theirs)}
        if not here:
            problems.append(f"nothing here begins with {mine!r}")
        problems += [f"{here[end]} has no {theirs}{end} there" for end in here.keys() - there.keys()]
        problems += [f"{there[end]} has no {mine}{end} here" for end in there.keys() - here.keys()]
        problems += [f"{here[end]} is taken twice" for end in here if here[end] in pairs]
        pairs |= {here[end]: there[end] for end in here.keys() & there.keys()}
    for name, other in pairs.items():
        expected, found = (f"{tuple(t.shape)} {t.dtype}" for t in (own[name], state[other]))
        if expected != found:
            problems.append(f"{other} is {found}, {name} is {expected}")
    if any(name.startswith(("network.", "average.")) for name in pairs):
        problems += line.objectives.other_units(state)
    if problems:
        raise StateMismatch("The handover does not fit: " + "; ".join(sorted(problems)) + ".")
    for name, other in pairs.items():
        own[name].copy_(state[other])
    return tuple(sorted(pairs))
