"""The usual way to run a µP learning-rate sweep: the `mup` package, a `DataLoader`, one run after another."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from mup import MuReadout, MuSGD, set_base_shapes
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WARM_UP = 20  # steps that are not timed: worker processes start, caches fill


class Images(Dataset[tuple[Tensor, int]]):
    """What `torchvision.datasets.CIFAR10` with `ToTensor` and `Normalize` does, sample by sample."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        from torchvision import transforms

        self.images, self.labels = images.numpy(), labels.tolist()
        self.transform = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[i])), self.labels[i]


class MuMLP(nn.Module):
    """The MLP of `mutransfer.models.mlp` as the `mup` package wants it."""

    def __init__(self, width: int, input_mult: float = 2**-8, output_mult: float = 32.0):
        super().__init__()
        self.root = input_mult**0.5
        self.input = nn.Linear(3072, width, bias=False)
        self.hidden = nn.Linear(width, width, bias=False)
        self.readout = MuReadout(width, 10, bias=False, output_mult=output_mult, readout_zero_init=True)
        nn.init.normal_(self.input.weight, std=3072**-0.5 / self.root)
        nn.init.normal_(self.hidden.weight, std=width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.input(x.flatten(1)) * self.root)
        return self.readout(F.relu(self.hidden(x)))


def step_seconds(dataset: Any, width: int, *, base_width: int, steps: int, batch: int, lr: float) -> float:
    """Seconds a training step, float32, with torch's default threads and two loader processes."""
    torch.manual_seed(0)
    model = MuMLP(width)
    set_base_shapes(model, MuMLP(base_width), delta=MuMLP(2 * base_width), rescale_params=False)
    optimizer = MuSGD(model.parameters(), lr=lr)
    loader = DataLoader(
        Images(dataset.train_images, dataset.train_labels), batch, shuffle=True, num_workers=2, drop_last=True
    )
    done, start = 0, time.perf_counter()
    while True:
        for x, y in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            loss.item()  # to print or log it, as everybody does
            done += 1
            if done == WARM_UP:
                start = time.perf_counter()
            if done == steps + WARM_UP:
                return (time.perf_counter() - start) / steps
