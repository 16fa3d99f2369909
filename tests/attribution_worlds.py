"""Random logs for attribution: many small worlds in one, each with users and ids of its own.

The worlds are small on purpose (few users, items and seconds; instants a microsecond around the edges), so
that ties, edges, strangers, copies, late arrivals and reversals meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from attribution_by_hand import Back, Done, Row, Shown, heard
from attribution_frames import Answer, ask
from hypothesis import strategies as st

from features.funnel import Funnel, Objective

#: An hour before the clock changes in Berlin, which must not matter to anything here.
T0 = datetime(2026, 3, 29)
SECOND, MICRO = timedelta(seconds=1), timedelta(microseconds=1)
SKEW = 2 * SECOND
#: Impression -> view -> cart -> order, and like (with the row itself) and watch time beside them.
TREE = Funnel(
    (
        Objective(name="view", log="view", window=4 * SECOND),
        Objective(name="like", log="like", window=timedelta(0)),
        Objective(
            name="cart", log="cart", given="view", window=8 * SECOND,
            reversals="removal", reversible=5 * SECOND,
        ),
        Objective(name="watch", log="watch", given="view", window=3 * SECOND, value="amount"),
        Objective(
            name="order", log="order", given="cart", window=6 * SECOND, value="amount",
            reversals="refund", reversible=9 * SECOND,
        ),
    ),
    click="view",
    conversion="cart",
)  # fmt: skip
BACK = ("cart", "order")


@dataclass
class World:
    """Rows of one or many worlds."""

    impressions: list[Shown] = field(default_factory=list)
    logs: dict[str, list[Done]] = field(default_factory=lambda: {name: [] for name in TREE.names})
    reversals: dict[str, list[Back]] = field(default_factory=lambda: {name: [] for name in BACK})

    def ask(self, as_of: datetime | None = None, skew: timedelta = SKEW) -> Answer:
        return ask(self.impressions, self.logs, TREE, skew, self.reversals, as_of)

    def add(self, other: World) -> None:
        self.impressions += other.impressions
        for name in TREE.names:
            self.logs[name] += other.logs[name]
        for name in BACK:
            self.reversals[name] += other.reversals[name]

    def contradict(self, chance: Random) -> None:
        """Add copies that tell another user or item."""
        for rows in (self.impressions, *self.logs.values()):
            for row in list(rows):  # type: ignore[attr-defined]
                if chance.random() < 0.1:
                    user, item = chance.choice([1, 2, None]), chance.choice(["a", None])
                    rows.append(replace(row, user=user, item=item))  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Taste:
    """How worlds are drawn.

    Attributes:
        late: how many seconds after its instant a row may arrive.
        copies: share of rows that come twice.
        named: share of events that carry an impression id.
        back: share of events that are taken back.
    """

    late: int = 20
    copies: float = 0.15
    named: float = 0.3
    back: float = 0.3


USUAL = Taste()


@dataclass
class Draw:
    """One world in the making: two users, two products, up to eight impressions and events of each kind."""

    number: int
    chance: Random
    taste: Taste

    def world(self) -> World:
        world, chance = World(), self.chance
        for n in range(chance.randint(0, 8)):
            at = T0 + chance.randint(0, 24) * SECOND + chance.choice([-1, 0, 0, 0, 1]) * MICRO
            user = chance.choice([*[self.number] * 4, *[-self.number] * 2, None])
            item = chance.choice([*["a"] * 5, "b", None])
            world.impressions.append(Shown(f"{self.number}-{n}", user, item, at, self.arrives(at)))
        for o in TREE:
            before = world.impressions if o.given is None else world.logs[o.given]
            log = world.logs[o.name]
            log += [self.event(f"{self.number}-{o.name}-{n}", o, before) for n in range(chance.randint(0, 8))]
            if o.name in BACK:
                world.reversals[o.name] += self.backs(o, log)
                self.again(world.reversals[o.name])
            self.again(log)
        self.again(world.impressions)
        return world

    def event(self, key: str, o: Objective, before: Sequence[Shown] | Sequence[Done]) -> Done:
        """Most follow something, often at an edge of the window; some come out of nowhere."""
        chance = self.chance
        value = chance.choice([None, 0, 1, 5, 2**40])
        after = chance.choice(before) if before and chance.random() < 0.85 else None
        if after is None:
            at, named = T0 + chance.randint(0, 24) * SECOND, chance.choice([None, "nowhere"])
            return Done(key, named, self.number, "a", at, self.arrives(at), value)
        edges = [-SKEW - MICRO, -SKEW, o.window, o.window + MICRO]
        inside = chance.randint(0, o.window // SECOND) * SECOND
        at = after.at + chance.choice([*edges, *[inside] * 6])
        named = after.id if isinstance(after, Shown) else after.impression
        if chance.random() > self.taste.named:
            named = None
        elif named is None:
            named = f"{self.number}-{chance.randint(0, 8)}"
        user = after.user if chance.random() < 0.97 else chance.choice([self.number, None])
        return Done(key, named, user, after.item, at, self.arrives(at), value)

    def backs(self, o: Objective, log: Sequence[Done]) -> list[Back]:
        """Of the whole or of parts, several for one event, too late, and of nothing."""
        chance, name = self.chance, f"{self.number}-{o.name}"
        found = [Back(f"{name}-lost", f"{name}-none", T0), Back(f"{name}-no", None, T0)]
        for event in log:
            while chance.random() < self.taste.back:
                wait = chance.choice([-SECOND, SECOND, o.reversible, o.reversible + MICRO])
                at, amount = event.at + wait, chance.choice([None, 1, 4, 5])
                found.append(Back(f"{event.id}-r{len(found)}", event.id, at, self.arrives(at), amount))
        return found if self.taste.back else []

    def arrives(self, at: datetime) -> datetime:
        return at + self.chance.choice([0, 0, self.chance.randint(0, self.taste.late)]) * SECOND

    def again(self, rows: list[Row]) -> None:
        """Some rows come twice, as they are or as a retry: later, and known later."""
        for row in list(rows):
            if self.chance.random() < self.taste.copies:
                retry = replace(row, at=row.at + SECOND, arrived=heard(row) + 3 * SECOND)
                rows.append(self.chance.choice([row, retry]))


def many(seed: int, worlds: int, taste: Taste = USUAL) -> World:
    chance, together = Random(seed), World()
    for number in range(1, worlds + 1):
        together.add(Draw(number, chance, taste).world())
    return together


SEEDS = st.integers(0, 2**32)
MOMENTS = st.integers(-1, 50).map(lambda n: T0 + n * SECOND)
