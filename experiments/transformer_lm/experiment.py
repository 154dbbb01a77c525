"""Figures 1, 4, 5, 7, 13, 17-19 and 21: a Transformer language model, its hyperparameters over width and more.

Adam without weight decay or dropout; sinusoidal positions, biases, ReLU, d_ffn = 4 d_model; readout and queries start
at zero (App. D.2); the base width is the narrowest of a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch

from data_scripts import text
from mutransfer.analysis.estimate import label
from mutransfer.coordinate_check import coord_check
from mutransfer.data import TokenDataset
from mutransfer.models import transformer
from mutransfer.models.transformer import Config, Decoder
from mutransfer.parametrization import attention_scale, scaling_plan
from mutransfer.sweeps.experiment import Experiment, Scale, Variant
from mutransfer.sweeps.figure import Axis, Figure, Panel
from mutransfer.training.loop import train
from mutransfer.training.schedule import SCHEDULES
from mutransfer.training.spec import RunRecord, RunSpec, Value
from mutransfer.training.task import NextToken

BETAS = (0.9, 0.999)
TOKENIZERS = {"smoke": "bytes", "cpu": "bytes", "gpu": "words", "paper": "words"}  # the paper: WikiText-2's words
VOCAB = {"smoke": 256, "cpu": 256, "gpu": 33_278, "paper": 33_278}


def load(data: Any, dataset: str | None, scale: str) -> TokenDataset:
    return text.load(data, dataset=dataset, tokenizer=TOKENIZERS[scale])


def config(spec: RunSpec, width: int, *, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's, whose heads decide the attention scale."""

    def d_head(width: int) -> int:
        return int(spec.hp("d_head")) or width // int(spec.hp("heads"))

    fixed = int(spec.hp("d_head"))
    return Config(
        vocab=int(spec.hp("vocab")),
        width=width,
        depth=int(spec.hp("depth")),
        heads=width // fixed if fixed else int(spec.hp("heads")),
        ffn_ratio=float(spec.hp("ffn_ratio")),
        length=int(spec.hp("length")),
        norm=str(spec.hp("norm")),
        attention_scale=attention_scale(
            d_head(width),
            d_head(spec.base_width),
            parametrization=spec.parametrization,
            alpha_attn=float(spec.hp("attn_mult")),
        ),
        output_mult=float(spec.hp("output_mult")),
        init_mult=float(spec.hp("init_mult")),
        fused=fused,
    )


def run(spec: RunSpec, dataset: TokenDataset, device: str = "cpu") -> RunRecord:
    """One run. The init depends on width and seed alone, so SP and µP start alike where they should."""
    torch.manual_seed(spec.seed)
    model, base = Decoder(config(spec, spec.width)), Decoder(config(spec, spec.base_width))
    plan = scaling_plan(base, model, parametrization=spec.parametrization, optimizer=spec.optimizer)
    plan.initialize(model, base)
    model.to(device)
    optimizer = torch.optim.Adam(plan.param_groups(model, lr=2.0**spec.log2_lr), betas=BETAS, fused=True)
    task = NextToken(dataset, int(spec.hp("length")))
    return train(spec, model, optimizer, task, device=device, schedule=str(spec.hp("schedule")))


def flops(spec: RunSpec) -> float:
    return spec.steps * transformer.flops_per_step(config(spec, spec.width), batch=spec.batch)


def memory(spec: RunSpec) -> float:
    is_half = spec.precision == "bfloat16"
    return transformer.memory_bytes(config(spec, spec.width), batch=spec.batch, bfloat16=is_half)


CHECK_WIDTHS = {"smoke": (32, 64, 128)}  # of the coordinate check; by scale, else:
# The same batch at every step, of no more tokens than the narrowest d_head: theory's exponents are those of queries that
# are aligned with the keys they are measured on.
CHECK = {"widths": (64, 128, 256, 512, 1024), "log2_lr": -10, "steps": 4, "seeds": 5, "batch": 2, "length": 8}
SHOWN = {
    "readout": "logits",
    "stack.blocks.1.attention.logits": "attention logits, block 2",
    "stack.embed": "word embedding",
}


