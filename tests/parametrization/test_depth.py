"""Base and target of different depths: blocks that only the target has are initialised too, each by its own values."""

import pytest
import torch
from torch import nn

from mutransfer import scaling_plan


class Net(nn.Module):
    """Every weight has std 0.02 at every width, as in GPT-2, BERT and most of Hugging Face: µP has to shrink it."""

    def __init__(self, width, depth):
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.readout = nn.Linear(width, 4)
        for module in (self.embed, *self.blocks, self.readout):
            nn.init.normal_(module.weight, std=0.02)


@pytest.mark.parametrize("depths", [(2, 2), (2, 5), (5, 2), (1, 3)])
@pytest.mark.parametrize(("table", "factor"), [("sp", 0.5), ("mup", 0.5), ("mean_field", 1.0)])
def test_every_block_gets_its_init(depths, table, factor):
    """0.02 times the factor that is missing from 64 to 256, once; and no block becomes another's copy."""
    torch.manual_seed(0)
    base, model = Net(64, depths[0]), Net(256, depths[1])
    before = [block.weight.clone() for block in model.blocks]
    plan = scaling_plan(base, model, parametrization=table)
    plan.initialize(model, base)
    for i, (block, old) in enumerate(zip(model.blocks, before, strict=True)):
        torch.testing.assert_close(block.weight, old * factor * plan[f"blocks.{i}.weight"].multiplier)
