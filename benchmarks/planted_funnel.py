"""A funnel of users and items whose pCTR and pCVR are known, with a dial for how clicks select conversions.

Shapes: U users, I items, F factors, N impressions.

Every user and every item has a leaning of its own, and factors of which a pair's affinity is the product:

``s(u, i) = sqrt((1 - a) / 2) (x_u + z_i) + sqrt(a / F) p_u q_i``,

all of them standard normal, so that a score has variance 1 over pairs, ``a`` of which no sum of a user's and
an item's part explains. Clicks have such a score ``s``, conversions mix it with another one ``s'``:

``logit pCTR = click + spread s``, ``logit pCVR = buy + spread (r s + sqrt(1 - r^2) s')``.

The selection ``r`` is the correlation of both logits over all impressions: at 0 clicked impressions convert
as the others would, at 1 what is clicked more would convert more. A conversion is drawn for every impression
and seen where it was clicked. Users come with equal chances, items too or, with a tail, as Zipf has them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Dials:
    """What kind of funnel.

    Attributes:
        users: U.
        items: I.
        click: logit of the click where both scores are 0.
        buy: logit of the conversion given the click where both scores are 0.
        spread: standard deviation of both logits over pairs.
        selection: r, correlation of both logits.
        affinity: a, share of a score's variance that belongs to the pair alone.
        tail: exponent of the items' popularity; 0 shows all of them equally often.
        factors: F.
    """

    users: int
    items: int
    click: float
    buy: float
    spread: float
    selection: float
    affinity: float
    tail: float
    factors: int = 4


@dataclass(frozen=True, eq=False)
class Impressions:
    """Rows of a world and what is true of them.

    Attributes:
        user_N: from 0.
        item_N: from 0.
        pctr_N: probability of the click.
        pcvr_N: probability of the conversion if it is clicked.
        clicked_N: drawn from pCTR, bool.
        converts_N: drawn from pCVR for every impression, bool; a log has it where it was clicked.
    """

    user_N: np.ndarray
    item_N: np.ndarray
    pctr_N: np.ndarray
    pcvr_N: np.ndarray
    clicked_N: np.ndarray
    converts_N: np.ndarray

    def __len__(self) -> int:
        return len(self.user_N)


class World:
    """Users and items of one seed; another selection changes nothing else of it."""

    def __init__(self, dials: Dials, seed: int) -> None:
        self.dials, self.seed = dials, seed
        draw = np.random.default_rng([seed, 0])
        sizes = (dials.users, dials.items)
        self._leanings = [[draw.standard_normal(size) for size in sizes] for _ in range(2)]
        self._factors = [[draw.standard_normal((size, dials.factors)) for size in sizes] for _ in range(2)]
        shown_I = np.arange(1, dials.items + 1) ** -dials.tail
        self._shown_I = shown_I / shown_I.sum()

    def impressions(self, rows: int, *, part: int) -> Impressions:
        """Rows in the order in which they happen; every ``part`` is another stream."""
        dials, draw = self.dials, np.random.default_rng([self.seed, 1 + part])
        user_N = draw.integers(dials.users, size=rows)
        item_N = draw.choice(dials.items, size=rows, p=self._shown_I)
        clicks_N, own_N = (self._score(k, user_N, item_N) for k in range(2))
        mixed_N = dials.selection * clicks_N + (1 - dials.selection**2) ** 0.5 * own_N
        pctr_N, pcvr_N = (
            _sigmoid(dials.click + dials.spread * clicks_N),
            _sigmoid(dials.buy + dials.spread * mixed_N),
        )
        clicked_N, converts_N = (draw.random(rows) < p_N for p_N in (pctr_N, pcvr_N))
        return Impressions(user_N, item_N, pctr_N, pcvr_N, clicked_N, converts_N)

    def _score(self, which: int, user_N: np.ndarray, item_N: np.ndarray) -> np.ndarray:
        x_U, z_I = self._leanings[which]
        p_UF, q_IF = self._factors[which]
        apart_N = ((1 - self.dials.affinity) / 2) ** 0.5 * (x_U[user_N] + z_I[item_N])
        affinity_N = np.einsum("nf,nf->n", p_UF[user_N], q_IF[item_N])
        found_N: np.ndarray = apart_N + (self.dials.affinity / self.dials.factors) ** 0.5 * affinity_N
        return found_N


def _sigmoid(logit_N: np.ndarray) -> np.ndarray:
    found_N: np.ndarray = 1 / (1 + np.exp(-logit_N))
    return found_N
