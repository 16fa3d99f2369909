"""The first layer of networks whose input is held by vocabulary, as one node of the graph.

Shapes: B rows, S small fields, V ids of vocabularies of one size, T of all, D numbers per vector, X columns
of the input, Y columns of it that are held row by row, W outputs of all networks side by side, O of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.folded import Folded, Places
from models.relu import masked, relu_
from models.relu_networks import added_layer, working_dtype


@dataclass(frozen=True, eq=False)
class First:
    """First layers of networks that lie side by side.

    Attributes:
        weight_XW: their weights.
        bias_W: their biases, if they have some.
        widths: O of every network; their sum is W.
        relu: whether they end in ReLU.
    """

    weight_XW: Tensor
    bias_W: Tensor | None
    widths: Sequence[int]
    relu: bool


def first_layers(x: Folded, asked: Sequence[First]) -> list[tuple[Tensor, ...]]:
    """Outputs of networks that read the same input, each of shape (B, O), as they were asked for.

    ``x W`` is the sum of what the columns of every field make of their rows of ``W``. For a field of few
    ids that is computed once per id, and a row adds up what its ids have; backward, the gradients of the
    rows of an id are added up before they are multiplied.
    """
    parameters = (parameter for one in asked for parameter in (one.weight_XW, one.bias_W))
    how = working_dtype(x.rest_BY), x.places, [(tuple(one.widths), one.relu) for one in asked]
    outputs = iter(_FirstLayers.apply(*how, x.vectors_TD, x.rest_BY, *parameters))  # type: ignore[no-untyped-call]
    return [tuple(islice(outputs, len(one.widths))) for one in asked]


class _FirstLayers(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - torch's own
        dtype: torch.dtype,
        places: Places,
        asked: Sequence[tuple[Sequence[int], bool]],
        of_vectors_TD: Tensor,
        of_rest_BY: Tensor,
        *parameters: Tensor | None,
    ) -> tuple[Tensor, ...]:
        fold, networks = places.fold, [*_networks(asked)]
        vectors_TD, rest_BY = of_vectors_TD.to(dtype), of_rest_BY.to(dtype)
        weight_XW = _side_by_side([weight for weight in parameters[::2] if weight is not None], dtype)
        weight_SDW = weight_XW.index_select(0, fold.columns_Z).view(len(fold.fields), fold.dim, -1)
        of_id_TW = vectors_TD.new_empty(len(vectors_TD), weight_XW.shape[1])
        for ids, fields in fold.by_size:
            of_id_SVW = _by_field(of_id_TW[ids], fields)
            torch.bmm(_by_field(vectors_TD[ids], fields), weight_SDW[fields], out=of_id_SVW)
        outputs, weights = [], []
        weight_YW = weight_XW.index_select(0, fold.columns_Y)
        for part, own, cut, relu in networks:
            bias_W = parameters[2 * part + 1]
            bias_O = None if bias_W is None else bias_W[own].to(dtype)
            by_id_BO = functional.embedding_bag(places.at_BS, of_id_TW[:, cut].contiguous(), mode="sum")
            weights.append(weight_YW[:, cut].contiguous())
            output_BO = added_layer(rest_BY, weights[-1], bias_O, by_id_BO)
            outputs.append(relu_(output_BO) if relu else output_BO)
        ctx.save_for_backward(vectors_TD, rest_BY, weight_SDW, *weights, *outputs)
        ctx.places, ctx.networks, ctx.dtypes = places, networks, (of_vectors_TD.dtype, of_rest_BY.dtype)
        ctx.parameters = [None if told is None else (told.shape, told.dtype) for told in parameters]
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        vectors_TD, rest_BY, weight_SDW, *saved = ctx.saved_tensors
        weights, outputs = saved[: len(grads)], saved[len(grads) :]
        places, fold = ctx.places, ctx.places.fold
        grad_BY, grad_TD = torch.empty_like(rest_BY), torch.empty_like(vectors_TD)
        own_TW, own_SDW = grad_TD.new_empty(len(grad_TD), weight_SDW.shape[2]), torch.empty_like(weight_SDW)
        found = [told and rest_BY.new_empty(told[0], dtype=told[1]) for told in ctx.parameters]
        for n, (part, own, cut, relu) in enumerate(ctx.networks):
            grad_BO = masked(grads[n], outputs[n]) if relu else grads[n].contiguous()
            own_TW[:, cut] = functional.embedding_bag(places.rows_N, grad_BO, places.start_T, mode="sum")
            found[2 * part][fold.columns_Y, own] = (rest_BY.T @ grad_BO).to(found[2 * part].dtype)
            if (bias_W := found[2 * part + 1]) is not None:
                bias_W[own] = grad_BO.sum(dim=0)
            grad_BY.addmm_(grad_BO, weights[n].T, beta=1 if n else 0)
            del grad_BO  # its place is the next one's
        for ids, fields in fold.by_size:
            ids_SVW = _by_field(own_TW[ids], fields)
            torch.bmm(_by_field(vectors_TD[ids], fields).mT, ids_SVW, out=own_SDW[fields])
            torch.bmm(ids_SVW, weight_SDW[fields].mT, out=_by_field(grad_TD[ids], fields))
        own_ZW = own_SDW.flatten(0, 1).split_with_sizes([len(weight_XW.T) for weight_XW in found[::2]], dim=1)
        for weight_XW, of_fields_ZW in zip(found[::2], own_ZW, strict=True):
            weight_XW.index_copy_(0, fold.columns_Z, of_fields_ZW.to(weight_XW.dtype))
        of_vectors, of_rest = ctx.dtypes
        return None, None, None, grad_TD.to(of_vectors), grad_BY.to(of_rest), *found


def _networks(asked: Sequence[tuple[Sequence[int], bool]]) -> Iterator[tuple[int, slice, slice, bool]]:
    """Of every network which part it is of, its columns there and among all W, and whether it has ReLU."""
    everywhere = 0
    for part, (widths, relu) in enumerate(asked):
        own = 0
        for width in widths:
            yield part, slice(own, own + width), slice(everywhere, everywhere + width), relu
            own, everywhere = own + width, everywhere + width


def _side_by_side(weights: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """Weights as one, rounded in the same pass, shape (X, W)."""
    sizes = [weight_XW.shape[1] for weight_XW in weights]
    whole_XW = weights[0].new_empty(len(weights[0]), sum(sizes), dtype=dtype)
    for part_XW, weight_XW in zip(whole_XW.split_with_sizes(sizes, dim=1), weights, strict=True):
        part_XW.copy_(weight_XW)
    return whole_XW


def _by_field(of_ids: Tensor, fields: slice) -> Tensor:
    """What there is of ids, field by field, shape (S, V, ...)."""
    return of_ids.view(fields.stop - fields.start, -1, of_ids.shape[1])
