"""(b) One training step against its bare kernels: the matrix products and one update a tensor, nothing else.

Run as ``python -m benchmarks.kernels WIDTHS SECONDS PRECISION`` in the environment of a sweep's worker; prints JSON.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import answer, in_worker
from mutransfer.models.mlp import MLP
from mutransfer.training.step import Step
from mutransfer.training.task import normalize

BATCH, INPUTS, CLASSES, IMAGES = 64, 3072, 10, 50_000
BLOCK = 10  # calls of one kind in a row: caches are warm as they are in a sweep


def bare_mlp(width: int, dtype: torch.dtype) -> Callable[[], None]:
    """Three products forward, two back to the inputs, three to the gradients (into buffers), one update a tensor."""
    weights = [torch.randn(*shape) * 0.01 for shape in ((width, INPUTS), (width, width), (CLASSES, width))]
    gradients = [torch.empty_like(w, dtype=dtype) for w in weights]
    products = [w.to(dtype) for w in weights]  # what is multiplied: the cast of the weights is not counted
    inputs = [torch.randn(BATCH, w.shape[1]).to(dtype) for w in weights]
    errors = [torch.randn(BATCH, w.shape[0]).to(dtype) for w in weights]

    def step() -> None:
        for x, w in zip(inputs, products, strict=True):
            torch.mm(x, w.t())
        for e, w in zip(errors[1:], products[1:], strict=True):
            torch.mm(e, w)
        for e, x, g in zip(errors, inputs, gradients, strict=True):
            torch.mm(e.t(), x, out=g)
        for w, g in zip(weights, gradients, strict=True):
            w.add_(g, alpha=-1e-9)

    return step


def our_mlp(width: int, dtype: torch.dtype) -> Callable[[], None]:
    """A whole step of ours: batch gathered from uint8 images and normalised, loss, backward, update."""
    torch.manual_seed(0)
    images = torch.randint(256, (IMAGES, INPUTS), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (IMAGES,))
    model = MLP(width, input_mult=2**-8, output_mult=32.0)

    def compute(rows: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
            return F.cross_entropy(model(normalize(images.index_select(0, rows))), labels)

    step = Step(compute, torch.optim.SGD(model.parameters(), lr=2**-9))
    batches = iter(lambda: torch.randint(IMAGES, (BATCH,)), None)

    def take() -> None:
        rows = next(batches)
        step(rows, labels[rows])

    return take


def ratio(width: int, seconds: float, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds of both, interleaved in blocks, medians; and bare over ours."""
    kinds = {"bare": bare_mlp(width, dtype), "ours": our_mlp(width, dtype)}
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for call in kinds.values():
        for _ in range(BLOCK):
            call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in kinds.items():
            call()
            start = time.perf_counter()
            for _ in range(BLOCK):
                call()
            times[name].append((time.perf_counter() - start) / BLOCK * 1e3)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "width": width,
        "bare_ms": medians["bare"],
        "ours_ms": medians["ours"],
        "ratio": medians["bare"] / medians["ours"],
    }


def measure(widths: list[int], seconds: float, precision: str = "float32") -> list[dict[str, Any]]:
    """`ratio` of each width, in a process like a sweep's worker."""
    return in_worker("benchmarks.kernels", widths, seconds, precision)


if __name__ == "__main__":
    answer(lambda width, seconds, dtype: ratio(width, seconds, getattr(torch, dtype)))
