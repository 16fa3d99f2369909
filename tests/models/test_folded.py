"""Fields that are read by vocabulary: nothing that a line learns or says depends on it but for rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from features.funnel import Funnel
from models import folded
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.entire_space.base import Labels
from models.entire_space.esmm import ESMM
from models.first_layer import First, first_layers
from models.folded import Fold, Folded, Places
from models.interaction.base import Interaction
from models.lazy_adam import sum_per_row
from models.line import Line
from models.lookup import FoldedLookup, Lookup, look_up
from models.mmoe import MMoE
from models.ple import PLE
from models.row_wise_adagrad import RowWiseAdagrad
from models.towers import Towers

#: Vocabularies of 5, 30 and 9 rows behind one of 70, out of order; two bags read the rows of the first.
SPEC = InputSpec(
    num_rows=115,
    num_fields=4,
    bag_lengths=(4, 2),
    num_dense=2,
    vocabularies=((1, 5), (45, 70), (6, 30), (36, 9)),
)
#: The second field has too many ids for it.
BATCH, SMALL = 140, (0, 3, 2)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Vocabularies are few rows each, and so are the batches that read by them."""
    monkeypatch.setattr(folded, "_POSITIONS", 1)
    monkeypatch.setattr(folded, "_LEAST", 8)
    folded._fold.cache_clear()
    yield
    folded._fold.cache_clear()


@pytest.fixture
def make_rows(funnel: Funnel, make_labels: Callable[..., np.ndarray]) -> Callable[..., Batch]:
    """``make_rows(seed, spec)``: few ids come up, so that many rows of the vocabularies are not read."""

    def make(seed: int = 0, spec: InputSpec = SPEC) -> Batch:
        rng = np.random.default_rng(seed)
        first, count = np.array(spec.vocabularies).T
        rank = np.floor(count * rng.random((BATCH, len(first))) ** 3).astype(np.int64)
        return Batch.from_numpy(
            {
                "rows": first + rank,
                "bag_rows": rng.integers(0, 6, (BATCH, sum(spec.bag_lengths))),
                "dense": rng.standard_normal((BATCH, spec.num_dense)).astype(np.float32),
                "y": make_labels(rng, BATCH, funnel),
                "trains": rng.random((BATCH, len(funnel))) < 0.8,
            }
        )

    return make


def line(funnel: Funnel, *, folds: bool, spec: InputSpec = SPEC, **changed: Any) -> Line:
    said: dict[str, Any] = {
        "architecture": partial(Towers, layers=(8, 4)),
        "method": ESMM(),
        "balancer": Static,
        "dim": 4,
        "dense_rate": 1e-3,
        "embedding_rate": 1e-2,
        "seed": 7,
    }
    return Line.fresh(spec if folds else replace(spec, vocabularies=()), funnel, **(said | changed))


def gradients(line: Line, batch: Batch) -> dict[str, Tensor]:
    """Of every weight of the network, and of every row of the table that the batch reads."""
    found = look_up(line.embedding, batch, line._how)
    found.vectors.requires_grad_()
    losses_K = line._losses(found, Labels(*batch.labels, batch.weight_B, 0, None))
    losses_K.sum().backward()
    assert found.vectors.grad is not None
    rows_U, grad_UD = sum_per_row(found.rows.flatten(), found.vectors.grad.flatten(0, 1))
    read = rows_U != 0
    told = {"losses": losses_K.detach(), "rows": rows_U[read], "vectors": grad_UD[read]}
    for name, parameter in line.network.named_parameters():
        assert parameter.grad is not None, name
        told[name], parameter.grad = parameter.grad, None
    return told


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_the_fields_of_few_ids_are_chosen() -> None:
    fold = Fold.of(SPEC, BATCH, 4)
    assert fold is not None
    assert fold.fields == SMALL
    assert fold.kept_K.tolist() == [1]
    assert [stop - start for start, stop in fold.spans] == [5, 9, 30]
    assert len(fold.rows_T) == 8 + 16 + 32
    assert Fold.of(SPEC, 19, 4) is None
    assert Fold.of(replace(SPEC, vocabularies=()), BATCH, 4) is None


def test_few_positions_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folded, "_POSITIONS", 3 * BATCH + 1)
    assert Fold.of(SPEC, BATCH, 4) is None


