"""What must not be read stops its day with an error one can act on, and nothing of it is published."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from shop_logs import write_logs

from features.bookkeeping import ID_MAPS, METRICS, MODELS, QUARANTINE, RUNS
from features.errors import FunnelcastError
from features.fingerprint import file_sha256
from features.scenarios.shop import SCENARIO
from features.schemas import events, samples, scores
from flows import cli
from flows.day import run_day
from flows.house import House
from flows.settings import Settings
from flows.stages import read

FIRST, SECOND = date(2026, 3, 27), date(2026, 3, 28)
LINES = ("esmm",)
Spoil = Callable[[Path], None]


def open_house(root: Path) -> House:
    settings = Settings(
        warehouse=root / "warehouse",
        logs={"shop": root / "logs"},
        scenario="shop",
        threads=2,
        memory_limit="1GB",
    )
    return House.open(settings)


@pytest.fixture(scope="module")
def first_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Logs of two days and a warehouse with the first of them."""
    root = tmp_path_factory.mktemp("first")
    write_logs(root / "logs", [FIRST, SECOND])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WAREHOUSE", "LOGS", "SCENARIO", "RECIPES", "TIME_ZONE"):
            patch.delenv(f"FUNNELCAST_{name}", raising=False)
        run_day(open_house(root), FIRST, LINES)
    return root


@pytest.fixture
def house(first_day: Path, tmp_path: Path) -> House:
    shutil.copytree(first_day, tmp_path, dirs_exist_ok=True)
    return open_house(tmp_path)


@dataclass(frozen=True)
class Published:
    """Every byte of what was made, and the days that have a model, its metrics or scores."""

    bytes: dict[str, str]
    days: dict[str, list[date]]

    @classmethod
    def of(cls, house: House) -> Published:
        root = house.store.root
        files = [*root.glob("**/dt=*/**/*.parquet"), *root.glob("checkpoints/*/*/*"), house.catalog]
        tables = (METRICS, MODELS, scores(SCENARIO))
        return cls(
            {str(file.relative_to(root)): file_sha256(file) for file in files},
            {table.name: house.store.days(table) for table in tables},
        )

    def stands(self, house: House) -> bool:
        """Whether nothing more is published now, and all that was there is as it was."""
        now = Published.of(house)
        return now.days == self.days and now.bytes | self.bytes == now.bytes


def refused(house: House, code: str, exit_code: int, *said: str, day: date = SECOND) -> None:
    """The day ends in this error, which the ledger keeps, and nothing is published of it."""
    before = Published.of(house)
    with pytest.raises(FunnelcastError) as caught:
        run_day(house, day, LINES)
    text = str(caught.value)
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert text.startswith(f"{code} {type(caught.value).__name__}: ")
    assert "\n" not in text
    assert all(part in text for part in (*said, ". Next: ")), text
    assert before.stands(house)
    failed = house.store.scan(RUNS).filter(pl.col("state") == "failed").sort("started_at").collect()
    assert code in failed["notes"][-1]


def completes(house: House) -> None:
    """The same command, repeated, publishes the day."""
    run_day(house, SECOND, LINES)
    assert house.store.days(scores(SCENARIO))[-1] == SECOND + timedelta(days=1)
    assert house.store.days(METRICS) == [FIRST, SECOND]


def delivery(house: House, source: str) -> Path:
    return house.logs / source / f"dt={SECOND}" / "part-0.parquet"


def rewrite(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Spoil:
    def spoil(file: Path) -> None:
        change(pl.read_parquet(file)).write_parquet(file)

    return spoil


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path, place: float = 0.5) -> None:
    """Turn one bit over."""
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 1
    file.write_bytes(content)


