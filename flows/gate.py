"""The gate: the numbers of a new version and of the one that stands, held to the limits of the recipe.

Numbers in, outcomes out. It is no part of ``models``, which are in the key of every version: another check
judges anew and trains nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from flows.limits import Gate, Limit, Outcome

Decision = Literal["promoted", "rejected", "insufficient"]
FRESH, EARLIER, ALL = "fresh", "earlier", "all"


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
    failed = [check.check for check in checks if check.outcome == "failed"]
    if "scores" in failed:
        return "rejected"
    if baseline and any(check.check == "evidence" and check.outcome == "undecided" for check in checks):
        return "insufficient"
    return "rejected" if failed else "promoted"


def reason(checks: tuple[Check, ...], decision: Decision, *, baseline: bool) -> str:
    """Why, in one sentence."""
    if decision == "insufficient":
        return next(f"too little to judge: {c}" for c in checks if c.check == "evidence")
    failed = [check for check in checks if check.outcome == "failed"]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        return f"{failed[0]}{more}"
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
    limits, about = gate.of_objective(part.objective), partial(_check, part, gate)
    ours, theirs = part.challenger, part.champion or Numbers(None, None, None)
    compared, binary = part.champion is not None, part.kind == "binary"
    drop, rise = _difference(theirs.auc, ours.auc), _rise(ours.loss, theirs.loss)
    earlier = part.over == EARLIER
    if part.slice != ALL:
        if compared and binary:
            yield about("auc_drop", drop, limits.slice_auc_drop, ours.auc, theirs.auc)
        return
    if not earlier:
        if binary:
            yield about("auc", ours.auc, limits.auc, ours.auc, theirs.auc, least=True)
        yield about("calibration", _factor(ours.pcoc), limits.calibration, ours.pcoc, theirs.pcoc)
    if compared and binary:
        limit = limits.earlier_auc_drop if earlier else limits.auc_drop
        yield about("auc_drop", drop, limit, ours.auc, theirs.auc)
    # Per impression alone: the loss of few clicks says more of these than of the model.
    if compared and part.space == "impressions":
        limit = limits.earlier_loss_rise if earlier else limits.loss_rise
        name = "log_loss_rise" if binary else "rmse_rise"
        yield about(name, rise, limit, ours.loss, theirs.loss)
    if part.psi is not None:
        yield about("psi", part.psi, limits.psi, None, None)


def _check(
    part: Part,
    gate: Gate,
    name: str,
    measured: float | None,
    limit: Limit,
    value: float | None,
    champion: float | None,
    *,
    least: bool = False,
) -> Check:
    few = part.positives if part.kind == "value" else min(part.positives, part.rows - part.positives)
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
        outcome="undecided"
        if measured is None or few < gate.compared
        else limit.outcome(measured, least=least),
    )


def _difference(theirs: float | None, ours: float | None) -> float | None:
    return None if ours is None or theirs is None else theirs - ours


def _rise(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or not theirs else ours / theirs - 1.0


def _factor(pcoc: float | None) -> float | None:
    """How far off, in either direction; a table holds no infinity, so a billion stands for it."""
    return None if pcoc is None else max(pcoc, 1.0 / max(pcoc, 1e-9))
