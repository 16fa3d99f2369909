"""Raw logs of the scenario ``shop`` for any number of impressions a day, made in blocks of bounded memory.

Users and products have a taste for clicking and a need for buying (normal effects on the logit), some
of either are seen far more often than others, and purchases follow clicks by hours. About every thirteenth
impression is clicked and every sixth click ends in a purchase, of which one in ten is refunded. As in life:

* half of what happens in a day's last 50 minutes arrives with the next delivery;
* 1 % of the exposures and clicks are delivered twice, half of these copies with a later time (retries);
* 0.1 % of the exposures have no user, 1 % of the clicks name an exposure that was never delivered.

A block is a slice of a day's impressions with everything that follows from them. It depends on the seed, the
day and its number alone and writes a file of its own into the partition of every day on which some of it
arrives: a delivery is complete once all days up to its own are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl

from features.calendar import day_end, day_start
from features.scenarios.shop import SCENARIO

#: Impressions in memory at a time, and days on which something of one day can arrive.
BLOCK, REACH = 250_000, 5
#: Neighbouring ids are equal as doubles.
FIRST_USER = 2**53
SURFACES = np.array(["home", "search", "basket"])
CATEGORIES, BRANDS = 24, 400
SECOND = 1_000_000
MINUTE, HOUR = 60 * SECOND, 3_600 * SECOND


@dataclass(frozen=True)
class Shop:
    """Who there is.

    Attributes:
        users: how many of them; a user of rank share r of all is drawn with a density falling as r^-1/2.
        items: how many products, drawn alike.
        seed: of everything.
    """

    users: int
    items: int
    seed: int = 0

    @classmethod
    def of_size(cls, impressions: int, seed: int = 0) -> Shop:
        """A shop in which this many impressions a day are 20 a user and 400 a product."""
        return cls(max(500, impressions // 20), max(200, impressions // 400), seed)

    @cached_property
    def taste(self) -> dict[str, np.ndarray]:
        """Effects of users and products on the logits of a click and of a purchase."""
        draw = np.random.default_rng([self.seed, 0])
        counts = {"user": self.users, "item": self.items}
        return {
            f"{who}_{what}": draw.normal(0, 0.8, counts[who]) for who in counts for what in ("click", "buy")
        }


def write_day(root: Path, day: date, impressions: int, shop: Shop) -> None:
    """Write ``<root>/<source>/dt=<day of arrival>/<day>-<block>.parquet`` of all that a day brings forth.

    Args:
        root: folder of the logs.
        day: logical day of the exposures.
        impressions: how many distinct ones.
        shop: who there is.
    """
    _write(root, "item", day, f"{day}-0", _catalogue(shop, day))
    _write(root, "price", day, f"{day}-0", _prices(shop, day))
    for number, (source, arrives, rows) in _blocks(day, impressions, shop):
        for late in range(REACH):
            part = rows.filter(pl.Series(arrives == late))
            # A delivery without an event is a file without a row, not a missing file.
            if part.height or late == number == 0:
                _write(root, source, day + timedelta(days=late), f"{day}-{number:04}", part)


def _blocks(
    day: date, impressions: int, shop: Shop
) -> Iterator[tuple[int, tuple[str, np.ndarray, pl.DataFrame]]]:
    count = -(-impressions // BLOCK)
    sizes = [len(part) for part in np.array_split(np.empty(impressions, np.bool_), count)]
    for number, size in enumerate(sizes):
        for log in _Block(shop, day, number, count, size).logs():
            yield number, log


class _Block:
    """A slice of a day: its ``size`` impressions lie in the ``number``-th of ``count`` equal spans."""

    def __init__(self, shop: Shop, day: date, number: int, count: int, size: int) -> None:
        self.shop, self.day = shop, day
        self.name = f"{day:%m%d}{number:04}"
        self.draw = np.random.default_rng([shop.seed, day.toordinal(), number])
        ends = [_micros(day_end(day + timedelta(days=n), SCENARIO.zone)) for n in range(REACH)]
        self.ends = np.array(ends)
        begins = _micros(day_start(day, SCENARIO.zone))
        length = ends[0] - begins
        low, high = (begins + length * n // count for n in (number, number + 1))
        self.user = self._ranks(shop.users, size)
        self.item = self._ranks(shop.items, size)
        self.at = np.sort(self.draw.integers(low, high, size))

    def logs(self) -> Iterator[tuple[str, np.ndarray, pl.DataFrame]]:
        """Each source with the days from this one to the arrival of its rows."""
        size, draw, taste = len(self.at), self.draw, self.shop.taste
        shown = self._arrival(self.at, np.zeros(size, np.int64))
        exposure = pl.DataFrame(
            {
                "exposure_id": self._ids("e", size),
                "user_id": pl.Series(FIRST_USER + self.user).set(pl.Series(draw.random(size) < 0.001), None),
                "sku": _skus(self.item),
                "ts_us": self.at,
                "surface": SURFACES[draw.integers(0, len(SURFACES), size)],
                "position": draw.integers(1, 11, size),
            }
        )
        yield self._delivered("exposure", shown, exposure, "ts_us", 30 * SECOND)

        logit = -2.9 + taste["user_click"][self.user] + taste["item_click"][self.item]
        clicks = np.flatnonzero(draw.random(size) < _sigmoid(logit))
        clicks = np.sort(np.append(clicks, clicks[draw.random(len(clicks)) < 0.05]))  # some click twice
        wait = np.minimum(2 * SECOND + draw.exponential(3 * MINUTE, len(clicks)), 55 * MINUTE)
        clicked = self.at[clicks] + wait.astype(np.int64)
        clicked -= clicked % SECOND
        told = self._arrival(clicked, shown[clicks])
        named, lost = draw.random(len(clicks)) < 0.7, draw.random(len(clicks)) < 0.01
        ids = exposure["exposure_id"].gather(clicks).set(pl.Series(~named), None)
        click = pl.DataFrame(
            {
                "click_id": self._ids("c", len(clicks)),
                "exposure_id": ids.set(pl.Series(lost), f"lost{self.name}"),
                "user_id": FIRST_USER + self.user[clicks],
                "sku": _skus(self.item[clicks]),
                "ts_s": clicked // SECOND,
            }
        )
        yield self._delivered("click", told, click, "ts_s", 30)

        logit = -2.1 + taste["user_buy"][self.user[clicks]] + taste["item_buy"][self.item[clicks]]
        bought = np.flatnonzero(draw.random(len(clicks)) < _sigmoid(logit))
        wait = np.minimum(SECOND + draw.exponential(9 * HOUR, len(bought)), 47 * HOUR)
        at = clicked[bought] + wait.astype(np.int64)
        heard, owner = self._arrival(at, told[bought]), clicks[bought]
        order = pl.DataFrame(
            {
                "order_id": self._ids("o", len(bought)),
                "user_id": FIRST_USER + self.user[owner],
                "sku": _skus(self.item[owner]),
                "ts_us": at,
                "amount_cents": draw.integers(100, 20_000, len(bought)),
            }
        )
        yield "conversion", heard, order

        back = np.flatnonzero(draw.random(len(bought)) < 0.1)
        at = at[back] + draw.integers(MINUTE, 2 * HOUR, len(back))
        refund = order[back].with_columns(
            pl.concat_str(pl.lit("r"), "order_id").alias("refund_id"),
            pl.Series("ts_us", at),
            pl.when(pl.Series(draw.random(len(back)) < 0.5)).then("amount_cents").alias("amount_cents"),
        )
        yield "refund", self._arrival(at, heard[back]), refund.select("refund_id", *order.columns)

    def _ranks(self, count: int, size: int) -> np.ndarray:
        return (count * self.draw.random(size) ** 2).astype(np.int64)

    def _ids(self, kind: str, size: int) -> pl.Series:
        numbers = pl.int_range(size, eager=True).cast(pl.String).str.zfill(6)
        return (f"{kind}{self.name}" + numbers).alias("id")

    def _arrival(self, at: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Days until instants are known: that of their own day or the next, never before what they follow."""
        own = np.searchsorted(self.ends, at, side="right")
        near = self.ends[np.minimum(own, REACH - 1)] - at <= 50 * MINUTE
        return np.maximum(own + (near & (self.draw.random(len(at)) < 0.5)), after)

    def _delivered(
        self, source: str, arrives: np.ndarray, rows: pl.DataFrame, time: str, later: int
    ) -> tuple[str, np.ndarray, pl.DataFrame]:
        """With the copies: as they were, or retried with a later time."""
        again = np.flatnonzero(self.draw.random(rows.height) < 0.01)
        moved = pl.Series(np.where(self.draw.random(len(again)) < 0.5, later, 0))
        copies = rows[again].with_columns(pl.col(time) + moved)
        return source, np.append(arrives, arrives[again]), pl.concat([rows, copies])