def test_losses_and_gradients_of_every_architecture_are_those_of_plain_rows(
    architecture_class: Callable[..., Architecture], funnel: Funnel, make_rows: Callable[..., Batch]
) -> None:
    both = [line(funnel, folds=folds, architecture=architecture_class) for folds in (True, False)]
    rows = make_rows()
    # first asked for where there are no gradients, as a day is scored before it is learned
    said = [one.predict(rows).conditional_BJ for one in both]
    torch.testing.assert_close(*said, rtol=1e-4, atol=1e-5)
    spaces = both[0].network.spaces
    expected = Lookup if spaces > 1 else FoldedLookup
    assert type(look_up(both[0].embedding, rows, both[0]._how)) is expected
    close(*(gradients(one, rows) for one in both))


def test_every_interaction_reads_the_same(
    interaction_class: Callable[..., Interaction], funnel: Funnel, make_rows: Callable[..., Batch]
) -> None:
    both = [line(funnel, folds=folds, interaction=interaction_class) for folds in (True, False)]
    close(*(gradients(one, make_rows()) for one in both))


@pytest.mark.parametrize(
    "architecture",
    [
        partial(Towers, layers=(8,)),
        partial(MMoE, experts=3, expert=(8, 4), layers=(4,)),
        partial(MMoE, experts=2, expert=(8,), layers=(4,), gate=(5,)),
        partial(PLE, levels=((8,), (6,)), own=2, shared=2, layers=(4,)),
    ],
    ids=["one layer", "mmoe", "hidden gates", "ple"],
)
def test_a_line_learns_the_same_rows_in_the_same_way(
    architecture: Callable[..., Architecture], funnel: Funnel, make_rows: Callable[..., Batch]
) -> None:
    """Rows that a batch does not read stay where they are, moments or not."""
    both = [line(funnel, folds=folds, architecture=architecture) for folds in (True, False)]
    for seed in range(5):
        rows = make_rows(seed)
        before = both[0].embedding.weight_RD.clone()
        told = [one.learn(rows) for one in both]
        torch.testing.assert_close(*told, rtol=1e-4, atol=1e-5)
        moved_R = (both[0].embedding.weight_RD != before).any(dim=1)
        read = torch.cat((rows.rows_BF.flatten(), rows.bag_rows_BL.flatten())).unique()
        assert set(moved_R.nonzero().flatten().tolist()) == set(read.tolist()) - {0}
    torch.testing.assert_close(*(one.embedding_optimizer.state()["steps_R"] for one in both))
    torch.testing.assert_close(*(one.embedding.weight_RD for one in both), rtol=0, atol=2e-3)


