"""The Transformer's configuration is checked, its costs are counted right, its replayed step is autograd's."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mutransfer.errors import UserError
from mutransfer.models import transformer_config as cost
from mutransfer.models.transformer import Decoder
from mutransfer.models.transformer_config import NORMS, Config
from mutransfer.training.step import Step
from tests.models.tiny import BASE, CONFIGS, TINY, VOCAB, scaled, tokens


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "pree"}, "unknown norm 'pree'. Did you mean 'pre'"),
        ({"positions": "sinusoid"}, "unknown positions 'sinusoid'. Did you mean 'sinusoidal'"),
        ({"activation": "gelo"}, "unknown activation 'gelo'. Did you mean 'gelu'"),
        ({"width": 10, "heads": 4}, "width 10 is no multiple of 4 heads"),
        ({"width": 0}, "width is 0, expected at least 1"),
        ({"vocab": 0}, "vocab is 0"),
        ({"depth": 0}, "depth is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"length": -1}, "length is -1"),
        ({"d_head": -2}, "d_head is -2"),
        ({"ffn_ratio": 0.01}, "d_ffn is 0"),
    ],
)
def test_a_bad_config_is_refused(changes: dict, words: str) -> None:
    """The message names the value and what would be right."""
    with pytest.raises(UserError, match=words):
        Config(**{"vocab": 5, "width": 8, **changes})


def test_another_width_has_another_head_size() -> None:
    """Whoever changes the width of a config gets that width's model: a d_head of 0 is not frozen at the first."""
    assert replace(TINY, width=32) == Config(**{**vars(TINY), "width": 32})
    assert Decoder(replace(TINY, width=32)).stack.blocks[0].attention.d_head == 16
    assert Decoder(replace(TINY, width=32, d_head=3)).stack.blocks[0].attention.qkv.weight.shape == (18, 32)


def test_too_long_a_sequence_is_refused() -> None:
    """All at once, and piece by piece, where the last token is one too many."""
    model = Decoder(replace(TINY, positions="none", length=4))
    with pytest.raises(UserError, match="5 tokens, but the model was built for length 4"):
        model(tokens(1, 5))
    cache = model.stack.new_cache(1)
    model(tokens(1, 4), cache)
    with pytest.raises(UserError, match="5 tokens"):
        model(tokens(1, 1), cache)


@pytest.mark.parametrize("positions", ["sinusoidal", "relative"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_replayed_step_is_autograds(norm: str, positions: str) -> None:
    """Bit for bit, dropout included: the fast step is what every run takes."""
    found = []
    for is_replayed in (True, False):
        c = replace(BASE, norm=norm, positions=positions, dropout=0.1)
        model, groups = scaled(replace(c, width=32), c, "mup")
        optimizer = torch.optim.Adam(groups, fused=True)

        def compute(rows: Tensor, model: nn.Module = model) -> Tensor:
            return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())

        step = Step(compute, optimizer)
        torch.manual_seed(7)
        out = []
        for i in range(6):
            rows = tokens(3, 9, BASE.vocab, seed=i)
            if is_replayed:
                out.append(step(rows))
            else:
                loss = compute(rows)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                out.append(loss.detach())
        assert step.is_replayed == is_replayed
        found.append([*out, *(p.detach() for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(
    "changes", [{}, {"tied": True}, {"norm": "post", "bias": False}, {"d_head": 3}, {"ffn_ratio": 1.0, "depth": 3}]
)
def test_flops(changes: dict) -> None:
    """Against torch's own counter, forward and backward, to 0.1%: both count the products and nothing else."""
    c = replace(TINY, vocab=64, width=16, fused=False, **changes)
    model, rows = Decoder(c), tokens(3, 7, 64)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).backward()
    want = counter.get_total_flops()
    assert cost.flops_per_step(c, batch=3, length=6) == pytest.approx(want, rel=1e-3)
    assert cost.flops_per_step(replace(c, length=6), batch=3) == cost.flops_per_step(c, batch=3, length=6)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters(name: str) -> None:
    """What the built model has, a tied weight once; by hand for the plain one; of the largest, without its memory."""
    assert cost.parameters(CONFIGS[name]) == sum(p.numel() for p in Decoder(CONFIGS[name]).parameters())


def test_parameters_by_hand() -> None:
    """12 N^2 a block, biases 9 N + 4 N for two norms, embedding and readout; GPT-3 6.7B's blocks (F.4)."""
    n = TINY.width
    assert cost.parameters(TINY) == 2 * (12 * n * n + 13 * n) + 2 * n + 2 * VOCAB * n
    big = Config(vocab=50257, width=4096, depth=32, heads=32, length=2048, tied=True)
    assert cost.parameters(big) == pytest.approx(6.7e9, rel=0.02)


def test_memory_holds_the_state_and_grows() -> None:
    """At least weights, gradients and Adam's two moments, 4 bytes each; more of anything takes more memory."""
    c = Config(vocab=64, width=32)
    least = 16 * cost.parameters(c)
    assert cost.memory_bytes(c, batch=1, length=1) >= least
    here = cost.memory_bytes(c, batch=8)
    assert here > least
    assert cost.memory_bytes(c, batch=16) > here
    assert cost.memory_bytes(c, batch=8, length=64) < here
    for name, value in {"width": 64, "depth": 3, "vocab": 128, "length": 256, "ffn_ratio": 8.0}.items():
        assert cost.memory_bytes(replace(c, **{name: value}), batch=8) > here, name
    relative = cost.memory_bytes(replace(c, positions="relative"), batch=8)
    assert relative > here
    # the same matrices, but the logits of twice the heads
    assert cost.memory_bytes(replace(c, positions="relative", heads=8), batch=8) > relative


def test_the_model_is_left_as_it_was() -> None:
    """A forward pass, cached or not, changes no weight and no buffer; two are alike."""
    model = Decoder(TINY)
    before = copy.deepcopy(model.state_dict())
    assert torch.equal(model(tokens()), model(tokens()))
    model(tokens(), model.stack.new_cache(2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
