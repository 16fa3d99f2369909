"""Our side of ``throughput.py``: the planted set as a scenario, and its lines at the sizes of the peers.

Shapes: B rows, K objectives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import throughput_data as planted

from features.batches import training_batches
from features.encode import Encoder, Layout
from features.encodings import FIRST
from features.funnel import Funnel, Objective
from features.id_maps import MAP_SCHEMA, empty_map
from features.scenario import CandidateRule, Scenario, Source, impression_schema
from features.view import Category, Dense, Feature
from models import checkpoint
from models.balancing.static import Static
from models.batch import Batch, InputSpec
from models.entire_space.esmm import ESMM
from models.line import Line
from models.machine import Products, default_device, products_dtype
from models.mmoe import MMoE
from models.ple import PLE
from models.row_wise_adagrad import RowWiseAdagrad
from models.towers import Towers
from models.train import train_one_pass

#: The peers' own default sizes.
ARCHITECTURES = {
    "esmm": partial(Towers, layers=(256, 128)),
    "mmoe": partial(MMoE, experts=3, expert=(256, 128), layers=(64,)),
    "ple": partial(PLE, levels=((256, 128), (256, 128)), own=1, shared=1, layers=(64,)),
}
#: Step sizes of the network and of the table, by rows of a batch: of some pairs the one with the best AUC of
#: ESMM on the first 200,000 held-out rows. Smaller batches take more steps, so smaller ones.
RATES = {4096: (1e-3, 0.1), 1024: (5e-4, 0.05)}
DIM = 16
WINDOW = 65_536
_DAY = date(2026, 1, 5)

FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(hours=1)),
        Objective(name="conversion", log="conversion", given="click", window=timedelta(days=1)),
    ),
    click="click",
    conversion="conversion",
)


def scenario(sizes: Mapping[str, int] = planted.SIZES) -> Scenario:
    """The planted set, its id fields as features of the request; ``sizes`` are rows of the table by field."""
    features = [
        Feature(
            name=name,
            expr=pl.col(name),
            dtype=pl.Int64(),
            encoding=Category(vocabulary=name, capacity=FIRST + count),
            description="id",
        )
        for name, count in sizes.items()
    ]
    features += [
        Feature(name=n, expr=pl.col(n), dtype=pl.Float32(), encoding=Dense(), description="quantity")
        for n in planted.QUANTITIES
    ]
    schema = impression_schema(pa.int64(), pa.int64(), {f.name: pa.int64() for f in features})
    return Scenario(
        name="planted",
        zone="UTC",
        impressions=Source(
            name="exposure",
            role="impression",
            query="none",
            files="none",
            raw={},
            schema=schema,
            key="impression_id",
        ),
        events=(),
        attributes=(),
        rollups=(),
        funnel=FUNNEL,
        context=tuple(features),
        views=(),
        candidates=CandidateRule(user_days=1, item_days=1, items=1),
    )


def id_map(sizes: Mapping[str, int] = planted.SIZES, seed: int = 0) -> pl.DataFrame:
    """Every id that the set can have has a row of its own, in no order, as when ids come by and by."""
    order = np.random.default_rng(seed)
    parts = [
        pl.DataFrame({"id_int": np.arange(n), "row": FIRST + order.permutation(n).astype(np.int32)}).select(
            pl.lit(name).alias("vocabulary"), "id_int", "row", row_since=pl.lit(_DAY)
        )
        for name, n in ((name, min(n, planted.SIZES[name])) for name, n in sizes.items())
    ]
    return pl.concat([empty_map(), *parts], how="diagonal").select(MAP_SCHEMA.keys())


def encoder(sizes: Mapping[str, int] = planted.SIZES) -> Encoder:
    """The encoder of the planted set."""
    return Encoder(Layout.of(scenario(sizes).features), id_map(sizes))


def rows(file: Path) -> pl.LazyFrame:
    """The file as ``fresh_rows`` would give it: all labels final."""
    masks = [pl.lit(True).alias(f"trains_{o.name}") for o in FUNNEL]
    return pl.scan_parquet(file).with_columns(*masks, weight=pl.lit(1.0))


def batches(file: Path, encoder: Encoder, batch_rows: int, seed: int = 0) -> Iterator[dict[str, np.ndarray]]:
    """Shuffled, encoded batches with labels, streamed from the file."""
    return training_batches(
        rows(file), scenario(), encoder, batch_rows=batch_rows, window_rows=WINDOW, seed=seed
    )


def spec(layout: Layout) -> InputSpec:
    """The layout of batches, with the vocabularies of their fields."""
    return InputSpec(
        layout.num_rows,
        len(layout.singles),
        layout.bag_lengths,
        len(layout.dense_columns),
        tuple(feature.name for feature in (*layout.singles, *layout.bags)),
        layout.ranges,
    )


def line(
    name: str,
    layout: Layout,
    *,
    batch_rows: int = 4096,
    seed: int = 1,
    products: Products = "bfloat16",
    by_vocabulary: bool = True,
) -> Line:
    """A fresh line at the peers' sizes; products in bfloat16 where the device has them."""
    read = spec(layout) if by_vocabulary else replace(spec(layout), vocabularies=())
    dense_rate, embedding_rate = RATES.get(batch_rows, RATES[4096])
    return Line.fresh(
        read,
        FUNNEL,
        architecture=ARCHITECTURES[name],
        method=ESMM(),
        balancer=Static,
        dim=DIM,
        dense_rate=dense_rate,
        embedding_optimizer=RowWiseAdagrad,
        embedding_rate=embedding_rate,
        products=products_dtype(products, default_device()),
        seed=seed,
        device=default_device(),
    )


def learned(name: str, folder: Path, rows: int) -> Path:
    """The checkpoint of a line that has learned so many rows in batches of 4,096; made once."""
    found = folder / f"learned-{name}-{rows}"
    if not found.exists():
        own = encoder()
        made = line(name, own.layout)
        file = planted.write(folder / f"train-{rows}.parquet", rows, seed=1)
        train_one_pass(made, map(Batch.from_numpy, batches(file, own, 4096)))
        checkpoint.save(found, made.state(), {"learned": rows})
    return found


def predictions(line: Line, encoder: Encoder, file: Path, block_rows: int = 4096) -> np.ndarray:
    """Probabilities per impression of every row of a file, (N, K)."""
    parts = []
    for frame in pl.scan_parquet(file).collect_batches(chunk_size=65_536, maintain_order=True):
        arrays = encoder.encode(frame)
        for start in range(0, frame.height, block_rows):
            cut = {name: array[start : start + block_rows] for name, array in arrays.items()}
            parts.append(line.predict(Batch.from_numpy(cut)).joint_BJ.exp().numpy())
    return np.concatenate(parts)
