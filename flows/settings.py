"""Where this installation works and how much of the machine it may take.

A value comes from the environment (``FUNNELCAST_WAREHOUSE``, ``FUNNELCAST_LOGS__SHOP``), else from the
settings file, else from the defaults below. The file is ``--config``, else ``FUNNELCAST_CONFIG``, else
``funnelcast.toml`` in the current folder.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from features.errors import UsageError

PREFIX = "FUNNELCAST_"
FILE = "funnelcast.toml"
#: Where the file is; where a worker finds the project (prefect.yaml); whether compiled kernels are used.
_NOT_SETTINGS = {"CONFIG", "HOME", "KERNELS"}
_LOGS = {"kuairand": "data/kuairand", "simulated": "simulated"}
_AMOUNT = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)\s{0,3}(?:([KMGT])(i?))?B", re.IGNORECASE | re.ASCII)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_MOST_THREADS = 4096


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container or taskset may leave us fewer than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Settings(BaseSettings):
    """One installation: folders, scenario, model lines and limits.

    Attributes:
        warehouse: folder of everything that funnelcast writes.
        logs: folder of the raw logs, per scenario.
        scenario: the scenario meant when a command names none.
        recipes: model lines of a run; empty means all of the scenario.
        time_zone: IANA zone of the logical day; ``None`` means the scenario's own.
        memory_limit: what DuckDB may take before it spills to disk, such as ``4GB``.
        threads: threads of DuckDB, and model lines that are scored at once.
        checkpoint_rows: rows after which training writes down its state, so that a killed run goes on from
            there; 0: never. No result depends on it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    warehouse: Path = Field(default=Path("warehouse"), validate_default=True)
    logs: dict[str, Path] = Field(
        default_factory=lambda: {name: Path(folder) for name, folder in _LOGS.items()}, validate_default=True
    )
    scenario: str = "kuairand"
    recipes: Annotated[tuple[str, ...], NoDecode] = ()
    time_zone: str | None = None
    memory_limit: str = "4GB"
    threads: int = Field(default_factory=_cores, ge=1, le=_MOST_THREADS)
    checkpoint_rows: int = Field(default=1_000_000, ge=0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file: the values of the file arrive as arguments."""
        return env_settings, init_settings

    @field_validator("warehouse", mode="after")
    @classmethod
    def _absolute(cls, folder: Path) -> Path:
        return _local(folder)

    @field_validator("logs", mode="after")
    @classmethod
    def _all_absolute(cls, folders: dict[str, Path]) -> dict[str, Path]:
        return {name: _local(folder, f"{name}: ") for name, folder in folders.items()}

    @field_validator("recipes", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """``FUNNELCAST_RECIPES=esmm,ple`` needs no JSON."""
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError):
                raise ValueError("not an IANA time zone such as Asia/Shanghai") from None
        return name

    @field_validator("memory_limit")
    @classmethod
    def _an_amount(cls, amount: str) -> str:
        if not _AMOUNT.fullmatch(amount.strip()):
            raise ValueError("not an amount of memory such as 4GB or 900MiB")
        return amount.strip()

    @property
    def memory_bytes(self) -> int:
        """``memory_limit`` in bytes, as DuckDB reads it: 1 kB is 1000, 1 KiB is 1024.

        >>> Settings(memory_limit="1.5KiB").memory_bytes
        1536
        """
        told = _AMOUNT.fullmatch(self.memory_limit)
        assert told is not None  # noqa: S101 - see _an_amount
        number, unit, binary = told.groups()
        return int(float(number) * (1024 if binary else 1000) ** (" KMGT".index(unit.upper()) if unit else 0))

    @classmethod
    def load(cls, config: str | Path | None = None) -> Self:
        """Settings of this folder, file and environment.

        Relative paths of the file (and the defaults, if there is a file) are meant from the file's
        folder, so that a worker and an analyst mean the same place; those of the environment are
        meant from the current folder.

        Raises:
            UsageError: no such file, not TOML, an unknown key or an unusable value.
        """
        file = _settings_file(config)
        values = _read(file) if file else {}
        where = str(file) if file else "settings"
        _refuse_unknown(values, cls.model_fields, where)
        _refuse_unknown(
            (
                key[len(PREFIX) :].partition("__")[0].lower()
                for key in os.environ
                if key.upper().startswith(PREFIX) and key[len(PREFIX) :].upper() not in _NOT_SETTINGS
            ),
            cls.model_fields,
            f"environment {PREFIX}*",
        )
        base = file.absolute().parent if file else Path.cwd()
        try:
            return cls(**_anchored(values, base))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            key = ".".join(str(part) for part in first["loc"]) or "?"
            variable = PREFIX + key.upper().replace(".", "__")
            raise UsageError(
                f"{variable if variable in os.environ else where}, key {key!r}",
                first["msg"].removeprefix("Value error, "),
                f"correct {key!r}; the settings are described in flows/settings.py",
            ) from None
        except (ValueError, RecursionError) as error:  # pydantic-settings: a variable that is no JSON
            step = "give a JSON value or one variable a key"
            raise UsageError(f"environment {PREFIX}*", str(error), step) from None


def _settings_file(config: str | Path | None) -> Path | None:
    named = config or os.environ.get(f"{PREFIX}CONFIG")
    if named:
        file = Path(named)
        there = False
        with suppress(RuntimeError, ValueError, OSError):  # ~ of nobody, NUL, too long: there is no such file
            file = file.expanduser()
            there = file.is_file()
        if not there:
            raise UsageError(str(file), "no such settings file", "create it or leave out --config")
        return file
    return Path(FILE) if Path(FILE).is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # no TOML or UTF-8; a number or a depth beyond Python's
        raise UsageError(str(file), f"not TOML: {error}", "correct that line") from None
    except OSError as error:
        raise UsageError(str(file), f"cannot be read: {error.strerror}", "check its permissions") from None


def _refuse_unknown(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    names = list(known)
    for key in keys:
        if key not in names:
            near = get_close_matches(key, names, n=1)
            raise UsageError(
                where,
                f"unknown key {key!r}",
                f"write {near[0]!r}" if near else f"use one of {', '.join(names)}",
            )


def _local(folder: Path, whose: str = "") -> Path:
    """A folder as an absolute path; nothing of what is refused is repeated, it may hold a password."""
    if _URL.match(str(folder)):
        raise ValueError(f"{whose}a URL; logs and tables lie in local folders")
    if "\0" in str(folder):
        raise ValueError(f"{whose}no path, it holds a NUL character")
    try:
        return folder.expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{whose}begins with ~ and names no user") from None


def _anchored(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The file's values with every path made absolute; what is no path is left for validation to refuse."""

    def anchor(value: object) -> object:
        if not isinstance(value, str) or value.startswith("~") or _URL.match(value):
            return value
        return base / value

    logs = values.get("logs", {})
    if isinstance(logs, Mapping):
        logs = {name: anchor(folder) for name, folder in {**_LOGS, **logs}.items()}
    return {**values, "warehouse": anchor(values.get("warehouse", "warehouse")), "logs": logs}
