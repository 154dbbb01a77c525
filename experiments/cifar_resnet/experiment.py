"""Figure 16 and Table 12: a ResNet on CIFAR-10, learning rate and alpha_output over widths, in SP and µP.

The 9-layer network of cifar10-fast and its recipe: SGD with Nesterov momentum 0.9 and weight decay 5e-4, a learning
rate that rises for the first 5/24 of training and falls to zero, reflection-padded crops, mirror images, 8x8 cutout.
A width is the number of channels of the first convolution; 64 is the published 1x.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch.nn.functional as F
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from data_scripts import cifar10
from experiments.cifar_resnet.imagenet import IMAGENET
from experiments.shared import coordinate_table, train_sgd
from mutransfer.data import ImageDataset
from mutransfer.designs.experiment import Experiment, Scale, Variant
from mutransfer.designs.figure import Axis, Figure, Panel, rectangle
from mutransfer.designs.search import LogUniform
from mutransfer.models.resnet import DAVIDNET_WIDTH, Cost, Davidnet, by_fan_out, training_cost
from mutransfer.training.augment import Augmented, CropFlipCutout, Standardize
from mutransfer.training.spec import RunRecord, RunSpec

SIZE, CLASSES = 32, 10
MEAN, STD = (125.31, 122.95, 113.87), (62.99, 62.09, 66.70)  # of CIFAR-10's channels, in 0..255
SMOKE_IMAGES = 5000, 500
EPOCH = 50_000 // 512  # steps of the recipe; the last, partial batch is dropped
WIDTHS = {"smoke": (2, 4, 8), "cpu": (4, 8, 16), "gpu": (16, 32, 64, 128), "paper": (32, 64, 128, 256, 512)}
BASE = {"smoke": 2, "cpu": 4, "gpu": 64, "paper": 64}
GRID = {"smoke": (-4, -2, 0), "cpu": tuple(range(-6, -1)), "gpu": tuple(range(-3, 2)), "paper": tuple(range(-4, 2))}
MULTS = {"smoke": (0, 2, 4), "cpu": (-2, 0, 2, 4, 6), "gpu": (-2, 0, 2, 4, 6), "paper": tuple(range(-5, 6))}
CENTRE = {"smoke": -2, "cpu": -4}  # log2 LR of Figure 16's alpha_output panels; else:
TABLE_12 = -1
# Of the figure "length": the original network and recipe, 0.4 the highest rate; half an epoch to 10, and to its own 24.
LENGTHS = {
    "smoke": (5, 10, 20, 40, 80),
    "cpu": (EPOCH // 2, EPOCH, 2 * EPOCH, 4 * EPOCH, 10 * EPOCH),
    "gpu": (EPOCH // 2, EPOCH, 2 * EPOCH, 4 * EPOCH, 10 * EPOCH, 24 * EPOCH),
}
LENGTH_SEEDS = {"smoke": 2, "cpu": 1, "gpu": 3}
ORIGINAL: dict[str, Any] = {"width": DAVIDNET_WIDTH, "base_width": DAVIDNET_WIDTH, "output_mult": 1.0, "batch": 512}
ORIGINAL_LR = 0.4
# Of the coordinate check: one batch of the training images as they are, plain SGD; the first two widths at `smoke`.
# Narrower networks are far from the limit: of ResNet-18, width 16 changes by half as much as 32, 64 and 128 do.
CHECK_WIDTHS = {"davidnet": (16, 32, 64), "torchvision_resnet18": (32, 64, 128)}
CHECK_BATCH, CHECK_LR, CHECK_STEPS, CHECK_SEEDS = 64, 0.1, 4, 3
SHOWN = {
    "davidnet": {
        "layer1.0": "convolution, layer 1",
        "residual3.branch.1.0": "convolution, last",
        "residual3.branch.1.1": "BatchNorm, last",
        "readout": "readout",
    },
    "torchvision_resnet18": {
        "layer1.0.conv2": "convolution, layer 1",
        "layer4.1.conv2": "convolution, last",
        "layer4.1.bn2": "BatchNorm, last",
        "fc": "readout",
    },
}
STATEMENT = (
    "In SP the best learning rate falls as the network gets wider, and 8x is worse than 4x; in µP the best learning "
    "rate and alpha_output stay, and 8x is the best."
)
RECIPE_STATEMENT = (
    "Table 12's networks, trained for 10 epochs, reach 92.8% to 95.3%. The recipe is cifar10-fast's own, known for "
    "94% after 24 epochs at 1x; both with the original pixels."
)
SHORT: dict[str, Any] = {"seeds": 2, "steps": 20, "batch": 64, "samples": 8}
RECIPE: dict[str, Any] = {"steps": 10 * EPOCH, "batch": 512}


class Times(int):
    """What torchvision multiplies its numbers of channels by: planes * Times(width) is planes * width / 64."""

    def __rmul__(self, planes: int) -> int:
        return planes * int(self) // DAVIDNET_WIDTH


def resnet18(width: int, output_mult: float) -> nn.Module:
    """torchvision's own ResNet-18, not a line of it changed, with ``width`` channels where it has 64, and so on."""
    assert output_mult == 1, "torchvision's ResNet has no multiplier"

    class Block(BasicBlock):
        expansion = Times(width)

        def __init__(self, inplanes: int, planes: int, *more: Any, **others: Any) -> None:
            super().__init__(inplanes, planes * self.expansion, *more, **others)

    class Scaled(ResNet):
        _inplanes = 0

        @property
        def inplanes(self) -> int:
            return self._inplanes

        @inplanes.setter
        def inplanes(self, planes: int) -> None:
            self._inplanes = planes if self._inplanes else width  # its first is the stem's, 64

    model = Scaled(Block, [2, 2, 2, 2], num_classes=CLASSES)
    nn.init.zeros_(model.fc.weight)  # µP: App. D.2
    model.own_init = by_fan_out(model)  # torchvision draws them so
    return model


