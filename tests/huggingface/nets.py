"""Hugging Face's BERT in small, unmodified, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import BertConfig

SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 12,
}


def config(**changes) -> BertConfig:
    return BertConfig(**{**SMALL, **changes})


def built(kind: type[nn.Module], **changes) -> nn.Module:
    """None of its parameters is a constant: biases and gains move what they should."""
    torch.manual_seed(0)
    model = kind(config(**changes)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def batch(lengths: tuple[int, ...] = (9, 5)) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, segments (1 in the second half) and padding, [B, T]."""
    place, size = torch.arange(max(lengths)), torch.tensor(lengths)[:, None]
    rows = torch.randint(32, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    return rows, (place >= size // 2).long(), place >= size


def theirs(tokens: Tensor, segments: Tensor, padding: Tensor) -> dict[str, Tensor]:
    """The same as the arguments of their models."""
    return {"input_ids": tokens, "token_type_ids": segments, "attention_mask": (~padding).long()}
