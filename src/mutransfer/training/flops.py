"""What a training step costs, counted from the model itself: a new experiment needs no formula before it trains."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils.flop_counter import FlopCounterMode

from mutransfer.training.spec import RunSpec


def flops_per_step(
    build: Callable[[], nn.Module], inputs: Callable[[], Sequence[Any]], *, input_gradient: bool = False
) -> float:
    """Floating-point operations of one training step: forward and backward, 2 a multiply-add.

    Matrix products, convolutions and attention are counted, beside which the rest is small; attention in full, although
    half of it may be masked. All is made on the ``meta`` device: a model of any size costs no memory and no arithmetic.

    build: the model. inputs: what one batch calls it with, of the right shapes and types; zeros will do.
    input_gradient: count the first layer as if its input had a gradient too, as rules of thumb do.
    """
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        given = inputs()
        if input_gradient:
            given = [x.requires_grad_() for x in given]
        outputs = [x for x in _pytree.tree_leaves(build().train()(*given)) if isinstance(x, Tensor) and x.requires_grad]
        torch.autograd.backward(outputs, [torch.empty_like(x) for x in outputs])
    return float(counter.get_total_flops())


def counted(
    build: Callable[[RunSpec, int], nn.Module],
    inputs: Callable[[RunSpec], Sequence[Any]],
    *,
    free: Collection[str] = (),
    input_gradient: bool = False,
) -> Callable[[RunSpec], float]:
    """``flops(spec)`` of a whole run, for an experiment: `flops_per_step` of ``build(spec, spec.width)``, times steps.

    Counted once (a tenth of a second) for all learning rates, seeds and numbers of steps. free: hyperparameters that
    change no shape either, such as multipliers that a search draws.
    """
    known: dict[RunSpec, float] = {}

    def flops(spec: RunSpec) -> float:
        hps = tuple((name, value) for name, value in spec.hps if name not in free)
        shape = replace(
            spec, parametrization="sp", log2_lr=0.0, seed=0, steps=1, momentum=0.0, precision="float32", hps=hps
        )
        if shape not in known:
            model, batch = partial(build, spec, spec.width), partial(inputs, spec)
            known[shape] = flops_per_step(model, batch, input_gradient=input_gradient)
        return spec.steps * known[shape]

    return flops


def parameters(build: Callable[[], nn.Module]) -> int:
    """Of the model that ``build`` makes; a shared one counts once."""
    with torch.device("meta"):
        return sum(p.numel() for p in build().parameters())
