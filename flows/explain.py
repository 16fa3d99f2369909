"""Command "explain": what a code means, what stays, what to do.

``python -m flows.explain > docs/errors.md`` makes the page.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from difflib import get_close_matches
from typing import Annotated

import typer

from features.error_guide import GUIDE, Entry, page, section
from features.errors import UsageError


def find(code: str) -> Entry:
    """The entry of a code, or of the name of an error, in any case.

    Raises:
        UsageError: there is no such code; the nearest is named.
    """
    known = {name.upper(): entry for entry in GUIDE for name in (entry.code, entry.name)}
    if (found := known.get(code.upper())) is not None:
        return found
    near = get_close_matches(code.upper(), known, n=1, cutoff=0.5)
    hint = f", did you mean {known[near[0]].code} {known[near[0]].name}?" if near else ""
    raise UsageError(f"code {code!r}", f"unknown{hint}", "funnelcast explain lists all codes")


def explain(
    code: Annotated[str | None, typer.Argument(help="Code or name, such as E404; without it, all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for machines.")] = False,
) -> None:
    """Say what a code means, what stays and what to do."""
    if as_json:
        told = [asdict(entry) for entry in GUIDE] if code is None else asdict(find(code))
        typer.echo(json.dumps(told, ensure_ascii=False))
    elif code is None:
        for entry in GUIDE:
            typer.echo(f"{entry.code}  {entry.name:<20} {entry.when}")
    else:
        typer.echo("\n".join(line.removeprefix("## ") for line in section(find(code))))


if __name__ == "__main__":
    typer.echo(page(), nl=False)