NETWORKS = {
    "davidnet": lambda width, output_mult: Davidnet(width, classes=CLASSES, output_mult=output_mult),
    "torchvision_resnet18": resnet18,
}


def build(spec: RunSpec, width: int) -> nn.Module:
    """The spec's model at a width: the spec's own, or the base's."""
    return NETWORKS[str(spec.hp("network"))](width, float(spec.hp("output_mult")))


def load(data: Path | None, dataset: str | None, scale: str) -> ImageDataset:
    """CIFAR-10; at `smoke` a part of it, since every run is tested on all test images."""
    found = cifar10.load(data)
    return found.head(*SMOKE_IMAGES) if scale == "smoke" else found


def task(dataset: ImageDataset, seed: int) -> Augmented:
    """CIFAR-10 as cifar10-fast augments it; the draws depend on the seed alone."""
    augment = CropFlipCutout(seed=seed, size=SIZE, pad=4, cutout=8, mean=MEAN)
    return Augmented(dataset, F.cross_entropy, Standardize(SIZE, MEAN, STD), augment)


def run(spec: RunSpec, dataset: ImageDataset, device: str = "cpu") -> RunRecord:
    """One run."""
    return train_sgd(spec, build, task(dataset, spec.seed), device)


@lru_cache
def cost(network: str, width: int) -> Cost:
    return training_cost(partial(NETWORKS[network], width, 1.0), SIZE)


def flops(spec: RunSpec) -> float:
    return spec.steps * spec.batch * cost(str(spec.hp("network")), spec.width).flops


def memory(spec: RunSpec) -> float:
    return cost(str(spec.hp("network")), spec.width).memory(spec.batch)


