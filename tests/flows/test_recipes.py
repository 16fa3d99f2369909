"""Every recipe of every scenario, found unasked: its line learns, scores and goes on exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features import scenarios
from flows import recipes
from flows.house import House
from flows.settings import Settings
from flows.stages.version import load
from models import checkpoint
from models.batch import Batch, InputSpec
from models.line import Line

RECIPES = [(scenario, name) for scenario in scenarios.names() for name in recipes.names(scenario)]


@pytest.fixture(params=RECIPES, ids="-".join)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Line:
    """As the stage ``train`` builds it on the first day."""
    scenario, name = request.param
    house = House.open(Settings(warehouse=tmp_path, logs={scenario: tmp_path}, scenario=scenario))
    return load(house, recipes.get(scenario, name), None)


def batch_of(line: Line, rows: int, label: float | None = None) -> Batch:
    """Rows of the line's own layout; without a label, labels are drawn along the funnel."""
    spec: InputSpec = line.spec
    rng = np.random.default_rng(rows)
    y_BK = (rng.random((rows, len(line.funnel))) < 0.5).astype(np.float32)
    for k, objective in enumerate(line.funnel):
        if (parent := line.funnel.parent_index(objective)) is not None:
            y_BK[:, k] *= y_BK[:, parent]
    return Batch.from_numpy(
        {
            "rows": rng.integers(1, spec.num_rows, (rows, spec.num_fields)),
            "bag_rows": rng.integers(0, spec.num_rows, (rows, sum(spec.bag_lengths))),
            "dense": rng.standard_normal((rows, spec.num_dense)).astype(np.float32),
            "y": y_BK if label is None else np.full_like(y_BK, label),
            "trains": np.ones(y_BK.shape, dtype=np.bool_),
        }
    )


def test_every_weight_of_a_recipe_learns(line: Line) -> None:
    learning = [*line.network.named_parameters(), *line.balancer.named_parameters()]
    before = {name: parameter.detach().clone() for name, parameter in learning}
    table = line.embedding.weight_RD.clone()
    line.learn(batch_of(line, 256))
    assert [name for name, parameter in learning if torch.equal(before[name], parameter)] == []
    assert not torch.equal(table, line.embedding.weight_RD)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_recipe_learns_and_scores_one_row_of_one_class_in_the_order_of_the_funnel(
    line: Line, label: float
) -> None:
    batch = batch_of(line, 1, label)
    assert torch.isfinite(line.learn(batch)).all()
    found = line.predict(batch)
    binary = line.funnel.binary
    for k, objective in enumerate(binary):
        if (parent := binary.parent_index(objective)) is not None:
            assert (found.joint_BJ[:, k] <= found.joint_BJ[:, parent]).all()
    assert torch.isfinite(found.joint_BJ).all()


def test_a_saved_recipe_goes_on_to_the_bit(line: Line, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "fresh", line.state(), {})
    line.learn(batch_of(line, 64))
    checkpoint.save(tmp_path / "saved", line.state(), {})
    line.learn(batch_of(line, 32))
    undisturbed = {name: tensor.clone() for name, tensor in line.state().items()}
    for name in ("fresh", "saved"):  # nothing of what it learned since is left
        line.restore(checkpoint.load(tmp_path / name)[0])
    line.learn(batch_of(line, 32))
    assert [name for name, found in line.state().items() if not torch.equal(found, undisturbed[name])] == []
