"""The shape of a Transformer, every choice by name with what it may be. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mutransfer.errors import UserError, known

ACTIVATIONS = ("relu", "gelu")  # of torch.nn.functional
NORMS = ("pre", "post")
POSITIONS = ("sinusoidal", "learned", "relative", "none")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The shape of a Transformer and its tuned multipliers.

    Raises `UserError` for an unknown choice, a size below 1, and a width that the heads do not divide.
    """

    vocab: int
    width: int  # d_model
    depth: int = 2  # blocks
    heads: int = 4
    d_head: int = 0  # 0: width / heads
    ffn_ratio: float = 4.0  # d_ffn / d_model
    length: int = 128  # the longest sequence
    first_position: int = 0  # of sinusoids; fairseq counts from 2
    norm: str = "pre"  # LayerNorm before or after the residual sum
    norm_eps: float = 1e-5  # of every LayerNorm
    embed_norm: bool = False  # one more LayerNorm, of the embeddings, as published BERT has
    positions: str = "sinusoidal"  # "relative": a learned bias of the logits for each head and distance
    segments: int = 0  # kinds of segments (token types), each with an embedding; 0: none
    activation: str = "relu"
    bias: bool = True  # of the linear maps, the readout aside
    tied: bool = False  # the readout is the (decoder's) embedding
    joint: bool = False  # encoder and decoder have one embedding
    zero_readout: bool = True  # App. D.2
    zero_query: bool = True  # App. D.2
    dropout: float = 0.0  # of embeddings and of what each branch adds
    inner_dropout: float = 0.0  # of attention weights and of the activations between up and down
    ffn_dropout: float | None = None  # of those activations alone; None: inner_dropout
    attention_scale: float = 0.0  # of the logits; 0: 1 / sqrt(d_head)
    embed_mult: float = 1.0  # of the word embedding
    position_mult: float = 1.0  # of the positional embedding, or of the relative bias
    output_mult: float = 1.0  # alpha_output
    embed_std: float = 1.0  # of the init of the embeddings: words, learned positions, segments
    init_mult: float = 1.0  # on the init std of every hidden matrix
    fused: bool = True  # attention without its logits in memory; False: hooks see them

    def __post_init__(self) -> None:
        for name, valid in (("norm", NORMS), ("positions", POSITIONS), ("activation", ACTIVATIONS)):
            known(name, getattr(self, name), valid)
        least = {"vocab": 1, "width": 1, "depth": 1, "heads": 1, "length": 1, "d_ffn": 1, "segments": 0, "d_head": 0}
        for name, n in least.items():
            if getattr(self, name) < n:
                raise UserError(f"{name} is {getattr(self, name)}, expected at least {n}.")
        if not self.d_head and self.width % self.heads:
            raise UserError(f"width {self.width} is no multiple of {self.heads} heads; give d_head or another width.")

    @property
    def head_size(self) -> int:
        """``d_head``, or what 0 stands for; no field, or ``replace(c, width=...)`` would keep the old width's."""
        return self.d_head or self.width // self.heads

    @property
    def d_ffn(self) -> int:
        return round(self.ffn_ratio * self.width)

    @property
    def activation_dropout(self) -> float:
        """Of the activations between up and down."""
        return self.inner_dropout if self.ffn_dropout is None else self.ffn_dropout

    @property
    def logit_scale(self) -> float:
        return self.attention_scale or self.head_size**-0.5
