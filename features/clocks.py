"""The two clocks of a view: when something happened, and when it could first be known.

A log tells the second by a column of its own. One that does not has a declared delay instead, by which its
rows can be read after they happened at the latest. No history has neither, and none has both.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from features.errors import UsageError
from features.view import Attributes, History, View


def check_clocks(view: View, log: str, columns: Collection[str], *, late_days: int) -> None:
    """Hold a history to a second clock, and to one only.

    Args:
        view: the view; only one of a history is looked at.
        log: name of its source.
        columns: columns of its source.
        late_days: how many days before its delivery a row of the source may lie.

    Raises:
        UsageError: names the view, the source, what was found and the next step.
    """
    if not isinstance(view.source, History):
        return
    where, delay = f"view {view.name!r} of the history {log!r}", view.source.publish_delay
    if "occurred_at" not in columns:
        raise UsageError(where, "its rows have no 'occurred_at'", "say in the source when each holds from")
    if delay is None and "arrived_at" not in columns:
        raise UsageError(
            where,
            "its rows have no 'arrived_at' and it declares no publish delay",
            "let the source say when a row arrived, or declare how long after its event one can be read",
        )
    if delay is None:
        return
    if "arrived_at" in columns:
        raise UsageError(
            where, f"'arrived_at' and a publish delay of {delay}", "drop the delay, or the column"
        )
    if not timedelta(0) <= delay <= timedelta(days=view.max_age_days):
        raise UsageError(
            where,
            f"a publish delay of {delay} with a max age of {view.max_age_days} days",
            "give a delay of 0 or more, and within the max age",
        )
    if late_days:
        raise UsageError(
            where,
            f"a publish delay of {delay}, though a row may come {late_days} days after its event's",
            "let the source say when a row arrived",
        )


def clocks(view: View) -> str:
    """Both clocks in words: by what a value holds, and by what it is known."""
    if isinstance(view.source, History) and view.source.publish_delay is not None:
        return f"occurred_at, known {view.source.publish_delay} later (publish delay)"
    if isinstance(view.source, Attributes):
        return "the delivery's day, known at its end"
    return "occurred_at, known at arrived_at"
