"""Figures 8 and 14, Table 7, Algorithm 1: GPT-3's hyperparameters, searched on a narrow proxy (section 7.3, App. F.4).

Pre-LN decoder with GELU and relative attention, Adam with linear decay, no weight decay or dropout, readout and queries
from zero. Six hyperparameters are drawn at random, as F.4 prints the space.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from pathlib import Path
from typing import Any

from experiments.transformer_lm.experiment import TEXTS
from mutransfer.designs.algorithm import Copy, Drawn, Fixed, Long, Model, Numbers, Pool, Tuning, Widths
from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.space import LogUniform
from mutransfer.training.spec import Value

BYTES = 256
PIECES = 50_257  # GPT-3's vocabulary
TOKENS_A_STEP = 1024 * 2048  # about 2M, GPT-3 6.7B's batch (Brown et al. 2020, Table 2.1)
STEPS = round(16e9 / TOKENS_A_STEP)
GPT3_LR = log2(1.2e-4)  # of GPT-3 6.7B (the same table)
ADAM_LR = log2(1e-3)  # the customary one


def load(data: Path | None, dataset: str | None, scale: str) -> Any:
    from data_scripts import text

    tokenizer = "bytes" if scale in ("smoke", "cpu") else f"sentencepiece-{PIECES}"
    return text.load(data, dataset=dataset, tokenizer=tokenizer)


def hps(depth: int, heads: int, length: int, vocab: int) -> dict[str, Value]:
    return {"depth": depth, "heads": heads, "length": length, "vocab": vocab}


def numbers(target_steps: int, samples: Mapping[str, int], *, log2_lr: float = ADAM_LR, **more: Any) -> Numbers:
    """``samples`` by role; the default has this learning rate."""
    target = Model(hps={"steps": target_steps})
    return Numbers(samples=samples, targets={"target": target}, default={"log2_lr": log2_lr}, **more)


STUDY = Tuning(
    kind="study",
    table="Table 7",
    shows=("8", "14", "table_7"),
    select="training",
    pools=(Pool("proxy_short"), Pool("proxy")),
    methods=(
        Copy("mutransfer", "mup"),
        Copy("naive"),
        Drawn("direct"),
        Fixed("default"),
        Long("default_long"),
        Widths("width", "mup"),
    ),
    numbers={
        # so that one search and one training cost just above two trainings: direct tuning gets two
        "smoke": numbers(80, {"proxy": 12, "direct": 3}, search=7, searches=5, widths=(32, 64)),
        "cpu": numbers(600, {"proxy": 40, "direct": 12}, search=20, searches=10, widths=(64, 128, 256)),
        "gpu": numbers(
            8000,
            {"proxy_short": 64, "proxy": 64, "direct": 12},
            search=32,
            searches=10,
            widths=(128, 256, 512, 1024),
            steps={"proxy_short": 1000},
        ),
        "paper": numbers(  # one search, as published
            round(300e9 / TOKENS_A_STEP),
            {"proxy_short": 350, "proxy": 117, "direct": 1},
            search=117,
            steps={"proxy_short": round(4e9 / TOKENS_A_STEP)},
            log2_lr=GPT3_LR,
        ),
    },
)

EXPERIMENT = Experiment(
    name="gpt3_proxy",
    summary="Figures 8, 14, Table 7: GPT-3's hyperparameters from a proxy, against the alternatives at equal compute",
    trains="experiments.language",
    data=Data(load=load, stands_in_for="GPT-3's data", names=TEXTS),
    outputs=(STUDY,),
    optimizer="adam",
    scales={
        "smoke": Size((32, 64), (-7,), seeds=1, steps=40, batch=4, samples=12, hps=hps(2, 4, 64, BYTES)),
        "cpu": Size((64, 256), (-7,), seeds=1, steps=400, batch=4, samples=40, hps=hps(2, 4, 128, BYTES)),
        "gpu": Size((128, 1024), (-8,), seeds=1, steps=4000, batch=64, samples=64, hps=hps(8, 16, 256, PIECES)),
        "paper": Size((256, 4096), (-7,), seeds=1, steps=STEPS, batch=1024, samples=117, hps=hps(32, 32, 2048, PIECES)),
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
                **dict.fromkeys(("output_mult", "attn_mult", "init_mult", "embed_mult", "position_mult"), 1.0),
            },
            where="Table 7",
            statement=(
                "The winner of a search on a proxy of width 256, at 7% of the pretraining cost, takes "
                "GPT-3 6.7B to a validation loss of 1.98; with the published hyperparameters a re-run reaches 2.03."
            ),
            search={
                "lr": LogUniform(-4, -1, base=10),
                **dict.fromkeys(("init_mult", "embed_mult", "position_mult"), LogUniform(-1, 1, base=10)),
                **dict.fromkeys(("attn_mult", "output_mult"), LogUniform(-1, 1, base=4)),
            },
        )
    },
)
