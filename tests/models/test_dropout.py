"""Dropout with cheap bits is dropout: rate, scale, fresh draws, and nothing where there is none."""

from __future__ import annotations

import pytest
import torch

from mutransfer.models.transformer import Dropout


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_rate_and_the_scale(p: float, dtype: torch.dtype) -> None:
    """Zeros with probability p, else 1 / (1 - p); five standard deviations of a million draws."""
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1001, 999, dtype=dtype))
    count = out.numel()
    assert abs((out == 0).double().mean().item() - p) < 5 * (p * (1 - p) / count) ** 0.5
    assert out.dtype is dtype
    torch.testing.assert_close(
        out[out != 0].float().mean().item(), 1 / (1 - p), rtol=1e-4 if dtype is torch.float32 else 4e-3, atol=0
    )


def test_elements_and_calls_are_independent() -> None:
    """Neighbours share a random number, and no bit of it; calls share none."""
    torch.manual_seed(0)
    drop, x = Dropout(0.5), torch.ones(1 << 18)
    first, second = (drop(x) != 0).double(), (drop(x) != 0).double()
    for other in (second, first.roll(1), first.roll(2), first.roll(3)):
        assert abs(torch.corrcoef(torch.stack([first, other]))[0, 1].item()) < 5 / len(x) ** 0.5


def test_the_gradient_has_the_same_mask() -> None:
    x = torch.randn(7, 5, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x, out)


def test_nothing_is_dropped_in_evaluation_or_at_rate_zero() -> None:
    x = torch.randn(3, 3)
    assert Dropout(0.3).eval()(x) is x or torch.equal(Dropout(0.3).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert not Dropout(1.0)(x).any()
