"""A plan: how every parameter of one model scales from a base model, keyed by the parameter's name.

Nothing is attached to a tensor, so a plan outlives deepcopy, ``load_state_dict(assign=True)``, sharding and export.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.errors import unknown
from mutransfer.parametrization.own_init import InitError, is_constant, own_growth
from mutransfer.parametrization.roles import (
    Model,
    RoleError,
    Sized,
    Use,
    build_on_meta,
    match,
    plain_name,
    read_roles,
    size,
    tensors_of,
    unwrap,
)
from mutransfer.parametrization.tables import Parametrization, Role, Rule, family_of, parametrization_of

WEIGHT_DECAY = ("independent", "coupled")


@dataclass(frozen=True)
class Scale:
    """How one tensor scales, each factor relative to the base model, where all are 1."""

    role: Role
    multiplier: float = 1.0
    """what the forward pass multiplies the parameter by"""
    init_std: float = 1.0
    """init std, as a factor on the base tensor's"""
    lr: float = 1.0
    weight_decay: float = 1.0
    eps: float = 1.0


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


class Plan(Mapping[str, Scale]):
    """An immutable mapping from parameter name to `Scale`; made by `scaling_plan`. ``print(plan)`` shows the table."""

    def __init__(self, parametrization: str, optimizer: str, scales: Mapping[str, Scale], sizes: Mapping[str, Sized]):
        self.parametrization = parametrization
        self.optimizer = optimizer
        self._scales = dict(scales)
        self._sizes = dict(sizes)

    @property
    def sizes(self) -> Mapping[str, Sized]:
        """Shapes and fan ratios by parameter name; read-only."""
        return MappingProxyType(self._sizes)

    def __getitem__(self, name: str) -> Scale:
        try:
            return self._scales[plain_name(name)]
        except KeyError:
            raise KeyError(str(unknown("parameter", name, self._scales))) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and plain_name(name) in self._scales

    def __iter__(self) -> Iterator[str]:
        return iter(self._scales)

    def __len__(self) -> int:
        return len(self._scales)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

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
        uses, base_uses = ({t.name: t for t in tensors_of(m)} for m in (model, base))
        self._check(uses, "model")
        for name in own_init or {}:
            if name not in self:
                raise unknown("parameter in own_init", name, self)
        pairs = match(base_uses, uses)
        values, base_values = ({n: t.value for n, t in ts.items()} for ts in (uses, base_uses))
        for name, tensor in {**base_values, **values}.items():
            if tensor.is_meta:
                raise ValueError(f"'{name}' is on the meta device: initialize needs real values to measure")
        for name, use in uses.items():
            if self[name].multiplier != 1 and use.is_parametrized:
                raise ValueError(f"'{name}' has its multiplier already: initialize a model only once")
        # what grows in a module: PyTorch draws a readout's bias, which does not grow itself, by its weight's fan_in
        growing: dict[int, set[float]] = defaultdict(set)
        for name, use in uses.items():
            growing[id(use.owner)] |= {self.sizes[name].m_in, self.sizes[name].m_out} - {1.0}
        factors: dict[int, tuple[str, float]] = {}
        for name, (b, _) in pairs.items():
            t = uses[name]  # itself: where the base is less deep, `match` has a sibling stand for it
            size, scale, ratios = self.sizes[name], self[name], growing[id(t.owner)]
            if b.shape != size.base_shape:
                raise ValueError(
                    f"base: '{name}' has shape {list(b.shape)}, but the plan was made for {size.base_shape}"
                )
            if not ratios or t.key in factors:
                continue  # nothing grew, or done under the tensor's other name, which has the same init
            old, new = base_values[b.name], values[name]
            if is_constant(old) != is_constant(new):
                raise InitError(f"'{name}' is constant in one of base and model, but not in the other")
            if is_constant(new):
                factors[t.key] = name, 1 / scale.multiplier
            elif own_init and name in own_init:
                factors[t.key] = name, scale.init_std / max(ratios) ** own_init[name]
            else:
                factors[t.key] = name, scale.init_std / own_growth(name, ratios, b, t, base, model)
        for name, factor in factors.values():  # only after every check has passed: a refused model stays as it was
            if factor != 1:
                values[name].mul_(factor)
        for name, t in uses.items():
            if self[name].multiplier != 1:
                parametrize.register_parametrization(t.owner, t.leaf, Multiplier(self[name].multiplier))

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
        uses = {t.name: t for t in tensors_of(model)}
        self._check(uses, "model")
        for name, tensor in uses.items():
            if self[name].multiplier != 1 and not tensor.is_parametrized:
                raise ValueError(
                    f"'{name}' needs the forward multiplier {self[name].multiplier:g}, which the model does not "
                    "have: call plan.initialize(model, base) first"
                )
        groups: dict[tuple[float, ...], list[nn.Parameter]] = defaultdict(list)
        for name, p in unwrap(model).named_parameters():
            s = self[name]
            if p.requires_grad:
                own_lr, own_decay = (x(name) if callable(x) else x for x in (lr, weight_decay))
                groups[own_lr * s.lr, own_decay * s.weight_decay, eps * s.eps].append(p)
        adam = family_of(self.optimizer) == "adam"
        return [
            {"params": params, "lr": g_lr, "weight_decay": g_wd, **({"eps": g_eps} if adam else {})}
            for (g_lr, g_wd, g_eps), params in groups.items()
        ]

    def _check(self, tensors: Mapping[str, Use], what: str) -> None:
        for name, t in tensors.items():
            if name not in self:
                raise ValueError(f"{what}: " + str(unknown("parameter", name, self)))
            if t.shape != self.sizes[name].shape:
                want = list(self.sizes[name].shape)
                raise ValueError(f"{what}: '{name}' has shape {list(t.shape)}, but the plan was made for {want}")
        for name in self:
            if name not in tensors:
                raise ValueError(f"{what}: parameter '{name}' of the plan is missing")

    def to_json(self) -> str:
        """The plan as JSON text; `from_json` gives an equal plan."""
        tensors = {
            name: {**asdict(s), "role": s.role.value, "size": {**asdict(z), "role": z.role.value}}
            for (name, s), z in zip(self._scales.items(), self.sizes.values(), strict=True)
        }
        head = {"parametrization": self.parametrization, "optimizer": self.optimizer}
        return json.dumps({**head, "tensors": tensors}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that `to_json` wrote. Raises ValueError if ``text`` is not one."""
        try:
            data = json.loads(text)
            scales, sizes = {}, {}
            for name, fields in data["tensors"].items():
                z = fields.pop("size")
                shape, base_shape = tuple(z["shape"]), tuple(z["base_shape"])
                sizes[name] = Sized(Role(z["role"]), z["m_in"], z["m_out"], shape, base_shape)
                scales[name] = Scale(role=Role(fields.pop("role")), **fields)
            return cls(data["parametrization"], data["optimizer"], scales, sizes)
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as e:
            raise ValueError(f"not a plan written by Plan.to_json: {e!r}") from e

    def __str__(self) -> str:
        rows: dict[tuple[str, ...], int] = defaultdict(int)
        for name, s in self._scales.items():
            z = self.sizes[name]
            factors = (s.multiplier, s.init_std, s.lr, s.weight_decay, s.eps)
            shapes = ["x".join(map(str, shape)) for shape in (z.base_shape, z.shape)]
            # blocks that scale alike share a row: blocks.*.attn.weight (x32)
            pattern = re.sub(r"\b\d+\b", "*", name)
            rows[pattern, s.role.value, " -> ".join(shapes), *(f"{f:.4g}" for f in factors)] += 1
        head = ("parameter", "role", "base -> target", "multiplier", "init_std", "lr", "weight_decay", "eps")
        cells: list[tuple[str, ...]] = [head]
        cells += [(row[0] + (f" (x{n})" if n > 1 else ""), *row[1:]) for row, n in rows.items()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
        return f"{self.parametrization}, {self.optimizer}: factors relative to the base\n" + "\n".join(lines)

    __repr__ = __str__


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
    table = parametrization_of(parametrization)
    family_of(optimizer)
    if weight_decay not in WEIGHT_DECAY:
        raise unknown("weight-decay convention", weight_decay, WEIGHT_DECAY)
    base, target = build_on_meta(base, "base"), build_on_meta(target, "target")
    base_tensors, target_tensors = ({t.name: t for t in tensors_of(m)} for m in (base, target))
    forced = read_roles(roles, target_tensors)
    sizes = {name: size(name, b, t, forced.get(name)) for name, (b, t) in match(base_tensors, target_tensors).items()}
    for name, z in sizes.items():  # a matched sibling's shape stands for the tensor's own; both are the same
        assert z.shape == target_tensors[name].shape, name

    scales: dict[str, Scale] = {}
    by_key: dict[int, list[str]] = defaultdict(list)
    for name, t in target_tensors.items():
        by_key[t.key].append(name)
    for names in by_key.values():
        scales |= _shared(names, sizes, table, optimizer, weight_decay)
    return Plan(table.name, optimizer, {name: scales[name] for name in sizes}, sizes)


def _scale(z: Sized, rule: Rule, weight_decay: str) -> Scale:
    factor = {f: getattr(rule, f)(z.m_in, z.m_out) for f in ("multiplier", "init_std", "lr", "eps")}
    return Scale(z.role, weight_decay=1 / factor["lr"] if weight_decay == "independent" else 1.0, **factor)


def _shared(
    names: list[str], sizes: Mapping[str, Sized], table: Parametrization, optimizer: str, weight_decay: str
) -> dict[str, Scale]:
    """Scales of one tensor under all its names: it has one init and one LR, so its uses may differ in multiplier only.

    A readout tied to an embedding is moved by Lemma J.1 to the form that has the embedding's LR (for Table 3 that is
    Table 8: multiplier 1/fan_in). Its init is the embedding's; in SP, where the two differ by sqrt(width), too.
    """
    scales = {n: _scale(sizes[n], table.rule(optimizer, sizes[n].role), weight_decay) for n in names}
    if len(set(scales.values())) == 1:
        return scales
    uses = {s.role: s for s in scales.values()}
    if set(uses) != {Role.INPUT, Role.OUTPUT}:
        what = ", ".join(f"'{n}' as {s.role.value}" for n, s in scales.items())
        z = sizes[names[0]]
        raise RoleError(names[0], z.base_shape, z.shape, f"is shared by uses that scale differently: {what}")
    read_in, read_out = uses[Role.INPUT], uses[Role.OUTPUT]
    theta = (read_out.lr / read_in.lr) ** (0.5 if family_of(optimizer) == "sgd" else 1.0)
    tied = Scale(**{**asdict(read_in), "role": Role.OUTPUT, "multiplier": read_out.multiplier * theta})
    return {n: read_in if s.role is Role.INPUT else tied for n, s in scales.items()}
