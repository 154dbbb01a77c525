"""What the language-model experiments share: from a `RunSpec` to a trained `Decoder`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from experiments.shared import hps, scaled
from mutransfer.data import TokenDataset
from mutransfer.models.transformer import Decoder
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale
from mutransfer.training import flops as count
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.task import NextToken


@dataclass(frozen=True)
class Hps:
    """What a run has of its own; the defaults are those of specs that do not have the hyperparameter."""

    vocab: int
    depth: int
    length: int  # tokens
    heads: int
    norm: str
    ffn_ratio: float
    schedule: str
    output_mult: float
    attn_mult: float
    init_mult: float
    d_head: int = 0  # 0: width / heads
    positions: str = "sinusoidal"
    activation: str = "relu"
    embed_mult: float = 1.0
    position_mult: float = 1.0
    beta2: float = 0.999


def config(spec: RunSpec, width: int, *, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's, whose heads decide the attention scale."""
    own = hps(spec, Hps)

    def d_head(width: int) -> int:
        return own.d_head or width // own.heads

    return Config(
        vocab=own.vocab,
        width=width,
        depth=own.depth,
        heads=width // own.d_head if own.d_head else own.heads,
        ffn_ratio=own.ffn_ratio,
        length=own.length,
        norm=own.norm,
        positions=own.positions,
        activation=own.activation,
        attention_scale=attention_scale(
            d_head(width),
            d_head(spec.base_width),
            parametrization=spec.parametrization,
            alpha_attn=own.attn_mult,
        ),
        embed_mult=own.embed_mult,
        position_mult=own.position_mult,
        output_mult=own.output_mult,
        init_mult=own.init_mult,
        fused=fused,
    )


def build(spec: RunSpec, width: int) -> Decoder:
    return Decoder(config(spec, width))


def run(spec: RunSpec, dataset: TokenDataset, device: str = "cpu") -> RunRecord:
    """One run."""
    own = hps(spec, Hps)
    model, plan = scaled(spec, build, device)
    groups = plan.param_groups(model, lr=2.0**spec.log2_lr)
    optimizer = torch.optim.Adam(groups, betas=(0.9, own.beta2), fused=True)
    return train(spec, model, optimizer, NextToken(dataset, own.length), device=device, schedule=own.schedule)


flops = count.counted(
    build,
    lambda spec: (torch.zeros(spec.batch, hps(spec, Hps).length, dtype=torch.int64),),
    free=("schedule", "beta2", *(name for name in Hps.__annotations__ if name.endswith("_mult"))),
)


def parameters(spec: RunSpec) -> float:
    return count.parameters(lambda: build(spec, spec.width))


def examples(dataset: TokenDataset, spec: RunSpec) -> int:
    return len(dataset.windows("train", hps(spec, Hps).length))
