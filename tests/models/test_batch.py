"""Arrays become tensors without a copy and without a conversion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from models.batch import Batch, InputSpec

ARRAYS = {
    "rows": np.array([[1, 2**62], [3, 4]]),
    "bag_rows": np.zeros((2, 0), dtype=np.int64),
    "dense": np.ones((2, 1), dtype=np.float32),
}
LABELS = {"y": np.zeros((2, 3), dtype=np.float32), "trains": np.ones((2, 3), dtype=np.bool_)}


@pytest.mark.parametrize("writeable", [True, False])
def test_a_batch_shares_memory_with_its_arrays(writeable: bool) -> None:
    arrays = {name: array.copy() for name, array in (ARRAYS | LABELS).items()}
    for array in arrays.values():
        array.flags.writeable = writeable
    batch = Batch.from_numpy(arrays)
    for name, tensor in (("rows", batch.rows_BF), ("dense", batch.dense_BD), ("trains", batch.labels[1])):
        assert tensor.data_ptr() == arrays[name].ctypes.data
    assert batch.rows_BF[0, 1].item() == 2**62
    assert len(batch) == 2


def test_rows_to_be_scored_need_no_labels_and_weigh_one() -> None:
    batch = Batch.from_numpy(ARRAYS)
    assert torch.equal(batch.weight_B, torch.ones(2))
    with pytest.raises(ValueError, match="no labels"):
        _ = batch.labels


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"rows": ARRAYS["rows"].astype(np.float32)}, TypeError, "'rows' must be int64, got float32"),
        ({"rows": ARRAYS["rows"].astype(np.int32)}, TypeError, "'rows' must be int64, got int32"),
        (
            {"dense": np.ones((3, 1), dtype=np.float32)},
            ValueError,
            r"'dense' must have .* 2 rows, got shape \(3, 1\)",
        ),
        ({"weight": np.ones((2, 1), dtype=np.float32)}, ValueError, "1 dimensions"),
        ({"y": LABELS["y"]}, ValueError, r"missing: \['trains'\]"),
        ({"clicks": LABELS["y"]}, ValueError, r"unknown: \['clicks'\]"),
    ],
)
def test_other_arrays_are_refused(
    changed: dict[str, np.ndarray], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Batch.from_numpy(ARRAYS | changed)


@pytest.mark.parametrize(
    ("part", "expected"), [("rows", "declares 3"), ("bag_rows", "declares 6"), ("dense", "declares 2")]
)
def test_a_batch_of_another_layout_is_refused(
    spec: InputSpec, make_batch: Callable[..., Batch], part: str, expected: str
) -> None:
    batch = make_batch(4)
    spec.check(batch)
    wrong = make_batch(4, **{part: np.zeros((4, 9), dtype=np.float32 if part == "dense" else np.int64)})
    with pytest.raises(ValueError, match=f"'{part}' has 9 columns.*{expected}"):
        spec.check(wrong)


@pytest.mark.parametrize("counts", [(0, 1, (), 0), (5, -1, (), 1), (5, 1, (3, 0), 0), (5, 0, (), 0)])
def test_an_impossible_layout_is_refused(counts: tuple[int, int, tuple[int, ...], int]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - four messages
        InputSpec(*counts)


def test_width_counts_fields_bags_and_dense_columns(spec: InputSpec) -> None:
    assert spec.width(dim=8) == (3 + 2) * 8 + 2
