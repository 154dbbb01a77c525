"""From a `RunSpec` to a pretrained `Bert`, and what it scores on tasks after fine-tuning."""

from __future__ import annotations

import copy
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from experiments.bert.experiment import Hps
from experiments.shared import hps
from mutransfer.data.sentences import SentenceDataset
from mutransfer.designs.space import put
from mutransfer.models.transformer import Bert, Classifier
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale, scaling_plan
from mutransfer.training import flops as count
from mutransfer.training.bert import LabelledSequences, Pretraining, finetune, predicted
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec

BETAS = (0.9, 0.999)
EMBED_STD, EMBED_MULT = 0.2, 5.0  # words and positions enter with coordinates of size 1, as what the blocks add
NORMS = ("norm.weight",)  # as the names of LayerNorms' gains end
EMBEDDINGS = ("stack.embed.", "stack.position.", "stack.segment.")  # as the names of embeddings begin
LONGEST = 128  # tokens of a task's example (App. F.3), where pretraining's are not shorter


def config(spec: RunSpec, width: int, *, is_base: bool = False, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's, which is as deep."""
    own = hps(spec, Hps)
    base_heads = own.base_heads or own.heads
    heads, ratio = own.heads, own.ffn_ratio
    if is_base:
        heads, ratio = base_heads, own.base_ffn_ratio or ratio
    return Config(
        vocab=own.vocab,
        width=width,
        depth=own.depth,
        heads=heads,
        ffn_ratio=ratio,
        length=own.length,
        norm=own.norm,
        positions="learned",
        segments=2,
        activation="gelu",
        tied=True,
        dropout=own.dropout,
        inner_dropout=0.0,
        embed_std=EMBED_STD,
        embed_mult=EMBED_MULT,
        position_mult=EMBED_MULT,
        output_mult=own.output_mult,
        attention_scale=attention_scale(
            width // heads,
            spec.base_width // base_heads,
            parametrization=spec.parametrization,
            alpha_attn=own.attn_mult,
        ),
        fused=fused,
    )


def model_of(spec: RunSpec, device: str = "cpu") -> tuple[Bert, list[dict[str, Any]]]:
    """The initialised model, and its parameters in groups for the optimizer.

    ``gain_mult`` and ``bias_mult`` are the multipliers of App. F.3 with the init held fixed: for Adam such a multiplier
    is that factor on the tensor's learning rate (Lemma J.1).
    """
    torch.manual_seed(spec.seed)
    model, base = Bert(config(spec, spec.width)), Bert(config(spec, spec.base_width, is_base=True))
    plan = scaling_plan(base, model, parametrization=spec.parametrization, optimizer=spec.optimizer)
    plan.initialize(model, base)
    model.to(device)
    own = hps(spec, Hps)

    def lr(name: str) -> float:
        if name.startswith(EMBEDDINGS):
            return own.embed_lr or 2.0**spec.log2_lr
        mult = own.bias_mult if name.endswith("bias") else own.gain_mult if name.endswith(NORMS) else 1.0
        return 2.0**spec.log2_lr * mult

    def decay(name: str) -> float:
        return 0.0 if name.endswith(("bias", *NORMS)) else own.weight_decay

    return model, plan.param_groups(model, lr=lr, weight_decay=decay)


def run(spec: RunSpec, dataset: SentenceDataset, device: str = "cpu") -> RunRecord:
    """One run of pretraining; ``finetuned`` so many times on each task.

    A task's score is the median over the seeds; ``<task>_scratch`` (with ``scratch``) that of the same encoder without
    its pretraining.
    """
    own = hps(spec, Hps)
    model, groups = model_of(spec, device)
    start = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
    task = Pretraining(dataset, own.length, seed=spec.seed)
    record = train(spec, model, optimizer, task, device=device, schedule=own.schedule)
    if not own.finetuned or record.status != "finished":
        return record
    scores = {}
    for name in own.tasks.split("+"):
        if name not in dataset.tasks:
            continue  # not to be had here
        scores[name] = scored(spec, model, dataset, name, device)
        if own.scratch:
            scores[f"{name}_scratch"] = scored(spec, start, dataset, name, device)
    return replace(record, scores=scores)


def scored(spec: RunSpec, model: Bert, dataset: SentenceDataset, name: str, device: str) -> float:
    """The median score of ``model`` (which stays as it is) on a task, fine-tuned from several seeds; in percent."""
    own, facts = hps(spec, Hps), dataset.tasks[name]
    length = min(LONGEST, own.length)
    train_part, test_part = (
        LabelledSequences(dataset.examples(name, part), length, dataset.special, torch.device(device))
        for part in ("train", "test")
    )
    scores = []
    for seed in range(own.finetuned):
        torch.manual_seed(seed)
        classifier = Classifier(copy.deepcopy(model), facts.classes).to(device)
        scores.append(
            finetune(
                classifier,
                train_part,
                test_part,
                metric=facts.metric,
                lr=own.finetune_lr,
                steps=own.finetune_steps,
                batch=own.finetune_batch,
                seed=seed,
            )
        )
    return median(scores)


def probe(spec: RunSpec) -> RunSpec:
    """The same without fine-tuning."""
    return put(spec, {"finetuned": 0})


def inputs(spec: RunSpec) -> tuple[torch.Tensor | None, ...]:
    """What a batch of pretraining calls the model with; nothing is padded."""
    length = hps(spec, Hps).length
    tokens = torch.zeros(spec.batch, length, dtype=torch.int64)
    return tokens, tokens, None, torch.zeros(spec.batch * predicted(length), dtype=torch.int64)


flops = count.counted(  # of pretraining
    lambda spec, width: Bert(config(spec, width)),
    inputs,
    free=("output_mult", "attn_mult", "embed_lr", "gain_mult", "bias_mult", "weight_decay", "schedule"),
)


def parameters(spec: RunSpec) -> float:
    return count.parameters(lambda: Bert(config(spec, spec.width)))


def examples(dataset: SentenceDataset, spec: RunSpec) -> int:
    return Pretraining(dataset, hps(spec, Hps).length, seed=0).count
