"""Figures 1, 4, 5, 7, 13, 17-19 and 21: a Transformer language model, its hyperparameters over width and more.

Adam without weight decay or dropout; sinusoidal positions, biases, ReLU, d_ffn = 4 d_model; readout and queries start
at zero (App. D.2); the base width is the narrowest of a scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from experiments.transformer_lm.figures import FIGURES, HEADS, NARROW_OUTPUT
from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.grid import LrSweep
from mutransfer.training.spec import Value

TEXTS = ("wikitext2", "books", "openwebtext", "topics")  # of data_scripts/text.py
TOKENIZERS = {"paper": "words"}  # WikiText-2's words; else bytes


def load(data: Path | None, dataset: str | None, scale: str) -> Any:
    from data_scripts import text

    return text.load(data, dataset=dataset, tokenizer=TOKENIZERS.get(scale, "bytes"))


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
        where=figure,
        ours={"optimizer": "Adam", "norm": norm},
        statement=(
            "In SP the best learning rate falls as the model gets wider, and wide models diverge at rates "
            "that suit small ones; in µP it stays."
        ),
    )


def hps(length: int, output_mult: float = 1.0) -> dict[str, Value]:
    return {"depth": 2, "length": length, "output_mult": output_mult}


EXPERIMENT = Experiment(
    name="transformer_lm",
    summary="Figures 1, 4, 5, 7, 13, 17-19, 21: Transformer language model, Adam, hyperparameters over width and more",
    trains="experiments.transformer_lm.runs",
    data=Data(load=load, stands_in_for="WikiText-2", names=TEXTS, hps=("vocab",)),
    optimizer="adam",
    columns=("depth", "length", "heads", "norm", "schedule", "output_mult", "attn_mult", "init_mult"),
    outputs=(LrSweep(curves=True, coordinates=True, shows=("5",)), *FIGURES),
    scales={
        "smoke": Size((32, 64), (-9, -7), seeds=2, steps=60, batch=8, hps=hps(64, NARROW_OUTPUT)),
        "cpu": Size((32, 64, 128, 256), range(-9, -4), seeds=2, steps=250, batch=16, hps=hps(128, NARROW_OUTPUT)),
        "gpu": Size(
            (32, 64, 128, 256, 512, 1024, 2048),
            range(-10, -4),
            seeds=3,
            steps=500,
            batch=32,
            hps=hps(256, NARROW_OUTPUT),
        ),
        "paper": Size(
            (128, 256, 512, 1024, 2048, 4096, 8192), range(-20, -9), seeds=5, steps=2040, batch=20, hps=hps(256)
        ),
    },
    variants={"post_ln": variant("post", range(-9, -4)), "pre_ln": variant("pre", range(-9, -3))},
)
