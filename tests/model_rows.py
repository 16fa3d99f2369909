"""Model versions without training: a small checkpoint and the row that makes it a version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path

import polars as pl
import torch

from features.bookkeeping import MODELS
from features.fingerprint import canonical, fingerprint
from flows.house import House
from models import checkpoint


def add_model(
    house: House, day: date, inputs: Mapping[str, str], line: str = "esmm", watermark: datetime | None = None
) -> Path:
    """Commit a version of a line that was trained on ``inputs``; the folder of its checkpoint."""
    key = fingerprint([day, line, dict(inputs)])
    folder = Path("checkpoints") / line / key
    (house.store.root / folder).parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(house.store.root / folder, {"weights": torch.arange(300.0)}, {"day": day.isoformat()})
    row = dict.fromkeys(MODELS.schema.names) | {
        "model_version": key,
        "watermark": watermark or datetime(day.year, day.month, day.day),
        "inputs": canonical(dict(inputs)),
        "checkpoint": folder.as_posix(),
    }
    frame = pl.DataFrame([row], schema=pl.DataFrame(MODELS.schema.empty_table()).schema)
    with house.store.stage(MODELS, day, key, record={}, line=line) as shards:
        shards.write(frame)
    house.store.commit(shards)
    return house.store.root / folder
