"""Figures 8 and 14, Table 7, Algorithm 1: GPT-3's hyperparameters, searched on a narrow proxy (section 7.3, App. F.4).

Pre-LN decoder with GELU and relative attention, Adam with linear decay, no weight decay or dropout, readout and queries
from zero. Six hyperparameters are drawn at random, as F.4 prints the space.
"""

from __future__ import annotations

from math import log2
from pathlib import Path

from data_scripts import text
from experiments.language import examples, flops, memory, parameters, run
from mutransfer.data import TokenDataset
from mutransfer.designs.experiment import Experiment, Scale, Variant
from mutransfer.designs.search import LogUniform
from mutransfer.designs.study import Study
from mutransfer.training.spec import Value

BYTES = 256
PIECES = 50_257  # GPT-3's vocabulary
TOKENS_A_STEP = 1024 * 2048  # about 2M, GPT-3 6.7B's batch (Brown et al. 2020, Table 2.1)
GPT3_LR = log2(1.2e-4)  # of GPT-3 6.7B (the same table)
ADAM_LR = log2(1e-3)  # the customary one


def load(data: Path | None, dataset: str | None, scale: str) -> TokenDataset:
    tokenizer = "bytes" if scale in ("smoke", "cpu") else f"sentencepiece-{PIECES}"
    return text.load(data, dataset=dataset, tokenizer=tokenizer)


def hps(*, depth: int, heads: int, length: int, vocab: int) -> dict[str, Value]:
    return {"depth": depth, "heads": heads, "length": length, "vocab": vocab}


EXPERIMENT = Experiment(
    name="gpt3_proxy",
    summary="Figures 8, 14, Table 7: GPT-3's hyperparameters from a proxy, against the alternatives at equal compute",
    optimizer="adam",
    momentum=0.0,
    load=load,
    stands_in_for="GPT-3's data",
    datasets=text.SETS,
    run=run,
    flops=flops,
    memory=memory,
    parameters=parameters,
    examples=examples,
    scales={
        "smoke": Scale(
            widths=(32, 64),
            base_width=32,
            log2_lrs=(-7,),
            seeds=1,
            steps=40,
            batch=4,
            samples=12,
            hps=hps(depth=2, heads=4, length=64, vocab=BYTES),
        ),
        "cpu": Scale(
            widths=(64, 256),
            base_width=64,
            log2_lrs=(-7,),
            seeds=1,
            steps=400,
            batch=4,
            samples=40,
            hps=hps(depth=2, heads=4, length=128, vocab=BYTES),
        ),
        "gpu": Scale(
            widths=(128, 1024),
            base_width=128,
            log2_lrs=(-8,),
            seeds=1,
            steps=4000,
            batch=64,
            samples=64,
            hps=hps(depth=8, heads=16, length=256, vocab=PIECES),
        ),
        "paper": Scale(
            widths=(256, 4096),
            base_width=256,
            log2_lrs=(-7,),
            seeds=1,
            steps=round(16e9 / TOKENS_A_STEP),
            batch=TOKENS_A_STEP // 2048,
            samples=117,
            hps=hps(depth=32, heads=32, length=2048, vocab=PIECES),
        ),
    },
    studies={
        "smoke": Study(
            pools=((12, 40),),
            search=7,  # so that one search and one training cost just above two trainings: direct tuning gets two
            searches=5,
            target_steps=80,
            direct_samples=3,
            widths=(32, 64),
            default_log2_lr=ADAM_LR,
        ),
        "cpu": Study(
            pools=((40, 400),),
            search=20,
            searches=10,
            target_steps=600,
            direct_samples=12,
            widths=(64, 128, 256),
            default_log2_lr=ADAM_LR,
        ),
        "gpu": Study(
            pools=((64, 1000), (64, 4000)),
            search=32,
            searches=10,
            target_steps=8000,
            direct_samples=12,
            widths=(128, 256, 512, 1024),
            default_log2_lr=ADAM_LR,
        ),
        "paper": Study(  # one search, as published
            pools=((350, round(4e9 / TOKENS_A_STEP)), (117, round(16e9 / TOKENS_A_STEP))),
            search=117,
            searches=1,
            target_steps=round(300e9 / TOKENS_A_STEP),
            direct_samples=1,
            widths=(),
            default_log2_lr=GPT3_LR,
        ),
    },
    variants={
        "relative": Variant(
            title="GPT-like Transformer, relative attention, Adam",
            y_label="training loss (nats a token)",
            hps={
                "norm": "pre",
                "positions": "relative",
                "activation": "gelu",
                "ffn_ratio": 4.0,
                "schedule": "linear",
                "beta2": 0.95,
                "output_mult": 1.0,
                "attn_mult": 1.0,
                "init_mult": 1.0,
                "embed_mult": 1.0,
                "position_mult": 1.0,
            },
            paper={
                "table_or_figure": "Table 7",
                "statement": "The winner of a search on a proxy of width 256, at 7% of the pretraining cost, takes "
                "GPT-3 6.7B to a validation loss of 1.98; with the published hyperparameters a re-run reaches 2.03.",
            },
            search={
                "lr": LogUniform(-4, -1, base=10),
                "init_mult": LogUniform(-1, 1, base=10),
                "attn_mult": LogUniform(-1, 1, base=4),
                "output_mult": LogUniform(-1, 1, base=4),
                "embed_mult": LogUniform(-1, 1, base=10),
                "position_mult": LogUniform(-1, 1, base=10),
            },
        )
    },
)
