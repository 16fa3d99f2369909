"""Probabilities of the model before a run, for sampling policies that ask how likely a row was."""

from __future__ import annotations

import polars as pl

from features.sampling.base import Propensity
from flows.house import House
from flows.recipes import Recipe
from flows.stages.encode import encoder_of
from flows.stages.version import Version, load
from models.line import Line
from models.score import score_arrays


def propensity_of(house: House, recipe: Recipe, version: Version | None) -> Propensity | None:
    """Scores rows with ``version``, whatever is learned meanwhile; ``None`` where it is not needed or new.

    The model is loaded a second time, as the line that trains changes with every batch, and reads ids
    with its own id maps, as it did when its scores were published.

    Raises:
        BadWarehouse: the checkpoint or its id maps are not what they were.
    """
    if version is None or not recipe.sampling.needs_propensity:
        return None
    return propensity_by(house, load(house, recipe, version), version)


def propensity_by(house: House, line: Line, version: Version) -> Propensity:
    """Scores rows with a line that nothing changes, and with the id maps of its version.

    Raises:
        BadWarehouse: the id maps are not what they were.
    """
    encoder = encoder_of(house, version.day, version.id_maps_key)
    joint = {column.objective: column.name for column in house.scenario.funnel.score_columns if column.joint}

    def propensity(rows: pl.DataFrame, objective: str) -> pl.Series:
        scored = score_arrays(line, encoder.encode(rows))
        return pl.Series(joint[objective], scored[joint[objective]]).cast(pl.Float64)

    return propensity
