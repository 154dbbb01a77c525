"""From a `RunSpec` to a trained `MLP`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.shared import hps, scaled
from mutransfer.data import ImageDataset
from mutransfer.models.mlp import MLP
from mutransfer.training.flops import counted
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.task import Classification, Loss

INPUTS, CLASSES = 3072, 10


@dataclass(frozen=True)
class Hps:
    """What a run has of its own."""

    nonlinearity: str
    loss: str  # one of LOSSES
    input_mult: float
    output_mult: float


def mse(logits_BxC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean squared error on one-hot minus 1/10, mean over examples and classes (Figure 9)."""
    return F.mse_loss(logits_BxC, F.one_hot(labels_B, CLASSES) - 1 / CLASSES)


LOSSES: dict[str, Loss] = {"xent": F.cross_entropy, "mse": mse}


def build(spec: RunSpec, width: int) -> MLP:
    """The spec's model at a width: the spec's own, or the base's."""
    own = hps(spec, Hps)
    return MLP(width, nonlinearity=own.nonlinearity, input_mult=own.input_mult, output_mult=own.output_mult)


def run(spec: RunSpec, dataset: ImageDataset, device: str = "cpu") -> RunRecord:
    """One run."""
    model, plan = scaled(spec, build, device)
    groups = plan.param_groups(model, lr=2.0**spec.log2_lr)
    optimizer = torch.optim.SGD(groups, momentum=spec.momentum, fused=True)
    return train(spec, model, optimizer, Classification(dataset, LOSSES[hps(spec, Hps).loss]), device=device)


flops = counted(build, lambda spec: (torch.zeros(spec.batch, INPUTS),), free=("input_mult", "output_mult"))


def examples(dataset: ImageDataset, spec: RunSpec) -> int:
    return len(dataset.train_labels)
