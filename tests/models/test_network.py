"""What a network is handed: vectors by field and by space, and the positions of a sequence one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from models.architecture import Architecture
from models.batch import Batch
from models.heads import Heads
from models.inputs import Entry, Inputs
from models.line import Line


class FirstOfSequence(Architecture):
    """Says the newest event of the first bag, in its second embedding space, beside the scene's vector."""

    def __init__(self, entry: Entry, heads: Heads, *, generator: torch.Generator) -> None:
        super().__init__()
        self.scene = entry.positions(["field_2"])
        self.scale = nn.Parameter(torch.ones(len(heads)))

    @staticmethod
    def spaces(heads: Heads) -> int:
        return 2

    def forward(self, inputs: Inputs) -> Tensor:
        newest_BD = inputs.bags_SBLD[0][1][:, 0] * inputs.filled_BL[0][:, :1]
        return (newest_BD + inputs.chosen(self.scene)) * self.scale

    def shared_parameters(self) -> list[nn.Parameter]:
        return []


def test_a_network_may_read_a_sequence_by_position_and_a_field_by_name(
    make_line: Callable[..., Line], make_batch: Callable[..., Batch]
) -> None:
    line, batch = make_line(architecture=FirstOfSequence), make_batch(12)
    weight_RSD = line.embedding.weight_RD.view(50, 2, 4)
    expected_BD = weight_RSD[batch.bag_rows_BL[:, 0], 1] + weight_RSD[batch.rows_BF[:, 2], 0]
    conditional_BK = line.predict(batch).conditional_BJ
    torch.testing.assert_close(conditional_BK, torch.nn.functional.logsigmoid(expected_BD))
    assert (batch.bag_rows_BL[:, 0] == 0).any(), "a sequence that is empty at its first place"


def test_a_field_that_a_line_does_not_have_is_named() -> None:
    entry = Entry(4, 2, ("user", "item"))
    with pytest.raises(ValueError, match=r"\['tab'\] are no fields of this line; .*\['user', 'item'\]"):
        entry.positions(["user", "tab"])
