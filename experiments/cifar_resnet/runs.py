"""From a `RunSpec` to a trained ResNet on CIFAR-10, and the networks' coordinate check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

from experiments.shared import coordinate_table, hps, train_sgd
from mutransfer.data import ImageDataset
from mutransfer.designs.experiment import Experiment
from mutransfer.models.resnet import DAVIDNET_WIDTH, Davidnet, by_fan_out
from mutransfer.training.augment import Augmented, CropFlipCutout, Standardize
from mutransfer.training.flops import counted
from mutransfer.training.spec import RunRecord, RunSpec

SIZE, CLASSES = 32, 10
MEAN, STD = (125.31, 122.95, 113.87), (62.99, 62.09, 66.70)  # of CIFAR-10's channels, in 0..255
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


@dataclass(frozen=True)
class Hps:
    """What a run has of its own."""

    network: str  # one of NETWORKS
    schedule: str
    weight_decay: float
    output_mult: float


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
    own = hps(spec, Hps)
    return NETWORKS[own.network](width, own.output_mult)


def task(dataset: ImageDataset, seed: int) -> Augmented:
    """CIFAR-10 as cifar10-fast augments it; the draws depend on the seed alone."""
    augment = CropFlipCutout(seed=seed, size=SIZE, pad=4, cutout=8, mean=MEAN)
    return Augmented(dataset, F.cross_entropy, Standardize(SIZE, MEAN, STD), augment)


def run(spec: RunSpec, dataset: ImageDataset, device: str = "cpu") -> RunRecord:
    """One run."""
    own = hps(spec, Hps)
    augmented = task(dataset, spec.seed)
    return train_sgd(spec, build, augmented, device, weight_decay=own.weight_decay, schedule=own.schedule)


flops = counted(
    build,
    lambda spec: (torch.zeros(spec.batch, 3, SIZE, SIZE),),
    free=("schedule", "weight_decay", "output_mult"),
    input_gradient=True,  # three passes for every layer: so the committed runs were counted
)


def examples(dataset: ImageDataset, spec: RunSpec) -> int:
    return len(dataset.train_labels)


def coordinates(
    experiment: Experiment, dataset: ImageDataset, scale: str, variant: str, *, widths: Sequence[int] = ()
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The coordinate check: four steps of SGD at several widths, on one batch."""
    widths = widths or CHECK_WIDTHS[variant][: 2 if scale == "smoke" else None]
    images = dataset.train_images[:CHECK_BATCH].flatten(1)
    batch = Standardize(SIZE, MEAN, STD)(images), dataset.train_labels[:CHECK_BATCH]
    frame = coordinate_table(
        dict.fromkeys(("sp", "mup"), lambda width: NETWORKS[variant](width, 1.0)),
        widths,
        [batch],
        shown=SHOWN[variant],
        optimizer=experiment.optimizer,
        lr=CHECK_LR,
        steps=CHECK_STEPS,
        seeds=CHECK_SEEDS,
    )
    facts = {"activations": SHOWN[variant], "may_shrink_at_init": ["readout"], "lr": CHECK_LR, "steps": CHECK_STEPS}
    return frame, facts
