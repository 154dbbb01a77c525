"""The stand-in: the same bytes everywhere, CIFAR-10's statistics, and the effect that the suite is about.

The stand-in was tuned to CIFAR-10's own figures, and the bounds are around those: a linear model has test accuracy
0.36-0.40 after two epochs of all images, the MLP of width 256 in µP 0.41 after one and 0.44 after two; after one epoch
the best log2 LR is -4 at width 64 and between -5 and -6 at width 256 in SP, -4 at both in µP. A quarter of the images
shows the same after three epochs, and the same order of the losses after one.
"""

from __future__ import annotations

import inspect
import math
from functools import cache

import numpy as np
import pytest
import torch

from mutransfer.data import ImageDataset, synthetic_cifar
from mutransfer.data.standins import synthetic

BATCH = 64


@pytest.fixture(scope="module")
def data() -> ImageDataset:
    """The beginning of the stand-in as users get it."""
    return synthetic_cifar(n_train=12_800, n_test=2000)


def normalised(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 32, 32, 3] -> float32 [N, 3072] in -1..1."""
    return images.flatten(1).float() / 127.5 - 1


def train(net: torch.nn.Module, groups: list[dict], data: ImageDataset, epochs: int) -> tuple[list[float], float]:
    """Plain SGD on cross-entropy: (mean training loss of the last tenth of each epoch, test accuracy)."""
    optimizer = torch.optim.SGD(groups, lr=0.0)
    order = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_labels), generator=order).split(BATCH):
            logits = net(normalised(data.train_images[rows]))
            loss = torch.nn.functional.cross_entropy(logits, data.train_labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    with torch.no_grad():
        right = net(normalised(data.test_images)).argmax(1) == data.test_labels
    last = torch.stack(losses).view(epochs, -1)[:, -len(losses) // epochs // 10 :].mean(1)
    return last.tolist(), right.float().mean().item()


class MLP(torch.nn.Module):
    """Figure 3's network with its tuned multipliers (input 2**-8, output 32), no biases, zero readout."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w1 = torch.nn.Parameter(torch.randn(width, 3072) / math.sqrt(3072) * 2**4)
        self.w2 = torch.nn.Parameter(torch.randn(width, width) / math.sqrt(width))
        self.w3 = torch.nn.Parameter(torch.zeros(10, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu((x * 2**-4) @ self.w1.T)
        return 32 * torch.relu(h @ self.w2.T) @ self.w3.T


@cache
def mlp(data: ImageDataset, width: int, log2_lr: int, mup: bool, epochs: int) -> tuple[list[float], float]:
    """The MLP trained; µP has base width 64 (Eq. (4) of the paper)."""
    net, m = MLP(width), width / 64 if mup else 1.0
    factors = {net.w1: m, net.w2: 1.0, net.w3: 1 / m}
    return train(net, [{"params": [w], "lr": 2.0**log2_lr * f} for w, f in factors.items()], data, epochs)


def test_same_bytes_on_every_machine(data: ImageDataset) -> None:
    """Runs on the stand-in are compared between machines; any change to it must be on purpose."""
    assert data.fingerprint == "a3e0fa2d630bc488"
    assert (data.name, data.is_real, "not CIFAR-10" in data.source) == ("synthetic", False, True)
    sizes = inspect.signature(synthetic_cifar).parameters
    assert (sizes["n_train"].default, sizes["n_test"].default) == (50_000, 10_000)  # CIFAR-10's


def test_smaller_set_is_the_beginning_of_a_larger_one(data: ImageDataset) -> None:
    """Sizes that do not fit the working chunks must not shift the random stream."""
    small, large = synthetic_cifar(n_train=37, n_test=3), synthetic_cifar(n_train=2051, n_test=20)
    assert torch.equal(small.train_images, large.train_images[:37])
    assert torch.equal(large.train_images, data.train_images[:2051])
    assert torch.equal(small.test_labels, large.test_labels[:3])
    assert synthetic_cifar(seed=1, n_train=37, n_test=3).fingerprint != small.fingerprint


def test_sums_are_exact_in_float32() -> None:
    """Only below 2**24 does float32 add integers exactly, and so alike on every machine."""
    maker = synthetic._Maker(synthetic.DEFAULT_SEED)
    patterns = abs(maker.means).max(0) + abs(maker.variants).max(0)
    largest = ((510 * maker.amplitude // 256 + 1) + patterns * 95 // 64 + 1) * 95 // 64 + 1
    sums = largest[: len(maker.luma)] @ maker.luma
    for c in range(3):
        colour = largest[len(maker.luma) :].reshape(3, -1)[c]
        assert (sums + colour @ maker.chroma).max() < 2**24
    np.testing.assert_array_equal(maker.luma, np.rint(maker.luma))
    assert (maker.luma.sum(0) == 1024 * len(synthetic.LUMA)).all(), "each grid's weights must add up to one"


def test_statistics_are_near_cifar10s(data: ImageDataset) -> None:
    """The normalisation and the multipliers were tuned for CIFAR-10's mean 0.47 and std 0.25."""
    x = data.train_images[:5000].numpy() / np.float32(255)
    assert abs(x.mean() - 0.473) < 0.015
    assert abs(x.std() - 0.251) < 0.02
    for labels in (data.train_labels, data.test_labels):
        assert set(torch.bincount(labels).tolist()) == {len(labels) // 10}
    assert len(data.train_images.flatten(1)[:2000].unique(dim=0)) == 2000, "no image twice"


def test_a_linear_model_does_not_solve_it(data: ImageDataset) -> None:
    """Where a linear model is as good as an MLP, nothing about hidden layers can be learnt."""
    linear = torch.nn.Linear(3072, 10)
    _, linear_accuracy = train(linear, [{"params": linear.parameters(), "lr": 2.0**-8}], data, epochs=3)
    losses, accuracy = mlp(data, 256, -4, True, 3)
    assert 0.30 < linear_accuracy < 0.42
    assert accuracy > linear_accuracy + 0.05
    assert 1.3 < losses[-1] < 1.7


def test_best_learning_rate_moves_in_sp_and_stays_in_mup(data: ImageDataset) -> None:
    """The effect the suite is about must be seen on a machine without the data too."""
    for width, better, worse, mup in ((64, -4, -6, False), (256, -6, -4, False), (256, -4, -6, True)):
        # the first epoch of three where another test trains them
        epochs = {log2_lr: 3 if (mup, log2_lr) == (True, -4) else 1 for log2_lr in (better, worse)}
        best, other = (mlp(data, width, log2_lr, mup, n)[0][0] for log2_lr, n in epochs.items())
        assert best < other - 0.01, (width, mup)
