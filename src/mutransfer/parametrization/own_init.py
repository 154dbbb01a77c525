"""Which power of width a model's own init has, measured from its values."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.parametrization.roles import Use, unwrap

Size = tuple[float, float]
"""Log of a tensor's coordinate size, and its standard error."""


class InitError(ValueError):
    """The model's own init follows no power of width that could be told from its values."""


def is_constant(x: Tensor) -> bool:
    """Whether all numbers are the same, so that no std can be measured."""
    return x.numel() < 2 or bool((x == x.flatten()[0]).all())


def _log_rms(x: Tensor) -> Size:
    # the standard error is a Gaussian's, or the values' own if heavier-tailed
    x2 = x.detach().double().square()
    rms2 = x2.mean().item()
    spread = max(x2.var().item() / rms2**2, 2.0)
    return 0.5 * math.log(rms2), 0.5 * math.sqrt(spread / x2.numel())


def own_growth(growing: set[float], base: Use, target: Use, base_model: nn.Module, model: nn.Module) -> float:
    """The factor by which the own init's std grows from base to target: a half power of one of the fan ratios.

    growing: the fan ratios. ``base_model`` and ``model`` own ``base`` and ``target``, and may say how they are drawn.
    Raises `InitError` where the values do not single out one power.
    """
    candidates = {m ** (k / 2) for m in growing for k in range(-3, 4)}

    def growth(b: Size | None, t: Size | None) -> float | None:
        if b is None or t is None:
            return None
        measured, sigma = t[0] - b[0], math.hypot(b[1], t[1])
        (miss, nearest), (other, _) = sorted((abs(math.log(c) - measured), c) for c in candidates)[:2]
        # within a quarter of the way to the next candidate or within noise, and far likelier than the next
        fits = miss <= max(0.25 * (miss + other), 3 * sigma)
        return nearest if fits and other**2 - miss**2 > (3 * sigma) ** 2 else None

    b, t = _log_rms(base.parameter), _log_rms(target.parameter)
    # of a small tensor: draw it afresh, often, where that can be done and those draws look like it
    own = growth(b, t) or growth(_fresh_log_rms(base, base_model, b), _fresh_log_rms(target, model, t))
    if own is None:
        log_m = math.log(max(growing))
        power, error = (t[0] - b[0]) / log_m, math.hypot(b[1], t[1]) / abs(log_m)
        raise InitError(
            f"'{target.name}' {list(base.shape)} -> {list(target.shape)}: its init std goes as width^({power:.2f} +- "
            f"{error:.2f}), which does not single out a multiple of 1/2; pass own_init={{'{target.name}': power}}"
        )
    return own


def _fresh_log_rms(use: Use, model: nn.Module, measured: Size, numel: int = 1 << 13) -> Size | None:
    """`_log_rms` of many fresh draws; None if the module cannot be drawn afresh, or is not drawn as it was."""
    if parametrize.is_parametrized(use.owner):
        return None
    module = copy.deepcopy(use.owner).cpu()
    for draw in _ways_to_draw(module, model):
        draws = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            try:
                for _ in range(max(1, numel // use.parameter.numel())):
                    draw()
                    draws.append(getattr(module, use.leaf).detach().flatten().clone())
            except TypeError:  # a method of that name which takes something else
                continue
        drawn = torch.cat(draws)
        if is_constant(drawn) or (len(draws) > 1 and torch.equal(draws[0], draws[1])):
            continue
        fresh = _log_rms(drawn)
        if abs(fresh[0] - measured[0]) <= 4 * measured[1] + 0.02:
            return fresh
    return None


def _ways_to_draw(module: nn.Module, model: nn.Module) -> Iterator[Callable[[], object]]:
    """The module's own reset, and how its model draws each of its modules (Hugging Face, nanoGPT)."""
    for name in ("reset_parameters", "_reset_parameters"):
        if callable(reset := getattr(module, name, None)):
            yield reset
    if callable(draw := getattr(unwrap(model), "_init_weights", None)):
        yield lambda: draw(module)
