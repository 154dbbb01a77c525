"""What µP asks of Hugging Face's Transformers beside a plan: the scale of the attention logits, set from outside."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from mutransfer.errors import UserError
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
