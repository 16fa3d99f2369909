"""`funnelcast sweep`: which learning rate a line's chain wants, told by days that it had not learned."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import NotFinite, UsageError
from flows import logs
from flows.options import Config, Debug, Json, Scenario, day_of, text_of

if TYPE_CHECKING:
    import polars as pl

    from flows.recipes import Recipe

_RATES = (0.25, 0.5, 1.0, 2.0, 4.0)


class Part(StrEnum):
    """Whose learning rate is multiplied."""

    both = "both"
    network = "network"
    embedding = "embedding"


def sweep(
    line: Annotated[str, typer.Argument(help="Model line.")],
    rate: Annotated[
        list[float] | None,
        typer.Option(help="Multiple of the recipe's rates, may be repeated; else 0.25, 0.5, 1, 2 and 4."),
    ] = None,
    of: Annotated[Part, typer.Option(help="Whose rate.")] = Part.both,
    start: Annotated[
        str | None, typer.Option("--from", help="First day; else the first that is there.")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="Last day; else the last that is there.")] = None,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Walk a line's chain at several learning rates, and say which is best on the day after.

    The samples must be there. At each rate a fresh line learns every day once and is scored on it before.
    Nothing is written: what is best is for you to write into the recipe.
    """
    import polars as pl

    from flows import recipes
    from flows.request import Request
    from flows.walk import sampled_days, walked
    from models.machine import prepare

    rates = tuple(dict.fromkeys(rate or _RATES))
    if min(rates) <= 0:
        raise UsageError(f"--rate {min(rates):g}", "learns nothing", "give multiples above 0")
    logs.configure(as_json=as_json, debug=debug)
    request = Request.open(text_of(config), scenario, [line])
    prepare()
    house, recipe = request.house, recipes.get(request.house.scenario.name, line)
    first, last = (None if text is None else day_of(text, house.scenario.zone) for text in (start, end))
    days = sampled_days(house, first, last)
    found: list[dict[str, Any]] = []
    for one in rates:
        begun = time.monotonic()
        try:
            told = [{"rate": one, **asdict(s)} for s in walked(house, at_rate(recipe, one, of), days)]
        except NotFinite as error:  # an answer too: this rate is out of the question
            _say(f"{one:g} x: {error.found}", as_json)
            continue
        found += told
        _say(f"{one:g} x: {len(days)} days in {time.monotonic() - begun:.0f} s", as_json)
    if not found:
        raise UsageError(f"line {line}", "no rate led through the days", "try smaller ones")
    frame = pl.DataFrame(found)
    chosen = best(frame)
    tuned = at_rate(recipe, chosen, of)
    edge = len(rates) > 1 and chosen in (min(rates), max(rates))
    if as_json:
        rated = {"dense_rate": tuned.dense_rate, "embedding_rate": tuned.embedding_rate}
        head = {"line": line, "of": of.value, "best": chosen, "at_the_edge": edge, **rated}
        print(json.dumps(head | {"days": found}, default=str))
        return
    _show(frame, chosen)
    print(
        f"Best: {chosen:g} x, that is dense_rate={tuned.dense_rate:g}, "
        f"embedding_rate={tuned.embedding_rate:g}."
    )
    if edge:
        print("It is the last that was tried on its side: try further ones.")


def at_rate(recipe: Recipe, rate: float, of: Part) -> Recipe:
    """The recipe with its learning rates multiplied."""
    dense = recipe.dense_rate * (1 if of is Part.embedding else rate)
    return replace(
        recipe,
        dense_rate=dense,
        embedding_rate=recipe.embedding_rate * (1 if of is Part.network else rate),
    )


def best(found: pl.DataFrame) -> float:
    """The rate with the least log loss, in the mean of days and objectives; of equals, the smallest."""
    import polars as pl

    means = found.filter(metric="log_loss").group_by("rate").agg(pl.col("value").mean())
    return float(means.sort("value", "rate", nulls_last=True)["rate"][0])


def _show(found: pl.DataFrame, chosen: float) -> None:
    """Means over the days that were scored, a row per rate."""
    import polars as pl
    from rich import box
    from rich.console import Console
    from rich.table import Table

    objectives = found["objective"].unique(maintain_order=True).to_list()
    metrics = found["metric"].unique(maintain_order=True).to_list()
    means = found.group_by("rate", "objective", "metric").agg(pl.col("value").mean())
    value = {(r, o, m): v for r, o, m, v in means.select("rate", "objective", "metric", "value").rows()}
    columns = [f"{o} {m.replace('_', ' ')}" for o in objectives for m in metrics]
    table = Table("rate", *columns, box=box.SIMPLE, title=f"mean of {found['day'].n_unique()} days")
    for rate in found["rate"].unique(maintain_order=True):
        cells = [value.get((rate, o, m)) for o in objectives for m in metrics]
        shown = ["" if cell is None else f"{cell:.4f}" for cell in cells]
        table.add_row(f"{rate:g}{' *' if rate == chosen else ''}", *shown)
    Console().print(table)


def _say(text: str, as_json: bool) -> None:
    """Progress; with JSON, standard output holds the answer alone."""
    typer.echo(text, err=as_json)
