"""Figures 1, 4, 5, 7, 13, 17-19 and 21: a Transformer language model, its hyperparameters over width and more.

Adam without weight decay or dropout; sinusoidal positions, biases, ReLU, d_ffn = 4 d_model; readout and queries start
at zero (App. D.2); the base width is the narrowest of a scale.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from data_scripts import text
from experiments.language import config, examples, flops, memory, run
from experiments.shared import coordinate_table
from experiments.transformer_lm.figures import BASE_WIDTHS, FIGURES, HEADS, NARROW_OUTPUT
from mutransfer.data import TokenDataset
from mutransfer.designs.experiment import Experiment, Scale, Variant
from mutransfer.models.transformer import Decoder
from mutransfer.training.spec import RunSpec, Value

TOKENIZERS = {"paper": "words"}  # WikiText-2's words; else bytes


def load(data: Path | None, dataset: str | None, scale: str) -> TokenDataset:
    return text.load(data, dataset=dataset, tokenizer=TOKENIZERS.get(scale, "bytes"))


CHECK_WIDTHS = {"smoke": (32, 64, 128)}  # of the coordinate check; by scale, else:
MOST_WIDTHS = (64, 128, 256, 512, 1024)
# The same batch at every step, of far fewer tokens than the narrowest d_head: theory's exponents are those of queries
# that are aligned with the keys they are measured on. And a rate so low that a step is small at every width in SP too.
CHECK_BATCH, CHECK_LENGTH, CHECK_LR, CHECK_STEPS, CHECK_SEEDS = 1, 4, 2.0**-14, 4, 5
SHOWN = {
    "readout": "logits",
    "stack.blocks.1.attention.logits": "attention logits, block 2",
    "stack.embed": "word embedding",
}


def visible(spec: RunSpec, width: int) -> Decoder:
    """The model whose attention logits hooks can see."""
    return Decoder(config(spec, width, fused=False))


def coordinates(dataset: TokenDataset, scale: str, variant: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Figure 5: four steps of Adam at several widths, on one batch of the text."""
    widths = CHECK_WIDTHS.get(scale, MOST_WIDTHS)
    template = EXPERIMENT.specs(dataset, scale=scale, variant=variant)[0]
    window = dataset.windows("train", CHECK_LENGTH)[:CHECK_BATCH].long()
    builds = {
        name: partial(visible, replace(template, parametrization=name, base_width=widths[0]))
        for name in EXPERIMENT.parametrizations
    }
    frame = coordinate_table(
        builds,
        widths,
        [(window[:, :-1], window[:, 1:])],
        shown=SHOWN,
        optimizer=EXPERIMENT.optimizer,
        lr=CHECK_LR,
        steps=CHECK_STEPS,
        seeds=CHECK_SEEDS,
    )
    facts = {"activations": SHOWN, "may_shrink_at_init": [*SHOWN][:2], "lr": CHECK_LR}
    return frame, {**facts, "steps": CHECK_STEPS}


def variant(norm: str, grid: range) -> Variant:
    words = {"pre": "Pre-LN", "post": "Post-LN"}[norm]
    figure = {"pre": "Figure 4", "post": "Figure 1"}[norm]
    return Variant(
        title=f"{words} Transformer language model, Adam",
        y_label="training loss (nats a token)",
        hps={
            "norm": norm,
            "heads": HEADS,
            "d_head": 0,  # 0: width / heads
            "ffn_ratio": 4.0,
            "schedule": "constant",
            "attn_mult": 1.0,
            "init_mult": 1.0,
        },
        grids={"smoke": tuple(grid)[::2], "cpu": tuple(grid), "gpu": (grid[0] - 1, *grid)},
        paper={
            "table_or_figure": figure,
            "ours": {"optimizer": "Adam", "norm": norm},
            "statement": "In SP the best learning rate falls as the model gets wider, and wide models diverge at rates "
            "that suit small ones; in µP it stays.",
        },
    )


def hps(length: int, output_mult: float = 1.0) -> dict[str, Value]:
    return {"depth": 2, "length": length, "output_mult": output_mult}


EXPERIMENT = Experiment(
    name="transformer_lm",
    summary="Figures 1, 4, 5, 7, 13, 17-19, 21: Transformer language model, Adam, hyperparameters over width and more",
    optimizer="adam",
    momentum=0.0,
    load=load,
    stands_in_for="WikiText-2",
    datasets=text.SETS,
    run=run,
    flops=flops,
    memory=memory,
    examples=examples,
    from_data=lambda dataset: {"vocab": dataset.vocab},
    columns=("depth", "length", "heads", "norm", "schedule", "output_mult", "attn_mult", "init_mult"),
    has_curves=True,
    coordinates=coordinates,
    figures=FIGURES,
    scales={
        "smoke": Scale(
            widths=(32, 64),
            base_width=BASE_WIDTHS["smoke"],
            log2_lrs=(-9, -7),
            seeds=2,
            steps=60,
            batch=8,
            hps=hps(64, NARROW_OUTPUT),
        ),
        "cpu": Scale(
            widths=(32, 64, 128, 256),
            base_width=BASE_WIDTHS["cpu"],
            log2_lrs=tuple(range(-9, -4)),
            seeds=2,
            steps=250,
            batch=16,
            hps=hps(128, NARROW_OUTPUT),
        ),
        "gpu": Scale(
            widths=(32, 64, 128, 256, 512, 1024, 2048),
            base_width=BASE_WIDTHS["gpu"],
            log2_lrs=tuple(range(-10, -4)),
            seeds=3,
            steps=500,
            batch=32,
            hps=hps(256, NARROW_OUTPUT),
        ),
        "paper": Scale(
            widths=(128, 256, 512, 1024, 2048, 4096, 8192),
            base_width=BASE_WIDTHS["paper"],
            log2_lrs=tuple(range(-20, -9)),
            seeds=5,
            steps=2040,
            batch=20,
            hps=hps(256),
        ),
    },
    variants={"post_ln": variant("post", range(-9, -4)), "pre_ln": variant("pre", range(-9, -3))},
)
