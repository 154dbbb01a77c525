"""A plan: how every parameter of one model scales from a base model, keyed by the parameter's name.

Nothing is attached to a tensor, so a plan outlives deepcopy, ``load_state_dict(assign=True)``, sharding and export.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.errors import known, unknown
from mutransfer.parametrization.own_init import InitError, is_constant, own_growth
from mutransfer.parametrization.roles import Model, RoleError, Sized, Use, match, on_meta, plain_name, size, uses_of
from mutransfer.parametrization.tables import FIELDS, Parametrization, Role, aligned, family_of, parametrization_of

WEIGHT_DECAY = ("independent", "coupled")


@dataclass(frozen=True)
class Scale:
    """How one tensor scales: its role, and factors relative to the base model, where all are 1."""

    role: Role
    multiplier: float
    """what the forward pass multiplies the parameter by"""
    init_std: float
    """init std, as a factor on the base tensor's"""
    lr: float
    weight_decay: float
    eps: float
    size: Sized
    """what the factors follow from: shapes and fan ratios"""


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


@dataclass(frozen=True, repr=False)
class Plan(Mapping[str, Scale]):
    """An immutable mapping from parameter name to `Scale`; made by `scaling_plan`. ``print(plan)`` shows the table."""

    parametrization: str
    optimizer: str
    scales: Mapping[str, Scale]

    def __getitem__(self, name: str) -> Scale:
        try:
            return self.scales[plain_name(name)]
        except KeyError:
            raise KeyError(str(unknown("parameter", name, self.scales))) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.scales)

    def __len__(self) -> int:
        return len(self.scales)

    @torch.no_grad()
    def initialize(self, model: nn.Module, base: nn.Module, *, own_init: Mapping[str, float] | None = None) -> None:
        """Give ``model`` the plan's init and multipliers, in place. Call it once, on a freshly built model.

        Every tensor keeps the values that the model drew, times the factor that its own init still lacks. Which power
        of width the own init has is measured: the std of the tensor in ``base`` and ``model``, snapped to a multiple of
        1/2. So it does not matter whether the model initialises by fan-in, with a constant 0.02, or Xavier-like.
        Constants (zeros, ones) keep their effective value. At base width nothing is touched.

        base: the model at base width, on a real device, freshly built as ``model`` was.
        own_init: the power of width of a tensor's own init std, by name, where measuring is not possible.

        Raises `InitError` with the tensor's name where values and powers cannot be reconciled, ValueError if ``model``
        is not the plan's target, or has its multipliers already, `UserError` for an unknown name in ``own_init``.
        """
        own_init = {known("parameter in own_init", name, self): power for name, power in (own_init or {}).items()}
        uses = self._uses(model, is_initialized=False)
        twins = match(uses_of(base), uses)
        # what grows in a module: PyTorch draws a readout's bias, which does not grow itself, by its weight's fan_in
        growing: dict[nn.Module, set[float]] = defaultdict(set)
        for name, use in uses.items():
            grown = self[name].size
            _check_shape("base", twins[name], grown.base_shape)
            if use.parameter.is_meta or twins[name].parameter.is_meta:
                raise ValueError(f"'{name}' is on the meta device: initialize needs real values to measure")
            growing[use.owner] |= {grown.m_in, grown.m_out} - {1.0}
        factors: dict[nn.Parameter, float] = {}
        for name, use in uses.items():
            twin, scale, ratios, p = twins[name], self[name], growing[use.owner], use.parameter
            if not ratios or p in factors:
                continue  # nothing grew, or done under the tensor's other name, which has the same init
            if is_constant(twin.parameter) != is_constant(p):
                raise InitError(f"'{name}' is constant in one of base and model, but not in the other")
            if is_constant(p):
                factors[p] = 1 / scale.multiplier
            elif name in own_init:
                factors[p] = scale.init_std / max(ratios) ** own_init[name]
            else:
                factors[p] = scale.init_std / own_growth(ratios, twin, use, base, model)
        for p, factor in factors.items():  # only after every check has passed: a refused model stays as it was
            if factor != 1:
                p.mul_(factor)
        for name, use in uses.items():
            if self[name].multiplier != 1:
                parametrize.register_parametrization(use.owner, use.leaf, Multiplier(self[name].multiplier))

    def param_groups(
        self,
        model: nn.Module,
        *,
        lr: float | Callable[[str], float],
        weight_decay: float | Callable[[str], float] = 0.0,
        eps: float = 1e-8,
    ) -> list[dict[str, Any]]:
        """Optimizer groups for any torch optimizer: one a distinct (lr, weight decay, eps), trainable parameters only.

        ``lr``, ``weight_decay`` and ``eps`` (Adam-like only) are the base model's; the first two may be functions of
        the parameter's name (a learning rate of the embedding, no decay of biases). Give them here, not to the
        optimizer: a group's own value wins over the optimizer's argument. Schedules must multiply, as `LambdaLR`
        does; for `OneCycleLR` pass ``max_lr=[g["lr"] for g in groups]``.

        Raises ValueError if the model is not the plan's, or has not the multipliers that `initialize` installs.
        """
        names: dict[nn.Parameter, str] = {}
        for name, use in self._uses(model, is_initialized=True).items():
            names.setdefault(use.parameter, name)
        groups: dict[tuple[float, ...], list[nn.Parameter]] = defaultdict(list)
        for p, name in names.items():
            if p.requires_grad:
                s = self[name]
                own_lr, own_decay = (x(name) if callable(x) else x for x in (lr, weight_decay))
                groups[own_lr * s.lr, own_decay * s.weight_decay, eps * s.eps].append(p)
        adam = family_of(self.optimizer) == "adam"
        return [
            {"params": params, "lr": g_lr, "weight_decay": g_wd, **({"eps": g_eps} if adam else {})}
            for (g_lr, g_wd, g_eps), params in groups.items()
        ]

    def _uses(self, model: nn.Module, *, is_initialized: bool) -> dict[str, Use]:
        """The tensors of ``model``, which must be the plan's, and have its multipliers or not yet have them."""
        uses = uses_of(model)
        for name, use in uses.items():
            if name not in self:
                raise ValueError(f"model: {unknown('parameter', name, self)}")
            scale = self[name]
            _check_shape("model", use, scale.size.shape)
            if scale.multiplier != 1 and use.is_parametrized != is_initialized:
                raise ValueError(
                    f"'{name}' lacks the multiplier {scale.multiplier:g}: call plan.initialize(model, base) first"
                    if is_initialized
                    else f"'{name}' has its multiplier already: initialize a model only once"
                )
        for name in self:
            if name not in uses:
                raise ValueError(f"model: parameter '{name}' of the plan is missing")
        return uses

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` gives an equal plan."""
        data = asdict(self)
        data["tensors"] = data.pop("scales")
        return json.dumps(data, indent=1, default=lambda role: role.value)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote. Raises ValueError if ``text`` is not one."""
        try:
            data, scales = json.loads(text), {}
            for name, fields in data["tensors"].items():
                z, role = fields["size"], Role(fields["role"])
                z |= {"role": Role(z["role"]), "shape": tuple(z["shape"]), "base_shape": tuple(z["base_shape"])}
                scales[name] = Scale(**{**fields, "role": role, "size": Sized(**z)})
            return cls(data["parametrization"], data["optimizer"], scales)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            raise ValueError(f"not a plan written by Plan.to_json: {e!r}") from e

    def __str__(self) -> str:
        rows: Counter[tuple[str, ...]] = Counter()
        for name, s in self.items():
            shapes = " -> ".join("x".join(map(str, shape)) for shape in (s.size.base_shape, s.size.shape))
            factors = (s.multiplier, s.init_std, s.lr, s.weight_decay, s.eps)
            # blocks that scale alike share a row: blocks.*.attn.weight (x32)
            rows[re.sub(r"\b\d+\b", "*", name), s.role.value, shapes, *(f"{f:.4g}" for f in factors)] += 1
        head = ("parameter", "role", "base -> target", "multiplier", "init_std", "lr", "weight_decay", "eps")
        cells = [(row[0] + (f" (x{n})" if n > 1 else ""), *row[1:]) for row, n in rows.items()]
        return f"{self.parametrization}, {self.optimizer}: factors relative to the base\n" + aligned([head, *cells])

    __repr__ = __str__


def _check_shape(what: str, use: Use, shape: tuple[int, ...]) -> None:
    if use.shape != shape:
        made = list(shape)
        raise ValueError(f"{what}: '{use.name}' has shape {list(use.shape)}, but the plan was made for {made}")


def scaling_plan(
    base: Model,
    target: Model,
    *,
    parametrization: str | Parametrization = "mup",
    optimizer: str = "adam",
    weight_decay: str = "independent",
    roles: Mapping[str, str | Role] | None = None,
) -> Plan:
    """How every parameter of ``target`` scales relative to ``base``, as an immutable `Plan`.

    base, target: the same architecture at two widths (and, if need be, two depths), as modules on any device
        (``meta`` included: only shapes are read) or as functions that build them (called on the ``meta`` device).
    parametrization: ``"sp"``, ``"mup"`` (Table 3), ``"mup_table8"``, ``"mup_table9"``, ``"ntk"``, ``"mean_field"``,
        or a `Parametrization` of your own.
    optimizer: ``"sgd"``, ``"adam"``, ``"adamw"``, ...: decides which rows of the table apply (App. B.3).
    weight_decay: ``"independent"`` keeps lr * weight_decay constant in width, as the reference implementation does;
        ``"coupled"`` keeps weight_decay itself constant.
    roles: role by parameter name, for a bare tensor whose shapes do not tell.

    Raises `RoleError` (a ValueError) with name and shapes for a tensor that cannot be classified, `UserError` for an
    unknown parametrization, optimizer, convention or name in ``roles``.
    """
    table, family = parametrization_of(parametrization), family_of(optimizer)
    known("weight-decay convention", weight_decay, WEIGHT_DECAY)
    bases, uses = (uses_of(on_meta(model)) for model in (base, target))
    valid = {role.value: role for role in Role}
    forced = {
        known("parameter in roles", name, uses): valid[known("role", str(getattr(role, "value", role)), valid)]
        for name, role in (roles or {}).items()
    }

    scales: dict[str, Scale] = {}
    names_of: dict[nn.Parameter, list[str]] = defaultdict(list)
    for name, twin in match(bases, uses).items():
        z = size(name, twin, uses[name], forced.get(name))
        rule = table.rule(optimizer, z.role)
        factor = {field: getattr(rule, field)(z.m_in, z.m_out) for field in FIELDS}
        decay = 1 / factor["lr"] if weight_decay == "independent" else 1.0
        scales[name] = Scale(z.role, weight_decay=decay, size=z, **factor)
        names_of[uses[name].parameter].append(name)
    for names in names_of.values():
        shared = {name: scales[name] for name in names}
        if len({*shared.values()}) > 1:
            scales |= _tied(shared, family)
    return Plan(table.name, optimizer, scales)


def _tied(scales: Mapping[str, Scale], family: str) -> dict[str, Scale]:
    """Scales of one tensor under all its names: it has one init and one LR, so its uses may differ in multiplier only.

    A readout tied to an embedding is moved by Lemma J.1 to the form that has the embedding's LR (for Table 3 that is
    Table 8: multiplier 1/fan_in). Its init is the embedding's; in SP, where the two differ by sqrt(width), too.
    """
    uses = {s.role: s for s in scales.values()}
    if set(uses) != {Role.INPUT, Role.OUTPUT}:
        what = ", ".join(f"'{n}' as {s.role.value}" for n, s in scales.items())
        name, z = next((n, s.size) for n, s in scales.items())
        raise RoleError(name, z.base_shape, z.shape, f"is shared by uses that scale differently: {what}")
    read_in, read_out = uses[Role.INPUT], uses[Role.OUTPUT]
    theta = (read_out.lr / read_in.lr) ** (0.5 if family == "sgd" else 1.0)
    tied = replace(read_in, role=Role.OUTPUT, multiplier=read_out.multiplier * theta, size=read_out.size)
    return {name: read_in if s.role is Role.INPUT else tied for name, s in scales.items()}
