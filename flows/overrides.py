"""Overrides: who lets a day pass that its figures would block, and why. They stand in the ledger for good."""

from __future__ import annotations

import getpass
import json
import os
from datetime import date

import polars as pl

from features.bookkeeping import RUNS
from features.errors import UsageError
from features.fingerprint import canonical, fingerprint
from features.validation.bands import RULES
from flows.house import House
from flows.stages.settle import now

#: What the ledger calls the stage and the state of an override.
STAGE, STATE = "override", "accepted"


def overridden(house: House, day: date) -> tuple[str, ...]:
    """Rules and names of figures that do not block the day, sorted."""
    rows = house.store.scan(RUNS, [day]).filter(stage=STAGE).select("notes").collect()
    return tuple(sorted({rule for (notes,) in rows.rows() for rule in json.loads(notes)["rules"]}))


def answer_for(house: House, day: date, override: str | None, reason: str | None) -> None:
    """Write the override of a command into the ledger: the rules, when, by whom and why.

    Args:
        house: where.
        day: the day that may pass.
        override: rules or names of figures, ``volume.click,nulls``; ``None``: nothing is overridden.
        reason: why.

    Raises:
        UsageError: an unknown rule, or rules without a reason, or a reason without rules.
        Busy: a run goes on in this warehouse.
    """
    named = tuple(part.strip() for part in (override or "").split(",") if part.strip())
    said = (reason or "").strip()
    if not named and override is None and reason is None:
        return
    if strange := [one for one in named if one.partition(".")[0] not in RULES]:
        step = f"write it as in the error that blocked the day; the rules are {', '.join(RULES)}"
        raise UsageError("override", f"no rule {strange[0]!r}", step)
    if not named or not said:
        step = 'give both: --override volume.click --reason "the click log was down"'
        raise UsageError("override", "a rule and a reason belong together", step)
    _enter(house, day, named, said)


def _enter(house: House, day: date, rules: tuple[str, ...], reason: str) -> None:
    moment, by = now(), _user()
    columns = pl.DataFrame(RUNS.schema.empty_table()).schema
    row = dict.fromkeys(columns.names()) | {
        "run_key": fingerprint([day, list(rules), reason, by, moment]),
        "stage": STAGE,
        "state": STATE,
        "notes": canonical({"rules": sorted(rules), "reason": reason, "by": by}),
        "started_at": moment,
    }
    with house.store.lease("run"):
        house.store.append(RUNS, day, pl.DataFrame([row], schema=columns))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that has no name
        return f"uid {os.getuid()}"
