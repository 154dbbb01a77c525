"""Figure 16 and Table 12: a ResNet on CIFAR-10, learning rate and alpha_output over widths, in SP and µP.

The 9-layer network of cifar10-fast and its recipe: SGD with Nesterov momentum 0.9 and weight decay 5e-4, a learning
rate that rises for the first 5/24 of training and falls to zero, reflection-padded crops, mirror images, 8x8 cutout.
A width is the number of channels of the first convolution; 64 is the published 1x.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from experiments.cifar_resnet.imagenet import IMAGENET
from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.grid import LrSweep
from mutransfer.designs.panels import PanelRuns, Panels, Values, rectangle
from mutransfer.designs.space import LogUniform

SMOKE_IMAGES = 5000, 500
EPOCH = 50_000 // 512  # steps of the recipe; the last, partial batch is dropped
MULTS = {"smoke": (0, 2, 4), "cpu": (-2, 0, 2, 4, 6), "gpu": (-2, 0, 2, 4, 6), "paper": tuple(range(-5, 6))}
CENTRE = {"smoke": -2, "cpu": -4}  # log2 LR of Figure 16's alpha_output panels; else:
TABLE_12 = -1
# Of the figure "length": the original network and recipe, 0.4 the highest rate; half an epoch to 10, and to its own 24.
LENGTHS = {
    "smoke": (5, 10, 20, 40, 80),
    "cpu": (EPOCH // 2, EPOCH, 2 * EPOCH, 4 * EPOCH, 10 * EPOCH),
    "gpu": (EPOCH // 2, EPOCH, 2 * EPOCH, 4 * EPOCH, 10 * EPOCH, 24 * EPOCH),
}
ORIGINAL: dict[str, Any] = {"width": 64, "base_width": 64, "output_mult": 1.0, "batch": 512}
ORIGINAL_LR = 0.4
STATEMENT = (
    "In SP the best learning rate falls as the network gets wider, and 8x is worse than 4x; in µP the best learning "
    "rate and alpha_output stay, and 8x is the best."
)
RECIPE_STATEMENT = (
    "Table 12's networks, trained for 10 epochs, reach 92.8% to 95.3%. The recipe is cifar10-fast's own, known for "
    "94% after 24 epochs at 1x; both with the original pixels."
)
RECIPE: dict[str, Any] = {"steps": 10 * EPOCH, "batch": 512}
SCALES = {
    "smoke": Size((2, 4, 8), (-4, -2, 0), seeds=2, steps=20, batch=64, samples=8),
    "cpu": Size((4, 8, 16), range(-6, -1), seeds=3, steps=400, batch=64),
    "gpu": Size((16, 32, 64, 128), range(-3, 2), seeds=2, **RECIPE, base_width=64),
    "paper": Size((32, 64, 128, 256, 512), range(-4, 2), seeds=15, **RECIPE, base_width=64),
}


def load(data: Path | None, dataset: str | None, scale: str) -> Any:
    """CIFAR-10; at `smoke` a part of it, since every run is tested on all test images."""
    from data_scripts import cifar10

    images = cifar10.load(data)
    return images.head(*SMOKE_IMAGES) if scale == "smoke" else images


def figure_16(scale: str) -> list[PanelRuns]:
    """Learning rate and alpha_output over widths, SP above µP."""
    rates = Values("log2_lr", "learning rate", SCALES[scale].log2_lrs)
    mults = Values("output_mult", "alpha_output", MULTS[scale])
    return rectangle([rates, mults], [Values("width", "width", SCALES[scale].widths)], ("sp", "mup"))


def lengths(scale: str) -> list[PanelRuns]:
    """The original recipe, stretched over several lengths of training."""
    steps = Values("steps", "steps", LENGTHS.get(scale, LENGTHS["gpu"]))
    rate = Values("log2_lr", "learning rate", (math.log2(ORIGINAL_LR),))
    return [PanelRuns(key="length", x=rate, line=steps, parametrization="sp")]


def variant(network: str, title: str, output_mult: float) -> Variant:
    return Variant(
        title=f"{title}, SGD",
        y_label="training loss (cross-entropy, nats)",
        hps={"network": network, "schedule": "warmup_linear", "weight_decay": 5e-4, "output_mult": output_mult},
        loss_ceiling=2.302585,  # of the zero readout: chance
        where="App G.1.1",
        ours={"optimizer": "SGD"},
        statement=STATEMENT,
        search={"lr": LogUniform(-5, 2), **({"output_mult": LogUniform(-5, 5)} if network == "davidnet" else {})},
    )


EXPERIMENT = Experiment(
    name="cifar_resnet",
    summary="Figure 16, Table 12: ResNet on CIFAR-10, SGD, learning rate and alpha_output over widths",
    trains="experiments.cifar_resnet.runs",
    data=Data(load=load, stands_in_for="CIFAR-10", names=("cifar10",)),
    optimizer="sgd",
    momentum=0.9,
    columns=("network", "schedule", "weight_decay", "output_mult"),
    elsewhere={"imagenet": IMAGENET},
    scales=SCALES,
    outputs=(
        LrSweep(curves=True, accuracy="Table 12", coordinates=True, shows=("table_12",)),
        Panels(
            number="16",
            title="9-layer ResNet on CIFAR-10, learning rate and alpha_output over width, SP and µP",
            panels=figure_16,
            template=lambda scale: {"log2_lr": CENTRE.get(scale, TABLE_12)},
            where="App G.1.1",
            statement=STATEMENT,
        ),
        Panels(
            number="length",
            kind="length",
            title="9-layer ResNet of cifar10-fast at its own width, with its own recipe, trained for several lengths",
            panels=lengths,
            template=lambda scale: ORIGINAL if scale != "smoke" else {},
            seeds={"smoke": 2, "cpu": 1, "gpu": 3},
            facts=lambda dataset, scale: {"examples": len(dataset.train_labels), "recipe_epochs": 24},
            where="App G.1.1",
            statement=RECIPE_STATEMENT,
        ),
    ),
    variants={
        "davidnet": variant("davidnet", "9-layer ResNet of cifar10-fast", 4.0),  # Table 12's
        "torchvision_resnet18": variant("torchvision_resnet18", "torchvision's ResNet-18", 1.0),
    },
)
