"""What a line learns in one run, as batches in their order, and the passes over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import torch

from features.batches import training_batches
from features.encode import Encoder
from features.prefetch import ahead
from features.sampling.base import Propensity
from features.scenario import Scenario
from flows.house import PARTIAL, House
from flows.recipes import Recipe
from flows.stages.settle import Plan
from models.batch import Batch
from models.carry import carry
from models.line import Line
from models.resume import Partial
from models.train import Progress, TrainReport, go_on


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a line learns on a day.

    Attributes:
        scenario: the scenario.
        recipe: how the line learns.
        day: logical date; the order of the rows follows from it.
        rows: as ``flows.stages.late.lesson_rows`` gives them.
        encoder: the ids as they are known after the day.
        propensity: as ``Sampling.sample`` takes it.
        replayed: rows of earlier days, which are learned before these; ``None``: none.
    """

    scenario: Scenario
    recipe: Recipe
    day: date
    rows: pl.LazyFrame
    encoder: Encoder
    propensity: Propensity | None = None

    replayed: pl.LazyFrame | None = None

    def seed(self, nth: int) -> int:
        """Of the order of the rows in a pass, from 0."""
        parts = [self.recipe.seed, self.day.toordinal(), *([nth] if nth else [])]
        return int(np.random.SeedSequence(parts).generate_state(1)[0])

    def batches(self, nth: int, skip: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches of a pass, from 0, without the first ``skip``; what is replayed comes in the first pass."""
        recipe = self.recipe
        return training_batches(
            (self.replayed, self.rows) if self.replayed is not None and not nth else (self.rows,),
            self.scenario,
            self.encoder,
            batch_rows=recipe.batch_rows,
            window_rows=recipe.window_rows,
            seed=self.seed(nth),
            sampling=recipe.sampling,
            sampling_seed=recipe.seed,
            propensity=self.propensity,
            skip=skip,
        )


def learn(
    line: Line,
    lesson: Lesson,
    partial: Partial | None = None,
    between: Callable[[int], None] | None = None,
) -> TrainReport:
    """Train on a day; a run that was killed within it is taken up where its state was last written down.

    Args:
        line: as its parent left it.
        lesson: what it learns.
        partial: where the state is written down meanwhile; ``None``: nowhere.
        between: told after every pass but the last how many are over.

    Raises:
        NotFinite: a loss or gradient was not finite.
    """
    recipe, done = lesson.recipe, Progress.none(len(line.funnel))
    carry(line, dense=recipe.dense_state, embedding=recipe.embedding_state)
    torch.manual_seed(lesson.seed(0))  # of noise that a network may draw for itself
    if partial is not None:
        done = partial.restore(line)

    def after(now: Progress) -> None:
        if partial is not None:
            partial.keep(line, now)

    for nth in range(done.passes, recipe.epochs_per_day):
        with closing(ahead(lesson.batches(nth, done.taken))) as read:
            done = go_on(line, map(Batch.from_numpy, read), done, after)
        if between is not None and done.passes < recipe.epochs_per_day:
            between(done.passes)
    return done.report(line)


def partial_of(house: House, plan: Plan) -> Partial:
    """Where a line's passes write down their state: bound to all inputs, and to what orders the rows.

    The plan's key does not name the libraries that sort and shuffle; another version might put the rows into
    another order, and the place in it would mean another row.
    """
    bound = {"key": plan.key, "polars": pl.__version__, "numpy": np.__version__}
    folder = house.store.root / PARTIAL / str(plan.part)
    return Partial(folder, bound, every=house.settings.checkpoint_rows)
