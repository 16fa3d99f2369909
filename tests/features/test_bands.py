"""Figures of a day and the bands that they are held to, against numbers counted by hand."""

from __future__ import annotations

import statistics
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from features.funnel import Funnel, Objective
from features.id_maps import MAP_SCHEMA
from features.validation.bands import BANDS, FIGURES, Band, judged, name
from features.validation.figures import frame, of_columns, of_ids, of_objective
from features.view import Category, Dense, Feature

DAY = date(2026, 3, 30)  # a Monday
ONE = timedelta(days=1)


def figures(rule: str, value: float | None, rows: int = 1_000, column: str = "") -> pl.DataFrame:
    return frame([("events/click", rule, column, value, rows)])


def before(rule: str, values: list[float], column: str = "") -> pl.DataFrame:
    """One value a day, the last of them yesterday's."""
    days = [DAY - back * ONE for back in range(len(values), 0, -1)]
    rows = [(day, "events/click", rule, column, value) for day, value in zip(days, values, strict=True)]
    schema = {"dt": pl.Date(), **{n: FIGURES[n] for n in ("table", "rule", "column", "value")}}
    return pl.DataFrame(rows, schema=schema, orient="row")


def outcome(
    band: Band, value: float | None, earlier: list[float], rows: int = 1_000, column: str = ""
) -> str:
    told = judged(
        [band], DAY, figures(band.rule, value, rows, column), before(band.rule, earlier, column), ()
    )
    return str(told["outcome"].item())


USUAL = [900.0, 1_000.0, 1_100.0, 5.0, 1_000.0, 1_000.0, 990.0]
VOLUME = Band(rule="volume", level="block", low=0.2, high=5.0)


@pytest.mark.parametrize(
    ("value", "said"),
    [(199.0, "block"), (200.0, "ok"), (5_000.0, "ok"), (5_001.0, "block"), (0.0, "block"), (None, "too few")],
)
def test_a_volume_is_held_to_multiples_of_the_median_which_one_odd_day_does_not_move(
    value: float | None, said: str
) -> None:
    assert statistics.median(USUAL) == 1_000
    assert outcome(VOLUME, value, USUAL) == said


def test_the_row_tells_the_band_and_where_it_came_from() -> None:
    (row,) = judged([VOLUME], DAY, figures("volume", 100.0), before("volume", USUAL), ()).rows(named=True)
    assert row == {
        "table": "events/click",
        "rule": "volume",
        "column": "",
        "level": "block",
        "value": 100.0,
        "usual": 1_000.0,
        "low": 200.0,
        "high": 5_000.0,
        "rows": 1_000,
        "reference_days": 7,
        "outcome": "block",
    }


def test_with_too_few_days_before_nothing_is_said_but_that() -> None:
    assert outcome(VOLUME, 1.0, USUAL[:6]) == "no baseline"
    assert outcome(VOLUME, 1.0, USUAL) == "block"
    assert outcome(Band(rule="copies", level="warn", high=0.3, least=0), 0.4, []) == "warn"
    assert outcome(Band(rule="copies", level="warn", high=0.3, least=1), 0.4, []) == "no baseline"


def test_days_that_lie_further_back_than_the_band_looks_are_no_baseline() -> None:
    band = Band(rule="volume", level="warn", low=0.5, days=7, least=3)
    assert outcome(band, 60.0, [1_000.0] * 7 + [100.0] * 7) == "ok"
    assert outcome(band, 49.0, [1_000.0] * 7 + [100.0] * 7) == "warn"


def test_a_band_of_weekdays_compares_a_monday_with_mondays() -> None:
    values = [5_000.0 if (DAY - back * ONE).weekday() == 0 else 100.0 for back in range(28, 0, -1)]
    band = Band(rule="volume", level="warn", low=0.5, high=2.0, least=4, same_weekday=True)
    (row,) = judged([band], DAY, figures("volume", 5_100.0), before("volume", values), ()).rows(named=True)
    assert (row["usual"], row["reference_days"], row["outcome"]) == (5_000.0, 4, "ok")
    assert outcome(Band(rule="volume", level="warn", low=0.5, high=2.0), 5_100.0, values) == "warn"


@pytest.mark.parametrize(("usual", "value", "said"), [(49.0, 0.0, "too few"), (50.0, 0.0, "block")])
def test_a_count_that_is_small_on_usual_days_is_left_to_chance(usual: float, value: float, said: str) -> None:
    assert outcome(VOLUME, value, [usual] * 7) == said


def test_a_rate_is_judged_where_enough_positives_should_be_there() -> None:
    band = Band(rule="positives", level="warn", low=0.5, high=2.0)
    assert outcome(band, 0.0, [0.05] * 7, rows=999) == "too few"  # 49.95 positives expected
    assert outcome(band, 0.0, [0.05] * 7, rows=1_000) == "warn"
    assert outcome(band, 0.026, [0.05] * 7) == "ok"
    assert outcome(band, 0.101, [0.05] * 7) == "warn"


def test_a_share_of_nulls_is_held_to_a_distance_above_the_usual_one() -> None:
    band = Band(rule="nulls", level="warn", high=0.25)
    assert outcome(band, 0.84, [0.6] * 7) == "ok"
    assert outcome(band, 0.86, [0.6] * 7) == "warn"
    assert outcome(band, 0.0, [0.6] * 7) == "ok"  # fewer nulls than usual are no fault


