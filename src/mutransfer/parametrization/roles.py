"""Which role a tensor plays, found from the shapes of the model at two widths."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils import parametrize

from mutransfer.parametrization.tables import Role

Shape = tuple[int, ...]
Model = nn.Module | Callable[[], nn.Module]


class RoleError(ValueError):
    """A tensor that cannot be given a role. The message names it, its two shapes and what to do."""

    def __init__(self, name: str, base: Shape, target: Shape, why: str):
        super().__init__(f"'{name}' (base shape {list(base)}, target shape {list(target)}): {why}")


@dataclass(frozen=True)
class Use:
    """A parameter as one module uses it: a parameter that two modules share has two uses."""

    name: str
    owner: nn.Module
    parameter: nn.Parameter  # what the optimizer sees, without a multiplier

    @property
    def leaf(self) -> str:
        """The parameter's name in its own module."""
        return self.name.rpartition(".")[2]

    @property
    def shape(self) -> Shape:
        return tuple(self.parameter.shape)

    @property
    def is_parametrized(self) -> bool:
        """Whether torch.nn.utils.parametrize stands between the parameter and its module, as a multiplier does."""
        return parametrize.is_parametrized(self.owner, self.leaf)


@dataclass(frozen=True)
class Sized:
    """A tensor's role and how much its fans grew: ``m_in = fan_in / base fan_in``, ``m_out`` likewise."""

    role: Role
    m_in: float
    m_out: float
    shape: Shape
    base_shape: Shape


def on_meta(model: Model) -> nn.Module:
    """The model itself, or what ``model()`` builds on the ``meta`` device, where a 6.7B target needs no memory."""
    if isinstance(model, nn.Module):
        return model
    with torch.device("meta"):
        built = model()
    if not isinstance(built, nn.Module):
        raise TypeError(f"{model!r} must return a torch.nn.Module, got {type(built).__name__}")
    return built


def plain_name(name: str) -> str:
    """The name that a parameter has without the wrappers of torch.compile, FSDP and torch.nn.utils.parametrize."""
    name = re.sub(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)", "", name)
    name = re.sub(r"(^|\.)parametrizations\.([^.]+)\.original$", r"\1\2", name)
    return name.removeprefix(".")


def unwrap(model: nn.Module) -> nn.Module:
    """The user's module inside (Distributed)DataParallel or AveragedModel."""
    while isinstance(model, _WRAPPERS):
        model = model.module
    return model


def uses_of(model: nn.Module) -> dict[str, Use]:
    """Every use of every parameter by its plain name, in the order of the modules. Buffers have no role."""
    uses = {}
    for path, module in unwrap(model).named_modules(remove_duplicate=False):
        if isinstance(module, parametrize.ParametrizationList):
            continue
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        if parametrize.is_parametrized(module):
            lists = module.parametrizations
            assert isinstance(lists, nn.ModuleDict)
            own |= {leaf: p.original for leaf, p in lists.items() if isinstance(p.original, nn.Parameter)}
        for leaf, p in own.items():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise RoleError(leaf, (), (), "is not initialized yet: run one batch through the lazy module first")
            name = plain_name(f"{path}.{leaf}")
            uses[name] = Use(name, module, p)
    return uses


