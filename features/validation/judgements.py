"""What the tables promise row by row that tell how a day compares with the days before it."""

from __future__ import annotations

import polars as pl

from features.scenario import Scenario
from features.validation.bands import OUTCOMES, RULES
from features.validation.contract import Contract
from features.validation.draft import Draft


def completeness(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """Shares lie between 0 and 1, ages ascend."""
    del scenario, name
    draft.needs(*(column for column in draft.table.schema.names if column != "segment"))
    for edge in ("completeness_from", "completeness_to"):
        draft.limit(edge, {"min": 0.0, "max": 1.0})
    draft.rule("age_ascends", pl.col("age_from_hours") <= pl.col("age_to_hours"))
    return draft.finish("dt", *draft.table.sort_by)


def drift(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """An index is not negative."""
    del scenario, name
    draft.needs(*(column for column in draft.table.schema.names if column != "psi"))
    draft.limit("psi", {"min": 0.0})
    return draft.finish("dt", *draft.table.sort_by)


def quality(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """Rules and outcomes are known ones."""
    del scenario, name
    draft.needs("table", "rule", "column", "level", "rows", "reference_days", "outcome")
    draft.limit("rule", {"check": {"known": lambda column: column.is_in(RULES)}})
    draft.limit("outcome", {"check": {"known": lambda column: column.is_in(OUTCOMES)}})
    return draft.finish("dt", *draft.table.sort_by)


def foretold(draft: Draft, scenario: Scenario, name: str) -> Contract:
    """No more events were seen than happened."""
    del scenario, name
    optional = {"segment", "ratio"}
    draft.needs(*(column for column in draft.table.schema.names if column not in optional))
    draft.rule("seen_among_positives", pl.col("seen").is_between(0, pl.col("positives")))
    return draft.finish("dt", *draft.table.sort_by)
