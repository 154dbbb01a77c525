"""What µP asks of fairseq's Transformer beside its plan: three scales of the forward pass, set from outside.

fairseq multiplies embeddings by sqrt(width), logits of attention by 1/sqrt(d_head), and reads out without a factor.
All three are plain attributes of its modules, or can be reached through them, so its classes stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from mutransfer.errors import UserError
from mutransfer.fairseq_mup import require
from mutransfer.parametrization import attention_scale

OPTION = "mup_"  # what the names of our options begin with in fairseq's namespace


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base shape of a fairseq Transformer, where µP is fairseq itself, and the tuned multipliers.

    Raises:
        UserError: a size below 1, or a width that the heads do not divide.
    """

    width: int  # --encoder-embed-dim, --decoder-embed-dim
    ffn: int  # --encoder-ffn-embed-dim, --decoder-ffn-embed-dim
    heads: int  # --encoder-attention-heads, --decoder-attention-heads
    alpha_output: float = 1.0
    alpha_attn: float = 1.0

    def __post_init__(self) -> None:
        if min(self.width, self.ffn, self.heads) < 1 or self.width % self.heads:
            raise UserError(
                f"the base has width {self.width}, {self.heads} heads and ffn width {self.ffn}; "
                "all must be at least 1, and the heads divide the width."
            )

    @classmethod
    def of(cls, options: Any) -> Base | None:
        """The base that fairseq's ``options`` (its namespace of arguments) name; None where they are not µP's."""
        if getattr(options, f"{OPTION}base_width", None) is None:
            return None
        return cls(
            width=int(options.mup_base_width),
            ffn=int(options.mup_base_ffn),
            heads=int(options.mup_base_heads),
            alpha_output=float(options.mup_alpha_output),
            alpha_attn=float(options.mup_alpha_attn),
        )

    @property
    def embed_scale(self) -> float:
        """Of embeddings: fairseq's at the base width; the plan keeps their std, so it may not grow."""
        return math.sqrt(self.width)

    def attention(self, d_head: int) -> float:
        """Of the logits of attention: 1/d_head in µP (Def. 4.1); fairseq's 1/sqrt(d_head) at the base."""
        return attention_scale(d_head, self.width // self.heads, alpha_attn=self.alpha_attn)

    def output(self, width: int, *, tied: bool) -> float:
        """Of the readout: a tied one has the embedding's LR, hence Table 8's multiplier 1/width."""
        return self.alpha_output * (self.width / width if tied else 1.0)


def set_scales(model: nn.Module, base: Base) -> None:
    """Give fairseq's ``model``, a freshly built Transformer, the embedding and attention scales of µP, in place.

    The readout's factor is not set: it is in the multiplier that a plan's ``initialize`` installs. Call this once,
    before; at the base shape (and alpha_attn 1) it changes nothing.

    Raises:
        UserError: fairseq is not installed, or the model has attention by xFormers, whose scale is out of reach.
    """
    for side in (model.encoder, model.decoder):
        if not _options(model).no_scale_embedding:
            side.embed_scale = base.embed_scale  # type: ignore[union-attr]
    for attention in _attentions(model):
        scale = base.attention(attention.head_dim)
        if scale != attention.scaling:
            attention.scaling = scale
            _open(attention)


def open_attention(model: nn.Module) -> None:
    """Let hooks see the queries, keys and values of fairseq's ``model``, at every width alike."""
    for attention in _attentions(model):
        _open(attention)


def _open(attention: Any) -> None:
    # Attention to the own sequence goes to F.multi_head_attention_forward, which reads the weights of q_proj, k_proj
    # and v_proj, never calls them, and scales by 1/sqrt(d_head) itself. fairseq goes its own way, by ``scaling``, in
    # cross-attention, in generation, and everywhere once heads were pruned, which this method of its is for.
    attention._set_skip_embed_dim_check()


def _attentions(model: nn.Module) -> Iterator[Any]:
    require()
    from fairseq.modules import MultiheadAttention

    for name, module in model.named_modules():
        if isinstance(module, MultiheadAttention):
            if module.use_xformers:
                raise UserError(f"'{name}' is xFormers' attention, whose scale cannot be set; leave that option out.")
            yield module


def _options(model: nn.Module) -> Any:
    return model.cfg
