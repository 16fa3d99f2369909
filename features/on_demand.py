"""Features on demand: expressions over what the request brings along and what the views say of its entities.

They are computed when rows meet their views, of a sample and of a candidate by the same call, and never
stored with a view: the price of a product over what its user pays is known of neither alone.

Values are what Polars makes of them: a null among the inputs makes most results null, and a division by
zero is no null but an infinity, which the contract of the samples refuses. So write
``pl.when(pl.col("x") > 0).then(...)`` around a quotient. A result that is null becomes the feature's default,
if it has one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

import polars as pl

from features.errors import UsageError
from features.view import Feature

#: In the place of a view's name: features that follow from those of the request and of the views.
ON_DEMAND = "on_demand"


def add_on_demand(rows: pl.LazyFrame, features: Iterable[Feature]) -> pl.LazyFrame:
    """Add the features on demand, in their order; the one path for training and for scoring.

    Args:
        rows: with the features of the request and of all views; (N, C).
        features: as ``check_on_demand`` accepts them; each may read those before it.

    Returns:
        The same rows in their order, with a column per feature behind the others.
    """
    for feature in features:
        value = feature.expr.cast(feature.dtype)
        if feature.default is not None:
            value = value.fill_null(pl.lit(feature.default, dtype=feature.dtype))
        rows = rows.with_columns(value.alias(feature.name))
    return rows


def inputs(feature: Feature) -> tuple[str, ...]:
    """The columns that a feature reads, once each."""
    return tuple(dict.fromkeys(feature.expr.meta.root_names()))


def check_on_demand(
    features: Iterable[Feature],
    known: Mapping[str, pl.DataType],
    *,
    afterwards: Collection[str],
    of_impressions: Collection[str],
) -> None:
    """Hold features on demand to rows of which each is computed alone, from what is known of it in time.

    Args:
        features: in the order in which they are computed.
        known: columns that a sample and a candidate have alike, with their types.
        afterwards: columns that are known only after the exposure, such as labels.
        of_impressions: columns that a candidate does not have, such as the instant of the exposure.

    Raises:
        UsageError: a feature reads or is named like a column that it may not, does not name its columns one
            by one, or is no value of each row by itself; names the feature, the column and the next step.
    """
    types = dict(known)
    taken = {*known, *afterwards, *of_impressions}
    for feature in features:
        where = f"feature on demand {feature.name!r}"
        if feature.name in taken:
            raise UsageError(where, "there is such a column already", "rename the feature")
        for column in inputs(feature):
            if column in types:
                continue
            if column in afterwards:
                found, step = "is known only after the exposure", "read what is known before it"
            elif column in of_impressions:
                found = "is a column of impressions that candidates do not have"
                step = "let the logs of both bring what is needed along as a column of the request"
            else:
                near = get_close_matches(column, types, n=1)
                found = "is no column of the request, of a view, or of a feature on demand declared before"
                step = f"did you mean {near[0]!r}" if near else f"read some of {', '.join(sorted(types))}"
            raise UsageError(where, f"reads {column!r}, which {found}", step)
        _check_expression(feature, types, where)
        types[feature.name] = feature.dtype
        taken.add(feature.name)


def _check_expression(feature: Feature, types: Mapping[str, pl.DataType], where: str) -> None:
    """Refuse what is no value of each row by itself; ``types`` has all columns that it reads."""
    if not inputs(feature) or feature.expr.meta.has_multiple_outputs():
        raise UsageError(where, "does not name the columns that it reads", "name each with pl.col")
    if '"AnonymousFunction"' in feature.expr.meta.serialize(format="json"):
        raise UsageError(where, "calls Python code, which no version covers", "use Polars' own expressions")
    rows = pl.LazyFrame(schema={name: types[name] for name in inputs(feature)})
    try:
        made = add_on_demand(rows, [feature])
        made.collect()
    except pl.exceptions.PolarsError as error:
        raise UsageError(where, f"Polars cannot compute it: {error}", "correct the expression") from error
    if not _is_row_wise(made):
        raise UsageError(
            where,
            "reads other rows than its own (an aggregate, a window, an order or a position)",
            "put what is said of many rows into a view, and read that",
        )


def _is_row_wise(made: pl.LazyFrame) -> bool:
    """Whether Polars knows that a part of the rows has the values that it has among all.

    Its optimizer cuts rows off before the expressions are computed exactly if every one is elementwise.
    """
    return not made.slice(1, 1).explain().lstrip().startswith("SLICE")
