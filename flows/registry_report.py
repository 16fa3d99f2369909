"""What `funnelcast features` prints: views, the fields of one, and the feature sets of models."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from features.encodings import Binned, Category, Dense, Encoding
from features.errors import UsageError
from features.feature_set import FeatureSet
from flows import registry_json
from flows.feature_sets import Trained, of_line, of_version
from flows.harmless import harmless
from flows.house import House
from flows.registry import Entry, entries, stale_of
from flows.stale import rebuild_command

#: Headings of columns whose values one copies.
_NAMES = frozenset({"view", "field", "version", "newest", "age", "rows", "nulls"})
#: Columns of a terminal from which on the list of views has all that fits.
_WIDE = 120
#: Digits of a version that a table shows; JSON has all.
_SHORT = 8


def show(
    house: House,
    *,
    view: str | None,
    feature_set: str | None,
    line: str | None,
    day: dt.date | None,
    as_json: bool,
) -> None:
    """Answer the command: one view, one feature set, or all views.

    Args:
        house: where.
        view: name of a view.
        feature_set: hash of a feature set, or how it begins.
        line: name of a model line, whose feature set is shown.
        day: as rows of this day see it, or the line's version of this day.
        as_json: one JSON document instead of tables.

    Raises:
        UsageError: more than one of the three is asked for, or what is asked for is unknown.
    """
    if sum(asked is not None for asked in (view, feature_set, line)) > 1:
        raise UsageError("funnelcast features", "several of --view, --set and --line", "give one of them")
    if feature_set is not None or line is not None:
        trained = of_line(house, line, day) if line is not None else of_version(house, str(feature_set))
        if as_json:
            registry_json.trained(house, trained)
        else:
            _trained(house, trained)
        return
    found = entries(house, view, day)
    if as_json:
        registry_json.views(house, found)
    elif view is None:
        _views(house, found)
    else:
        _view(house, found[0])


def _views(house: House, found: Sequence[Entry]) -> None:
    """All views, one row each, and the stale days of each."""
    console = Console()
    more = ("fields", "keys", "from", "owner") if console.width >= _WIDE else ()
    title = f"Views of {house.scenario.name}, as feature set {FeatureSet.of(house.scenario).label}"
    table = _table(title, "view", "version", "newest", "age", "rows", "nulls", "stale", *more)
    for entry in found:
        shot = entry.snapshot
        nulls = sum(shot.nulls.values()) / len(shot.nulls) if shot and shot.nulls else 0.0
        wide = (f"{len(entry.features)}", ", ".join(entry.keys), entry.source, entry.owner)
        table.add_row(
            Text(entry.name),
            entry.version[:_SHORT],
            str(shot.day) if shot else "none",
            _age(entry),
            f"{shot.rows:,}" if shot else "",
            f"{nulls:.1%}" if shot else "",
            f"{len(entry.stale)} d" if entry.stale else "",
            *map(Text, wide if more else ()),
        )
    console.print(table)
    _stale(house, found)
    _say(f"Keys, lineage and fields of one: funnelcast features --view {found[-1].name}")


def _view(house: House, entry: Entry) -> None:
    """One view: what it says, where it comes from, how it stands, and its fields."""
    shot = entry.snapshot
    _say(f"{entry.name}: {entry.description}")
    _say(f"  version   {entry.version}, owner {entry.owner}")
    _say(f"  keys      {', '.join(entry.keys)}")
    for place, origin in enumerate(entry.lineage):
        raw = "" if origin.files is None else f", raw {origin.files}"
        by = "" if origin.query is None else f", by {origin.query}"
        _say(f"  {'reads' if place == 0 else '':<9} {origin.table}{by}{raw}")
    if entry.clocks is not None:
        _say(f"  clocks    {entry.clocks}")
    _say(f"  newest    {f'{shot.day}, {shot.rows:,} rows' if shot else 'none yet'}")
    if entry.max_age_days is not None:
        _say(f"  age       {_age(entry) or 'unknown, no run has finished'}")
    for name, columns in entry.reads.items():
        _say(f"  {name} from {', '.join(columns)}")
    table = _table(None, "field", "type", "nulls", "default", "read as", "description")
    for feature in entry.features:
        table.add_row(
            *map(Text, (feature.name, str(feature.dtype))),
            f"{shot.nulls[feature.name]:.1%}" if shot else "",
            "" if feature.default is None else str(feature.default),
            Text(_encoding(feature.encoding)),
            Text(feature.description),
        )
    Console().print(table)
    _stale(house, [entry])


def _trained(house: House, found: Trained) -> None:
    """A feature set, the models that were trained on it, and what is declared otherwise now."""
    declared = FeatureSet.of(house.scenario)
    since = declared.difference(found.features)
    label, members = found.features.label, found.features.members
    table = _table(
        f"Feature set {label}: {len(members)} features in order",
        "view",
        "version",
        "field",
        "type",
        "read as",
    )
    shown = ""
    for member in members:
        new = member.view != shown
        table.add_row(
            *map(Text, (member.view if new else "", member.view_version[:_SHORT] if new else "")),
            *map(Text, (member.name, member.dtype, member.encoding.partition("(")[0])),
        )
        shown = member.view
    Console().print(table)
    lines = sorted({line for _, line, _ in found.versions})
    for line in lines:
        days = [day for day, other, _ in found.versions if other == line]
        _say(f"Trained on it: {line}, {len(days)} versions, {days[0]} to {days[-1]}")
    if not lines:
        _say("No live model was trained on it.")
    if since:
        _say(f"Declared now: {declared.label}. Since then: {since}.")
    else:
        _say("It is the one that is declared now.")


def _stale(house: House, found: Sequence[Entry]) -> None:
    """Stale days by view, as ranges of equal reasons, and the command that rebuilds them."""
    for entry in found:
        for differs, days in groupby(entry.stale.items(), key=lambda item: item[1]):
            some = [day for day, _ in days]
            told = str(some[0]) if len(some) == 1 else f"{some[0]} to {some[-1]}, {len(some)} days"
            _say(f"Stale: {entry.name} of {told}, made from another {'; '.join(differs)}")
    if command := rebuild_command(house, *stale_of(found)):
        _say(f"Next: {command}")


def _age(entry: Entry) -> str:
    """Age of the newest snapshot against the greatest that counts."""
    if entry.max_age_days is None or entry.wanted is None:
        return ""
    if entry.age_days is None:
        return "missing"
    return f"{entry.age_days} of {entry.max_age_days} d{', too old' if entry.expired else ''}"


def _encoding(encoding: Encoding) -> str:
    """How a model reads a value, in a few words."""
    if isinstance(encoding, Dense):
        flag = ", flag if missing" if encoding.flag else ""
        return f"{encoding.scale}, centre {encoding.center:.3g}, spread {encoding.spread:.3g}{flag}"
    if isinstance(encoding, Category):
        told = f"id map {encoding.vocabulary}, {encoding.capacity:,} rows, from {encoding.admit} seen"
        told += "" if encoding.expire_days is None else f", kept {encoding.expire_days} d"
    elif isinstance(encoding, Binned):
        told = f"bins {encoding.vocabulary}, {encoding.bins or len(encoding.edges) + 1}"
    else:
        told = f"hash {' x '.join((encoding.vocabulary, *encoding.by))}, {encoding.buckets:,} buckets"
    return told + (f", first {encoding.length}" if encoding.length else "")


def _table(title: str | None, *headings: str) -> Table:
    """A table that cuts nothing off: names are whole, and all else is folded where the screen is narrow."""
    table = Table(
        title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title_justify="left"
    )
    for heading in headings:
        justify: JustifyMethod = "right" if heading in ("fields", "rows", "nulls") else "left"
        table.add_column(heading, justify=justify, no_wrap=heading in _NAMES, overflow="fold")
    return table


def _say(line: str) -> None:
    """A line that may hold commands and patterns to copy: never wrapped, coloured or read as markup."""
    Console().print(harmless(line, lines=True), soft_wrap=True, highlight=False, markup=False)
