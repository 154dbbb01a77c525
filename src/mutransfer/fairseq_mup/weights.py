"""What µP asks of fairseq's Transformer beside its plan, and weights both ways between it and our `EncoderDecoder`.

fairseq's side is a state dict with the options of its model (its namespace of arguments, or a model's ``cfg``); it need
not be installed, but to read a checkpoint. Converted, both models give the same logits, and there and back gives the
same bits. Both sides number symbols alike (`mutransfer.data.pairs`). fairseq pads sources on the left, ours are padded
on the right: see `mutransfer.training.translation.Translation`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer.errors import UserError
from mutransfer.fairseq_mup import require
from mutransfer.models.foreign import beyond, field, load_ours, names_of, to_theirs, unlike
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import ACTIVATIONS, Config
from mutransfer.parametrization import attention_scale

OPTIONS = {  # in fairseq's namespace of arguments -> of `Base`
    **{f"mup_base_{size}": size for size in ("width", "ffn", "heads")},
    **{f"mup_{mult}": mult for mult in ("alpha_output", "alpha_attn")},
}


@dataclass(frozen=True, kw_only=True)
class Base:
    """The base shape of a fairseq Transformer, where µP is fairseq itself, and the tuned multipliers.

    Raises `UserError` for a size below 1, or a width that the heads do not divide.
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
        """The base that fairseq's ``options`` name; None where they are not of an architecture of this plug-in."""
        given = {ours: getattr(options, theirs, None) for theirs, ours in OPTIONS.items()}
        return None if given["width"] is None else cls(**given)  # type: ignore[arg-type]

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

    Raises `UserError` if fairseq is not installed, or for attention by xFormers, whose scale is out of reach.
    """
    require()
    from fairseq.modules import MultiheadAttention

    for side in (model.encoder, model.decoder):
        if not model.cfg.no_scale_embedding:  # type: ignore[union-attr]
            side.embed_scale = base.embed_scale  # type: ignore[union-attr]
    attentions = [(name, module) for name, module in model.named_modules() if isinstance(module, MultiheadAttention)]
    for name, module in attentions:
        if module.use_xformers:
            raise UserError(f"'{name}' is xFormers' attention, whose scale cannot be set; leave that option out.")
        if (scale := base.attention(module.head_dim)) != module.scaling:
            module.scaling = scale
            # Attention to the own sequence goes to F.multi_head_attention_forward, which scales by 1/sqrt(d_head)
            # itself. fairseq goes its own way, by ``scaling``, in cross-attention, in generation, and everywhere once
            # heads were pruned, which this method of its is for.
            module._set_skip_embed_dim_check()


FIRST_POSITION = 2  # fairseq counts positions from its number of padding, 1, on; the first token has the next
VERSION = 3.0  # of fairseq's encoder and decoder, a buffer of theirs
LENGTH = 1024  # of sentences, where the options name none
SIDES = ("encoder", "decoder")
ALIKE = ("embed_dim", "ffn_embed_dim", "attention_heads", "layers", "normalize_before")  # both sides have the same
ONLY: dict[str, Any] = {  # what an option may be, and is where none is named; ours has nothing else
    **dict.fromkeys(
        ("encoder_learned_pos", "decoder_learned_pos", "no_token_positional_embeddings", "layernorm_embedding"), False
    ),
    **dict.fromkeys(("adaptive_input", "merge_src_tgt_embed", "no_cross_attention", "cross_self_attention"), False),
    **dict.fromkeys(("encoder_layerdrop", "decoder_layerdrop", "quant_noise_pq", "quant_noise_scalar"), 0),
    "no_decoder_final_norm": False,
    "adaptive_softmax_cutoff": None,
    "base_layers": 0,
}

_ATTENTIONS = {"attention": "self_attn", "cross": "encoder_attn"}
_SIDE = {
    "embed": ["embed_tokens"],
    **{f"blocks.*.{ours}.qkv": [f"layers.*.{theirs}.{x}_proj" for x in "qkv"] for ours, theirs in _ATTENTIONS.items()},
    **{f"blocks.*.{ours}.out": [f"layers.*.{theirs}.out_proj"] for ours, theirs in _ATTENTIONS.items()},
    **{f"blocks.*.{ours}_norm": [f"layers.*.{theirs}_layer_norm"] for ours, theirs in _ATTENTIONS.items()},
    "blocks.*.up": ["layers.*.fc1"],
    "blocks.*.down": ["layers.*.fc2"],
    "blocks.*.ffn_norm": ["layers.*.final_layer_norm"],
    "norm": ["layer_norm"],
}
MODULES = {  # ours -> those of fairseq that hold our rows, in order; "*": the number of a block
    **{f"{side}.{x}": [f"{side}.{y}" for y in theirs] for side in SIDES for x, theirs in _SIDE.items()},
    "readout.linear": ["decoder.output_projection"],
}


def config_of(options: Any, vocab: int) -> Config:
    """The `Config` of fairseq's model with these ``options``, of an architecture of this plug-in too.

    Raises `UserError` that names all options which our model has nothing for, or which are missing.
    """
    bad = beyond(options, ONLY)
    sizes = {name: [field(options, f"{side}_{name}") for side in SIDES] for name in ALIKE}
    for name, both in sizes.items():
        if both[0] != both[1] or both[0] is None:
            bad.append(f"encoder_{name}={both[0]} with decoder_{name}={both[1]}")
    width, ffn, heads, depth, is_pre = (first for first, _ in sizes.values())
    bad += beyond(options, dict.fromkeys(("decoder_input_dim", "decoder_output_dim"), width))
    if (activation := field(options, "activation_fn", "relu")) not in ACTIVATIONS:
        bad.append(f"activation_fn={activation}")
    inner = field(options, "attention_dropout", 0.0)
    if (outer := field(options, "activation_dropout", 0.0) or field(options, "relu_dropout", 0.0)) != inner:
        bad.append(f"attention_dropout={inner} with activation_dropout={outer}")
    if isinstance(width, int) and width % 2:
        bad.append(f"embed_dim={width} (odd)")
    if bad:
        raise UserError(f"our EncoderDecoder has nothing for fairseq's {', '.join(bad)}.")
    base = Base.of(options)
    tied = bool(field(options, "share_decoder_input_output_embed") or field(options, "share_all_embeddings"))
    plain = 1.0 if field(options, "no_scale_embedding", False) else math.sqrt(width)
    return Config(
        vocab=vocab,
        width=width,
        depth=depth,
        heads=heads,
        ffn_ratio=ffn / width,
        length=max(field(options, f"max_{x}_positions") or LENGTH for x in ("source", "target")),
        first_position=FIRST_POSITION,
        norm="pre" if is_pre else "post",
        activation=activation,
        tied=tied,
        joint=bool(field(options, "share_all_embeddings", False)),
        zero_readout=False,
        zero_query=False,
        dropout=field(options, "dropout", 0.1),
        inner_dropout=inner,
        embed_std=width**-0.5,
        embed_mult=base.embed_scale if base and plain != 1 else plain,
        attention_scale=base.attention(width // heads) if base else 0.0,
        output_mult=base.output(width, tied=tied) if base else 1.0,
    )


def options_of(c: Config, base: Base | None = None) -> argparse.Namespace:
    """The options of fairseq's model that computes what our model of this `Config` does; the inverse of `config_of`.

    base: of the architectures ``mup_transformer*``; None for fairseq's own.
    Raises `UserError` for a choice that fairseq's model does not have, by name.
    """
    alike = zip(ALIKE, (c.width, c.d_ffn, c.heads, c.depth, c.norm == "pre"), strict=True)
    options: dict[str, Any] = {f"{side}_{name}": value for name, value in alike for side in SIDES}
    options |= {**ONLY, "arch": "transformer", "activation_fn": c.activation, "no_scale_embedding": c.embed_mult == 1}
    options |= {"dropout": c.dropout, "attention_dropout": c.inner_dropout, "activation_dropout": c.inner_dropout}
    options |= {"share_decoder_input_output_embed": c.tied, "share_all_embeddings": c.joint}
    options |= {f"max_{side}_positions": c.length for side in ("source", "target")}
    if base:
        options |= {"arch": "mup_transformer", **{theirs: getattr(base, ours) for theirs, ours in OPTIONS.items()}}
    made = argparse.Namespace(**options)
    if bad := unlike(c, config_of(made, c.vocab), ("embed_std",)):
        what = f"with the base {base} " if base else ""
        raise UserError(f"fairseq's Transformer {what}has nothing for our {', '.join(bad)}.")
    return made


def from_fairseq(state: Mapping[str, Tensor], options: Any) -> EncoderDecoder:
    """Our model with the weights of fairseq's ``state``, in evaluation mode, float32.

    Raises `UserError` for ``options`` that our model has nothing for (`config_of`), keys that are missing or unknown, a
    shape that does not fit, tied weights that differ, or dictionaries of different sizes.
    """
    vocab = [len(state.get(f"{side}.embed_tokens.weight", ())) for side in SIDES]
    if all(vocab) and vocab[0] != vocab[1]:
        raise UserError(f"the dictionaries have {vocab[0]} and {vocab[1]} symbols; ours has one for both languages.")
    model = EncoderDecoder(config_of(options, max(*vocab, 1)))
    weights = dict(state)
    for side in SIDES:
        if (version := weights.pop(f"{side}.version", torch.empty(0)).flatten().tolist()) != [VERSION]:
            raise UserError(f"{side}.version is {version}, expected [{VERSION}] (fairseq 0.12).")
    load_ours(model, names_of(model, MODULES, "fairseq"), weights, "fairseq's Transformer", "the options")
    return model.eval()


def to_fairseq(model: EncoderDecoder, base: Base | None = None) -> dict[str, Tensor]:
    """The state dict that fairseq's model has, built with the options of `options_of`: all of its keys, copied.

    Raises `UserError` if fairseq's model does not compute what ours does (`options_of`; one with a µP multiplier).
    """
    options_of(model.decoder.c, base)
    made = to_theirs(model, names_of(model, MODULES, "fairseq"))
    return made | {f"{side}.version": torch.tensor([VERSION]) for side in SIDES}


def read_checkpoint(path: Path | str) -> EncoderDecoder:
    """Our model with the weights of a checkpoint of ``fairseq-train``, of an architecture of this plug-in too.

    Raises `UserError` if it cannot be read, if fairseq is not installed, or as `from_fairseq` does.
    """
    require()
    try:
        torch.serialization.add_safe_globals([argparse.Namespace])  # plain data; for good, as `plugin` does
        state = torch.load(path, map_location="cpu", weights_only=True)
        options, weights = state["args"] or state["cfg"]["model"], state["model"]
    except (OSError, KeyError, TypeError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no checkpoint of fairseq ({str(error).splitlines()[0]}).") from error
    return from_fairseq(weights, options)
