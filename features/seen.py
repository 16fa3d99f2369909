"""Which rows see an event or a part, and what the states of a window come to at every row.

An event is seen from ``max(event + 1 us, arrival)`` to ``event + window``, both included. A part of the
bucket [b0, b1), whose events had all arrived before the first row, is seen from b1 to ``b0 + window``; its
events are then not seen one by one, but only before and after that.

Legend: R rows, E events, P parts, N = E + P elements (events first), S spans.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from features.aggregates import ORDER, State, merged
from features.exact_sums import Int64s
from features.spans import Spans

_US = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Partial states of buckets of time, as ``features.partials`` makes them.

    Attributes:
        rows: the keys, the column ``bucket`` and the states; several rows per key and bucket, if need be.
        bucket: column that names a bucket, in ``rows`` and in the events: ``day`` or ``hour``.
        calendar: one row a bucket: it, ``starts_at`` and ``ends_at`` (naive UTC, exclusive), which hold all
            its events; for days, of ``features.calendar``.
        until: the parts hold exactly the events that arrived before this instant; no row asks earlier.
    """

    rows: pl.LazyFrame
    bucket: str
    calendar: pl.DataFrame
    until: datetime

    def ragged(self, windows: Iterable[timedelta], first: datetime, last: datetime) -> pl.DataFrame:
        """The buckets of the calendar that some row between two instants sees in part: read their events."""
        b0, b1 = pl.col("starts_at"), pl.col("ends_at")
        cut = []
        for window in windows:
            whole = (b1 <= first) & (b0 >= last - window)
            out = (b1 <= first - window) | (b0 >= last)
            cut.append(~out & ~whole)
        return self.calendar.filter(pl.any_horizontal(cut))


@dataclass(frozen=True, kw_only=True)
class Elements:
    """Events and parts of some keys, sorted by the code of their key.

    Attributes:
        events: E rows: ``__code`` of the key, ``__event`` and ``__arrived`` (us), what the states ask for
            (``kind``, ``event_id``, values), and ``__b0`` and ``__b1`` (us): the bucket of what is in a part.
        parts: P rows: ``__code``, ``__b0``, ``__b1``, columns of states; ``None`` if there are none.
    """

    events: pl.DataFrame
    parts: pl.DataFrame | None

    def slice(self, first: int, end: int) -> Elements:
        """Those of the keys from ``first``, which gets code 0, to before ``end``."""
        return Elements(
            events=_run(self.events, first, end),
            parts=None if self.parts is None else _run(self.parts, first, end),
        )

    def both(self, of_events: pl.Expr, of_parts: pl.Expr) -> pl.Series:
        """One value of every element, (N,)."""
        values = self.events.select(of_events.alias("value")).to_series()
        if self.parts is None:
            return values
        return values.append(self.parts.select(of_parts.cast(values.dtype).alias("value")).to_series())


