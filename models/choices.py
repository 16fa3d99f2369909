"""Every choice that a recipe has, found by its class and told by its docstring: ``docs/models.md``.

python -m models.choices > docs/models.md
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from types import ModuleType

import models
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.entire_space.base import EntireSpace
from models.interaction.base import Interaction
from models.late.base import Late
from models.row_optimizer import RowOptimizer

#: Field of the recipe, what it decides, and the contract of its choices.
FAMILIES: tuple[tuple[str, str, type], ...] = (
    ("architecture", "How a representation and a logit per objective are made.", Architecture),
    ("interaction", "What is done to the embedding vectors before a network reads them.", Interaction),
    ("method", "How probabilities are formed, and which loss each row carries.", EntireSpace),
    ("balancer", "How the losses of the objectives become one update.", Balancer),
    ("late", "What is made of conversions that may still come.", Late),
    ("embedding_optimizer", "How the rows of the embedding table move.", RowOptimizer),
)
_LABELS = ("Equation", "Source", "Use", "Cost")
_HEAD = """# Models: what a recipe chooses from

A model line is an architecture, a feature interaction, an entire-space method and a balancer; any of one kind
goes with any of the others, but for policies of `late`, which want ESMM, Masked, Division, Ordered,
MultiIPW or ESCM2IPS. A sampling policy goes with the methods that it names. This page is made from the
docstrings, by `python -m models.choices > docs/models.md`. They say more: settings, shapes, errors.
"""


@dataclass(frozen=True)
class Choice:
    """One row of the page; every text is that of the docstring.

    Attributes:
        name: of the class.
        module: where it is.
        summary: first line.
        told: by label, what follows ``Equation:``, ``Source:``, ``Use:`` and ``Cost:``.
    """

    name: str
    module: str
    summary: str
    told: dict[str, str]


def concrete(base: type, package: ModuleType = models) -> list[type]:
    """Classes under a package that fulfil a contract, by name."""
    found: set[type] = set()
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        for _, cls in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(cls, base) and not inspect.isabstract(cls):
                found.add(cls)
    return sorted(found, key=lambda cls: cls.__name__)


def describe(cls: type) -> Choice:
    """What the docstring of a choice says.

    Raises:
        ValueError: it lacks a label; names the class and the label.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    told = {}
    for label in _LABELS:
        # up to the next label, paragraph or end
        found = re.search(rf"^{label}: (.+?)(?=\n(?:{'|'.join(_LABELS)}): |\n\n|\Z)", text, re.S | re.M)
        if found is None:
            raise ValueError(f"The docstring of {cls.__module__}.{cls.__name__} has no line '{label}:'.")
        told[label] = " ".join(found[1].split()).removesuffix(".")
    summary = " ".join(text.split("\n\n")[0].split())
    return Choice(cls.__name__, cls.__module__, summary, told)


def page() -> str:
    """The whole of ``docs/models.md``."""
    # policies work on tables, which no model imports; only this page asks for them, and by name
    policies = importlib.import_module("features.sampling")
    sampling: type = importlib.import_module("features.sampling.base").Sampling
    parts = [_HEAD]
    for field, decides, base, package in (
        *((*family, models) for family in FAMILIES),
        ("sampling", "Which rows an objective learns from, and how often.", sampling, policies),
    ):
        rows = [
            f"| `{choice.module}.{choice.name}` | {choice.summary} | "
            + " | ".join(choice.told[label].replace("|", r"\|") for label in _LABELS)
            + " |"
            for choice in map(describe, concrete(base, package))
        ]
        columns = (field, "what it is", "equation", "source", "use it", "cost")
        head = f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"
        parts.append("\n".join([f"## `{field}`\n", f"{decides}\n", head, *rows, ""]))
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
