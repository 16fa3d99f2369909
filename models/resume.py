"""A pass that was killed goes on from where it last wrote down what it had become.

What is written down is everything that the next step depends on: the line's state (weights, moments of the
optimisers, what the balancer remembers, the count of steps), the place in the stream of batches, the counts
so far, and torch's own random numbers. So neither the interval nor a kill changes a result.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import checkpoint
from models.line import Line
from models.train import Progress

log = logging.getLogger("funnelcast.resume")

_PLACE = ("passes", "taken", "rows", "steps")
_COUNTS = ("rows_K", "total_K")
_PROGRESS, _RANDOM = "progress.", "random."


@dataclass
class Partial:
    """Where passes of one line write down their state, for whom, and how often.

    Attributes:
        folder: holds nothing else; made when it is needed.
        bound: what the state belongs to, such as the hash of all inputs; it is never used for anything else.
        every: rows between two states; 0 writes none.
    """

    folder: Path
    bound: Mapping[str, str]
    every: int
    _written: int = field(default=0, init=False)

    def restore(self, line: Line) -> Progress:
        """Bring the line to where the last state was written; without a usable one nothing is changed.

        A state of something else, or one that cannot be read, is removed.

        Raises:
            StateMismatch: the state is of another line, though bound to the same inputs.
        """
        found = [path for path in self.folder.glob("*") if not path.name.startswith(".")]
        for path in sorted(found, reverse=True):
            if (read := self._read(path)) is not None:
                state, lineage = read
                rows_K, total_K = (state.pop(_PROGRESS + name) for name in _COUNTS)
                for name in [name for name in state if name.startswith(_RANDOM)]:
                    _restore_random(name.removeprefix(_RANDOM), state.pop(name))
                line.restore(state)
                self._written = lineage["rows"]
                log.info("goes on after %s rows, which a killed run had learned", f"{lineage['rows']:,}")
                passes, taken, rows, steps = (int(lineage[name]) for name in _PLACE)
                return Progress(passes, taken, rows, steps, rows_K, total_K)
        return Progress.none(len(line.funnel))

    def keep(self, line: Line, done: Progress) -> None:
        """Write the state down if it is time; what was written before is then removed."""
        if not self.every or done.rows - self._written < self.every:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        state = line.state() | {_PROGRESS + name: getattr(done, name) for name in _COUNTS}
        state |= {_RANDOM + name: numbers for name, numbers in _random(line.device).items()}
        place = {name: getattr(done, name) for name in _PLACE}
        path = self.folder / f"{done.steps:012d}"
        checkpoint.save(path, state, {"bound": dict(self.bound), **place})
        for older in self.folder.iterdir():
            if older != path:
                shutil.rmtree(older)
        self._written = done.rows

    def discard(self) -> None:
        """Remove all that was written down; called once the result is kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        try:
            state, lineage = checkpoint.load(path)
        except (OSError, ValueError) as error:
            log.warning("begins the pass anew: %s", error)
        else:
            if lineage["bound"] == self.bound:
                return state, lineage
            log.info("begins the pass anew: what a killed run had learned was of other inputs")
        shutil.rmtree(path, ignore_errors=True)
        return None


def _random(device: torch.device) -> dict[str, Tensor]:
    """State of torch's generators that a network's own noise, such as dropout, is drawn from."""
    drawn = {"processor": torch.get_rng_state()}
    return drawn | ({"device": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _restore_random(name: str, state: Tensor) -> None:
    if name == "processor":
        torch.set_rng_state(state)
    else:
        torch.cuda.set_rng_state(state)
