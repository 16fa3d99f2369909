"""Runs with no server to install or start, from any folder.

Prefect's history of embedded runs lies in ``<warehouse>/.prefect``; nothing of ours depends on it. If the
user names an API (``PREFECT_API_URL``, or the active profile), that one is used and this module only sets
defaults.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from features.errors import BadWarehouse, FunnelcastError
from flows import history, logs, loopback

log = logging.getLogger("funnelcast.embedded")
_STARTUP = 180.0  # seconds; usual are 5, or 13 with an empty database; Prefect's 20 fail on a busy machine


class NoPrefectApi(FunnelcastError):
    """Prefect's API, embedded or of the user, does not answer; no run needs it."""

    code, exit_code = "E504", 5


def prepare(warehouse: Path, *, debug: bool = False) -> Path:
    """Set Prefect's defaults for this process; must come before ``import prefect``, which reads them.

    Returns:
        Prefect's home, created.
    """
    own = warehouse / ".prefect"
    home = Path(os.environ.get("PREFECT_HOME", own))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        step = "set FUNNELCAST_WAREHOUSE to a writable folder"
        raise BadWarehouse(str(home), f"cannot be created: {error.strerror}", step) from None
    profiles = Path("~/.prefect/profiles.toml").expanduser()
    if home == own and profiles.is_file():  # else our home would hide the user's profile, and so their server
        os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles))
    for name, value in {
        "PREFECT_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(_STARTUP)),
        "PREFECT_LOGGING_LEVEL": "INFO" if debug else "CRITICAL",  # the command line reports errors itself
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }.items():
        os.environ.setdefault(name, value)
    return home


@contextmanager
def session(warehouse: Path, *, debug: bool = False) -> Iterator[None]:
    """An API for the flows called inside: the user's, or a child of this process.

    Runs that a killed process left ``Running`` are set to ``Crashed`` first; the history is complete
    when the context ends.

    Raises:
        NoPrefectApi: the child did not become healthy, or the user's API does not answer.
    """
    home = prepare(warehouse, debug=debug)
    if theirs := _api_of_user(home):
        _refuse_silent(theirs)
        log.info("Prefect API: %s", theirs)
        yield
        return
    with ExitStack() as stack:
        alone = stack.enter_context(_presence(home))
        url = stack.enter_context(_api(home))
        from prefect import tags
        from prefect.client.orchestration import get_client
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            PREFECT_LOGGING_TO_API_ENABLED,
            temporary_settings,
        )

        stack.enter_context(
            temporary_settings(
                {
                    PREFECT_API_URL: url,
                    PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,  # ending its thread costs a second a flow
                    PREFECT_LOGGING_TO_API_ENABLED: False,  # our lines go to the terminal
                }
            )
        )
        logs.guard()  # importing Prefect has added handlers
        client = stack.enter_context(get_client(sync_client=True))
        if alone:
            history.reap(client)
        mark = f"embedded-{secrets.token_hex(4)}"
        try:
            with tags(mark):
                yield
        finally:
            history.flush()
            history.drain(client, mark)


def _api_of_user(home: Path) -> str | None:
    named = "PREFECT_API_URL" in os.environ or "PREFECT_PROFILES_PATH" in os.environ
    if not named and not (home / "profiles.toml").is_file():
        return None  # the child starts while we import Prefect, not after it
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _refuse_silent(url: str) -> None:
    """Hold the user's API to answering at all; what it answers is its business."""
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=10)
    except httpx.TransportError as error:
        said = f"does not answer ({type(error).__name__})"
        raise NoPrefectApi(logs.redact(url), said, "start it, or unset PREFECT_API_URL") from None


@contextmanager
def _presence(home: Path) -> Iterator[bool]:
    """Hold a shared lock while this process lives; true if no other process held it.

    The kernel drops the lock of a killed process, so it says who lives where a process id could lie.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: never sure to be alone
        yield False
        return
    with (home / "embedded.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield alone


@contextmanager
def _api(home: Path) -> Iterator[str]:
    """Start the child, wait until it is healthy, stop it at the end."""
    report = home / "server.log"
    with report.open("wb") as output:
        child = _start(home, output)
    assert child.stdin is not None  # noqa: S101 - for the type checker: both are pipes
    assert child.stdout is not None  # noqa: S101
    try:
        port = child.stdout.readline().decode().strip()
        url = f"http://127.0.0.1:{port}/api"
        if not (home / "prefect.db").exists():
            log.info("first run in this warehouse: preparing Prefect's database, about 15 s")
        if not port or not _healthy(child, url):
            lines = report.read_text("utf-8", "replace").strip().splitlines() or ["no output"]
            raise NoPrefectApi("Prefect's embedded API", lines[-1], f"read {report}")
        yield url
    finally:
        child.stdin.close()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def _start(home: Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
    ours = {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),  # not the user's: it may name another database
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    return subprocess.Popen(
        # -P: the folder of flows/ files must not be importable as top-level modules
        [sys.executable, "-P", loopback.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        env={**os.environ, **ours},
        cwd=home,  # a prefect.toml or .env of the current folder is for the user's server
        start_new_session=True,  # an interrupt on the terminal is ours; the child outlives our last call
    )


def _healthy(child: subprocess.Popen[bytes], url: str) -> bool:
    import httpx

    end = time.monotonic() + _STARTUP
    while time.monotonic() < end and child.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == httpx.codes.OK:
                return True
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.1)
    return False
