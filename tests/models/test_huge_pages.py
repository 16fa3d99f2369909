"""Tables in huge pages are tensors like any others."""

from __future__ import annotations

import gc

import pytest
import torch

from models.huge_pages import zero_table, zeros_beside

SMALL, LARGE = (7, 3), (100_000, 16)  # less and more than one page of 2 MiB


@pytest.mark.parametrize("shape", [SMALL, LARGE])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32])
def test_a_table_begins_with_zeros(shape: tuple[int, int], dtype: torch.dtype) -> None:
    table = zero_table(*shape, dtype=dtype)
    assert table.shape == shape
    assert table.dtype == dtype
    assert table.is_contiguous()
    assert torch.equal(table, torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_numbers_that_are_drawn_into_it_are_those_of_any_tensor(shape: tuple[int, int]) -> None:
    drawn = zero_table(*shape).normal_(generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn, torch.empty(shape).normal_(generator=torch.Generator().manual_seed(3)))


def test_its_memory_stays_for_as_long_as_a_part_of_it_is_held() -> None:
    part = zero_table(*LARGE)[-2:]
    part.fill_(5.0)
    gc.collect()
    assert torch.equal(part, torch.full((2, 16), 5.0))


def test_two_tables_share_nothing() -> None:
    one, other = zero_table(*LARGE), zero_table(*LARGE)
    one.fill_(1.0)
    assert not other.any()


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_what_stands_beside_a_table_has_its_rows_device_and_dtype(shape: tuple[int, int]) -> None:
    table = torch.ones(shape, dtype=torch.float64)
    assert torch.equal(zeros_beside(table), torch.zeros(len(table), dtype=torch.float64))
    counts = zeros_beside(table, 2, dtype=torch.int32)
    assert torch.equal(counts, torch.zeros(len(table), 2, dtype=torch.int32))
    assert zeros_beside(table.to("meta"), 4).device.type == "meta"
