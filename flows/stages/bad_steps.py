"""A loss or gradient that is not finite ends the day with a typed error; no version is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import NotFinite
from models.finite import NotFinite as BadStep


@contextmanager
def refusing_bad_steps(what: str, before: int) -> Iterator[None]:
    """Turn the model's own error into one that a user can act on.

    One bad batch is enough: a step is taken with finite numbers or not at all, and what follows from a
    batch that was left out would be another model than the day's.

    Args:
        what: the line and the day.
        before: steps that the line had taken before the day; the number of the batch follows from it.

    Raises:
        NotFinite: names the step, and the objective or the weights.
    """
    try:
        yield
    except BadStep as error:
        raise NotFinite(
            f"training of {what} ({before} steps before it)",
            str(error).rstrip("."),
            "lower the recipe's rates, or look at the dense columns; yesterday's model goes on serving",
        ) from error
