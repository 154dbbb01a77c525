"""Figures 6, 10, 12 and 20, Table 4: translation from German with fairseq's recipe, SP and µP (App. F.1).

Post-LN encoder-decoder, four heads, d_ffn = 2 d_model, one SentencePiece vocabulary for both languages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import log2
from pathlib import Path
from typing import Any

from mutransfer import fairseq_mup
from mutransfer.designs.algorithm import Copy, Fixed, Model, Numbers, Pool, Tuning
from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.grid import LrSweep
from mutransfer.designs.panels import PanelRuns, Panels, Values
from mutransfer.designs.space import Grid, LogUniform, Space, defaults
from mutransfer.errors import unknown
from mutransfer.training.spec import Value

BLEUS = ("bleu_valid", "bleu_test")
PIECES = {"smoke": 300, "cpu": 2000, "gpu": 10_000, "paper": 10_000}
HEADS = 4
FAIRSEQ_LR = log2(5e-4)
BEAM: dict[str, Value] = {"beam": 5}
QUICK: dict[str, Value] = {"beam": 2, "translated": 50}
PAPER_STEPS = 110_000  # about 100 epochs
STATEMENT = (
    "In SP the landscape of the learning rate over widths is highly unstable. (The paper draws no µP twin of it; "
    "by its theory the best learning rate stays there.)"
)


@dataclass(frozen=True)
class Hps:
    """What a run has of its own; those with a default are what searches and figures change."""

    vocab: int
    depth: int
    heads: int
    d_head: int  # 0: width / heads
    ffn_ratio: float
    ffn_power: float  # of the width, that d_ffn grows with
    joint: int  # 1: one embedding for both languages
    dropout: float
    base_ffn_ratio: float = 0.0  # 0: ffn_ratio
    least_d_head: int = 1  # App. D.4
    output_mult: float = 1.0
    attn_mult: float = 1.0
    weight_decay: float = 1e-4
    schedule: str = "warmup_inverse_sqrt"
    beam: int = 0  # 0: nothing is translated
    translated: int = 0  # sentences, the first of the valid and of the test part; 0: all
    backend: str = field(default_factory=str)  # what trains, where it is not this suite: no other spec has it


def shape(depth: int, dropout: float, **more: Value) -> dict[str, Value]:
    return {"depth": depth, "dropout": dropout, **more}


def choose(data: Path | None, dataset: str | None) -> Callable[..., Any]:
    """IWSLT14 if its folder is there, else Multi30k if that is, else IWSLT14 by download, else the stand-in."""
    from data_scripts import corpora, iwslt14, multi30k
    from data_scripts.places import data_folder

    scripts: dict[str, Callable[..., Any]] = {"iwslt14": iwslt14.load, "multi30k": multi30k.load}
    if dataset is None:
        folder = data_folder(data, iwslt14.FOLDER)
        is_only = not (folder / iwslt14.FOLDER).exists()
        dataset = "multi30k" if is_only and corpora.has_files(folder / multi30k.FOLDER, ("de", "en")) else "iwslt14"
    if dataset not in scripts:
        raise unknown("data set of iwslt14", dataset, scripts)
    return scripts[dataset]


def load(data: Path | None, dataset: str | None, scale: str, **corpus: Any) -> Any:
    """With a vocabulary by scale; any corpus with options."""
    return choose(data, dataset)(data, **{"pieces": PIECES[scale], **corpus})


def space(*log2_lrs: float) -> Space:
    """App. F.1's grid over these learning rates."""
    return {
        "lr": Grid(tuple(float(f"{2**x:.6g}") for x in log2_lrs)),
        "output_mult": Grid(tuple(2.0**z for z in range(-8, 8))),
        "attn_mult": Grid(tuple(2.0**z for z in range(-3, 9))),
    }


def quarters(low: float, high: float) -> list[float]:
    """Every quarter of an octave."""
    return [low + z / 4 for z in range(round(4 * (high - low)) + 1)]


