"""Published probabilities against the chain rule in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from features.funnel import Funnel
from models.batch import Batch
from models.entire_space.values import Predictions
from models.line import Line
from models.score import probabilities, score_arrays


def forced(line: Line, logits_BK: torch.Tensor) -> Line:
    """The line with a network that says what it is told."""
    line.network.forward = lambda *read: logits_BK  # type: ignore[method-assign]
    return line


def test_columns_are_those_of_the_funnel(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch], funnel: Funnel
) -> None:
    scores = probabilities(make_line(), make_batch(5))
    assert list(scores) == [column.name for column in funnel.score_columns]
    assert {(p.dtype, p.shape) for p in scores.values()} == {(torch.float32, (5,))}


def test_joint_is_the_product_along_the_path(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    logits_BK = torch.from_numpy(np.random.default_rng(0).normal(0, 2, (30, 4)).astype(np.float32))
    scores = probabilities(forced(make_line(), logits_BK), make_batch(30))
    a, b, c, d = 1 / (1 + np.exp(-logits_BK.double().numpy().T))
    expected = {"pctr": a, "pcvr": b, "pctcvr": a * b, "p_c": a * c, "p_c_given_a": c, "p_d": d}
    assert scores.keys() == expected.keys()
    for name, p in expected.items():
        np.testing.assert_allclose(scores[name], p, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("size", [1.0, 17.0, 100.0, 3e38])
def test_a_joint_probability_never_exceeds_its_parent(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch], size: float
) -> None:
    rng = np.random.default_rng(1)
    logits_BK = torch.from_numpy((size * rng.uniform(-1, 1, (4099, 4))).astype(np.float32))
    logits_BK[::3, 1:] = 40.0  # children that are certain: joint and parent differ by rounding at most
    scores = probabilities(forced(make_line(), logits_BK), make_batch(4099))
    assert (scores["pctcvr"] <= scores["pctr"]).all()
    assert (scores["p_c"] <= scores["pctr"]).all()
    for p in scores.values():
        assert ((p >= 0) & (p <= 1)).all()


def test_the_order_holds_even_if_a_last_digit_does_not(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = make_line()
    log_p_BK = torch.tensor([[-1.0, -0.9999998, -1.0, -1.0]])
    said = Predictions(log_p_BK, log_p_BK, torch.empty(1, 0))
    monkeypatch.setattr(line, "predict", lambda batch: said)
    scores = probabilities(line, make_batch(1))
    assert log_p_BK[0, 1].exp() > log_p_BK[0, 0].exp()
    assert scores["pctcvr"] == scores["pctr"]


def test_a_row_scores_the_same_alone_and_in_company(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, batch = make_line(), make_batch(40)
    alone = Batch(**{name: value[7:8] for name, value in vars(batch).items() if value is not None})
    for name, p in probabilities(line, alone).items():
        torch.testing.assert_close(p, probabilities(line, batch)[name][7:8])


def test_blocks_score_like_the_whole(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, batch = make_line(), make_batch(11)
    arrays = {
        "rows": batch.rows_BF.numpy(),
        "bag_rows": batch.bag_rows_BL.numpy(),
        "dense": batch.dense_BD.numpy(),
    }
    whole = probabilities(line, batch)
    for block_rows in (3, 11, 100):
        for name, values in score_arrays(line, arrays, block_rows=block_rows).items():
            np.testing.assert_allclose(values, whole[name], rtol=1e-5)
