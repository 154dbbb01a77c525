"""What ``--user-dir`` adds to fairseq: architectures ``mup_transformer*`` and the optimizer ``mup_adam``.

Importing this registers both, once a process. Also allows torch 2.6 and newer to load fairseq's checkpoints, which
hold an `argparse.Namespace`; without it they load no checkpoint of any architecture.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Iterable
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mutransfer.errors import UserError
from mutransfer.fairseq_mup import require
from mutransfer.fairseq_mup.weights import OPTIONS, SIDES, Base, set_scales
from mutransfer.parametrization import Plan, scaling_plan

require()

from fairseq.models import register_model, register_model_architecture  # noqa: E402
from fairseq.models.transformer import (  # noqa: E402
    TransformerDecoderBase,
    TransformerModel,
    base_architecture,
    transformer_iwslt_de_en,
    transformer_vaswani_wmt_en_de_big,
)
from fairseq.models.transformer.transformer_config import TransformerConfig  # noqa: E402
from fairseq.optim import register_optimizer  # noqa: E402
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig  # noqa: E402

torch.serialization.add_safe_globals([argparse.Namespace])

OPTIMIZER = "mup_adam"
HELP = (
    *("embed dim at which µP is plain fairseq", "ffn embed dim of the base", "attention heads of the base"),
    *("multiplier of the logits (default: 1)", "multiplier of attention (default: 1)"),
)
REFUSED = (
    *("adaptive_input", "adaptive_softmax_cutoff", "merge_src_tgt_embed", "base_layers"),
    *("encoder_embed_path", "decoder_embed_path"),
)
SIZES = {"embed_dim": "width", "ffn_embed_dim": "ffn", "attention_heads": "heads"}  # of each side -> of `Base`
SCALED = ("lr", "weight_decay", "eps")  # what a group of the optimizer has a factor for, as ``mup_<name>``


class MupDecoder(TransformerDecoderBase):
    """fairseq's decoder, whose logits are multiplied by ``output_mult``."""

    output_mult = 1.0

    def output_layer(self, features: Tensor) -> Tensor:
        logits = self.output_projection(features)
        return logits if self.output_mult == 1 else logits * self.output_mult  # µP: alpha_output, and 1/width if tied


@register_model("mup_transformer")
class MupTransformerModel(TransformerModel):
    """fairseq's Transformer in µP. Its parameters have fairseq's own names; at the base shape it is fairseq's, bit for
    bit. ``plan`` says how each parameter scales."""

    plan: Plan

    @classmethod
    def add_args(cls, parser: Any) -> None:
        super().add_args(parser)
        # without defaults: the architecture fills in what is not given
        for (name, field), what in zip(OPTIONS.items(), HELP, strict=True):
            kind = float if field.startswith("alpha") else int
            parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(), help=what)

    @classmethod
    def build_model(cls, args: Any, task: Any) -> MupTransformerModel:
        """Raises `UserError` for an option that µP has no rule for here, or another optimizer than ``mup_adam``."""
        base = Base.of(args)
        assert base is not None, "the architecture has filled in the base"
        _check(args)
        model = super().build_model(args, task)
        with torch.random.fork_rng():  # the base may not change what fairseq draws
            reference = TransformerModel.build_model(_of_base(args, base), task)
        set_scales(model, base)
        model.plan = scaling_plan(reference, model, parametrization="mup", optimizer="adam")
        model.plan.initialize(model, reference, own_init=_own_init(model))
        _move_multiplier(model, base)
        for name in OPTIONS:
            setattr(model.cfg, name, getattr(args, name))  # so that `cfg` says all that the model is
        for name, p in model.named_parameters():
            # fairseq's own way of telling an optimizer about a parameter; it survives the copies of --fp16 and --bf16
            p.optim_overrides = {OPTIMIZER: {field: getattr(model.plan[name], field) for field in SCALED}}
        return model

    @classmethod
    def build_decoder(cls, args: Any, tgt_dict: Any, embed_tokens: nn.Module) -> MupDecoder:
        cfg = TransformerConfig.from_namespace(args)
        return MupDecoder(cfg, tgt_dict, embed_tokens, no_encoder_attn=cfg.no_cross_attention)


def _check(args: Any) -> None:
    widths = {x: getattr(args, x, args.decoder_embed_dim) for x in ("decoder_input_dim", "decoder_output_dim")}
    bad = [name for name in REFUSED if getattr(args, name, None)]
    if bad := bad + [name for name, width in widths.items() if width != args.decoder_embed_dim]:
        raise UserError(f"--arch {args.arch} has no µP rule for --{bad[0].replace('_', '-')}; leave it out.")
    if (optimizer := getattr(args, "optimizer", OPTIMIZER)) != OPTIMIZER:
        raise UserError(
            f"--arch {args.arch} with --optimizer {optimizer} would train at SP's learning rates; "
            f"use --optimizer {OPTIMIZER}."
        )
    for name in SIZES:
        both = {f"--{side}-{name.replace('_', '-')}": getattr(args, f"{side}_{name}") for side in SIDES}
        if len({*both.values()}) > 1:
            options = " and ".join(f"{option} {value}" for option, value in both.items())
            raise UserError(f"{options} differ, but µP has one base for both.")


