"""One training step as a flat list of kernels: recorded twice under autograd, then replayed without it.

Autograd, modules and the optimizer's bookkeeping cost a small model as much as its arithmetic, and what a step computes
is the same every time. So the first two steps of a batch's shape are recorded operator by operator (`Program`); if they
agree, all others call those operators straight. Plain SGD's update is part of the list; where a gradient is one matrix
product, the product is accumulated into the weight itself (``W <- W - lr * G^T X`` is one call), and no gradient is
ever stored.

On a GPU the list is recorded once more, as a CUDA graph: one launch instead of one an operator. There the update is the
optimizer's own, since a graph's numbers, such as a learning rate, are fixed.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_SAME = (aten.alias.default, aten.detach.default)  # another name for the same tensor


class NotReplayable(Exception):
    """What was recorded cannot be called again: it reads a tensor's value, or computes nothing."""


@dataclass(eq=False)
class Call:
    """``result = function(*args, **kwargs)``."""

    function: Any  # a torch operator
    args: Sequence[Any]
    kwargs: dict[str, Any]
    result: Any


class Recorder(TorchDispatchMode):
    """Runs and lists every operator below autograd; keeps every tensor, so that no ``id`` is used again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append(Call(func, args, kwargs or {}, result))
        return result


@dataclass(eq=False)
class _Line:
    """One statement of a program: ``writes = function(reads, ...)``."""

    function: Any
    template: str  # the call, with {0}, {1}, ... for ``reads``
    reads: list[str]
    writes: str = ""  # left side of the assignment, "" for none


class Program:
    """Recorded calls as the source of a Python function; what no call made and no input is, is a constant."""

    def __init__(self, calls: Sequence[Call], inputs: dict[str, Tensor]):
        self.source = ""
        self.constants: list[Any] = []
        self._lines: list[_Line] = []
        self._arguments = list(inputs)
        self._names = {id(tensor): name for name, tensor in inputs.items()}  # of tensors
        self._makers: dict[str, _Line] = {}  # of variables
        for call in calls:
            self._add(call)

    def is_same(self, other: Program) -> bool:
        """Whether both do the same to the same tensors, with the same numbers."""
        pairs = zip(self.constants, other.constants, strict=False)  # what the same source names is in both
        alike = (a is b or (not isinstance(a, Tensor) and type(a) is type(b) and a == b) for a, b in pairs)
        return self.source == other.source and all(alike)

    def variable(self, tensor: Tensor) -> str:
        """The variable that a call wrote ``tensor`` to; a result that no call made cannot be replayed."""
        name = self._name(tensor)
        if name not in self._makers:
            raise NotReplayable
        return name

    def _name(self, value: Any) -> str:
        if isinstance(value, _Name):
            return value
        if not isinstance(value, Tensor):
            return self._constant(value)
        if id(value) not in self._names:
            self._names[id(value)] = self._constant(value)
        return self._names[id(value)]

    def _constant(self, value: Any) -> str:
        self.constants.append(value)
        return f"c{len(self.constants) - 1}"

    def _add(self, call: Call) -> None:
        if call.function in _SAME:
            self._names[id(call.result)] = self._name(call.args[0])
            return
        if call.function is aten.t.default:
            maker = self._makers.get(self._name(call.args[0]))
            if maker and maker.function is aten.t.default:  # transposed twice
                self._names[id(call.result)] = maker.reads[0]
                return
        line = self._append(call.function, call.args, call.kwargs)
        if isinstance(call.result, Tensor):
            if id(call.result) not in self._names:  # else it was changed in place, and has its name
                line.writes = self._new(call.result, line)
        elif isinstance(call.result, tuple | list):
            names = [self._new(x, line) if isinstance(x, Tensor) else "_" for x in call.result]
            line.writes = f"[{', '.join(names)}]"
        elif call.result is not None:  # a tensor's value
            raise NotReplayable

    def _new(self, tensor: Tensor, maker: _Line) -> str:
        name = self._names[id(tensor)] = f"v{len(self._makers)}"
        self._makers[name] = maker
        return name

    def _append(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> _Line:
        reads: list[str] = []

        def source(value: Any) -> str:
            if isinstance(value, tuple | list):
                return f"[{', '.join(map(source, value))}]"
            reads.append(self._name(value))
            return f"{{{len(reads) - 1}}}"

        words = [*map(source, args), *(f"{name}={source(value)}" for name, value in kwargs.items())]
        line = _Line(function, f"{self._constant(function)}({', '.join(words)})", reads)
        self._lines.append(line)
        return line

    def prune(self, outputs: Iterable[str]) -> None:
        """Drop the transposes that nothing reads any more."""
        needed = set(outputs)
        for line in list(reversed(self._lines)):
            if line.function is aten.t.default and line.writes not in needed:
                self._lines.remove(line)
            else:
                needed |= set(line.reads)

    def descend(self, parameter: Tensor, gradient: Tensor, step_size: str) -> None:
        """Add ``parameter += step_size * gradient``, at the end: other gradients still read the parameter."""
        self._arguments.append(step_size)
        name = self.variable(gradient)
        maker = self._makers[name]
        if maker.function is aten.mm.default and not any(name in line.reads for line in self._lines):
            self._lines.remove(maker)
            factors = [_Name(x) for x in maker.reads]
            self._append(aten.addmm_.default, [parameter, *factors], {"alpha": _Name(step_size)})
        else:
            self._append(aten.add_.Tensor, [parameter, _Name(name)], {"alpha": _Name(step_size)})

    def finish(self, outputs: Sequence[str]) -> None:
        """Make the source of a function that returns ``outputs``; every variable goes after its last use."""
        needed = set(outputs)
        lines: list[str] = []
        for line in reversed(self._lines):
            if last := sorted({x for x in line.reads if x in self._makers} - needed):
                lines.append(f"  del {', '.join(last)}")
            needed |= set(line.reads)
            call = line.template.format(*line.reads)
            lines.append(f"  {line.writes} = {call}" if line.writes else f"  {call}")
        body = "\n".join([*reversed(lines), f"  return {', '.join(outputs)},"])
        self.source = f"def replay({', '.join(self._arguments)}):\n{body}\n"
        self._lines, self._names, self._makers = [], {}, {}  # they hold on to the step's tensors

    def function(self) -> Callable[..., Any]:
        scope = {f"c{i}": value for i, value in enumerate(self.constants)}
        exec(self.source, scope)
        return scope["replay"]


class _Name(str):
    """A variable of the program, where a value is expected."""


SHAPES = 64  # of batches that are recorded; those of more shapes stay under autograd


@dataclass
class _Kind:
    """What is known of batches of one shape."""

    is_replayable: bool = True
    expected: int = 0  # how often it is to be recorded aside (`Step.go_on`)
    first: Program | None = None
    replay: Callable[..., Any] | None = None

    @property
    def recorded(self) -> int:
        return bool(self.first) + bool(self.replay) + self.expected if self.is_replayable else -1


class Step:
    """``step(*batch)`` -> loss (a scalar, on the device): forward, backward and update of ``optimizer``.

    Equal to ``compute(*batch).backward(); optimizer.step()`` bit for bit, but for plain SGD's weights whose
    gradient is one matrix product: there product and update may be rounded together. Learning rates are read from
    the optimizer at every step, so schedules work. Random operators (dropout) draw afresh.

    compute: from the tensors of a batch to the loss. If its first two calls with batches of one shape differ, in an
        operator or a number, or it reads a tensor's value, it is not replayed; it must not change of itself later on.
    parts: of equal size, computed one after another: loss and gradients are their means.
    """

    def __init__(self, compute: Callable[..., Tensor], optimizer: torch.optim.Optimizer, parts: int = 1):
        self._compute, self._parts = compute, parts
        self._optimizer = optimizer
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = self._parameters[0].device
        self._has_update = _is_plain_sgd(optimizer) and self._device.type != "cuda" and parts == 1
        self._kinds: dict[Any, _Kind] = {}  # by the shapes of a batch
        self._aside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
        self._pool: Any = None  # of CUDA graphs, which run one at a time and keep nothing

    def __call__(self, *batch: Tensor) -> Tensor:
        if self._has_update and (replay := self._kind(batch).replay):
            with torch.no_grad():
                return replay(*batch, *self._step_sizes())[0]
        loss, *gradients = self._computed(batch) if self._parts == 1 else self._mean_of_parts(batch)
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
        return {tuple(map(tuple, shapes)): kind.recorded for shapes, kind in self._kinds.items()}

    def go_on(self, recorded: dict[Any, int], aside: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        """Replay what a step that has these ``recorded`` would: a replay may round and draw otherwise than autograd.

        Each shape is recorded anew when a batch of it comes, in the context ``aside``, before its step.
        """
        self._kinds = {shapes: _Kind(times >= 0, max(times, 0)) for shapes, times in recorded.items()}
        self._aside = aside

    def _kind(self, batch: Sequence[Tensor]) -> _Kind:
        shapes = tuple(x.shape for x in batch)
        if shapes not in self._kinds:
            return self._kinds.setdefault(shapes, _Kind()) if len(self._kinds) < SHAPES else _Kind(is_replayable=False)
        kind = self._kinds[shapes]
        # one that was recorded once is recorded by its next step first: both batches must differ to be compared
        if kind.expected == 2 or (kind.expected and kind.first):
            times, kind.expected = kind.expected, 0
            for _ in range(times):
                with self._aside():
                    self._under_autograd(kind, batch)
        return kind

    def _computed(self, batch: Sequence[Tensor]) -> Sequence[Tensor]:
        """The loss and the gradients."""
        kind = self._kind(batch)
        if kind.replay is None:
            return self._under_autograd(kind, batch)
        with torch.no_grad():
            return kind.replay(*batch)

    def _mean_of_parts(self, batch: Sequence[Tensor]) -> Sequence[Tensor]:
        sums: list[Tensor] = []
        for part in zip(*(x.chunk(self._parts) for x in batch), strict=True):
            new = [x / self._parts for x in self._computed(part)]
            sums = [a + b for a, b in zip(sums, new, strict=True)] if sums else new
        return sums

    def _step_sizes(self) -> Iterator[float]:
        for group in self._optimizer.param_groups:
            yield from itertools.repeat(-float(group["lr"]), len(group["params"]))

    def _under_autograd(self, kind: _Kind, batch: Sequence[Tensor]) -> Sequence[Tensor]:
        if not kind.is_replayable:
            loss = self._compute(*batch)
            return [loss.detach(), *torch.autograd.grad(loss, self._parameters)]
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
        return [loss.detach(), *gradients]

    def _program(self, calls: Sequence[Call], batch: Sequence[Tensor], loss: Tensor, gradients: Any) -> Program:
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


Replay = Callable[..., Sequence[Tensor]]
Recorded = tuple[Sequence[Tensor], Callable[[], object]]  # the results, and what writes them again


def _on_fixed_tensors(replay: Replay, batch: Sequence[Tensor], record: Callable[[Replay], Recorded]) -> Replay:
    """``replay`` as ``record`` has it: what does the same again, reading and writing the tensors of the first time."""
    inputs = [x.clone() for x in batch]
    (loss, *gradients), again = record(lambda: replay(*inputs))

    def call(*batch: Tensor) -> Sequence[Tensor]:
        for x, value in zip(inputs, batch, strict=True):
            x.copy_(value)
        again()
        return [loss.clone(), *gradients]  # the caller keeps losses; the next call writes over this one

    return call


def _cuda_graph(function: Replay, pool: Any) -> Recorded:
    """Raises `NotReplayable` if an operator waits for the GPU, which no graph can."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph, pool=pool):
            return function(), graph.replay
    except RuntimeError as error:
        raise NotReplayable from error
