"""The coordinate check (App. D.1, Figure 5): train a few steps at several widths and watch every activation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import cycle, islice, product
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree

from mutransfer.errors import known
from mutransfer.parametrization import Parametrization, Role, scaling_plan
from mutransfer.results.coordinates import COLUMNS, CoordFrame

Batch = tuple[Any, Tensor]
Loss = Callable[[Any, Tensor], Tensor]
_CLASSES = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad, torch.optim.RMSprop)
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {kind.__name__.lower(): kind for kind in _CLASSES}


def coord_check(
    build: Callable[[int], nn.Module],
    widths: Sequence[int],
    batches: Iterable[Batch],
    *,
    parametrization: str | Parametrization = "mup",
    optimizer: str = "adam",
    lr: float = 1e-2,
    steps: int = 4,
    seeds: int = 3,
    base_width: int | None = None,
    weight_decay: float = 0.0,
    eps: float = 1e-8,
    loss: Loss | None = None,
    roles: Mapping[str, str | Role] | None = None,
    may_shrink_at_init: Iterable[str] = (),
) -> CoordFrame:
    """Measure how every activation and its change since init grow with width, by hooks on an unmodified module.

    build: makes the model at a width. It need know nothing of µP, but for 1/d attention.
    batches: (input, target) pairs, one a step, then from the first again; activations are measured on the first. A
        tuple or dict as input is unpacked into the call.
    lr, weight_decay, eps: those of the base model, whose width is ``base_width`` (default: the least of ``widths``).
    loss: of (model output, target); default: cross-entropy for integer targets, else mean squared error.
    may_shrink_at_init: names of activations, beside readouts and the output, that may vanish at init as width grows.

    Activations carry their module's name; a second call of a module in one forward pass adds ``#2``, a second tensor
    in its output ``[1]``; the model's own output is ``output``. ``frame.verdict()`` judges.
    Raises ValueError for fewer than two widths, no batch, no step or no seed.
    """
    widths, batches = sorted(set(widths)), list(islice(batches, max(steps, 0)))
    if len(widths) < 2 or widths[0] < 1 or not batches or steps < 1 or seeds < 1:
        raise ValueError(
            f"coord_check needs at least two positive widths, one batch, one step and one seed; got widths={widths}, "
            f"{len(batches)} batches, steps={steps}, seeds={seeds}"
        )
    known("optimizer", optimizer, OPTIMIZERS)
    base_width, loss = base_width or widths[0], loss or _default_loss
    rows: list[tuple[object, ...]] = []
    allowed = {"output", *may_shrink_at_init}
    for width, seed in product(widths, range(seeds)):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model, base = build(width), build(base_width)
            plan = scaling_plan(base, model, parametrization=parametrization, optimizer=optimizer, roles=roles)
            plan.initialize(model, base)
            groups = plan.param_groups(model, lr=lr, weight_decay=weight_decay, eps=eps)
            measured = _trained(model, OPTIMIZERS[optimizer](groups, lr=lr), batches, steps, loss, seed)
            rows += [(width, seed, *row) for row in measured]
        allowed |= {name.rpartition(".")[0] for name, scale in plan.items() if scale.role is Role.OUTPUT}
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return CoordFrame(frame, plan.parametrization, optimizer, frozenset(allowed & set(frame["activation"])))


def _trained(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], steps: int, loss: Loss, seed: int
) -> Iterator[tuple[int, str, str, float]]:
    """(step, activation, kind, rms) at init and after each step."""
    start = _activations(model, batches[0][0], seed)
    yield from ((0, name, "value", _rms(x)) for name, x in start.items())
    for step, (inputs, target) in zip(range(1, steps + 1), cycle(batches), strict=False):
        optimizer.zero_grad()
        loss(_call(model, inputs), target).backward()
        optimizer.step()
        for name, x in _activations(model, batches[0][0], seed).items():
            yield step, name, "value", _rms(x)
            yield step, name, "change", _rms(x - start[name])


def _activations(model: nn.Module, inputs: Any, seed: int) -> dict[str, Tensor]:
    """Every module's floating-point output on one batch, by name, in the order of the calls.

    Outputs that depend on no trainable parameter are left out. Dropout draws the same mask for the same ``seed``.
    """
    seen: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, module: nn.Module, args: Any, output: Any) -> None:
        calls[name] += 1
        label = name if calls[name] == 1 else f"{name}#{calls[name]}"
        tensors = [x for x in _pytree.tree_leaves(output) if isinstance(x, Tensor) and x.is_floating_point()]
        for i, x in enumerate(tensors):
            if x.requires_grad:
                # a copy, since the next module may work in place
                seen[label if i == 0 else f"{label}[{i}]"] = x.detach().clone()

    modules = [(name, m) for name, m in model.named_modules() if "parametrizations" not in name.split(".")]
    with ExitStack() as hooks, torch.random.fork_rng():
        for name, module in modules:
            hooks.enter_context(module.register_forward_hook(partial(keep, name or "output")))
        torch.manual_seed(seed)
        _call(model, inputs)
    return seen


def _call(model: nn.Module, inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _default_loss(output: Any, target: Tensor) -> Tensor:
    logits = output if isinstance(output, Tensor) else _pytree.tree_leaves(output)[0]
    if target.is_floating_point():
        return F.mse_loss(logits, target)
    return F.cross_entropy(logits.flatten(0, -2), target.flatten())


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())
