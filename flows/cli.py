"""The command line: `funnelcast --help`.

Thin: a command reads its options, asks what is still to do, runs a flow and prints a table. Torch and
Prefect are imported only where something is left to run, so that looking is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from features.errors import FunnelcastError, UsageError
from flows import logs
from flows.catch_up import backfill
from flows.compare import diff
from flows.exits import fail, heed_sigterm
from flows.explain import explain
from flows.options import Config, Debug, Json, Override, Reason, Recipe, Scenario, day_of, examples, text_of
from flows.oracle import oracle
from flows.settings import Settings
from flows.simulate import simulate
from flows.standings import promote, rollback
from flows.sweep import sweep
from flows.upkeep import check, maintain, verify

if TYPE_CHECKING:
    from flows.house import House
    from flows.request import Request

INTERRUPTED = 130


app = typer.Typer(
    name="funnelcast",
    help="Daily training and scoring of recommender funnels, from raw logs to published tables.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # examples keep their line breaks
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """How `sql` prints its answer."""

    table = "table"
    csv = "csv"
    json = "json"


@app.command(
    epilog=examples(
        "funnelcast demo",
        "funnelcast demo            # again: says what is there, in seconds",
    )
)
def demo(config: Config = None, debug: Debug = False, as_json: Json = False) -> None:
    """Run every shipped KuaiRand day and show what came out."""
    from flows import report
    from flows.day import available_days
    from flows.work import work

    request = _open(config, "kuairand", None, debug, as_json)
    days = available_days(request.house)
    if not days:
        step = "run it in the project's folder or set logs.kuairand in funnelcast.toml"
        raise UsageError(str(request.house.logs), "no day of raw logs", step)
    days = request.days(days[0], days[-1])
    work(request, days, text_of(config), debug)
    report.tour(request.house, days, as_json)


@app.command(
    epilog=examples(
        "funnelcast run --date 2022-04-25",
        "funnelcast run --date yesterday --recipe esmm --recipe ple",
        'funnelcast run --date 2022-04-25 --override volume.click --reason "half of the clients were down"',
        "15 6 * * *  funnelcast run --date yesterday --config /srv/funnelcast.toml     (crontab)",
    )
)
def run(
    date: Annotated[str, typer.Option(help="Logical date, such as 2022-04-25, or: yesterday.")],
    recipe: Recipe = None,
    override: Override = None,
    reason: Reason = None,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Run one day: read, view, sample, validate, train, gate, score, publish.

    A finished day is left alone; a killed run is resumed where it stopped.
    """
    from flows import overrides, report
    from flows.work import work

    request = _open(config, scenario, recipe, debug, as_json)
    day = day_of(date, request.house.scenario.zone)
    days = request.days(day, day)
    overrides.answer_for(request.house, day, override, reason)
    work(request, days, text_of(config), debug)
    report.outcome(request, days, as_json)


app.command(
    epilog=examples(
        "funnelcast backfill 2022-04-25 2022-05-03 --dry-run",
        "funnelcast backfill 2022-04-25 2022-05-03 --workers 2",
        "funnelcast backfill --stale",
    )
)(backfill)


