"""Applying a plan to a model: init and forward multipliers."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.errors import unknown
from mutransfer.parametrization.plan import Plan
from mutransfer.parametrization.roles import Tensor as Use
from mutransfer.parametrization.roles import match, tensors_of, unwrap


class InitError(ValueError):
    """The model's own init follows no power of width that could be told from its values."""


class Multiplier(nn.Module):
    """The forward multiplier of one parameter: the module sees ``weight * multiplier``, the optimizer ``weight``.

    Registered with torch.nn.utils.parametrize, it reaches weights that are used functionally (as attention's are)
    and works under torch.compile and torch.export.
    """

    def __init__(self, multiplier: float):
        super().__init__()
        self.multiplier = multiplier

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.multiplier

    def extra_repr(self) -> str:
        return f"{self.multiplier:g}"


@torch.no_grad()
def initialize(plan: Plan, model: nn.Module, base: nn.Module, *, own_init: Mapping[str, float] | None = None) -> None:
    """Give ``model`` the plan's init and multipliers, in place. Call it once, on a freshly built model.

    Every tensor keeps the values that the model drew, times the factor that its own init still lacks. Which power of
    width the own init has is measured: the std of the tensor in ``base`` and ``model``, snapped to a multiple of 1/2.
    So it does not matter whether the model initialises by fan-in, with a constant 0.02, or Xavier-like. Constants
    (zeros, ones) keep their effective value. At base width nothing is touched.

    base: the model at base width, on a real device, freshly built as ``model`` was.
    own_init: the power of width of a tensor's own init std, by name, where measuring is not possible.

    Raises `InitError` with the tensor's name where values and powers cannot be reconciled, ValueError if ``model`` is
    not the plan's target, or has its multipliers already, `UserError` for an unknown name in ``own_init``.
    """
    uses, base_uses = ({t.name: t for t in tensors_of(m)} for m in (model, base))
    plan._check(uses, "model")
    for name in own_init or {}:
        if name not in plan:
            raise unknown("parameter in own_init", name, plan)
    pairs = match(base_uses, uses)
    values, base_values = ({n: _value(t) for n, t in ts.items()} for ts in (uses, base_uses))
    for name, tensor in {**base_values, **values}.items():
        if tensor.is_meta:
            raise ValueError(f"'{name}' is on the meta device: initialize needs real values to measure")
    for name, use in uses.items():
        if plan[name].multiplier != 1 and use.is_parametrized:
            raise ValueError(f"'{name}' has its multiplier already: initialize a model only once")
    # what grows in a module: PyTorch draws a readout's bias, which does not grow itself, by its weight's fan_in
    growing: dict[int, set[float]] = defaultdict(set)
    for name, use in uses.items():
        growing[id(use.owner)] |= {plan.sizes[name].m_in, plan.sizes[name].m_out} - {1.0}
    factors: dict[int, tuple[str, float]] = {}
    for name, (b, _) in pairs.items():
        t = uses[name]  # itself: where the base is less deep, `match` has a sibling stand for it
        size, scale, ratios = plan.sizes[name], plan[name], growing[id(t.owner)]
        if b.shape != size.base_shape:
            raise ValueError(f"base: '{name}' has shape {list(b.shape)}, but the plan was made for {size.base_shape}")
        if not ratios or t.key in factors:
            continue  # nothing grew, or done under the tensor's other name, which has the same init
        old, new = base_values[b.name], values[name]
        if _is_constant(old) != _is_constant(new):
            raise InitError(f"'{name}' is constant in one of base and model, but not in the other")
        if _is_constant(new):
            factors[t.key] = name, 1 / scale.multiplier
        elif own_init and name in own_init:
            factors[t.key] = name, scale.init_std / max(ratios) ** own_init[name]
        else:
            factors[t.key] = name, scale.init_std / _own_growth(name, ratios, b, t, base, model)
    for name, factor in factors.values():  # only after every check has passed: a refused model stays as it was
        if factor != 1:
            values[name].mul_(factor)
    for name, t in uses.items():
        if plan[name].multiplier != 1:
            parametrize.register_parametrization(t.owner, t.leaf, Multiplier(plan[name].multiplier))


def _value(use: Use) -> Tensor:
    if use.is_parametrized:
        return use.owner.parametrizations[use.leaf].original.detach()  # type: ignore[union-attr, index]
    return getattr(use.owner, use.leaf).detach()


def _is_constant(x: Tensor) -> bool:
    return x.numel() < 2 or bool((x == x.flatten()[0]).all())


def _log_rms(x: Tensor) -> tuple[float, float]:
    """Log of the coordinate size, and its standard error: a Gaussian's, or the values' own if heavier-tailed."""
    x2 = x.detach().double().square()
    rms2 = x2.mean().item()
    spread = max(x2.var().item() / rms2**2, 2.0)
    return 0.5 * math.log(rms2), 0.5 * math.sqrt(spread / x2.numel())


def _own_growth(
    name: str, growing: set[float], base: Use, target: Use, base_model: nn.Module, model: nn.Module
) -> float:
    """The factor by which the own init's std grows from base to target: a half power of one of the fan ratios."""
    candidates = {m ** (k / 2) for m in growing for k in range(-3, 4)}

    def decide(measured: float, sigma: float) -> float | None:
        near, second = sorted(candidates, key=lambda c: abs(math.log(c) - measured))[:2]
        miss, other = (abs(math.log(c) - measured) for c in (near, second))
        # within a quarter of the way to the next candidate or within noise, and far likelier than the next
        fits = miss <= max(0.25 * (miss + other), 3 * sigma)
        return near if fits and other**2 - miss**2 > (3 * sigma) ** 2 else None

    (b, b_error), (t, t_error) = _log_rms(_value(base)), _log_rms(_value(target))
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
        if _is_constant(drawn) or (len(draws) > 1 and torch.equal(draws[0], draws[1])):
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
