"""The one place that sets up logging, and keeps secrets out of it.

Library code says ``logging.getLogger("funnelcast.<part>")``. Lines go to standard error: rich on a
terminal, plain with a timestamp otherwise, one JSON object a line on request.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from features.errors import FunnelcastError
from flows.harmless import harmless, json_line

if TYPE_CHECKING:
    from rich.console import Console

ROOT = "funnelcast"
_SECRET_NAME = re.compile(
    r"((^|_|API|ACCESS|PRIVATE)KEY|TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|AUTH_STRING|CREDENTIAL)S?(_|$)",
    re.IGNORECASE,
)
_SHORTEST = 4  # shorter values (0, 1, on) would blank out half of every line
_NO_SECRETS = {"true", "false", "none", "null"}
# user:password@ up to the last @ (passwords with a raw / occur), or a bare token@ before the host
_URL_LOGIN = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/'\"@]*:[^\s'\"]*|[^\s/?#'\"]*)@")
_HIDDEN = "***"
_PLAIN = set(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def redact(text: str) -> str:
    """The text without values of secret environment variables and without logins in URLs.

    >>> redact("cannot reach s3://ann:hunter2@host/bucket")
    'cannot reach s3://***@host/bucket'
    """
    for secret in sorted(_secrets(), key=len, reverse=True):  # a secret may contain another
        text = text.replace(secret, _HIDDEN)
    return _URL_LOGIN.sub(rf"\1{_HIDDEN}@", text)


def is_secret(name: str) -> bool:
    """Whether what bears this name is a credential, going by the name.

    >>> is_secret("AWS_SECRET_ACCESS_KEY"), is_secret("KEYBOARD")
    (True, False)
    """
    return _SECRET_NAME.search(name) is not None


def _secrets() -> set[str]:
    """Values to hide, in the spellings in which a message may carry them."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if not is_secret(name):
            continue
        parts = [value, *value.splitlines()]  # a private key is often shown line by line
        if "AUTH_STRING" in name.upper():
            parts.append(value.partition(":")[2])  # Prefect's auth string is user:password
        for part in parts:
            found |= {part, quote(part, safe=""), json.dumps(part)[1:-1], repr(part)[1:-1]}
    return {secret for secret in found if len(secret) >= _SHORTEST and secret.lower() not in _NO_SECRETS}


def _redact_all(value: object) -> object:
    """The value with every string in it redacted; what JSON does not know becomes its text."""
    if isinstance(value, Mapping):
        return {redact(str(key)): _redact_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_redact_all(item) for item in value]
    return value if isinstance(value, bool | int | float | None) else redact(str(value))


@contextmanager
def scrubbed() -> Iterator[None]:
    """Redact the text of an exception that leaves the block: others keep it, Prefect in its database."""
    try:
        yield
    except Exception as error:
        error.args = tuple(redact(part) if isinstance(part, str) else part for part in error.args)
        if isinstance(error, FunnelcastError):  # it is rebuilt from these in another process
            told = (error.where, error.found, error.next_step)
            error.where, error.found, error.next_step = map(redact, told)
        raise


class Redaction(logging.Filter):
    """Rewrites a record before its handler sees it: message, arguments, exception text and extras.

    No secret is left in it, and nothing that a terminal would obey; a line of ours stays one line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact in place; every record passes."""
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the format: show both, as logging would
            said = f"{record.msg} {record.args}"
        ours = record.name.partition(".")[0] == ROOT
        record.msg, record.args = harmless(redact(said), lines=not ours), None
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None  # else a formatter that draws tracebacks itself would go round us
        if record.exc_text:
            record.exc_text = harmless(redact(record.exc_text), lines=True)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for key, value in _extras(record):
            setattr(record, key, _redact_all(value))
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, exception and the extras of the record."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_extras(record)),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        return json_line(_redact_all(line))


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """What the caller gave as ``extra``; Prefect's own ids are left to Prefect."""
    for key, value in list(record.__dict__.items()):
        if key not in _PLAIN and not key.startswith(("flow_run", "task_run")):
            yield key, value


def configure(*, as_json: bool = False, debug: bool = False) -> None:
    """Set up the ``funnelcast`` logger for this process; a second call replaces the first."""
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False  # Prefect puts a handler on the root logger: lines would appear twice
    for handler in list(logger.handlers):
        if getattr(handler, "funnelcast_owned", False):
            logger.removeHandler(handler)
    handler = _handler(as_json)
    handler.funnelcast_owned = True  # type: ignore[attr-defined]
    logger.addHandler(handler)
    guard()


def ensure() -> None:
    """Set up logging where no command line did, such as in a worker's process."""
    if not any(getattr(handler, "funnelcast_owned", False) for handler in logging.getLogger(ROOT).handlers):
        configure()
    guard()


def guard() -> None:
    """Put the redaction on every handler of the process: libraries, Prefect first, log our errors too."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    for logger in loggers:
        for handler in getattr(logger, "handlers", ()):
            if not any(isinstance(held, Redaction) for held in handler.filters):
                handler.addFilter(Redaction())


def _handler(as_json: bool) -> logging.Handler:
    if as_json:
        handler: logging.Handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JsonLines())
    elif sys.stderr.isatty():
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        handler = RichHandler(
            console=terminal(),
            show_path=False,
            show_level=False,
            highlighter=NullHighlighter(),
            log_time_format="%H:%M:%S",
        )
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S%z")
        )
    return handler


@cache
def terminal() -> Console:
    """The one console on standard error: log lines print above a progress bar that uses it too."""
    from rich.console import Console

    return Console(stderr=True)
