"""Hugging Face's models in µP: BERT's weights both ways, and what the plan of an unmodified model needs beside it.

Their library, transformers, is optional (``pip install -e '.[hf]'``), and nothing here imports it: a state dict with
the fields of its config is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer.errors import UserError, known
from mutransfer.models.foreign import beyond, field, load_ours, names_of, to_theirs, unlike
from mutransfer.models.transformer import Bert
from mutransfer.models.transformer_config import ACTIVATIONS, Config
from mutransfer.parametrization import Parametrization, attention_scale

LIBRARY = "Hugging Face's BERT"
SIZES = ("head_dim", "attention_head_size")  # how their attention modules call d_head


def set_attention_scale(
    model: nn.Module, base_d_head: int, *, parametrization: str | Parametrization = "mup", alpha_attn: float = 1.0
) -> None:
    """Give the attention of an unmodified Hugging Face model the scale of µP, alpha_attn * sqrt(base_d_head) / d_head.

    Each of their attention modules keeps its scale, 1/sqrt(d_head), in the attribute ``scaling`` and hands it to
    whatever computes attention (eager, sdpa, flash). Call this once, on a freshly built model, before training; at
    ``base_d_head`` (and alpha_attn 1) it changes nothing, so more heads of the same size need no call.
    `save_pretrained` does not keep the scale: call it again after loading.

    Raises `UserError` if no attention keeps its scale so (older versions of transformers, T5), or if it is not
    1/sqrt(d_head), by the module's name; the model is then as it was.
    """
    scaled = list(_attentions(model))
    if not scaled:
        what = f"{type(model).__name__} has no attention with the attributes 'scaling' and one of {SIZES}"
        raise UserError(f"{what}; a newer version of transformers may have them.")
    for name, module, d_head in scaled:
        if not math.isclose(module.scaling, d_head**-0.5):
            raise UserError(
                f"the attention '{name}' has scaling {module.scaling:g}, expected 1/sqrt(d_head) = {d_head**-0.5:g}, "
                "that of a freshly built model; set it by hand with mutransfer.attention_scale."
            )
    for _, module, d_head in scaled:
        # µP: 1/d_head, Def. 4.1
        module.scaling = attention_scale(d_head, base_d_head, parametrization=parametrization, alpha_attn=alpha_attn)


def _attentions(model: nn.Module) -> Iterator[tuple[str, Any, int]]:
    """Name, module and d_head of every attention that keeps its scale in ``scaling``."""
    for name, module in model.named_modules():
        sizes = [size for size in (getattr(module, x, None) for x in SIZES) if isinstance(size, int)]
        if sizes and isinstance(getattr(module, "scaling", None), float):
            yield name, module, sizes[0]


FIELDS = {  # ours -> theirs
    "vocab": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "length": "max_position_embeddings",
    "segments": "type_vocab_size",
    "activation": "hidden_act",
    "norm_eps": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
    "inner_dropout": "attention_probs_dropout_prob",
    "embed_std": "initializer_range",
}
ONLY: dict[str, Any] = {  # what a field may be, and is where the config does not name it; ours has nothing else
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}
MODULES = {  # ours -> theirs in BertModel's layout, "*" the number of a block
    "stack.embed": ["embeddings.word_embeddings"],
    "stack.position": ["embeddings.position_embeddings"],
    "stack.segment": ["embeddings.token_type_embeddings"],
    "stack.embed_norm": ["embeddings.LayerNorm"],
    "stack.blocks.*.attention.qkv": [f"encoder.layer.*.attention.self.{x}" for x in ("query", "key", "value")],
    "stack.blocks.*.attention.out": ["encoder.layer.*.attention.output.dense"],
    "stack.blocks.*.attention_norm": ["encoder.layer.*.attention.output.LayerNorm"],
    "stack.blocks.*.up": ["encoder.layer.*.intermediate.dense"],
    "stack.blocks.*.down": ["encoder.layer.*.output.dense"],
    "stack.blocks.*.ffn_norm": ["encoder.layer.*.output.LayerNorm"],
    "pooler": ["pooler.dense"],
    "transform": ["cls.predictions.transform.dense"],
    "transform_norm": ["cls.predictions.transform.LayerNorm"],
    "readout": ["cls.predictions.decoder"],
    "following": ["cls.seq_relationship"],
}
HEADS = ("pooler", "cls.predictions", "cls.seq_relationship")
LAYOUTS = {"pretraining": HEADS, "masked_lm": ("cls.predictions",), "model": ("pooler",)}
"""BertForPreTraining, BertForMaskedLM, BertModel -> what each has beside the encoder."""
# what the decoder shares: the other name, and its own
BIAS = ("cls.predictions.bias", "cls.predictions.decoder.bias")
WORDS = ("embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # of old checkpoints; the numbers 0, 1, 2, ...
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def config_of(config: Any) -> Config:
    """The `Config` of Hugging Face's BERT with this ``config``: an object or a mapping with the fields of BertConfig.

    Its weights would start as ours do; of theirs, embeddings start so too. ``classifier_dropout`` is left out.
    Raises `UserError` that names all fields which our model has nothing for, or which are missing.
    """
    given = {theirs: field(config, theirs) for theirs in (*FIELDS.values(), "intermediate_size")}
    if missing := [name for name, value in given.items() if value is None]:
        raise UserError(f"the config of {LIBRARY} lacks {', '.join(missing)}.")
    bad = beyond(config, ONLY)
    if given["hidden_act"] not in ACTIVATIONS:
        bad.append(f"hidden_act={given['hidden_act']}")
    if bad:
        raise UserError(f"our Bert has nothing for Hugging Face's {', '.join(bad)}.")
    return Config(
        **{ours: given[theirs] for ours, theirs in FIELDS.items()},
        ffn_ratio=given["intermediate_size"] / given["hidden_size"],
        norm="post",
        embed_norm=True,
        positions="learned",
        tied=field(config, "tie_word_embeddings", True),
        ffn_dropout=0.0,
        zero_readout=False,
        zero_query=False,
    )


def options_of(c: Config) -> dict[str, Any]:
    """The arguments of the BertConfig whose model computes what our `Bert` of ``c`` does; the inverse of `config_of`.

    Raises `UserError` for a choice that their model does not have (pre-LN, µP's attention scale, multipliers), by name.
    """
    made = {theirs: getattr(c, ours) for ours, theirs in FIELDS.items()}
    made |= {"intermediate_size": c.d_ffn, "tie_word_embeddings": c.tied}
    ours, theirs = (replace(x, ffn_dropout=x.activation_dropout) for x in (c, config_of(made)))
    # sinusoids are none of its positions
    if bad := unlike(ours, theirs, ("joint", "first_position")):
        raise UserError(f"{LIBRARY} has nothing for our {', '.join(bad)}.")
    return made


def from_huggingface(model: nn.Module | Mapping[str, Tensor], config: Any = None) -> Bert:
    """Our model with the weights of theirs, in evaluation mode, float32.

    ``model`` is a BertForPreTraining, a BertForMaskedLM or a BertModel, or the state dict of one, of old checkpoints
    too. Heads, or a pooler, that it does not have start as ours do.

    config: as in `config_of`; needed with a state dict.

    Raises `UserError` for no config, or one that our model has nothing for (`config_of`); tensors that are missing or
    unknown, by name; a shape that does not fit; tied weights that differ; attention modules of different scales.
    """
    scales = {0.0}  # of the attention logits, which `set_attention_scale` may have changed; 0: 1/sqrt(d_head)
    if isinstance(model, nn.Module):
        config = getattr(model, "config", None) if config is None else config
        scales = {0.0 if m.scaling == d_head**-0.5 else m.scaling for _, m, d_head in _attentions(model)} or scales
        model = model.state_dict()
    if config is None:
        raise UserError("weights alone do not say how many heads there are: give the config too.")
    if len(scales) > 1:
        raise UserError(f"the model's attention modules have different scales, {sorted(scales)}; ours has one for all.")
    bert = Bert(replace(config_of(config), attention_scale=scales.pop()))
    state = _today(model, bert.c)
    names = _names(bert, [head for head in HEADS if any(name.startswith(head) for name in state)])
    load_ours(bert, names, state, LIBRARY, "the config")
    return bert.eval()


def to_huggingface(bert: Bert, layout: str = "pretraining") -> dict[str, Tensor]:
    """The state dict of their model, built with the config of `options_of`: all of its keys, copied.

    layout: ``"pretraining"`` (BertForPreTraining), ``"masked_lm"`` (BertForMaskedLM), ``"model"`` (BertModel).

    Raises `UserError` for an unknown layout, or a model that theirs cannot compute (`options_of`; a µP multiplier).
    """
    heads = LAYOUTS[known("layout", layout, LAYOUTS)]
    options_of(bert.c)
    made = to_theirs(bert, _names(bert, heads))
    if BIAS[1] in made:
        made[BIAS[0]] = made[BIAS[1]].clone()
    prefix = "" if layout == "model" else "bert."
    return {name if name.startswith("cls.") else prefix + name: tensor for name, tensor in made.items()}


def _names(bert: Bert, heads: Iterable[str]) -> dict[str, list[str]]:
    absent = tuple({*HEADS}.difference(heads))
    return {n: theirs for n, theirs in names_of(bert, MODULES, LIBRARY).items() if not theirs[0].startswith(absent)}


def _today(state: Mapping[str, Tensor], c: Config) -> dict[str, Tensor]:
    """The state dict with today's names, without prefix and buffers, each tensor under the decoder's name too."""
    now = {}
    for name, tensor in state.items():
        for old, new in OLD.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        now[name.removeprefix("bert.")] = tensor
    for name in BUFFERS:
        now.pop(name, None)
    # a checkpoint may hold either name, or both; since transformers 5 an untied decoder's bias is its own
    for first, second in (BIAS, WORDS) if c.tied else (BIAS,):
        given = [now[name] for name in (second, first) if name in now]
        if c.tied and len(given) == 2 and not torch.equal(*given):
            raise UserError(f"{first} and {second} differ, but are tied by the config.")
        if given and any(name.startswith("cls.predictions") for name in now):
            now |= {first: given[0], second: given[0]}
    now.pop(BIAS[0], None)
    return now
