"""Transformers of other libraries beside ours: what both directions of a conversion share.

Their side is a config, an object or a mapping with their fields, and a state dict. A table of modules says, for each
of ours, which of theirs hold its rows, in order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.models.transformer_config import Config

Names = Mapping[str, Sequence[str]]
# how a model starts, and whether attention is fused, is no part of what it computes; d_head stands in `unlike` itself
FREE = ("zero_readout", "zero_query", "init_mult", "fused", "ffn_ratio", "d_head")


def field(config: Any, name: str, default: Any = None) -> Any:
    """A field of ``config``, an object or a mapping; ``default`` where it is missing or None."""
    value = config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)
    return default if value is None else value


def beyond(config: Any, only: Mapping[str, Any]) -> list[str]:
    """``name=value`` of the fields that are not what ``only`` says, which is also what they are where none is named."""
    values = {name: field(config, name, value) for name, value in only.items()}
    return [f"{name}={value}" for name, value in values.items() if value != only[name]]


def unlike(ours: Config, theirs: Config, free: Collection[str] = ()) -> list[str]:
    """``name=value`` of our fields that change what the model computes, and that ``theirs`` does not have so."""
    ours, theirs = (replace(c, attention_scale=c.logit_scale) for c in (ours, theirs))
    pairs = {name: (value, vars(theirs)[name]) for name, value in vars(ours).items() if name not in (*FREE, *free)}
    bad = [f"{name}={value}" for name, (value, other) in pairs.items() if value != other]
    return bad + ([f"d_head={ours.d_head}"] if ours.head_size * ours.heads != ours.width else [])


def names_of(model: nn.Module, modules: Names, library: str) -> dict[str, list[str]]:
    """Our name of each parameter -> theirs of the same rows; ``*`` in ``modules`` stands for the number of a block.

    Raises `UserError` where a multiplier of µP, which ``library`` has nothing for, stands before a parameter.
    """
    names = {}
    for name in model.state_dict():
        module, _, leaf = name.rpartition(".")
        if ".parametrizations" in module:
            path = module.partition(".parametrizations")[0]
            raise UserError(f"'{path}' has a multiplier of µP, which {library} has nothing for.")
        number = next(iter(re.findall(r"\d+", module)), "")
        theirs = modules[module.replace(f".{number}.", ".*.") if number else module]
        names[name] = [f"{x}.{leaf}".replace("*", number) for x in theirs]
    return names


@torch.no_grad()
def load_ours(model: nn.Module, names: Names, state: Mapping[str, Tensor], library: str, options: str) -> None:
    """Copy the tensors of ``library`` into our ``model``, which was built by ``options`` ("the config").

    Raises `UserError` for keys that are missing or unknown, another shape, or tied weights that differ.
    """
    wanted, given = {theirs for many in names.values() for theirs in many}, set(state)
    for word, keys in (("lacks", wanted - given), ("has the unknown", given - wanted)):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(f"the state dict of {library} {word} {', '.join(sorted(keys)[:3])}{more}.")
    own = model.state_dict()
    filled: dict[int, tuple[str, Tensor]] = {}
    for ours, theirs in names.items():
        tensor, name = torch.cat([state[name] for name in theirs]), ", ".join(theirs)
        if tensor.shape != own[ours].shape:
            raise UserError(f"{name} give {[*tensor.shape]}, expected {[*own[ours].shape]} by {options}.")
        first, values = filled.setdefault(own[ours].data_ptr(), (name, tensor))
        if not torch.equal(values, tensor):
            raise UserError(f"{first} and {name} differ, but are tied by {options}.")
        own[ours].copy_(tensor)


def to_theirs(model: nn.Module, names: Names) -> dict[str, Tensor]:
    """Copies of our parameters, by their names."""
    own = model.state_dict()
    parts = {ours: own[ours].detach().chunk(len(theirs)) for ours, theirs in names.items()}
    return {name: x.clone() for ours, theirs in names.items() for name, x in zip(theirs, parts[ours], strict=True)}
