"""The gate's checks against numbers held to their limits by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from features.errors import UsageError
from features.scenarios.shop import SCENARIO
from flows.gate import EARLIER, FRESH, Check, Evidence, Numbers, Part, decide, judge, reason
from flows.limits import Gate, Limit, Limits
from flows.stages.judged import offenders_of, shift

FUNNEL = SCENARIO.funnel
GOOD = Numbers(auc=0.75, loss=0.5, pcoc=1.0)
CLICK = Part(
    over=FRESH, objective="click", space="impressions", rows=10_000, positives=2_000,
    challenger=GOOD, champion=GOOD, psi=0.0,
)  # fmt: skip


def judged(*parts: Part, gate: Gate | None = None, offenders: int = 0, baseline: bool = True) -> list[Check]:
    evidence = Evidence(
        click="click", scored=10_000, offenders=offenders, baseline=baseline, parts=parts or (CLICK,)
    )
    return list(judge(evidence, gate or Gate()))


def outcomes(checks: list[Check]) -> dict[tuple[str, str], str]:
    return {(check.over, check.check): check.outcome for check in checks}


def with_numbers(part: Part = CLICK, **numbers: float | None) -> Part:
    return replace(part, challenger=replace(part.challenger, **numbers))


def test_two_versions_that_are_alike_pass_every_check() -> None:
    checks = judged(CLICK, replace(CLICK, over=EARLIER, psi=None))
    assert outcomes(checks) == dict.fromkeys(
        [
            *((FRESH, name) for name in ("scores", "evidence", "auc", "calibration", "auc_drop")),
            *((FRESH, name) for name in ("log_loss_rise", "psi")),
            *((EARLIER, name) for name in ("auc_drop", "log_loss_rise")),
        ],
        "passed",
    )
    assert decide(tuple(checks), baseline=True) == "promoted"


# 0.75 and 0.5 less or more by these are exact in binary, so a limit of the same number is met exactly.
LIMITS = Limits(
    auc=Limit(warn=0.75, fail=0.5),
    calibration=Limit(warn=1.25, fail=2.0),
    auc_drop=Limit(warn=0.125, fail=0.25),
    loss_rise=Limit(warn=0.25, fail=0.5),
    psi=Limit(warn=0.125, fail=0.25),
    earlier_auc_drop=Limit(warn=0.0625, fail=0.125),
    earlier_loss_rise=Limit(warn=0.5, fail=1.0),
)


@pytest.mark.parametrize(
    ("part", "check", "measured", "outcome"),
    [
        (with_numbers(auc=0.75), "auc", 0.75, "passed"),
        (with_numbers(auc=0.625), "auc", 0.625, "warned"),
        (with_numbers(auc=0.5), "auc", 0.5, "warned"),
        (with_numbers(auc=0.4375), "auc", 0.4375, "failed"),
        (with_numbers(auc=None), "auc", None, "undecided"),
        (with_numbers(pcoc=1.25), "calibration", 1.25, "passed"),
        (with_numbers(pcoc=0.8), "calibration", 1.25, "passed"),
        (with_numbers(pcoc=0.5), "calibration", 2.0, "warned"),
        (with_numbers(pcoc=0.25), "calibration", 4.0, "failed"),
        (with_numbers(pcoc=4.0), "calibration", 4.0, "failed"),
        (with_numbers(pcoc=0.0), "calibration", 1e9, "failed"),
        (with_numbers(auc=0.875), "auc_drop", -0.125, "passed"),
        (with_numbers(auc=0.625), "auc_drop", 0.125, "passed"),
        (with_numbers(auc=0.5625), "auc_drop", 0.1875, "warned"),
        (with_numbers(auc=0.5), "auc_drop", 0.25, "warned"),
        (with_numbers(auc=0.4375), "auc_drop", 0.3125, "failed"),
        (with_numbers(loss=0.625), "log_loss_rise", 0.25, "passed"),
        (with_numbers(loss=0.75), "log_loss_rise", 0.5, "warned"),
        (with_numbers(loss=1.0), "log_loss_rise", 1.0, "failed"),
        (replace(CLICK, psi=0.125), "psi", 0.125, "passed"),
        (replace(CLICK, psi=0.1875), "psi", 0.1875, "warned"),
        (replace(CLICK, psi=0.5), "psi", 0.5, "failed"),
        (replace(with_numbers(auc=0.625), over=EARLIER), "auc_drop", 0.125, "warned"),
        (replace(with_numbers(auc=0.5), over=EARLIER), "auc_drop", 0.25, "failed"),
        (replace(with_numbers(loss=0.75), over=EARLIER), "log_loss_rise", 0.5, "passed"),
    ],
)
def test_a_number_is_told_of_above_the_one_limit_and_keeps_out_above_the_other(
    part: Part, check: str, measured: float | None, outcome: str
) -> None:
    (found,) = [c for c in judged(part, gate=Gate(limits=LIMITS)) if c.check == check]
    assert (found.measured, found.outcome) == (pytest.approx(measured), outcome)


def test_positives_and_negatives_that_are_too_few_decide_nothing() -> None:
    worse = with_numbers(auc=0.1, loss=9.0)
    for positives, decided in ((199, False), (200, True), (9_800, True), (9_801, False)):
        found = outcomes(judged(replace(worse, positives=positives)))
        assert (found[FRESH, "auc_drop"] == "failed") == decided
        assert (found[FRESH, "log_loss_rise"] == "failed") == decided
        assert (found[FRESH, "auc_drop"] == "undecided") != decided


def test_an_objective_may_have_limits_of_its_own() -> None:
    like = replace(with_numbers(auc=0.5), objective="like")
    lenient = Gate(of={"like": Limits(auc_drop=Limit(warn=0.5))})
    for gate, outcome in ((Gate(), "failed"), (lenient, "passed")):
        of_like = {c.check: c.outcome for c in judged(CLICK, like, gate=gate) if c.objective == "like"}
        assert of_like["auc_drop"] == outcome


def test_a_slice_of_too_few_rows_is_not_looked_at_and_one_that_loses_is_only_told_of() -> None:
    new_users = replace(with_numbers(auc=0.1), slice="unknown_user", share=0.05)
    for share, seen in ((0.05, ["warned"]), (0.049, [])):
        checks = judged(CLICK, replace(new_users, share=share))
        assert [c.outcome for c in checks if c.slice == "unknown_user"] == seen
        assert decide(tuple(checks), baseline=True) == "promoted"


def test_the_loss_of_a_conditional_probability_is_not_compared() -> None:
    given = replace(with_numbers(loss=9.0), space="given_click", psi=None)
    assert [c.check for c in judged(given) if c.space == "given_click"] == ["auc", "calibration", "auc_drop"]


def test_a_value_is_held_to_its_error_and_its_calibration() -> None:
    spend = replace(
        with_numbers(auc=None, loss=0.75), objective="spend", kind="value", champion=replace(GOOD, auc=None)
    )
    found = {c.check: c.outcome for c in judged(spend, gate=Gate(limits=LIMITS)) if c.objective == "spend"}
    assert found == {"calibration": "passed", "rmse_rise": "warned", "psi": "passed"}


def test_without_a_baseline_nothing_is_compared_and_the_reason_says_so() -> None:
    alone = replace(CLICK, champion=None, psi=None)
    checks = judged(alone, baseline=False)
    assert [c.check for c in checks] == ["scores", "evidence", "auc", "calibration"]
    assert "there was no baseline" in reason(tuple(checks), "promoted", baseline=False)
    assert decide(tuple(judged(replace(alone, positives=0), baseline=False)), baseline=False) == "promoted"
    strict = Gate(limits=Limits(auc=Limit(fail=0.8)))
    assert decide(tuple(judged(alone, gate=strict, baseline=False)), baseline=False) == "rejected"


@pytest.mark.parametrize(("rows", "positives"), [(99, 40), (10_000, 29), (10_000, 9_971), (0, 0)])
def test_too_few_rows_or_clicks_are_insufficient_whatever_the_numbers_say(rows: int, positives: int) -> None:
    few = replace(with_numbers(auc=0.1), rows=rows, positives=positives)
    checks = tuple(judged(few, replace(with_numbers(auc=0.1), over=EARLIER)))
    assert decide(checks, baseline=True) == "insufficient"
    assert reason(checks, "insufficient", baseline=True).startswith("too little to judge: evidence of click")
    impossible = tuple(judged(few, offenders=1))
    assert decide(impossible, baseline=True) == "rejected"


def test_one_impossible_score_keeps_a_version_out_even_without_a_baseline() -> None:
    for baseline in (True, False):
        checks = tuple(judged(offenders=1, baseline=baseline))
        assert decide(checks, baseline=baseline) == "rejected"
        assert reason(checks, "rejected", baseline=baseline) == "scores: 1 against a limit of 0"


def test_a_decision_is_the_worst_of_its_checks() -> None:
    """All combinations of three checks, against the rule in words."""
    kinds = ("passed", "warned", "failed", "undecided")
    for evidence, first, second in product(kinds[::3], kinds, kinds):
        made = [
            Check(check=name, rows=1, measured=1.0, outcome=outcome)  # type: ignore[arg-type]
            for name, outcome in (("evidence", evidence), ("auc_drop", first), ("psi", second))
        ]
        expected = (
            "insufficient"
            if evidence == "undecided"
            else "rejected"
            if "failed" in (first, second)
            else "promoted"
        )
        assert decide(tuple(made), baseline=True) == expected


def test_a_failed_check_is_told_with_its_number_and_its_limit() -> None:
    checks = tuple(judged(with_numbers(auc=0.5)))
    assert reason(checks, "rejected", baseline=True) == (
        "auc_drop of click (impressions, fresh rows): 0.25 against a limit of 0.01"
    )


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_limit_that_nothing_breaks_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="no limit"):
        Limit(fail=wrong)


def test_a_row_with_an_impossible_number_is_counted_once() -> None:
    """Of five: one is well, one lacks a number, two are no probabilities, one is above its parent."""
    scores = {
        "pctr": np.array([0.5, math.nan, 1.25, 0.5, 0.25]),
        "pcvr": np.array([0.5, math.nan, 0.5, -0.25, 1.0]),
        "pctcvr": np.array([0.25, 0.25, 0.25, 0.25, 0.375]),
    }
    assert {column.name for column in FUNNEL.score_columns} == set(scores)
    assert offenders_of(FUNNEL, scores) == 4
    assert offenders_of(FUNNEL, {name: values[:1] for name, values in scores.items()}) == 0


def test_the_shift_of_scores_is_the_index_over_the_deciles_of_the_champion() -> None:
    """Ten scores a decile; ten of the first move to the last. Halves are Jeffreys' prior of each bin."""
    theirs = np.repeat(np.arange(10) / 10, 10)
    ours = np.where(theirs == 0.0, 0.9, theirs)
    p, q = np.array([0.5, 20.5]) / 105, np.array([10.5, 10.5]) / 105
    assert shift(ours, theirs) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert shift(theirs, theirs) == 0.0
    assert shift(theirs[:0], theirs[:0]) is None
