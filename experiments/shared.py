"""What experiments share: a run's hyperparameters and model as its spec asks for, SGD, and the coordinate check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_type_hints

import pandas as pd
import torch
from torch import nn

from mutransfer.coordinate_check import coord_check
from mutransfer.errors import unknown
from mutransfer.parametrization import scaling_plan
from mutransfer.parametrization.plan import Plan
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.task import Task

Hps = TypeVar("Hps")


def hps(spec: RunSpec, kind: type[Hps]) -> Hps:
    """The spec's own hyperparameters as ``kind``, a dataclass that has a field for each, in the types of its fields.

    Raises `UserError` for one that ``kind`` does not know; `TypeError` for one that is missing and has no default.
    """
    types = get_type_hints(kind)
    for name, _ in spec.hps:
        if name not in types:
            raise unknown("hyperparameter", name, types)
    return kind(**{name: types[name](value) for name, value in spec.hps})


def scaled(spec: RunSpec, build: Callable[[RunSpec, int], nn.Module], device: str) -> tuple[nn.Module, Plan]:
    """The model ``build(spec, width)`` on ``device``, initialised by its plan, and that plan.

    The init depends on width and seed alone, so SP and µP start alike where they should. A model whose tensors are too
    small to measure how their init goes with width says so itself (``own_init``).
    """
    torch.manual_seed(spec.seed)
    model, base = build(spec, spec.width), build(spec, spec.base_width)
    plan = scaling_plan(base, model, parametrization=spec.parametrization, optimizer=spec.optimizer)
    plan.initialize(model, base, own_init=getattr(model, "own_init", None))
    return model.to(device), plan


def train_sgd(
    spec: RunSpec,
    build: Callable[[RunSpec, int], nn.Module],
    task: Task,
    device: str,
    *,
    weight_decay: float,
    schedule: str,
    parts: int = 1,
) -> RunRecord:
    """A run of a convolutional network with SGD and Nesterov momentum."""
    model, plan = scaled(spec, build, device)
    model.to(memory_format=torch.channels_last)
    groups = plan.param_groups(model, lr=2.0**spec.log2_lr, weight_decay=weight_decay)
    optimizer = torch.optim.SGD(groups, momentum=spec.momentum, nesterov=spec.momentum > 0, fused=True)
    return train(spec, model, optimizer, task, device=device, schedule=schedule, parts=parts)


def coordinate_table(
    builds: Mapping[str, Callable[[int], nn.Module]],
    widths: Sequence[int],
    batches: Iterable[tuple[Any, Any]],
    *,
    shown: Mapping[str, str],
    optimizer: str,
    **options: Any,
) -> pd.DataFrame:
    """`coord_check` of every parametrization, by its name the model at a width; rows of the activations ``shown``."""
    batches, parts = [*batches], []
    for parametrization, build in builds.items():
        frame = coord_check(
            build, widths, batches, parametrization=parametrization, optimizer=optimizer, **options
        ).data
        rows = frame[frame["activation"].isin(shown)]
        parts.append(rows.assign(parametrization=parametrization, optimizer=optimizer))
    return pd.concat(parts)
