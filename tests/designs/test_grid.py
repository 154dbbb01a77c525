"""What an experiment's declaration turns into: the grid, and what a finished grid still lacks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.data import ImageDataset
from mutransfer.designs.design import expected, follow
from mutransfer.designs.grid import EXTENSION_ROUNDS, lr_sweep
from mutransfer.errors import UserError
from mutransfer.models.mlp import MLP
from mutransfer.training.spec import RunRecord


@pytest.fixture(scope="module")
def data():
    part = np.zeros((10, 32, 32, 3), np.uint8), np.arange(10)
    return ImageDataset.from_arrays("synthetic", "black", is_real=False, train=part, test=part)


def swept(specs, optimum):
    """All lists that a sweep trains, if losses are parabolas with their optimum at ``optimum(spec)``."""
    lists = []

    def train(new):
        lists.append(new)
        return [RunRecord(spec=s, status="finished", train_loss=1 + 0.1 * (s.log2_lr - optimum(s)) ** 2) for s in new]

    records = follow(lr_sweep(specs), train)
    assert [record.spec for record in records] == [spec for new in lists for spec in new]
    assert lists[0] == specs and len({record.spec for record in records}) == len(records)
    return lists


def test_paper_scale_is_the_published_setting(data):
    """Widths 256..8192, base width 128, 20 epochs, batch 64, in SP and µP (Figure 3)."""
    specs = EXPERIMENT.specs(data, scale="paper", variant="relu_xent")
    assert sorted({s.width for s in specs}) == [256, 512, 1024, 2048, 4096, 8192]
    assert {(s.base_width, s.steps // (50_000 // 64), s.batch, s.optimizer) for s in specs} == {(128, 20, 64, "sgd")}
    assert {s.parametrization for s in specs} == {"sp", "mup"}
    assert len({s.run_id for s in specs}) == len(specs) == 2 * 6 * 13 * 5


def test_published_multipliers():
    """Input and output multipliers of the authors' MLP example (section 4.6 of the facts)."""
    mults = {name: (v.hps["input_mult"], v.hps["output_mult"]) for name, v in EXPERIMENT.variants.items()}
    assert mults == {
        "relu_xent": (2**-8, 32),
        "tanh_xent": (2**-3, 32),
        "relu_mse": (2**-5, 32),
        "tanh_mse": (8, 2**-3),
    }


@pytest.mark.parametrize(("parametrization", "m"), [("sp", 1), ("mup", 3)])
def test_a_run_is_equation_4_by_hand(parametrization, m):
    """Against the paper's MLP written out: learning rates eta n~, eta, eta / n~ for W1, W2, W3 (Eq. 4); SP: eta."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (64, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, 64)
    part = images, labels
    one_batch = ImageDataset.from_arrays("synthetic", "noise", is_real=False, train=part, test=part)
    grid = EXPERIMENT.specs(one_batch, scale="cpu", variant="relu_xent")
    spec = replace(grid[0], parametrization=parametrization, width=48, base_width=16, steps=20, log2_lr=-5)
    record = EXPERIMENT.code.run(spec, one_batch)

    torch.manual_seed(spec.seed)
    model = MLP(48, input_mult=2**-8, output_mult=32)
    w1, w2, w3 = (layer.weight for layer in (model.input, model.hidden, model.readout))
    x, losses = torch.tensor(images).flatten(1) / 127.5 - 1, []
    for _ in range(20):
        logits = 32 * F.linear(F.relu(F.linear(F.relu(F.linear(x, w1) / 16), w2)), w3)
        loss = F.cross_entropy(logits, torch.tensor(labels))
        grads = torch.autograd.grad(loss, (w1, w2, w3))
        with torch.no_grad():
            for w, grad, lr in zip((w1, w2, w3), grads, (m / 32, 1 / 32, 1 / 32 / m), strict=True):
                w -= lr * grad
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert record.loss_curve == pytest.approx(losses, rel=1e-3)


def test_an_optimum_on_the_edge_grows_the_grid_by_two_octaves(data):
    """Only that width, only that side, all its seeds; then nothing more."""
    specs = EXPERIMENT.specs(data, scale="cpu", variant="relu_xent", widths=[64, 256])
    _, new = swept(specs, lambda s: -10 if (s.parametrization, s.width) == ("sp", 256) else -5)
    assert {(s.parametrization, s.width, s.log2_lr, s.seed) for s in new} == {
        ("sp", 256, lr, seed) for lr in (-10, -11) for seed in (0, 1)
    }
    assert expected(lr_sweep(specs, rounds=0)) == specs  # what is planned is the grid


def test_a_transferred_rate_is_run_where_it_is_sent(data):
    """The smallest width's optimum, found in its own extension, is needed at every width: else no regret there."""
    specs = EXPERIMENT.specs(data, scale="cpu", variant="relu_xent", widths=[64, 256], seeds=1)
    _, grown, new = swept(specs, lambda s: -1.6 if s.width == 64 else -5)
    assert {s.width for s in grown} == {64} and {(s.width, s.log2_lr) for s in new} == {(256, -2)}


def test_a_loss_that_falls_for_ever_ends_with_rates_that_all_widths_ran(data):
    """The last round copies the rate of the smallest width, instead of finding one more that no other width has."""
    specs = EXPERIMENT.specs(data, scale="cpu", variant="relu_xent", widths=[64, 256], seeds=1)
    lists = swept(specs, lambda s: -99 if s.width == 64 else -5)
    assert len(lists) == 1 + EXTENSION_ROUNDS
    lowest = {width: min(s.log2_lr for new in lists for s in new if s.width == width) for width in (64, 256)}
    assert lowest[64] == lowest[256] == min(s.log2_lr for s in specs) - 4


def test_one_width_is_refused(data):
    """A drift over one width is none."""
    with pytest.raises(UserError, match="two widths"):
        EXPERIMENT.specs(data, scale="cpu", variant="relu_xent", widths=[64, 64])
