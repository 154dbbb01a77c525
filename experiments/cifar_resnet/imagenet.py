"""Table 13: Wide ResNet-50-2-bottleneck on ImageNet, tuned at 0.125x and copied to 1x (App. G.1.2).

The grid's centre is NVIDIA's ResNet-50 recipe, and so is what the paper does not print: batch 2048 (in parts of 256, as
its eight GPUs have), a learning rate that rises for 8 of the 50 epochs and falls as a cosine, label smoothing 0.1. A
width is the number of channels of the first convolution; 64 is 1x.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.grid import LrSweep
from mutransfer.designs.space import Grid

IMAGES, BATCH, EPOCHS = 1_281_167, 2048, 50  # of training
RATE, MULT, DECAY, MOMENTUM = 2.048, 10.0, 3.05e-5, 0.875  # the centre of the grid
OCTAVES = range(-5, 5)  # of learning rate and alpha_output around it
RATES = tuple(math.log2(RATE) + z for z in OCTAVES)
STEPS = EPOCHS * (IMAGES // BATCH)
HALVES = (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5)  # of weight decay and momentum
BEST = {"output_mult": 0.625, "weight_decay": 1.5e-5}  # Table 13's, in SP and µP
BEST_MOMENTUM = 0.4375
STATEMENT = (
    "Tuned at 0.125x and copied to 1x, µP reaches 77.16% and SP 76.75%; both start from the same 58.12% at 0.125x, "
    "where they are equal."
)


def load(data: Path | None, dataset: str | None, scale: str) -> Any:
    from data_scripts import imagenet

    return imagenet.load(data)


def grid(centre: float, octaves: range | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(f"{centre * 2.0**z:g}") for z in octaves)


IMAGENET = Experiment(
    name="cifar_resnet",
    folder="imagenet",
    summary="Table 13: Wide ResNet-50-2-bottleneck on ImageNet, SGD",
    trains="experiments.cifar_resnet.imagenet_runs",
    data=Data(load=load, stands_in_for="ImageNet", names=("imagenet",), hps=("classes",)),
    optimizer="sgd",
    momentum=BEST_MOMENTUM,
    columns=("size", "schedule", "weight_decay", "output_mult"),
    outputs=(LrSweep(curves=True, accuracy="Table 13", shows=("table_13",)),),
    scales={
        "smoke": Size((8, 16), (-7, -5, -3), seeds=2, steps=8, batch=16, samples=16, hps={"size": 64}),
        "paper": Size((8, 16, 32, 64), RATES, seeds=1, steps=STEPS, batch=BATCH, samples=64, hps={"size": 224}),
    },
    variants={
        "wide_resnet50": Variant(
            title="Wide ResNet-50-2-bottleneck, SGD",
            y_label="training loss (cross-entropy, labels smoothed by 0.1, nats)",
            hps={"schedule": "warmup_cosine", **BEST},
            loss_ceiling=math.log(1000),
            where="Table 13",
            ours={"optimizer": "SGD"},
            statement=STATEMENT,
            search={
                "lr": Grid(grid(RATE, OCTAVES)),
                "output_mult": Grid(grid(MULT, OCTAVES)),
                "weight_decay": Grid(grid(DECAY, HALVES)),
                # the printed ones from 1 on are left out: with them SGD's velocity grows for ever
                "momentum": Grid(tuple(m for m in grid(MOMENTUM, HALVES) if m < 1)),
            },
        )
    },
)
