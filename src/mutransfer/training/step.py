"""One training step as a flat list of kernels: recorded twice under autograd, then replayed without it.

Autograd, modules and the optimizer's bookkeeping cost a small model as much as its arithmetic, and what a step computes
is the same every time. So the first two steps of a batch's shape are recorded operator by operator (`program`); if they
agree, all others call those operators straight. Plain SGD's update is part of the list; where a gradient is one matrix
product, the product is accumulated into the weight itself (``W <- W - lr * G^T X`` is one call), and no gradient is
ever stored.

On a GPU the list is recorded once more, as a CUDA graph: one launch instead of one an operator. There the update is the
optimizer's own, since a graph's numbers, such as a learning rate, are fixed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mutransfer.training.program import Call, NotReplayable, Program, Recorder

SHAPES = 64
"""Of batches that are recorded; those of more shapes stay under autograd."""


@dataclass
class _Kind:
    """What is known of batches of one shape."""

    is_replayable: bool
    first: Program | None = None
    replay: Callable[..., Any] | None = None


class Step:
    """``step(*batch)`` -> loss (a scalar, on the device): forward, backward and update of ``optimizer``.

    Equal to ``compute(*batch).backward(); optimizer.step()`` bit for bit, but for plain SGD's weights whose
    gradient is one matrix product: there product and update may be rounded together. Learning rates are read from
    the optimizer at every step, so schedules work. Random operators (dropout) draw afresh.

    A ``compute`` whose first two calls with batches of one shape differ, in an operator or a number, or that reads a
    tensor's value, is not replayed. One that changes of itself later on (a Python counter, say) must not be given.

    compute: from the tensors of a batch to the loss. parts: of equal size, computed one after another where the whole
    batch has no room: loss and gradients are their means.
    """

    def __init__(self, compute: Callable[..., Tensor], optimizer: torch.optim.Optimizer, parts: int = 1):
        self._compute, self._parts = compute, parts
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = self._parameters[0].device
        self._has_update = _is_plain_sgd(optimizer) and self._device.type != "cuda" and parts == 1
        self._kinds: dict[Any, _Kind] = {}  # by the shapes of a batch
        self._expected: dict[Any, int] = {}  # of those, how often they are to be recorded aside (`go_on`)
        self._aside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self._pool: Any = None  # of CUDA graphs, which run one at a time and keep nothing

    def __call__(self, *batch: Tensor) -> Tensor:
        if self._has_update and (replay := self._kind(batch).replay):
            with torch.no_grad():
                return replay(*batch, *self._step_sizes())[0]
        loss, gradients = self._computed(batch) if self._parts == 1 else self._mean_of_parts(batch)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        self._optimizer.step()
        for parameter in self._parameters:  # half the time of optimizer.zero_grad(), which also asks the profiler
            parameter.grad = None
        return loss

    @property
    def is_replayed(self) -> bool:
        """Whether steps are replays, of some shape."""
        return any(kind.replay for kind in self._kinds.values())

    @property
    def recorded(self) -> dict[tuple[tuple[int, ...], ...], int]:
        """How often each shape of a batch was recorded, before `go_on` too: 2 if it is replayed, -1 if it never is."""

        def times(shapes: Any, kind: _Kind) -> int:
            return bool(kind.first) + bool(kind.replay) + self._expected.get(shapes, 0) if kind.is_replayable else -1

        return {tuple(map(tuple, shapes)): times(shapes, kind) for shapes, kind in self._kinds.items()}

    def go_on(self, recorded: dict[Any, int], aside: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        """Replay what a step that has these ``recorded`` would: a replay may round and draw otherwise than autograd.

        Each shape is recorded anew when a batch of it comes, in the context ``aside``, before its step.
        """
        self._expected = {shapes: times for shapes, times in recorded.items() if times > 0}
        self._kinds = {shapes: _Kind(is_replayable=times >= 0) for shapes, times in recorded.items()}
        self._aside = aside

    def _kind(self, batch: Sequence[Tensor]) -> _Kind:
        shapes = tuple(x.shape for x in batch)
        if shapes in self._kinds:
            kind = self._kinds[shapes]
            # one that was recorded once is recorded by its next step first: both batches must differ to be compared
            if self._expected and (self._expected.get(shapes) == 2 or kind.first):
                for _ in range(self._expected.pop(shapes, 0)):
                    with self._aside():
                        self._under_autograd(kind, batch)
            return kind
        kind = _Kind(is_replayable=len(self._kinds) < SHAPES)
        if kind.is_replayable:
            self._kinds[shapes] = kind
        return kind

    def _computed(self, batch: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        kind = self._kind(batch)
        if kind.replay is None:
            return self._under_autograd(kind, batch)
        with torch.no_grad():
            loss, *gradients = kind.replay(*batch)
        return loss, gradients

    def _mean_of_parts(self, batch: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        sums: list[Tensor] = []
        for part in zip(*(x.chunk(self._parts) for x in batch), strict=True):
            loss, gradients = self._computed(part)
            new = [loss / self._parts, *(x / self._parts for x in gradients)]
            sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
        return sums[0], sums[1:]

    def _step_sizes(self) -> Iterator[float]:
        for group in self._optimizer.param_groups:
            yield from itertools.repeat(-float(group["lr"]), len(group["params"]))

    def _under_autograd(self, kind: _Kind, batch: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
        if not kind.is_replayable:
            loss = self._compute(*batch)
            return loss.detach(), torch.autograd.grad(loss, self._parameters)
        with Recorder() as recorder:
            loss = self._compute(*batch)
            gradients = torch.autograd.grad(loss, self._parameters)
        try:
            program = self._program(recorder.calls, batch, loss, gradients)
        except NotReplayable:
            kind.is_replayable = False
        else:
            if kind.first is None:
                kind.first = program
            elif kind.first.is_same(program):
                kind.replay = program.function()
                if self._device.type == "cuda":
                    with torch.no_grad(), torch.cuda.device(self._device), contextlib.suppress(NotReplayable):
                        self._pool = self._pool or torch.cuda.graph_pool_handle()
                        kind.replay = _on_fixed_tensors(kind.replay, batch, partial(_cuda_graph, pool=self._pool))
            else:
                kind.is_replayable = False
        return loss.detach(), gradients

    def _program(
        self, calls: Sequence[Call], batch: Sequence[Tensor], loss: Tensor, gradients: Sequence[Tensor]
    ) -> Program:
        program = Program(calls, {f"input_{i}": x for i, x in enumerate(batch)})
        program.prune(map(program.variable, [loss, *gradients]))
        outputs = [program.variable(loss)]
        if self._has_update:
            for i, (parameter, gradient) in enumerate(zip(self._parameters, gradients, strict=True)):
                program.descend(parameter, gradient, f"step_size_{i}")
        else:
            outputs += map(program.variable, gradients)
        program.finish(outputs)
        return program


def _is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the update is ``p <- p - lr * gradient`` and nothing else."""
    extras = ("momentum", "weight_decay", "maximize", "differentiable")
    return type(optimizer) is torch.optim.SGD and not any(g[x] for g in optimizer.param_groups for x in extras)


Again = Callable[[], object]


def _on_fixed_tensors(
    replay: Callable[..., Sequence[Tensor]],
    batch: Sequence[Tensor],
    record: Callable[[Callable[[], Sequence[Tensor]]], tuple[Sequence[Tensor], Again]],
) -> Callable[..., Sequence[Tensor]]:
    """``replay`` as ``record`` has it: what does the same again, reading and writing the tensors of the first time."""
    inputs = [x.clone() for x in batch]
    (loss, *gradients), again = record(lambda: replay(*inputs))

    def call(*batch: Tensor) -> Sequence[Tensor]:
        for x, value in zip(inputs, batch, strict=True):
            x.copy_(value)
        again()
        return [loss.clone(), *gradients]  # the caller keeps losses; the next call writes over this one

    return call


def _cuda_graph(function: Callable[[], Sequence[Tensor]], pool: Any) -> tuple[Sequence[Tensor], Again]:
    """Raises `NotReplayable` if an operator waits for the GPU, which no graph can."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            return function(), graph.replay
    except RuntimeError as error:
        raise NotReplayable from error
