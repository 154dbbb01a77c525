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
Kind = Callable[[Config], nn.Module]
TINY = Config(vocab=VOCAB, width=8, heads=2, length=8, zero_readout=False, zero_query=False)
BASE = replace(TINY, vocab=32, width=16)  # large enough for `initialize` to measure
# BERT as Megatron has it, and as it was published
MEGATRON = replace(TINY, positions="learned", activation="gelu", segments=2, tied=True)
PUBLISHED = replace(MEGATRON, norm="post", embed_norm=True, norm_eps=1e-12)
EXACT = {"rtol": 1e-10, "atol": 1e-10}

CONFIGS = {
    **{f"{norm}-{places}": replace(TINY, norm=norm, positions=places) for norm in NORMS for places in POSITIONS},
    "unfused": replace(TINY, fused=False),
    "tied": replace(TINY, tied=True),
    "gelu, no bias": replace(TINY, activation="gelu", bias=False, norm="post"),
    "own d_head, ffn_ratio": replace(TINY, d_head=3, heads=3, ffn_ratio=1.5),
    "odd width": replace(TINY, width=7, heads=1, first_position=2),
}
MULTS = {"embed_mult": 0.7, "position_mult": 1.3, "output_mult": 2.5, "attention_scale": 0.9}
CONFIGS |= {
    f"mults, {places}": replace(TINY, positions=places, **MULTS) for places in ("sinusoidal", "learned", "relative")
}


def tokens(batch: int = 2, length: int = 5, vocab: int = VOCAB, seed: int = 0) -> Tensor:
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def padding(lengths: list[int], longest: int) -> Tensor:
    return torch.arange(longest) >= torch.tensor(lengths)[:, None]


def built(kind: Kind, c: Config) -> nn.Module:
    """A model none of whose parameters is a constant: biases, gains and relative positions move what they should."""
    model = kind(c)
    for name, p in model.named_parameters():
        if p.ndim == 1 or "distance" in name:
            nn.init.normal_(p, mean=float("norm.weight" in name), std=0.5)
    return model


def segments(c: Config, first: tuple[int, ...] = (3, 2), length: int = 5) -> Tensor | None:
    """[B, T]: 1 from the second text on; None where there are none."""
    return (torch.arange(length) >= torch.tensor(first)[:, None]).long() if c.segments else None


def bert_loss(out: tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    """``target``: one of every logits row, those of pairs last."""
    logits, following = out
    masked, pairs = target.split([target.numel() - len(following), len(following)])
    return F.cross_entropy(logits.flatten(0, -2), masked) + F.cross_entropy(following, pairs)


def batch_of(model: nn.Module, seed: int = 0) -> tuple[Tensor, ...]:
    """Rows of tokens; of `Bert` tokens, segments, padding, masked places, and what is to be said."""
    if isinstance(model, Decoder):
        return (tokens(4, 9, model.stack.c.vocab, seed),)
    places = torch.randperm(10, generator=torch.Generator().manual_seed(seed))[:6]
    return tokens(2, 5, model.c.vocab, seed), segments(model.c), padding([5, 3], 5), places, tokens(1, 8, 2, seed)[0]


def loss_of(model: nn.Module, *batch: Tensor) -> Tensor:
    if isinstance(model, Decoder):
        (rows,) = batch
        return F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten())
    return bert_loss(model(*batch[:-1]), batch[-1])


def updated(optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """One step by the textbook."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def scaled(kind: Kind, c: Config, base: Config, table: str) -> tuple[nn.Module, list[dict]]:
    """A model by a table, and its parameter groups; the same draws for every table."""
    torch.manual_seed(0)
    model, small = kind(c), kind(base)
    plan = scaling_plan(small, model, parametrization=table, optimizer="adam")
    plan.initialize(model, small)
    return model, plan.param_groups(model, lr=2**-7)


def losses(model: nn.Module, groups: list[dict], steps: int = 6) -> list[float]:
    """Of steps of Adam on one batch."""
    optimizer = torch.optim.Adam(groups)
    return [updated(optimizer, loss_of(model, *batch_of(model))).item() for _ in range(steps)]
