"""Champion and challenger on the same rows: the numbers that the gate is asked about.

Two sets of rows. Fresh ones, which the challenger has just learned and the champion has not seen: there the
challenger has the advantage, so whoever loses there has learned badly. Earlier ones, which the champion
learned on its last day: both know them, the champion more recently, and a challenger that a day of wrong
labels has taught loses there. No row is left that neither has learned; the day after brings them, and
``metrics_daily`` holds what the version was worth on them. A line that reads labels while they are open has
read those of late objectives before, champion and challenger alike.

Letters: N rows, K objectives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import numpy as np
import polars as pl

from features.batches import blocks, fresh_rows, targets
from features.encode import Encoder
from features.funnel import Funnel, ScoreColumn
from features.schemas import samples
from features.validation.drift import QUANTILES, psi
from features.validation.thinning import thin
from flows.gate import ALL, EARLIER, FRESH, Evidence, Numbers, Part
from flows.house import House
from flows.limits import Gate
from flows.recipes import Recipe
from flows.stages.encode import encoder_of
from flows.stages.train import sample_days
from flows.stages.unlearned import taught, untaught
from flows.stages.version import Version, load
from models.line import Line
from models.metrics import auc, log_loss, pcoc, rmse
from models.score import score_arrays

_BLOCK = 65_536


@dataclass(frozen=True)
class _Side:
    """A version, ready to score."""

    line: Line
    encoder: Encoder

    @classmethod
    def of(cls, house: House, recipe: Recipe, version: Version) -> _Side:
        """From its checkpoint, whose every byte is verified, and the ids as it knows them."""
        return cls(load(house, recipe, version), encoder_of(house, version.day, version.id_maps_key))


@dataclass(frozen=True)
class _Scored:
    """A set of rows with what both versions say of them; the arrays are as long as the set.

    Attributes:
        y_NK: labels, 0 or 1, and values.
        valid_NK: labels that are final.
        slices: which rows are in a slice.
        challenger: the score columns of the new version.
        champion: those of the one that it would replace; ``None`` if none stands.
    """

    y_NK: np.ndarray
    valid_NK: np.ndarray
    slices: Mapping[str, np.ndarray]
    challenger: Mapping[str, np.ndarray]
    champion: Mapping[str, np.ndarray] | None


def since(house: House, day: date, champion: Version | None) -> datetime:
    """From where on the rows of a judgement count: the beginning of the champion's last day."""
    return house.day_start(day if champion is None else champion.day)


def judged_days(house: House, day: date, champion: Version | None) -> list[date]:
    """Days of exposure whose labels may have become final from then on until the end of ``day``."""
    return sample_days(house, day, since(house, day, champion))


def evidence(
    house: House, recipe: Recipe, champion: Version | None, challenger: Version, gate: Gate
) -> Evidence:
    """Score both sets of rows with both versions, and measure.

    At most ``gate.most_rows`` of a set are scored, every n-th in the order of exposure; they are all that is
    held in memory, as labels and scores.

    Raises:
        BadWarehouse: a checkpoint or an id map is missing or damaged.
    """
    funnel, day = house.scenario.funnel, challenger.day
    ours = _Side.of(house, recipe, challenger)
    theirs = None if champion is None else _Side.of(house, recipe, champion)
    begin = since(house, day, champion)
    sets = [(FRESH, begin if champion is None else champion.watermark, challenger.watermark)]
    if champion is not None:
        sets.append((EARLIER, begin, champion.watermark))
    parts: list[Part] = []
    rows = offenders = 0
    for over, after, until in sets:
        found = _scored(house, ours, theirs, _rows(house, day, champion, after, until), gate.most_rows)
        if found is None:
            continue
        rows += len(found.y_NK)
        wrong = offenders_of(funnel, found.challenger)
        offenders += wrong
        if not wrong:
            parts += _parts(funnel, over, found)
    return Evidence(
        click=funnel.click,
        scored=rows,
        offenders=offenders,
        baseline=champion is not None,
        parts=tuple(parts),
    )


def _rows(
    house: House, day: date, champion: Version | None, after: datetime, until: datetime
) -> pl.LazyFrame:
    known = house.store.scan(samples(house.scenario), judged_days(house, day, champion)).drop("dt")
    # What was not learned because its positives are missing is no evidence of anybody either.
    return taught(house, fresh_rows(known, house.scenario, after, until), untaught(house, day))


