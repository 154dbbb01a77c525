"""What the language-model experiments share: from a `RunSpec` to a trained `Decoder`."""

from __future__ import annotations

from typing import Any

import torch

from experiments.shared import scaled
from mutransfer.data import TokenDataset
from mutransfer.models import transformer_config as cost
from mutransfer.models.transformer import Decoder
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec, Value
from mutransfer.training.task import NextToken

# Of hyperparameters that a spec does not have.
DEFAULTS: dict[str, Value] = {
    "d_head": 0,  # 0: width / heads
    "positions": "sinusoidal",
    "activation": "relu",
    "embed_mult": 1.0,
    "position_mult": 1.0,
    "beta2": 0.999,
}


def config(spec: RunSpec, width: int, *, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's, whose heads decide the attention scale."""
    hps: dict[str, Any] = {**DEFAULTS, **dict(spec.hps)}
    fixed = int(hps["d_head"])

    def d_head(width: int) -> int:
        return fixed or width // int(hps["heads"])

    return Config(
        vocab=int(hps["vocab"]),
        width=width,
        depth=int(hps["depth"]),
        heads=width // fixed if fixed else int(hps["heads"]),
        ffn_ratio=float(hps["ffn_ratio"]),
        length=int(hps["length"]),
        norm=hps["norm"],
        positions=hps["positions"],
        activation=hps["activation"],
        attention_scale=attention_scale(
            d_head(width),
            d_head(spec.base_width),
            parametrization=spec.parametrization,
            alpha_attn=float(hps["attn_mult"]),
        ),
        embed_mult=float(hps["embed_mult"]),
        position_mult=float(hps["position_mult"]),
        output_mult=float(hps["output_mult"]),
        init_mult=float(hps["init_mult"]),
        fused=fused,
    )


def run(spec: RunSpec, dataset: TokenDataset, device: str = "cpu") -> RunRecord:
    """One run."""
    model, plan = scaled(spec, lambda spec, width: Decoder(config(spec, width)), device)
    betas = (0.9, float({**DEFAULTS, **dict(spec.hps)}["beta2"]))
    optimizer = torch.optim.Adam(plan.param_groups(model, lr=2.0**spec.log2_lr), betas=betas, fused=True)
    task = NextToken(dataset, int(spec.hp("length")))
    return train(spec, model, optimizer, task, device=device, schedule=str(spec.hp("schedule")))


def flops(spec: RunSpec) -> float:
    return spec.steps * cost.flops_per_step(config(spec, spec.width), batch=spec.batch)


def parameters(spec: RunSpec) -> float:
    return cost.parameters(config(spec, spec.width))


def memory(spec: RunSpec) -> float:
    is_half = spec.precision == "bfloat16"
    return cost.memory_bytes(config(spec, spec.width), batch=spec.batch, bfloat16=is_half)


def examples(dataset: TokenDataset, spec: RunSpec) -> int:
    return len(dataset.windows("train", int(spec.hp("length"))))
