"""One family of Transformers: decoder (language model), encoder-decoder (translation), encoder (`Bert`).

Letters: B batch, T tokens (queries), S tokens attended to, N width (d_model), H heads, D d_head, F d_ffn, V vocabulary,
M places to predict in the whole batch, C classes.
µP asks three things of the module itself (App. B.1): a freely chosen attention scale (1/d instead of 1/sqrt(d)),
multipliers that are tuned (``*_mult``), and a readout and queries that may start at zero (App. D.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.models.transformer_config import Config

BITS = 16  # of an element's dropout: the rate is rounded to a multiple of 2**-16


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`; on a CPU, each random number of 64 bits decides on four elements.

    So a quarter of the draws of torch's, which cost a step a tenth.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.p or not x.is_cpu:
            return super().forward(x)
        if (dropped := round(self.p * 2**BITS)) >= 2**BITS:
            return x * 0
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = torch.ge(bits, dropped - 2 ** (BITS - 1), out=torch.empty_like(x, requires_grad=False))
        return x * kept.mul_(2**BITS / (2**BITS - dropped))


Cache = dict[str, Tensor]  # of one block: the keys and values of the tokens seen so far


class Attention(nn.Module):
    """Multi-head attention of a sequence to itself, or to a memory."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.d_head, self.fused, self.dropout = c.heads, c.head_size, c.fused, c.inner_dropout
        self.scale = c.logit_scale  # µP: sqrt(base d_head) / d_head, times alpha_attn
        inner = c.heads * c.head_size
        self.qkv = nn.Linear(c.width, 3 * inner, bias=c.bias)  # µP: HIDDEN; queries, keys, values in this order
        self.out = nn.Linear(inner, c.width, bias=c.bias)  # µP: HIDDEN
        self.logits = nn.Identity()  # for hooks, where attention is not fused
        draw(self.qkv, c.init_mult)
        draw(self.out, c.init_mult)
        if c.zero_query:
            nn.init.zeros_(self.qkv.weight[:inner])  # µP: App. D.2

    def forward(
        self,
        x_BxTxN: Tensor,
        memory_BxSxN: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """``mask``: added to the logits [B, H, T, S] (-inf: not attended to); anything that broadcasts to them."""
        inner = self.heads * self.d_head
        if memory_BxSxN is None:
            q, k, v = self._heads(self.qkv(x_BxTxN))
            if cache is not None:
                k, v = cache["k"], cache["v"] = torch.cat([cache["k"], k], 2), torch.cat([cache["v"], v], 2)
        else:
            (q,) = self._heads(self._part(x_BxTxN, slice(inner)))
            if cache and "memory_k" in cache:
                k, v = cache["memory_k"], cache["memory_v"]
            else:
                k, v = self._heads(self._part(memory_BxSxN, slice(inner, None)))
                if cache is not None:
                    cache["memory_k"], cache["memory_v"] = k, v
        return self.out(self._attend(q, k, v, mask, is_causal).transpose(1, 2).flatten(2))

    def _part(self, x: Tensor, rows: slice) -> Tensor:
        """Some outputs of ``qkv``."""
        return F.linear(x, self.qkv.weight[rows], None if self.qkv.bias is None else self.qkv.bias[rows])

    def _heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """[B, T, parts * H * D] -> parts of [B, H, T, D]."""
        return x.unflatten(-1, (-1, self.heads, self.d_head)).permute(2, 0, 3, 1, 4).unbind()

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        # torch's fused kernel is three times slower than its matrix products in bfloat16 on a CPU, and has no
        # gradient of a mask there
        slow = q.device.type == "cpu" and (q.dtype is torch.bfloat16 or (mask is not None and mask.requires_grad))
        if self.fused and not slow:
            return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal, scale=self.scale)
        logits = self.logits((q * self.scale) @ k.transpose(-1, -2))
        if is_causal:
            logits = logits + _future(q.shape[-2], q.device, q.dtype)
        if mask is not None:
            logits = logits + mask.to(logits.dtype)
        return F.dropout(logits.softmax(-1), dropout, self.training) @ v


