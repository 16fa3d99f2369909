"""`funnelcast diff`: two model versions side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows import logs
from flows.options import Config, Debug, Json, Scenario
from flows.settings import Settings

if TYPE_CHECKING:
    from flows.diff import Difference

Version = Annotated[str, typer.Argument(help="First digits of its hash, or line@day.")]


def diff(
    a: Version,
    b: Version,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Compare two model versions: lineage, settings, inputs, metrics, and how far the weights moved.

    Where the gate judged one beside the other, the metrics are of the same rows: fresh ones, which the newer
    one had learned, and earlier ones. Next day: what each was worth on the first day that it had not seen.
    """
    from flows.diff import difference
    from flows.house import House

    logs.configure(as_json=as_json, debug=debug)
    house = House.open(Settings.load(None if config is None else str(config.absolute())), scenario)
    found = difference(house, a, b)
    if as_json:
        print(json.dumps(asdict(found), default=str, ensure_ascii=False))
    else:
        _show(found)


def _show(found: Difference) -> None:
    print(found.kinship + ".")
    _table("Lineage", ("", "A", "B"), ((name, found.a[name], found.b[name]) for name in found.a))
    for title, told in (("Settings that differ", found.recipe), ("Inputs that differ", found.inputs)):
        _table(title, ("", "A", "B"), ((name, *pair) for name, pair in told.items()))
    _table(
        "Metrics",
        ("rows", "objective", "space", "metric", "A", "B"),
        ((n.on, n.objective, n.space, n.metric, n.a, n.b) for n in found.numbers),
    )
    _table(
        "Weights, |B - A| / |A|",
        ("tensor", "shape", "distance", "|A|", "|B|"),
        ((w.name, "x".join(map(str, w.shape)), w.relative, w.norm_a, w.norm_b) for w in found.weights),
    )
    if not found.weights:
        print("The weights of one of them were removed by funnelcast maintain.")


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Nothing is printed where there is no row."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from flows.query import as_text

    told = list(rows)
    if not told:
        return
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    for heading in headings:
        table.add_column(Text(heading), overflow="fold")
    for row in told:
        table.add_row(*(Text(as_text(value)) for value in row))
    Console().print(table)
