"""Errors a user can act on: a code, the thing, what was expected, what was found, the next step."""

from __future__ import annotations

from typing import ClassVar


class FunnelcastError(Exception):
    """Base of every error that names its remedy.

    Attributes:
        code: stable code, printed first.
        exit_code: exit status of the command line: 2 usage, 3 gate, 4 data, 5 environment.
    """

    code: ClassVar[str] = "E000"
    exit_code: ClassVar[int] = 1

    def __init__(self, where: str, found: str, next_step: str) -> None:
        super().__init__(f"{self.code} {type(self).__name__}: {where}: {found}. Next: {next_step}.")
        self.where, self.found, self.next_step = where, found, next_step

    def __reduce__(self) -> tuple[type[FunnelcastError], tuple[str, str, str]]:
        """Cross processes whole: an exception is otherwise rebuilt from its one message."""
        return type(self), (self.where, self.found, self.next_step)


class UsageError(FunnelcastError):
    """The command cannot mean what it says: unknown recipe or scenario, a date that is not over."""

    code, exit_code = "E201", 2


class GateBlocked(FunnelcastError):
    """The gate kept a version out, and nothing else may be scored with."""

    code, exit_code = "E301", 3


class MissingLog(FunnelcastError):
    """No raw file for a source and a day."""

    code, exit_code = "E401", 4


class CorruptInput(FunnelcastError):
    """A raw file that cannot be read as Parquet: truncated, empty or something else."""

    code, exit_code = "E403", 4


class SchemaDrift(FunnelcastError):
    """A raw file whose columns or types are not those of its contract."""

    code, exit_code = "E404", 4


class BrokenPromise(FunnelcastError):
    """A check of sql/checks selected offenders; nothing was published."""

    code, exit_code = "E405", 4


class TooManyQuarantined(FunnelcastError):
    """More rows of a source were quarantined than its contract allows."""

    code, exit_code = "E406", 4


class MissingStage(FunnelcastError):
    """A stage was asked for before the one it reads from."""

    code, exit_code = "E407", 4


class AmbiguousHistory(FunnelcastError):
    """Versions of a view that nothing but their place in a file could order, or clocks that disagree."""

    code, exit_code = "E408", 4


class NoInstant(FunnelcastError):
    """Rows that ask for features without saying as of when."""

    code, exit_code = "E409", 4


class OtherFeatures(FunnelcastError):
    """A model was trained with another feature set than the one that is declared now."""

    code, exit_code = "E410", 4


class NotFinite(FunnelcastError):
    """NaN or an infinity among values to add or compare."""

    code, exit_code = "E411", 4


class BlockedDay(FunnelcastError):
    """A figure of the day lies outside a band that blocks; it is neither learned nor published."""

    code, exit_code = "E412", 4


class Busy(FunnelcastError):
    """Another process runs in the same scenario's warehouse, or changed a partition meanwhile."""

    code, exit_code = "E501", 5


class ChecksumMismatch(FunnelcastError):
    """A file that we wrote is no longer what we wrote."""

    code, exit_code = "E502", 5


class BadWarehouse(FunnelcastError):
    """The warehouse cannot be read or written as asked."""

    code, exit_code = "E503", 5


class DiskFull(FunnelcastError):
    """No room was left for a file; nothing half-written is live, and staged files are removed."""

    code, exit_code = "E505", 5


class OutOfMemory(FunnelcastError):
    """An engine needed more memory than the settings give it, and could not spill."""

    code, exit_code = "E506", 5
