"""ReLU and its mask by bits, against torch's own, for every number that there is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.relu import masked, masked_, relu_

#: All 65,536 numbers of bfloat16, NaNs, infinities, zeros and subnormals among them.
EVERY = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def numbers(dtype: torch.dtype) -> Tensor:
    return EVERY.to(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_is_torchs_for_every_number(dtype: torch.dtype) -> None:
    x = numbers(dtype)
    expected = torch.relu(x)
    found = relu_(x)
    assert found is x
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert not torch.signbit(found[~found.isnan()]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("turned", [False, True])
def test_the_mask_is_that_of_autograd(dtype: torch.dtype, turned: bool) -> None:
    """Also where what is masked does not lie row by row."""
    x = numbers(dtype)[~EVERY.isnan()].view(2, -1)[:, :1000].T if turned else numbers(dtype)[~EVERY.isnan()]
    grad = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    leaf = x.clone().requires_grad_()
    torch.relu(leaf).backward(grad)
    output = relu_(x.clone())
    assert leaf.grad is not None
    assert torch.equal(masked(grad, output), leaf.grad)
    own = grad.clone()
    assert masked_(own, output) is own
    assert torch.equal(own, leaf.grad)


def test_a_nan_in_what_a_network_reads_reaches_its_output() -> None:
    """A line is refused by its loss; a product gives NaNs either sign."""
    for sign in (1.0, -1.0):
        x = torch.full((4, 4), sign * float("nan")).bfloat16() @ torch.ones(4, 4).bfloat16()
        assert relu_(x).isnan().all()
