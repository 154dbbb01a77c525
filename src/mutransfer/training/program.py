"""What a step does, as the source of a Python function: operators recorded below autograd, to be called again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
        if self.source != other.source or len(self.constants) != len(other.constants):
            return False
        pairs = zip(self.constants, other.constants, strict=True)
        return all(a is b or (not isinstance(a, Tensor) and type(a) is type(b) and a == b) for a, b in pairs)

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
