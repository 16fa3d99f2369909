"""What a row of a table must be like, how bad it is if it is not, and which rows are not.

A contract looks at one row at a time, and at whether the next one repeats its grain. What needs other rows
or other tables is a promise, a query under ``sql/checks`` (`features.promises`). A rule has one of three
levels:

* ``fail``: nothing of the partition is committed.
* ``quarantine``: the row leaves the table, is kept with a reason code, and is counted.
* ``warn``: the row stays; the day's record says how many there are.

A row that is quarantined is not held to the rules that fail: it is not in the table any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import dataframely as dy
import polars as pl

Level = Literal["warn", "quarantine", "fail"]

#: Rows in memory at a time.
BLOCK = 131_072
#: Name of the rule that no two rows share the grain.
GRAIN = "grain"
#: What the library's rules say of a column, by the end of their names.
_WORDS = {
    "nullability": "is never null",
    "nan": "is a number",
    "inf": "is finite",
    "min": "is not below its least value",
    "max": "is not above its greatest value",
    "min_exclusive": "is above its least value",
    "max_exclusive": "is below its greatest value",
}


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The rules of one table.

    Attributes:
        table: name of the table.
        schema: columns with type, nullability and range, and rules over several columns of a row.
        rules: the schema's rules as the library names them (``price|min`` for a column, ``name`` for a
            row); true or null for a row that keeps it.
        grain: columns that tell rows apart in the whole table, partition columns included. Empty where two
            rows may be equal.
        ordered: whether the files are ordered by the grain, so that rows that share it are neighbours. Where
            they are not, its uniqueness is a promise.
        levels: level of a rule by its name; a rule that is not named fails.
        max_quarantined: share of quarantined rows above which the partition fails.
    """

    table: str
    schema: type[dy.Schema]
    rules: Mapping[str, pl.Expr]
    grain: tuple[str, ...] = ()
    ordered: bool = False
    levels: Mapping[str, Level] = field(default_factory=dict)
    max_quarantined: float = 0.05

    def level(self, rule: str) -> Level:
        """How bad it is to break the rule."""
        return self.levels.get(rule, "fail")

    @property
    def definition(self) -> tuple[str, ...]:
        """The rules that decide which rows the table holds, as text that is the same in every process."""
        return tuple(
            f"{name} {rule.meta.serialize(format='json')}"
            for name, rule in self.rules.items()
            if self.level(name) == "quarantine"
        )


@dataclass(frozen=True)
class Breach:
    """Rows of a table that break one rule.

    Attributes:
        table: name of the table.
        rule: name of the rule.
        level: its level.
        rows: how many rows break it.
        example: the first of them: the columns of the grain and those of the rule, as text.
    """

    table: str
    rule: str
    level: Level
    rows: int
    example: str

    @property
    def says(self) -> str:
        """The rule in words."""
        if self.rule == GRAIN:
            return "no two rows have the same grain"
        column, bar, kind = self.rule.partition("|")
        if not bar:
            return self.rule.replace("_", " ")
        return f"{column} {_WORDS.get(kind) or kind.removeprefix('check__').replace('_', ' ')}"


def reason(rule: str) -> str:
    """Reason code of a quarantined row.

    >>> reason("price|min")
    'PRICE_MIN'
    """
    return rule.replace("|check__", "_").replace("|", "_").upper()


def breaches(
    contract: Contract, blocks: Iterable[pl.DataFrame], levels: tuple[Level, ...]
) -> tuple[Breach, ...]:
    """The rules of these levels that rows break, in the order of the contract.

    Args:
        contract: of the table.
        blocks: the rows, with the partition columns that the contract knows; one block in memory at a time.
        levels: levels to hold the rows to.
    """
    rows: dict[str, int] = {}
    examples: dict[str, str] = {}

    def count(name: str, offenders: pl.DataFrame) -> None:
        if not offenders.is_empty():
            rows[name] = rows.get(name, 0) + offenders.height
            examples.setdefault(name, _example(contract, name, offenders))

    before: pl.DataFrame | None = None
    for block in blocks:
        for name, offenders in _offenders(contract, block, levels):
            count(name, offenders)
        if contract.ordered and "fail" in levels:
            keys = block.select(contract.grain)
            count(GRAIN, _repeated(keys if before is None else pl.concat([before, keys])))
            before = keys.tail(1)
    return tuple(
        Breach(contract.table, name, contract.level(name), rows[name], examples[name])
        for name in (*contract.rules, GRAIN)
        if name in rows
    )


def refused(contract: Contract, block: pl.DataFrame) -> pl.DataFrame:
    """The rows of a block that the contract quarantines: their columns, then ``reason``.

    A row that breaks several rules has the reason of the first.
    """
    broken, rules = _broken(contract, block, ("quarantine",))
    why = [pl.when(~pl.col(name)).then(pl.lit(reason(name))) for name in rules]
    first = pl.coalesce(why) if why else pl.lit(None, dtype=pl.String())
    return broken.select(*block.columns, first.alias("reason"))


def accepted(contract: Contract, block: pl.DataFrame) -> pl.DataFrame:
    """The rows of a block that stay, in their order."""
    rules = [rule.fill_null(True) for name, rule in contract.rules.items()
             if contract.level(name) == "quarantine"]  # fmt: skip
    return block.filter(pl.all_horizontal(rules)) if rules else block


def _offenders(
    contract: Contract, block: pl.DataFrame, levels: tuple[Level, ...]
) -> Iterator[tuple[str, pl.DataFrame]]:
    broken, rules = _broken(contract, block, (*levels, "quarantine"))
    left = [~pl.col(name) for name in rules if contract.level(name) == "quarantine"]
    leaves = pl.any_horizontal(pl.lit(False), *left)
    for name in rules:
        level = contract.level(name)
        if level in levels:
            yield name, broken.filter(~pl.col(name) if level == "quarantine" else ~pl.col(name) & ~leaves)


def _repeated(keys: pl.DataFrame) -> pl.DataFrame:
    """Rows that equal the one before them; null equals null."""
    same = [pl.col(name).eq_missing(pl.col(name).shift()) for name in keys.columns]
    return keys.filter(pl.all_horizontal(same) & (pl.int_range(pl.len()) > 0))


def _broken(
    contract: Contract, block: pl.DataFrame, levels: tuple[Level, ...]
) -> tuple[pl.DataFrame, list[str]]:
    """The rows that break a rule of these levels, with one more column for each such rule, false where it is.

    Nearly always no row does. So whether any does is asked of all rules at once, and of that nothing is kept
    but the names of the broken ones, which come second.
    """
    columns = block.select(contract.schema.column_names())
    if columns.schema != pl.Schema(contract.schema):
        contract.schema.validate(columns)  # raises, and names the columns
    kept = {
        name: rule.fill_null(True) for name, rule in contract.rules.items() if contract.level(name) in levels
    }
    whole = columns.select(rule.all().alias(name) for name, rule in kept.items())
    broken = [name for name in whole.columns if not whole[name].item()]
    told = block.with_columns(kept[name].alias(name) for name in broken)
    return told.filter(~pl.all_horizontal(broken)) if broken else told.clear(), broken


def _example(contract: Contract, rule: str, offenders: pl.DataFrame) -> str:
    read = [] if rule == GRAIN else contract.rules[rule].meta.root_names()
    shown = dict.fromkeys(name for name in (*contract.grain, *read) if name in offenders.columns)
    row = offenders.select(list(shown)).row(0, named=True)
    return ", ".join(f"{name}={value}" for name, value in row.items())
