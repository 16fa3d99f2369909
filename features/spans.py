"""Aggregates of what each row sees, where every element is seen by a run of rows.

The rows of a key are sorted by instant. An event becomes visible at one instant and leaves a window at
another, so the rows that see it lie in a run: its span, half open. Then nothing is computed row by row:
numbers are added where their span begins and taken away where it ends, in integers, where that is exact; an
extreme is written over its span as two blocks whose lengths are a power of two, and handed down by halves.

Legend: R rows, S spans. Every span holds at least one row, and rows of one key only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from features.exact_sums import Digits, Float64s, Int64s, digits, floats


@dataclass(frozen=True)
class Spans:
    """Runs of rows that see an element.

    Attributes:
        rows: R, how many rows there are.
        begin: first row of each span, shape (S,).
        end: the row behind its last, shape (S,).
    """

    rows: int
    begin: Int64s
    end: Int64s

    def take(self, chosen: np.ndarray) -> Spans:
        """Some of the spans, by mask or place."""
        return Spans(self.rows, self.begin[chosen], self.end[chosen])

    def count(self) -> Int64s:
        """Number of spans over each row, shape (R,)."""
        begun = np.bincount(self.begin, minlength=self.rows + 1)
        ended = np.bincount(self.end, minlength=self.rows + 1)
        counted: Int64s = np.cumsum(begun - ended)[:-1]
        return counted

    def sum(self, values_S: Int64s) -> Int64s:
        """Sum of the integers whose span covers each row, shape (R,); beyond 64 bits it wraps around."""
        changes = np.zeros(self.rows + 1, np.int64)
        np.add.at(changes, self.begin, values_S)
        np.subtract.at(changes, self.end, values_S)
        return np.cumsum(changes)[:-1]

    def sum_floats(self, values_S: Float64s) -> Float64s:
        """The same of finite floats: the exact sum, rounded as ``features.exact_sums`` says."""
        cut = digits(values_S)
        return floats(Digits(np.stack([self.sum(place) for place in cut.places_PN]), cut.lowest))

    def max(self, values_S: np.ndarray, least: float) -> np.ndarray:
        """The greatest value whose span covers each row, shape (R,); ``least`` where there is none.

        Args:
            values_S: integers or floats.
            least: not above any value, of their type.
        """
        best = np.full(self.rows, least, values_S.dtype)
        length = self.end - self.begin
        order = np.frexp(length.astype(np.float64))[1] - 1  # a span is two overlapping blocks of 2**order
        by_order = np.argsort(order, kind="stable")
        cuts = np.searchsorted(order[by_order], np.arange(int(order.max(initial=-1)) + 2))
        for power in range(len(cuts) - 2, -1, -1):
            chosen = by_order[cuts[power] : cuts[power + 1]]
            np.maximum.at(best, self.begin[chosen], values_S[chosen])
            np.maximum.at(best, self.end[chosen] - 2**power, values_S[chosen])
            if power:
                # A block of 2**power rows becomes its two halves; the row is where a block begins.
                half = 2 ** (power - 1)
                best[half:] = np.maximum(best[half:], best[:-half].copy())
        return best

    def distinct(self, values_S: Int64s) -> Int64s:
        """Number of different values among the spans over each row, shape (R,).

        Spans of one value that touch or overlap are one.

        Args:
            values_S: codes from 0, fewer than 2**31 of them.
        """
        step = self.rows + 1
        order = np.argsort(values_S * step + self.begin)
        begin = (values_S * step + self.begin)[order]
        reach = np.maximum.accumulate((values_S * step + self.end)[order])
        fresh = np.ones(len(begin), np.bool_)
        fresh[1:] = begin[1:] > reach[:-1]
        last = np.append(fresh[1:], True)[: len(begin)]
        return Spans(self.rows, begin[fresh] % step, reach[last] % step).count()