def test_a_balancer_that_compares_gradients_sees_every_position(
    balancer_class: Callable[..., Balancer], funnel: Funnel, make_rows: Callable[..., Batch]
) -> None:
    """Whatever the balancer, a step is the same."""
    both = [
        line(funnel, folds=folds, balancer=balancer_class, embedding_optimizer=RowWiseAdagrad)
        for folds in (True, False)
    ]
    for seed in range(2):
        told = [one.learn(make_rows(seed)) for one in both]
        torch.testing.assert_close(*told, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        *([p.grad for p in one.balancer.parameters()] for one in both), rtol=1e-3, atol=1e-6
    )
    torch.testing.assert_close(*(dict(one.balancer.state_dict()) for one in both), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(*(one.embedding.weight_RD for one in both), rtol=0, atol=2e-3)


@pytest.mark.parametrize("products", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", [Towers, MMoE, PLE])
def test_fields_that_are_all_small_need_nothing_else(
    architecture: Callable[..., Architecture],
    products: torch.dtype,
    funnel: Funnel,
    make_rows: Callable[..., Batch],
) -> None:
    """No column is left that is held row by row."""
    spec = InputSpec(num_rows=11, num_fields=2, vocabularies=((1, 4), (5, 6)))
    both = [
        line(funnel, folds=folds, spec=spec, architecture=architecture, products=products)
        for folds in (True, False)
    ]
    rows = make_rows(spec=spec)
    told = [one.learn(rows) for one in both]
    torch.testing.assert_close(*told, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(*(one.predict(rows).conditional_BJ for one in both), rtol=5e-2, atol=5e-2)


def test_a_row_of_another_vocabulary_is_refused(funnel: Funnel, make_rows: Callable[..., Batch]) -> None:
    one, rows = line(funnel, folds=True), make_rows()
    rows.rows_BF[7, 2] = 36
    with pytest.raises(IndexError, match=r"'field_2' .* 30 rows of the table from 6 on"):
        one.learn(rows)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_whole_is_what_the_rows_hold(seed: int, size: int, fields: int, others: int) -> None:
    """Against every row put together by hand, and gradients against sums over the rows of each id."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 12, fields + others)
    first = 1 + np.concatenate(([0], counts.cumsum()[:-1]))
    spec = InputSpec(
        1 + int(counts.sum()),
        fields + others,
        num_dense=1,
        vocabularies=tuple((int(f), int(c)) for f, c in zip(first, counts, strict=True)),
    )
    few = sorted(rng.permutation(fields + others)[:fields].tolist())
    rows_BF = torch.from_numpy(first + np.floor(counts * rng.random((size, len(counts)))).astype(np.int64))
    table_RD = torch.from_numpy(rng.normal(size=(spec.num_rows, 3)))
    dense_B1 = torch.from_numpy(rng.normal(size=(size, 1)))
    fold = Fold(spec, few, 3)
    places = Places(fold, rows_BF)
    vectors_TD = table_RD[fold.rows_T].requires_grad_()
    kept = [field for field in range(len(counts)) if field not in few]
    rest_BY = torch.cat((table_RD[rows_BF[:, kept]].flatten(1), dense_B1), dim=1).requires_grad_()
    shape = size, spec.width(3)
    whole_BX = Folded.of(places, vectors_TD, rest_BY, shape) * 1.0
    by_hand_BX = torch.cat((table_RD[rows_BF].flatten(1), dense_B1), dim=1)
    torch.testing.assert_close(whole_BX, by_hand_BX)
    into_BX = torch.from_numpy(rng.normal(size=shape))
    grad_TD, grad_BY = torch.autograd.grad((whole_BX * into_BX).sum(), (vectors_TD, rest_BY))
    expected_RD = torch.zeros_like(table_RD)
    for field in few:
        own_BD = into_BX[:, field * 3 : field * 3 + 3]
        for b in range(size):
            expected_RD[rows_BF[b, field]] += own_BD[b]
    torch.testing.assert_close(torch.zeros_like(table_RD).index_add_(0, fold.rows_T, grad_TD), expected_RD)
    torch.testing.assert_close(grad_BY, into_BX[:, fold.columns_Y])


@pytest.mark.parametrize("relu", [False, True])
def test_first_layers_are_products_of_the_whole_and_their_gradients_finite_differences(relu: bool) -> None:
    rng = np.random.default_rng(3)
    spec = InputSpec(20, 3, num_dense=2, vocabularies=((1, 3), (4, 9), (13, 6)))
    rows_BF = torch.from_numpy(np.stack([f + rng.integers(0, c, 7) for f, c in spec.vocabularies], axis=1))
    places = Places(Fold(spec, (0, 2), 2), rows_BF)
    ids = len(places.fold.rows_T)
    shapes = (ids, 2), (7, 4), (8, 5), (5,), (8, 3)
    told = [torch.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in shapes]

    def computed(vectors_TD: Tensor, rest_BY: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        x = Folded.of(places, vectors_TD, rest_BY, (7, 8))
        asked = [First(parameters[0], parameters[1], (2, 3), relu), First(parameters[2], None, (3,), False)]
        return tuple(output for outputs in first_layers(x, asked) for output in outputs)

    x_BX = Folded.of(places, told[0], told[1], (7, 8)).whole()
    first_BW = x_BX @ told[2] + told[3]
    first_BW = first_BW.relu() if relu else first_BW
    torch.testing.assert_close(computed(*told), (first_BW[:, :2], first_BW[:, 2:], x_BX @ told[4]))
    assert gradcheck(computed, told)


@pytest.mark.parametrize(
    "vocabularies", [((1, 5),), ((1, 5), (6, 0), (6, 9), (1, 1)), ((1, 5), (45, 71), (6, 30), (36, 9))]
)
def test_a_vocabulary_that_the_table_has_not_is_refused(vocabularies: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        replace(SPEC, vocabularies=vocabularies)
