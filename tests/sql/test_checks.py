"""Every check selects exactly the planted offenders, and nothing from clean rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import sql
from features.engine import Limits
from features.funnel import Funnel, Objective
from features.promises import Relation, broken

FUNNEL = Funnel(
    (
        Objective(name="click", log="click", window=timedelta(hours=1)),
        Objective(name="order", log="order", given="click", window=timedelta(days=1)),
        Objective(name="like", log="like", window=timedelta(hours=1)),
    ),
    click="click",
    conversion="order",
)


@dataclass(frozen=True)
class Case:
    """A tiny table.

    Attributes:
        columns: names and types.
        clean: rows that keep the promise.
        bad: further rows that break it, some together with a clean one.
        offenders: leading columns of what the check selects, in any order.
        others: other relations that it reads: columns and rows of each.
    """

    columns: str
    clean: str
    bad: str
    offenders: list[tuple[object, ...]]
    others: dict[str, tuple[str, str]] = field(default_factory=dict)


SAMPLE = "impression_id VARCHAR, y_click TINYINT, y_order TINYINT, y_like TINYINT"
SCORE = "dt DATE, line VARCHAR, user_id BIGINT, item_id VARCHAR, request_id VARCHAR"
CASES = {
    "checks/gate_outcome_follows": Case(
        'dt DATE, line VARCHAR, "check" VARCHAR, objective VARCHAR, space VARCHAR, slice VARCHAR, '
        "over VARCHAR, measured DOUBLE, fail_limit DOUBLE, outcome VARCHAR",
        "('2026-01-05', 'a', 'auc_drop', 'click', 's', 'all', 'fresh', 0.1, 0.1, 'passed'),"
        "('2026-01-05', 'a', 'auc_drop', 'click', 's', 'all', 'fresh', 0.2, 0.1, 'failed'),"
        "('2026-01-05', 'a', 'auc', 'click', 's', 'all', 'fresh', 0.4, 0.5, 'failed'),"
        "('2026-01-05', 'a', 'auc', 'click', 's', 'all', 'fresh', 0.6, 0.5, 'warned'),"
        "('2026-01-05', 'a', 'psi', 'click', 's', 'all', 'fresh', 0.6, NULL, 'warned'),"
        "('2026-01-05', 'a', 'auc', 'click', 's', 'all', 'fresh', NULL, 0.5, 'undecided'),"
        "('2026-01-05', 'a', 'evidence', 'click', 's', 'all', 'fresh', 400, 30, 'passed')",
        "('2026-01-06', 'beyond', 'auc_drop', 'click', 's', 'all', 'fresh', 0.2, 0.1, 'warned'),"
        "('2026-01-06', 'below', 'auc', 'click', 's', 'all', 'fresh', 0.4, 0.5, 'passed'),"
        "('2026-01-06', 'within', 'auc_drop', 'click', 's', 'all', 'fresh', 0.1, 0.1, 'failed'),"
        "('2026-01-06', 'unlimited', 'psi', 'click', 's', 'all', 'fresh', 0.6, NULL, 'failed'),"
        "('2026-01-06', 'unknown', 'auc', 'click', 's', 'all', 'fresh', NULL, 0.5, 'passed')",
        [("dt", line) for line in ("beyond", "below", "within", "unlimited", "unknown")],
    ),
    "checks/gate_unique": Case(
        'dt DATE, line VARCHAR, "check" VARCHAR, objective VARCHAR, space VARCHAR, slice VARCHAR, '
        "over VARCHAR",
        "('2026-01-05', 'a', 'auc_drop', 'click', 's', 'all', 'fresh'),"
        "('2026-01-05', 'a', 'auc_drop', 'click', 's', 'all', 'earlier')",
        "('2026-01-05', 'a', 'auc_drop', 'click', 's', 'all', 'fresh')",
        [("dt", "a", "auc_drop")],
    ),
    "checks/samples_exposed_before_known": Case(
        "impression_id VARCHAR, exposed_at TIMESTAMP, arrived_at TIMESTAMP, label_as_of TIMESTAMP",
        "('same instant', '2026-01-05 10:00', '2026-01-05 10:00', '2026-01-06'),"
        "('known at the watermark', '2026-01-05 10:00', '2026-01-06', '2026-01-06')",
        "('arrived first', '2026-01-05 10:00', '2026-01-05 09:59', '2026-01-06'),"
        "('labels too old', '2026-01-05 10:00', '2026-01-06', '2026-01-05 23:59')",
        [("arrived first",), ("labels too old",)],
    ),
    "checks/samples_funnel_order": Case(
        SAMPLE,
        "('nothing', 0, 0, 0), ('all', 1, 1, 1), ('click', 1, 0, 0), ('like alone', 0, 0, 1)",
        "('order alone', 0, 1, 0), ('order and like', 0, 1, 1)",
        [("order alone", "y_order", 1), ("order and like", "y_order", 1)],
    ),
    "checks/samples_labels_known": Case(
        SAMPLE,
        "('a', 0, 0, 0), ('b', 1, 1, 1)",
        "('null', 1, NULL, 0), ('two', 2, 0, 0), ('minus', 0, 0, -1)",
        [("null", "y_order", None), ("two", "y_click", 2), ("minus", "y_like", -1)],
    ),
    "checks/samples_unique": Case(
        "impression_id VARCHAR", "('a'), ('b')", "('a'), ('c'), ('c'), ('c')", [("a", 2), ("c", 3)]
    ),
    "checks/scores_in_range": Case(
        "user_id BIGINT, item_id VARCHAR, line VARCHAR, pctr FLOAT, pcvr FLOAT, pctcvr FLOAT, p_like FLOAT, "
        "e_spend FLOAT, price FLOAT, pctr_cal FLOAT, p_like_cal FLOAT",
        "(1, 'a', 'ple', 0, 1, 0.5, 1e-30, -7, 7, 0, 1), (1, 'b', 'ple', 0, 1, 0.5, 1e-30, 7, 7, NULL, NULL)",
        "(2, 'a', 'ple', 1.1, 0.5, 0.5, 0.5, 0, 7, 1, 1), (3, 'a', 'ple', 0.5, -0.1, 0.5, 0.5, 0, 7, 1, 1),"
        "(4, 'a', 'ple', 0.5, 0.5, NULL, 'nan', NULL, 7, 1, 1),"
        "(5, 'a', 'ple', 0.5, 0.5, 0.5, 'inf', 'nan', 7, 1, 1),"
        "(6, 'a', 'ple', 0.5, 0.5, 0.5, 0.5, 0, 7, 1.1, -0.1), (7, 'a', 'ple', 0, 0, 0, 0, 0, 7, 'nan', 1)",
        [
            (2, "a", "ple", "pctr"),
            (3, "a", "ple", "pcvr"),
            (4, "a", "ple", "pctcvr"),
            (4, "a", "ple", "p_like"),
            (4, "a", "ple", "e_spend"),
            (5, "a", "ple", "p_like"),
            (5, "a", "ple", "e_spend"),
            (6, "a", "ple", "pctr_cal"),
            (6, "a", "ple", "p_like_cal"),
            (7, "a", "ple", "pctr_cal"),
        ],
    ),
    "checks/scores_joint_below_parent": Case(
        "user_id BIGINT, item_id VARCHAR, line VARCHAR, pctr FLOAT, pctcvr FLOAT",
        "(1, 'a', 'ple', 0.5, 0.5), (2, 'a', 'ple', 0.5, 0.1)",
        "(3, 'a', 'ple', 0.5, 0.50001)",
        [(3, "a", "ple")],
    ),
    "checks/scores_calibrated_below_parent": Case(
        "user_id BIGINT, item_id VARCHAR, line VARCHAR, pctr_cal FLOAT, pctcvr_cal FLOAT",
        "(1, 'a', 'ple', 0.5, 0.5), (2, 'a', 'ple', 0.5, 0.1), (2, 'b', 'ple', NULL, NULL)",
        "(3, 'a', 'ple', 0.5, 0.50001)",
        [(3, "a", "ple")],
    ),
    "checks/scores_one_calibrator": Case(
        "dt DATE, line VARCHAR, calibrator_version VARCHAR",
        "('2026-01-06', 'ple', 'x'), ('2026-01-06', 'ple', 'x'), ('2026-01-06', 'esmm', NULL)",
        "('2026-01-07', 'ple', 'x'), ('2026-01-07', 'ple', 'z'), ('2026-01-07', 'esmm', 'y'),"
        "('2026-01-07', 'esmm', NULL)",
        [("dt", "ple", 2, 0), ("dt", "esmm", 1, 1)],
    ),
    "checks/scores_keys_known": Case(
        SCORE,
        "('2026-01-06', 'ple', 1, 'a', NULL)",
        "('2026-01-06', 'ple', NULL, 'a', NULL), ('2026-01-06', 'ple', 2, NULL, 'r')",
        [("dt", "ple", None, "a"), ("dt", "ple", 2, None)],
    ),
    "checks/scores_one_model": Case(
        "dt DATE, line VARCHAR, model_version VARCHAR",
        "('2026-01-06', 'ple', 'x'), ('2026-01-06', 'ple', 'x'), ('2026-01-06', 'esmm', 'y')",
        "('2026-01-07', 'ple', 'x'), ('2026-01-07', 'ple', 'z'), ('2026-01-07', 'esmm', 'y'),"
        "('2026-01-07', 'esmm', NULL), ('2026-01-07', 'bottom', NULL)",
        [("dt", "ple", 2, 0), ("dt", "esmm", 1, 1), ("dt", "bottom", 0, 1)],
    ),
    "checks/scores_unique": Case(
        SCORE,
        "('2026-01-06', 'ple', 1, 'a', NULL), ('2026-01-06', 'ple', 1, 'b', NULL),"
        "('2026-01-06', 'esmm', 1, 'a', NULL), ('2026-01-07', 'ple', 1, 'a', NULL),"
        "('2026-01-06', 'ple', 1, 'a', 'r1'), ('2026-01-06', 'ple', 1, 'a', 'r2')",
        "('2026-01-06', 'ple', 1, 'a', NULL), ('2026-01-06', 'ple', 1, 'a', 'r2')",
        [("dt", "ple", 1, "a", None, 2), ("dt", "ple", 1, "a", "r2", 2)],
    ),
    "checks/metrics_in_range": Case(
        "dt DATE, line VARCHAR, objective VARCHAR, space VARCHAR, metric VARCHAR, value DOUBLE",
        "('2026-01-06', 'ple', 'click', 'x', 'auc', 0), ('2026-01-06', 'ple', 'click', 'x', 'gauc', 1),"
        "('2026-01-06', 'ple', 'click', 'x', 'auc', NULL), ('2026-01-06', 'ple', 'click', 'x', 'pcoc', 3),"
        "('2026-01-06', 'ple', 'click', 'x', 'ks', 0), ('2026-01-06', 'ple', 'click', 'x', 'ece', 1)",
        "('2026-01-06', 'ple', 'order', 'x', 'auc', 1.01), ('2026-01-06', 'ple', 'like', 'x', 'gauc', -0.1),"
        "('2026-01-06', 'ple', 'order', 'x', 'pcoc', 'nan'), ('2026-01-06', 'ple', 'order', 'x', 'ks', 1.1),"
        "('2026-01-06', 'ple', 'order', 'x', 'ece', -0.1),"
        "('2026-01-06', 'ple', 'order', 'x', 'gauc_unweighted', 2)",
        [
            ("dt", "ple", "order", "x", "auc"),
            ("dt", "ple", "like", "x", "gauc"),
            ("dt", "ple", "order", "x", "pcoc"),
            ("dt", "ple", "order", "x", "ks"),
            ("dt", "ple", "order", "x", "ece"),
            ("dt", "ple", "order", "x", "gauc_unweighted"),
        ],
    ),
    "checks/runs_conserve_rows": Case(
        'dt DATE, stage VARCHAR, "table" VARCHAR, rows_in BIGINT, rows_out BIGINT, quarantined BIGINT, '
        "deduplicated BIGINT",
        "('2026-01-06', 'read', 'a', 10, 7, 2, 1), ('2026-01-06', 'view', 'b', NULL, 7, 0, 0)",
        "('2026-01-06', 'read', 'lost', 10, 7, 2, 0), ('2026-01-06', 'read', 'made', 10, 8, 2, 1)",
        [("dt", "read", "lost"), ("dt", "read", "made")],
    ),
    "checks/samples_impression_known": Case(
        "impression_id VARCHAR, user_id BIGINT, item_id VARCHAR, exposed_at TIMESTAMP",
        "('a', 1, 'x', '2026-01-05 10:00')",
        "('never shown', 1, 'x', '2026-01-05 10:00'), ('b', 3, 'x', '2026-01-05 10:00'),"
        "('c', 1, 'y', '2026-01-05 10:00'), ('d', 1, 'x', '2026-01-05 11:00')",
        [("never shown", 1), ("b", 3), ("c", 1), ("d", 1)],
        {
            "impressions": (
                "impression_id VARCHAR, user_id BIGINT, item_id VARCHAR, exposed_at TIMESTAMP",
                "('a', 1, 'x', '2026-01-05 10:00'), ('b', 1, 'x', '2026-01-05 10:00'),"
                "('c', 1, 'x', '2026-01-05 10:00'), ('d', 1, 'x', '2026-01-05 10:00'),"
                "('no sample', 1, 'x', '2026-01-05 10:00')",
            )
        },
    ),
    "checks/scores_among_candidates": Case(
        SCORE,
        "('2026-01-06', 'ple', 1, 'a', NULL), ('2026-01-06', 'esmm', 1, 'a', NULL)",
        "('2026-01-06', 'ple', 2, 'a', NULL), ('2026-01-06', 'ple', 1, 'b', NULL),"
        "('2026-01-07', 'ple', 1, 'a', NULL)",
        [("dt", "ple", 2, "a"), ("dt", "ple", 1, "b"), ("dt", "ple", 1, "a")],
        {
            "candidate_users": ("dt DATE, user_id BIGINT", "('2026-01-06', 1), ('2026-01-07', 2)"),
            "candidate_items": (
                "dt DATE, item_id VARCHAR",
                "('2026-01-06', 'a'), ('2026-01-06', 'c'), ('2026-01-07', 'a')",
            ),
        },
    ),
    "checks/scores_model_known": Case(
        "dt DATE, line VARCHAR, model_version VARCHAR",
        "('2026-01-06', 'ple', 'x'), ('2026-01-06', 'ple', 'x')",
        "('2026-01-06', 'esmm', 'x'), ('2026-01-06', 'ple', 'z'), ('2026-01-06', 'ple', 'z')",
        [("dt", "esmm", "x"), ("dt", "ple", "z")],
        {"models": ("line VARCHAR, model_version VARCHAR", "('ple', 'x'), ('esmm', 'y')")},
    ),
    "checks/metrics_unique": Case(
        "dt DATE, line VARCHAR, objective VARCHAR, space VARCHAR, slice VARCHAR, metric VARCHAR",
        "('2026-01-06', 'ple', 'click', 'x', 'all', 'auc'),"
        "('2026-01-06', 'ple', 'click', 'x', 'all', 'gauc')",
        "('2026-01-06', 'ple', 'click', 'x', 'all', 'auc'),"
        "('2026-01-07', 'ple', 'click', 'x', 'all', 'auc'),"
        "('2026-01-06', 'ple', 'click', 'x', 'new', 'auc')",
        [("dt", "ple", "click", "x", "all", "auc", 2)],
    ),
    "checks/id_maps_row_unique": Case(
        'dt DATE, vocabulary VARCHAR, "row" INTEGER',
        "('2026-01-06', 'user', 2), ('2026-01-06', 'item', 2), ('2026-01-07', 'user', 2),"
        "('2026-01-06', 'user', NULL), ('2026-01-06', 'user', NULL)",
        "('2026-01-06', 'item', 3), ('2026-01-06', 'item', 3)",
        [("dt", "item", 3, 2)],
    ),
}
CHECKS = [name for name in sql.names() if name.startswith("checks/")]


def selected(name: str, *values: str) -> list[tuple[object, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE this ({CASES[name].columns})")
        connection.execute(f"INSERT INTO this VALUES {', '.join(values)}")
        for other, (columns, rows) in CASES[name].others.items():
            connection.execute(f"CREATE TABLE {other} ({columns})")
            connection.execute(f"INSERT INTO {other} VALUES {rows}")
        connection.execute('CREATE TABLE funnel (objective VARCHAR, "given" VARCHAR)')
        connection.executemany("INSERT INTO funnel VALUES (?, ?)", [(o.name, o.given) for o in FUNNEL])
        return connection.sql(sql.load(name).text).fetchall()


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_has_a_case_here(name: str) -> None:
    assert name in CASES


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_check_selects_nothing_from_clean_rows(name: str) -> None:
    assert selected(name, CASES[name].clean) == []


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_check_selects_exactly_the_offenders(name: str) -> None:
    case = CASES[name]
    found = selected(name, case.clean, case.bad)
    wide = len(case.offenders[0])
    # Days stand for themselves: all cases are of one week, and the rest of the row tells them apart.
    shown = [tuple("dt" if hasattr(v, "isoformat") else v for v in row[:wide]) for row in found]
    assert sorted(shown, key=repr) == sorted(case.offenders, key=repr)


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_check_names_the_relations_that_it_reads(name: str) -> None:
    told = sql.load(name).header.get("reads", "").replace(",", " ").split()
    assert sorted(told) == sorted(CASES[name].others)


def test_offenders_are_counted_over_all_files_and_three_are_shown(tmp_path: Path) -> None:
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    with duckdb.connect() as connection:
        for number, file in enumerate(files):
            connection.sql(
                f"SELECT 'i' || range AS impression_id, 0::TINYINT AS y_click, 1::TINYINT AS y_order, "
                f"0::TINYINT AS y_like, TIMESTAMP '2026-01-05' AS exposed_at, 1 AS user_id, 'x' AS item_id, "
                f"TIMESTAMP '2026-01-05' AS arrived_at, TIMESTAMP '2026-01-06' AS label_as_of "
                f"FROM range({5 * number}, {5 * number + 5})"
            ).write_parquet(str(file))
    limits = Limits(memory="500MB", threads=2, scratch=tmp_path / "scratch")
    shown = Relation(pa.schema([]), ((tuple(files), "impression_id, user_id, item_id, exposed_at"),))
    (offence,) = broken("samples", files, FUNNEL, limits, relations={"impressions": shown})
    assert (offence.check, offence.offenders) == ("checks/samples_funnel_order", 10)
    assert len(offence.examples) == 3
    assert all("label=y_order, y=1, parent=y_click, parent_y=0" in text for text in offence.examples)
    assert list((tmp_path / "scratch").iterdir()) == []
    assert broken("samples", [], FUNNEL, limits, relations={}) == ()


def test_a_relation_is_all_its_parts_each_in_its_own_words_and_may_be_empty(tmp_path: Path) -> None:
    score, log = tmp_path / "score.parquet", tmp_path / "log.parquet"
    with duckdb.connect() as connection:
        connection.sql(
            "SELECT DATE '2026-01-06' AS dt, 'ple' AS line, range AS user_id, 'a' AS item_id, NULL::VARCHAR "
            "AS request_id, 'x' AS model_version, 0.5::FLOAT AS pctr, 0.5::FLOAT AS pctcvr, "
            "0.5::FLOAT AS pctr_cal, 0.5::FLOAT AS pctcvr_cal, 'c' AS calibrator_version FROM range(4)"
        ).write_parquet(str(score))
        connection.sql("SELECT unnest([1, 1, 2]) AS user_id, 'a' AS item_id").write_parquet(str(log))
    limits = Limits(memory="500MB", threads=2, scratch=tmp_path / "scratch")
    users = Relation(
        pa.schema([]),
        (((log,), "DATE '2026-01-06' AS dt, user_id"), ((score,), "dt, 0 AS user_id"), ((), "nothing")),
    )
    items = Relation(pa.schema([]), (((log,), "DATE '2026-01-06' AS dt, item_id"),))
    models = Relation(pa.schema([("line", pa.string()), ("model_version", pa.string())]), (((), "*"),))
    given = {"candidate_users": users, "candidate_items": items, "models": models}
    found = {one.check: one for one in broken("scores", [score], FUNNEL, limits, relations=given)}
    assert set(found) == {"checks/scores_among_candidates", "checks/scores_model_known"}
    assert found["checks/scores_among_candidates"].offenders == 1
    assert "user_id=3" in found["checks/scores_among_candidates"].examples[0]
