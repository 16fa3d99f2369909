"""Model versions: which one a day starts from, and the trained line that it stands for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from features.bookkeeping import MODELS
from features.encode import Layout
from features.errors import BadWarehouse, OtherFeatures
from features.feature_set import FeatureSet
from features.promotion import PROMOTIONS
from flows.house import House
from flows.recipes import Recipe
from flows.stages.decisions import decision_of, entries, first_judged
from models import checkpoint
from models.batch import InputSpec
from models.line import Line
from models.machine import default_device, products_dtype


@dataclass(frozen=True)
class Version:
    """A trained model version, as the table ``models`` tells of it.

    Attributes:
        day: logical date up to which it has learned.
        line: name of its recipe.
        version: hash of parent, inputs, recipe and code.
        watermark: labels final by this instant (naive UTC) have been learned.
        id_maps_key: generation of the id maps of its day.
        features: what it was trained on; ``None`` if it was trained before that was kept.
        folder: its checkpoint.
    """

    day: date
    line: str
    version: str
    watermark: datetime
    id_maps_key: str
    features: FeatureSet | None
    folder: Path


def parent_of(house: House, line: str, day: date) -> Version | None:
    """The version that training on ``day`` starts from: the one of the line that stands when it begins.

    It is the newest one that was not kept out, or what somebody rolled back to. What it has not learned is
    learned now: all labels that became final since its watermark, on days that were never run, too.

    The decision about the newest day counts. Days before the line was first judged have none: there the
    newest version stands, as it did then. From that day on, a version that was not judged stands nowhere.
    """
    judged = house.store.days(PROMOTIONS)
    for earlier in reversed([known for known in house.store.days(MODELS, line=line) if known < day]):
        version = version_of(house, line, earlier)
        if version is None:
            continue
        told = entries(house, line, earlier) if earlier in judged else ()
        entry = decision_of(told, version.version)
        if entry is None:
            first = first_judged(house, line)
            if first is None or earlier < first:
                return version
            continue
        if entry.stands is None or entry.stands_day is None:
            return None
        stands = version_of(house, line, entry.stands_day)
        if stands is not None and stands.version == entry.stands:
            return stands
        # that version is no more: what stood before may be
    return None


def version_of(house: House, line: str, day: date) -> Version | None:
    """The line's version of a day.

    Raises:
        BadWarehouse: its checkpoint lies outside the warehouse.
    """
    found = house.store.generation(MODELS, day, line=line)
    if found is None:
        return None
    (row,) = house.store.scan(MODELS, [day], line=line).collect().rows(named=True)
    folder = house.store.root / row["checkpoint"]
    if not folder.resolve().is_relative_to(house.store.root):
        step = "funnelcast verify says what else is wrong; remove the link, or run that day again"
        raise BadWarehouse(f"model {line} of {day}", f"its checkpoint lies elsewhere, in {folder}", step)
    return Version(
        day=day,
        line=line,
        version=row["model_version"],
        watermark=row["watermark"],
        id_maps_key=row["id_maps_key"],
        features=None if row["features"] is None else FeatureSet.from_text(row["features"]),
        folder=folder,
    )


def refuse_other_features(house: House, version: Version, until: date) -> None:
    """Hold what a version was trained on to what is declared now: its numbers would mean something else.

    Args:
        house: where.
        version: the version to go on from.
        until: the day up to which its line is wanted.

    Raises:
        OtherFeatures: they differ; it names what was added, removed or changed.
    """
    declared = FeatureSet.of(house.scenario)
    if version.features is None or version.features.version == declared.version:
        return
    first = house.store.days(MODELS, line=version.line)[0]
    raise OtherFeatures(
        f"model {version.line} of {version.day}",
        f"was trained with feature set {version.features.label}, now it is {declared.label}: "
        f"{declared.difference(version.features)}",
        f"funnelcast backfill {first} {until} trains the line anew from its first day, or give the changed "
        "line a new name",
    )


def load(house: House, recipe: Recipe, version: Version | None) -> Line:
    """The line as ``version`` left it, or a fresh one; every byte of a checkpoint is verified.

    Raises:
        OtherFeatures: it was trained with another feature set.
        BadWarehouse: the checkpoint is missing, damaged or of another shape.
    """
    if version is not None:
        refuse_other_features(house, version, version.day)
    layout = Layout.of(house.scenario.features)
    spec = InputSpec(
        layout.num_rows,
        len(layout.singles),
        layout.bag_lengths,
        len(layout.dense_columns),
        tuple(feature.name for feature in (*layout.singles, *layout.bags)),
        layout.ranges,
    )
    device = default_device()
    line = Line.fresh(
        spec,
        house.scenario.funnel,
        architecture=recipe.architecture,
        method=recipe.method,
        balancer=recipe.balancer,
        interaction=recipe.interaction,
        embedding_optimizer=recipe.embedding_optimizer,
        dim=recipe.dim,
        dense_rate=recipe.dense_rate,
        embedding_rate=recipe.embedding_rate,
        weight_decay=recipe.weight_decay,
        averaging=recipe.averaging,
        products=products_dtype(recipe.products, device),
        negative_rates=recipe.sampling.negative_rates(house.scenario.funnel),
        late=recipe.late,
        seed=recipe.seed,
        device=device,
    )
    if version is not None:
        try:
            state, _ = checkpoint.load(version.folder)
            line.restore(state)
        except (OSError, ValueError) as error:
            raise BadWarehouse(
                f"model {version.line} of {version.day}",
                str(error),
                f"restore {version.folder}, or remove it and run {version.day} again",
            ) from error
    return line
