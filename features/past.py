"""The versions of a table, read from its log: when each was made, and which data files it held."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from features.errors import BadWarehouse


@dataclass(frozen=True)
class Span:
    """Versions in which a data file was live.

    Attributes:
        first: the version that added it.
        end: the version that removed it, ``None`` if it is live.
        removed_at: when that was, naive UTC.
    """

    first: int
    end: int | None = None
    removed_at: datetime | None = None


@dataclass(frozen=True)
class Past:
    """All versions of a table.

    Attributes:
        made_at: instant of every version, by its number; naive UTC.
        spans: of every data file that ever was in the table, by its path below it; a file that was replaced
            and came back has several.
    """

    made_at: tuple[datetime, ...]
    spans: dict[str, tuple[Span, ...]]

    def kept(self, days: int, weeks: int) -> frozenset[int]:
        """The newest version; of each of the newest ``days`` days with a version the last one, and likewise
        of the newest ``weeks`` ISO weeks. Days and weeks are those of UTC.
        """  # noqa: D205 - one sentence
        by_day = {moment.date(): number for number, moment in enumerate(self.made_at)}
        by_week = {moment.isocalendar()[:2]: number for number, moment in enumerate(self.made_at)}
        newest_days = [by_day[day] for day in sorted(by_day)[-days:]] if days else []
        newest_weeks = [by_week[week] for week in sorted(by_week)[-weeks:]] if weeks else []
        return frozenset({len(self.made_at) - 1, *newest_days, *newest_weeks})

    def holds(self, path: str, versions: Iterable[int]) -> bool:
        """Whether the file is live in one of these versions."""
        spans = self.spans.get(path, ())
        return any(
            span.first <= version and (span.end is None or version < span.end)
            for version in versions
            for span in spans
        )


def past(folder: Path) -> Past:
    """Read every entry of a table's log; they are never cleaned away.

    Raises:
        BadWarehouse: an entry is missing or torn, so that nobody knows what earlier versions held.
    """
    made_at: list[datetime] = []
    spans: dict[str, list[Span]] = {}
    for number, entry in enumerate(sorted((folder / "_delta_log").glob("*.json"))):
        if entry.name != f"{number:020d}.json":
            raise BadWarehouse(str(entry.parent), f"entry {number} is missing", "funnelcast verify")
        try:
            actions = [json.loads(line) for line in entry.read_text("utf-8").splitlines()]
            told = [action["commitInfo"]["timestamp"] for action in actions if "commitInfo" in action]
            moment = datetime.fromtimestamp(told[0] / 1000, UTC).replace(tzinfo=None)
            added = [action["add"]["path"] for action in actions if "add" in action]
            removed = [action["remove"]["path"] for action in actions if "remove" in action]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise BadWarehouse(str(entry), f"cannot be read ({error})", "funnelcast verify") from error
        made_at.append(moment)
        for path in removed:
            if path in spans and spans[path][-1].end is None:
                spans[path][-1] = Span(spans[path][-1].first, number, moment)
        for path in added:
            spans.setdefault(path, []).append(Span(number))
    return Past(tuple(made_at), {path: tuple(found) for path, found in spans.items()})
