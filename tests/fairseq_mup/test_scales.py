"""The core on fairseq's own Transformer: passes the coordinate check in µP, fails it in SP and without its scales."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import grows
from torch import nn

pytest.importorskip("fairseq.tasks", reason="needs fairseq; see mutransfer.fairseq_mup")

from fairseq.models.transformer import TransformerModel
from fairseq.modules import MultiheadAttention
from fairseq_nets import build, options, sentences

from mutransfer import coord_check
from mutransfer.errors import UserError
from mutransfer.fairseq_mup.weights import Base, set_scales
from mutransfer.results.coordinates import CoordVerdict

WIDTHS = (64, 128, 256, 512)


def transformer(width: int, **changes) -> TransformerModel:
    """fairseq's own class, as its own architecture builds it."""
    heads = {f"{side}_attention_heads": 2 for side in ("encoder", "decoder")}
    tied = {"share_decoder_input_output_embed": True}
    model = build(options("transformer_iwslt_de_en", width, **{**tied, **heads, **changes}))
    assert type(model) is TransformerModel
    return model


def base_of(width: int, **more: float) -> Base:
    return Base(width=width, ffn=2 * width, heads=2, **more)


def batch() -> tuple[dict, torch.Tensor]:
    """One pair of few tokens: queries cannot align with more keys than the narrowest head has coordinates."""
    source, target = (torch.stack(sentences([5], i)) for i in range(2))
    inputs = {"src_tokens": source, "src_lengths": torch.tensor([5]), "prev_output_tokens": target.roll(1, 1)}
    return {**inputs, "return_all_hiddens": False}, target


def checked(parametrization: str, scales: Callable[[nn.Module], None], widths: tuple[int, ...]) -> CoordVerdict:
    def made(width: int) -> nn.Module:
        model = transformer(width)
        for module in model.modules():
            if isinstance(module, MultiheadAttention):
                module._set_skip_embed_dim_check()  # lets hooks see queries, keys and values, at every width alike
        scales(model)
        return model

    return coord_check(made, widths, [batch()], parametrization=parametrization, lr=2**-9, steps=3, seeds=2).verdict()


def test_passes_in_mup():
    """Every activation of every module; queries, keys and values too, which fairseq's own path hides from hooks."""
    verdict = checked("mup", lambda model: set_scales(model, base_of(WIDTHS[0])), WIDTHS)
    assert verdict.ok, str(verdict)
    seen = {f"decoder.layers.0.{x}" for x in ("self_attn.q_proj", "encoder_attn.k_proj", "encoder_attn", "fc2")}
    assert seen | {"output", "encoder.embed_tokens", "encoder.layers.0.self_attn.v_proj"} <= set(verdict)


@pytest.mark.parametrize(
    ("parametrization", "growing"),
    [
        # fairseq as it is: logits grow, and what attention reads
        ("sp", {"output", "decoder.layers.0.self_attn.q_proj", "encoder.layers.0.self_attn"}),
        # the plan alone is not µP here: embeddings times sqrt(width) grow, for the plan keeps their std
        ("mup", {"encoder.dropout_module"}),
    ],
)
def test_fails_without_the_scales(parametrization, growing):
    assert growing <= grows(checked(parametrization, lambda model: None, WIDTHS[:2]))


@torch.no_grad()
def encoded(model: nn.Module) -> torch.Tensor:
    return model.encoder(batch()[0]["src_tokens"])["encoder_out"][0]


def test_at_the_base_nothing_is_touched():
    """Not even the path that attention takes; with alpha_attn it is, and self-attention of the encoder reads it."""
    model = transformer(64)
    before = encoded(model)
    set_scales(model, base_of(64))
    assert torch.equal(encoded(model), before)
    assert not any(getattr(m, "skip_embed_dim_check", False) for m in model.modules())
    set_scales(model, base_of(64, alpha_attn=2.0))
    assert not torch.allclose(encoded(model), before, atol=1e-4)


def test_scales():
    """sqrt of the base width; sqrt(32) / 64 times alpha_attn for heads of 64 where the base has 32."""
    model, plain = transformer(128), transformer(128, no_scale_embedding=True)
    set_scales(model, base_of(64, alpha_attn=3.0))
    set_scales(plain, base_of(64))
    assert model.encoder.embed_scale == model.decoder.embed_scale == 8.0 and plain.encoder.embed_scale == 1.0
    found = [m.scaling for m in model.modules() if hasattr(m, "scaling")]
    assert found == pytest.approx([3 * 32**0.5 / 64] * 3)
    for width, ffn, heads in ((64, 64, 3), (0, 1, 1), (4, 0, 2)):
        with pytest.raises(UserError, match="heads divide the width"):
            Base(width=width, ffn=ffn, heads=heads)
