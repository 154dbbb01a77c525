"""Hugging Face's models in µP: BERT's weights both ways, and what the plan of an unmodified model needs beside it.

Their library, transformers, is optional (``pip install -e '.[hf]'``), and nothing here imports it: a state dict with
the fields of its config is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.errors import UserError, unknown
from mutransfer.models.foreign import beyond, check_keys, field, load_ours, to_theirs, unlike
from mutransfer.models.transformer import Bert
from mutransfer.models.transformer_config import ACTIVATIONS, Config
from mutransfer.parametrization import Parametrization, attention_scale

SIZES = ("head_dim", "attention_head_size")  # how their attention modules call d_head


def set_attention_scale(
    model: nn.Module, base_d_head: int, *, parametrization: str | Parametrization = "mup", alpha_attn: float = 1.0
) -> None:
    """Give the attention of an unmodified Hugging Face model the scale of µP, alpha_attn * sqrt(base_d_head) / d_head.

    Each of their attention modules keeps its scale, 1/sqrt(d_head), in the attribute ``scaling`` and hands it to
    whatever computes attention (eager, sdpa, flash). Call this once, on a freshly built model, before training; at
    ``base_d_head`` (and alpha_attn 1) it changes nothing. Width that grows by more heads of the same size needs no
    other scale, but a call does no harm. `save_pretrained` does not keep the scale: call it again after loading.

        base, model = BertForMaskedLM(small), BertForMaskedLM(large)
        set_attention_scale(model, small.hidden_size // small.num_attention_heads)
        plan = scaling_plan(base, model, parametrization="mup", optimizer="adamw")
        plan.initialize(model, base)

    Raises:
        UserError: no attention keeps its scale so (older versions of transformers, T5), or it is not 1/sqrt(d_head),
            by the module's name; the model is then as it was.
    """
    found = list(attentions(model))
    for name, module, d_head in found:
        if not math.isclose(module.scaling, d_head**-0.5):
            raise UserError(
                f"the attention '{name}' has scaling {module.scaling:g}, expected 1/sqrt(d_head) = {d_head**-0.5:g}, "
                "that of a freshly built model; set it by hand with mutransfer.attention_scale."
            )
    if not found:
        raise UserError(
            f"{type(model).__name__} has no attention with the attributes 'scaling' and 'head_dim' (or "
            "'attention_head_size'); a newer version of transformers may have them."
        )
    for _, module, d_head in found:
        # µP: 1/d_head, Def. 4.1
        module.scaling = attention_scale(d_head, base_d_head, parametrization=parametrization, alpha_attn=alpha_attn)


def attentions(model: nn.Module) -> Iterator[tuple[str, Any, int]]:
    """Name, module and d_head of every attention that keeps its scale in ``scaling``."""
    for name, module in model.named_modules():
        sizes = [size for size in (getattr(module, x, None) for x in SIZES) if isinstance(size, int)]
        if sizes and isinstance(getattr(module, "scaling", None), float):
            yield name, module, sizes[0]


# Our field -> theirs.
FIELDS = {
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
# What a field may be; ours has nothing for other values. Also what it is where the config does not name it.
ONLY: dict[str, Any] = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
}
LAYOUTS = {
    "pretraining": ("pooler", "cls.predictions", "cls.seq_relationship"),
    "masked_lm": ("cls.predictions",),
    "model": ("pooler",),
}
"""BertForPreTraining, BertForMaskedLM, BertModel -> what each has beside the encoder."""
WORDS = "embeddings.word_embeddings.weight"
DECODER, BIAS = "cls.predictions.decoder", "cls.predictions.bias"
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # of old checkpoints; the numbers 0, 1, 2, ...
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def config_of(config: Any) -> Config:
    """The `Config` of Hugging Face's BERT with this ``config``: an object or a mapping with the fields of BertConfig.

    Its weights would start as ours do; of theirs, embeddings start so too. ``classifier_dropout`` is left out.

    Raises:
        UserError: a field that our model has nothing for, or one that is missing; the line names all of them.
    """
    found = {ours: field(config, theirs) for ours, theirs in FIELDS.items()}
    ffn = field(config, "intermediate_size")
    missing = [FIELDS[ours] for ours, value in found.items() if value is None]
    missing += ["intermediate_size"] if ffn is None else []
    if missing:
        raise UserError(f"the config of Hugging Face's BERT lacks {', '.join(missing)}.")
    bad = beyond(config, ONLY)
    if found["activation"] not in ACTIVATIONS:
        bad.append(f"hidden_act={found['activation']}")
    if bad:
        raise UserError(f"our Bert has nothing for Hugging Face's {', '.join(bad)}.")
    return Config(
        **found,
        ffn_ratio=ffn / found["width"],
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

    Raises:
        UserError: a choice that their model does not have (pre-LN, µP's attention scale, multipliers), by name.
    """
    made = {theirs: getattr(c, ours) for ours, theirs in FIELDS.items()}
    made |= {"intermediate_size": c.d_ffn, "tie_word_embeddings": c.tied}
    ours, theirs = (replace(x, ffn_dropout=x.activation_dropout) for x in (c, config_of(made)))
    # sinusoids are none of its positions
    if bad := unlike(ours, theirs, ("joint", "first_position")):
        raise UserError(f"Hugging Face's BERT has nothing for our {', '.join(bad)}.")
    return made


def from_huggingface(model: nn.Module | Mapping[str, Tensor], config: Any = None) -> Bert:
    """Our model with the weights of theirs, in evaluation mode, float32.

    ``model`` is a BertForPreTraining, a BertForMaskedLM or a BertModel, or the state dict of one, of old checkpoints
    too. Heads, or a pooler, that it does not have start as ours do.

    Args:
        config: as in `config_of`; needed with a state dict.

    Raises:
        UserError: no config, or one that our model has nothing for (`config_of`); tensors that are missing or unknown,
            by name; a shape that does not fit; weights that the config ties, but that differ; attention modules of
            different scales.
    """
    scale = 0.0
    if isinstance(model, nn.Module):
        config = getattr(model, "config", None) if config is None else config
        scale = _scale(model)
        model = model.state_dict()
    if config is None:
        raise UserError("weights alone do not say how many heads there are: give the config too.")
    c = replace(config_of(config), attention_scale=scale)
    state = _today(model, c)
    parts = [part for part in LAYOUTS["pretraining"] if any(name.startswith(part) for name in state)]
    names = _names(c, parts)
    check_keys("the state dict of Hugging Face's BERT", state, [theirs for many in names.values() for theirs in many])
    bert = Bert(c)
    load_ours(bert, names, state, "the config wants")
    return bert.eval()


def to_huggingface(bert: Bert, layout: str = "pretraining") -> dict[str, Tensor]:
    """The state dict of their model, built with the config of `options_of`: all of its keys, copied.

    Args:
        layout: ``"pretraining"`` (BertForPreTraining), ``"masked_lm"`` (BertForMaskedLM), ``"model"`` (BertModel).

    Raises:
        UserError: an unknown layout, or a model that theirs cannot compute (`options_of`; one with a µP multiplier).
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    options_of(bert.c)
    for name, module in bert.named_modules():
        if parametrize.is_parametrized(module):
            raise UserError(f"'{name}' has a multiplier of µP, which Hugging Face's BERT has nothing for.")
    made = to_theirs(bert, _names(bert.c, LAYOUTS[layout]))
    if BIAS in made:
        weight = bert.readout.weight.detach()
        made |= {f"{DECODER}.weight": weight.clone(), f"{DECODER}.bias": made[BIAS].clone()}
    prefix = "" if layout == "model" else "bert."
    return {name if name.startswith("cls.") else prefix + name: tensor for name, tensor in made.items()}


def _names(c: Config, parts: list[str] | tuple[str, ...]) -> dict[str, list[str]]:
    """Our name of each parameter -> theirs of the same rows, in order, in BertModel's layout; a tied one once."""
    modules = {"stack.embed_norm": ["embeddings.LayerNorm"]}
    for i in range(c.depth):
        ours, theirs = f"stack.blocks.{i}", f"encoder.layer.{i}"
        modules[f"{ours}.attention.qkv"] = [f"{theirs}.attention.self.{x}" for x in ("query", "key", "value")]
        modules[f"{ours}.attention.out"] = [f"{theirs}.attention.output.dense"]
        modules[f"{ours}.attention_norm"] = [f"{theirs}.attention.output.LayerNorm"]
        modules[f"{ours}.up"] = [f"{theirs}.intermediate.dense"]
        modules[f"{ours}.down"] = [f"{theirs}.output.dense"]
        modules[f"{ours}.ffn_norm"] = [f"{theirs}.output.LayerNorm"]
    names = {"stack.embed.weight": [WORDS]}
    names |= {
        f"stack.{ours}.weight": [f"embeddings.{theirs}_embeddings.weight"]
        for ours, theirs in (("position", "position"), ("segment", "token_type"))
    }
    if "pooler" in parts:
        modules["pooler"] = ["pooler.dense"]
    if "cls.predictions" in parts:
        modules["transform"] = ["cls.predictions.transform.dense"]
        modules["transform_norm"] = ["cls.predictions.transform.LayerNorm"]
        names["readout.bias"] = [BIAS]
        if not c.tied:
            names["readout.weight"] = [f"{DECODER}.weight"]
    if "cls.seq_relationship" in parts:
        modules["following"] = ["cls.seq_relationship"]
    return names | {
        f"{ours}.{leaf}": [f"{name}.{leaf}" for name in theirs]
        for ours, theirs in modules.items()
        for leaf in ("weight", "bias")
    }


def _today(state: Mapping[str, Tensor], c: Config) -> dict[str, Tensor]:
    """The state dict with today's names, without prefix and buffers, and with each shared tensor once."""
    found = {}
    for name, tensor in state.items():
        name = name.removeprefix("bert.")
        for old, new in OLD.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name not in BUFFERS:
            found[name] = tensor
    if not c.tied:
        if f"{DECODER}.bias" in found:  # since transformers 5 it is the decoder's own, and the other one does nothing
            found[BIAS] = found.pop(f"{DECODER}.bias")
        return found
    for second, first in ((f"{DECODER}.bias", BIAS), (f"{DECODER}.weight", WORDS)):
        if second in found:  # a checkpoint may hold either, or both
            tensor = found.pop(second)
            if not torch.equal(found.setdefault(first, tensor), tensor):
                raise UserError(f"{first} and {second} differ, but the config ties them.")
    return found


def _scale(model: nn.Module) -> float:
    """Of the attention logits: what `set_attention_scale` may have changed; 0 for 1/sqrt(d_head)."""
    scales = {0.0 if module.scaling == d_head**-0.5 else module.scaling for _, module, d_head in attentions(model)}
    if len(scales) > 1:
        raise UserError(f"the model's attention modules have different scales, {sorted(scales)}; ours has one for all.")
    return scales.pop() if scales else 0.0
