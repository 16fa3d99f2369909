"""Census-Income as arrays: rows of a packed table, scaled numbers, labels; learned and held-out parts.

A number is encoded twice, as a scaled logarithm and by the bin that it lies in (quantiles of what is above
the smallest value in training). Capital gains decide much about incomes, and their values matter one by one.

Shapes: B people, F nominal attributes and bins, Q numbers, K = 2 objectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

FOLDER = Path(__file__).resolve().parents[1] / "data" / "census"
TRAIN, TEST = "census_train_nominal33.parquet", "census_test_full42.parquet"
#: Attributes that are labels, and the number of people that a row stands for.
WITHHELD = ("education", "marital_stat", "income_50k", "instance_weight")
#: Attributes that tell part of a label: who is "never married" or a spouse in a household, who files jointly,
#: who is enrolled at a college. The published rows have them as inputs.
TELLING = ("det_hh_fam_stat", "det_hh_summ", "tax_filer_stat", "hs_college")
#: The correlation of this label with "never married" is -0.240 on the training split; MMoE prints 0.2373.
COLLEGE = (
    "Associates degree-academic program",
    "Associates degree-occup /vocational",
    "Bachelors degree(BA AB BS)",
    "Masters degree(MA MS MEng MEd MSW MBA)",
    "Prof school degree (MD DDS DVM LLB JD)",
    "Doctorate degree(PhD EdD)",
)
#: The labels by name.
LABELS = {
    "income": pl.col("income_50k") == "50000+",
    "education": pl.col("education").is_in(COLLEGE),
    "marital": pl.col("marital_stat") == "Never married",
}
PAIRS = (("income", "marital"), ("education", "marital"))
#: Decides which rows are held out; the same for all seeds of the models.
SPLIT_SEED = 2018
BINS = 32


@dataclass(frozen=True, eq=False)
class Part:
    """Encoded people.

    Attributes:
        rows_BF: row of the packed table, int64; 0 is a value that training has not seen.
        dense_BQ: scaled numbers, float32.
        y_BK: labels 0 or 1, float32.
    """

    rows_BF: np.ndarray
    dense_BQ: np.ndarray
    y_BK: np.ndarray

    def __len__(self) -> int:
        return len(self.rows_BF)


@dataclass(frozen=True, eq=False)
class Census:
    """One split with one pair of labels.

    Attributes:
        sizes: values of every nominal attribute that training has seen, by its name.
        numbers: names of the numeric attributes.
        train: what is learned.
        held: rows that are not learned. On A two halves, each of which is tested as the other one decides;
            on B what decides settings and epochs, then the test rows, which are absent while settings are
            chosen; on C what decides epochs, then the test rows.
    """

    sizes: dict[str, int]
    numbers: tuple[str, ...]
    train: Part
    held: tuple[Part, ...]

    @property
    def num_rows(self) -> int:
        """Rows of the packed table, with the padding row."""
        return 1 + sum(self.sizes.values())

    @property
    def starts(self) -> np.ndarray:
        """What lies before the first row of every attribute: its rows minus this count from 1."""
        return np.cumsum([0, *self.sizes.values()])[:-1]


def load(
    split: str,
    pair: tuple[str, str],
    *,
    fold: int = 0,
    blind: bool = False,
    telling: bool = True,
    bins: bool = True,
) -> Census:
    """One split.

    Args:
        split: ``A``, ``B`` or ``C``, see ``data/census/README.md``.
        pair: labels.
        fold: on B which tenth of the rows that are not test rows is for validation, from 0; test rows are the
            same for all. On C which third of all people is tested, and after three of another division.
        blind: leave the test rows of B out.
        telling: leave the attributes that tell part of a label among the inputs, as in the published rows.
        bins: encode numbers by their bins besides.
    """
    train, held = _divided(split, fold, blind=blind)
    withheld = WITHHELD if telling else (*WITHHELD, *TELLING)
    inputs = [name for name in train.columns if name not in withheld]
    numbers = [name for name in inputs if train.schema[name] != pl.String]
    edges = {name: bin_edges(train[name].to_numpy()) for name in numbers if bins}
    nominal = [*(name for name in inputs if name not in numbers), *(f"{name}_bin" for name in edges)]
    train, *held = (with_bins(frame, edges) for frame in (train, *held))
    values = {name: train[name].unique().sort() for name in nominal}
    sizes = {name: len(found) for name, found in values.items()}
    starts = np.cumsum([0, *sizes.values()])[:-1]
    # counts and sums of money have long tails
    scaled = train.select(pl.col(numbers).log1p())
    means, deviations = scaled.mean().to_numpy(), scaled.std().to_numpy()

    def encode(frame: pl.DataFrame) -> Part:
        rows = np.zeros((len(frame), len(nominal)), dtype=np.int64)
        for f, (start, (name, found)) in enumerate(zip(starts, values.items(), strict=True)):
            codes = frame[name].replace_strict(found, range(len(found)), default=None, return_dtype=pl.Int64)
            rows[:, f] = (codes + start + 1).fill_null(0).to_numpy()
        dense = (frame.select(pl.col(numbers).log1p()).to_numpy() - means) / deviations
        y = frame.select(LABELS[name].cast(pl.Float32).alias(name) for name in pair).to_numpy()
        return Part(rows, dense.astype(np.float32).reshape(len(frame), len(numbers)), np.ascontiguousarray(y))

    return Census(sizes, tuple(numbers), encode(train), tuple(encode(frame) for frame in held))


def _divided(split: str, fold: int, *, blind: bool) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
    """What is learned and what is held out, see ``load``."""
    official = pl.read_parquet(FOLDER / TEST)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(official))
    if split == "A":
        half = len(order) // 2
        return pl.read_parquet(FOLDER / TRAIN), [official[order[:half]], official[order[half:]]]
    if split == "B":
        known = len(order) * 2 // 3
        held_out = known // 10
        order[:known] = np.roll(order[:known], -fold * held_out)
        validation, train, test = (official[chosen] for chosen in np.split(order, [held_out, known]))
        return train, [validation] if blind else [validation, test]
    nominal = pl.read_parquet(FOLDER / TRAIN)
    everyone = pl.concat([nominal, official.select(nominal.columns)])
    division, third = divmod(fold, 3)
    order = np.random.default_rng([SPLIT_SEED, division]).permutation(len(everyone))
    parts = np.array_split(order, 3)
    test = everyone[parts.pop(third)]
    others = np.concatenate(parts)
    held_out = len(others) // 6
    return everyone[others[held_out:]], [everyone[others[:held_out]], test]


def bin_edges(number_B: np.ndarray) -> np.ndarray:
    """Where bins end: the smallest value has one of its own, the rest is cut into quantiles."""
    above = number_B[number_B > number_B.min()]
    return np.unique(np.quantile(above, np.linspace(0, 1, BINS)[:-1]))


def with_bins(frame: pl.DataFrame, edges: dict[str, np.ndarray]) -> pl.DataFrame:
    """The frame and a column of bins for every number with edges."""
    return frame.with_columns(
        pl.Series(f"{name}_bin", np.searchsorted(ends, frame[name].to_numpy(), side="right"))
        for name, ends in edges.items()
    )
