"""(h) Images a second of cifar_resnet's network: over a torchvision ``DataLoader``, and over one fixed batch.

Run as ``python -m benchmarks.resnet WIDTHS SECONDS`` in the environment of a sweep's worker; prints JSON. Batch 128,
crops, mirror images, cutout, SGD with Nesterov momentum; one thread; random images.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from experiments.cifar_resnet.experiment import MEAN, SIZE, STD, task
from mutransfer.data import ImageDataset
from mutransfer.models.resnet import DAVIDNET_WIDTH, Davidnet, flops_per_example
from mutransfer.parametrization import scaling_plan
from mutransfer.sweeps.worker import environment, keep_freed_memory
from mutransfer.training.step import Step

BATCH, IMAGES, BASE, RATE = 128, 5000, 16, 0.1
LARGE = 2048  # of the matrices whose rate is the machine's
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
    pairs = [(i, label) for i, label in enumerate(labels)]

    class Images(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(pairs)

        def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
            return change(pixels[i]), labels[i]

    model = network(width).to(memory_format=torch.contiguous_format)
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
    kinds["usual"] = usual(width, data)
    times: dict[str, list[float]] = {name: [] for name in kinds}
    end = 0.0
    while len(times["usual"]) < 3 or time.perf_counter() < end:
        for name, call in kinds.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
        if len(times["usual"]) == 3 and not end:  # the first three warm up
            times = {name: [] for name in kinds}
            end = time.perf_counter() + seconds
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    flops = BATCH * flops_per_example(lambda: Davidnet(width), SIZE)
    return {"width": width, "flops": flops, "ms": medians}


def measure(widths: list[int], seconds: float) -> list[dict[str, Any]]:
    """`measure_width` of each width, in a process like a sweep's worker."""
    command = [sys.executable, "-m", "benchmarks.resnet", ",".join(map(str, widths)), str(seconds)]
    done = subprocess.run(command, env={**os.environ, **environment()}, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def rows(widths: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of the report."""
    for found in measure(widths, seconds):
        ms, width = found["ms"], found["width"]
        for reference, words in (("usual", "a torchvision DataLoader, float32"), ("bare", "one fixed batch")):
            for name in PRECISIONS:
                other = ms[reference] if reference == "usual" else ms[f"bare {name}"]
                yield {
                    "what": f"width {width} ({width / DAVIDNET_WIDTH:g}x), {name}",
                    "ours": f"{1e3 * BATCH / ms[f'ours {name}']:.0f} images/s",
                    "reference": f"{1e3 * BATCH / other:.0f} images/s, {words}",
                    "ratio": other / ms[f"ours {name}"],
                }


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    chosen = [int(width) for width in sys.argv[1].split(",")]
    print(json.dumps([measure_width(width, float(sys.argv[2])) for width in chosen]))
