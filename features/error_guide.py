"""Every code that a run may end in or warn with, told in full: what the command line and the docs say of it.

One table. ``funnelcast explain`` prints it, ``docs/errors.md`` and the table of the README are made from it
(``python -m flows.explain > docs/errors.md``), and a test holds it to the classes of the errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What there is to say of one code.

    Attributes:
        code: stable, printed first.
        name: class of the error, or short name of the warning.
        exit: exit status of the command line; 0 for a warning, which ends nothing.
        when: what happened, in one clause; the row of the README.
        stays: what is on disk afterwards.
        do: the next step.
        example: a line as it is printed.
    """

    code: str
    name: str
    exit: int
    when: str
    stays: str
    do: str
    example: str


_UNTOUCHED = "Everything. Nothing was written."
_BEFORE = "What earlier stages had committed, and all earlier days. Nothing of the failed stage is live."
_ALL = "Everything; the run goes on."

ERRORS = (
    Entry(
        code="E201",
        name="UsageError",
        exit=2,
        when="unknown recipe, scenario, setting or option; a date that is not over; a query that DuckDB "
        "refuses",
        stays=_UNTOUCHED,
        do="Write the command or the setting as the line says; `funnelcast --help` has examples.",
        example="E201 UsageError: recipe 'esm': unknown, did you mean 'esmm'?. Next: ...",
    ),
    Entry(
        code="E301",
        name="GateBlocked",
        exit=3,
        when="the gate kept a version out, and the recipe says `refuse` or no version stood before it",
        stays="Everything, the version and its judgement too. Nothing is published for the next day; what "
        "was published before stays in place.",
        do="Ask the table `gate` which check failed; correct the cause and run the day again, or let the "
        "version pass with `funnelcast promote`.",
        example="E301 GateBlocked: gate of 2026-03-28: esmm rejected (auc_drop of click ...), ... Next: ...",
    ),
    Entry(
        code="E401",
        name="MissingLog",
        exit=4,
        when="no raw file for a source and day",
        stays=_BEFORE,
        do="Deliver the log of that day, or correct the log root in the settings.",
        example="E401 MissingLog: click of 2026-03-28: no file matches click/dt=*/*.parquet. Next: ...",
    ),
    Entry(
        code="E403",
        name="CorruptInput",
        exit=4,
        when="a raw file is no readable Parquet, a link out of the log root, or named with one of `* ? [`",
        stays="Everything; of the day nothing was read. Other days are unaffected.",
        do="Deliver the file again: it is cut off, empty or something else. A link out of the log root: "
        "put the file itself there, or set the log root to the folder that holds all of them.",
        example="E403 CorruptInput: click/dt=2026-03-28/part-0.parquet: No magic bytes found. Next: ...",
    ),
    Entry(
        code="E404",
        name="SchemaDrift",
        exit=4,
        when="a raw file lacks a column or has it with another type",
        stays="Everything; of the day nothing was read.",
        do="Deliver the column as its source declares it, or change the declaration. Values are never "
        "cast silently.",
        example="E404 SchemaDrift: part-0.parquet, column 'uid': type VARCHAR, expected BIGINT. Next: ...",
    ),
    Entry(
        code="E405",
        name="BrokenPromise",
        exit=4,
        when="rows break a table's contract or a check; nothing was committed (or, in `funnelcast check`, "
        "what is published breaks it)",
        stays=_BEFORE,
        do="Read the rule that the line names; it is one that our own code broke, or a source that lies.",
        example="E405 BrokenPromise: samples of 2026-03-28: 3 rows break the rule that ... Next: ...",
    ),
    Entry(
        code="E406",
        name="TooManyQuarantined",
        exit=4,
        when="more rows of a source refused than its contract allows",
        stays=_BEFORE,
        do="Deliver the day again, or raise `max_quarantined` of the source in its scenario.",
        example="E406 TooManyQuarantined: exposure of 2026-03-28: 66.7% of 1500 rows cannot be read "
        "(NULL_KEY 1000), allowed 5.0%. Next: ...",
    ),
    Entry(
        code="E407",
        name="MissingStage",
        exit=4,
        when="a stage was asked for before the one that it reads from",
        stays=_UNTOUCHED,
        do="Run the stage that is named first, or the whole day with `funnelcast run`.",
        example="E407 MissingStage: samples of 2026-03-28: not there. Next: run the stage sample first.",
    ),
    Entry(
        code="E408",
        name="AmbiguousHistory",
        exit=4,
        when="two versions of a view's row that only their place in a file could order",
        stays=_BEFORE,
        do="Correct the source: one version a key and instant, or an arrival that orders them.",
        example="E408 AmbiguousHistory: item_price: two values at 2026-03-28 10:00. Next: ...",
    ),
    Entry(
        code="E409",
        name="NoInstant",
        exit=4,
        when="rows ask for features without saying as of when",
        stays=_UNTOUCHED,
        do="Give every row its instant.",
        example="E409 NoInstant: 2 rows: no instant. Next: ...",
    ),
    Entry(
        code="E410",
        name="OtherFeatures",
        exit=4,
        when="the model was trained with another feature set",
        stays=_BEFORE,
        do="Backfill from the line's first day, or give the recipe a new name.",
        example="E410 OtherFeatures: model esmm of 2026-03-27: removed user_ctr_7d. Next: ...",
    ),
    Entry(
        code="E411",
        name="NotFinite",
        exit=4,
        when="NaN or an infinity in values to add or compare, or in a loss or gradient",
        stays=_BEFORE + " No model version was written: what is published goes on serving.",
        do="Look at the batch or the column that is named; a smaller learning rate if the loss explodes.",
        example="E411 NotFinite: user_value, sum of amount_cents: NaN. Next: ...",
    ),
    Entry(
        code="E412",
        name="BlockedDay",
        exit=4,
        when="a figure of a day, or of one before it, lies outside a band of level block",
        stays="What was read, viewed and sampled of the day, and its figures (`quality_daily`). No model was "
        "trained; yesterday's scores stay published.",
        do="Deliver the day again. If it is as it should be, answer for it: `funnelcast run --date DAY "
        "--override RULE --reason TEXT`; the ledger keeps who, when and why.",
        example="E412 BlockedDay: data of 2026-03-28: volume.click: 45, expected 88.8 to 2,220 (usual 444 of "
        "7 days); no model was trained, the scores of 2026-03-28 stay. Next: ...",
    ),
    Entry(
        code="E501",
        name="Busy",
        exit=5,
        when="another process runs in this scenario's warehouse",
        stays=_UNTOUCHED,
        do="Wait for the process that is named. A killed one holds nothing.",
        example="E501 Busy: run.lock: held by process 4711 since 06:15. Next: ...",
    ),
    Entry(
        code="E502",
        name="ChecksumMismatch",
        exit=5,
        when="a file that we wrote is no longer what we wrote",
        stays="Everything; the damaged file was not used.",
        do="Remove the file and run its day again: equal inputs make equal bytes.",
        example="E502 ChecksumMismatch: id_maps/dt=2026-03-27/...parquet: another sha256. Next: ...",
    ),
    Entry(
        code="E503",
        name="BadWarehouse",
        exit=5,
        when="the warehouse or a checkpoint cannot be read or written as asked",
        stays=_BEFORE,
        do="Do as the line says: permissions, a damaged file to remove, a path to correct.",
        example="E503 BadWarehouse: warehouse/shop: cannot be written: Read-only file system. Next: ...",
    ),
    Entry(
        code="E504",
        name="NoPrefectApi",
        exit=5,
        when="Prefect's API does not answer; `run` and `backfill` then warn and go on without it",
        stays=_ALL,
        do="Read the log that is named, or start the server of `PREFECT_API_URL`; nothing of ours needs it.",
        example="E504 NoPrefectApi: Prefect's embedded API: ... Next: read warehouse/.prefect/server.log.",
    ),
    Entry(
        code="E505",
        name="DiskFull",
        exit=5,
        when="the disk, a quota or a size limit left no room for a file",
        stays=_BEFORE + " What was being written is removed.",
        do="Free some space in the warehouse's folder, then give the same command again.",
        example="E505 DiskFull: sample of 2026-03-28, warehouse/shop: No space left on device; 0 MiB of 6 "
        "are free. Next: ...",
    ),
    Entry(
        code="E506",
        name="OutOfMemory",
        exit=5,
        when="DuckDB needed more than `memory_limit` and could not spill",
        stays=_BEFORE,
        do="Raise `memory_limit` in funnelcast.toml, lower `threads`, or make room on the disk to spill to.",
        example="E506 OutOfMemory: sample of 2026-03-28: Out of Memory; memory_limit is 64MB. Next: ...",
    ),
)
OURS = Entry(
    code="E000",
    name="anything else",
    exit=1,
    when="a fault of ours; `--debug` shows where",
    stays=_BEFORE,
    do="Run the same with `--debug` and report the traceback.",
    example="E000 ZeroDivisionError: division by zero. Next: the same with --debug.",
)
WARNINGS: tuple[Entry, ...] = ()
GUIDE = (*ERRORS, OURS, *WARNINGS)