def coordinates(dataset: ImageDataset, scale: str, variant: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The coordinate check: four steps of SGD at several widths, on one batch."""
    widths = CHECK_WIDTHS[variant][: 2 if scale == "smoke" else None]
    images = dataset.train_images[:CHECK_BATCH].flatten(1)
    batch = Standardize(SIZE, MEAN, STD)(images), dataset.train_labels[:CHECK_BATCH]
    frame = coordinate_table(
        dict.fromkeys(EXPERIMENT.parametrizations, lambda width: NETWORKS[variant](width, 1.0)),
        widths,
        [batch],
        shown=SHOWN[variant],
        optimizer=EXPERIMENT.optimizer,
        lr=CHECK_LR,
        steps=CHECK_STEPS,
        seeds=CHECK_SEEDS,
    )
    facts = {"activations": SHOWN[variant], "may_shrink_at_init": ["readout"], "lr": CHECK_LR, "steps": CHECK_STEPS}
    return frame, facts


def figure_16(scale: str) -> list[Panel]:
    """Learning rate and alpha_output over widths, SP above µP."""
    rates = Axis(name="log2_lr", label="learning rate", values=GRID[scale])
    mults = Axis(name="output_mult", label="alpha_output", values=MULTS[scale])
    return rectangle([rates, mults], [Axis(name="width", label="width", values=WIDTHS[scale])], ("sp", "mup"))


def lengths(scale: str) -> list[Panel]:
    """The original recipe, stretched over several lengths of training."""
    steps = Axis(name="steps", label="steps", values=LENGTHS.get(scale, LENGTHS["gpu"]))
    rate = Axis(name="log2_lr", label="learning rate", values=(math.log2(ORIGINAL_LR),))
    return [Panel(key="length", row=0, column=0, x=rate, line=steps, parametrization="sp")]


def variant(network: str, title: str, output_mult: float) -> Variant:
    return Variant(
        title=f"{title}, SGD",
        y_label="training loss (cross-entropy, nats)",
        hps={"network": network, "schedule": "warmup_linear", "weight_decay": 5e-4, "output_mult": output_mult},
        loss_ceiling=2.302585,  # of the zero readout: chance
        paper={
            "table_or_figure": "App G.1.1",
            "ours": {"optimizer": "SGD"},
            "statement": STATEMENT,
        },
        search={"lr": LogUniform(-5, 2), **({"output_mult": LogUniform(-5, 5)} if network == "davidnet" else {})},
    )


EXPERIMENT = Experiment(
    name="cifar_resnet",
    summary="Figure 16, Table 12: ResNet on CIFAR-10, SGD, learning rate and alpha_output over widths",
    optimizer="sgd",
    momentum=0.9,
    stands_in_for="CIFAR-10",
    load=load,
    run=run,
    flops=flops,
    memory=memory,
    examples=lambda dataset, spec: len(dataset.train_labels),
    columns=("network", "schedule", "weight_decay", "output_mult"),
    accuracy="Table 12",
    has_curves=True,
    coordinates=coordinates,
    datasets=("cifar10",),
    elsewhere={"imagenet": IMAGENET},
    figures={
        "16": Figure(
            kind="landscape",
            title="9-layer ResNet on CIFAR-10, learning rate and alpha_output over width, SP and µP",
            variant="davidnet",
            panels=figure_16,
            template=lambda scale: {"log2_lr": CENTRE.get(scale, TABLE_12)},
            paper={"table_or_figure": "App G.1.1", "statement": STATEMENT},
        ),
        "length": Figure(
            kind="length",
            title="9-layer ResNet of cifar10-fast at its own width, with its own recipe, trained for several lengths",
            variant="davidnet",
            panels=lengths,
            template=lambda scale: ORIGINAL if scale != "smoke" else {},
            seeds=LENGTH_SEEDS,
            facts=lambda dataset, scale: {"examples": len(dataset.train_labels), "recipe_epochs": 24},
            paper={"table_or_figure": "App G.1.1", "statement": RECIPE_STATEMENT},
        ),
    },
    scales={
        "smoke": Scale(widths=WIDTHS["smoke"], base_width=BASE["smoke"], log2_lrs=GRID["smoke"], **SHORT),
        "cpu": Scale(widths=WIDTHS["cpu"], base_width=BASE["cpu"], log2_lrs=GRID["cpu"], seeds=3, steps=400, batch=64),
        "gpu": Scale(widths=WIDTHS["gpu"], base_width=BASE["gpu"], log2_lrs=GRID["gpu"], seeds=2, **RECIPE),
        "paper": Scale(widths=WIDTHS["paper"], base_width=BASE["paper"], log2_lrs=GRID["paper"], seeds=15, **RECIPE),
    },
    variants={
        "davidnet": variant("davidnet", "9-layer ResNet of cifar10-fast", 4.0),  # Table 12's
        "torchvision_resnet18": variant("torchvision_resnet18", "torchvision's ResNet-18", 1.0),
    },
)
