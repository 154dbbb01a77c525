"""The shape of a Transformer, every choice by name with what it may be, and what training it costs. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from mutransfer.errors import UserError, unknown

ACTIVATIONS = ("relu", "gelu")  # of torch.nn.functional
NORMS = ("pre", "post")
POSITIONS = ("sinusoidal", "learned", "relative", "none")


@dataclass(frozen=True, kw_only=True)
class Config:
    """The shape of a Transformer and its tuned multipliers.

    Raises:
        UserError: an unknown choice, a size below 1, or a width that the heads do not divide.
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
        for name, known in (("norm", NORMS), ("positions", POSITIONS), ("activation", ACTIVATIONS)):
            if (value := getattr(self, name)) not in known:
                raise unknown(name, value, known)
        for name in ("vocab", "width", "depth", "heads", "length", "d_ffn"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}, expected at least 1.")
        if self.segments < 0:
            raise UserError(f"segments is {self.segments}, expected at least 0.")
        if self.d_head < 0:
            raise UserError(f"d_head is {self.d_head}, expected at least 1, or 0 for width / heads.")
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


def flops_per_step(c: Config, *, batch: int, length: int = 0) -> float:
    """Of one training step of a `Decoder`: 2 a multiply-add, backward twice the forward.

    Attention counts in full, as is usual, although half of it is masked.
    """
    length = length or c.length
    return 6.0 * (batch * length) * (c.depth * _block_products(c, length) + c.width * c.vocab)


def translation_flops_per_step(c: Config, *, tokens: int, sentence: int) -> float:
    """Of one training step of an `EncoderDecoder`: ``tokens`` a side with padding, in sentences of ``sentence``."""
    inner = c.heads * c.head_size
    attention, ffn = 4 * c.width * inner + 2 * sentence * inner, 2 * c.width * c.d_ffn
    return 6.0 * tokens * (c.depth * (3 * attention + 2 * ffn) + c.width * c.vocab)


def bert_flops_per_step(c: Config, *, batch: int, length: int = 0, masked: float) -> float:
    """Of one training step of a `Bert` that predicts ``masked`` tokens of each sequence."""
    length = length or c.length
    head, pair = c.width * (c.width + c.vocab), c.width * (c.width + 2)
    return 6.0 * batch * (length * c.depth * _block_products(c, length) + masked * head + pair)


def _block_products(c: Config, length: int) -> int:
    """Multiply-adds of a token in a block without cross-attention."""
    inner = c.heads * c.head_size
    return 4 * c.width * inner + 2 * c.width * c.d_ffn + 2 * length * inner


def parameters(c: Config) -> int:
    """Of a `Decoder`, embeddings included."""
    positions = {"learned": c.length * c.width, "relative": (2 * c.length - 1) * c.heads}.get(c.positions, 0)
    norms = 4 * c.width * c.depth + 2 * c.width * (c.norm == "pre")
    return c.vocab * c.width * (2 - c.tied) + positions + c.depth * sum(_block_parameters(c)) + norms


def translation_parameters(c: Config) -> int:
    """Of an `EncoderDecoder` with sinusoidal positions, embeddings included."""
    attention, ffn = _block_parameters(c)
    norms = 10 * c.width * c.depth + 4 * c.width * (c.norm == "pre")
    return c.vocab * c.width * (3 - c.tied - c.joint) + c.depth * (3 * attention + 2 * ffn) + norms


def bert_parameters(c: Config) -> int:
    """Of a `Bert`, embeddings included."""
    first = c.width * c.segments + 2 * c.width * c.embed_norm
    heads = 2 * c.width * (c.width + c.bias) + 2 * c.width + c.vocab + 2 * (c.width + 1)
    return parameters(c) + first + heads


def _block_parameters(c: Config) -> tuple[int, int]:
    """Of one attention and of one two-layer network."""
    inner, biases = c.heads * c.head_size, int(c.bias)
    attention = 4 * c.width * inner + biases * (3 * inner + c.width)
    return attention, 2 * c.width * c.d_ffn + biases * (c.d_ffn + c.width)


def memory_bytes(c: Config, *, batch: int, length: int = 0, bfloat16: bool = False) -> float:
    """Of a training run of a `Decoder` with Adam at its peak: weights, gradients, two moments, activations."""
    tokens, blocks = _blocks_kept(c, batch, length or c.length, bfloat16)
    return _peak(parameters(c), blocks + tokens * (4 * c.width + 3 * c.vocab), bfloat16)


def translation_memory_bytes(c: Config, *, tokens: int, sentence: int, bfloat16: bool = False) -> float:
    """`memory_bytes` of an `EncoderDecoder`; the arguments are `translation_flops_per_step`'s."""
    attention = tokens * (4 * c.width + 5 * c.heads * c.head_size + 3 * c.heads * sentence)
    block = 3 * attention + 2 * tokens * (4 * c.width + 2 * c.d_ffn)
    return _peak(translation_parameters(c), c.depth * block + tokens * (8 * c.width + 3 * c.vocab), bfloat16)


def bert_memory_bytes(c: Config, *, batch: int, length: int = 0, masked: float, bfloat16: bool = False) -> float:
    """`memory_bytes` of a `Bert`; the arguments are `bert_flops_per_step`'s."""
    tokens, blocks = _blocks_kept(c, batch, length or c.length, bfloat16)
    heads = batch * masked * (5 * c.width + 3 * c.vocab)
    return _peak(bert_parameters(c), blocks + tokens * 6 * c.width + heads, bfloat16)


def _blocks_kept(c: Config, batch: int, length: int, bfloat16: bool) -> tuple[int, int]:
    """Tokens of a batch, and the numbers that all blocks keep of it for the backward pass."""
    tokens = batch * length
    logits = batch * c.heads * length**2 if bfloat16 or c.positions == "relative" else 0
    return tokens, c.depth * (tokens * (8 * c.width + 5 * c.heads * c.head_size + 2 * c.d_ffn) + 3 * logits)


def _peak(count: int, kept: float, bfloat16: bool) -> float:
    """Bytes of ``count`` parameters under Adam, and of ``kept`` numbers of activations; bfloat16 adds a copy."""
    return float(count * (18 if bfloat16 else 16) + (6 if bfloat16 else 4) * kept)