_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)
_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONV_T = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LINEAR_LIKE = (nn.Linear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_NORM = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


def _fans(t: Use) -> tuple[float, float, Shape] | None:
    """(fan_in, fan_out, the other dimensions) where the owning module's kind says which is which, else None."""
    shape, owner = t.shape, t.owner
    if isinstance(owner, _NORM) or (isinstance(owner, nn.PReLU) and len(shape) == 1):
        return 1, math.prod(shape), ()
    if len(shape) < 2:
        return None
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return shape[0], shape[1], ()
    if isinstance(owner, _CONV):  # a map for each kernel position (App. B.1); fan_in of a group is its own
        return shape[1], shape[0], shape[2:]
    if isinstance(owner, _CONV_T):
        return shape[0] / owner.groups, shape[1] * owner.groups, shape[2:]
    if isinstance(owner, _LINEAR_LIKE) and len(shape) == 2:
        return shape[1], shape[0], ()
    return None


def size(name: str, base: Use, target: Use, role: Role | None = None) -> Sized:
    """Role and fan ratios of one tensor from its shape in two models. Raises `RoleError` where they do not tell."""

    def refused(why: str) -> RoleError:
        return RoleError(name, base.shape, target.shape, why)

    def sized(role: Role, m_in: float = 1.0, m_out: float = 1.0) -> Sized:
        return Sized(role, m_in, m_out, target.shape, base.shape)

    dims = len(target.shape)
    if len(base.shape) != dims:
        raise refused("has a different number of dimensions in base and target")
    grown = [i for i, (b, t) in enumerate(zip(base.shape, target.shape, strict=True)) if b != t]
    ratios = {target.shape[i] / max(base.shape[i], 1) for i in grown}
    if role is Role.SCALAR or (role is None and not grown):
        return sized(Role.SCALAR)
    if role is not None:
        if len(ratios) > 1:
            raise refused(f"role {role.value} is given, but its dimensions grow by different factors {sorted(ratios)}")
        m = ratios.pop() if ratios else 1.0
        return sized(role, 1.0 if role is Role.INPUT else m, 1.0 if role is Role.OUTPUT else m)
    if len(grown) > 2:
        raise refused("has three or more growing dimensions, which no rule covers: write it as a product of matrices")
    if (base_fans := _fans(base)) and (fans := _fans(target)):
        (b_in, b_out, b_rest), (t_in, t_out, t_rest) = base_fans, fans
        if b_rest != t_rest:
            raise refused("its kernel grows; only channels may grow with width")
        m_in, m_out = t_in / b_in, t_out / b_out
        if isinstance(base.owner, nn.Embedding | nn.EmbeddingBag) and m_in != 1:
            raise refused("the number of embeddings grows; base and target must have the same vocabulary")
        if m_in == m_out == 1:
            return sized(Role.SCALAR)
        return sized(Role.INPUT if m_in == 1 else Role.OUTPUT if m_out == 1 else Role.HIDDEN, m_in, m_out)
    # A tensor of a module that we do not know: only its shape can speak. (1, 1, d) and (1, T, d) are added to
    # activations: class tokens and learned positions. A bare (T, d) could as well be a readout, and is refused.
    if grown == [dims - 1] and (dims == 1 or (dims > 2 and target.shape[0] == 1)):
        return sized(Role.INPUT, 1.0, ratios.pop())
    if len(grown) == dims == 2 and len(ratios) == 1:
        m = ratios.pop()
        return sized(Role.HIDDEN, m, m)
    raise refused(
        f"{type(target.owner).__name__} does not say which dimension is fan_in and which fan_out; "
        f"pass roles={{'{name}': 'input' | 'hidden' | 'output'}}"
    )


def match(base: Mapping[str, Use], target: Mapping[str, Use]) -> dict[str, Use]:
    """For each target name, the base tensor to compare it with: the one of that name.

    Where depth differs, a block that only the target has is compared with the base's block of the highest index that
    both have, if its own sibling there is of its shape; otherwise `RoleError`. The base's extra blocks are not needed,
    but must have such siblings too, which proves that the names mean the same: in a plain nn.Sequential, '4.weight'
    may be the readout of one model and a hidden layer of the other.
    """
    twins = {name: name if name in base else _sibling(name, target, base) for name in target}
    for name, twin in twins.items():
        if twin is None:
            raise RoleError(name, (), target[name].shape, "is in the target, but the base has nothing to match it with")
    for name, use in base.items():
        if name not in target and _sibling(name, base, target) is None:
            raise RoleError(name, use.shape, (), "is in the base, but the target has nothing to match it with")
    return {name: base[twin] for name, twin in twins.items() if twin}


def _sibling(name: str, own: Mapping[str, Use], other: Container[str]) -> str | None:
    parts = name.split(".")
    for i in (i for i, part in enumerate(parts) if part.isdigit()):
        pattern = re.escape(".".join([*parts[:i], "\0", *parts[i + 1 :]])).replace("\0", r"(\d+)")
        twins = [(int(m[1]), n) for n in own if n in other and (m := re.fullmatch(pattern, n))]
        if twins and own[max(twins)[1]].shape == own[name].shape:
            return max(twins)[1]
    return None
