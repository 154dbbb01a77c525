"""What a step costs, counted from the model: what is derived by hand for a model of each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer.models.mlp import MLP
from mutransfer.models.resnet import Davidnet
from mutransfer.models.transformer import Bert, Decoder, EncoderDecoder
from mutransfer.models.transformer_config import Config
from mutransfer.training.flops import counted, flops_per_step, parameters
from tests.runs import tiny


def words(batch: int, length: int) -> Tensor:
    return torch.zeros(batch, length, dtype=torch.int64)


@pytest.mark.parametrize("changes", [{}, {"d_head": 3, "positions": "relative"}, {"fused": False, "tied": True}])
def test_transformers(changes: dict[str, Any]) -> None:
    """All three, of 3 sequences of 7 tokens: matrices, attention in full, and of a `Bert` 4 predicted tokens in all."""
    c = replace(Config(vocab=64, width=16, heads=2, depth=2, length=8), **changes)
    attention, ffn = 4 * 16 * c.heads * c.head_size + 2 * 7 * c.heads * c.head_size, 2 * 16 * c.d_ffn
    readout = 16 * 64
    assert flops_per_step(lambda: Decoder(c), lambda: (words(3, 7),)) == 6 * 21 * (2 * (attention + ffn) + readout)
    found = flops_per_step(lambda: EncoderDecoder(c), lambda: (words(3, 7), words(3, 7)))
    assert found == 6 * 21 * (2 * (3 * attention + 2 * ffn) + readout)
    given = lambda: (words(3, 7), words(3, 7), None, torch.zeros(4, dtype=torch.int64))  # noqa: E731
    heads = 4 * (16 * 16 + readout) + 3 * 16 * (16 + 2)
    assert flops_per_step(lambda: Bert(replace(c, segments=2)), given) == 6 * (21 * 2 * (attention + ffn) + heads)


def test_images() -> None:
    """Without a gradient of what is given, the first layer costs two passes; with it, three, as cifar_resnet counts."""
    whole = flops_per_step(lambda: MLP(24, inputs=30), lambda: (torch.zeros(4, 30),))
    assert whole == 2 * 4 * (2 * 30 * 24 + 3 * 24 * 24 + 3 * 24 * 10)
    n = 64  # Davidnet at 1x: 379 million multiply-adds forward
    macs = 9 * (3 * n * 32**2 + 2 * n * n * 32**2 + 2 * (2 * n) ** 2 * 16**2)
    macs += 9 * (2 * n * 4 * n * 16**2 + 4 * n * 8 * n * 8**2 + 2 * (8 * n) ** 2 * 4**2) + 8 * n * 10
    assert flops_per_step(Davidnet, lambda: (torch.zeros(1, 3, 32, 32),), input_gradient=True) == 3 * 2 * macs


def test_a_large_model_costs_nothing() -> None:
    """GPT-3 6.7B: its parameters, 6 N D and its attention, without a byte of its weights."""
    c = Config(vocab=50257, width=4096, depth=32, heads=32, length=2048)
    assert parameters(lambda: Decoder(replace(c, tied=True))) == pytest.approx(6.7e9, rel=0.02)
    assert flops_per_step(lambda: Decoder(c), lambda: (words(1, 2048),)) == pytest.approx(6 * 6.7e9 * 2048, rel=0.1)


def test_an_experiments_flops() -> None:
    """Of all steps; counted once a shape, whatever the learning rate, the seed and what is free."""
    built: list[int] = []

    def build(spec: Any, width: int) -> nn.Module:
        built.append(width)
        return nn.Linear(30, width)

    found = counted(build, lambda spec: (torch.zeros(spec.batch, 30),), free=["output_mult"])
    hps = (("output_mult", 1.0), ("depth", 2))
    spec = tiny.spec(tiny.dataset(), steps=10, hps=hps)
    each = 4 * spec.batch * 30 * spec.width
    same = [{}, {"log2_lr": -3}, {"seed": 5}, {"parametrization": "mup"}, {"hps": (("output_mult", 3.0), hps[1])}]
    assert {found(replace(spec, **changes)) for changes in same} == {10 * each}
    assert found(replace(spec, steps=20)) == 20 * each and built == [spec.width]
    assert found(replace(spec, batch=2 * spec.batch)) == 2 * 10 * each
    assert found(replace(spec, width=7)) / found(spec) == 7 / spec.width
    found(replace(spec, hps=(hps[0], ("depth", 3))))
    assert len(built) == 4
