"""Ground floor: what the logs say. One query a file, handed to DuckDB unchanged, values bound by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

import duckdb


@dataclass(frozen=True)
class Query:
    """A query file.

    Attributes:
        name: path below ``sql/`` without the suffix, such as ``logs/kuairand/exposure``.
        text: the file's content.
    """

    name: str
    text: str

    @property
    def header(self) -> dict[str, str]:
        """Fields of the leading comment, ``-- key: value``; an indented comment line continues a value."""
        fields: dict[str, str] = {}
        key = ""
        for line in self.text.splitlines():
            if not line.startswith("--"):
                break
            content = line.removeprefix("--")
            head, colon, tail = content.partition(":")
            if (
                colon
                and content.startswith(" ")
                and head.strip().isidentifier()
                and not content.startswith("   ")
            ):
                key = head.strip()
                fields[key] = tail.strip()
            elif key:
                fields[key] = f"{fields[key]} {content.strip()}"
        return fields

    @property
    def params(self) -> frozenset[str]:
        """Names of the bound parameters, as DuckDB parses them."""
        (statement,) = duckdb.extract_statements(self.text)
        return frozenset(statement.named_parameters)


def load(name: str) -> Query:
    """The query of that name.

    Raises:
        LookupError: there is no such file; the message lists those of the same folder.
    """
    try:
        text = files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    except FileNotFoundError:
        folder = name.rpartition("/")[0]
        known = ", ".join(n for n in names() if n.startswith(f"{folder}/")) or "none"
        raise LookupError(f"No query {name!r} under sql/. In that folder: {known}.") from None
    return Query(name, text)


@cache
def names() -> tuple[str, ...]:
    """All query names, sorted."""

    def walk(folder: Traversable, prefix: str) -> list[str]:
        found: list[str] = []
        for entry in folder.iterdir():
            if entry.is_dir():
                found += walk(entry, f"{prefix}{entry.name}/")
            elif entry.name.endswith(".sql"):
                found.append(prefix + entry.name.removesuffix(".sql"))
        return found

    return tuple(sorted(walk(files(__name__), "")))
