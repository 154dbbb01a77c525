"""The label-smoothed loss is fairseq's, in value and gradient; so is the one that goes without all logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mutransfer.data.pairs import PAD
from mutransfer.training import translation
from mutransfer.training.step import Step
from mutransfer.training.translation import smoothed_cross_entropy


def formula(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """fairseq's label_smoothed_nll_loss with ``reduce``, / the number of targets; and its gradient: p - smoothed label,
    in float64.
    """
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    vocab, is_real = logits.shape[1], targets != PAD
    nll = -log_p[np.arange(len(targets)), targets][is_real].sum()
    smooth = -log_p.sum(-1)[is_real].sum()
    each = smoothing / (vocab - 1)
    loss = (1 - smoothing - each) * nll + each * smooth
    label = np.full_like(logits, each)
    label[np.arange(len(targets)), targets] = 1 - smoothing
    return loss / is_real.sum(), (np.exp(log_p) - label) * is_real[:, None] / is_real.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_fairseqs(smoothing: float) -> None:
    """Value and gradient equal the formula in NumPy; padding counts neither above nor below the line."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (9, 7)), np.array([3, PAD, 6, 2, PAD, 0, 4, 4, 5])
    loss, gradient = formula(logits, targets, smoothing)
    x = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    found = smoothed_cross_entropy(x, torch.tensor(targets), smoothing)
    assert found.item() == pytest.approx(loss, rel=1e-6)
    (3 * found).backward()
    np.testing.assert_allclose(x.grad, 3 * gradient, rtol=1e-5, atol=1e-7)


def test_the_formulas_gradient_is_its_difference() -> None:
    """The reference's own gradient, by finite differences in float64."""
    rng = np.random.default_rng(1)
    logits, targets, step = rng.normal(0, 1, (3, 5)), np.array([3, PAD, 4]), 1e-6
    _, gradient = formula(logits, targets, 0.1)
    for place in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        slope = (formula(up, targets, 0.1)[0] - formula(down, targets, 0.1)[0]) / (2 * step)
        assert slope == pytest.approx(gradient[place], abs=1e-8)


def test_torchs_smoothing_is_another() -> None:
    """torch (and fairseq before) spreads it over all V; V / (V - 1) of it there is fairseq's."""
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 2, 3, 4, PAD, 3])
    ours = smoothed_cross_entropy(logits, targets, 0.1)
    same = F.cross_entropy(logits, targets, ignore_index=PAD, label_smoothing=0.1 * 5 / 4)
    other = F.cross_entropy(logits, targets, ignore_index=PAD, label_smoothing=0.1)
    torch.testing.assert_close(ours, same)
    assert abs(ours - other) > 1e-3


def test_the_loss_of_bfloat16_logits() -> None:
    """Computed in float32; their gradient has their type."""
    x = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    targets = torch.arange(6)
    loss = smoothed_cross_entropy(x, targets, 0.1)
    loss.backward()
    want, gradient = formula(x.detach().double().numpy(), targets.numpy(), 0.1)
    assert loss.dtype is torch.float32 and loss.item() == pytest.approx(want, rel=1e-6)
    assert x.grad.dtype is torch.bfloat16
    np.testing.assert_allclose(x.grad.double(), gradient, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_readout_is_that_of_its_logits(
    smoothing: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and both gradients, whatever is made at a time; rows of padding have none."""
    monkeypatch.setattr(translation, "LOGITS", 60)  # three rows
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 8, generator=generator).requires_grad_()
    weight = torch.randn(20, 8, generator=generator).requires_grad_()
    targets = torch.tensor([3, PAD, 6, 2, PAD, 0, 4, 4, 5, 19, 7])
    found, wanted = {}, {}
    for into, loss_of in (
        (found, lambda: translation.smoothed_readout_loss(x, weight, targets, smoothing)),
        (wanted, lambda: smoothed_cross_entropy(x @ weight.T, targets, smoothing)),
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss = loss_of()
        into["loss"] = loss.detach()
        into["x"], into["weight"] = torch.autograd.grad(3 * loss, [x, weight])
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 0.03, "atol": 0.01}
    for name, value in found.items():
        assert value.dtype is torch.float32
        torch.testing.assert_close(value, wanted[name].float(), **close)
    assert not found["x"][targets == PAD].any()


def test_a_step_of_it_is_replayed_with_other_padding() -> None:
    """One operator of a recorded step: the rows of padding may be others, and more or fewer, in each batch."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 20, bias=False)
    step = Step(
        lambda x, y: translation.smoothed_readout_loss(x, layer.weight, y, 0.1), torch.optim.Adam([layer.weight])
    )
    for padded in (2, 3, 0, 9):
        x, y = torch.randn(10, 8), torch.randint(2, 20, (10,))
        y[:padded] = PAD
        wanted = smoothed_cross_entropy(layer(x), y, 0.1).item()
        assert step(x, y).item() == pytest.approx(wanted, rel=1e-5)
    assert step.is_replayed
