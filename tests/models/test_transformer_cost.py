"""A Transformer's configuration is checked, its weights and memory are counted right, its replayed step is autograd's.

That its FLOPs are counted right is tested with the counter (tests/training/test_flops.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch

from mutransfer.errors import UserError
from mutransfer.models import transformer_config as cost
from mutransfer.models.transformer import Bert, Decoder
from mutransfer.models.transformer_config import NORMS, Config
from mutransfer.training.step import Step
from tests.models.tiny import (
    BASE,
    CONFIGS,
    MEGATRON,
    PUBLISHED,
    TINY,
    VOCAB,
    Kind,
    batch_of,
    loss_of,
    tokens,
    updated,
)


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
        ({"segments": -1}, "segments is -1"),
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


PLACES = ("sinusoidal", "relative")
REPLAYED = {
    **{f"{norm}, {at}": (Decoder, {"norm": norm, "positions": at}) for norm in NORMS for at in PLACES},
    "published BERT": (Bert, vars(replace(PUBLISHED, vocab=BASE.vocab))),
}


@pytest.mark.parametrize(("kind", "changes"), REPLAYED.values(), ids=REPLAYED)
def test_the_replayed_step_is_autograds(kind: Kind, changes: dict) -> None:
    """Bit for bit, dropout included: the fast step is what every run takes."""
    found = []
    for is_replayed in (True, False):
        torch.manual_seed(0)
        model = kind(Config(**{**vars(BASE), **changes, "dropout": 0.1}))
        optimizer, batches = torch.optim.AdamW(model.parameters(), fused=True), [batch_of(model, i) for i in range(5)]
        step = Step(partial(loss_of, model), optimizer)
        losses = [step(*b) if is_replayed else updated(optimizer, loss_of(model, *b)) for b in batches]
        assert step.is_replayed == is_replayed
        found.append([*losses, *(p.detach() for p in model.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters(name: str) -> None:
    """What the built model has, a tied weight once; of a `Bert` with segments and a norm of embeddings, too."""
    c = CONFIGS[name]
    assert cost.parameters(c) == sum(p.numel() for p in Decoder(c).parameters())
    for own in (c, replace(c, segments=2, embed_norm=True)):
        assert cost.bert_parameters(own) == sum(p.numel() for p in Bert(own).parameters())


def test_parameters_of_the_paper() -> None:
    """App. F.3: a prototype of 13M, targets of 110M and 350M (BERT-large is 336M with this vocabulary)."""
    c = replace(MEGATRON, vocab=30522, length=512)
    shapes = {13e6: (256, 10, 8, 1.0), 110e6: (768, 12, 12, 4.0), 350e6: (1024, 24, 16, 4.0)}
    for count, (width, depth, heads, ratio) in shapes.items():
        big = replace(c, width=width, depth=depth, heads=heads, ffn_ratio=ratio)
        assert cost.bert_parameters(big) == pytest.approx(count, rel=0.1)


def test_parameters_by_hand() -> None:
    """12 N^2 a block, biases 9 N + 4 N for two norms, embedding and readout; GPT-3 6.7B's blocks (F.4)."""
    n = TINY.width
    assert cost.parameters(TINY) == 2 * (12 * n * n + 13 * n) + 2 * n + 2 * VOCAB * n
    big = Config(vocab=50257, width=4096, depth=32, heads=32, length=2048, tied=True)
    assert cost.parameters(big) == pytest.approx(6.7e9, rel=0.02)


MEMORY: dict[str, tuple[Callable[..., float], Callable[[Config], int], Config]] = {
    "decoder": (cost.memory_bytes, cost.parameters, TINY),
    "bert": (partial(cost.bert_memory_bytes, masked=4), cost.bert_parameters, MEGATRON),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_memory_holds_the_state_and_grows(kind: str) -> None:
    """At least weights, gradients and Adam's two moments, 4 bytes each; more of anything takes more memory."""
    memory, parameters, c = MEMORY[kind]
    c = replace(c, vocab=64, width=32, heads=4, length=128)
    assert memory(c, batch=1, length=1) >= 16 * parameters(c)
    here = memory(c, batch=8)
    assert memory(c, batch=16) > here > memory(c, batch=8, length=64)
    for name, value in {"width": 64, "depth": 3, "vocab": 128, "ffn_ratio": 8.0, "length": 256}.items():
        assert memory(replace(c, **{name: value}), batch=8) > here, name
    relative = memory(replace(c, positions="relative"), batch=8)
    # the same matrices, but the logits of twice the heads
    assert memory(replace(c, positions="relative", heads=8), batch=8) > relative > here


def test_masked_places_take_memory_and_time() -> None:
    """Of the vocabulary's logits."""
    c = replace(MEGATRON, vocab=64, width=32)
    for of in (cost.bert_memory_bytes, cost.bert_flops_per_step):
        assert of(c, batch=8, masked=8) > 1.01 * of(c, batch=8, masked=4)


def test_the_model_is_left_as_it_was() -> None:
    """A forward pass, cached or not, changes no weight and no buffer; two are alike."""
    model = Decoder(TINY)
    before = copy.deepcopy(model.state_dict())
    assert torch.equal(model(tokens()), model(tokens()))
    model(tokens(), model.stack.new_cache(2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