def _future(length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[T, T]: -inf where the key is later than the query."""
    return torch.full((length, length), -math.inf, device=device, dtype=dtype).triu(1)


class Block(nn.Module):
    """Self-attention, attention to a memory where there is one, and a two-layer network, each a residual branch."""

    def __init__(self, c: Config, *, cross: bool) -> None:
        super().__init__()
        self.is_pre, self.drop = c.norm == "pre", Dropout(c.dropout)
        self.phi, self.inner_drop = getattr(F, c.activation), Dropout(c.activation_dropout)
        self.attention_norm = nn.LayerNorm(c.width, c.norm_eps)  # µP: INPUT (gain and bias)
        self.attention = Attention(c)
        if cross:
            self.cross_norm = nn.LayerNorm(c.width, c.norm_eps)
            self.cross = Attention(c)
        self.ffn_norm = nn.LayerNorm(c.width, c.norm_eps)
        self.up = nn.Linear(c.width, c.d_ffn, bias=c.bias)  # µP: HIDDEN
        self.down = nn.Linear(c.d_ffn, c.width, bias=c.bias)  # µP: HIDDEN
        draw(self.up, c.init_mult)
        draw(self.down, c.init_mult)

    def forward(
        self,
        x_BxTxN: Tensor,
        mask: Tensor | None,
        is_causal: bool,
        memory_BxSxN: Tensor | None = None,
        memory_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = self._branch(x_BxTxN, self.attention_norm, lambda y: self.attention(y, None, mask, cache, is_causal))
        if memory_BxSxN is not None:
            x = self._branch(x, self.cross_norm, lambda y: self.cross(y, memory_BxSxN, memory_mask, cache))
        return self._branch(x, self.ffn_norm, lambda y: self.down(self.inner_drop(self.phi(self.up(y)))))

    def _branch(self, x: Tensor, norm: nn.Module, branch: Callable[[Tensor], Tensor]) -> Tensor:
        return x + self.drop(branch(norm(x))) if self.is_pre else norm(x + self.drop(branch(x)))


class Stack(nn.Module):
    """Embedding, positions and blocks: tokens [B, T] -> what the readout reads [B, T, N]."""

    table: Tensor  # [T, N], of sinusoidal positions

    def __init__(self, c: Config, *, causal: bool, cross: bool = False) -> None:
        super().__init__()
        self.c, self.causal, self.drop = c, causal, Dropout(c.dropout)
        self.embed = nn.Embedding(c.vocab, c.width)  # µP: INPUT
        nn.init.normal_(self.embed.weight, std=c.embed_std)  # µP: the same at every width
        if c.positions == "sinusoidal":
            self.register_buffer("table", sinusoids(c.length, c.width, c.first_position), persistent=False)
        elif c.positions == "learned":
            self.position = nn.Embedding(c.length, c.width)  # µP: INPUT
            nn.init.normal_(self.position.weight, std=c.embed_std)
        elif c.positions == "relative":
            self.distance = nn.Embedding(2 * c.length - 1, c.heads)  # µP: SCALAR (INPUT where heads grow)
            nn.init.zeros_(self.distance.weight)
        if c.segments:
            self.segment = Embedding(c.segments, c.width, c.embed_std)  # µP: INPUT
        if c.embed_norm:
            self.embed_norm = nn.LayerNorm(c.width, c.norm_eps)  # µP: INPUT (gain and bias)
        self.blocks = nn.ModuleList(Block(c, cross=cross) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, c.norm_eps) if c.norm == "pre" else nn.Identity()

    def forward(
        self,
        tokens_BxT: Tensor,
        segments_BxT: Tensor | None = None,
        padding_BxT: Tensor | None = None,
        memory_BxSxN: Tensor | None = None,
        memory_padding_BxS: Tensor | None = None,
        cache: list[Cache] | None = None,
    ) -> Tensor:
        """``segments``: of each token, from 0 on; None: 0 everywhere. ``padding``: True where there is no token.
        ``cache`` (`new_cache`): of the tokens before, extended in place.

        Raises `UserError` for a sequence longer than the model's, and for segments where the model has none.
        """
        past = cache[0]["k"].shape[2] if cache else 0
        end = past + tokens_BxT.shape[1]
        if end > self.c.length:
            raise UserError(f"a sequence has {end} tokens, but the model was built for length {self.c.length}.")
        x = self.embed(tokens_BxT) * self.c.embed_mult  # µP: a mult, tuned at the base width
        if self.c.positions == "sinusoidal":
            x = x + self.table[past:end] * self.c.position_mult
        elif self.c.positions == "learned":
            x = x + self.position.weight[past:end] * self.c.position_mult
        if self.c.segments:
            x = x + (self.segment.weight[0] if segments_BxT is None else self.segment(segments_BxT))
        elif segments_BxT is not None:
            raise UserError("there are segments, but the model was built without; set segments in its Config.")
        x = self.drop(self.embed_norm(x) if self.c.embed_norm else x)
        mask, is_causal = self._mask(past, end, padding_BxT, x)
        memory_mask = None if memory_padding_BxS is None else _hidden(memory_padding_BxS, x.dtype)
        for i, block in enumerate(self.blocks):
            x = block(x, mask, is_causal, memory_BxSxN, memory_mask, cache[i] if cache is not None else None)
        return self.norm(x)

    def new_cache(self, batch: int) -> list[Cache]:
        """An empty cache, for `forward` one piece of the sequences after another (inference)."""
        weight, kind = self.embed.weight, self.embed.weight.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        empty = torch.zeros(batch, self.c.heads, 0, self.c.head_size, device=weight.device, dtype=dtype)
        return [{"k": empty, "v": empty} for _ in self.blocks]

    def _mask(self, past: int, end: int, padding_BxT: Tensor | None, x: Tensor) -> tuple[Tensor | None, bool]:
        """What is added to the logits of self-attention, and whether the kernel is to be causal by itself."""
        if self.c.positions != "relative" and padding_BxT is None and not (past and self.causal):
            return None, self.causal
        mask = torch.zeros((), device=x.device, dtype=x.dtype)
        if self.causal:
            mask = mask + _future(end, x.device, x.dtype)[past:]
        if self.c.positions == "relative":
            place = torch.arange(end, device=x.device)
            distance = place - place[past:, None] + self.c.length - 1
            mask = mask + self.distance(distance).permute(2, 0, 1) * self.c.position_mult  # µP: a mult
        if padding_BxT is not None:
            mask = mask + _hidden(padding_BxT, x.dtype)
        return mask, False


def _hidden(padding_BxS: Tensor, dtype: torch.dtype) -> Tensor:
    """[B, 1, 1, S] to add to logits: -inf at padding."""
    return torch.zeros_like(padding_BxS, dtype=dtype).masked_fill(padding_BxS, -math.inf)[:, None, None]


class Readout(nn.Module):
    """[B, T, N] -> logits [B, T, V]; tied, it reads with the embedding's weight."""

    def __init__(self, c: Config, embedding: nn.Embedding) -> None:
        super().__init__()
        self.output_mult = c.output_mult
        self.linear = nn.Linear(c.width, c.vocab, bias=False)  # µP: OUTPUT
        if c.tied:
            self.linear.weight = embedding.weight
        elif c.zero_readout:
            nn.init.zeros_(self.linear.weight)  # µP: zero satisfies every parametrization's init (App. D.2)
        else:
            draw(self.linear, 1.0)

    def forward(self, x_BxTxN: Tensor) -> Tensor:
        logits_BxTxV = self.linear(x_BxTxN)
        return logits_BxTxV if self.output_mult == 1 else logits_BxTxV * self.output_mult  # µP: alpha_output, tuned

    def factors(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., N] and [V, N], whose products are the logits: for a loss that does without them in memory."""
        return x if self.output_mult == 1 else x * self.output_mult, self.linear.weight  # µP: alpha_output


class Decoder(nn.Module):
    """A language model: tokens [B, T] -> logits of each next token [B, T, V]."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.stack = Stack(c, causal=True)
        self.readout = Readout(c, self.stack.embed)

    def forward(self, tokens_BxT: Tensor, cache: list[Cache] | None = None) -> Tensor:
        return self.readout(self.stack(tokens_BxT, cache=cache))


class EncoderDecoder(nn.Module):
    """Source [B, S] and target [B, T] -> logits of each next target token [B, T, V]."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.encoder = Stack(c, causal=False)
        self.decoder = Stack(c, causal=True, cross=True)
        self.readout = Readout(c, self.decoder.embed)
        if c.joint:
            self.encoder.embed = self.decoder.embed

    def forward(self, source_BxS: Tensor, target_BxT: Tensor, padding_BxS: Tensor | None = None) -> Tensor:
        return self.readout(self.hidden(source_BxS, target_BxT, padding_BxS))

    def hidden(self, source_BxS: Tensor, target_BxT: Tensor, padding_BxS: Tensor | None = None) -> Tensor:
        """[B, T, N]: what the readout reads."""
        return self.decoder(target_BxT, None, None, self.encoder(source_BxS, None, padding_BxS), padding_BxS)

    def decode(
        self,
        memory_BxSxN: Tensor,
        target_BxT: Tensor,
        padding_BxS: Tensor | None = None,
        cache: list[Cache] | None = None,
    ) -> Tensor:
        """Logits of the target given the encoded source; with a cache, of those tokens that come next."""
        return self.readout(self.decoder(target_BxT, None, None, memory_BxSxN, padding_BxS, cache))


class Embedding(nn.Embedding):
    """Weights ~ N(0, std^2), also when they are reset: `Plan.initialize` so tells how a table of few rows is drawn."""

    def __init__(self, rows: int, width: int, std: float) -> None:
        self.std = std
        super().__init__(rows, width)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.std)


def draw(linear: nn.Linear, mult: float) -> None:
    """Weights ~ N(0, mult^2 / fan_in), biases 0."""
    nn.init.normal_(linear.weight, std=mult * linear.in_features**-0.5)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def sinusoids(length: int, width: int, first: int = 0) -> Tensor:
    """[T, N]: sines, then cosines, of wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017, section 3.5).

    ``first``: the position of the first row.
    """
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(first, first + length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]


class BertReadout(nn.Linear):
    """A linear map that starts at zero or, without ``zero_readout``, from N(0, 1/width); its bias starts at zero.

    Also when it is reset: `Plan.initialize` so tells how a readout of few outputs is drawn.
    """

    def __init__(self, c: Config, outputs: int) -> None:
        self.is_zero = c.zero_readout
        super().__init__(c.width, outputs)

    def reset_parameters(self) -> None:
        draw(self, 1.0)
        if self.is_zero:
            nn.init.zeros_(self.weight)  # µP: zero satisfies every parametrization's init (App. D.2)


class Bert(nn.Module):
    """Tokens -> logits of the masked tokens, and of whether the second text follows the first.

    ``norm="pre"`` is Megatron's BERT, the paper's; ``norm="post"`` with ``embed_norm`` is the published one, which
    `mutransfer.huggingface` reads and writes. The pooler and both heads are alike in the two.
    """

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c, self.phi, self.output_mult = c, getattr(F, c.activation), c.output_mult
        self.stack = Stack(c, causal=False)
        self.transform = nn.Linear(c.width, c.width, bias=c.bias)  # µP: HIDDEN
        self.transform_norm = nn.LayerNorm(c.width, c.norm_eps)  # µP: INPUT (gain and bias)
        self.readout = BertReadout(c, c.vocab)  # µP: OUTPUT; its bias is SCALAR
        if c.tied:
            self.readout.weight = self.stack.embed.weight
        self.pooler = nn.Linear(c.width, c.width, bias=c.bias)  # µP: HIDDEN
        self.following = BertReadout(c, 2)  # µP: OUTPUT
        draw(self.transform, c.init_mult)
        draw(self.pooler, c.init_mult)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw a hidden matrix afresh: of narrow models `Plan.initialize` asks how their init goes with width."""
        if isinstance(module, nn.Linear):
            draw(module, self.c.init_mult)

    def forward(
        self,
        tokens_BxT: Tensor,
        segments_BxT: Tensor | None = None,
        padding_BxT: Tensor | None = None,
        places_M: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits of the token at each of ``places`` [M, V], and [B, 2]: the second text follows (0), or does not (1).

        ``places``: counted through the whole batch, b * T + t; only these pay for the vocabulary. None: everywhere,
        [B, T, V]. ``segments``, ``padding``: as of `Stack`.
        """
        x_BxTxN = self.stack(tokens_BxT, segments_BxT, padding_BxT)
        following_Bx2 = self.following(pooled(self.pooler, x_BxTxN))
        x = x_BxTxN if places_M is None else x_BxTxN.flatten(0, 1).index_select(0, places_M)
        x = self.transform_norm(self.phi(self.transform(x)))
        # µP: alpha_output, tuned; of what the weight reads and not of the bias, as in the reference's MuReadout
        return self.readout(x if self.output_mult == 1 else x * self.output_mult), following_Bx2


class Classifier(nn.Module):
    """The encoder and pooler of ``bert``, itself and no copy, with dropout and a new readout: tokens -> logits [B, C].

    The readout starts as all of ``bert``'s do (`BertReadout`). The rest is trained already: do not give it to
    `Plan.initialize`, which would rescale it.
    """

    def __init__(self, bert: Bert, classes: int) -> None:
        super().__init__()
        self.stack, self.pooler, self.drop = bert.stack, bert.pooler, Dropout(bert.c.dropout)
        self.readout = BertReadout(bert.c, classes)  # µP: OUTPUT
        self.readout.to(bert.pooler.weight.device)

    def forward(
        self, tokens_BxT: Tensor, segments_BxT: Tensor | None = None, padding_BxT: Tensor | None = None
    ) -> Tensor:
        return self.readout(self.drop(pooled(self.pooler, self.stack(tokens_BxT, segments_BxT, padding_BxT))))


def pooled(pooler: nn.Module, x_BxTxN: Tensor) -> Tensor:
    """[B, N]: what stands for the whole sequence, read at its first token."""
    return torch.tanh(pooler(x_BxTxN[:, 0]))