SPOILED: dict[str, tuple[str, Spoil, str, tuple[str, ...]]] = {
    "F18 a missing day": (
        "click",
        lambda file: file.unlink(),
        "E401",
        ("click of 2026-03-28", "click/dt=2026-03-28/*.parquet", "deliver the day's log"),
    ),
    "F23 an empty file": (
        "exposure",
        lambda file: file.write_bytes(b"") and None,
        "E403",
        ("part-0.parquet",),
    ),
    "F22 a truncated file": ("conversion", cut, "E403", ("conversion/dt=2026-03-28/part-0.parquet",)),
    "a file that is no Parquet": (
        "item",
        lambda file: file.write_text("sku,price\n" * 20) and None,
        "E403",
        ("item/dt=2026-03-28/part-0.parquet", "deliver the file again"),
    ),
    "F27 F30 a renamed column": (
        "exposure",
        rewrite(lambda rows: rows.rename({"user_id": "uid"})),
        "E404",
        ("exposure/dt=2026-03-28/part-0.parquet, column 'user_id'", "missing, expected BIGINT", "'uid'"),
    ),
    "F29 a string where an id was": (
        "click",
        rewrite(lambda rows: rows.cast({"user_id": pl.String()})),
        "E404",
        ("column 'user_id'", "type VARCHAR, expected BIGINT", "deliver it as BIGINT"),
    ),
    "too many rows that cannot be read": (
        "exposure",
        rewrite(lambda rows: rows.with_columns(sku=pl.when(pl.int_range(pl.len()) % 3 > 0).then("sku"))),
        "E406",
        ("exposure of 2026-03-28", "NULL_KEY", "allowed 5.0%"),
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_spoiled_delivery_is_refused_and_delivered_again_it_is_run(house: House, kind: str) -> None:
    source, spoil, code, said = SPOILED[kind]
    file = delivery(house, source)
    good = file.read_bytes()
    spoil(file)
    refused(house, code, 4, *said)
    assert house.store.days(samples(SCENARIO)) == [FIRST]
    file.write_bytes(good)
    read.run(house, SECOND, ())


def test_a_day_that_was_refused_for_every_reason_completes_as_if_nothing_had_been(
    house: House, first_day: Path, tmp_path: Path
) -> None:
    for source, spoil, code, _ in SPOILED.values():
        file = delivery(house, source)
        good = file.read_bytes()
        spoil(file)
        refused(house, code, 4)
        file.write_bytes(good)
    completes(house)
    shutil.copytree(first_day, tmp_path / "other")
    other = open_house(tmp_path / "other")
    completes(other)
    for table in (samples(SCENARIO), METRICS, MODELS, scores(SCENARIO), QUARANTINE):
        ours, theirs = (
            [(file.path, file.rows) for file in one.store.snapshot(table).files] for one in (house, other)
        )
        assert ours == theirs


def test_a_day_without_an_event_is_a_day(house: House) -> None:
    rewrite(pl.DataFrame.clear)(delivery(house, "conversion"))
    completes(house)
    found = house.store.generation(events(SCENARIO.source("conversion")), SECOND)
    assert found is not None
    assert found.rows == 0


def test_F36_a_few_rows_without_a_key_are_kept_and_counted(house: House) -> None:
    file = delivery(house, "exposure")
    rows = pl.read_parquet(file)
    fresh = rows.filter(pl.col("exposure_id").str.starts_with("e-0328")).head(7)
    pl.concat([rows, fresh.with_columns(user_id=pl.lit(None, dtype=pl.Int64))]).write_parquet(file)
    before = Published.of(house)
    records = run_day(house, SECOND, LINES)
    told = next(r for r in records if r.table == "events/exposure" and r.day == SECOND)
    kept = house.store.scan(QUARANTINE, [SECOND], origin="read.exposure").collect()
    assert kept.filter(pl.col("reason") == "NULL_KEY").height == told.quarantined["NULL_KEY"] > 7
    assert told.rows_in == told.rows_out + told.deduplicated + sum(told.quarantined.values())
    after = Published.of(house).bytes
    assert {name for name, text in before.bytes.items() if after[name] != text} == {"catalog.duckdb"}


def test_an_unknown_recipe_is_named_with_the_nearest(house: House) -> None:
    before = Published.of(house)
    with pytest.raises(FunnelcastError, match=r"^E201 .*recipe 'esm'.*did you mean 'esmm'\?") as caught:
        run_day(house, SECOND, ("esm",))
    assert caught.value.exit_code == 2
    assert Published.of(house).days[scores(SCENARIO).name] == before.days[scores(SCENARIO).name]


def test_a_day_of_the_future_is_refused_before_anything_is_touched(house: House) -> None:
    future = datetime.now(UTC).date() + timedelta(days=2)
    before = {str(f): file_sha256(f) for f in house.store.root.rglob("*") if f.is_file()}
    with pytest.raises(
        FunnelcastError, match=rf"^E201 .*date {future}: not over yet.*Next: name a day"
    ) as caught:
        run_day(house, future, LINES)
    assert caught.value.exit_code == 2
    assert {str(f): file_sha256(f) for f in house.store.root.rglob("*") if f.is_file()} == before


@pytest.mark.parametrize(
    ("name", "remedy"), [("manifest.json", "restore"), ("model.safetensors", "make again")]
)
def test_F25_a_damaged_checkpoint_is_never_trained_on(house: House, name: str, remedy: str) -> None:
    (file,) = house.store.root.glob(f"checkpoints/esmm/*/{name}")
    good = file.read_bytes()
    flip(file)
    refused(house, "E503", 5, "model esmm of 2026-03-27", name, "remove it and run 2026-03-27 again")
    if remedy == "restore":
        file.write_bytes(good)
    else:
        shutil.rmtree(file.parent)
        run_day(house, FIRST, LINES)
        assert file.read_bytes() == good
    completes(house)


def test_damaged_id_maps_are_never_the_base_of_new_ones(house: House) -> None:
    (file,) = house.store.root.glob(f"id_maps/dt={FIRST}/*.parquet")
    good = file.read_bytes()
    flip(file, 0.2)
    refused(house, "E502", 5, str(file), "sha256", "remove it and make dt=2026-03-27 again")
    assert house.store.days(ID_MAPS) == [FIRST]
    file.unlink()
    run_day(house, FIRST, LINES)
    assert file.read_bytes() == good
    completes(house)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--date", "2026-03-28", "--recipe", "pel"], "did you mean 'ple'?"),
        (["--date", "2026-03-28", "--scenario", "shpo"], "'shop'"),
        (["--date", str(date.today() + timedelta(days=2))], "not over yet"),
    ],
)
def test_the_command_refuses_what_it_cannot_mean(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    settings(house, monkeypatch)
    before = Published.of(house)
    assert cli.main(["run", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("E201 UsageError: ")
    assert said in line
    assert Published.of(house) == before


def settings(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same house for the command line."""
    root = house.logs.parent
    monkeypatch.chdir(root)
    text = 'scenario = "shop"\nrecipes = ["esmm"]\nthreads = 2\nlogs.shop = "logs"\n'
    (root / "funnelcast.toml").write_text(text, "utf-8")
