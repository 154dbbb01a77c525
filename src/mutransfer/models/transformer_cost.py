"""What training a `Decoder`, an `EncoderDecoder` or a `Bert` costs: floating-point operations, parameters, memory."""

from __future__ import annotations

from mutransfer.models.transformer_config import Config


def flops_per_step(c: Config, *, batch: int, length: int = 0) -> float:
    """Of one training step of a `Decoder`: 2 a multiply-add, backward twice the forward.

    Attention counts in full, as is usual, although half of it is masked.
    """
    length = length or c.length
    inner, tokens = c.heads * c.head_size, batch * length
    block = 4 * c.width * inner + 2 * c.width * c.d_ffn + 2 * length * inner
    return 6.0 * tokens * (c.depth * block + c.width * c.vocab)


def parameters(c: Config) -> int:
    """Of a `Decoder`, embeddings included."""
    inner, biases = c.heads * c.head_size, int(c.bias)
    positions = {"learned": c.length * c.width, "relative": (2 * c.length - 1) * c.heads}.get(c.positions, 0)
    attention = 4 * c.width * inner + biases * (3 * inner + c.width)
    ffn = 2 * c.width * c.d_ffn + biases * (c.d_ffn + c.width)
    norms = 4 * c.width * c.depth + 2 * c.width * (c.norm == "pre")
    return c.vocab * c.width * (1 if c.tied else 2) + positions + c.depth * (attention + ffn) + norms


def memory_bytes(c: Config, *, batch: int, length: int = 0, bfloat16: bool = False) -> float:
    """Of a training run of a `Decoder` with Adam at its peak: weights, gradients, two moments, activations."""
    length = length or c.length
    inner, tokens, number = c.heads * c.head_size, batch * length, 6 if bfloat16 else 4
    logits = batch * c.heads * length**2 if bfloat16 or c.positions == "relative" else 0
    block = tokens * (8 * c.width + 5 * inner + 2 * c.d_ffn) + 3 * logits
    activations = c.depth * block + tokens * (4 * c.width + 3 * c.vocab)
    return float(parameters(c) * (16 + (2 if bfloat16 else 0)) + number * activations)


def translation_flops_per_step(c: Config, *, tokens: int, sentence: int) -> float:
    """Of one training step of an `EncoderDecoder`: ``tokens`` a side with padding, in sentences of ``sentence``."""
    inner = c.heads * c.head_size
    attention, ffn = 4 * c.width * inner + 2 * sentence * inner, 2 * c.width * c.d_ffn
    return 6.0 * tokens * (c.depth * (3 * attention + 2 * ffn) + c.width * c.vocab)


def translation_parameters(c: Config) -> int:
    """Of an `EncoderDecoder` with sinusoidal positions, embeddings included."""
    inner, biases = c.heads * c.head_size, int(c.bias)
    attention = 4 * c.width * inner + biases * (3 * inner + c.width)
    ffn = 2 * c.width * c.d_ffn + biases * (c.d_ffn + c.width)
    norms = 10 * c.width * c.depth + 4 * c.width * (c.norm == "pre")
    return c.vocab * c.width * (3 - c.tied - c.joint) + c.depth * (3 * attention + 2 * ffn) + norms


def translation_memory_bytes(c: Config, *, tokens: int, sentence: int, bfloat16: bool = False) -> float:
    """Of a training run of an `EncoderDecoder` with Adam at its peak: weights, gradients, two moments, activations."""
    inner, number = c.heads * c.head_size, 6 if bfloat16 else 4
    attention = tokens * (4 * c.width + 5 * inner + 3 * c.heads * sentence)
    block = 3 * attention + 2 * tokens * (4 * c.width + 2 * c.d_ffn)
    activations = c.depth * block + tokens * (8 * c.width + 3 * c.vocab)
    return float(translation_parameters(c) * (16 + (2 if bfloat16 else 0)) + number * activations)


def bert_flops_per_step(c: Config, *, batch: int, length: int = 0, masked: float) -> float:
    """Of one training step of a `Bert` that predicts ``masked`` tokens of each sequence."""
    length = length or c.length
    inner = c.heads * c.head_size
    block = 4 * c.width * inner + 2 * c.width * c.d_ffn + 2 * length * inner
    head, pair = c.width * (c.width + c.vocab), c.width * (c.width + 2)
    return 6.0 * batch * (length * c.depth * block + masked * head + pair)


def bert_parameters(c: Config) -> int:
    """Of a `Bert`, embeddings included."""
    first = c.width * c.segments + 2 * c.width * c.embed_norm
    heads = 2 * c.width * (c.width + c.bias) + 2 * c.width + c.vocab + 2 * (c.width + 1)
    return parameters(c) + first + heads


def bert_memory_bytes(c: Config, *, batch: int, length: int = 0, masked: float, bfloat16: bool = False) -> float:
    """Of a training run of a `Bert` with Adam at its peak: weights, gradients, two moments, activations."""
    length = length or c.length
    inner, tokens, number = c.heads * c.head_size, batch * length, 6 if bfloat16 else 4
    logits = batch * c.heads * length**2 if bfloat16 or c.positions == "relative" else 0
    block = tokens * (8 * c.width + 5 * inner + 2 * c.d_ffn) + 3 * logits
    activations = c.depth * block + tokens * 6 * c.width + batch * masked * (5 * c.width + 3 * c.vocab)
    return float(bert_parameters(c) * (16 + (2 if bfloat16 else 0)) + number * activations)
