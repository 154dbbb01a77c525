"""Search spaces, and Algorithm 1 as a plan: the samples that the proxy trains, the target that gets the winner.

A space is data, as the paper prints it: ``{"lr": LogUniform(-4, -1, base=10), "output_mult": Grid((0.5, 1, 2))}``.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mutransfer.errors import UserError, unknown
from mutransfer.training.spec import RunSpec, Value


@dataclass(frozen=True)
class LogUniform:
    """``base^U(low, high)``, such as the 10^U(-4, -1) of App. F.4; rounded to the six digits that tables print."""

    low: float  # exponents
    high: float
    base: float = 2.0
    size = math.inf

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UserError(f"the exponents of {self} are no range, expected the lower one first.")
        if not 1 < self.base < math.inf:
            raise UserError(f"the base of {self} is {self.base:g}, expected a number above 1.")

    def at(self, u: float) -> float:
        """The value at quantile ``u`` in [0, 1)."""
        return float(f"{self.base ** (self.low + u * (self.high - self.low)):g}")

    def __str__(self) -> str:
        return f"{self.base:g}^U({self.low:g}, {self.high:g})"


@dataclass(frozen=True)
class Grid:
    """One of ``values``, all equally likely."""

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if not self.values or len(set(self.values)) < len(self.values):
            raise UserError(f"a grid has the values {self.values}, expected at least one, and none twice.")

    @property
    def size(self) -> int:
        return len(self.values)

    def at(self, u: float) -> Value:
        """The value at quantile ``u`` in [0, 1)."""
        return self.values[int(u * len(self.values))]

    def __str__(self) -> str:
        if len(self.values) > 6:
            return f"{{{self.values[0]}, ..., {self.values[-1]}}} ({len(self.values)} values)"
        return f"{{{', '.join(map(str, self.values))}}}"


Distribution = LogUniform | Grid
Space = Mapping[str, Distribution]  # by the hyperparameter's name
Sample = dict[str, Value]


def draw(space: Space, count: int, seed: int) -> list[Sample]:
    """``count`` samples; all points of the space, once each, if it is finite and has no more than that.

    Sample i depends on the space, the seed and i alone: a larger ``count`` keeps the earlier samples. The order
    of the names is irrelevant, and one hyperparameter more leaves the values of the others alone.
    """
    size = math.prod(distribution.size for distribution in space.values())
    found: dict[Any, Sample] = {}
    for i in itertools.count():
        if len(found) >= min(count, size):
            return list(found.values())
        sample = {name: space[name].at(_uniform(seed, i, name)) for name in sorted(space)}
        # On a grid a point drawn before is passed over: the last of n points takes n ln n draws in all.
        found.setdefault(i if size == math.inf else tuple(sample.values()), sample)
    raise AssertionError("unreachable")


def _uniform(seed: int, i: int, name: str) -> float:
    """A uniform number in [0, 1) from a hash: the same on every machine and with every version of NumPy."""
    digest = hashlib.sha256(f"{seed}/{i}/{name}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def assign(spec: RunSpec, hps: Mapping[str, Value]) -> RunSpec:
    """``spec`` with the values of ``hps``: ``lr`` and ``momentum`` are its fields, all others stand in its hps.

    Raises `UserError` for a name that the spec does not have, and for a learning rate that is not positive.
    """
    own = dict(spec.hps)
    changes: dict[str, Any] = {}
    for name, value in hps.items():
        if name == "lr":
            if isinstance(value, str) or value <= 0:
                raise UserError(f"lr is {value!r}, expected a positive number.")
            changes["log2_lr"] = round(math.log2(value), 9)  # without the last bits, in which machines differ
        elif name == "momentum":
            changes[name] = value
        elif name in own:
            own[name] = value
        else:
            raise unknown("hyperparameter", name, ["lr", "momentum", *own])
    return replace(spec, **changes, hps=tuple(own.items()))


@dataclass(frozen=True)
class Search:
    """What Algorithm 1 will train. The templates lack only the hyperparameters of ``space``."""

    space: Space
    seed: int
    samples: tuple[Sample, ...]
    proxy: RunSpec
    target: RunSpec

    @classmethod
    def plan(cls, specs: Iterable[RunSpec], space: Space, *, samples: int, seed: int) -> Search:
        """Tune the narrowest µP model of ``specs`` (an experiment's grid), copy to the widest.

        Raises `UserError` if the space is empty or names an unknown hyperparameter, or if there is one width.
        """
        mup = [s for s in specs if s.parametrization == "mup"]
        if len({s.width for s in mup}) < 2:
            raise UserError("tuning needs two widths in µP, a proxy's and the target's, such as --widths 64,1024.")
        proxy, target = (min(mup, key=lambda s: (sign * s.width, s.seed)) for sign in (1, -1))
        if not space:
            raise UserError(f"{proxy.experiment} declares no search space for {proxy.variant}; give it Variant.search.")
        search = cls(space, seed, tuple(draw(space, samples, seed)), proxy, target)
        search.runs(range(len(search.samples)))  # a wrong name shows now, not after hours
        return search

    def runs(self, samples: Iterable[int], steps: int | None = None) -> list[RunSpec]:
        """The proxy's runs of these samples, by number, over ``steps`` (default: the full length)."""
        return [replace(assign(self.proxy, self.samples[i]), steps=steps or self.proxy.steps) for i in samples]

    def copied(self, sample: int) -> RunSpec:
        """The target with that sample's hyperparameters, as they are: zero-shot transfer."""
        return assign(self.target, self.samples[sample])

    def within(self, parametrization: str) -> Search:
        """The same search in another parametrization; in SP it is the paper's naive transfer."""
        proxy, target = (replace(s, parametrization=parametrization) for s in (self.proxy, self.target))
        return replace(self, proxy=proxy, target=target)

    @property
    def facts(self) -> dict[str, Any]:
        """For provenance.json: what was searched."""
        space = {name: str(distribution) for name, distribution in sorted(self.space.items())}
        return {"space": space, "seed": self.seed, "samples": len(self.samples)}

    def line(self, flops: Callable[[RunSpec], float]) -> str:
        """What is planned, and what it costs if no run diverges, before it runs."""
        proxy, target = sum(map(flops, self.runs(range(len(self.samples))))), flops(self.target)
        space = ", ".join(f"{name} {distribution}" for name, distribution in sorted(self.space.items()))
        return (
            f"tuning: {len(self.samples)} samples of {space}; {self.proxy.steps} steps each at width "
            f"{self.proxy.width}: {proxy:.3g} FLOPs, {100 * proxy / target:.3g}% of the target's training "
            f"(width {self.target.width})"
        )
