"""What a step costs, counted from the model: exactly what is derived by hand for every model of the suite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer.models import mlp
from mutransfer.models.transformer import Bert, Decoder, EncoderDecoder
from mutransfer.models.transformer_config import (
    Config,
    bert_flops_per_step,
    flops_per_step,
    translation_flops_per_step,
)
from mutransfer.training import flops
from tests.runs import tiny

TINY = Config(vocab=64, width=16, heads=2, depth=1, length=8)
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tied": True},
    "post": {"norm": "post", "bias": False},
    "d_head": {"d_head": 3, "positions": "relative"},
    "deep": {"ffn_ratio": 1.0, "depth": 2},
    "hooked": {"fused": False},
}


def words(batch: int, length: int) -> Tensor:
    return torch.zeros(batch, length, dtype=torch.int64)


def bert_inputs() -> tuple[Any, ...]:
    """Of 3 sequences of 7 tokens, 4 of which are predicted in all."""
    return words(3, 7), words(3, 7), None, torch.zeros(4, dtype=torch.int64)


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES)
def test_a_transformers_count_is_its_formula(changes: dict[str, Any]) -> None:
    """All three; a length of its own, and the configuration's where none is given."""
    c = replace(TINY, **changes)
    decoder = flops.flops_per_step(lambda: Decoder(c), lambda: (words(3, 7),))
    assert decoder == flops_per_step(c, batch=3, length=7) == flops_per_step(replace(c, length=7), batch=3)
    if c.positions != "relative":
        both = flops.flops_per_step(lambda: EncoderDecoder(c), lambda: (words(3, 7), words(3, 7)))
        assert both == translation_flops_per_step(c, tokens=21, sentence=7)
    bert = flops.flops_per_step(lambda: Bert(replace(c, segments=2)), bert_inputs)
    assert bert == bert_flops_per_step(c, batch=3, length=7, masked=4 / 3)


def test_the_first_layer_of_images_costs_two_passes() -> None:
    """No gradient of what is given: by hand for one layer, and the MLP's formula."""
    one = flops.flops_per_step(lambda: nn.Linear(30, 5), lambda: (torch.zeros(4, 30),))
    assert one == 2 * (2 * 4 * 30 * 5)
    whole = flops.flops_per_step(lambda: mlp.MLP(24, inputs=30), lambda: (torch.zeros(4, 30),))
    assert whole == mlp.flops_per_step(24, batch=4, inputs=30)


def test_a_large_model_costs_nothing() -> None:
    """GPT-3 6.7B: 6 N D and its attention, without a byte of its weights."""
    c = Config(vocab=50257, width=4096, depth=32, heads=32, length=2048)
    found = flops.flops_per_step(lambda: Decoder(c), lambda: (words(1, 2048),))
    assert found == pytest.approx(6 * 6.7e9 * 2048, rel=0.1)


def counting(built: list[int]) -> Callable[..., nn.Module]:
    def build(spec: Any, width: int) -> nn.Module:
        built.append(width)
        return nn.Linear(30, width)

    return build


def test_an_experiments_flops() -> None:
    """Of all steps; counted once a shape, whatever the learning rate, the seed and what is free."""
    built: list[int] = []
    found = flops.counted(counting(built), lambda spec: (torch.zeros(spec.batch, 30),), free=["output_mult"])
    spec = tiny.spec(tiny.dataset(), steps=10, hps=(("output_mult", 1.0), ("depth", 2)))
    each = 4 * spec.batch * 30 * spec.width
    same = [
        spec,
        replace(spec, log2_lr=-3),
        replace(spec, seed=5),
        replace(spec, hps=(("output_mult", 3.0), ("depth", 2))),
    ]
    assert [found(s) for s in same] == [10 * each] * 4 and found(replace(spec, steps=20)) == 20 * each
    assert built == [spec.width]
    assert found(replace(spec, batch=2 * spec.batch)) == 2 * 10 * each
    assert found(replace(spec, width=7)) / found(spec) == 7 / spec.width
    found(replace(spec, hps=(("output_mult", 1.0), ("depth", 3))))
    assert len(built) == 4
