"""The stand-in: the same bytes everywhere, CIFAR-10's statistics, and the effect that the suite is about.

The bounds are around CIFAR-10's own figures: a linear model has test accuracy 0.36-0.40, the MLP of width 256 in µP
0.44 after two epochs; after one the best log2 LR is -4 at width 64 and near -5.5 at width 256 in SP, -4 at both in µP.
"""

import numpy as np
import pytest
import torch

from experiments.cifar_mlp.runs import Hps, run
from mutransfer.data import synthetic_cifar
from mutransfer.data.standins import synthetic
from tests.training.specs import spec_of


@pytest.fixture(scope="module")
def data():
    """The beginning of the stand-in as users get it."""
    return synthetic_cifar(n_train=12_800, n_test=2000)


def trained(data, width, log2_lr, parametrization, epochs=1):
    """Figure 3's MLP after plain SGD on these images; base width 64."""
    own = Hps("relu", "xent", input_mult=2.0**-8, output_mult=32.0)
    steps = epochs * len(data.train_labels) // 64
    given = dict(width=width, base_width=64, log2_lr=log2_lr, parametrization=parametrization, steps=steps, batch=64)
    return run(spec_of(data, seed=0, hps=tuple(vars(own).items()), **given), data)


def test_same_bytes_on_every_machine(data):
    """Runs on the stand-in are compared between machines; any change to it must be on purpose."""
    assert data.fingerprint == "a3e0fa2d630bc488"
    assert (data.name, data.is_real, "not CIFAR-10" in data.source) == ("synthetic", False, True)


def test_smaller_set_is_the_beginning_of_a_larger_one(data):
    """Sizes that do not fit the working chunks must not shift the random stream."""
    small, large = synthetic_cifar(n_train=37, n_test=3), synthetic_cifar(n_train=2051, n_test=20)
    assert torch.equal(small.train_images, large.train_images[:37])
    assert torch.equal(large.train_images, data.train_images[:2051])
    assert torch.equal(small.test_labels, large.test_labels[:3])
    assert synthetic_cifar(seed=1, n_train=37, n_test=3).fingerprint != small.fingerprint


def test_sums_are_exact_in_float32():
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


def test_statistics_are_near_cifar10s(data):
    """The normalisation and the multipliers were tuned for CIFAR-10's mean 0.47 and std 0.25."""
    x = data.train_images[:5000].numpy() / np.float32(255)
    assert abs(x.mean() - 0.473) < 0.015
    assert abs(x.std() - 0.251) < 0.02
    for labels in (data.train_labels, data.test_labels):
        assert set(torch.bincount(labels).tolist()) == {len(labels) // 10}
    assert len(data.train_images.flatten(1)[:2000].unique(dim=0)) == 2000, "no image twice"


def test_a_linear_model_does_not_solve_it(data):
    """Where a linear model is as good as an MLP, nothing about hidden layers can be learnt."""
    x, test = (images.flatten(1).float() / 127.5 - 1 for images in (data.train_images, data.test_images))
    one_hot = torch.nn.functional.one_hot(data.train_labels, 10).float()
    weights = torch.linalg.solve(x.T @ x + 3e3 * torch.eye(3072), x.T @ one_hot)
    linear = ((test @ weights).argmax(1) == data.test_labels).float().mean().item()
    record = trained(data, 256, -4, "mup", epochs=3)
    assert 0.30 < linear < 0.42
    assert record.test_accuracy > linear + 0.02
    assert 1.3 < record.train_loss < 1.7


def test_best_learning_rate_moves_in_sp_and_stays_in_mup(data):
    """The effect the suite is about must be seen on a machine without the data too."""
    for width, better, worse, parametrization in ((64, -4, -6, "sp"), (256, -6, -4, "sp"), (256, -4, -6, "mup")):
        best, other = (trained(data, width, log2_lr, parametrization).train_loss for log2_lr in (better, worse))
        assert best < other - 0.01, (width, parametrization)
