"""Small runs of every kind, to be killed once so many checkpoints are written; compared bit for bit."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mutransfer.data.images import ImageDataset
from mutransfer.models.transformer import Decoder, EncoderDecoder
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import scaling_plan
from mutransfer.training.augment import Augmented, CropFlipCutout, Standardize
from mutransfer.training.checkpoint import FOLDER, Checkpoint, Progress
from mutransfer.training.loop import train
from mutransfer.training.spec import RunSpec
from mutransfer.training.task import Classification, NextToken, Task
from mutransfer.training.translation import Translation
from tests.nets import MLP
from tests.runs.tiny import outcome
from tests.training.specs import spec_of
from tests.training.test_step import Images
from tests.training.test_task import text
from tests.training.test_translation import CORPUS, LONGEST, VOCAB

LOOK = 3
Made = tuple[RunSpec, nn.Module, torch.optim.Optimizer, Task, dict[str, Any]]


class Killed(BaseException):
    """Where a process would be."""


def _images(side: int) -> ImageDataset:
    rng = np.random.default_rng(0)
    parts = [(rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8), rng.integers(0, 10, n)) for n in (43, 30)]
    return ImageDataset.from_arrays("tiny", "random", is_real=False, train=parts[0], test=parts[1])


IMAGES = _images(8)
WORDS = text(300, 300, vocab=50)


def _spec(data: Any, **changes: object) -> RunSpec:
    return spec_of(data, **{"width": 32, "parametrization": "mup", **changes})


def _scaled(
    spec: RunSpec, build: Callable[[int], nn.Module], table: str = "mup"
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """In µP, with its multipliers in ``mup_table8``."""
    torch.manual_seed(spec.seed)
    model, base = build(spec.width), build(spec.base_width)
    plan = scaling_plan(base, model, parametrization=table, optimizer=spec.optimizer)
    plan.initialize(model, base, own_init=getattr(model, "own_init", None))
    groups = plan.param_groups(model, lr=2.0**spec.log2_lr)
    if spec.optimizer == "adam":
        return model, torch.optim.Adam(groups, fused=True)
    return model, torch.optim.SGD(groups, momentum=spec.momentum, nesterov=spec.momentum > 0, fused=True)


def _config(width: int, vocab: int, length: int) -> Config:
    shape = Config(vocab=vocab, width=width, heads=2, depth=1, length=length, zero_readout=False)
    return replace(shape, dropout=0.1, inner_dropout=0.1)


class Dropping(MLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x, 0.2))


def classification(momentum: float, parts: int = 1, **changes: object) -> Made:
    """Dropout, multipliers."""
    spec = _spec(IMAGES, momentum=momentum, **changes)
    model, optimizer = _scaled(spec, lambda width: Dropping(width, d_in=192), "mup_table8")
    return spec, model, optimizer, Classification(IMAGES, cross_entropy), {"parts": parts}


def augmented(**changes: object) -> Made:
    """BatchNorm, channels last, images that are cropped at random."""
    spec = _spec(IMAGES, momentum=0.9, **changes)
    model, optimizer = _scaled(spec, Images)
    model.to(memory_format=torch.channels_last)
    crop = CropFlipCutout(seed=spec.seed, size=8, pad=2, cutout=2, mean=(1, 2, 3))
    plain = Standardize(8, (100.0, 110.0, 120.0), (60.0, 60.0, 60.0))
    model.forward = lambda x, call=model.forward: call(x[:, :, 2:6, 2:6].flatten(1))  # type: ignore[method-assign]
    return spec, model, optimizer, Augmented(IMAGES, cross_entropy, plain, crop), {}


def next_token(**changes: object) -> Made:
    spec = _spec(WORDS, optimizer="adam", log2_lr=-6, **changes)
    return spec, *_scaled(spec, lambda width: Decoder(_config(width, 50, 6))), NextToken(WORDS, 6), {}


def translation(**changes: object) -> Made:
    """Batches of many shapes."""
    spec = _spec(CORPUS, **{"optimizer": "adam", "log2_lr": -6, "batch": 60, "steps": 36, **changes})
    return spec, *_scaled(spec, lambda width: EncoderDecoder(_config(width, VOCAB, LONGEST))), translating(), {}


def translating() -> Translation:
    return Translation(CORPUS, LONGEST, multiple=4)


RUNS: dict[str, Callable[..., Made]] = {
    "sgd": lambda **changes: classification(0.0, **changes),
    "momentum": lambda **changes: classification(0.9, **changes),
    "parts": lambda **changes: classification(0.9, 2, **changes),
    "augmented": augmented,
    "next token": next_token,
    "translation": translation,
    "translation, sgd": lambda **changes: translation(optimizer="sgd", **changes),
}


class Scripted(nn.Module):
    """Its training losses are the ones given; which is next, a buffer knows."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("losses", torch.tensor(losses))
        self.register_buffer("next", torch.zeros(1, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        value = self.losses.index_select(0, self.next).sum()
        if self.training:
            self.next.add_(1)
        return self.weight * x[:, :1] * 0 + value


def scripted(losses: list[float]) -> Made:
    model = Scripted([*losses, 1.0])  # the last is the test loss
    task = Classification(IMAGES, lambda outputs, _: outputs.mean())
    return _spec(IMAGES, steps=len(losses)), model, torch.optim.SGD(model.parameters(), lr=0.1), task, {}


def finished(made: Made) -> tuple[dict[str, object], list[Tensor]]:
    """The record but for its times, and all weights and buffers."""
    spec, model, optimizer, task, options = made
    torch.rand(17)  # whatever used the generators before
    record = train(spec, model, optimizer, task, schedule="cosine", **options)
    return outcome(record), list(model.state_dict().values())


def killed(made: Made, after: int) -> None:
    """Train until so many checkpoints are written."""
    left = itertools.count(after - 1, -1)
    save = Checkpoint.save

    def save_and_die(self: Checkpoint, progress: Progress) -> None:
        save(self, progress)
        if not next(left):
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoint, "save", save_and_die)
        finished(made)


def same(a: tuple[dict[str, object], list[Tensor]], b: tuple[dict[str, object], list[Tensor]]) -> bool:
    return a[0] == b[0] and all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))


@functools.cache
def undisturbed(make: Callable[[], Made]) -> tuple[dict[str, object], list[Tensor]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(FOLDER)
        return finished(make())