def _catalogue(shop: Shop, day: date) -> pl.DataFrame:
    numbers = np.arange(shop.items)
    return pl.DataFrame(
        {
            "sku": _skus(numbers),
            "category": pl.Series(numbers % CATEGORIES).cast(pl.String),
            "brand_id": numbers % BRANDS,
            "price_cents": 500 + 37 * (numbers % 1_000) + 10 * (day.toordinal() % 7),
        }
    )


def _prices(shop: Shop, day: date) -> pl.DataFrame:
    """A change of every third product's price, at an instant of the day."""
    numbers = np.arange(day.toordinal() % 3, shop.items, 3)
    draw = np.random.default_rng([shop.seed, day.toordinal()])
    begins, ends = (_micros(edge(day, SCENARIO.zone)) for edge in (day_start, day_end))
    return pl.DataFrame(
        {
            "change_id": f"p{day:%m%d}-" + pl.Series(numbers).cast(pl.String),
            "sku": _skus(numbers),
            "ts_ms": draw.integers(begins // 1_000, ends // 1_000, len(numbers)),
            "price_cents": 500 + 37 * (numbers % 1_000) + 10 * draw.integers(0, 50, len(numbers)),
        }
    )


def _skus(numbers: np.ndarray) -> pl.Series:
    return "sku-" + pl.Series(numbers).cast(pl.String).str.zfill(6)


def _write(root: Path, source: str, day: date, name: str, rows: pl.DataFrame) -> None:
    folder = root / source / f"dt={day}"
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_parquet(folder / f"{name}.parquet", compression_level=1)


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _sigmoid(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-logit)))