RATES = {"smoke": (-8, -6), "cpu": range(-9, -4), "gpu": range(-11, -5), "paper": range(-15, -7)}
WIDTH = {"smoke": 16, "cpu": 64, "gpu": 128, "paper": 512}  # of Figure 12
MULTS = {"smoke": (-2, 2), "cpu": range(-2, 5)}
LONG = {"smoke": (16, 32), "cpu": (64, 128, 256), "gpu": (128, 256, 512), "paper": (128, 256, 512)}


def figure_10(scale: str) -> list[PanelRuns]:
    """alpha_attn's landscape at a narrow and a wide model, with d_k as narrow as it comes, and with a least d_k."""
    narrow, wide = {"smoke": (16, 32), "cpu": (32, 128), "gpu": (64, 512)}.get(scale, (32, 512))
    mults = Values("attn_mult", "alpha_attn", MULTS.get(scale, range(-3, 9)))
    line = Values("width", "width", (narrow, wide))
    panels = []
    for i, least in enumerate((1, wide // HEADS)):
        heading = f"d_k = width / {HEADS}" if least == 1 else f"d_k at least {least}"
        changes: dict[str, Value] = {"base_width": narrow, "least_d_head": least}
        panels.append(PanelRuns(key=f"d_k_{least}", column=i, x=mults, line=line, heading=heading, changes=changes))
    return panels


def figure_12(scale: str) -> list[PanelRuns]:
    """The learning rate's landscape over d_ffn / d_model, the narrowest ratio for a base."""
    ratios = (0.5, 4.0) if scale == "smoke" else (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    rates = Values("log2_lr", "learning rate", RATES[scale])
    line = Values("ffn_ratio", "d_ffn / d_model", ratios)
    return [PanelRuns(key="ffn", x=rates, line=line, changes={"base_ffn_ratio": ratios[0]})]


def long(scale: str) -> list[PanelRuns]:
    """Some widths in µP, trained for longer and translated with."""
    rate = Values("log2_lr", "learning rate", ({"smoke": -7, "cpu": -7, "gpu": -9}.get(scale, -11),))
    line = Values("width", "width", LONG[scale])
    return [PanelRuns(key="long", x=rate, line=line, heading="µP")]


LOSS = "validation loss"
VALIDATION = {"metric": "test_loss", "metric_label": LOSS, "y_label": f"{LOSS} (nats a target token)"}
SHORT, FULL = 0.1, 0.3  # dropout; a full training's is fairseq's


def searched(
    widths: tuple[int, int],
    pool: int,
    search: int,
    direct_pool: int,
    space: Space,
    *,
    scored: Mapping[str, Value] = BEAM,
    **more: Any,
) -> Numbers:
    """Searches that look at ``search`` samples at the first width, their winners copied to the second.

    ``pool``, ``direct_pool``: samples at the first and at the second width; ``scored``: of what trains there.
    """
    return Numbers(
        samples={"proxy": pool, "direct_pool": direct_pool},
        proxy=Model(width=widths[0]),
        targets={"target": Model(width=widths[1], scored=scored)},
        space=space,
        search=search,
        default={"log2_lr": FAIRSEQ_LR},
        **{"searches": 25, "inits": 3, **more},
    )


OCTAVES = space(*(FAIRSEQ_LR + z for z in quarters(-1.5, 1.25)))
TABLE_4 = Tuning(
    kind="searches",
    table="Table 4",
    pools=(Pool("proxy"), Pool("direct_pool", at="target", parametrization="sp")),
    methods=(
        Copy("mutransfer", "mup"),
        Copy("naive", has_sizes=False),
        Copy("direct", of="direct_pool", is_equal=True),
        Fixed("default"),
    ),
    scores=BLEUS,
    percentiles=(25, 50, 75, 100),
    statement=(
        "Tuned on 0.25x and copied in µP, the 1x model reaches a median of 35.33 BLEU over 25 searches, tuned itself "
        "for the same compute 35.00, with fairseq's defaults 35.40; copied in SP it diverges."
    ),
    numbers={
        "smoke": searched((16, 32), 6, 4, 4, space(-8, -7), searches=3, inits=2, template={"steps": 30}, scored=QUICK),
        "cpu": searched((32, 128), 40, 24, 8, space(*quarters(-9.25, -5.5)), template={"steps": 300}),
        "gpu": searched(
            (128, 512), 96, 64, 12, space(*quarters(-11, -7.5)), template={"base_width": 128, "steps": 10_000}
        ),
        "paper": searched((128, 512), 256, 64, 24, OCTAVES, inits=5, template={"base_width": 128}),
    },
)
SIZES = {"smoke": (2,), "cpu": (8, 16), "gpu": (8, 16, 32), "paper": (10, 20, 30, 40, 50, 60)}
FIGURE_6 = replace(
    TABLE_4, number="6", numbers={scale: replace(n, sizes=SIZES[scale]) for scale, n in TABLE_4.numbers.items()}
)

EXPERIMENT = Experiment(
    name="iwslt14",
    summary="Figures 6, 10, 12, 20, Table 4: translation with fairseq's recipe, Adam, SP and µP",
    trains="experiments.translation",
    data=Data(
        load=load,
        stands_in_for="IWSLT14",
        names=("iwslt14", "multi30k"),
        hps=("vocab",),
        unit="tokens",
        takes_corpus=True,
    ),
    optimizer="adamw",
    columns=("depth", "output_mult", "attn_mult", "ffn_ratio", "least_d_head", "dropout", "schedule"),
    outputs=(
        LrSweep(curves=True, backends={"fairseq": fairseq_mup.require}),
        TABLE_4,
        Panels(
            number="10",
            title="Translation, alpha_attn over width, d_k = width / 4 and d_k enlarged",
            panels=figure_10,
            template=lambda scale: {"log2_lr": {"gpu": -9, "paper": -11}.get(scale, -7)},
            facts=lambda dataset, scale: VALIDATION,
            statement=(
                "With d_k = d_model / n_head, small at the narrow model, its landscape of alpha_attn "
                "differs from the wide model's; with d_k of at least 128 they agree."
            ),
        ),
        Panels(
            number="12",
            title="Translation, learning rate over the ratio d_ffn / d_model",
            panels=figure_12,
            template=lambda scale: {"width": WIDTH[scale], "base_width": WIDTH[scale]},
            facts=lambda dataset, scale: VALIDATION,
            statement="In µP the best learning rate is stable over ratios from 0.5 to 16.",
        ),
        Panels(
            number="bleu",
            kind="learning",
            title="Translation in µP, one learning rate, trained for longer",
            panels=long,
            template=lambda scale: {**BEAM, **({"steps": 1200, "batch": 2048} if scale == "cpu" else {})},
            seeds={"cpu": 1, "gpu": 1, "paper": 1},
            best_by="bleu_valid",
            where="Section 7.1",
            statement="fairseq's default, d_model 512, reaches 35.40 BLEU on IWSLT14 De-En.",
        ),
        FIGURE_6,
    ),
    scales={
        "smoke": Size((16, 32), RATES["smoke"], seeds=2, steps=30, batch=512, hps=shape(1, SHORT)),
        "cpu": Size((32, 64, 128, 256), range(-10, -4), seeds=2, steps=200, batch=1024, hps=shape(2, SHORT)),
        "gpu": Size((64, 128, 256, 512, 1024), range(-12, -5), seeds=2, steps=2000, batch=4096, hps=shape(6, FULL)),
        "paper": Size(
            (64, 128, 256, 512, 1024, 2048), range(-17, -7), seeds=1, steps=PAPER_STEPS, batch=4096, hps=shape(6, FULL)
        ),
    },
    variants={
        "post_ln": Variant(
            title="Translation, post-LN Transformer, Adam",
            y_label="training loss (label-smoothed, nats a target token)",
            hps={**defaults(Hps), "heads": HEADS, "d_head": 0, "ffn_ratio": 2.0, "ffn_power": 1.0, "joint": 0},
            where="Figure 20",
            ours={"optimizer": "Adam", "norm": "post"},
            statement=STATEMENT,
            search={**space(0), "lr": LogUniform(-10, -5)},
        )
    },
)
