"""Table 13: Wide ResNet-50-2-bottleneck on ImageNet, tuned at 0.125x and copied to 1x (App. G.1.2).

The grid's centre is NVIDIA's ResNet-50 recipe, and so is what the paper does not print: batch 2048 (in parts of 256, as
its eight GPUs have), a learning rate that rises for 8 of the 50 epochs and falls as a cosine, label smoothing 0.1. A
width is the number of channels of the first convolution; 64 is 1x.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import torch.nn.functional as F
from torch import nn

from data_scripts import imagenet
from experiments.shared import train_sgd
from mutransfer.data.images import COUNTS, ImageNetFolder
from mutransfer.designs.experiment import Experiment, Scale, Variant
from mutransfer.designs.search import Grid
from mutransfer.models.resnet import Cost, WideResNet50, training_cost
from mutransfer.training.augment import FolderClassification, Standardize
from mutransfer.training.spec import RunRecord, RunSpec

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's channels, in 0..255
BATCH, PART, EPOCHS, SMOOTHING = 2048, 256, 50, 0.1
RATE, MULT, DECAY, MOMENTUM = 2.048, 10.0, 3.05e-5, 0.875  # the centre of the grid
OCTAVES = range(-5, 5)  # of learning rate and alpha_output around it
HALVES = (-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5)  # of weight decay and momentum
BEST = {"output_mult": 0.625, "weight_decay": 1.5e-5}  # Table 13's, in SP and µP
BEST_MOMENTUM = 0.4375
STATEMENT = (
    "Tuned at 0.125x and copied to 1x, µP reaches 77.16% and SP 76.75%; both start from the same 58.12% at 0.125x, "
    "where they are equal."
)


def build(spec: RunSpec, width: int) -> nn.Module:
    """The spec's model at a width: the spec's own, or the base's."""
    return WideResNet50(width, classes=int(spec.hp("classes")), output_mult=float(spec.hp("output_mult")))


def part_of(spec: RunSpec) -> int:
    """Images that are computed at once."""
    return min(spec.batch, PART)


def run(spec: RunSpec, dataset: ImageNetFolder, device: str = "cpu") -> RunRecord:
    """One run."""
    smooth = partial(F.cross_entropy, label_smoothing=SMOOTHING)
    standardize = Standardize(int(spec.hp("size")), MEAN, STD)
    task = FolderClassification(dataset, smooth, standardize, seed=spec.seed, eval_batch=part_of(spec))
    return train_sgd(spec, build, task, device, parts=spec.batch // part_of(spec))


@lru_cache
def cost(width: int, classes: int, size: int) -> Cost:
    return training_cost(partial(WideResNet50, width, classes=classes), size)


def _cost(spec: RunSpec) -> Cost:
    return cost(spec.width, int(spec.hp("classes")), int(spec.hp("size")))


def flops(spec: RunSpec) -> float:
    return spec.steps * spec.batch * _cost(spec).flops


def memory(spec: RunSpec) -> float:
    return _cost(spec).memory(part_of(spec))


def grid(centre: float, octaves: range | tuple[float, ...]) -> tuple[float, ...]:
    return tuple(float(f"{centre * 2.0**z:g}") for z in octaves)


IMAGENET = Experiment(
    name="cifar_resnet",
    folder="imagenet",
    summary="Table 13: Wide ResNet-50-2-bottleneck on ImageNet, SGD",
    optimizer="sgd",
    momentum=BEST_MOMENTUM,
    stands_in_for="ImageNet",
    load=lambda data, dataset, scale: imagenet.load(data),
    from_data=lambda dataset: {"classes": dataset.classes},
    run=run,
    flops=flops,
    memory=memory,
    examples=lambda dataset, spec: len(dataset.labels["train"]),
    columns=("size", "schedule", "weight_decay", "output_mult"),
    accuracy="Table 13",
    has_curves=True,
    datasets=("imagenet",),
    scales={
        "smoke": Scale(
            widths=(8, 16),
            base_width=8,
            log2_lrs=(-7, -5, -3),
            seeds=2,
            steps=8,
            batch=16,
            samples=16,
            hps={"size": 64},
        ),
        "paper": Scale(
            widths=(8, 16, 32, 64),
            base_width=8,
            log2_lrs=tuple(math.log2(RATE) + z for z in OCTAVES),
            seeds=1,
            steps=EPOCHS * (COUNTS["train"] // BATCH),
            batch=BATCH,
            samples=64,
            hps={"size": 224},
        ),
    },
    variants={
        "wide_resnet50": Variant(
            title="Wide ResNet-50-2-bottleneck, SGD",
            y_label="training loss (cross-entropy, labels smoothed by 0.1, nats)",
            hps={"schedule": "warmup_cosine", **BEST},
            loss_ceiling=math.log(1000),
            paper={"table_or_figure": "Table 13", "ours": {"optimizer": "SGD"}, "statement": STATEMENT},
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
