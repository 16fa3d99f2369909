"""Objectives that are values: what is refused, what is learned, and what their scores promise."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.batches import fresh_rows, targets
from features.errors import UsageError
from features.funnel import Funnel, Objective, ScoreColumn
from features.sampling.aman import AMAN
from features.sampling.base import Sampling
from features.sampling.negative_down import NegativeDown
from features.sampling.oversampling import Oversampling
from features.sampling.unbias import Unbias
from features.scenarios.shop import SCENARIO
from features.schemas import samples, scores
from features.validation.contract import breaches
from features.validation.tables import contract

HOUR = timedelta(hours=1)
SPEND = Objective(
    name="spend",
    log="conversion",
    given="click",
    window=timedelta(days=2),
    kind="value",
    value="amount_cents",
    scale=100.0,
)
WORTH = replace(SPEND, name="worth", given=None, scale=1.0)
FUNNEL = replace(SCENARIO.funnel, objectives=(*SCENARIO.funnel, SPEND, WORTH))
VALUED = replace(SCENARIO, funnel=FUNNEL)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kind": "count"}, r"Kind of objective 'spend' must be one of \('binary', 'value'\), got 'count'"),
        ({"value": None}, "'spend' is a value and must name its column"),
        ({"scale": 0.0}, "Scale of objective 'spend' must be above 0, got 0.0"),
        ({"scale": -1.0}, "must be above 0"),
        ({"scale": float("nan")}, "must be above 0"),
        ({"scale": float("inf")}, "must be above 0"),
        ({"kind": "binary"}, "'spend' is binary and has no scale, got 100.0"),
    ],
)
def test_a_value_that_cannot_be_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SPEND, **changed)


def test_nothing_is_given_a_value_and_it_has_no_role() -> None:
    click, conversion = SCENARIO.funnel
    tip = Objective(name="tip", log="click", given="spend", window=HOUR)
    with pytest.raises(ValueError, match="'tip' is given 'spend', which is a value"):
        Funnel((click, conversion, SPEND, tip), click="click", conversion="conversion")
    with pytest.raises(ValueError, match="'click' names 'worth', which is a value"):
        Funnel((WORTH, click, conversion), click="worth", conversion="conversion")
    with pytest.raises(ValueError, match="'conversion' names 'spend', which is a value"):
        Funnel((click, SPEND), click="click", conversion="spend")


def test_a_value_is_published_per_impression_and_per_event_of_its_parent() -> None:
    assert FUNNEL.score_columns == (
        *SCENARIO.funnel.score_columns,
        ScoreColumn("e_spend", "spend", True, "value"),
        ScoreColumn("e_spend_given_click", "spend", False, "value"),
        ScoreColumn("e_worth", "worth", True, "value"),
    )
    told = scores(VALUED).columns
    assert told["e_spend"] == "Expected spend (amount_cents / 100) per impression."
    assert told["e_spend_given_click"] == "Expected spend (amount_cents / 100) per click, if it happens."
    assert told["e_worth"] == "Expected worth (amount_cents) per impression."
    assert told["pcvr"] == scores(SCENARIO).columns["pcvr"] == "Probability of conversion given click."
    assert samples(VALUED).columns["v_spend"].endswith("Learned and predicted in units of 100.")


def test_what_is_learned_is_the_sum_in_its_unit_and_trains_by_the_clock() -> None:
    """Also of a sum with more digits than a float32 has, and of one below zero."""
    cents = [0, 1_999, -250, 16_777_217_00]
    start = datetime(2026, 3, 27)
    rows = pl.LazyFrame(
        {
            "exposed_at": [start + hour * HOUR for hour in (0, 1, 47, 48)],
            "y_click": [0, 1, 1, 1],
            "y_conversion": [0, 1, 0, 1],
            "v_spend": cents,
            "v_worth": cents,
            "weight": [1.0] * 4,
        },
        schema_overrides={"exposed_at": pl.Datetime("us")},
    ).with_columns(arrived_at="exposed_at")
    # final 50 h (spend) and 49 h (worth) after the exposure, the hour for late news included
    fresh = fresh_rows(rows, VALUED, start + 50 * HOUR, start + 98 * HOUR).collect()
    found = targets(fresh, VALUED)
    assert found["y"].dtype == np.float32
    assert found["y"][:, 2].tolist() == [0.0, np.float32(19.99), -2.5, np.float32(16_777_217)]
    assert found["y"][:, 3].tolist() == [0.0, 1_999.0, -250.0, np.float32(16_777_217_00)]
    assert found["y"][:, :2].tolist() == [[0, 0], [1, 1], [1, 0], [1, 1]]
    assert found["trains"][:, 2].tolist() == [True, True, True, False]
    assert found["trains"][:, 3].tolist() == [False, True, True, True]


def test_a_score_is_held_to_its_kind() -> None:
    """A probability lies in [0, 1], a value need only be a number."""
    table = scores(VALUED)
    told, schema = contract(table, VALUED), pl.DataFrame(table.all_columns.empty_table()).schema
    good = {column.name: 0.5 for column in FUNNEL.score_columns}
    whole = {"user_id": 1, "item_id": "a", "user_rank": 1, "model_version": "m", "line": "l"}
    whole |= {"unknown_user": False, "unknown_item": False, "dt": datetime(2026, 3, 27).date()}

    def broken(**values: float | None) -> list[str]:
        row = {name: [(whole | good | values).get(name)] for name in schema}
        return [breach.rule for breach in breaches(told, [pl.DataFrame(row, schema=schema)], ("fail",))]

    assert broken() == broken(e_spend=-7.5, e_worth=1e9, e_spend_given_click=0.0) == []
    assert len(broken(pctr=1.5)) == 1
    for value in (None, float("nan"), float("inf")):
        assert len(broken(e_spend=value)) == len(broken(e_worth=value)) == 1


@pytest.mark.parametrize(
    "policy",
    [
        NegativeDown(objectives=("spend",), rate=0.5),
        AMAN(objective="spend", rate=0.5),
        Oversampling(objective="spend", factor=2),
    ],
)
def test_a_value_has_no_negatives_to_sample(policy: Sampling) -> None:
    with pytest.raises(UsageError, match=r"^E201 .*'spend' is a value, which has no negatives"):
        policy.check(FUNNEL, own_space=True)


def test_a_value_may_be_spread_by_propensity_and_keeps_all_rows_of_its_space_from_thinned_clicks() -> None:
    Unbias(objective="spend", floor=0.1).check(FUNNEL, own_space=True)
    rng, rows = np.random.default_rng(0), 2_000
    click = (rng.random(rows) < 0.3).astype(np.int8)
    window = pl.DataFrame(
        {
            "impression_id": [f"i{n}" for n in range(rows)],
            **{f"y_{name}": click for name in FUNNEL.names},
            **{f"trains_{name}": np.full(rows, True) for name in FUNNEL.names},
        }
    )
    policy = NegativeDown(objectives=("click",), rate=0.2)
    drawn = policy.sample(window, FUNNEL, seed=1)
    assert policy.negative_rates(FUNNEL) == (0.2, 1.0, 1.0, 1.0)
    assert drawn.filter(pl.col("trains_spend") & (pl.col("y_click") == 1)).height == click.sum()
    assert drawn["trains_worth"].sum() == rows
    assert drawn["trains_click"].sum() < 0.6 * rows
