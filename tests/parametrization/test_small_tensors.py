"""A tensor of few numbers, whose std says little: its init is told from fresh draws, where the model can make them."""

import pytest
import torch
from torch import nn

from mutransfer import scaling_plan
from mutransfer.parametrization import InitError


class Table(nn.Module):
    """Two rows, as BERT's token types; drawn by the model, as in nanoGPT and Hugging Face, not by the module."""

    def __init__(self, width, std=0.02):
        super().__init__()
        self.table = nn.Embedding(2, width)
        self.std = std
        nn.init.normal_(self.table.weight, std=0.02)

    def _init_weights(self, module):
        nn.init.normal_(module.weight, std=self.std)


class Loaded(Table):
    """`_init_weights` passes over tensors that were loaded."""

    def _init_weights(self, module):
        pass


class Other(Table):
    """A method of that name, as torchvision has it."""

    def _init_weights(self):
        nn.init.normal_(self.table.weight, std=self.std)


def refused(build, seeds=30):
    """In how many draws `initialize` cannot tell; where it can, it finds that nothing is missing."""
    count = 0
    for seed in range(seeds):
        torch.manual_seed(seed)
        base, model = build(64), build(128)
        before = model.table.weight.clone()
        try:
            scaling_plan(base, model).initialize(model, base)
        except InitError:
            count += 1
        assert torch.equal(model.table.weight, before)
    return count


def test_drawn_by_its_model():
    """Never refused, and the random state of the caller is as it was."""
    assert refused(Table) == 0
    torch.manual_seed(2)
    base, model = Table(64), Table(128)
    state = torch.random.get_rng_state()
    scaling_plan(base, model).initialize(model, base)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("build", [Loaded, Other, lambda width: Table(width, std=0.05)])
def test_fresh_draws_that_say_nothing_are_not_believed(build):
    """The negative: no draw, none that can be asked for, or one that does not look like the tensor."""
    assert refused(build) > 0
