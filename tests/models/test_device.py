"""The same code on every device. What needs a GPU is skipped without one; the rest is shown without.

No tensor may be made on the default device while a line learns or predicts: with "meta" as the default, such
a tensor has no data and cannot meet those of the batch.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import checkpoint, machine
from models.architecture import Architecture
from models.balancing.base import Balancer
from models.balancing.dense_adamw import DenseAdamW
from models.batch import Batch
from models.entire_space.base import EntireSpace
from models.interaction.base import Interaction
from models.lazy_adam import LazyAdam
from models.line import Line
from models.row_wise_adagrad import RowWiseAdagrad
from models.row_wise_adam import RowWiseAdam

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")


@pytest.mark.side_by_side
def test_no_choice_makes_a_tensor_on_the_default_device_while_it_learns_or_predicts(
    architecture_class: type[Architecture],
    interaction_class: type[Interaction],
    method_class: type[EntireSpace],
    balancer_class: type[Balancer],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
) -> None:
    chosen = {
        "architecture": architecture_class,
        "interaction": interaction_class,
        "method": method_class(),
        "balancer": balancer_class,
    }
    plain, watched = make_line(**chosen), make_line(**chosen)
    for seed in range(3):
        plain.begin_day()
        losses_K = plain.learn(make_batch(16, seed))
        batch = make_batch(16, seed)
        with torch.device("meta"):
            watched.begin_day()
            assert torch.equal(watched.learn(batch), losses_K)
    expected, batch = plain.predict(make_batch(16, 9)), make_batch(16, 9)
    with torch.device("meta"):
        found = watched.predict(batch)
    assert torch.equal(found.joint_BJ, expected.joint_BJ)
    for name, tensor in plain.state().items():
        assert torch.equal(watched.state()[name], tensor), name


@pytest.mark.parametrize("optimizer", [LazyAdam, RowWiseAdam, RowWiseAdagrad])
def test_optimisers_keep_their_state_where_the_table_is(optimizer: Callable[..., Any]) -> None:
    made = optimizer(torch.empty(5, 2, device="meta"), rate=0.1)
    assert {tensor.device.type for tensor in made.state().values()} == {"meta"}


def test_a_batch_that_is_there_already_is_not_copied(make_batch: Callable[..., Batch]) -> None:
    nothing = np.zeros((4, 4), dtype=np.bool_)
    batch = make_batch(4, 0, open=nothing, again=nothing, complete=nothing.astype(np.float32))
    assert batch.to(CPU) is batch
    told, moved = tensors(batch), tensors(batch.to(torch.device("meta")))
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert {name: t.dtype for name, t in moved.items()} == {name: t.dtype for name, t in told.items()}
    assert len(told) == 9


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {name: t for part in (batch, batch.reading) for name, t in vars(part).items() if name != "reading"}


@pytest.mark.parametrize(
    ("told", "narrow", "expected"),
    [
        ({"avx512_bf16": True}, 0.5, torch.bfloat16),
        ({"avx512_bf16": True}, 0.9, torch.float32),  # too near for a loaded machine to tell
        ({"avx512_bf16": True}, 1.7, torch.float32),
        ({"avx2": True}, 0.5, torch.float32),  # what is emulated is not even measured
    ],
)
def test_bfloat16_is_only_used_where_the_device_is_faster_in_it(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, bool], narrow: float, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told)
    seconds = {torch.float32: 1.0, torch.bfloat16: narrow}
    monkeypatch.setattr(machine, "_seconds", seconds.__getitem__)
    machine._pays.cache_clear()
    assert machine.products_dtype("bfloat16", CPU) == expected
    assert machine.products_dtype("float32", CPU) == torch.float32
    machine._pays.cache_clear()
    with pytest.raises(ValueError, match="float16"):
        machine.products_dtype("float16", CPU)  # type: ignore[arg-type]


def test_a_product_is_timed_in_seconds_of_this_process() -> None:
    begun = time.process_time()
    assert 0 < machine._seconds(torch.float32) <= time.process_time() - begun


def test_a_prepared_process_has_one_thread() -> None:
    device = machine.prepare()
    assert torch.get_num_threads() == 1
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")


_PAGES = """
import resource, torch
from models.machine import prepare
prepare()
def step():
    tensors = [torch.zeros(5 << 18) for _ in range(6)]
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
# the least of some steps: the system may take pages away for reasons of its own
print(min([faults() for _ in range(13)][3:]))
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="another allocator than glibc's")
@pytest.mark.parametrize("users", [{}, {"MALLOC_TRIM_THRESHOLD_": "1000000"}])
def test_what_a_step_frees_is_kept_for_the_next_unless_the_user_says_otherwise(users: dict[str, str]) -> None:
    others = {"GLIBC_TUNABLES", *(name for name in os.environ if "MALLOC" in name)}
    environment = {name: value for name, value in os.environ.items() if name not in others}
    told = subprocess.run(
        [sys.executable, "-c", _PAGES], capture_output=True, text=True, env=environment | users, check=True
    )
    pages = int(told.stdout)
    # 30 MiB are 7,680 pages of 4 KiB
    assert pages > 1_000 if users else pages < 100


