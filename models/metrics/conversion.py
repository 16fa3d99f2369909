"""The three numbers that papers call "CVR AUC", each by its own name; B impressions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.metrics.ranking import auc
from models.metrics.rows import Vector


@dataclass(frozen=True)
class ConversionAUC:
    """AUC of conversions; each is ``None`` where its rows have one class.

    Attributes:
        pcvr_on_clicks: conditional probability, clicked rows only: space ``given_<parent>`` of ``evaluate``.
            What a model of clicked rows can be held to; blind to rows that were not clicked.
        pcvr_over_impressions: conditional probability against click and conversion, all rows: space
            ``conditional_over_impressions``. An unclicked row is a negative, whatever it would have led to.
        pctcvr_over_impressions: joint probability against click and conversion, all rows: space
            ``impressions``. What a ranking by click and conversion is held to; mostly clicks decide it.
    """

    pcvr_on_clicks: float | None
    pcvr_over_impressions: float | None
    pctcvr_over_impressions: float | None


def conversion_auc(clicked: Vector, converted: Vector, pcvr: Vector, pctcvr: Vector) -> ConversionAUC:
    """All three.

    Args:
        clicked: 0 or 1, of shape (B,) as all that follows.
        converted: 0 or 1; 0 wherever there was no click.
        pcvr: probability of the conversion given the click.
        pctcvr: probability of both.

    Raises:
        ValueError: a conversion without its click, or as of ``auc``.
    """
    clicked_B, converted_B, pcvr_B = np.asarray(clicked) == 1, np.asarray(converted), np.asarray(pcvr)
    if (converted_B[~clicked_B] != 0).any():
        raise ValueError("A conversion without its click.")
    return ConversionAUC(
        auc(converted_B[clicked_B], pcvr_B[clicked_B]), auc(converted_B, pcvr_B), auc(converted_B, pctcvr)
    )