def coordinates(dataset: TokenDataset, scale: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Figure 5: four steps of Adam at several widths, on one batch of the text; post-LN as in the sweep."""
    widths = CHECK_WIDTHS.get(scale, CHECK["widths"])
    template = EXPERIMENT.specs(dataset, scale=scale, variant="post_ln")[0]
    window = dataset.windows("train", CHECK["length"])[: CHECK["batch"]].long()
    parts = []
    for parametrization in EXPERIMENT.parametrizations:
        spec = replace(template, parametrization=parametrization, base_width=widths[0])
        frame = coord_check(
            lambda width, spec=spec: Decoder(config(spec, width, fused=False)),
            widths,
            [(window[:, :-1], window[:, 1:])],
            parametrization=parametrization,
            optimizer=EXPERIMENT.optimizer,
            lr=2.0 ** CHECK["log2_lr"],
            steps=CHECK["steps"],
            seeds=CHECK["seeds"],
        )
        shown = frame.data[frame.data["activation"].isin(SHOWN)]
        parts.append(shown.assign(parametrization=parametrization, optimizer=EXPERIMENT.optimizer))
    facts = {"activations": SHOWN, "may_shrink_at_init": [*SHOWN][:2], "lr": 2.0 ** CHECK["log2_lr"]}
    return pd.concat(parts), {**facts, "steps": CHECK["steps"]}


# ---- the figures of panels -----------------------------------------------------------------------------------------

PAPER_WIDTHS = (128, 256, 512, 1024, 2048, 4096)
WIDTHS = {"smoke": (32, 64), "cpu": (32, 64, 128), "gpu": (128, 256, 512, 1024), "paper": PAPER_WIDTHS}
DEPTHS = {"smoke": (1, 2), "cpu": (2, 4, 8), "gpu": (2, 4, 8, 16), "paper": (2, 4, 8, 16, 32)}
BATCHES = {"smoke": (4, 8), "cpu": (4, 8, 16), "gpu": (20, 32, 64, 128), "paper": (20, 32, 64, 128, 256, 512)}
LENGTHS = {"smoke": (32, 64), "cpu": (32, 64, 128, 256), "gpu": (32, 64, 128, 256), "paper": (32, 64, 128, 256, 512)}
PAPER_STEPS = (2032, 4072, 5912, 7952, 9992)
STEPS = {"smoke": (20, 40), "cpu": (50, 100, 200, 400), "gpu": PAPER_STEPS, "paper": PAPER_STEPS}
# Of runs that do not say otherwise. The learning rates are those that the grids of Figures 1 and 4 are centred on.
TEMPLATE: dict[str, dict[str, Value]] = {
    "smoke": {"width": 32, "batch": 4, "steps": 40, "length": 64},
    "cpu": {"width": 32, "batch": 8, "steps": 200},
    "gpu": {"width": 256},
    "paper": {"width": 256},
}
CENTRE = {"pre": -6, "post": -8}


def rates(scale: str, norm: str) -> Axis:
    """Octaves around the centre; two more below at the published widths and lengths of training."""
    low, high = CENTRE[norm] - 3, CENTRE[norm] + 3
    values = {"smoke": (low + 1, low + 3, high - 1), "cpu": range(low, high)}.get(scale, range(low - 4, high + 1))
    return Axis(name="log2_lr", label="learning rate", values=tuple(values))


def octaves(name: str, label: str, scale: str, *values: int) -> Axis:
    return Axis(name=name, label=label, values=values[::2] if scale == "smoke" else values)


def output_mults(scale: str) -> Axis:
    return octaves("output_mult", "alpha_output", scale, -4, -2, 0, 2, 4)


def init_stds(scale: str) -> Axis:
    return octaves("init_mult", "init std", scale, -4, -3, -2, -1, 0, 1)


def attn_mults(scale: str) -> Axis:
    return octaves("attn_mult", "alpha_attn", scale, -4, -2, 0, 2, 4)


def schedules(scale: str) -> Axis:
    return Axis(name="schedule", label="LR schedule", values=tuple(SCHEDULES)[: 2 if scale == "smoke" else None])


def by(name: str, label: str, values: dict[str, tuple[int, ...]]) -> Callable[[str], Axis]:
    return lambda scale: Axis(name=name, label=label, values=values[scale])


BY_WIDTH = by("width", "width", WIDTHS)
BY_DEPTH = by("depth", "depth", DEPTHS)
BY_BATCH = by("batch", "batch size", BATCHES)
BY_LENGTH = by("length", "sequence length", LENGTHS)
BY_STEPS = by("steps", "steps", STEPS)


def landscape(
    title: str,
    norm: str,
    columns: Sequence[Callable[[str], Axis]],
    rows: Sequence[Callable[[str], Axis]],
    *,
    statement: str,
    number: int,
    parametrizations: Sequence[str] = ("mup",),
    **changes: Value,
) -> Figure:
    """A figure of panels: a column a hyperparameter; a row a kind of line, or a parametrization."""

    def panels(scale: str) -> list[Panel]:
        found = []
        for i, (parametrization, row) in enumerate(product(parametrizations, rows)):
            lines, several = row(scale), len(parametrizations) > 1
            heading = f"{label(parametrization)}, over {lines.label}" if several else f"over {lines.label}"
            for j, column in enumerate(columns):
                x = column(scale)
                key = f"{parametrization}/{lines.name}/{x.name}"
                at = {"row": i, "column": j, "row_heading": heading, "parametrization": parametrization}
                found.append(Panel(key=key, x=x, line=lines, **at))
        return found

    return Figure(
        kind="landscape",
        title=title,
        variant=f"{norm}_ln",
        panels=panels,
        template=lambda scale: {"log2_lr": CENTRE[norm], **TEMPLATE[scale], **changes},
        paper={"table_or_figure": f"Figure {number}", "statement": statement},
    )


def reverse(scale: str) -> list[Panel]:
    """Figure 21: real widths in SP, and one narrow model in µP whose base width is the simulated one."""
    widths = {"smoke": (32, 64), "cpu": (32, 64, 128, 256, 512), "gpu": (128, 256, 512, 1024, 2048)}
    narrow = {"smoke": 32, "cpu": 64}.get(scale, 256)
    n = widths.get(scale, (256, 512, 1024, 2048, 4096, 8192))
    x = Axis(name="log2_lr", label="learning rate", values=rates(scale, "post").values)
    if scale != "smoke":
        x = replace(x, values=tuple(range(x.values[0] - 2, x.values[-1] + 2)))
    real = Panel(
        key="real", row=0, column=0, x=x, line=Axis(name="width", label="width", values=n), parametrization="sp"
    )
    simulated = Axis(name="base_width", label="simulated width", values=n)
    return [real, Panel(key="simulated", row=0, column=1, x=x, line=simulated, changes={"width": narrow})]


def entropy(dataset: TokenDataset) -> dict[str, Any]:
    """Of single tokens of the training text, in nats: what a model reaches that ignores the context."""
    counts = np.bincount(dataset.train_tokens.numpy(), minlength=dataset.vocab)
    shares = counts[counts > 0] / counts.sum()
    return {"threshold": float(-(shares * np.log(shares)).sum())}


RATES = {norm: lambda scale, norm=norm: rates(scale, norm) for norm in CENTRE}
FOUR = {norm: (RATES[norm], output_mults, init_stds, schedules) for norm in CENTRE}
ATTENTION = (RATES["post"], output_mults, attn_mults, init_stds)
STABLE = "In µP the best value of each hyperparameter stays as the model is scaled"
FIGURES = {
    "4": landscape(
        "Pre-LN Transformer, four hyperparameters over width and depth",
        "pre",
        FOUR["pre"],
        (BY_WIDTH, BY_DEPTH),
        number=4,
        statement=f"{STABLE} in width and in depth, but for the init std across depth.",
    ),
    "13": landscape(
        "Post-LN Transformer with d_head fixed, heads growing with width",
        "post",
        ATTENTION,
        (BY_WIDTH,),
        number=13,
        statement=f"{STABLE} in width with d_head fixed and the number of heads growing.",
        d_head=8,
    ),
    "17": landscape(
        "Post-LN Transformer, four hyperparameters over width, batch size, sequence length and steps",
        "post",
        FOUR["post"],
        (BY_WIDTH, BY_BATCH, BY_LENGTH, BY_STEPS),
        number=17,
        statement=f"{STABLE} in width, and roughly in batch size, sequence length and steps.",
    ),
    "18": landscape(
        "Post-LN Transformer, four hyperparameters over width, SP and µP",
        "post",
        ATTENTION,
        (BY_WIDTH,),
        parametrizations=("sp", "mup"),
        number=18,
        statement="In SP the best values move with width and wide models diverge; in µP they stay.",
    ),
    "19": landscape(
        "Pre-LN Transformer, four hyperparameters over batch size, sequence length and steps",
        "pre",
        FOUR["pre"],
        (BY_BATCH, BY_LENGTH, BY_STEPS),
        number=19,
        statement="In µP they are roughly stable from batch size 32, sequence length 128 and 5000 steps on.",
    ),
    "21": Figure(
        kind="stability",
        title="Reverse µTransfer: a narrow µP model simulates wide SP models",
        variant="post_ln",
        panels=reverse,
        template=lambda scale: {"log2_lr": CENTRE["post"], **TEMPLATE[scale], "ffn_ratio": 1.0},
        paper={
            "table_or_figure": "Figure 21",
            "statement": "A µP model of width 256 and base width n breaks down at the learning rates at which a real SP "
            "model of width n does.",
        },
        facts=entropy,
    ),
}


def variant(norm: str, grid: range) -> Variant:
    words = {"pre": "Pre-LN", "post": "Post-LN"}[norm]
    figure = {"pre": "Figure 4", "post": "Figure 1"}[norm]
    return Variant(
        title=f"{words} Transformer language model, Adam",
        y_label="training loss (cross-entropy, nats a token)",
        hps={
            "norm": norm,
            "heads": 4,
            "d_head": 0,  # 0: width / heads
            "ffn_ratio": 4.0,
            "schedule": "constant",
            "output_mult": 1.0,
            "attn_mult": 1.0,
            "init_mult": 1.0,
        },
        grids={"smoke": tuple(grid)[::2], "cpu": tuple(grid)},
        paper={
            "table_or_figure": figure,
            "ours": {"optimizer": "Adam", "norm": norm},
            "statement": "In SP the best learning rate falls as the model gets wider, and large widths diverge at rates "
            "that suit small ones; in µP it stays.",
        },
    )


def hps(scale: str, length: int) -> dict[str, Value]:
    return {"depth": 2, "length": length, "vocab": VOCAB[scale]}


EXPERIMENT = Experiment(
    name="transformer_lm",
    summary="Figures 1, 4, 5, 7, 13, 17-19, 21: Transformer language model, Adam, hyperparameters over width and more",
    optimizer="adam",
    momentum=0.0,
    load=load,
    datasets=text.SETS,
    run=run,
    flops=flops,
    memory=memory,
    examples=lambda dataset, spec: len(dataset.windows("train", int(spec.hp("length")))),
    columns=("depth", "length", "heads", "norm", "schedule", "output_mult", "attn_mult", "init_mult"),
    has_curves=True,
    coordinates=coordinates,
    figures=FIGURES,
    scales={
        "smoke": Scale(
            widths=(32, 64), base_width=32, log2_lrs=(-9, -7), seeds=2, steps=60, batch=8, hps=hps("smoke", 64)
        ),
        "cpu": Scale(
            widths=(32, 64, 128, 256),
            base_width=32,
            log2_lrs=tuple(range(-11, -4)),
            seeds=2,
            steps=250,
            batch=16,
            hps=hps("cpu", 128),
        ),
        "gpu": Scale(
            widths=(128, 256, 512, 1024, 2048),
            base_width=128,
            log2_lrs=tuple(range(-16, -6)),
            seeds=3,
            steps=2040,  # 5 epochs of WikiText-2
            batch=20,
            hps=hps("gpu", 256),
        ),
        "paper": Scale(
            widths=(128, 256, 512, 1024, 2048, 4096, 8192),
            base_width=128,
            log2_lrs=tuple(range(-20, -9)),
            seeds=5,
            steps=2040,
            batch=20,
            hps=hps("paper", 256),
        ),
    },
    variants={"post_ln": variant("post", range(-11, -4)), "pre_ln": variant("pre", range(-10, -3))},
)
