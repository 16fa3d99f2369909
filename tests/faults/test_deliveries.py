"""F16, F28, F32, F33, F39, F48, F49: deliveries that are odd but not wrong, and one in another unit.

One day of the shop has all of the odd things at once and is run once; each case looks at what became of its
own rows.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from fault_house import LINES, SECOND, delivery, open_house, rewrite

from features.bookkeeping import QUARANTINE, RUNS
from features.errors import TooManyQuarantined
from features.scenario import Scenario
from features.scenarios.kuairand import SCENARIO as KUAIRAND
from features.scenarios.shop import CATALOGUE, CLICK, EXPOSURE, SCENARIO
from features.schemas import events, samples, scores, view
from flows.day import close, pending, run_day
from flows.house import House
from flows.settings import Settings
from flows.stages import read
from flows.stages.record import StageRecord

DAY = timedelta(days=1)
#: The same shop, whose catalogue tells prices as doubles: the only numbers that can be none.
DOUBLES = replace(CATALOGUE, raw={**CATALOGUE.raw, "price_cents": "DOUBLE"})
ODD: Scenario = replace(
    SCENARIO, attributes=tuple(DOUBLES if s is CATALOGUE else s for s in SCENARIO.attributes)
)


@dataclass(frozen=True)
class Day:
    """A day that was run, with what was planted into it.

    Attributes:
        house: the warehouse.
        records: what its stages said.
        warned: what was logged as a warning.
        twice: an impression with a second click, and two copies of its first.
        early: an impression clicked four seconds before it was shown; the clocks may differ by five.
        earlier: an impression clicked six seconds before.
    """

    house: House
    records: tuple[StageRecord, ...]
    warned: list[str]
    twice: str
    early: str
    earlier: str

    def record(self, table: str) -> StageRecord:
        return next(r for r in self.records if (r.table, r.day) == (table, SECOND))

    def refused(self, origin: str) -> dict[str, list[dict[str, object]]]:
        """Quarantined rows by reason, of an origin whose rows are kept as JSON."""
        rows = self.house.store.scan(QUARANTINE, [SECOND], origin=origin).collect()
        found: dict[str, list[dict[str, object]]] = {}
        for reason, text in rows.select("reason", "row_text").rows():
            found.setdefault(reason, []).append(json.loads(text))
        return found

    def label(self, impression: str) -> tuple[int, int]:
        """Whether it was clicked, and how often."""
        rows = self.house.store.scan(samples(SCENARIO), [SECOND]).filter(impression_id=impression).collect()
        (row,) = rows.select("y_click", "n_click").rows()
        return row


def plant(house: House) -> tuple[str, str, str]:
    shown = pl.read_parquet(delivery(house, "exposure").parent / "*.parquet")
    clicks = pl.read_parquet(delivery(house, "click"))
    own = shown.filter(pl.col("exposure_id").str.starts_with("e-0328")).unique("exposure_id").drop_nulls()
    quiet = own.join(clicks, on=["user_id", "sku"], how="anti").sort("exposure_id")
    early, earlier = quiet.head(2).rows(named=True)
    fine = clicks.filter(pl.col("click_id").str.starts_with("c-0328"), pl.col("exposure_id").is_not_null())
    alone = fine.filter(pl.len().over("exposure_id") == 1).join(
        own.select("exposure_id", "user_id", "sku"), on=["exposure_id", "user_id", "sku"], how="semi"
    )
    first = alone.sort("click_id").row(5, named=True)
    template = {"user_id": 0, "sku": "", "exposure_id": ""}
    before = [
        {name: shown_row[name] for name in template}
        | {"click_id": f"before-{seconds}", "ts_s": math.ceil(shown_row["ts_us"] / 1_000_000) - seconds}
        for shown_row, seconds in ((early, 4), (earlier, 6))
    ]
    planted = [
        first,
        first,
        first | {"click_id": "again", "ts_s": first["ts_s"] + 60},
        *before,
        *(first | {"click_id": f"tomorrow-{n}", "ts_s": first["ts_s"] + 86_400} for n in range(3)),
    ]
    rewrite(
        delivery(house, "click"), lambda rows: pl.concat([rows, pl.DataFrame(planted, schema=rows.schema)])
    )
    rewrite(delivery(house, "exposure"), lambda rows: rows.with_columns(campaign=pl.lit("spring")))
    odd = pl.when(pl.col("sku") == "sku-020").then(math.nan).when(pl.col("sku") == "sku-021").then(math.inf)
    rewrite(
        delivery(house, "item"),
        lambda rows: rows.with_columns(price_cents=odd.otherwise(pl.col("price_cents").cast(pl.Float64))),
    )
    return first["exposure_id"], early["exposure_id"], earlier["exposure_id"]


@pytest.fixture(scope="module")
def odd(first_day: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    root = tmp_path_factory.mktemp("odd")
    shutil.copytree(first_day, root, dirs_exist_ok=True)
    house = replace(open_house(root), scenario=ODD)
    planted = plant(house)
    warned: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("funnelcast").addHandler(handler)
    try:
        yield Day(house, run_day(house, SECOND, LINES), warned, *planted)
    finally:
        logging.getLogger("funnelcast").removeHandler(handler)


def test_F28_a_new_column_is_ignored_and_warned_of_once(odd: Day) -> None:
    record = odd.record(EXPOSURE.table)
    assert record.notes["not_read"] == {"part-0.parquet": ["campaign"]}
    assert [line for line in odd.warned if "campaign" in line] == [
        f"exposure of {SECOND}: new columns, not read: campaign"
    ]
    notes = odd.house.store.scan(RUNS, [SECOND]).filter(table=EXPOSURE.table).collect()["notes"].item()
    assert json.loads(notes)["not_read"] == {"part-0.parquet": ["campaign"]}
    assert odd.house.store.days(scores(SCENARIO))[-1] == SECOND + DAY


def test_F32_F33_a_price_that_is_no_number_is_kept_out_and_counted_and_reaches_no_model(odd: Day) -> None:
    record = odd.record(CATALOGUE.table)
    assert record.quarantined == {"NULL_KEY": 1, "PRICE_INF": 1, "PRICE_NAN": 1}
    kept = odd.refused("rule.events.item")
    assert {reason: [row["item_id"] for row in rows] for reason, rows in kept.items()} == {
        "PRICE_NAN": ["sku-020"],
        "PRICE_INF": ["sku-021"],
    }
    (profile,) = (one for one in SCENARIO.views if one.name == "item_profile")
    shown = odd.house.store.scan(view(profile, SCENARIO), [SECOND + DAY]).collect()
    assert shown["price"].is_finite().all()
    # To whoever reads the profile, these two have no price: the encoder's flag says so.
    assert {"sku-019", "sku-020", "sku-021"} & set(shown["item_id"]) == {"sku-019"}
    published = odd.house.store.scan(scores(SCENARIO), [SECOND + DAY]).collect()
    assert published.select(pl.col("pctr", "pctcvr").is_finite().all()).row(0) == (True, True)


@pytest.mark.parametrize(
    ("source", "column"), [("item", "video_duration"), ("item", "music_type"), ("user", "onehot_feat12")]
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_F32_F33_a_shipped_attribute_that_is_no_number_is_kept_out(
    tmp_path: Path, source: str, column: str, value: float
) -> None:
    house = House.open(Settings(warehouse=tmp_path / "warehouse", logs={"kuairand": tmp_path}), "kuairand")
    declared = KUAIRAND.source(source)
    file = Path(__file__).resolve().parents[2] / "data" / "kuairand" / declared.files
    rows = pl.read_parquet(file).head(100).with_row_index("nth")
    spoiled = pl.when(pl.col("nth") == 7).then(value).otherwise(pl.col(column)).alias(column)
    rows.with_columns(spoiled).drop("nth").write_parquet(tmp_path / declared.files)
    *_, record = read.read(house, declared, SECOND)
    assert (record.rows_out, record.quarantined) == (99, {"BAD_NUMBER": 1})


def test_F39_copies_of_a_click_are_no_clicks_and_a_second_click_is_one_label(odd: Day) -> None:
    planted = pl.read_parquet(delivery(odd.house, "click", SECOND))
    named = planted.filter(exposure_id=odd.twice)["click_id"].value_counts().sort("count")
    assert named["count"].to_list() == [
        1,
        1,
        1,
        1,
        3,
    ]  # again, three of tomorrow, and the click with two copies
    assert odd.label(odd.twice) == (1, 2)
    record = odd.record(CLICK.table)
    assert record.rows_in == record.rows_out + record.deduplicated + sum(record.quarantined.values())
    assert odd.house.store.scan(events(CLICK), [SECOND]).collect()["event_id"].is_unique().all()


def test_F48_an_event_of_tomorrow_is_kept_out_and_clocks_may_differ_by_the_skew_and_no_more(odd: Day) -> None:
    rows = odd.house.store.scan(QUARANTINE, [SECOND], origin="read.click").collect()
    outside = rows.filter(reason="OUTSIDE_DELIVERY")["row_text"]
    assert sum("tomorrow-" in text for text in outside) == 3
    assert odd.label(odd.early) == (1, 1)
    assert odd.label(odd.earlier) == (0, 0)
    orphans = {row["event_id"] for row in odd.refused("label.click")["ORPHAN_CLICK"]}
    assert "before-6" in orphans
    assert "before-4" not in orphans


@pytest.mark.parametrize(
    ("source", "change"),
    [
        (EXPOSURE, pl.col("ts_us") // 1_000),  # milliseconds
        (EXPOSURE, pl.col("ts_us") // 1_000_000),  # seconds
        (EXPOSURE, pl.col("ts_us") * 1_000),  # nanoseconds
        (CLICK, pl.col("ts_s") * 1_000),  # milliseconds where seconds were agreed
    ],
)
def test_F49_instants_in_another_unit_stop_the_day(
    first_day: Path, tmp_path: Path, source: object, change: pl.Expr
) -> None:
    shutil.copytree(first_day / "logs", tmp_path / "logs")
    house = open_house(tmp_path)
    assert source in (EXPOSURE, CLICK)
    name = source.name  # type: ignore[attr-defined]
    for file in delivery(house, name).parent.iterdir():
        rewrite(file, lambda rows: rows.with_columns(change))
    with pytest.raises(TooManyQuarantined) as told:
        read.read(house, SCENARIO.source(name), SECOND)
    assert (told.value.code, told.value.exit_code) == ("E406", 4)
    assert f"{name} of {SECOND}" in told.value.where
    assert "TIME_OUT_OF_RANGE" in told.value.found
    assert "allowed 5.0%" in told.value.found
    assert house.store.generation(events(SCENARIO.source(name)), SECOND) is None


def test_F16_a_changed_delivery_is_read_anew_and_says_what_changed(
    odd: Day, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(odd.house.logs.parent, tmp_path, dirs_exist_ok=True)
    house = replace(open_house(tmp_path), scenario=ODD)
    table = events(CLICK)
    before = house.store.generation(table, SECOND)
    assert before is not None
    file = delivery(house, "click")
    gone = (
        pl.read_parquet(file)
        .filter(pl.col("click_id").str.starts_with("c-0328"))["click_id"]
        .unique()
        .sort()[3:8]
    )
    more = pl.read_parquet(file).filter(pl.col("click_id") == "again")
    late = more.with_columns(click_id=pl.lit("more"), ts_s=pl.col("ts_s") + 1)
    rewrite(file, lambda rows: rows.filter(~pl.col("click_id").is_in(gone.implode())))
    late.write_parquet(file.with_name("part-1.parquet"))
    with caplog.at_level(logging.INFO, "funnelcast"):
        records = read.run(house, SECOND, LINES)
    close(house, SECOND, records)
    (record,) = (r for r in records if r.table == CLICK.table)
    told = record.notes["replaces"]
    assert told == {
        "generation": before.key,
        "changed": ["raw part-0.parquet changed", "raw part-1.parquet new"],
        "rows": {"before": before.rows, "now": before.rows - 4, "came": 1, "went": 5},
    }
    (line,) = (text for text in caplog.messages if "is read anew" in text)
    assert line.startswith(
        f"click of {SECOND} is read anew: raw part-0.parquet changed, raw part-1.parquet new"
    )
    # The pointer has moved, in the ledger too, and the old files stay.
    after = house.store.generation(table, SECOND)
    assert after is not None
    assert after.key == record.key != before.key
    assert all(path.is_file() for path in before.paths)
    runs = house.store.scan(RUNS, [SECOND]).filter(table=CLICK.table, part=str(SECOND)).collect()
    assert [json.loads(notes).get("replaces") for notes in runs.sort("started_at")["notes"]] == [None, told]
    assert pending(house, SECOND, LINES)[0] == "view"  # all that was made from it is made anew
    assert all(r.repeated and "replaces" not in r.notes for r in read.run(house, SECOND, LINES))
