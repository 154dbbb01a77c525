"""From a `RunSpec` to a Wide ResNet-50-2-bottleneck trained on ImageNet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from experiments.shared import hps, train_sgd
from mutransfer.data.images import ImageNetFolder
from mutransfer.models.resnet import WideResNet50
from mutransfer.training.augment import FolderClassification, Standardize
from mutransfer.training.flops import counted
from mutransfer.training.spec import RunRecord, RunSpec

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet's channels, in 0..255
PART, SMOOTHING = 256, 0.1


@dataclass(frozen=True)
class Hps:
    """What a run has of its own."""

    classes: int
    size: int  # pixels
    schedule: str
    weight_decay: float
    output_mult: float


def build(spec: RunSpec, width: int) -> nn.Module:
    """The spec's model at a width: the spec's own, or the base's."""
    own = hps(spec, Hps)
    return WideResNet50(width, classes=own.classes, output_mult=own.output_mult)


def part_of(spec: RunSpec) -> int:
    """Images that are computed at once."""
    return min(spec.batch, PART)


def run(spec: RunSpec, dataset: ImageNetFolder, device: str = "cpu") -> RunRecord:
    """One run."""
    own = hps(spec, Hps)
    smooth = partial(F.cross_entropy, label_smoothing=SMOOTHING)
    standardize = Standardize(own.size, MEAN, STD)
    task = FolderClassification(dataset, smooth, standardize, seed=spec.seed, eval_batch=part_of(spec))
    recipe = partial(train_sgd, weight_decay=own.weight_decay, schedule=own.schedule)
    return recipe(spec, build, task, device, parts=spec.batch // part_of(spec))


flops = counted(
    build,
    lambda spec: (torch.zeros(spec.batch, 3, int(spec.hp("size")), int(spec.hp("size"))),),
    free=("schedule", "weight_decay", "output_mult"),
    input_gradient=True,  # as in cifar_resnet
)


def examples(dataset: ImageNetFolder, spec: RunSpec) -> int:
    return len(dataset.labels["train"])
