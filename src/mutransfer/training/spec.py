"""What decides a run (`RunSpec`) and what came of it (`RunRecord`): plain data, JSON both ways."""

from __future__ import annotations

import hashlib
import json
import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cached_property
from typing import Any

from mutransfer.errors import UserError, known

OPTIMIZERS = ("sgd", "adam", "adamw")
PRECISIONS = ("float32", "bfloat16")
STATUSES = ("finished", "diverged", "failed")
CURVE_POINTS = 50  # of a loss curve, at most

Value = float | int | str


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that decides the result of one training run, and nothing else.

    Two specs that are equal have the same `run_id`, whatever spelling they were given in (``-4`` or ``-4.0``,
    ``hps`` in any order). Raises `UserError` for a value that no run can have; names it and its field.
    """

    experiment: str  # stem of the folder in experiments/
    variant: str  # e.g. "relu_xent"
    parametrization: str  # "sp", "mup"
    optimizer: str  # one of OPTIMIZERS
    width: int
    base_width: int  # the width at which every parametrization equals SP
    log2_lr: float  # octaves
    seed: int  # of the initial weights and of the order of the batches
    steps: int  # updates of the weights
    batch: int  # examples a step
    momentum: float
    precision: str  # of the matrix products; weights and their updates are float32
    data: str  # the data set's name
    data_fingerprint: str  # of its content
    hps: tuple[tuple[str, Value], ...] = ()  # the experiment's own hyperparameters, sorted by name

    def __post_init__(self) -> None:
        hps = tuple(sorted((str(name), value) for name, value in self.hps))
        least = {"width": 1, "base_width": 1, "steps": 1, "batch": 1, "seed": 0}
        values: dict[str, Any] = {name: _integer(name, getattr(self, name), n) for name, n in least.items()}
        values |= {name: _finite(name, getattr(self, name)) for name in ("log2_lr", "momentum")}
        for name, value in {**values, "hps": hps}.items():
            object.__setattr__(self, name, value)
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum is {self.momentum}, expected a number from 0 up to, not including, 1.")
        for name in ("experiment", "parametrization", "data", "data_fingerprint"):
            if not isinstance(value := getattr(self, name), str) or not value:
                raise UserError(f"{name} is {value!r}, expected a name.")
        known("optimizer", self.optimizer, OPTIMIZERS)
        known("precision", self.precision, PRECISIONS)
        for name, value in hps:
            if not isinstance(value, Value) or (isinstance(value, float) and not math.isfinite(value)):
                raise UserError(f"hyperparameter {name} is {value!r}, expected a finite number or a string.")
        if len(dict(hps)) < len(hps):
            raise UserError(f"hps name a hyperparameter twice: {', '.join(name for name, _ in hps)}.")

    @cached_property
    def run_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the canonical JSON: the name of this run everywhere."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def hp(self, name: str) -> Value:
        """The experiment's own hyperparameter ``name``; `UserError` if the spec has none of that name."""
        hps = dict(self.hps)
        return hps[known("hyperparameter", name, hps)]

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return _dumps(self._values())

    def _values(self) -> dict[str, Any]:
        """All fields; of those that came after `hps`, only what differs from the default: old runs keep their id."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {f.name: values[f.name] for f in fields(self) if f.name == "hps" or values[f.name] != f.default}

    @classmethod
    def from_json(cls, text: str) -> RunSpec:
        """The spec that `to_json` wrote. Raises `UserError` if the text is not such JSON."""
        return cls(**_loads(text, cls))


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What came of one run.

    ``train_loss`` is the paper's metric (*training* loss; App. A, Def. A.3): the mean over the last 10% of
    the steps; ``+inf`` if the run diverged, ``nan`` if it failed (an error or a dead worker: no result).
    """

    spec: RunSpec
    status: str  # one of STATUSES
    train_loss: float
    test_loss: float = math.nan  # nan unless finished
    test_accuracy: float = math.nan  # in [0, 1]; nan unless finished
    steps_done: int = 0
    loss_curve: tuple[float, ...] = ()  # mean training loss of up to `CURVE_POINTS` equal chunks of the planned steps
    wall_seconds: float = math.nan  # of the training steps, without the evaluation
    examples_per_second: float = math.nan
    peak_memory_mib: float = math.nan
    reason: str = ""  # why it diverged or failed
    provenance: dict[str, str] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)  # more of the trained model, by name, such as BLEU
    samples: tuple[tuple[str, ...], ...] = ()  # of what it makes: source, reference, its translation

    def __post_init__(self) -> None:
        known("status", self.status, STATUSES)

    @property
    def is_done(self) -> bool:
        """Whether this is a result (divergence is one); a failed run is not, and is tried again."""
        return self.status != "failed"

    def logged(self) -> list[tuple[int, float]]:
        """(step, loss) at the end of each of up to `CURVE_POINTS` equal chunks of the planned steps.

        The chunk in which a diverged run stopped, and every one after, is +inf. Raises `UserError` if a finished run
        has not a loss for every chunk.
        """
        has_diverged, steps = self.status == "diverged", self.spec.steps
        points = min(CURVE_POINTS, steps)
        kept = self.loss_curve[: len(self.loss_curve) - 1 if has_diverged else None]
        if len(self.loss_curve) > points or (len(self.loss_curve) < points and not has_diverged):
            have = f"{len(self.loss_curve)} points of {points}"
            raise UserError(f"a finished run of {steps} steps has {have}; run it again.")
        losses = [*kept, *[math.inf] * (points - len(kept))]
        return [((i + 1) * steps // points, loss) for i, loss in enumerate(losses)]

    @classmethod
    def failed(cls, spec: RunSpec, reason: str) -> RunRecord:
        """The record of a run that gave no result, with the reason in one line."""
        return cls(spec=spec, status="failed", train_loss=math.nan, reason=reason)

    def to_json(self) -> str:
        """JSON of the whole record; ``inf`` and ``nan``, which JSON lacks, are strings."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _dumps({**values, "spec": self.spec._values()})

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """The record that `to_json` wrote. Raises `UserError` if the text is not such JSON."""
        values = _loads(text, cls)
        values |= {name: float(x) for name, x in values.items() if cls.__annotations__[name] == "float"}
        values["spec"] = RunSpec(**_checked(values["spec"], RunSpec))
        values["loss_curve"] = tuple(float(x) for x in values.get("loss_curve", ()))
        values["samples"] = tuple(map(tuple, values.get("samples", ())))
        values["scores"] = {name: float(score) for name, score in values.get("scores", {}).items()}
        return cls(**values)


def _integer(name: str, value: Any, least: int) -> int:
    try:
        if isinstance(value, bool) or (number := operator.index(value)) < least:
            raise TypeError
    except TypeError:
        raise UserError(f"{name} is {value!r}, expected a whole number of at least {least}.") from None
    return number


def _finite(name: str, value: Any) -> float:
    try:
        number = float(value) + 0.0  # -0.0 becomes 0.0: one number, one run_id
        if isinstance(value, str) or not math.isfinite(number):
            raise ValueError
    except (TypeError, ValueError):
        raise UserError(f"{name} is {value!r}, expected a finite number.") from None
    return number


def _dumps(value: object) -> str:
    options: dict[str, Any] = {"sort_keys": True, "separators": (",", ":"), "allow_nan": False}
    try:
        return json.dumps(value, **options)
    except ValueError:  # inf or nan, which are rare: to look for them first takes thrice as long
        return json.dumps(_strict(value), **options)


def _strict(value: Any) -> Any:
    """``value`` with its non-finite floats as the strings that `float` reads back."""
    if isinstance(value, Mapping):
        return {name: _strict(x) for name, x in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(x) for x in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _loads(text: str, cls: type) -> dict[str, Any]:
    try:
        return _checked(json.loads(text), cls)
    except ValueError as error:
        raise UserError(f"not the JSON of a {cls.__name__}: {error}.") from None


def _checked(values: Any, cls: type) -> dict[str, Any]:
    """``values`` if they are fields of a dataclass, all that have no default: what came later an old text lacks."""
    needed = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(cls)}
    if not isinstance(values, dict):
        raise UserError(f"not the JSON of a {cls.__name__}: {type(values).__name__}.")
    if wrong := [name for name in sorted(needed.keys() ^ values.keys()) if needed.get(name, True)]:
        raise UserError(f"not the JSON of a {cls.__name__}: missing or unknown: {', '.join(wrong)}.")
    return dict(values)