def learned(line: Line, make_batch: Callable[..., Batch]) -> list[np.ndarray]:
    return [line.learn(make_batch(64, seed)).numpy() for seed in range(5)]


@needs_gpu
@pytest.mark.side_by_side
def test_a_line_on_the_gpu_learns_what_one_on_the_processor_learns(
    architecture_class: type[Architecture],
    interaction_class: type[Interaction],
    method_class: type[EntireSpace],
    balancer_class: type[Balancer],
    make_line: Callable[..., Line],
    make_batch: Callable[..., Batch],
) -> None:
    make = partial(
        make_line,
        architecture=architecture_class,
        interaction=interaction_class,
        method=method_class(),
        balancer=balancer_class,
    )
    there, here = make(device=torch.device("cuda")), make()
    for name, tensor in here.state().items():
        assert torch.equal(there.state()[name].cpu(), tensor), name
    np.testing.assert_allclose(learned(there, make_batch), learned(here, make_batch), rtol=2e-2, atol=1e-4)
    found = there.predict(make_batch(64, 9))
    assert found.joint_BJ.device == CPU
    expected = here.predict(make_batch(64, 9))
    np.testing.assert_allclose(found.joint_BJ.exp(), expected.joint_BJ.exp(), rtol=5e-2, atol=5e-3)


@needs_gpu
def test_a_checkpoint_of_the_gpu_goes_on_at_the_processor_and_back(
    tmp_path: Path, make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    there, here = make_line(device=torch.device("cuda")), make_line(seed=8)
    learned(there, make_batch)
    there.reset_rows(torch.tensor([3, 7]), 7)
    checkpoint.save(tmp_path / "one", there.state(), {})
    here.restore(checkpoint.load(tmp_path / "one")[0])
    checkpoint.save(tmp_path / "two", here.state(), {})
    assert (tmp_path / "one" / checkpoint.TENSORS).read_bytes() == (
        tmp_path / "two" / checkpoint.TENSORS
    ).read_bytes()
    back = make_line(seed=9, device=torch.device("cuda"))
    back.restore(here.state())
    assert torch.equal(back.learn(make_batch(16, 5)), there.learn(make_batch(16, 5)))


@needs_gpu
@pytest.mark.parametrize("optimizer", [LazyAdam, RowWiseAdam, RowWiseAdagrad])
def test_steps_on_the_gpu_repeat_to_the_bit(
    optimizer: Callable[..., Any], make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    one, two = (make_line(device=torch.device("cuda"), embedding_optimizer=optimizer) for _ in range(2))
    learned(one, make_batch)
    learned(two, make_batch)
    for name, tensor in one.state().items():
        assert torch.equal(two.state()[name], tensor), name


@needs_gpu
def test_a_gpu_is_chosen_where_there_is_one() -> None:
    assert machine.default_device().type == "cuda"


def test_the_dense_optimizer_imports_no_compiler() -> None:
    program = (
        "import sys, torch\n"
        "from models.balancing.dense_adamw import DenseAdamW\n"
        "weight = torch.nn.Parameter(torch.ones(3))\n"
        "optimizer = DenseAdamW([weight], lr=0.1, fused=True)\n"
        "weight.sum().backward()\n"
        "optimizer.step()\n"
        "optimizer.load_state_dict(optimizer.state_dict())\n"
        "optimizer.zero_grad()\n"
        "assert (weight < 1).all()\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_dense_optimizer_is_adamw() -> None:
    moved = []
    for build in (DenseAdamW, torch.optim.AdamW):
        weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
        optimizer = build([{"params": [weight], "weight_decay": 0.1}], lr=0.1, fused=True)
        for power in (1, 2, 3):
            optimizer.zero_grad()
            (weight**power).sum().backward()
            optimizer.step()
        moved.append(weight.detach())
    assert torch.equal(*moved)
