"""A contract in the making: columns from the types of a table, limits and rules added one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dataframely as dy
import polars as pl

from features.tables import Table
from features.validation.contract import Contract, Level


@dataclass
class Draft:
    """A contract in the making.

    Attributes:
        table: the table; its schema gives names and types.
        columns: limits of columns, as keyword arguments of the library's column.
        rows: rules over several columns of a row, by name.
        levels: level of a rule that does not fail, by name.
    """

    table: Table
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, pl.Expr] = field(default_factory=dict)
    levels: dict[str, Level] = field(default_factory=dict)

    def needs(self, *names: str) -> None:
        """Columns that are never null."""
        for name in names:
            if name in self.table.all_columns.names:
                self.columns.setdefault(name, {})["nullable"] = False

    def limit(self, name: str, limits: Mapping[str, Any], level: Level = "fail") -> None:
        """Limits of a column's values; a row beyond them is bad at this level."""
        if name in self.table.all_columns.names:
            self.columns.setdefault(name, {}).update(limits)
            self.levels |= {f"{name}|{kind}": level for kind in (*limits, "nan", "inf") if level != "fail"}
            if level != "fail" and limits.get("nullable") is False:
                self.levels[f"{name}|nullability"] = level

    def rule(self, name: str, holds: pl.Expr, level: Level = "fail") -> None:
        """A rule over several columns of a row."""
        self.rows[name] = holds
        if level != "fail":
            self.levels[name] = level

    def finish(self, *grain: str, max_quarantined: float = 0.05) -> Contract:
        """The contract.

        Args:
            grain: columns that tell rows apart, partition columns included.
            max_quarantined: share of quarantined rows above which a partition fails.
        """
        empty = pl.DataFrame(self.table.all_columns.empty_table())
        columns = {name: column(kind, self.columns.get(name, {})) for name, kind in empty.schema.items()}
        over_rows = {name: dy.rule()(_constantly(holds)) for name, holds in self.rows.items()}
        schema = type(self.table.name.replace("/", "_"), (dy.Schema,), {**columns, **over_rows})
        assert issubclass(schema, dy.Schema)  # noqa: S101 - for the type checker
        of_columns = {
            f"{name}|{kind}": holds
            for name, one in columns.items()
            for kind, holds in one.validation_rules(pl.col(name)).items()
        }
        return Contract(
            table=self.table.name,
            schema=schema,
            rules={**self.rows, **of_columns},
            grain=grain,
            ordered=bool(grain) and set(grain) == {*self.table.partition_by, *self.table.sort_by},
            levels=self.levels,
            max_quarantined=max_quarantined,
        )


def _constantly(holds: pl.Expr) -> Callable[[Any], pl.Expr]:
    """The library asks a function of the schema class for a rule over a row."""
    return lambda _: holds


def column(kind: pl.DataType, limits: Mapping[str, Any]) -> dy.Column:
    """The library's column of a type; nullable unless it is said not to be."""
    told = {"nullable": True, **limits}
    if isinstance(kind, pl.List):
        inner = kind.inner
        assert isinstance(inner, pl.DataType)  # noqa: S101 - of a frame's schema it is an instance
        return dy.List(column(inner, {}), **told)
    if kind.is_float():
        told |= {"allow_nan": False, "allow_inf": False}
    if isinstance(kind, pl.Datetime):
        return dy.Datetime(time_unit=kind.time_unit, **told)
    return _TYPES[type(kind)](**told)


_TYPES: Mapping[type[pl.DataType], Callable[..., dy.Column]] = {
    pl.Boolean: dy.Bool,
    pl.Int8: dy.Int8,
    pl.Int16: dy.Int16,
    pl.Int32: dy.Int32,
    pl.Int64: dy.Int64,
    pl.Float32: dy.Float32,
    pl.Float64: dy.Float64,
    pl.Date: dy.Date,
    pl.String: dy.String,
    pl.Binary: dy.Binary,
}