def _of_base(args: Any, base: Base) -> Any:
    options = copy.deepcopy(args)
    for side, (name, own) in product(SIDES, SIZES.items()):
        setattr(options, f"{side}_{name}", getattr(base, own))
    options.decoder_input_dim = options.decoder_output_dim = base.width
    return options


def _own_init(model: MupTransformerModel) -> dict[str, float]:
    """The power of width that each parameter's own std has in fairseq: weights and biases of a linear map go as
    1/sqrt(fan_in), embeddings as 1/sqrt(width). Known, so that it need not be measured, which small shapes defy."""
    powers: dict[str, float] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Linear | nn.Embedding):
            size = model.plan[f"{path}.weight"].size
            falls = size.m_in if isinstance(module, nn.Linear) else size.m_out
            largest = max({size.m_in, size.m_out} - {1.0}, default=1.0)  # which a power is of
            power = 0.0 if falls == 1 else -0.5 * math.log(falls) / math.log(largest)
            powers |= {f"{path}.{name}": power for name, _ in module.named_parameters()}
    return powers


def _move_multiplier(model: MupTransformerModel, base: Base) -> None:
    """Take a tied readout's multiplier out of the parameter, whose name in checkpoints it changes, into the decoder."""
    readout = model.decoder.output_projection
    if parametrize.is_parametrized(readout):
        parametrize.remove_parametrizations(readout, "weight", leave_parametrized=False)
    model.decoder.output_mult = base.alpha_output * model.plan["decoder.output_projection.weight"].multiplier


def _architecture(name: str, plain: Any, base: Base) -> None:
    """Register ``name``: fairseq's architecture ``plain``, whose shape is the base."""

    def fill_in(args: Any) -> None:
        plain(args)
        for option, field in OPTIONS.items():
            setattr(args, option, getattr(args, option, getattr(base, field)))

    register_model_architecture("mup_transformer", name)(fill_in)


_architecture("mup_transformer", base_architecture, Base(width=512, ffn=2048, heads=8))
_architecture("mup_transformer_iwslt_de_en", transformer_iwslt_de_en, Base(width=512, ffn=1024, heads=4))
BIG = "transformer_vaswani_wmt_en_de_big"
_architecture(f"mup_{BIG}", transformer_vaswani_wmt_en_de_big, Base(width=1024, ffn=4096, heads=16))


@register_optimizer(OPTIMIZER, dataclass=FairseqAdamConfig)
class MupAdam(FairseqAdam):
    """fairseq's Adam, whose options are the base's: a parameter's learning rate, weight decay and eps are its plan's.

    Every schedule of fairseq's works: `set_lr` multiplies where fairseq's own sets all groups alike.
    """

    def __init__(self, cfg: FairseqAdamConfig, params: Iterable[nn.Parameter]) -> None:
        super().__init__(cfg, _groups(params))
        settings = self.optimizer_config
        self._lr = settings["lr"]
        self._scale(settings)

    def get_lr(self) -> float:
        return self._lr

    def set_lr(self, lr: float) -> None:
        self._lr = lr
        self._scale({"lr": lr})

    def load_state_dict(self, state_dict: dict[str, Any], optimizer_overrides: dict[str, Any] | None = None) -> None:
        """Raises `UserError` if the state is another optimizer's, or of another base."""
        both = state_dict["param_groups"], self.param_groups
        factors = [[[group.get(f"mup_{x}") for x in SCALED] for group in groups] for groups in both]
        if factors[0] != factors[1]:
            raise UserError(
                "the checkpoint's optimizer has other learning rates for each parameter than this model's plan: "
                "give the base that it was trained with, or --reset-optimizer."
            )
        super().load_state_dict(state_dict, optimizer_overrides)
        self._scale(optimizer_overrides or {})

    def _scale(self, settings: dict[str, Any]) -> None:
        for group in self.param_groups:
            for name in SCALED:
                if name in settings:
                    group[name] = settings[name] * group[f"mup_{name}"]


def _groups(params: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """One group for each distinct triple of factors, in the order of the parameters."""
    groups: dict[tuple[float, ...], list[nn.Parameter]] = {}
    for p in params:
        factors = getattr(p, "optim_overrides", {}).get(OPTIMIZER)
        if factors is None:
            raise UserError(
                f"--optimizer {OPTIMIZER} has a parameter {list(p.shape)} without a plan: use it with --arch "
                "mup_transformer..., with --fp16-no-flatten-grads if with --fp16, and without --ddp-backend "
                "fully_sharded; for a plain architecture use --optimizer adam."
            )
        groups.setdefault(tuple(factors[name] for name in SCALED), []).append(p)
    return [
        {"params": members, **{f"mup_{name}": f for name, f in zip(SCALED, factors, strict=True)}}
        for factors, members in groups.items()
    ]
