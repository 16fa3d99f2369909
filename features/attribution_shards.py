"""Attribution in shards: what is in memory at a time is a shard's events, not all of them.

An event goes where its impression is, and an impression where its user and item are:

* The distinct events come first, with what was taken back of them: copies share an id, reversals name one.
* An event that names its impression needs that impression's user and item, whatever its own: the two meet by
  the id. So do the copies of an impression, of which the one known first counts.
* Impressions, and events without an id, are then sharded by user and item. An event belongs to an impression
  of its shard or to none, and so does all that is given it, because a touch has the keys of its impression.

A shard has about ``EVENTS`` events. One is as large as its busiest pair of user and item at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from features.funnel import Funnel, Objective
from features.labels import Attribution, attribute, attributed, distinct, known, once, settled, shown
from features.owners import held
from features.sieve import BY_ID, BY_PAIR, KEYS, Sieve, in_question
from features.spread import Spread, scan

#: Events of a shard.
EVENTS = 524_288
_HOME = "__home"
_BY_EVENT, _BY_REVERSED = pl.col("event_id").hash(0), pl.col("reverses").hash(0)
_NAMED = pl.col("impression_id").is_not_null()
_PAIR = pl.col("user_id").is_not_null() & pl.col("item_id").is_not_null()
#: Where an impression lives. Without a user or an item, only its id leads to it.
_LIVES = pl.when(_PAIR).then(BY_PAIR).otherwise(BY_ID)


def attribute_in_shards(
    impressions: pl.LazyFrame,
    events: Mapping[str, pl.LazyFrame],
    funnel: Funnel,
    *,
    skew: timedelta,
    reversals: Mapping[str, pl.LazyFrame] | None = None,
    as_of: datetime | None = None,
    folder: Path,
    shards: int | None = None,
) -> Attribution:
    """The same as ``features.labels.attribute``, of any number of events.

    Args:
        impressions: as there, as are the others.
        events: per objective.
        funnel: the objectives.
        skew: how long before its touch an event may lie.
        reversals: per objective.
        as_of: only what arrived before this instant is known.
        folder: empty, of this call alone. What is returned is read from it, so it must outlive that.
        shards: how many; left out, one for every ``EVENTS`` events and reversals, which are counted as given.

    Returns:
        The same rows, in some order. Of one shard they are in memory, of more in ``folder``.
    """
    backs = (
        {} if reversals is None else {o.name: reversals[o.name] for o in funnel if o.reversals is not None}
    )
    if shards is None:
        logs = [*events.values(), *backs.values()]
        counts = pl.collect_all([log.select(pl.len()) for log in logs])
        shards = -(-sum(count.item() for count in counts) // EVENTS) or 1
    if shards == 1:
        told = attribute(impressions, events, funnel, skew=skew, reversals=reversals, as_of=as_of)
        return replace(told, labels=held(told.labels))
    work = _Work(funnel, folder, shards, as_of)
    for objective in funnel:
        name = objective.name
        work.settle(objective, events[name], backs.get(name))
    work.meet(impressions)
    return work.attributed(skew)


@dataclass
class _Result:
    """Files of one result, a file a shard."""

    folder: Path
    files: list[Path]
    schema: pl.Schema | None = None

    def add(self, rows: pl.LazyFrame) -> None:
        file = self.folder / f"{len(self.files):05}.parquet"
        self.folder.mkdir(parents=True, exist_ok=True)
        rows.collect(engine="streaming").write_parquet(file, compression="lz4")
        self.files.append(file)

    def rows(self) -> pl.LazyFrame:
        return scan(self.files, self.schema)


class _Work:
    """The tables on disk between the raw logs and the result."""

    def __init__(self, funnel: Funnel, folder: Path, shards: int, as_of: datetime | None) -> None:
        self._funnel, self._folder, self._shards, self._as_of = funnel, folder, shards, as_of
        self._asked = Sieve([EVENTS * shards])
        self._named = {o.name: self._spread(f"named-{o.name}") for o in funnel}
        self._home = {o.name: self._spread(f"home-{o.name}") for o in funnel}
        self._shown = self._spread("home")
        self._idle: dict[str, _Result] = {}

    def _spread(self, name: str) -> Spread:
        return Spread(self._folder / name, self._shards)

    def _result(self, name: str) -> _Result:
        return _Result(self._folder / name, [])

    def settle(self, objective: Objective, log: pl.LazyFrame, back: pl.LazyFrame | None) -> None:
        """Distinct events of one objective with what is left of them, by what they name."""
        name = objective.name
        copies = self._spread(f"log-{name}").stream(known(log, self._as_of), _BY_EVENT)
        reversed_ = None if back is None else self._reversals(name, back)
        for part in range(self._shards):
            told = None if reversed_ is None else reversed_.part(part)
            own, idle = settled(copies.part(part), told, objective)
            if idle is not None:
                self._idle.setdefault(name, self._result(f"idle-{name}")).add(idle)
            events = own.collect(engine="streaming")
            if objective.given is None:
                self._asked.ask(events.select(KEYS))
            self._named[name].add(events.filter(_NAMED), BY_ID)
            nameless = events.filter(~_NAMED)
            self._home[name].add(nameless, pl.when(_PAIR).then(BY_PAIR).otherwise(_BY_EVENT))
        for spread in filter(None, [copies, reversed_]):
            spread.remove()

    def _reversals(self, name: str, back: pl.LazyFrame) -> Spread:
        """Distinct reversals by the event that they name; copies need not name the same one."""
        copies = self._spread(f"copies-{name}").stream(known(back, self._as_of), _BY_EVENT)
        found = self._spread(f"back-{name}")
        for part in range(self._shards):
            found.add(distinct(copies.part(part)).collect(engine="streaming"), _BY_REVERSED)
        copies.remove()
        return found

    def meet(self, impressions: pl.LazyFrame) -> None:
        """Send impressions, and the events that name one, where the impression's user and item are."""
        met = self._spread("shown")
        for block in in_question(shown(known(impressions, self._as_of)), self._asked):
            met.add(block, BY_ID)
        for part in range(self._shards):
            own = once(met.part(part), "impression_id", "shown_known_at", "exposed_at")
            found = own.with_columns(_LIVES.alias(_HOME)).collect(engine="streaming")
            self._shown.add(found.drop(_HOME), found[_HOME])
            homes = found.lazy().select("impression_id", _HOME)
            for name, named in self._named.items():
                # A name that nobody bears leads nowhere: the event is an orphan wherever it is asked.
                rows = named.part(part).join(homes, on="impression_id", how="left")
                sent = rows.with_columns(pl.col(_HOME).fill_null(BY_ID)).collect(engine="streaming")
                self._home[name].add(sent.drop(_HOME), sent[_HOME])
        for spread in (met, *self._named.values()):
            spread.remove()

    def attributed(self, skew: timedelta) -> Attribution:
        """Shard by shard."""
        labels = self._result("labels")
        owners = {name: self._result(f"owners-{name}") for name in self._funnel.names}
        orphans = {name: self._result(f"orphans-{name}") for name in self._funnel.names}
        for shard in range(self._shards):
            logs = {name: spread.part(shard) for name, spread in self._home.items()}
            told = attributed(self._shown.part(shard), logs, self._funnel, skew)
            labels.add(told.labels)
            for name in self._funnel.names:
                owners[name].add(told.owners[name])
                orphans[name].add(told.orphans[name])
        for spread in (self._shown, *self._home.values()):
            spread.remove()
        return Attribution(
            labels.rows(),
            {name: result.rows() for name, result in owners.items()},
            {name: result.rows() for name, result in orphans.items()},
            {name: result.rows() for name, result in self._idle.items()},
        )
