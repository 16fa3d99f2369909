"""Logs of the scenario ``shop``, made up: known truth, known dirt, and something for a model to learn.

Users and products have a taste for clicking and a need for buying. On top of what truly happened lie, in
known numbers, copies, rows without a key, times in a wrong unit, rows of the wrong day, and events that
belong to nothing. Half of what happens in the last 50 minutes of a day arrives with the next delivery. Every
third purchase or so is refunded within two hours, half of these in part, and one refund a day comes too late.
Prices change all day long; one change a day comes late, and one is corrected by the next delivery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from features.calendar import day_end, day_of, day_start

ZONE = "Europe/Berlin"
EXPOSURES, USERS, ITEMS = 1_500, 250, 120
#: Neighbouring ids here differ, but not as doubles.
FIRST_USER = 2**53
SURFACES = ("home", "search", "basket")
SCHEMAS: dict[str, dict[str, pl.DataType]] = {
    "exposure": {
        "exposure_id": pl.String(),
        "user_id": pl.Int64(),
        "sku": pl.String(),
        "ts_us": pl.Int64(),
        "surface": pl.String(),
        "position": pl.Int64(),
    },
    "click": {
        "click_id": pl.String(),
        "exposure_id": pl.String(),
        "user_id": pl.Int64(),
        "sku": pl.String(),
        "ts_s": pl.Int64(),
    },
    "conversion": {
        "order_id": pl.String(),
        "user_id": pl.Int64(),
        "sku": pl.String(),
        "ts_us": pl.Int64(),
        "amount_cents": pl.Int64(),
    },
    "refund": {
        "refund_id": pl.String(),
        "order_id": pl.String(),
        "user_id": pl.Int64(),
        "sku": pl.String(),
        "ts_us": pl.Int64(),
        "amount_cents": pl.Int64(),
    },
    "item": {
        "sku": pl.String(),
        "category": pl.String(),
        "brand_id": pl.Int64(),
        "price_cents": pl.Int64(),
    },
    "candidate": {
        "request_id": pl.String(),
        "user_id": pl.Int64(),
        "sku": pl.String(),
        "surface": pl.String(),
        "position": pl.Int64(),
    },
    "price": {
        "change_id": pl.String(),
        "sku": pl.String(),
        "ts_ms": pl.Int64(),
        "price_cents": pl.Int64(),
    },
}
_SECOND = 1_000_000
_MINUTE, _HOUR = 60 * _SECOND, 3_600 * _SECOND
Raw = dict[str, object]


@dataclass(frozen=True)
class Event:
    """Something that truly happened.

    Attributes:
        id: key that the read rows have.
        impression: exposure that the log names, if it names one.
        user: the user.
        item: the product.
        at: instant, naive UTC, as exact as the log keeps it.
        arrives: day of the delivery that brings it.
        cents: what was paid, or paid back; ``None`` for all of it, and for what has no price.
        reverses: the purchase that it takes back.
    """

    id: str
    impression: str | None
    user: int
    item: str
    at: datetime
    arrives: date
    cents: int | None = None
    reverses: str | None = None


@dataclass(frozen=True)
class Price:
    """A product's price from an instant on.

    Attributes:
        id: key that the read rows have.
        item: the product.
        at: instant, naive UTC.
        arrives: day of the delivery that brings it.
        cents: the price; ``None`` while the product is not for sale.
    """

    id: str
    item: str
    at: datetime
    arrives: date
    cents: int | None


@dataclass
class Logs:
    """What happened, what is delivered, and what was planted.

    Attributes:
        events: by source, everything true that is delivered, orphans included.
        prices: every true change of a price that is delivered.
        raw: by source and day, the delivered rows.
        verdicts: by source and day, how many rows of each verdict were planted.
        orphans: by source and day, how many delivered events belong to no impression, or refunds to nothing.
        beyond: by source and day, how many delivered events came after the window of their impression.
    """

    events: dict[str, list[Event]] = field(
        default_factory=lambda: {"exposure": [], "click": [], "conversion": [], "refund": []}
    )
    prices: list[Price] = field(default_factory=list)
    raw: dict[tuple[str, date], list[Raw]] = field(default_factory=dict)
    verdicts: dict[tuple[str, date], Counter[str]] = field(default_factory=dict)
    orphans: dict[tuple[str, date], int] = field(default_factory=dict)
    beyond: dict[tuple[str, date], int] = field(default_factory=dict)


def write_logs(root: Path, days: Sequence[date], seed: int = 0) -> None:
    """Write ``<root>/<source>/dt=<day>/part-0.parquet`` for these days; equal arguments give equal bytes.

    Days follow each other; nothing is known of what happened before the first. There is no list of
    candidates for the day after the last.
    """
    for (source, day), rows in make_logs(days, seed).raw.items():
        folder = root / source / f"dt={day.isoformat()}"
        folder.mkdir(parents=True, exist_ok=True)
        # The largest log comes in two files, as large logs do.
        parts = [rows[0::2], rows[1::2]] if source == "exposure" else [rows]
        for number, part in enumerate(parts):
            pl.DataFrame(part, schema=SCHEMAS[source]).write_parquet(folder / f"part-{number}.parquet")


def make_logs(days: Sequence[date], seed: int = 0) -> Logs:
    """The logs of these days, in memory."""
    logs = Logs()
    taste = np.random.default_rng(seed)
    world = _World(
        user_click=taste.normal(0, 0.9, USERS),
        item_click=taste.normal(0, 0.9, ITEMS),
        user_buy=taste.normal(0, 0.7, USERS),
        item_buy=taste.normal(0, 0.9, ITEMS),
    )
    for day in days:
        for source in SCHEMAS:
            logs.raw[source, day] = []
            logs.verdicts[source, day] = Counter()
            logs.orphans[source, day] = logs.beyond[source, day] = 0
    clean: dict[tuple[str, date], list[Raw]] = {key: [] for key in logs.raw}
    for day in days:
        chance, regret = (np.random.default_rng([seed, day.toordinal(), *more]) for more in ((), (2,)))
        _Day(logs, clean, world, day, chance, regret).live()
        _change_prices(logs, clean, day, np.random.default_rng([seed, day.toordinal(), 3]))
    for day in days:
        order = np.random.default_rng([seed, day.toordinal(), 1])
        for source in ("exposure", "click", "conversion"):
            before = clean.get((source, day - timedelta(days=1)), [])
            logs.raw[source, day] += clean[source, day]
            _dirt(logs, source, day, clean[source, day], before, order)
        _refunds(logs, day, clean["refund", day])
        _catalogue(logs, day)
        _price_log(logs, day, clean["price", day])
        _requests(logs, day, order)
        for source in SCHEMAS:
            rows = logs.raw[source, day]
            logs.raw[source, day] = [rows[place] for place in order.permutation(len(rows))]
    return logs


def user_id(number: int) -> int:
    """The id of a user."""
    return FIRST_USER + number


def sku(number: int) -> str:
    """The id of a product."""
    return f"sku-{number:03d}"


@dataclass(frozen=True)
class _World:
    user_click: np.ndarray
    item_click: np.ndarray
    user_buy: np.ndarray
    item_buy: np.ndarray


@dataclass
class _Day:
    """One day of the shop; what it brings forth is delivered on this day or on later ones."""

    logs: Logs
    clean: dict[tuple[str, date], list[Raw]]
    world: _World
    day: date
    chance: np.random.Generator
    regret: np.random.Generator
    made: int = 0

    def live(self) -> None:
        begins, ends = (_micros(edge(self.day, ZONE)) for edge in (day_start, day_end))
        users = self.chance.integers(0, USERS, EXPOSURES)
        items = self.chance.integers(0, ITEMS, EXPOSURES)
        instants = np.sort(self.chance.integers(begins, ends, EXPOSURES))
        for user, item, at in zip(users.tolist(), items.tolist(), instants.tolist(), strict=True):
            shown = self.expose(user_id(user), sku(item), at)
            if self.chance.random() < _sigmoid(
                -1.2 + self.world.user_click[user] + self.world.item_click[item]
            ):
                self.respond(shown, user, item, at)
        self.orphans(begins)

    def respond(self, shown: Event, user: int, item: int, at: int) -> None:
        """A click soon after the exposure, sometimes a second one, and perhaps a purchase."""
        delay = min(2 * _SECOND + int(self.chance.exponential(3 * _MINUTE)), 55 * _MINUTE)
        named = shown.id if self.chance.random() < 0.7 else None
        clicked = self.click(named, shown.user, shown.item, at + delay, shown.arrives)
        if self.chance.random() < 0.05:
            self.click(named, shown.user, shown.item, at + delay + 2 * _MINUTE, shown.arrives)
        if self.chance.random() < _sigmoid(-0.9 + self.world.user_buy[user] + self.world.item_buy[item]):
            wait = min(_SECOND + int(self.chance.exponential(9 * _HOUR)), 47 * _HOUR)
            self.buy(shown.user, shown.item, at + delay + wait, clicked.arrives)

    def orphans(self, begins: int) -> None:
        """Events that belong to no impression, by people whom nothing else is known of."""
        ten = begins + 10 * _HOUR
        for n in range(3):  # the exposure that the click names was never delivered
            self.click(f"lost-{self.day}-{n}", user_id(n), sku(n), ten, None, orphan=True)
        for n in range(2):  # never exposed at all
            self.click(None, self.stranger(n), sku(n), ten, None, orphan=True)
            self.buy(self.stranger(n), sku(n), ten, None, orphan=True)
        for n in range(2, 4):  # too late: the exposure it names does not own it, and no other takes it
            shown = self.expose(self.stranger(n), sku(n), ten)
            self.click(shown.id, shown.user, shown.item, ten + 3 * _HOUR, None, beyond=True)
        bystander = self.expose(self.stranger(4), sku(4), ten)  # buys without a click
        bought = self.buy(bystander.user, bystander.item, ten + _MINUTE, None, orphan=True)
        self.refund(bought, ten + 3 * _HOUR, None, orphan=True)  # too late
        unknown = Event(f"lost-{self.day}/{sku(7)}", None, self.stranger(7), sku(7), _instant(ten), self.day)
        self.refund(unknown, ten, None, orphan=True)  # of a purchase that nobody knows of
        for n, wait in ((5, -40 * _SECOND), (6, 50 * _HOUR)):  # buys before the click; buys too long after it
            shown = self.expose(self.stranger(n), sku(n), ten)
            self.click(shown.id, shown.user, shown.item, ten + 10 * _MINUTE, None)
            after = wait > 0
            bought_at = ten + 10 * _MINUTE + wait
            self.buy(shown.user, shown.item, bought_at, None, orphan=not after, beyond=after)

    def stranger(self, number: int) -> int:
        return user_id(1_000_000 + 100 * (self.day.toordinal() % 1_000) + number)

    def expose(self, user: int, item: str, at: int) -> Event:
        event = Event(self.name("e"), None, user, item, _instant(at), self.arrival(at, None))
        where = self.made % len(SURFACES)
        raw: Raw = {"exposure_id": event.id, "user_id": user, "sku": item, "ts_us": at}
        self.deliver("exposure", event, {**raw, "surface": SURFACES[where], "position": 1 + self.made % 10})
        return event

    def click(
        self,
        shown: str | None,
        user: int,
        item: str,
        at: int,
        after: date | None,
        *,
        orphan: bool = False,
        beyond: bool = False,
    ) -> Event:
        at -= at % _SECOND
        event = Event(self.name("c"), shown, user, item, _instant(at), self.arrival(at, after))
        raw: Raw = {"click_id": event.id, "exposure_id": shown, "user_id": user, "sku": item}
        self.deliver("click", event, {**raw, "ts_s": at // _SECOND}, orphan=orphan, beyond=beyond)
        return event

    def buy(
        self,
        user: int,
        item: str,
        at: int,
        after: date | None,
        *,
        orphan: bool = False,
        beyond: bool = False,
    ) -> Event:
        order, cents = self.name("o"), 100 + self.made % 50
        event = Event(f"{order}/{item}", None, user, item, _instant(at), self.arrival(at, after), cents)
        raw: Raw = {"order_id": order, "user_id": user, "sku": item, "ts_us": at, "amount_cents": cents}
        self.deliver("conversion", event, raw, orphan=orphan, beyond=beyond)
        if not orphan and not beyond and self.regret.random() < 0.3:
            wait = int(self.regret.integers(_MINUTE, 2 * _HOUR))
            self.refund(event, at + wait, int(self.regret.choice([0, 0, 1, 99])) or None)
        return event

    def refund(self, bought: Event, at: int, cents: int | None, *, orphan: bool = False) -> None:
        """All of a purchase is paid back, or ``cents`` of it."""
        day = day_of(_instant(at), ZONE)
        late = _micros(day_end(day, ZONE)) - at <= 50 * _MINUTE and self.regret.random() < 0.5
        arrives = max(bought.arrives, day + timedelta(days=1) if late else day)
        order, _, _ = bought.id.partition("/")
        event = Event(
            f"refund-{order}", None, bought.user, bought.item, _instant(at), arrives, cents, bought.id
        )
        raw: Raw = {"refund_id": event.id, "order_id": order, "user_id": event.user, "sku": event.item}
        self.deliver("refund", event, {**raw, "ts_us": at, "amount_cents": cents}, orphan=orphan)

    def name(self, kind: str) -> str:
        self.made += 1
        return f"{kind}-{self.day:%m%d}-{self.made:05d}"

    def arrival(self, at: int, after: date | None) -> date:
        """The day itself; for its last 50 minutes sometimes the next; never before what it follows."""
        day = day_of(_instant(at), ZONE)
        late = _micros(day_end(day, ZONE)) - at <= 50 * _MINUTE and self.chance.random() < 0.5
        own = day + timedelta(days=1) if late else day
        return own if after is None else max(own, after)

    def deliver(
        self, source: str, event: Event, raw: Raw, *, orphan: bool = False, beyond: bool = False
    ) -> None:
        if (source, event.arrives) in self.clean:  # what happens after the last day is never seen
            self.clean[source, event.arrives].append(raw)
            self.logs.events[source].append(event)
            self.logs.orphans[source, event.arrives] += orphan
            self.logs.beyond[source, event.arrives] += beyond


def _refunds(logs: Logs, day: date, own: list[Raw]) -> None:
    """Every refund of the day, the first of them twice, and one that names no order."""
    logs.raw["refund", day] = [*own, own[0], {**own[0], "refund_id": f"null-{day}", "order_id": None}]
    logs.verdicts["refund", day].update({"DUPLICATE": 1, "NULL_KEY": 1})


_KEY = {"exposure": "exposure_id", "click": "click_id", "conversion": "order_id"}
_TIME = {"exposure": ("ts_us", 1), "click": ("ts_s", _SECOND), "conversion": ("ts_us", 1)}
#: Rows planted a day: exact copies, retries, copies of the delivery before, times out of range, wrong days.
_PLANTED = {"exposure": (6, 4, 5, 3, 3), "click": (4, 3, 3, 2, 2), "conversion": (2, 1, 1, 1, 1)}
_NULLS = {
    "exposure": ("exposure_id", "user_id", "sku"),
    "click": ("click_id", "user_id", "sku"),
    "conversion": ("sku",),
}


def _dirt(
    logs: Logs, source: str, day: date, own: list[Raw], before: list[Raw], chance: np.random.Generator
) -> None:
    """Plant rows that must not become events."""
    key, (time, unit) = _KEY[source], _TIME[source]
    copies, retries, again, broken, displaced = _PLANTED[source]

    def some(rows: list[Raw], count: int) -> list[Raw]:
        return [dict(rows[place]) for place in chance.choice(len(rows), count, replace=False)]

    def plant(verdict: str, rows: list[Raw], change: Callable[[int, Raw], Raw]) -> None:
        logs.raw[source, day] += [row | change(n, row) for n, row in enumerate(rows)]
        logs.verdicts[source, day][verdict] += len(rows)

    def noon(offset: int) -> int:
        return (_micros(day_start(day, ZONE)) + (offset * 24 + 12) * _HOUR) // unit

    plant("DUPLICATE", some(own, copies), lambda n, row: {})
    plant("DUPLICATE", some(own, retries), lambda n, row: {time: int(str(row[time])) + 30 * _SECOND // unit})
    yesterday = [row for row in before if day_of(_of(row, source), ZONE) == day - timedelta(days=1)]
    if yesterday:
        plant("DUPLICATE", some(yesterday, again), lambda n, row: {})
    nulls = _NULLS[source]
    plant("NULL_KEY", some(own, len(nulls)), lambda n, row: {key: f"null-{day}-{n}", nulls[n]: None})
    wrong = (
        (lambda row: int(str(row[time])) // 1000) if unit == 1 else (lambda row: int(str(row[time])) * 1000)
    )
    plant(
        "TIME_OUT_OF_RANGE",
        some(own, broken),
        lambda n, row: {key: f"unit-{day}-{n}", time: wrong(row) if n < 2 else 2**62},
    )
    offsets = (-2, 1, -3)
    plant(
        "OUTSIDE_DELIVERY",
        some(own, displaced),
        lambda n, row: {key: f"displaced-{day}-{n}", time: noon(offsets[n])},
    )


def _catalogue(logs: Logs, day: date) -> None:
    """Every product at the price of the day, two of them twice, and one line without a product."""
    rows: list[Raw] = [
        {
            "sku": sku(n),
            "category": ("tea", "cups", "books")[n % 3],
            "brand_id": n % 17,
            "price_cents": price_cents(n, day),
        }
        for n in range(ITEMS)
    ]
    logs.raw["item", day] = [*rows, rows[0], rows[1], {**rows[2], "sku": None}]
    logs.verdicts["item", day].update({"DUPLICATE": 2, "NULL_KEY": 1})


def price_cents(number: int, day: date) -> int:
    """The price of a product on a day; it changes from day to day."""
    return 500 + 37 * number + 10 * (day.toordinal() % 7)


#: So many products change their price at random instants; the four after them by plan, the others never.
PRICED, CHANGES = 110, 150


def _change_prices(
    logs: Logs, clean: dict[tuple[str, date], list[Raw]], day: date, chance: np.random.Generator
) -> None:
    """What products cost from which instant on, in whole milliseconds."""
    begins, ends = (_micros(edge(day, ZONE)) for edge in (day_start, day_end))
    after, name = day + timedelta(days=1), f"p-{day:%m%d}"

    def change(number: str, item: int, at: int, arrives: date, cents: int | None) -> None:
        if ("price", arrives) in clean:
            at -= at % 1_000
            told = Price(f"{name}-{number}", sku(item), _instant(at), arrives, cents)
            logs.prices.append(told)
            clean["price", arrives].append(
                {"change_id": told.id, "sku": told.item, "ts_ms": at // 1_000, "price_cents": cents}
            )

    items = chance.integers(0, PRICED, CHANGES).tolist()
    instants = chance.integers(begins, ends, CHANGES).tolist()
    prices = chance.integers(100, 9_900, CHANGES).tolist()
    for n, (item, at, cents) in enumerate(zip(items, instants, prices, strict=True)):
        change(f"{n:03d}", item, at, day, cents)
    late, corrected, withdrawn, at_midnight = range(PRICED, PRICED + 4)
    # Told the day after, when a newer price is known already on every second day.
    change("late", late, ends - 10 * _MINUTE, after, 700)
    if day.toordinal() % 2:
        change("soon", late, ends - 5 * _MINUTE, day, 800)
    change("wrong", corrected, ends - 4 * _HOUR, day, 9_999)
    change("right", corrected, ends - 4 * _HOUR, after, 999)
    change("withdrawn", withdrawn, begins + 12 * _HOUR, day, None if day.toordinal() % 2 else 450)
    change("midnight", at_midnight, begins, day, 100 + day.toordinal() % 7)


def _price_log(logs: Logs, day: date, own: list[Raw]) -> None:
    """Every change, two of them twice, and one row for each reason to refuse it."""
    at = int(str(own[0]["ts_ms"]))
    refused: dict[str, Raw] = {
        "NULL_KEY": {"sku": None},
        "TIME_OUT_OF_RANGE": {"ts_ms": at * 1_000},
        "OUTSIDE_DELIVERY": {"ts_ms": at - 48 * _HOUR // 1_000},
        "AMBIGUOUS": {"price_cents": 1},
    }
    planted = [{**own[0], "change_id": f"{why}-{day}", **change} for why, change in refused.items()]
    logs.raw["price", day] = [*own, *own[:2], *planted]
    logs.verdicts["price", day].update({"DUPLICATE": 2, **dict.fromkeys(refused, 1)})


def _requests(logs: Logs, day: date, chance: np.random.Generator) -> None:
    """What may be shown: 30 requests for 15 products each; some rows twice, one without a user."""
    rows: list[Raw] = [
        {
            "request_id": f"r-{day:%m%d}-{n:03d}",
            "user_id": user_id(n),
            "sku": sku(int(item)),
            "surface": SURFACES[n % len(SURFACES)],
            "position": 1,
        }
        for n in range(30)
        for item in chance.choice(ITEMS, 15, replace=False)
    ]
    logs.raw["candidate", day] = [*rows, *rows[:3], {**rows[4], "user_id": None}]
    logs.verdicts["candidate", day].update({"DUPLICATE": 3, "NULL_KEY": 1})


def _of(row: Raw, source: str) -> datetime:
    time, unit = _TIME[source]
    return _instant(int(str(row[time])) * unit)


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1)) // timedelta(microseconds=1)


def _instant(micros: int) -> datetime:
    return datetime(1970, 1, 1) + timedelta(microseconds=micros)


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))