@app.command(
    epilog=examples(
        "funnelcast status",
        "funnelcast status --json | jq '.days[] | select(.pending != [])'",
    )
)
def status(
    recipe: Recipe = None,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Show which days are done, and what was kept out."""
    from flows import report

    report.status(_open(config, scenario, recipe, debug, as_json), as_json)


@app.command(
    epilog=examples(
        'funnelcast sql "SHOW TABLES"',
        'funnelcast sql "FROM scores_latest ORDER BY pctcvr DESC LIMIT 5"',
        'funnelcast sql "SELECT * FROM metrics_daily" --format csv > metrics.csv',
    )
)
def sql(
    query: Annotated[str, typer.Argument(help="One query on the views of catalog.duckdb.")],
    output: Annotated[Format, typer.Option("--format", help="How to print the answer.")] = Format.table,
    limit: Annotated[int, typer.Option(min=1, help="Rows that a table shows.")] = 40,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Ask the published tables; read-only."""
    from flows import report
    from flows.query import ask
    from flows.room import BESIDE, bounded

    house = _house(config, scenario, debug, as_json)
    with bounded(house.settings.memory_bytes + BESIDE):
        found = ask(house, query)
    report.answer(found, Format.json if as_json else output, limit)


@app.command(
    epilog=examples(
        "funnelcast features",
        "funnelcast features --view item_profile",
        "funnelcast features --line esmm      # what its newest model was trained on",
        "funnelcast features --json | jq '.views[] | select(.stale != []) | .name'",
    )
)
def features(
    view: Annotated[str | None, typer.Option(help="Show the fields of this view, or of: request.")] = None,
    date: Annotated[str | None, typer.Option(help="As rows of this day see it; else the newest.")] = None,
    feature_set: Annotated[
        str | None, typer.Option("--set", help="Show this feature set; the first digits of its hash do.")
    ] = None,
    line: Annotated[str | None, typer.Option(help="Show the feature set of this model line.")] = None,
    scenario: Scenario = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """List the features: views, fields, versions, freshness, nulls, stale days."""
    from flows.registry_report import show

    house = _house(config, scenario, debug, as_json)
    day = None if date is None else day_of(date, house.scenario.zone)
    show(house, view=view, feature_set=feature_set, line=line, day=day, as_json=as_json)


app.command(epilog=examples('funnelcast promote esmm --day 2022-05-02 --reason "labels were late"'))(promote)
app.command(epilog=examples('funnelcast rollback esmm --reason "pcvr of new items doubled"'))(rollback)
app.command(
    epilog=examples("funnelcast diff 431415ee a0b1ef30", "funnelcast diff esmm@2022-05-02 esmm@2022-05-03")
)(diff)
app.command(epilog=examples("funnelcast check", "funnelcast check --json"))(check)
app.command(epilog=examples("funnelcast verify", "funnelcast verify --json | jq '.faults[].where'"))(verify)
app.command(epilog=examples("funnelcast maintain --dry-run", "funnelcast maintain"))(maintain)
app.command(
    epilog=examples("funnelcast simulate --days 30", "funnelcast simulate --drift fast --set selection=0.8")
)(simulate)
app.command(epilog=examples("funnelcast oracle", "funnelcast oracle --json > regret.json"))(oracle)
app.command(
    epilog=examples("funnelcast sweep esmm", "funnelcast sweep ple --rate 1 --rate 2 --of embedding --json")
)(sweep)
app.command(epilog=examples("funnelcast explain", "funnelcast explain E404"))(explain)


def _open(
    config: Path | None, scenario: str | None, recipe: list[str] | None, debug: bool, as_json: bool
) -> Request:
    from flows.request import Request

    logs.configure(as_json=as_json, debug=debug)
    return Request.open(text_of(config), scenario, recipe)


def _house(config: Path | None, scenario: str | None, debug: bool, as_json: bool) -> House:
    """For commands that name no model line: listing the recipes would import torch."""
    from flows.house import House

    logs.configure(as_json=as_json, debug=debug)
    return House.open(Settings.load(text_of(config)), scenario)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        Exit status: 0 ok, 2 usage, 3 gate, 4 data, 5 environment, 130 interrupted, 1 anything else.
    """
    given = list(sys.argv[1:] if args is None else args) or ["--help"]
    heed_sigterm()
    try:
        status = app(given, prog_name="funnelcast", standalone_mode=False) or 0
        if status == INTERRUPTED:
            return fail("Interrupted. The same command again continues where it stopped.", status, given)
        return int(status)
    except FunnelcastError as error:
        return fail(str(error), error.exit_code, given)
    except typer.TyperException as error:
        command = " ".join(["funnelcast", *(word for word in given[:1] if not word.startswith("-"))])
        said = error.format_message().rstrip(".")
        return fail(str(UsageError(command, said, "funnelcast --help")), error.exit_code, given)
    except Exception as error:  # the last place that can say it in one line
        said = f"E000 {type(error).__name__}: {' '.join(str(error).split())}. Next: the same with --debug."
        return fail(said, 1, given)


if __name__ == "__main__":
    sys.exit(main())
