"""Small funnels and batches, and discovery: a new file in models/ is met by the contract tests unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from features.funnel import Funnel, Objective
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.choices import concrete
from models.entire_space.base import EntireSpace
from models.entire_space.esmm import ESMM
from models.heads import Heads
from models.inputs import Entry, Inputs, flat
from models.interaction.base import Interaction
from models.line import Line
from models.towers import Towers

FAMILIES = {
    "architecture_class": Architecture,
    "interaction_class": Interaction,
    "method_class": EntireSpace,
    "balancer_class": Balancer,
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One family: each of its choices. Several: ``pairs``, or ``side_by_side`` where a test is marked so."""
    asked = [argument for argument in metafunc.fixturenames if argument in FAMILIES]
    if not asked:
        return
    combine = side_by_side if metafunc.definition.get_closest_marker("side_by_side") else pairs
    chosen = combine(*(concrete(FAMILIES[argument]) for argument in asked))
    ids = ["-".join(cls.__name__ for cls in classes) for classes in chosen]
    metafunc.parametrize(asked, chosen, ids=ids)


def pairs(first: Sequence[type], *others: Sequence[type]) -> list[tuple[type, ...]]:
    """Combinations in which every class of the first family meets every class of each other family.

    All combinations grow with the product of the families; these with the product of the largest two.
    """
    runs = max(map(len, others), default=1)
    return [
        (cls, *(other[(i + j) % len(other)] for other in others))
        for i, cls in enumerate(first)
        for j in range(runs)
    ]


def side_by_side(*families: Sequence[type]) -> list[tuple[type, ...]]:
    """Combinations in which every class occurs, for what the families do without each other."""
    return [tuple(family[i % len(family)] for family in families) for i in range(max(map(len, families)))]


def tree(*given: int | None) -> Funnel:
    """Objectives a, b, c ..., each given the one at the stated place; b must be given a."""
    names = "abcdefgh"
    return Funnel(
        tuple(
            Objective(
                name=names[k],
                log="log",
                given=None if parent is None else names[parent],
                window=timedelta(hours=1),
            )
            for k, parent in enumerate(given)
        ),
        click="a",
        conversion="b",
    )


@pytest.fixture(scope="session")
def make_tree() -> Callable[..., Funnel]:
    """``make_tree(None, 0, 0)``: three objectives, the second and third given the first."""
    return tree


@pytest.fixture
def funnel() -> Funnel:
    """Click, conversion given click, like given click, share given nothing."""
    return tree(None, 0, 0, None)


SPEC = InputSpec(num_rows=50, num_fields=3, bag_lengths=(4, 2), num_dense=2)


@pytest.fixture
def spec() -> InputSpec:
    return SPEC


def labels(rng: np.random.Generator, rows: int, funnel: Funnel, rate: float = 0.5) -> np.ndarray:
    """Joint labels: a child only where its parent is."""
    y = (rng.random((rows, len(funnel))) < rate).astype(np.float32)
    for k, objective in enumerate(funnel):
        parent = funnel.parent_index(objective)
        if parent is not None:
            y[:, k] *= y[:, parent]
    return y


@pytest.fixture
def make_labels() -> Callable[..., np.ndarray]:
    return labels


#: Three fields with two numbers each and one quantity: seven columns.
ENTRY = Entry(width=7, dim=2, fields=("user", "item", "scene"), num_dense=1)


@pytest.fixture
def make_network() -> Callable[..., Architecture]:
    """``make_network(cls, heads, generator)``: a network on the small entry, with its embedding spaces."""

    def make(cls: Any, heads: Heads | int, generator: torch.Generator) -> Architecture:
        heads = Heads.free(heads) if isinstance(heads, int) else heads
        declared = cls.func if isinstance(cls, partial) else cls
        entry = Entry(ENTRY.width, ENTRY.dim, ENTRY.fields, ENTRY.num_dense, declared.spaces(heads))
        return cls(entry, heads, generator=generator)

    return make


@pytest.fixture
def make_inputs() -> Callable[..., Inputs]:
    """``make_inputs(rows, spaces)``: random inputs of the small entry in float64."""

    def make(rows: int, spaces: int = 1, dtype: torch.dtype = torch.float64) -> Inputs:
        rng = np.random.default_rng(1)
        vectors = torch.from_numpy(rng.normal(size=(spaces, rows, 3, 2))).to(dtype)
        dense = torch.from_numpy(rng.normal(size=(rows, 1))).to(dtype)
        return Inputs(flat(vectors, dense), vectors, dense)

    return make


def batch(funnel: Funnel, size: int = 16, seed: int = 0, /, **changed: np.ndarray) -> Batch:
    rng = np.random.default_rng(seed)
    bags = rng.integers(0, SPEC.num_rows, (size, sum(SPEC.bag_lengths)))
    bags[rng.random(bags.shape) < 0.4] = 0
    arrays: dict[str, Any] = {
        "rows": rng.integers(1, SPEC.num_rows, (size, SPEC.num_fields)),
        "bag_rows": bags,
        "dense": rng.standard_normal((size, SPEC.num_dense)).astype(np.float32),
        "y": labels(rng, size, funnel),
        "trains": rng.random((size, len(funnel))) < 0.8,
        "weight": rng.uniform(0.5, 2.0, size).astype(np.float32),
    }
    return Batch.from_numpy(arrays | changed)


@pytest.fixture
def make_batch(funnel: Funnel) -> Callable[..., Batch]:
    """A batch of the small layout: ``make_batch(size, seed, **changed arrays)``."""
    return partial(batch, funnel)


@pytest.fixture
def make_line(funnel: Funnel) -> Callable[..., Line]:
    """A small line; any argument of ``Line.fresh`` may be given."""

    def make(**changed: Any) -> Line:
        settings: dict[str, Any] = {
            "architecture": partial(Towers, layers=(8, 4)),
            "method": ESMM(),
            "balancer": Static,
            "dim": 4,
            "dense_rate": 1e-2,
            "embedding_rate": 1e-2,
            "seed": 7,
        }
        return Line.fresh(SPEC, changed.pop("funnel", funnel), **(settings | changed))

    return make


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