class Seen:
    """The rows of some keys, sorted by key and instant, and the elements of the same keys."""

    def __init__(self, code_R: Int64s, at_R: Int64s, elements: Elements) -> None:
        self._elements = elements
        event, b0, b1 = pl.col("__event"), pl.col("__b0"), pl.col("__b1")
        self._code = elements.both(pl.col("__code"), pl.col("__code")).to_numpy()
        self._since = elements.both(pl.max_horizontal(event + 1, "__arrived"), b1).to_numpy()
        self._start = elements.both(event, b0).to_numpy()
        self._inside = elements.events.select(b0.is_not_null().arg_true()).to_series().to_numpy()
        self._bucket = elements.events.select(b0, b1)[self._inside]
        self._first = int(at_R.min()) if len(at_R) else 0
        self._reach = int(at_R.max()) - self._first + 2 if len(at_R) else 2
        self._at = code_R * self._reach + (at_R - self._first)

    def merged(self, window: timedelta, states: tuple[State, ...]) -> list[pl.Series]:
        """The states over ``window`` at every row, (R,) each, named by ``aggregates.merged``."""
        of, spans = self._spans(window // _US)
        return [self._state(state, of, spans).alias(merged(state, window)) for state in states]

    def _spans(self, window: int) -> tuple[Int64s, Spans]:
        """The element of each span, (S,), and the spans."""
        since, until, inside = self._since, self._start + window, self._inside
        if not len(inside):
            return self._runs(np.arange(len(since)), since, until)
        b0, b1 = (self._bucket[name].to_numpy() for name in ("__b0", "__b1"))
        # A bucket longer than the window is never seen whole: nothing is then cut out of its events.
        behind = np.maximum(b0 + window + 1, b1)
        alone = np.delete(np.arange(len(since)), inside)
        return self._runs(
            np.concatenate([alone, inside, inside]),
            np.concatenate([since[alone], since[inside], np.maximum(since[inside], behind)]),
            np.concatenate([until[alone], np.minimum(until[inside], b1 - 1), until[inside]]),
        )

    def _runs(self, of: Int64s, since: Int64s, until: Int64s) -> tuple[Int64s, Spans]:
        """Rows of the element's key from ``since`` to ``until``, both included; only spans with rows."""
        base = self._code[of] * self._reach
        # Row instants lie in [0, reach - 2]: what is outside falls between this key's rows and a neighbour's.
        since = base + np.clip(since - self._first, 0, self._reach - 1)
        until = base + np.clip(until - self._first, -1, self._reach - 2)
        begin = np.searchsorted(self._at, since, "left")
        end = np.searchsorted(self._at, until, "right")
        some = begin < end
        return of[some], Spans(len(self._at), begin[some], end[some])

    def _state(self, state: State, of: Int64s, spans: Spans) -> pl.Series:
        match state.merge:
            case "sum":
                return self._sum(state, of, spans)
            case "last":
                return self._last(state, of, spans)
            case "union":
                return self._distinct(state, of, spans)
            case _:
                return self._extreme(state, of, spans)

    def _sum(self, state: State, of: Int64s, spans: Spans) -> pl.Series:
        if state.counts:
            event = pl.col(state.column or "__event").is_not_null().cast(pl.Int64)
        else:
            event = pl.col(state.column or "")
        values = self._elements.both(_only(state, event), pl.col(state.name))
        values = values if values.dtype.is_float() else values.cast(pl.Int64)
        spans, numbers = _held(values, of, spans)
        return pl.Series(spans.sum_floats(numbers) if values.dtype.is_float() else spans.sum(numbers))

    def _extreme(self, state: State, of: Int64s, spans: Spans) -> pl.Series:
        values = self._elements.both(_only(state, pl.col(state.column or "")), pl.col(state.name))
        spans, numbers = _held(values.to_physical(), of, spans)
        turn: np.ufunc = np.negative
        lowest: float = -np.inf
        if not values.dtype.is_float():
            # ~x turns the order of integers round without overflow.
            numbers, lowest, turn = numbers.astype(np.int64), np.iinfo(np.int64).min, np.invert
        best = spans.max(numbers, lowest) if state.merge == "max" else turn(spans.max(turn(numbers), lowest))
        found = pl.DataFrame({"best": best, "some": spans.count() > 0})
        kept = pl.when("some").then("best").cast(values.to_physical().dtype).cast(values.dtype)
        return found.select(kept).to_series()

    def _last(self, state: State, of: Int64s, spans: Spans) -> pl.Series:
        """The value of the greatest (event, arrival, id) that is seen; its null is a value."""
        # Times as integers on both sides.
        order = {
            part: self._elements.both(_only(state, pl.col(name)), pl.col(f"{state.name}_{part}"))
            for part, name in zip(ORDER, ("__event", "__arrived", "event_id"), strict=True)
        }
        ordered = pl.DataFrame(order).with_row_index("element").drop_nulls("at").sort(*ORDER)
        place = np.full(len(self._since), -1, np.int64)
        place[ordered["element"].to_numpy()] = np.arange(len(ordered))
        held = place[of] >= 0
        last = spans.take(held).max(place[of[held]], -1)
        values = self._elements.both(pl.col(state.column or ""), pl.col(state.name))
        element = pl.DataFrame({"last": last}).select(pl.when(pl.col("last") >= 0).then("last")).to_series()
        return values.gather(ordered["element"].gather(element))

    def _distinct(self, state: State, of: Int64s, spans: Spans) -> pl.Series:
        """A part holds a list of values, an event one or none."""
        one = pl.col(state.column or "")
        listed = pl.when(one.is_not_null()).then(pl.concat_list(one))
        lists = self._elements.both(_only(state, listed), pl.col(state.name))
        told = pl.DataFrame({"element": np.arange(len(lists)), "value": lists}).explode("value").drop_nulls()
        codes = told["value"].rank("dense").cast(pl.Int64).to_numpy() - 1
        number = np.bincount(told["element"].to_numpy(), minlength=len(lists))
        first = np.cumsum(number) - number
        # Each span once for every value of its element.
        times = number[of]
        span = np.repeat(np.arange(len(of)), times)
        within = np.arange(len(span)) - np.repeat(np.cumsum(times) - times, times)
        return pl.Series(spans.take(span).distinct(codes[first[of][span] + within]))


def _run(sorted_by_code: pl.DataFrame, first: int, end: int) -> pl.DataFrame:
    codes = sorted_by_code["__code"]
    run = sorted_by_code[codes.search_sorted(first, "left") : codes.search_sorted(end, "left")]
    return run.with_columns(pl.col("__code") - first)


def _only(state: State, value: pl.Expr) -> pl.Expr:
    """A value of those events that the state describes, null for others."""
    return value if state.action is None else pl.when(pl.col("kind") == state.action).then(value)


def _held(values: pl.Series, of: Int64s, spans: Spans) -> tuple[Spans, np.ndarray]:
    """The spans whose element has a value, and the values."""
    if not values.null_count():
        return spans, values.to_numpy()[of]
    held = values.is_not_null().to_numpy()[of]
    return spans.take(held), values.fill_null(0).to_numpy()[of[held]]
