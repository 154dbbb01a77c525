"""What the translation experiments share: from a `RunSpec` to a trained `EncoderDecoder` and its BLEU.

fairseq's recipe: post-LN, sinusoidal positions from 2 on, ReLU, the decoder's embedding for a readout, Adam with betas
(0.9, 0.98) and decoupled weight decay, label smoothing 0.1, warm-up and inverse square root. SP is fairseq's own
convention: embeddings N(0, 1/d_model), times sqrt(d_model).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch

from experiments.iwslt14.experiment import BLEUS, Hps
from experiments.shared import hps
from mutransfer.data.pairs import PairDataset
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale, scaling_plan
from mutransfer.training import flops as count
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.translation import Translation, bleu, translate

BETAS, SMOOTHING = (0.9, 0.98), 0.1
LONGEST = 1024  # tokens of a sentence, fairseq's limit
MULTIPLE = 4  # of which the padded lengths are one
SENTENCE = 32  # tokens: about the mean, for what a run costs
MAX_LENGTH = (1.2, 10.0)  # of a translation, as in fairseq's recipe for IWSLT14
SAMPLES = 5


def config(spec: RunSpec, width: int, *, is_base: bool = False, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's."""
    own, grown = hps(spec, Hps), width / spec.base_width
    ratio = (is_base and own.base_ffn_ratio) or own.ffn_ratio

    def d_head(width: int) -> int:
        return own.d_head or max(width // own.heads, own.least_d_head)

    is_sp = spec.parametrization == "sp"
    return Config(
        vocab=own.vocab,
        width=width,
        depth=own.depth,
        heads=width // own.d_head if own.d_head else own.heads,
        d_head=d_head(width),
        ffn_ratio=ratio * grown ** (own.ffn_power - 1),
        length=LONGEST + 1,  # the decoder also reads the end that it starts from
        first_position=2,
        norm="post",
        tied=True,
        joint=bool(own.joint),
        zero_query=True,
        dropout=own.dropout,
        embed_std=width**-0.5,
        embed_mult=(width if is_sp else spec.base_width) ** 0.5,
        output_mult=own.output_mult,
        attention_scale=attention_scale(
            d_head(width),
            d_head(spec.base_width),
            parametrization=spec.parametrization,
            alpha_attn=own.attn_mult,
        ),
        fused=fused,
    )


def model_of(spec: RunSpec, device: str = "cpu") -> tuple[EncoderDecoder, list[dict[str, Any]]]:
    """The initialised model, and its parameters in groups for the optimizer."""
    torch.manual_seed(spec.seed)
    model, base = EncoderDecoder(config(spec, spec.width)), EncoderDecoder(config(spec, spec.base_width, is_base=True))
    plan = scaling_plan(base, model, parametrization=spec.parametrization, optimizer=spec.optimizer)
    if spec.parametrization != "sp":  # SP's init is what fairseq draws at this width
        plan.initialize(model, base)
    model.to(device)
    return model, plan.param_groups(model, lr=2.0**spec.log2_lr, weight_decay=hps(spec, Hps).weight_decay)


def run(spec: RunSpec, dataset: PairDataset, device: str = "cpu") -> RunRecord:
    """One run; with a ``beam``, BLEU of the valid and the test part, and the first translations of the test part.

    By fairseq itself where the spec's ``backend`` says so.
    """
    own = hps(spec, Hps)
    if own.backend == "fairseq":
        from experiments import fairseq_backend

        base = config(spec, spec.base_width, is_base=True)
        return fairseq_backend.run(spec, dataset, config(spec, spec.width), base)
    model, groups = model_of(spec, device)
    optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
    task = Translation(dataset, LONGEST, smoothing=SMOOTHING, multiple=MULTIPLE)
    record = train(spec, model, optimizer, task, device=device, schedule=own.schedule)
    if not own.beam or record.status != "finished":
        return record
    scores, count = dict[str, float](), own.translated or None
    for name in BLEUS:
        part = name.removeprefix("bleu_")
        found = translate(model, dataset, part, beam=own.beam, max_length=MAX_LENGTH, count=count)
        scores[name], signature = bleu(found, dataset.references(part)[: len(found)])
    rows = zip(dataset.sources("test"), dataset.references("test"), found, strict=False)  # found: the first ones
    samples = tuple(islice(rows, SAMPLES))
    return replace(record, scores=scores, samples=samples, provenance={**record.provenance, "bleu": signature})


def sentences(spec: RunSpec) -> torch.Tensor:
    """One side of a batch, as if all its sentences had the mean length."""
    return torch.zeros(max(1, spec.batch // SENTENCE), SENTENCE, dtype=torch.int64)


flops = count.counted(
    lambda spec, width: EncoderDecoder(config(spec, width)),
    lambda spec: (sentences(spec), sentences(spec)),
    free=("output_mult", "attn_mult", "weight_decay", "schedule", "beam", "translated"),
)


def parameters(spec: RunSpec) -> float:
    return count.parameters(lambda: EncoderDecoder(config(spec, spec.width)))


def examples(dataset: PairDataset, spec: RunSpec) -> int:
    """Tokens of an epoch, as a batch counts them: the longer side of each pair, its end included."""
    pairs = dataset.pairs("train")
    lengths = [np.diff(side.ends.numpy(), prepend=0) + 1 for side in (pairs.source, pairs.target)]
    longer = np.maximum(*lengths)
    return int(longer[longer <= LONGEST].sum())
