"""A tensor that is held by parts answers as the plain tensor does, whatever is asked of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.pair_rows import Chosen, Grid, Rows
from models.side_table import Side, Table
from models.split import Split

WEIGHT, BIAS, GATE = torch.randn(1, 6, 5), torch.randn(1, 1, 5), torch.randn(4, 6)
BY_PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "product": lambda x: torch.bmm(x, WEIGHT),
    "product and bias": lambda x: torch.baddbmm(BIAS, x, WEIGHT),
    "gate": lambda x: torch.matmul(GATE, x[0].T),
    "squares": lambda x: x.square().sum(dim=(0, 2)),
    "repeated": lambda x: torch.bmm(x.expand(3, -1, -1), WEIGHT.expand(3, -1, -1)),
    "taken apart": lambda x: torch.matmul(GATE, next(iter(x[-1:].unbind())).unsqueeze(0)[0].T),
}
AS_A_WHOLE: dict[str, Callable[[Tensor], Tensor]] = {
    "not linear": torch.exp,
    "beside another": lambda x: torch.cat((x, x), dim=2),
    "times another": lambda x: x * x,
    "of rows": lambda x: x.sum(dim=1),
    "one column": lambda x: x[:, :, 2],
}


def made(rows: Rows, users: int, items: int, user_B: Tensor, item_B: Tensor) -> tuple[Split, Tensor]:
    """Six columns of users, items and pairs in mixed order; by parts, and looked up one by one."""
    generator = torch.Generator().manual_seed(3)
    places = {Side.USER: (0, 4, 2), Side.ITEM: (1, 5), Side.PAIR: (3,)}
    counts = {Side.USER: users, Side.ITEM: items, Side.PAIR: len(rows)}
    values = {s: torch.randn(1, counts[s], len(places[s]), generator=generator) for s in places}
    look = {Side.USER: user_B, Side.ITEM: item_B, Side.PAIR: torch.arange(len(rows))}
    plain = torch.empty(1, len(rows), 6)
    for side, own in places.items():
        for column, place in enumerate(own):
            for row in range(len(rows)):
                plain[0, row, place] = values[side][0, look[side][row], column]
    tables = {side: Table(values[side], places[side]) for side in places}
    return Split.of(tables, rows, rows_axis=1, columns_axis=2), plain


def grid() -> tuple[Split, Tensor]:
    user_B = torch.tensor([1, 1, 1, 2, 2, 2])
    item_B = torch.tensor([2, 3, 4, 2, 3, 4])
    return made(Grid(range(1, 3), range(2, 5)), 4, 6, user_B, item_B)


def chosen() -> tuple[Split, Tensor]:
    user_B, item_B = torch.tensor([0, 2, 0, 3, 3]), torch.tensor([1, 1, 0, 5, 2])
    return made(Chosen(user_B, item_B), 4, 6, user_B, item_B)


@pytest.mark.parametrize("block", [grid, chosen])
@pytest.mark.parametrize("name", [*BY_PARTS, *AS_A_WHOLE])
def test_an_operation_by_parts_gives_what_it_gives_on_the_plain_tensor(
    name: str, block: Callable[[], tuple[Split, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    split, plain = block()
    if name in BY_PARTS:
        monkeypatch.setattr(Split, "whole", None)  # whoever asks for the whole fails
    operation = (BY_PARTS | AS_A_WHOLE)[name]
    torch.testing.assert_close(operation(split), operation(plain))


@pytest.mark.parametrize("block", [grid, chosen])
def test_the_parts_are_left_as_they_were(block: Callable[[], tuple[Split, Tensor]]) -> None:
    """Sums are made in place where nobody else looks, and only there."""
    split, plain = block()
    for _ in range(2):
        torch.testing.assert_close(torch.baddbmm(BIAS, split, WEIGHT).relu_(), (plain @ WEIGHT + BIAS).relu())
    torch.testing.assert_close(split.whole(), plain)


def test_a_product_is_made_once_for_all_blocks() -> None:
    users = Table(torch.randn(1, 3, 6), (0, 1, 2, 3, 4, 5))
    asked = []
    for _ in range(2):
        users.made("key", None, lambda values: asked.append(1) or values)
    assert asked == [1]


def test_weights_that_are_put_together_for_every_block_are_known_by_their_numbers() -> None:
    """Also where a new tensor lies where an old one lay."""
    split, plain = chosen()
    halves = GATE.split(2)
    for scale in (1.0, 2.0, 1.0):
        gate = torch.cat(halves) * scale
        torch.testing.assert_close(torch.matmul(gate, split[0].T), torch.matmul(gate, plain[0].T))
    users = split[0].T.tables[Side.USER]
    assert len(users._made) == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([(Side.USER,), (Side.ITEM,), tuple(Side)]))
def test_sides_may_be_absent(users: int, items: int, sides: tuple[Side, ...]) -> None:
    rows = Grid(range(users), range(items))
    counts = {Side.USER: users, Side.ITEM: items, Side.PAIR: users * items}
    tables = {s: Table(torch.randn(1, counts[s], 2), (2 * n, 2 * n + 1)) for n, s in enumerate(sides)}
    split = Split.of(tables, rows, rows_axis=1, columns_axis=2)
    weight = torch.randn(1, 2 * len(sides), 3)
    assert split.shape == (1, users * items, 2 * len(sides))
    torch.testing.assert_close(torch.bmm(split, weight), torch.bmm(split.whole(), weight))


@pytest.mark.parametrize("sides", [(Side.USER, Side.ITEM), (Side.USER, Side.PAIR), (Side.ITEM,), tuple(Side)])
def test_listed_pairs_look_users_and_items_up_in_one_table_made_once(sides: tuple[Side, ...]) -> None:
    whole, plain = chosen()
    tables = {side: whole.tables[side] for side in sides}
    places = torch.tensor([place for table in tables.values() for place in table.places])
    expected = plain[0][:, places] @ WEIGHT[0, places]
    made = []

    def product(values: Tensor, places: Tensor, first: bool) -> Tensor:
        made.append(first)
        return values[0] @ WEIGHT[0, places]

    for _ in range(2):
        block = Split.of(tables, whole.rows, rows_axis=1, columns_axis=2)
        torch.testing.assert_close(block.added("product", None, product, rows_axis=0), expected)
    assert made == [True, *[False] * (len(sides) - 1)]
    if sides[:2] == (Side.USER, Side.ITEM):
        assert (len(tables[Side.USER]._made), len(tables[Side.ITEM]._made)) == (1, 0)


@pytest.mark.parametrize("block", [grid, chosen])
def test_sums_in_bfloat16_are_those_of_its_numbers_rounded_once(
    block: Callable[[], tuple[Split, Tensor]],
) -> None:
    """Half a unit in the last of its eight places; halves go either way."""
    split, _ = block()
    tables = {side: Table(split.tables[side].values.bfloat16(), (side,)) for side in (Side.USER, Side.ITEM)}

    def vectors(values: Tensor, places: Tensor, first: bool) -> Tensor:
        return values[0].repeat(1, 8)[:, :16]

    narrow, wide = (
        Split.of(
            {s: Table(t.values.to(d), t.places) for s, t in tables.items()},
            split.rows,
            rows_axis=1,
            columns_axis=2,
        ).added("vectors", None, vectors, rows_axis=0)
        for d in (torch.bfloat16, torch.float32)
    )
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), wide, rtol=2**-8, atol=0)
