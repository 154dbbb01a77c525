"""What the translation experiments share: the data, and from a `RunSpec` to a trained `EncoderDecoder` and its BLEU.

fairseq's recipe: post-LN, sinusoidal positions from 2 on, ReLU, the decoder's embedding for a readout, Adam with betas
(0.9, 0.98) and decoupled weight decay, label smoothing 0.1, warm-up and inverse square root. SP is fairseq's own
convention: embeddings N(0, 1/d_model), times sqrt(d_model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mutransfer import fairseq_mup
from mutransfer.data.pairs import PairDataset
from mutransfer.models import transformer_config as cost
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale, scaling_plan
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec, Value
from mutransfer.training.translation import Translation, bleu, translate

BETAS, SMOOTHING = (0.9, 0.98), 0.1
LONGEST = 1024  # tokens of a sentence, fairseq's limit
MULTIPLE = 4  # of which the padded lengths are one
SENTENCE = 32  # tokens: about the mean, for what a run costs
MAX_LENGTH = (1.2, 10.0)  # of a translation, as in fairseq's recipe for IWSLT14
BACKENDS = {"fairseq": fairseq_mup.require}
BLEUS = ("bleu_valid", "bleu_test")
SAMPLES = 5


OWN: dict[str, Value] = {  # hyperparameters that no scale decides; what the figures change
    "output_mult": 1.0,
    "attn_mult": 1.0,
    "least_d_head": 1,  # App. D.4
    "base_ffn_ratio": 0.0,  # 0: ffn_ratio
    "weight_decay": 1e-4,
    "schedule": "warmup_inverse_sqrt",
    "beam": 0,  # 0: nothing is translated
    "translated": 0,  # sentences, the first of the valid and of the test part; 0: all
}


def config(spec: RunSpec, width: int, *, is_base: bool = False, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's."""
    hps: dict[str, Any] = dict(spec.hps)
    ratio, grown = float(hps["ffn_ratio"]), width / spec.base_width
    if is_base:
        ratio = float(hps["base_ffn_ratio"]) or ratio

    def d_head(width: int) -> int:
        return int(hps["d_head"]) or max(width // int(hps["heads"]), int(hps["least_d_head"]))

    is_sp = spec.parametrization == "sp"
    return Config(
        vocab=int(hps["vocab"]),
        width=width,
        depth=int(hps["depth"]),
        heads=width // int(hps["d_head"]) if hps["d_head"] else int(hps["heads"]),
        d_head=d_head(width),
        ffn_ratio=ratio * grown ** (float(hps["ffn_power"]) - 1),
        length=LONGEST + 1,  # the decoder also reads the end that it starts from
        first_position=2,
        norm="post",
        tied=True,
        joint=bool(hps["joint"]),
        zero_query=True,
        dropout=float(hps["dropout"]),
        embed_std=width**-0.5,
        embed_mult=(width if is_sp else spec.base_width) ** 0.5,
        output_mult=float(hps["output_mult"]),
        attention_scale=attention_scale(
            d_head(width),
            d_head(spec.base_width),
            parametrization=spec.parametrization,
            alpha_attn=float(hps["attn_mult"]),
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
    return model, plan.param_groups(model, lr=2.0**spec.log2_lr, weight_decay=float(spec.hp("weight_decay")))


def run(spec: RunSpec, dataset: PairDataset, device: str = "cpu") -> RunRecord:
    """One run; with a ``beam``, BLEU of the valid and the test part, and the first translations of the test part.

    By fairseq itself where the spec's ``backend`` says so.
    """
    if dict(spec.hps).get("backend") == "fairseq":
        from experiments import fairseq_backend

        base = config(spec, spec.base_width, is_base=True)
        return fairseq_backend.run(spec, dataset, config(spec, spec.width), base)
    model, groups = model_of(spec, device)
    optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
    task = Translation(dataset, LONGEST, smoothing=SMOOTHING, multiple=MULTIPLE)
    record = train(spec, model, optimizer, task, device=device, schedule=str(spec.hp("schedule")))
    beam = int(spec.hp("beam"))
    if not beam or record.status != "finished":
        return record
    scores, count = dict[str, float](), int(spec.hp("translated")) or None
    for name in BLEUS:
        part = name.removeprefix("bleu_")
        found = translate(model, dataset, part, beam=beam, max_length=MAX_LENGTH, count=count)
        scores[name], signature = bleu(found, dataset.references(part)[: len(found)])
    rows = zip(dataset.sources("test"), dataset.references("test"), found, strict=False)  # found: the first ones
    samples = tuple(islice(rows, SAMPLES))
    return replace(record, scores=scores, samples=samples, provenance={**record.provenance, "bleu": signature})


def flops(spec: RunSpec) -> float:
    c = config(spec, spec.width)
    return spec.steps * cost.translation_flops_per_step(c, tokens=spec.batch, sentence=SENTENCE)


def parameters(spec: RunSpec) -> float:
    return cost.translation_parameters(config(spec, spec.width))


def memory(spec: RunSpec) -> float:
    is_half = spec.precision == "bfloat16"
    c = config(spec, spec.width)
    return cost.translation_memory_bytes(c, tokens=spec.batch, sentence=SENTENCE, bfloat16=is_half)


def examples(dataset: PairDataset, spec: RunSpec) -> int:
    """Tokens of an epoch, as a batch counts them: the longer side of each pair, its end included."""
    pairs = dataset.pairs("train")
    lengths = [np.diff(side.ends.numpy(), prepend=0) + 1 for side in (pairs.source, pairs.target)]
    longer = np.maximum(*lengths)
    return int(longer[longer <= LONGEST].sum())


def loader(
    choose: Callable[[Path | None, str | None], Callable[..., PairDataset]], pieces: dict[str, int]
) -> Callable[..., PairDataset]:
    """`Experiment.load`: the script that ``choose`` names, with a vocabulary by scale; any corpus with options."""

    def load(data: Path | None, dataset: str | None, scale: str, **corpus: Any) -> PairDataset:
        return choose(data, dataset)(data, **{"pieces": pieces[scale], **corpus})

    return load
