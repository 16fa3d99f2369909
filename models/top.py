"""The best items of every user, kept while pairs stream by.

Shapes: U users of a block, N kept items of a user, J items that are offered.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_LOW = (1 << 32) - 1


class Top:
    """Up to N items of each user, by falling score; equal scores by the place of the item.

    Score and place are one integer: floats that are not negative have the order of their bits, and the place
    below, counted down, decides between equals. So the order is total, and it does not matter in which parts
    the items come. A NaN comes first, where it is seen.

    Args:
        users: U.
        count: N.
        by: score column that decides; a probability.

    Attributes:
        scores: by score column, of the kept items from the best on, float32 of shape (U, N), or of fewer
            columns while fewer items were offered.

    Raises:
        ValueError: nothing is to be kept.
    """

    def __init__(self, users: int, count: int, by: str) -> None:
        if count < 1:
            raise ValueError(f"At least one item of a user must be kept, got {count}.")
        self._count, self._by = count, by
        self._key_UN = torch.empty(users, 0, dtype=torch.int64, device="cpu")
        self._new: list[tuple[Tensor, dict[str, Tensor]]] = []
        self.scores: dict[str, Tensor] = {}

    @property
    def place_UN(self) -> Tensor:
        """Places of the kept items, from the best on, int64."""
        return _LOW - (self._key_UN & _LOW)

    def offer(self, users: range, items: range, scores: Mapping[str, Tensor]) -> None:
        """Take what belongs to the best.

        Args:
            users: consecutive ones; the same items are offered to all users before others are.
            items: places of the items, never offered before.
            scores: by score column, of their pairs, (users, J).
        """
        place_J = torch.arange(items.start, items.stop, device=scores[self._by].device)
        bits_UJ = scores[self._by].contiguous().view(torch.int32).to(torch.int64)
        key_UN = (bits_UJ << 32 | (_LOW - place_J)).topk(min(self._count, len(items)), dim=1).values
        chosen_UN = _LOW - (key_UN & _LOW) - items.start
        found = {name: score_UJ.gather(1, chosen_UN) for name, score_UJ in scores.items()}
        self._new.append((key_UN, found))
        if users.stop == len(self._key_UN):
            self._settle()

    def _settle(self) -> None:
        """Merge what was kept with what was found among the same items for all users."""
        keys, founds = zip(*self._new, strict=True)
        key_UM = torch.cat((self._key_UN, torch.cat(keys)), dim=1)
        self._key_UN, order_UN = key_UM.topk(min(self._count, key_UM.shape[1]), dim=1)
        for name in founds[0]:
            new_UM = torch.cat([found[name] for found in founds])
            known_UM = torch.cat((self.scores[name], new_UM), dim=1) if name in self.scores else new_UM
            self.scores[name] = known_UM.gather(1, order_UN)
        self._new = []
