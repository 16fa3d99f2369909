"""When a label can no longer change: by the clock alone, and once for every impression."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.funnel import Funnel, Objective
from features.labels import finality, newly_final

T0 = datetime(2026, 1, 5)
HOUR = timedelta(hours=1)


def funnel(click: int, order: int) -> Funnel:
    return Funnel(
        (
            Objective(name="click", log="click", window=click * HOUR),
            Objective(name="order", log="order", given="click", window=order * HOUR),
        ),
        click="click",
        conversion="order",
    )


def rows(*hours: tuple[int, int]) -> pl.DataFrame:
    """Impressions by their hour of exposure and of arrival."""
    return pl.DataFrame(
        {
            "id": range(len(hours)),
            "exposed_at": [T0 + exposed * HOUR for exposed, _ in hours],
            "arrived_at": [T0 + arrived * HOUR for _, arrived in hours],
        },
        schema={"id": pl.Int64, "exposed_at": pl.Datetime("us"), "arrived_at": pl.Datetime("us")},
    )


def flags(frame: pl.DataFrame, declared: Funnel, lateness: int, watermark: int) -> list[tuple[bool, ...]]:
    return frame.select(finality(declared, lateness * HOUR, T0 + watermark * HOUR)).rows()


@pytest.mark.parametrize("label", [0, 1])
def test_a_label_is_final_when_its_window_has_closed_whatever_its_value(label: int) -> None:
    """A29 to A32: windows of 1 h and 24 h, lateness 1 h; a positive waits like the negatives of its hour."""
    frame = rows((0, 0)).with_columns(y_click=pl.lit(label), y_order=pl.lit(label))
    declared = funnel(1, 24)
    assert flags(frame, declared, 1, 1) == [(False, False)]
    assert flags(frame, declared, 1, 3) == [(True, False)]
    assert flags(frame, declared, 1, 27) == [(True, True)]


def test_what_can_happen_at_the_watermark_itself_is_still_open() -> None:
    """An event at the last instant of the window is in it, and a run knows what came before its watermark."""
    frame, declared = rows((0, 0)), funnel(1, 0)
    assert flags(frame, declared, 0, 1) == [(False, False)]
    just_after = T0 + HOUR + timedelta(microseconds=1)
    assert frame.select(finality(declared, timedelta(0), just_after)).rows() == [(True, True)]


def test_an_impression_is_not_final_before_it_has_arrived() -> None:
    assert flags(rows((0, 5)), funnel(0, 0), 0, 5) == [(False, False)]
    assert flags(rows((0, 5)), funnel(0, 0), 0, 6) == [(True, True)]


def test_an_impression_that_comes_with_the_next_day_trains_in_the_next_run() -> None:
    """Every window is zero; the row arrives at the watermark of the run that did not know it."""
    frame, declared = rows((23, 24)), funnel(0, 0)

    def trains(since: int, until: int) -> bool:
        chosen = newly_final(declared, "order", timedelta(0), T0 + since * HOUR, T0 + until * HOUR)
        return bool(frame.select(chosen).item())

    assert [trains(0, 24), trains(24, 48), trains(48, 72)] == [False, True, False]


IMPRESSIONS = st.lists(
    st.tuples(st.integers(0, 48), st.sampled_from([0, 0, 1, 5, 24])), min_size=1, max_size=20
)


@settings(max_examples=100, deadline=None)
@given(
    IMPRESSIONS,
    st.sets(st.integers(1, 120), max_size=6),
    st.sampled_from([0, 1, 24]),
    st.sampled_from([0, 2, 48]),
    st.sampled_from([0, 1, 3]),
)
def test_over_any_chain_of_watermarks_every_impression_trains_every_objective_once(
    hours: list[tuple[int, int]], marks: set[int], click: int, order: int, lateness: int
) -> None:
    """A run sees the impressions that arrived before its watermark, and trains those that became final."""
    frame, declared = rows(*((at, at + late) for at, late in hours)), funnel(click, order)
    chain = [0, *sorted(marks), 1_000]
    for name in declared.names:
        trained: list[int] = []
        for since, until in pairwise(chain):
            begin, end = T0 + since * HOUR, T0 + until * HOUR
            known = frame.filter(pl.col("arrived_at") < end)
            chosen = known.filter(newly_final(declared, name, lateness * HOUR, begin, end))
            final = chosen.select(finality(declared, lateness * HOUR, end)).get_column(f"final_{name}")
            assert final.all()
            trained += chosen["id"].to_list()
        assert sorted(trained) == frame["id"].to_list()


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 12),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 16),
    st.integers(0, 20),
    st.integers(0, 24),
)
def test_a_final_label_cannot_change_any_more(
    exposed: int, click: int, order: int, acted: int, bought: int, watermark: int
) -> None:
    """An event at or after the watermark belongs to the impression only if its label was still open."""
    final_click, final_order = flags(rows((exposed, exposed)), funnel(click, order), 0, watermark)[0]
    clicked = exposed <= acted <= exposed + click
    if clicked and acted >= watermark:
        assert not final_click
    if clicked and acted <= bought <= acted + order and bought >= watermark:
        assert not final_order
