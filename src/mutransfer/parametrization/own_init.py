"""Which power of width a model's own init has, measured from its values."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.parametrization.roles import Use, unwrap


class InitError(ValueError):
    """The model's own init follows no power of width that could be told from its values."""


def is_constant(x: Tensor) -> bool:
    """Whether all numbers are the same, so that no std can be measured."""
    return x.numel() < 2 or bool((x == x.flatten()[0]).all())


def _log_rms(x: Tensor) -> tuple[float, float]:
    """Log of the coordinate size, and its standard error: a Gaussian's, or the values' own if heavier-tailed."""
    x2 = x.detach().double().square()
    rms2 = x2.mean().item()
    spread = max(x2.var().item() / rms2**2, 2.0)
    return 0.5 * math.log(rms2), 0.5 * math.sqrt(spread / x2.numel())


def own_growth(
    name: str, growing: set[float], base: Use, target: Use, base_model: nn.Module, model: nn.Module
) -> float:
    """The factor by which the own init's std grows from base to target: a half power of one of the fan ratios.

    growing: the fan ratios. ``base_model`` and ``model`` own ``base`` and ``target``, and may say how they are drawn.
    Raises `InitError` where the values do not single out one power.
    """
    candidates = {m ** (k / 2) for m in growing for k in range(-3, 4)}

    def decide(measured: float, sigma: float) -> float | None:
        near, second = sorted(candidates, key=lambda c: abs(math.log(c) - measured))[:2]
        miss, other = (abs(math.log(c) - measured) for c in (near, second))
        # within a quarter of the way to the next candidate or within noise, and far likelier than the next
        fits = miss <= max(0.25 * (miss + other), 3 * sigma)
        return near if fits and other**2 - miss**2 > (3 * sigma) ** 2 else None

    (b, b_error), (t, t_error) = _log_rms(base.value), _log_rms(target.value)
    growth = decide(t - b, math.hypot(b_error, t_error))
    if growth is None:  # a small tensor: draw it afresh, often, where that can be done and those draws look like it
        fresh = _fresh_log_rms(base, base_model, b, b_error), _fresh_log_rms(target, model, t, t_error)
        if fresh[0] and fresh[1]:
            growth = decide(fresh[1][0] - fresh[0][0], math.hypot(fresh[0][1], fresh[1][1]))
    if growth is None:
        log_m = math.log(max(growing))
        power, error = (t - b) / log_m, math.hypot(b_error, t_error) / abs(log_m)
        raise InitError(
            f"'{name}' {list(base.shape)} -> {list(target.shape)}: its init std goes as "
            f"width^({power:.2f} +- {error:.2f}), which does not single out a "
            f"multiple of 1/2; pass own_init={{'{name}': power}}"
        )
    return growth


def _fresh_log_rms(
    use: Use, model: nn.Module, now: float, error: float, numel: int = 1 << 13
) -> tuple[float, float] | None:
    """`_log_rms` of many fresh draws; None if the module cannot be drawn afresh, or is not drawn as it was."""
    if parametrize.is_parametrized(use.owner):
        return None
    module = copy.deepcopy(use.owner).cpu()
    for draw in _ways_to_draw(module, model):
        draws = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            try:
                for _ in range(max(1, numel // getattr(module, use.leaf).numel())):
                    draw()
                    draws.append(getattr(module, use.leaf).detach().flatten().clone())
            except TypeError:  # a method of that name which takes something else
                continue
        drawn = torch.cat(draws)
        if is_constant(drawn) or (len(draws) > 1 and torch.equal(draws[0], draws[1])):
            continue
        log_rms, fresh_error = _log_rms(drawn)
        if abs(log_rms - now) <= 4 * error + 0.02:
            return log_rms, fresh_error
    return None


def _ways_to_draw(module: nn.Module, model: nn.Module) -> Iterator[Callable[[], object]]:
    """The module's own reset, and how its model draws each of its modules (Hugging Face, nanoGPT)."""
    for name in ("reset_parameters", "_reset_parameters"):
        if callable(reset := getattr(module, name, None)):
            yield reset
    if callable(draw := getattr(unwrap(model), "_init_weights", None)):
        yield lambda: draw(module)