def test_a_rule_is_overridden_by_its_name_or_by_that_of_the_figure_and_only_where_it_blocks() -> None:
    bands = (VOLUME, Band(rule="volume", level="warn", low=0.5))
    for override, said in (
        ("volume", "overridden"),
        ("volume.click", "overridden"),
        ("volume.exposure", "block"),
        ("copies", "block"),
    ):
        told = judged(bands, DAY, figures("volume", 1.0), before("volume", USUAL), (override,))
        assert dict(told.select("level", "outcome").rows()) == {"block": said, "warn": "warn"}
    assert name("volume", "events/click", "") == "volume.click"


def test_a_band_is_for_all_figures_of_its_rule_or_for_those_that_it_names() -> None:
    rows = frame([("samples", "nulls", column, 1.0, 100) for column in ("price", "brand")])
    earlier = pl.concat(
        [before("nulls", [0.0] * 7, c).with_columns(table=pl.lit("samples")) for c in ("price", "brand")]
    )
    bands = (
        Band(rule="nulls", level="warn", high=0.25),
        Band(rule="nulls", level="block", high=0.25, of=("price",)),
    )
    told = judged(bands, DAY, rows, earlier, ())
    assert told.select("column", "level", "outcome").rows() == [
        ("brand", "warn", "warn"),
        ("price", "block", "block"),
        ("price", "warn", "warn"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"rule": "volume"},
        {"rule": "nulls", "low": 0.1},
        {"rule": "volume", "low": 2.0, "high": 0.5},
    ],
)
def test_a_band_that_says_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"band of (volume|nulls)"):
        Band(level="warn", **wrong)  # type: ignore[arg-type]


def test_the_bands_that_hold_by_default_let_a_day_grow_or_shrink_by_half() -> None:
    for value, said in (
        (510.0, {"ok"}),
        (1_990.0, {"ok"}),
        (400.0, {"ok", "warn"}),
        (100.0, {"block", "warn"}),
    ):
        told = judged(BANDS, DAY, figures("volume", value), before("volume", USUAL), ())
        assert set(told["outcome"]) == said


def feature(column: str, dtype: pl.DataType, encoding: Category | Dense) -> Feature:
    return Feature(name=column, expr=pl.col(column), dtype=dtype, encoding=encoding, description="A column.")


def test_nulls_nans_and_empty_lists_are_missing_and_one_value_is_a_constant() -> None:
    rows = pl.DataFrame(
        {
            "price": [1.0, None, float("nan"), 1.0],
            "tags": [[1], [], None, [2]],
            "scene": ["a", "a", "b", None],
            "gone": pl.Series([None] * 4, dtype=pl.Int64),
        }
    )
    features = [
        feature("price", pl.Float64(), Dense()),
        feature("tags", pl.List(pl.Int64()), Category(vocabulary="tag", capacity=9, length=2)),
        feature("scene", pl.String(), Category(vocabulary="scene", capacity=9)),
        feature("gone", pl.Int64(), Category(vocabulary="gone", capacity=9)),
    ]
    told = of_columns("samples", features, rows)
    by_rule = {
        rule: dict(told.filter(rule=rule).select("column", "value").rows()) for rule in ("nulls", "constant")
    }
    assert by_rule["nulls"] == {"price": 0.5, "tags": 0.5, "scene": 0.25, "gone": 1.0}
    assert by_rule["constant"] == {"price": 1.0, "tags": 0.0, "scene": 0.0, "gone": 1.0}
    assert of_columns("samples", features, rows.clear())["value"].null_count() == 8


def test_a_rate_counts_the_final_rows_of_the_objectives_own_space() -> None:
    funnel = Funnel(
        (
            Objective(name="click", log="click", window=timedelta(0)),
            Objective(name="buy", log="buy", given="click", window=timedelta(0)),
        ),
        click="click",
        conversion="buy",
    )
    buy = funnel["buy"]
    rows = pl.DataFrame(
        {
            buy.label: [1, 0, 1, 0, 1],
            buy.space: [True, True, True, False, True],
            buy.final: [True, True, False, True, True],
        }
    )
    (row,) = of_objective("samples", buy, rows).rows(named=True)
    assert (row["value"], row["rows"], row["column"]) == (pytest.approx(2 / 3), 3, "buy")
    assert of_objective("samples", buy, rows.clear())["value"].item() is None


def test_ids_are_unknown_that_own_no_row_whatever_their_type() -> None:
    def entry(vocabulary: str, id_int: int | None, id_text: str | None, row: int | None) -> dict[str, object]:
        told = {"vocabulary": vocabulary, "id_int": id_int, "id_text": id_text, "row": row}
        return dict.fromkeys(MAP_SCHEMA) | told

    large = 2**53
    known = pl.DataFrame(
        [
            entry("user", large, None, 2),
            entry("user", large + 2, None, None),  # seen, not admitted yet
            entry("scene", None, "home", 2),
            entry("other", large + 1, "basket", 3),
        ],
        schema=MAP_SCHEMA,
    )
    rows = pl.DataFrame(
        {"user": [large, large + 1, large + 2, None], "scene": ["home", "home", "basket", "home"]}
    )
    features = [
        feature("user", pl.Int64(), Category(vocabulary="user", capacity=9, admit=2)),
        feature("scene", pl.String(), Category(vocabulary="scene", capacity=9)),
    ]
    told = of_ids("samples", features, rows, known)
    assert told.select("column", "rows").rows() == [("user", 3), ("scene", 4)]
    assert np.allclose(told["value"].to_numpy(), [2 / 3, 1 / 4])
