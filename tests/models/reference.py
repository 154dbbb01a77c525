"""The Transformer once more, from its formulas: one token, one head, one sum at a time. Slow, and meant to be read.

x_t in R^N is the residual stream of token t; W, b are the weights of a linear map y = W x + b; everything is written
for one sequence. Attention of token t with head h to the tokens s that it may see:

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
    return torch.stack([logits(w, c, "stack", stack(w, c, "stack", row, is_causal=True)) for row in tokens.tolist()])


def bert(
    w: Weights, c: Config, tokens: Tensor, segments: Tensor | None = None, padding: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits [B, T, V] and [B, 2] of a `Bert`: of the tokens, and of following or not."""
    readout, of_tokens, of_pairs = w["stack.embed.weight"] if c.tied else w["readout.weight"], [], []
    for i, row in enumerate(tokens.tolist()):
        kinds = [0] * len(row) if segments is None else segments[i].tolist()
        x = stack(w, c, "stack", row, is_real=real(padding, i), segments=kinds if c.segments else None)
        y = [layer_norm(w, c, "transform_norm", phi(c, linear(w, "transform", x_t))) for x_t in x]
        of_tokens.append(torch.stack([c.output_mult * (readout @ y_t) + w["readout.bias"] for y_t in y]))
        of_pairs.append(linear(w, "following", torch.tanh(linear(w, "pooler", x[0]))))
    return torch.stack(of_tokens), torch.stack(of_pairs)


def encoder_decoder(w: Weights, c: Config, source: Tensor, target: Tensor, padding: Tensor | None = None) -> Tensor:
    """Logits [B, T, V] of an `EncoderDecoder`."""
    out = []
    for i, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        memory = stack(w, c, "encoder", s, is_real=real(padding, i))
        x = stack(w, c, "decoder", t, is_causal=True, memory=memory, memory_is_real=real(padding, i))
        out.append(logits(w, c, "decoder", x))
    return torch.stack(out)


def real(padding: Tensor | None, i: int) -> list[bool] | None:
    """Which tokens of sequence i are real."""
    return None if padding is None else [not p for p in padding[i].tolist()]


def stack(
    w: Weights,
    c: Config,
    name: str,
    tokens: list[int],
    *,
    is_causal: bool = False,
    is_real: list[bool] | None = None,
    memory: list[Tensor] | None = None,
    memory_is_real: list[bool] | None = None,
    segments: list[int] | None = None,
) -> list[Tensor]:
    """What the readout reads of each token."""
    x = []
    for t, token in enumerate(tokens):
        x_t = c.embed_mult * w[f"{name}.embed.weight"][token]
        if c.positions == "sinusoidal":
            x_t = x_t + c.position_mult * sinusoid(t, c.width)
        elif c.positions == "learned":
            x_t = x_t + c.position_mult * w[f"{name}.position.weight"][t]
        if segments is not None:
            x_t = x_t + w[f"{name}.segment.weight"][segments[t]]
        x.append(layer_norm(w, c, f"{name}.embed_norm", x_t) if c.embed_norm else x_t)

    def sees(t: int, s: int) -> bool:
        return (s <= t or not is_causal) and (is_real is None or is_real[s])

    def bias(t: int, s: int, h: int) -> Tensor | float:
        if c.positions != "relative":
            return 0.0
        return c.position_mult * w[f"{name}.distance.weight"][s - t + c.length - 1, h]

    def sees_memory(t: int, s: int) -> bool:
        return memory_is_real is None or memory_is_real[s]

    for i in range(c.depth):
        block = f"{name}.blocks.{i}"

        def self_attention(y: list[Tensor], block: str = block) -> list[Tensor]:
            return attention(w, c, f"{block}.attention", y, y, sees, bias)

        def cross_attention(y: list[Tensor], block: str = block) -> list[Tensor]:
            assert memory is not None
            return attention(w, c, f"{block}.cross", y, memory, sees_memory, lambda t, s, h: 0.0)

        def ffn(y: list[Tensor], block: str = block) -> list[Tensor]:
            return [linear(w, f"{block}.down", phi(c, linear(w, f"{block}.up", y_t))) for y_t in y]

        branches = [("attention_norm", self_attention), ("cross_norm", cross_attention), ("ffn_norm", ffn)]
        for norm, branch in branches:
            if branch is cross_attention and memory is None:
                continue
            if c.norm == "pre":  # x <- x + f(LN(x))
                y = branch([layer_norm(w, c, f"{block}.{norm}", x_t) for x_t in x])
                x = [x_t + y_t for x_t, y_t in zip(x, y, strict=True)]
            else:  # x <- LN(x + f(x))
                x = [layer_norm(w, c, f"{block}.{norm}", x_t + y_t) for x_t, y_t in zip(x, branch(x), strict=True)]
    return [layer_norm(w, c, f"{name}.norm", x_t) for x_t in x] if c.norm == "pre" else x


def attention(
    w: Weights,
    c: Config,
    name: str,
    x: list[Tensor],
    y: list[Tensor],
    sees: Callable[[int, int], bool],
    bias: Callable[[int, int, int], Tensor | float],
) -> list[Tensor]:
    """Of the tokens x to the tokens y."""
    d = c.d_head or c.width // c.heads
    inner = c.heads * d
    weight, shift = w[f"{name}.qkv.weight"], w.get(f"{name}.qkv.bias", torch.zeros(3 * inner, dtype=x[0].dtype))
    q = [weight[:inner] @ x_t + shift[:inner] for x_t in x]
    k = [weight[inner : 2 * inner] @ y_s + shift[inner : 2 * inner] for y_s in y]
    v = [weight[2 * inner :] @ y_s + shift[2 * inner :] for y_s in y]
    scale = c.attention_scale or 1 / math.sqrt(d)
    out = []
    for t in range(len(x)):
        heads = []
        for h in range(c.heads):
            own = slice(h * d, (h + 1) * d)
            seen = [s for s in range(len(y)) if sees(t, s)]
            weights = [torch.exp(scale * (q[t][own] * k[s][own]).sum() + bias(t, s, h)) for s in seen]
            total = sum(weights)
            heads.append(sum(p / total * v[s][own] for p, s in zip(weights, seen, strict=True)))
        out.append(linear(w, f"{name}.out", torch.cat(heads)))
    return out


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    y = (w[f"{name}.weight"] * x).sum(1)
    return y + w[f"{name}.bias"] if f"{name}.bias" in w else y


def phi(c: Config, z: Tensor) -> Tensor:
    return z.clamp(min=0) if c.activation == "relu" else z * (1 + torch.erf(z / math.sqrt(2))) / 2


def layer_norm(w: Weights, c: Config, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean()
    return w[f"{name}.weight"] * centred / torch.sqrt((centred**2).mean() + c.norm_eps) + w[f"{name}.bias"]


def logits(w: Weights, c: Config, embedding: str, x: list[Tensor]) -> Tensor:
    """[T, V]."""
    readout = w[f"{embedding}.embed.weight"] if c.tied else w["readout.linear.weight"]
    return torch.stack([c.output_mult * (readout @ x_t) for x_t in x])


def sinusoid(t: int, width: int) -> Tensor:
    """Sines, then cosines, of t at wavelengths that grow geometrically from 2 pi to 10000 * 2 pi."""
    half = math.ceil(width / 2)
    wavelengths = [2 * math.pi * 10000 ** (i / (half - 1)) for i in range(half)]
    angles = [2 * math.pi * t / wavelength for wavelength in wavelengths]
    return torch.tensor([*map(math.sin, angles), *map(math.cos, angles)][:width], dtype=torch.float64)
