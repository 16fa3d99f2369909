"""Steps and scores with the compiled kernels (`models.native`), beside the same lines by torch alone.

Random rows with the fields of the planted set of ``throughput_data.py``, which lines have learned before.
Both lines take the same steps in turns, on one thread; CPU microseconds a row or pair are the least of all
turns, the ratio is the median by turn. Pairs are 64 users with 1,024 items each, in memory: the best 100 of
a user, and a quarter listed. Kernels in float32 do not learn, so they are asked for scores alone.

    make kernels && python benchmarks/kernels.py
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import throughput_data as planted
import throughput_ours as mine
from by_vocabulary import batch
from torch import Tensor

from features.encode import Layout
from models import checkpoint
from models.batch import InputSpec
from models.line import Line
from models.machine import prepare
from models.native import library
from models.pairs import Pairs, Share, Shares

_USERS, _ITEMS, _BEST = 64, 1024, 100
_BATCHES = 8


class Turns:
    """The same work with kernels and without, in turns.

    Attributes:
        learn: whether the kernels of this processor do steps, too.
    """

    def __init__(self, turns: int, folder: Path, rows: int) -> None:
        self._folder, self._rows = folder, rows
        self.learn = library.kernels() is not None
        self._name = "kernels" if self.learn else "wide_kernels"
        self._kernels, self._turns = getattr(library, self._name)(), turns
        if self._kernels is None:
            sys.exit("There are no kernels that this process would use: `make kernels` says why.")

    def use(self, kernels: bool) -> None:
        """What is asked of the kernels from here on, they do, or torch does."""
        setattr(library, self._name, lambda: self._kernels if kernels else None)

    def lines(self, name: str, layout: Layout, rows: int) -> list[Line]:
        """A line without and one with kernels; each keeps its way of looking up."""
        made = []
        for kernels in (False, True):
            self.use(kernels)
            made.append(mine.line(name, layout, batch_rows=rows))
            made[-1].restore(self._state(name))
        return made

    def _state(self, name: str) -> dict[str, Tensor]:
        return checkpoint.load(mine.learned(name, self._folder, self._rows))[0]

    def row(self, what: str, works: list[Callable[[int], object]], units: int) -> None:
        """Print a row: microseconds a unit of both, and the ratio."""
        seconds: list[list[float]] = [[], []]
        for turn in range(self._turns + 1):
            for kernels, work in enumerate(works):
                self.use(bool(kernels))
                begun = time.process_time()
                work(turn)
                seconds[kernels].append(time.process_time() - begun)
        plain, ours = (found[1:] for found in seconds)  # the first turn made what is kept
        ratio = statistics.median(b / a for a, b in zip(plain, ours, strict=True))
        least = " | ".join(f"{min(found) / units * 1e6:.2f}" for found in (plain, ours))
        print(f"| {what} | {least} | {ratio:.2f} |", flush=True)


def _halves(spec: InputSpec) -> Shares:
    """The first half of the inputs is the user's, the other the item's."""
    fields, dense = range(spec.num_fields), range(spec.num_dense)
    half, some = spec.num_fields // 2, spec.num_dense // 2
    return Shares(
        Share(tuple(fields[:half]), (), tuple(dense[:some])),
        Share(tuple(fields[half:]), (), tuple(dense[some:])),
    )


def _side(spec: InputSpec, share: Share, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    first, count = np.array(spec.vocabularies)[list(share.fields)].T
    return {
        "rows": rng.integers(first, first + count, (rows, len(share.fields))),
        "bag_rows": np.empty((rows, 0), dtype=np.int64),
        "dense": rng.standard_normal((rows, len(share.dense))).astype(np.float32),
    }


def steps(turns: Turns, name: str, layout: Layout, rows: int) -> None:
    """Learning, and scoring joined rows."""
    rng = np.random.default_rng(0)
    lines = turns.lines(name, layout, rows)
    batches = [batch(lines[0].spec, rows, rng) for _ in range(_BATCHES)]
    for step in ("learn", "predict") if turns.learn else ("predict",):

        def work(turn: int, line: Line, step: str = step) -> None:
            for n in range(2):
                getattr(line, step)(batches[(turn + n) % _BATCHES])

        works: list[Any] = [lambda turn, line=line, work=work: work(turn, line) for line in lines]
        turns.row(f"{name}, {rows} | {step}", works, 2 * rows)


def pairs(turns: Turns, name: str, layout: Layout) -> None:
    """The best of every user, and listed pairs."""
    rng = np.random.default_rng(0)
    lines = turns.lines(name, layout, 4096)
    shares = _halves(lines[0].spec)
    users, items = (
        _side(lines[0].spec, s, n, rng) for s, n in ((shares.user, _USERS), (shares.item, _ITEMS))
    )
    listed = _USERS * _ITEMS // 4
    user_B, item_B = np.repeat(np.arange(_USERS), _ITEMS // 4), rng.integers(0, _ITEMS, listed)
    made = []
    for kernels, line in enumerate(lines):
        turns.use(bool(kernels))
        made.append(Pairs(line, shares, items))
    best: list[Any] = [lambda _, one=one: one.top(users, _BEST, by="pctcvr") for one in made]
    turns.row(f"{name} | best {_BEST} of a user", best, _USERS * _ITEMS)
    chosen: list[Any] = [lambda _, one=one: one.chosen(users, user_B, item_B) for one in made]
    turns.row(f"{name} | listed", chosen, listed)


def main() -> None:
    """Print a row per model, batch and step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[4096, 1024])
    parser.add_argument("--models", nargs="+", default=list(mine.ARCHITECTURES), choices=mine.ARCHITECTURES)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--learned", type=int, default=500_000, help="rows that lines have learned before")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/throughput"), help="for the set")  # noqa: S108
    asked = parser.parse_args()
    prepare()
    turns = Turns(asked.turns, asked.folder, asked.learned)
    layout = Layout.of(mine.scenario(planted.SIZES).features)
    print("| model | step | by torch, µs | by kernels, µs | ratio |")
    print("|" + 5 * " --- |")
    for name in asked.models:
        for rows in asked.batches:
            steps(turns, name, layout, rows)
        pairs(turns, name, layout)


if __name__ == "__main__":
    main()