def table(entries: Iterable[Entry]) -> list[str]:
    """The rows of a Markdown table, header included; the README has that of the errors."""
    rows = [f"| {e.code} | {e.name} | {e.exit} | {e.when} |" for e in entries]
    return ["| code | kind | exit | when |", "| --- | --- | --- | --- |", *rows]


def page() -> str:
    """The text of ``docs/errors.md``."""
    return "\n".join(
        [
            "# Errors and warnings",
            "",
            "Made by `python -m flows.explain > docs/errors.md`, from the table of `funnelcast explain`.",
            "An error is one line: code, kind, where, what was found, the next step. `--debug` adds the",
            "traceback. Exit 0 means done, 130 interrupted.",
            "",
            "## All codes",
            "",
            *table((*ERRORS, OURS)),
            *(["", *table(WARNINGS)] if WARNINGS else []),
            *(line for entry in GUIDE for line in ("", *section(entry))),
            "",
        ]
    )


def section(entry: Entry) -> list[str]:
    """One code in full, as Markdown that reads as text."""
    ends = f"exit {entry.exit}" if entry.exit else "warning"
    return [
        f"## {entry.code} {entry.name} ({ends})",
        "",
        f"{entry.when[0].upper()}{entry.when[1:]}.",
        "",
        f"- What stays: {entry.stays}",
        f"- What to do: {entry.do}",
        f"- Example: `{entry.example}`",
    ]
