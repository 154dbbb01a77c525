"""(h) Images a second of cifar_resnet's network on this machine: over the usual loop, and over one fixed batch.

The usual loop is a plain script with a torchvision ``DataLoader`` in a process of its own, with torch's own threads,
which take all cores; ours is what a sweep runs, one worker per core. They take turns. Beside one fixed batch: one
worker. Batch 128, crops, mirror images, cutout, SGD with Nesterov momentum; random images.

``python -m benchmarks.resnet WIDTHS SECONDS`` prints the second as JSON, in the environment of a sweep's worker;
``python -m benchmarks.resnet usual|float32|bfloat16 WIDTH SECONDS`` is one process of the first.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks.timing import answer, answer_rate, as_worker, in_worker, medians, rates
from experiments.cifar_resnet.runs import MEAN, SIZE, STD, task
from mutransfer.data import ImageDataset
from mutransfer.models.resnet import DAVIDNET_WIDTH, Davidnet
from mutransfer.models.winograd import Conv3x3
from mutransfer.parametrization import scaling_plan
from mutransfer.runs.worker import environment
from mutransfer.training.provenance import cores
from mutransfer.training.step import Step

BATCH, IMAGES, BASE, RATE = 128, 5000, 16, 0.1
PRECISIONS = ("float32", "bfloat16")
CORES = cores()
ROUNDS = 3


def images() -> ImageDataset:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (IMAGES, SIZE, SIZE, 3), dtype=np.uint8), rng.integers(0, 10, IMAGES)
    return ImageDataset.from_arrays("random", "random", is_real=False, train=(pixels, labels), test=(pixels, labels))


def network(width: int) -> Davidnet:
    """A network of the sweep, channels-last, whose readout is not zero: all gradients flow."""
    torch.manual_seed(0)
    model = Davidnet(width)
    nn.init.normal_(model.readout.weight, std=0.01)
    return model.to(memory_format=torch.channels_last)


def sgd(groups: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)


def ours(width: int, data: ImageDataset, precision: str) -> Callable[[], None]:
    """A step of a sweep's worker, augmentation and all."""
    learnt, model = task(data, 0), network(width)
    plan = scaling_plan(Davidnet(BASE), model, parametrization="mup", optimizer="sgd")

    def compute(*batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            return learnt.loss(model, *batch)

    step = Step(compute, sgd(plan.param_groups(model, lr=RATE)))

    def call() -> None:
        (batch,) = learnt.batches(torch.randint(IMAGES, (1, BATCH)))
        step(*batch)

    return call


def bare(width: int, data: ImageDataset, precision: str) -> Callable[[], None]:
    """Forward, backward and update on one batch that is already made."""
    learnt, model = task(data, 0), network(width)
    optimizer = sgd(model.parameters())
    ((pixels, labels),) = learnt.batches(torch.randint(IMAGES, (1, BATCH)))
    x = learnt._prepare(pixels)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()

    return call


def usual(width: int, data: ImageDataset) -> Callable[[], None]:
    """torchvision's transforms, one image at a time, in a ``DataLoader``; the textbook loop in float32."""
    pixels, labels = data.train_images.numpy(), data.train_labels.tolist()
    mean, std = (tuple(x / 255 for x in values) for values in (MEAN, STD))
    change = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.RandomCrop(SIZE, padding=4, padding_mode="reflect"),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
            transforms.RandomErasing(p=1.0, scale=(0.0625, 0.0625), ratio=(1.0, 1.0)),  # 8x8 of 32x32
        ]
    )

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return change(pixels[i]), labels[i]

    model = network(width).to(memory_format=torch.contiguous_format)
    for convolution in model.modules():
        if isinstance(convolution, Conv3x3):
            convolution.__class__ = nn.Conv2d  # torch's own
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def batches() -> Iterator[Any]:
        while True:
            yield from DataLoader(Images(), BATCH, shuffle=True, drop_last=True)

    source = batches()

    def call() -> None:
        x, y = next(source)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return call


def measure_width(width: int, seconds: float) -> dict[str, Any]:
    """Milliseconds a step of each kind, interleaved one by one, medians."""
    data = images()
    kinds = {f"ours {p}": ours(width, data, p) for p in PRECISIONS}
    kinds |= {f"bare {p}": bare(width, data, p) for p in PRECISIONS}
    return {"width": width, "ms": medians(kinds, seconds)}


def whole_machine(width: int, seconds: float) -> dict[str, float]:
    """Images a second of the usual loop, and of one worker per core in each precision; medians of `ROUNDS` turns."""
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    found: dict[str, list[float]] = {"usual": [], **{p: [] for p in PRECISIONS}}
    for _ in range(ROUNDS):
        for kind, values in found.items():
            count, env = (1, plain) if kind == "usual" else (CORES, {**os.environ, **environment()})
            values.append(BATCH * sum(rates("benchmarks.resnet", count, env, kind, width, seconds)))
    return {kind: statistics.median(values) for kind, values in found.items()}


def rows(widths: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of the report."""
    beside_bare = {found["width"]: found["ms"] for found in in_worker("benchmarks.resnet", widths, seconds)}
    for width, ms in beside_bare.items():
        speed = whole_machine(width, seconds)
        for name in PRECISIONS:
            yield {
                "what": f"width {width} ({width / DAVIDNET_WIDTH:g}x), {name}",
                "ours": f"{speed[name]:.0f} images/s, {CORES} workers",
                "reference": f"{speed['usual']:.0f} images/s, DataLoader, float32",
                "ratio": speed[name] / speed["usual"],
            }
        for name in PRECISIONS:
            yield {
                "what": f"width {width} ({width / DAVIDNET_WIDTH:g}x), {name}",
                "ours": f"{1e3 * BATCH / ms[f'ours {name}']:.0f} images/s, one worker",
                "reference": f"{1e3 * BATCH / ms[f'bare {name}']:.0f} images/s, one fixed batch",
                "ratio": ms[f"bare {name}"] / ms[f"ours {name}"],
            }


def main() -> None:
    kind, *_ = sys.argv[1:]
    if kind == "usual":
        answer_rate(usual(int(sys.argv[2]), images()), float(sys.argv[3]))
    elif kind in PRECISIONS:
        as_worker()
        answer_rate(ours(int(sys.argv[2]), images(), kind), float(sys.argv[3]))
    else:
        answer(measure_width)


if __name__ == "__main__":
    main()
