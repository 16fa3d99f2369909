"""The gate: what a new version is asked before anything is scored with it. Numbers in, outcomes out.

The limits are settings of a recipe and no part of its model, and this file is none of ``models``, which is in
the key of every version: other limits judge anew and train nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from features.errors import UsageError

Outcome = Literal["passed", "warned", "failed", "undecided"]
Decision = Literal["promoted", "rejected", "insufficient"]
FRESH, EARLIER, ALL = "fresh", "earlier", "all"


@dataclass(frozen=True)
class Limit:
    """Where a measurement is told of, and where it keeps the version out; ``None``: nowhere.

    Attributes:
        warn: up to here nothing is said.
        fail: up to here the version passes.

    Raises:
        UsageError: a limit that is no number, so that nothing would ever break it.
    """

    warn: float | None = None
    fail: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("warn", self.warn), ("fail", self.fail)):
            if value is not None and not math.isfinite(value):
                raise UsageError("gate", f"{name}={value} is no limit", "name a number, or None for no limit")

    def outcome(self, measured: float, *, least: bool = False) -> Outcome:
        """What a measurement comes to; exactly the limit is within it.

        Args:
            measured: the number.
            least: the limit is a floor, not a ceiling.
        """
        sign = -1.0 if least else 1.0
        for level, limit in (("failed", self.fail), ("warned", self.warn)):
            if limit is not None and not sign * measured <= sign * limit:
                return level  # type: ignore[return-value]
        return "passed"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is asked of one objective. Drops and rises are against the champion, on the same rows.

    Attributes:
        auc: of the version itself, at least.
        calibration: factor between predicted and observed, whichever is the larger; at most.
        auc_drop: AUC of the champion less that of the version; at most.
        loss_rise: log loss (of a value: RMSE) over that of the champion, less 1; at most.
        slice_auc_drop: as ``auc_drop``, of a slice of the rows.
        psi: population stability index of the scores against the champion's; at most.
        earlier_auc_drop: as ``auc_drop``, on the rows that the champion learned last. What was learned a day
            ago is always forgotten a little; a day of wrong labels forgets all of it.
        earlier_loss_rise: as ``loss_rise``, on the same rows.
    """

    auc: Limit = Limit(warn=0.5)
    calibration: Limit = Limit(warn=1.25, fail=2.0)
    auc_drop: Limit = Limit(warn=0.002, fail=0.01)
    loss_rise: Limit = Limit(warn=0.005, fail=0.05)
    slice_auc_drop: Limit = Limit(warn=0.01)
    psi: Limit = Limit(warn=0.25)
    earlier_auc_drop: Limit = Limit(warn=0.02, fail=0.05)
    earlier_loss_rise: Limit = Limit(warn=0.05, fail=0.2)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What stands between a new version of a line and its scores.

    Attributes:
        limits: of every objective.
        of: other limits of single objectives, by their name.
        least_rows: fresh rows with a final click label below which nothing is decided.
        least_positives: clicks, and rows without one, among them; likewise.
        compared: positives and negatives of an objective, a space and a slice below which their numbers are
            told and hold nobody back: an AUC of 100 positives has a standard error of about 0.03.
        slice_share: share of the rows below which a slice is not looked at.
        most_rows: rows of a set that are scored, spread evenly over it; the rest is left out.
        refuse: a version that is kept out ends the run (E301) and nothing is published for the next day;
            otherwise the champion scores it.
    """

    limits: Limits = Limits()
    of: Mapping[str, Limits] = field(default_factory=dict)
    least_rows: int = 100
    least_positives: int = 10
    compared: int = 100
    slice_share: float = 0.05
    most_rows: int = 200_000
    refuse: bool = False

    def of_objective(self, name: str) -> Limits:
        """The limits of an objective."""
        return self.of.get(name, self.limits)


@dataclass(frozen=True)
class Numbers:
    """What a version is worth on some rows; ``None`` where the rows do not define it.

    Attributes:
        auc: chance that a positive is scored above a negative; none of a value.
        loss: log loss in nats; of a value the RMSE, in its unit.
        pcoc: predicted over observed.
    """

    auc: float | None
    loss: float | None
    pcoc: float | None


@dataclass(frozen=True, kw_only=True)
class Part:
    """One objective in one space, on one slice of one set of rows.

    Attributes:
        over: ``fresh``: rows that the version learned and the champion did not; ``earlier``: rows that the
            champion learned on its last day.
        objective: its name.
        space: as in ``models.metrics.evaluate``.
        slice: ``all``, or the part of the rows.
        kind: ``binary`` or ``value``.
        rows: rows with a final label.
        positives: of them; of a value, rows where it is not 0.
        share: of the rows of the set.
        challenger: numbers of the new version.
        champion: numbers of the version that it would replace; ``None`` where none stands.
        psi: shift of the scores against the champion's.
    """

    over: str
    objective: str
    space: str
    slice: str = ALL
    kind: str = "binary"
    rows: int
    positives: int
    share: float = 1.0
    challenger: Numbers
    champion: Numbers | None = None
    psi: float | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that a version is judged by.

    Attributes:
        click: name of the objective whose rows decide whether there is enough.
        scored: rows that the new version scored.
        offenders: of them, rows with a number that is not finite, a probability outside of 0 to 1, or a joint
            probability above that of its parent.
        baseline: whether a champion stands.
        parts: the numbers; none where offenders leave nothing to compute.
    """

    click: str
    scored: int
    offenders: int
    baseline: bool
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was asked, and what came of it; a row of the table ``gate``.

    Attributes:
        check: ``scores``, ``evidence``, or the limit's name without ``slice_`` and ``earlier_``.
        objective: what it is about; empty where it is about all.
        space: empty where it is about all.
        slice: ``all``, or the part of the rows.
        over: ``fresh`` or ``earlier``.
        rows: rows behind the numbers.
        positives: of them.
        value: the version's number.
        champion_value: the champion's.
        measured: what was held to the limits; ``None`` where a number is not defined.
        warn_limit: the one limit.
        fail_limit: the other.
        outcome: ``undecided`` where the evidence is too small or the number not defined.
    """

    check: str
    objective: str = ""
    space: str = ""
    slice: str = ALL
    over: str = FRESH
    rows: int
    positives: int | None = None
    value: float | None = None
    champion_value: float | None = None
    measured: float | None
    warn_limit: float | None = None
    fail_limit: float | None = None
    outcome: Outcome

    def __str__(self) -> str:
        """As in: auc_drop of click (impressions, fresh rows): 0.0310 against a limit of 0.01."""
        limit = self.fail_limit if self.outcome in ("failed", "undecided") else self.warn_limit
        where = [self.space, *([self.slice] if self.slice != ALL else []), f"{self.over} rows"]
        about = f" of {self.objective} ({', '.join(where)})" if self.objective else ""
        told = "undefined" if self.measured is None else f"{self.measured:.4g}"
        return f"{self.check}{about}: {told}" + ("" if limit is None else f" against a limit of {limit:g}")


def judge(evidence: Evidence, gate: Gate) -> tuple[Check, ...]:
    """Every check of a version, in a fixed order: its scores, the evidence, then objective by objective."""
    found = [_scores(evidence), _enough(evidence, gate)]
    for part in evidence.parts:
        if part.slice == ALL or part.share >= gate.slice_share:
            found += _of(part, gate)
    return tuple(found)


def decide(checks: tuple[Check, ...], *, baseline: bool) -> Decision:
    """What the checks come to.

    A version without a champion is not held back for want of evidence: there is nothing else to score with.
    """
    if any(check.outcome == "failed" for check in checks):
        return "rejected"
    if baseline and any(check.check == "evidence" and check.outcome == "undecided" for check in checks):
        return "insufficient"
    return "promoted"


def reason(checks: tuple[Check, ...], decision: Decision, *, baseline: bool) -> str:
    """Why, in one sentence."""
    failed = [check for check in checks if check.outcome == "failed"]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"{failed[0]}{more}"
    if decision == "insufficient":
        return next(f"too little to judge: {c}" for c in checks if c.check == "evidence")
    if not baseline:
        return "there was no baseline: no version stood before, so it was held to its own values alone"
    open_ones = sum(check.outcome == "undecided" for check in checks)
    held = f"{len(checks) - open_ones} checks held"
    return f"{held}, {open_ones} had too few rows to decide" if open_ones else held


def _scores(evidence: Evidence) -> Check:
    limit = Limit(fail=0)
    return Check(
        check="scores",
        rows=evidence.scored,
        value=evidence.offenders,
        measured=evidence.offenders,
        fail_limit=limit.fail,
        outcome=limit.outcome(evidence.offenders),
    )


def _enough(evidence: Evidence, gate: Gate) -> Check:
    """Fresh rows of the click, and the rarer of its classes."""
    whole = [p for p in evidence.parts if (p.objective, p.over, p.slice) == (evidence.click, FRESH, ALL)]
    rows, positives = (whole[0].rows, whole[0].positives) if whole else (0, 0)
    rarer = min(positives, rows - positives)
    enough = rows >= gate.least_rows and rarer >= gate.least_positives
    few_rows = rows < gate.least_rows
    return Check(
        check="evidence",
        objective=evidence.click,
        space="impressions",
        rows=rows,
        positives=positives,
        measured=rows if few_rows else rarer,
        fail_limit=gate.least_rows if few_rows else gate.least_positives,
        outcome="passed" if enough else "undecided",
    )


def _of(part: Part, gate: Gate) -> Iterator[Check]:
    limits = gate.of_objective(part.objective)
    ours, theirs = part.challenger, part.champion or Numbers(None, None, None)
    loss = "rmse_rise" if part.kind == "value" else "log_loss_rise"
    drop, rise = _difference(theirs.auc, ours.auc), _rise(ours.loss, theirs.loss)

    def check(
        name: str,
        measured: float | None,
        limit: Limit,
        value: float | None,
        champion: float | None,
        **of: bool,
    ) -> Check:
        few = min(part.positives, part.rows - part.positives) if part.kind == "binary" else part.positives
        if measured is None or few < gate.compared:
            outcome: Outcome = "undecided"
        else:
            outcome = limit.outcome(measured, **of)
        return Check(
            check=name,
            objective=part.objective,
            space=part.space,
            slice=part.slice,
            over=part.over,
            rows=part.rows,
            positives=part.positives,
            value=value,
            champion_value=champion,
            measured=measured,
            warn_limit=limit.warn,
            fail_limit=limit.fail,
            outcome=outcome,
        )

    if part.slice != ALL:
        if part.champion is not None and part.kind == "binary":
            yield check("auc_drop", drop, limits.slice_auc_drop, ours.auc, theirs.auc)
        return
    if part.over == EARLIER:
        if part.kind == "binary":
            yield check("auc_drop", drop, limits.earlier_auc_drop, ours.auc, theirs.auc)
        yield check(loss, rise, limits.earlier_loss_rise, ours.loss, theirs.loss)
        return
    if part.kind == "binary":
        yield check("auc", ours.auc, limits.auc, ours.auc, theirs.auc, least=True)
    yield check("calibration", _factor(ours.pcoc), limits.calibration, ours.pcoc, theirs.pcoc)
    if part.champion is None:
        return
    if part.kind == "binary":
        yield check("auc_drop", drop, limits.auc_drop, ours.auc, theirs.auc)
    yield check(loss, rise, limits.loss_rise, ours.loss, theirs.loss)
    if part.psi is not None:
        yield check("psi", part.psi, limits.psi, None, None)


def _difference(theirs: float | None, ours: float | None) -> float | None:
    return None if ours is None or theirs is None else theirs - ours


def _rise(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs - 1.0


def _factor(pcoc: float | None) -> float | None:
    """How far off, in either direction; a table holds no infinity, so a billion stands for it."""
    return None if pcoc is None else max(pcoc, 1.0 / max(pcoc, 1e-9))