def _scored(house: House, ours: _Side, theirs: _Side | None, rows: pl.LazyFrame, most: int) -> _Scored | None:
    height = int(rows.select(pl.len()).collect(engine="streaming").item())
    if not height:
        return None
    names = [column.name for column in house.scenario.funnel.score_columns]
    found: list[dict[str, np.ndarray]] = []
    for block in blocks(thin(rows, height, most), _BLOCK):
        told = targets(block, house.scenario)
        part = {"y": told["y"], "valid": told["trains"]}
        for who, side in (("challenger", ours), ("champion", theirs)):
            if side is not None:
                arrays = side.encoder.encode(block)
                scores = score_arrays(side.line, arrays)
                part |= {f"{who} {name}": scores[name] for name in names}
                masks = side.encoder.unknown_keys(arrays)
        # what the champion does not know, if there is one: a slice has the same rows on both sides
        found.append(part | {f"unknown_{key}": mask for key, mask in masks.items()})
    whole = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return _Scored(
        y_NK=whole["y"],
        valid_NK=whole["valid"],
        slices={name: mask for name, mask in whole.items() if name.startswith("unknown_")},
        challenger={name: whole[f"challenger {name}"] for name in names},
        champion=None if theirs is None else {name: whole[f"champion {name}"] for name in names},
    )


def offenders_of(funnel: Funnel, scores: Mapping[str, np.ndarray]) -> int:
    """Rows with an impossible number: the promises of the published table, before anything is published.

    Args:
        funnel: the objectives.
        scores: by score column, of shape (N,).
    """
    wrong_N = np.zeros(len(next(iter(scores.values()))), dtype=np.bool_)
    joint = {column.objective: column for column in funnel.score_columns if column.joint}
    for column in funnel.score_columns:
        p_N = scores[column.name]
        wrong_N |= ~np.isfinite(p_N)
        if column.kind == "binary":
            wrong_N |= ~((p_N >= 0) & (p_N <= 1))
            given = funnel[column.objective].given
            if column.joint and given is not None:
                wrong_N |= ~(p_N <= scores[joint[given].name])
    return int(np.count_nonzero(wrong_N))


def _parts(funnel: Funnel, over: str, found: _Scored) -> Iterator[Part]:
    for k, objective in enumerate(funnel):
        parent = funnel.parent_index(objective)
        for column in _columns(funnel, objective.name):
            inside_N = found.valid_NK[:, k]
            space = "impressions"
            if not column.joint and parent is not None:
                inside_N = inside_N & (found.y_NK[:, parent] == 1)
                space = f"given_{objective.given}"
            slices = {ALL: np.ones_like(inside_N)} | (dict(found.slices) if column.joint else {})
            for name, mask_N in slices.items():
                chosen_N = inside_N & mask_N
                y_n = found.y_NK[chosen_N, k]
                p_n = found.challenger[column.name][chosen_N]
                theirs_n = None if found.champion is None else found.champion[column.name][chosen_N]
                whole = name == ALL and column.joint and over == FRESH
                yield Part(
                    over=over,
                    objective=objective.name,
                    space=space,
                    slice=name,
                    kind=objective.kind,
                    rows=len(y_n),
                    positives=int(np.count_nonzero(y_n)),
                    share=float(mask_N.mean()),
                    challenger=_numbers(objective.kind, y_n, p_n),
                    champion=None if theirs_n is None else _numbers(objective.kind, y_n, theirs_n),
                    psi=shift(p_n, theirs_n) if whole and theirs_n is not None else None,
                )


def _columns(funnel: Funnel, objective: str) -> list[ScoreColumn]:
    """Per impression first."""
    of = [column for column in funnel.score_columns if column.objective == objective]
    return sorted(of, key=lambda column: not column.joint)


def _numbers(kind: str, y_N: np.ndarray, p_N: np.ndarray) -> Numbers:
    if kind == "value":
        return Numbers(auc=None, loss=rmse(y_N, p_N), pcoc=pcoc(y_N, p_N))
    return Numbers(auc=auc(y_N, p_N), loss=log_loss(y_N, p_N), pcoc=pcoc(y_N, p_N))


def shift(scores: np.ndarray, reference: np.ndarray) -> float | None:
    """Population stability index of scores against others of the same rows, in the deciles of these.

    Args:
        scores: shape (N,).
        reference: shape (N,); deciles that fall together are one bin.
    """
    if not len(scores):
        return None
    shares = np.arange(1, QUANTILES) / QUANTILES
    edges = np.unique(np.quantile(reference, shares, method="inverted_cdf"))
    ours, theirs = (
        np.bincount(np.searchsorted(edges, side), minlength=len(edges) + 1) for side in (scores, reference)
    )
    filled = (ours + theirs) > 0
    return psi(ours[filled], theirs[filled])
