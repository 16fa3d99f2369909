"""No credential is a setting, and none is kept: not in errors, in the ledger, in the parameters of a flow."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest
from fault_house import FIRST, LINES, open_house
from pydantic import SecretStr

from features.bookkeeping import RUNS
from features.errors import MissingLog
from flows import logs
from flows.day import run_day
from flows.settings import Settings

SESAME = "sesame-open"


def test_a_setting_that_may_hold_a_secret_is_typed_as_one() -> None:
    """There is none today; one that comes must not show in ``repr``, errors or logs."""
    for name, field in Settings.model_fields.items():
        assert not logs.is_secret(name) or field.annotation in (SecretStr, SecretStr | None)
    assert logs.is_secret("object_store_token")


def test_no_parameter_of_a_flow_is_a_credential() -> None:
    """Prefect shows parameters on its pages and keeps them in its database."""
    from flows.backfill import backfill
    from flows.daily import daily
    from flows.score import score
    from flows.tasks import run_stage, run_whole_day
    from flows.train import train

    for one in (daily, backfill, train, score, run_stage, run_whole_day):
        names = inspect.signature(one.fn).parameters
        assert not [name for name in names if logs.is_secret(name)], one.name


def test_the_ledger_keeps_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are published: every analyst reads why a run failed."""
    monkeypatch.setenv("LAKE_TOKEN", SESAME)
    house = open_house(tmp_path / SESAME)
    with pytest.raises(MissingLog, match=SESAME):
        run_day(house, FIRST, LINES)
    (told,) = house.store.scan(RUNS).collect()["notes"]
    assert "E401 MissingLog: exposure of 2026-03-27" in told
    assert SESAME not in told


def test_an_error_that_crosses_a_process_carries_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKE_TOKEN", SESAME)
    with pytest.raises(MissingLog) as caught, logs.scrubbed():
        raise MissingLog(f"s3://ann:hunter2@host/{SESAME}", f"no file for {SESAME}", f"ask {SESAME}")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - ours
    for text in (
        str(caught.value),
        repr(caught.value),
        str(again),
        again.where,
        again.found,
        again.next_step,
    ):
        assert SESAME not in text
        assert "hunter2" not in text
