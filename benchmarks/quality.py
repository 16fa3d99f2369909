"""Prequential AUC of the lines on the last shipped day, beside a logistic regression on the same features.

    python benchmarks/quality.py [--warehouse FOLDER]

Every line learns the days before the last one once each, in order, warm-started. The logistic regressions
read the same encoded features of the same rows: ids one-hot, lists as counts, quantities as they are. Three
of them are fitted, each harder to beat than the one before:

* one pass a day, warm-started like the lines (averaged stochastic gradient descent),
* L-BFGS to convergence over all days at once, with scikit-learn's default penalty,
* the same with the best of five penalties, chosen on the day before the last.

All are scored on the last day's rows, ids as known the day before.

The days are run first where the warehouse lacks them. Differences come with a 95 % interval of a paired
bootstrap over users.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, SGDClassifier

from features.batches import fresh_rows, targets
from features.bookkeeping import ID_MAPS
from features.encode import Encoder
from features.schemas import samples
from flows import recipes
from flows.day import available_days, run_day
from flows.house import House
from flows.settings import Settings
from flows.stages.encode import encoder_of
from flows.stages.version import load, parent_of
from models.metrics import auc, normalized_entropy
from models.score import score_arrays

PENALTIES = (0.003, 0.01, 0.03, 0.1, 1.0)
SHOWN = {"click": "pctr", "long_view": "pctcvr"}
ROUNDS = 100


def rows_of(house: House, day: date) -> pl.DataFrame:
    """Samples whose labels became final on ``day``: what a line evaluates and then learns."""
    scanned = house.store.scan(samples(house.scenario)).drop("dt")
    return fresh_rows(scanned, house.scenario, house.day_start(day), house.watermark(day)).collect()


def encoder_after(house: House, day: date) -> Encoder:
    """The encoder of the id maps after ``day``."""
    found = house.store.generation(ID_MAPS, day)
    assert found is not None
    return encoder_of(house, day, found.key)


def one_hot(arrays: Mapping[str, np.ndarray], num_rows: int) -> csr_matrix:
    """Encoded rows as a sparse design matrix: a column per embedding row, then the quantities."""
    ids = np.concatenate([arrays["rows"], arrays["bag_rows"]], axis=1)
    row = np.repeat(np.arange(len(ids)), ids.shape[1])
    present = ids.ravel() != 0
    counts = csr_matrix(
        (np.ones(present.sum()), (row[present], ids.ravel()[present])), shape=(len(ids), num_rows)
    )
    return hstack([counts, csr_matrix(arrays["dense"])]).tocsr()


def logistics(
    house: House, days: tuple[date, ...], frames: Mapping[date, pl.DataFrame], objective: str
) -> dict[str, np.ndarray]:
    """Probabilities on the last day by protocol, the hardest one last."""
    *past, last = days
    place = house.scenario.funnel.names.index(objective)

    def design(day: date, maps_after: date) -> csr_matrix:
        encoder = encoder_after(house, maps_after)
        return one_hot(encoder.encode(frames[day]), encoder.layout.num_rows)

    x = {day: design(day, day) for day in past}
    y = {day: targets(frames[day], house.scenario)["y"][:, place] for day in past}
    test, held_out = design(last, past[-1]), design(past[-1], past[-2])

    once = SGDClassifier(loss="log_loss", alpha=1e-4, average=True, random_state=7)
    for day in past:
        once.partial_fit(x[day], y[day], classes=[0.0, 1.0])

    def fitted(on: list[date], penalty: float) -> LogisticRegression:
        model = LogisticRegression(C=penalty, max_iter=5000)
        return model.fit(vstack([x[day] for day in on]), np.concatenate([y[day] for day in on]))

    quality = {
        penalty: auc(y[past[-1]], fitted(past[:-1], penalty).predict_proba(held_out)[:, 1]) or 0.0
        for penalty in PENALTIES
    }
    best = max(quality, key=lambda penalty: quality[penalty])
    return {
        "logistic, one pass": once.predict_proba(test)[:, 1],
        "logistic, C=1": fitted(past, 1.0).predict_proba(test)[:, 1],
        f"logistic, best C={best}": fitted(past, best).predict_proba(test)[:, 1],
    }


def line_scores(house: House, name: str, day: date, frame: pl.DataFrame) -> dict[str, np.ndarray]:
    """Probabilities on the day's rows of the line's version before it."""
    version = parent_of(house, name, day)
    assert version is not None
    encoder = encoder_of(house, version.day, version.id_maps_key)
    line = load(house, recipes.get(house.scenario.name, name), version)
    return score_arrays(line, encoder.encode(frame))


def interval(y: np.ndarray, p: np.ndarray, q: np.ndarray, user: np.ndarray) -> tuple[float, float]:
    """95 % interval of AUC(p) - AUC(q), users drawn with replacement."""
    order = np.argsort(user, kind="stable")
    _, starts = np.unique(user[order], return_index=True)
    groups = np.split(order, starts[1:])
    draw = np.random.default_rng(7)
    differences = []
    for _ in range(ROUNDS):
        chosen = np.concatenate([groups[g] for g in draw.integers(0, len(groups), len(groups))])
        differences.append((auc(y[chosen], p[chosen]) or 0.0) - (auc(y[chosen], q[chosen]) or 0.0))
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    """Run what is missing, fit the regression, print the comparison."""
    parser = argparse.ArgumentParser(description="Lines against a logistic regression, last shipped day.")
    parser.add_argument("--warehouse", type=Path, help="default: the one of the settings")
    chosen = parser.parse_args().warehouse
    settings = Settings.load()
    if chosen is not None:
        settings = settings.model_copy(update={"warehouse": chosen.absolute()})
    house = House.open(settings, "kuairand")
    days, lines = available_days(house), recipes.names("kuairand")
    for day in days:
        print(f"{day}: {len(run_day(house, day, lines))} partitions", flush=True)
    frames = {day: rows_of(house, day) for day in days}
    last = frames[days[-1]]
    label = targets(last, house.scenario)["y"]
    user = last["user_id"].to_numpy()
    scored = {name: line_scores(house, name, days[-1], last) for name in lines}
    for objective, column in SHOWN.items():
        y = label[:, house.scenario.funnel.names.index(objective)]
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            bases = logistics(house, days, frames, objective)
        print(f"\n{objective} over all {len(y):,} impressions of {days[-1]}, {int(y.sum()):,} positives")
        for name, p in bases.items():
            print(f"  {name:<24} AUC {auc(y, p):.4f}  NE {normalized_entropy(y, p):.4f}")
        for name in lines:
            p = scored[name][column]
            print(f"  {name:<24} AUC {auc(y, p):.4f}  NE {normalized_entropy(y, p):.4f}")
            for base, q in bases.items():
                low, high = interval(y, p, q, user)
                difference = (auc(y, p) or 0.0) - (auc(y, q) or 0.0)
                print(f"      against {base:<22} {difference:+.4f} AUC, 95 % [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
