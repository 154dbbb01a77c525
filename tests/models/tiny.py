"""Transformers of a few hundred weights, in every configuration, for the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer import scaling_plan
from mutransfer.models.transformer import Decoder
from mutransfer.models.transformer_config import NORMS, POSITIONS, Config

VOCAB = 11
TINY = Config(vocab=VOCAB, width=8, heads=2, length=8, zero_readout=False, zero_query=False)
BASE = replace(TINY, vocab=32, width=16)  # large enough for `initialize` to measure
EXACT = {"rtol": 1e-10, "atol": 1e-10}

CONFIGS = {
    **{f"{norm}-{places}": replace(TINY, norm=norm, positions=places) for norm in NORMS for places in POSITIONS},
    "unfused": replace(TINY, fused=False),
    "tied": replace(TINY, tied=True),
    "gelu, no bias": replace(TINY, activation="gelu", bias=False, norm="post"),
    "own d_head, ffn_ratio": replace(TINY, d_head=3, heads=3, ffn_ratio=1.5),
    "odd width": replace(TINY, width=7, heads=1),
}
MULTS = {"embed_mult": 0.7, "position_mult": 1.3, "output_mult": 2.5, "attention_scale": 0.9}
CONFIGS |= {
    f"mults, {places}": replace(TINY, positions=places, **MULTS) for places in ("sinusoidal", "learned", "relative")
}


def tokens(batch: int = 2, length: int = 5, vocab: int = VOCAB, seed: int = 0) -> Tensor:
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def padding(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest) >= torch.tensor(lengths)[:, None]


def built(kind: Callable[[Config], nn.Module], c: Config) -> nn.Module:
    """A model none of whose parameters is a constant: biases, gains and relative positions move what they should."""
    model = kind(c)
    for name, p in model.named_parameters():
        if p.ndim == 1 or "distance" in name:
            nn.init.normal_(p, mean=float("norm.weight" in name), std=0.5)
    return model


def scaled(c: Config, base: Config, table: str, *, lr: float = 2**-7, seed: int = 0) -> tuple[nn.Module, list[dict]]:
    """A decoder by a table, and its parameter groups; the same draws for every table."""
    torch.manual_seed(seed)
    model, small = Decoder(c), Decoder(base)
    plan = scaling_plan(small, model, parametrization=table, optimizer="adam")
    plan.initialize(model, small)
    return model, plan.param_groups(model, lr=lr)


def losses(model: nn.Module, groups: list[dict], steps: int = 6) -> list[float]:
    """Of steps of Adam on one batch."""
    optimizer, rows, found = torch.optim.Adam(groups), tokens(4, 9, BASE.vocab), []
    for _ in range(steps):
        loss = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
