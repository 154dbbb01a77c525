"""Transformers of fairseq's own, without its command line; import after `pytest.importorskip("fairseq.tasks")`."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from torch import Tensor, nn

from mutransfer.data.pairs import EOS, PAD

VOCAB = 29


def options(arch: str, width: int = 0, **changes: Any) -> argparse.Namespace:
    """The options of an architecture; ``width``: small, with its ffn width twice that, one layer, no dropout."""
    if width:
        sizes = {"embed_dim": width, "ffn_embed_dim": 2 * width, "layers": 1}
        small = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in sizes.items()}
        changes = {**small, "dropout": 0.0, **changes}
    found = argparse.Namespace(arch=arch, **changes)
    ARCH_CONFIG_REGISTRY[arch](found)
    return found


def shape(width: int, *more: str) -> list[str]:
    """Arguments of a small model: two heads, one layer."""
    sizes = {"embed-dim": width, "ffn-embed-dim": 2 * width, "attention-heads": 2, "layers": 1}
    return [f"--{side}-{name}={n}" for side in ("encoder", "decoder") for name, n in sizes.items()] + list(more)


def build(found: argparse.Namespace) -> nn.Module:
    """fairseq's model with those options, in evaluation mode."""
    symbols = Dictionary()
    for i in range(VOCAB - len(symbols)):
        symbols.add_symbol(f"w{i}")
    task = SimpleNamespace(source_dictionary=symbols, target_dictionary=symbols)
    return ARCH_MODEL_REGISTRY[found.arch].build_model(found, task).eval()


def sentences(lengths: list[int], seed: int) -> list[Tensor]:
    """Sentences of ``lengths``, each with `EOS` at its end."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.cat([torch.randint(4, VOCAB, (n - 1,), generator=draw), torch.tensor([EOS])]) for n in lengths]


def padded(rows: list[Tensor], *, left: bool = False) -> Tensor:
    """[B, T]: `PAD` on the right, or on the left as fairseq has sources."""
    found = torch.full((len(rows), max(map(len, rows))), PAD)
    for i, row in enumerate(rows):
        found[i, slice(-len(row), None) if left else slice(len(row))] = row
    return found
