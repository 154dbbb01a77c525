"""From a `RunSpec` to a pretrained `Bert`, and what it scores on tasks after fine-tuning."""

from __future__ import annotations

import copy
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from mutransfer.data.sentences import SentenceDataset
from mutransfer.models import transformer_config as cost
from mutransfer.models.transformer import Bert, Classifier
from mutransfer.models.transformer_config import Config
from mutransfer.parametrization import attention_scale, scaling_plan
from mutransfer.training.bert import LabelledSequences, Pretraining, finetune, predicted
from mutransfer.training.loop import train
from mutransfer.training.spec import RunRecord, RunSpec, Value

BETAS = (0.9, 0.999)
EMBED_STD, EMBED_MULT = 0.2, 5.0  # words and positions enter with coordinates of size 1, as what the blocks add
NORMS = ("norm.weight",)  # as the names of LayerNorms' gains end
EMBEDDINGS = ("stack.embed.", "stack.position.", "stack.segment.")  # as the names of embeddings begin
LONGEST = 128  # tokens of a task's example (App. F.3), where pretraining's are not shorter

OWN: dict[str, Value] = {  # hyperparameters that no scale decides; what searches and targets change
    "base_heads": 0,  # 0: heads
    "base_ffn_ratio": 0.0,  # 0: ffn_ratio
    "output_mult": 1.0,
    "attn_mult": 1.0,
    "embed_lr": 0.0,  # of all embeddings; 0: the learning rate of the others
    "gain_mult": 1.0,
    "bias_mult": 1.0,
    "weight_decay": 0.01,  # not of gains and biases
    "schedule": "warmup_0.01_linear",
    "finetuned": 0,  # times, from as many seeds; 0: never
    "scratch": 0,  # 1: the encoder without its pretraining is fine-tuned, too
    "tasks": "",  # on which, joined by "+"
    "finetune_lr": 5e-5,
    "finetune_batch": 64,
    "finetune_steps": 0,
}


def config(spec: RunSpec, width: int, *, is_base: bool = False, fused: bool = True) -> Config:
    """The spec's model at a width: the spec's own, or the base's, which is as deep."""
    hps: dict[str, Any] = dict(spec.hps)

    def of(name: str, base: bool) -> Any:
        return (base and hps[f"base_{name}"]) or hps[name]

    heads, base_heads = (int(of("heads", base)) for base in (is_base, True))
    return Config(
        vocab=int(hps["vocab"]),
        width=width,
        depth=int(hps["depth"]),
        heads=heads,
        ffn_ratio=float(of("ffn_ratio", is_base)),
        length=int(hps["length"]),
        norm=str(hps["norm"]),
        positions="learned",
        segments=2,
        activation="gelu",
        tied=True,
        dropout=float(hps["dropout"]),
        inner_dropout=0.0,
        embed_std=EMBED_STD,
        embed_mult=EMBED_MULT,
        position_mult=EMBED_MULT,
        output_mult=float(hps["output_mult"]),
        attention_scale=attention_scale(
            width // heads,
            spec.base_width // base_heads,
            parametrization=spec.parametrization,
            alpha_attn=float(hps["attn_mult"]),
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
    own = dict(spec.hps)
    embed_lr, gain, bias = (float(own[name]) for name in ("embed_lr", "gain_mult", "bias_mult"))

    def lr(name: str) -> float:
        if name.startswith(EMBEDDINGS):
            return embed_lr or 2.0**spec.log2_lr
        return 2.0**spec.log2_lr * (bias if name.endswith("bias") else gain if name.endswith(NORMS) else 1.0)

    def decay(name: str) -> float:
        return 0.0 if name.endswith(("bias", *NORMS)) else float(own["weight_decay"])

    return model, plan.param_groups(model, lr=lr, weight_decay=decay)


def run(spec: RunSpec, dataset: SentenceDataset, device: str = "cpu") -> RunRecord:
    """One run of pretraining; ``finetuned`` so many times on each task.

    A task's score is the median over the seeds; ``<task>_scratch`` (with ``scratch``) that of the same encoder without
    its pretraining.
    """
    model, groups = model_of(spec, device)
    start = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
    task = Pretraining(dataset, int(spec.hp("length")), seed=spec.seed)
    record = train(spec, model, optimizer, task, device=device, schedule=str(spec.hp("schedule")))
    if not int(spec.hp("finetuned")) or record.status != "finished":
        return record
    found = {}
    for name in str(spec.hp("tasks")).split("+"):
        if name not in dataset.tasks:
            continue  # not to be had here
        found[name] = scored(spec, model, dataset, name, device)
        if int(spec.hp("scratch")):
            found[f"{name}_scratch"] = scored(spec, start, dataset, name, device)
    return replace(record, scores=found)


def scored(spec: RunSpec, model: Bert, dataset: SentenceDataset, name: str, device: str) -> float:
    """The median score of ``model`` (which stays as it is) on a task, fine-tuned from several seeds; in percent."""
    facts, length = dataset.tasks[name], min(LONGEST, int(spec.hp("length")))
    train_part, test_part = (
        LabelledSequences(dataset.examples(name, part), length, dataset.special, torch.device(device))
        for part in ("train", "test")
    )
    scores = []
    for seed in range(int(spec.hp("finetuned"))):
        torch.manual_seed(seed)
        classifier = Classifier(copy.deepcopy(model), facts.classes).to(device)
        scores.append(
            finetune(
                classifier,
                train_part,
                test_part,
                metric=facts.metric,
                lr=float(spec.hp("finetune_lr")),
                steps=int(spec.hp("finetune_steps")),
                batch=int(spec.hp("finetune_batch")),
                seed=seed,
            )
        )
    return median(scores)


def flops(spec: RunSpec) -> float:
    """Of pretraining."""
    c, length = config(spec, spec.width), int(spec.hp("length"))
    return spec.steps * cost.bert_flops_per_step(c, batch=spec.batch, length=length, masked=predicted(length))


def parameters(spec: RunSpec) -> float:
    return cost.bert_parameters(config(spec, spec.width))


def memory(spec: RunSpec) -> float:
    c, length = config(spec, spec.width), int(spec.hp("length"))
    is_half = spec.precision == "bfloat16"
    return cost.bert_memory_bytes(c, batch=spec.batch, length=length, masked=predicted(length), bfloat16=is_half)


def examples(dataset: SentenceDataset, spec: RunSpec) -> int:
    return Pretraining(dataset, int(spec.hp("length")), seed=0).count
