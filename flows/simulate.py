"""`funnelcast simulate`: logs of a funnel whose truth is known, for the scenario ``simulated``."""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from dataclasses import fields, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from features.errors import UsageError
from flows import logs
from flows.options import Config, Debug, Json
from flows.query import relative
from flows.settings import Settings

if TYPE_CHECKING:
    from features.simulation import SimulationSettings

log = logging.getLogger("funnelcast.simulate")
SCENARIO = "simulated"
_EVERY_SECONDS = 10.0


class Drift(StrEnum):
    """How fast tastes move."""

    none = "none"
    slow = "slow"
    fast = "fast"


def simulate(
    days: Annotated[int, typer.Option(min=1, help="How many days.")] = 30,
    start: Annotated[str, typer.Option(help="First day.")] = "2026-01-05",
    impressions: Annotated[int, typer.Option(min=1, help="Impressions a day.")] = 5_000,
    drift: Annotated[Drift, typer.Option(help="How fast tastes move.")] = Drift.slow,
    noise: Annotated[
        float, typer.Option(min=0, help="Dirt in the logs; 1 is usual, 0 is clean, 2 is twice as much.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    dial: Annotated[
        list[str] | None,
        typer.Option("--set", help="A further dial, such as selection=0.8; docs/simulator.md lists them."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; else the logs of the scenario in the settings, ./simulated.")
    ] = None,
    config: Config = None,
    debug: Debug = False,
    as_json: Json = False,
) -> None:
    """Make up the logs of a funnel whose pCTR and pCVR are known, and write the truth beside them.

    Days that are there already are left alone: ask for more days with the same dials to go on.
    """
    from features.simulation import Simulation

    logs.configure(as_json=as_json, debug=debug)
    settings = _settings(impressions, start, drift, noise, seed, dial or [])
    folder = out or Settings.load(None if config is None else str(config.absolute())).logs[SCENARIO]
    asked = [settings.start + dt.timedelta(days=n) for n in range(days)]
    said = time.monotonic()

    def progress(day: dt.date, rows: int) -> None:
        nonlocal said
        if time.monotonic() - said > _EVERY_SECONDS:
            said = time.monotonic()
            log.info("%s: %s of %s impressions", day, f"{rows:,}", f"{settings.impressions:,}")

    written = Simulation(settings).write(folder, asked, progress)
    if as_json:
        told = {"folder": str(folder), "truth": str(folder / "truth"), "days": [str(day) for day in asked]}
        print(json.dumps({**told, "written": [str(day) for day in written]}))
        return
    print(
        f"{relative(folder.absolute())}: {len(asked)} days from {asked[0]} to {asked[-1]}, {len(written)} of "
        f"them written now, {settings.impressions:,} impressions each; the truth is in truth/"
    )
    if out is None:
        print(f"Next: funnelcast backfill {asked[0]} {asked[-1]} --scenario {SCENARIO}")


def _settings(
    impressions: int, start: str, drift: Drift, noise: float, seed: int, dials: list[str]
) -> SimulationSettings:
    from features.simulation import SimulationSettings

    try:
        first = dt.date.fromisoformat(start)
    except ValueError:
        raise UsageError("start", f"{start!r} is no date", "write it as 2026-01-05") from None
    usual = SimulationSettings.of_size(impressions, start=first, seed=seed).drifting(drift.value)
    values: dict[str, Any] = {}
    kinds = {one.name: type(getattr(usual, one.name)) for one in fields(usual)}
    for text in dials:
        name, _, value = text.partition("=")
        kind = kinds.get(name)
        if kind not in (int, float, tuple):
            known = ", ".join(name for name, kind in kinds.items() if kind in (int, float, tuple))
            raise UsageError(f"--set {text}", f"there is no dial {name!r}", f"use one of {known}")
        try:
            values[name] = tuple(map(float, value.split(","))) if kind is tuple else kind(value)
        except ValueError:
            raise UsageError(f"--set {text}", f"{value!r} is no number", f"write {name}=<number>") from None
    return replace(usual, **values, noise=usual.noise.times(noise))
