"""Sorting whole numbers by their digits."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.stable_order import stable_order

#: Few small numbers, so that some are equal; others need one digit to four.
WHOLE = st.one_of(st.integers(0, 5), st.integers(0, 1 << 17), st.integers(0, (1 << 63) - 1))


@given(st.lists(WHOLE, max_size=60))
def test_the_order_is_that_of_a_stable_sort(numbers: list[int]) -> None:
    """Held to NumPy's own stable sort of the numbers as they are."""
    whole_N = np.array(numbers, dtype=np.int64)
    order_N = stable_order(torch.from_numpy(whole_N))
    assert order_N.dtype == torch.int64
    np.testing.assert_array_equal(order_N.numpy(), np.argsort(whole_N, kind="stable"))
