"""The Transformer once more, from its formulas: one sequence and one head at a time. Slow, and meant to be read.

x [T, N] is the residual stream; W, b are the weights of a linear map y = W x + b. Attention of token t with head h to
the tokens s that it may see:

    a_ts = scale * <q_t, k_s> + bias_h(s - t),    o_t = sum_s softmax_s(a_ts) v_s
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mutransfer.models.transformer_config import Config

Weights = Mapping[str, Tensor]


def decoder(w: Weights, c: Config, tokens: Tensor) -> Tensor:
    """Logits [B, T, V] of a `Decoder`."""
    return torch.stack([logits(w, c, "stack", stack(w, c, "stack", row, is_causal=True)) for row in tokens])


def bert(
    w: Weights, c: Config, tokens: Tensor, segments: Tensor | None = None, padding: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [B, T, V] and [B, 2] of a `Bert`: of the tokens, and of following or not."""
    readout, of_tokens, of_pairs = w["stack.embed.weight"] if c.tied else w["readout.weight"], [], []
    for i, row in enumerate(tokens):
        kinds = torch.zeros_like(row) if segments is None else segments[i]
        hidden = None if padding is None else padding[i]
        x = stack(w, c, "stack", row, padding=hidden, segments=kinds if c.segments else None)
        y = layer_norm(w, c, "transform_norm", phi(c, linear(w, "transform", x)))
        of_tokens.append(c.output_mult * y @ readout.T + w["readout.bias"])
        of_pairs.append(linear(w, "following", torch.tanh(linear(w, "pooler", x[0]))))
    return torch.stack(of_tokens), torch.stack(of_pairs)


def encoder_decoder(w: Weights, c: Config, source: Tensor, target: Tensor, padding: Tensor) -> Tensor:
    """Logits [B, T, V] of an `EncoderDecoder`."""
    out = []
    for s, t, hidden in zip(source, target, padding, strict=True):
        memory = stack(w, c, "encoder", s, padding=hidden)
        x = stack(w, c, "decoder", t, is_causal=True, memory=memory, memory_padding=hidden)
        out.append(logits(w, c, "decoder", x))
    return torch.stack(out)


def stack(
    w: Weights,
    c: Config,
    name: str,
    tokens: Tensor,
    *,
    is_causal: bool = False,
    padding: Tensor | None = None,
    memory: Tensor | None = None,
    memory_padding: Tensor | None = None,
    segments: Tensor | None = None,
) -> Tensor:
    """What the readout reads of each token [T, N]."""
    place = torch.arange(len(tokens))
    x = c.embed_mult * w[f"{name}.embed.weight"][tokens]
    if c.positions == "sinusoidal":
        x = x + c.position_mult * torch.stack([sinusoid(t + c.first_position, c.width) for t in range(len(x))])
    elif c.positions == "learned":
        x = x + c.position_mult * w[f"{name}.position.weight"][place]
    if segments is not None:
        x = x + w[f"{name}.segment.weight"][segments]
    x = layer_norm(w, c, f"{name}.embed_norm", x) if c.embed_norm else x
    bias = torch.zeros(c.heads, len(x), len(x), dtype=x.dtype)
    if c.positions == "relative":
        distance = w[f"{name}.distance.weight"][place - place[:, None] + c.length - 1]
        bias = bias + c.position_mult * distance.permute(2, 0, 1)
    bias = masked(bias, padding).masked_fill((place > place[:, None]) & is_causal, -math.inf)
    for i in range(c.depth):
        block = f"{name}.blocks.{i}"
        branches: dict[str, Callable[[Tensor], Tensor]] = {}
        branches["attention"] = lambda y, block=block: attention(w, c, f"{block}.attention", y, y, bias)
        if memory is not None:
            nothing = masked(torch.zeros(c.heads, len(x), len(memory), dtype=x.dtype), memory_padding)
            branches["cross"] = lambda y, block=block, b=nothing: attention(w, c, f"{block}.cross", y, memory, b)
        branches["ffn"] = lambda y, block=block: linear(w, f"{block}.down", phi(c, linear(w, f"{block}.up", y)))
        for branch, f in branches.items():
            norm = f"{block}.{branch}_norm"
            x = x + f(layer_norm(w, c, norm, x)) if c.norm == "pre" else layer_norm(w, c, norm, x + f(x))
    return layer_norm(w, c, f"{name}.norm", x) if c.norm == "pre" else x


def masked(bias: Tensor, padding: Tensor | None) -> Tensor:
    """-inf at padding."""
    return bias if padding is None else bias.masked_fill(padding, -math.inf)


def attention(w: Weights, c: Config, name: str, x: Tensor, y: Tensor, bias_HxTxS: Tensor) -> Tensor:
    """Of the tokens x to the tokens y."""
    d, out = c.d_head or c.width // c.heads, []
    for h in range(c.heads):
        rows = [slice((part * c.heads + h) * d, (part * c.heads + h + 1) * d) for part in range(3)]
        q, k, v = (linear(w, f"{name}.qkv", z, of) for z, of in zip((x, y, y), rows, strict=True))
        weights = torch.exp((c.attention_scale or 1 / math.sqrt(d)) * q @ k.T + bias_HxTxS[h])
        out.append(weights @ v / weights.sum(1, keepdim=True))
    return linear(w, f"{name}.out", torch.cat(out, 1))


def linear(w: Weights, name: str, x: Tensor, rows: slice = slice(None)) -> Tensor:
    y = x @ w[f"{name}.weight"][rows].T
    return y + w[f"{name}.bias"][rows] if f"{name}.bias" in w else y


def phi(c: Config, z: Tensor) -> Tensor:
    return z.clamp(min=0) if c.activation == "relu" else z * (1 + torch.erf(z / math.sqrt(2))) / 2


def layer_norm(w: Weights, c: Config, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + c.norm_eps)
    return w[f"{name}.weight"] * normal + w[f"{name}.bias"]


def logits(w: Weights, c: Config, embedding: str, x: Tensor) -> Tensor:
    """[T, V]."""
    return c.output_mult * x @ (w[f"{embedding}.embed.weight"] if c.tied else w["readout.linear.weight"]).T


def sinusoid(t: int, width: int) -> Tensor:
    """Sines, then cosines, of t at wavelengths that grow geometrically from 2 pi to 10000 * 2 pi."""
    half = math.ceil(width / 2)
    wavelengths = [2 * math.pi * 10000 ** (i / (half - 1)) for i in range(half)]
    angles = [2 * math.pi * t / wavelength for wavelength in wavelengths]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)][:width], dtype=torch.float64)
