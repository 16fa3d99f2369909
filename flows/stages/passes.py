"""What a line learns in one run, as batches in their order, and the passes over them."""

from __future__ import annotations

from collections.abc import Callable
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
from flows.house import House
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
        rows: as ``features.batches.fresh_rows`` gives them.
        encoder: the ids as they are known after the day.
        propensity: as ``Sampling.sample`` takes it.
    """

    scenario: Scenario
    recipe: Recipe
    day: date
    rows: pl.LazyFrame
    encoder: Encoder
    propensity: Propensity | None = None

    def seed(self) -> int:
        """Of the order of the rows."""
        return int(
            np.random.SeedSequence([self.recipe.seed, self.day.toordinal()]).generate_state(1)[0],
        )


def learn(line: Line, lesson: Lesson, partial: Partial | None = None) -> TrainReport:
    """Train on a day; a run that was killed within it is taken up where its state was last written down.

    Args:
        line: as its parent left it.
        lesson: what it learns.
        partial: where the state is written down meanwhile; ``None``: nowhere.

    Raises:
        NotFinite: a loss or gradient was not finite.
    """
    done = Progress.none(len(line.funnel))
    recipe = lesson.recipe
    carry(line, dense=recipe.dense_state, embedding=recipe.embedding_state)
    torch.manual_seed(lesson.seed())  # of noise that a network may draw for itself
    after: Callable[[Progress], None] | None = None
    if partial is not None:
        kept = partial
        done = kept.restore(line)

        def after(now: Progress) -> None:
            kept.keep(line, now)

    batches = training_batches(
        lesson.rows,
        lesson.scenario,
        lesson.encoder,
        batch_rows=recipe.batch_rows,
        window_rows=recipe.window_rows,
        seed=lesson.seed(),
        sampling=recipe.sampling,
        sampling_seed=recipe.seed,
        propensity=lesson.propensity,
        skip=done.taken,
    )
    with closing(ahead(batches)) as read:
        done = go_on(line, map(Batch.from_numpy, read), done, after)
    return done.report(line)


def partial_of(house: House, plan: Plan) -> Partial:
    """Where a line's passes write down their state: bound to all inputs, and to what orders the rows.

    The plan's key does not name the libraries that sort and shuffle; another version might put the rows into
    another order, and the place in it would mean another row.
    """
    bound = {"key": plan.key, "polars": pl.__version__, "numpy": np.__version__}
    folder = house.store.root / "_partial" / str(plan.part)
    return Partial(folder, bound, every=house.settings.checkpoint_rows)
