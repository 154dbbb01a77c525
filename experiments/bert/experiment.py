"""Table 6: BERT, tuned on a small prototype and copied over width and depth, then fine-tuned (App. F.3).

Pre-LN as in Megatron, learned positions, GELU, the word embedding for a readout. As between the paper's prototype and
its targets, d_ffn goes from d_model to four times that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log2
from pathlib import Path
from typing import Any

from mutransfer.designs.algorithm import Copy, Fixed, Long, Model, Numbers, Score, Tuning
from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.grid import LrSweep
from mutransfer.designs.panels import PanelRuns, Panels, Values
from mutransfer.designs.space import Grid, LogUniform, Space, defaults
from mutransfer.training.spec import Value

PIECES = {"smoke": 300, "cpu": 1000, "gpu": 8000, "paper": 30_522}
# By scale; None: the stand-in's own.
TASKS = {"smoke": None, "cpu": ("sst2", "pan"), "gpu": ("sst2", "mrpc", "pan"), "paper": ("mnli", "mnli_mm", "qqp")}
MEGATRON_LR = log2(1e-4)  # with a million steps
DEFAULT_LR = log2(1e-3)  # Adam's own: with some thousand steps on small models, Megatron's would be no rival
PROTOTYPE: dict[str, Value] = {"ffn_ratio": 1.0, "base_ffn_ratio": 1.0}
DIFFERS = "the SP default has Adam's own learning rate 1e-3; the search's grid is about 1 for the multipliers"
STATEMENT = (
    "Tuned by 256 samples on a prototype of 13M and copied in µP over width and depth, BERT-base ends at a test loss "
    "of 1.970 (Megatron's default 1.995) and BERT-large at 1.683 (1.731); copied in SP both diverge."
)
LANDSCAPE = "In µP the best learning rate stays as the model gets wider. (The paper draws no landscape of BERT.)"
SCORES = {
    "sst2": Score("SST-2"),
    "mrpc": Score("MRPC"),
    "pan": Score("PAN paraphrase (stands in for QQP)"),
    "mnli": Score("MNLI-m", published="MNLI-m acc"),
    "mnli_mm": Score("MNLI-mm", published="MNLI-mm acc"),
    "qqp": Score("QQP", published="QQP acc"),
    "stories": Score("stories (synthetic)"),
}


@dataclass(frozen=True)
class Hps:
    """What a run has of its own; those with a default are what searches and targets change."""

    vocab: int
    depth: int
    length: int  # tokens
    heads: int
    dropout: float
    ffn_ratio: float
    norm: str
    base_heads: int = 0  # 0: heads
    base_ffn_ratio: float = 0.0  # 0: ffn_ratio
    output_mult: float = 1.0
    attn_mult: float = 1.0
    embed_lr: float = 0.0  # of all embeddings; 0: the learning rate of the others
    gain_mult: float = 1.0
    bias_mult: float = 1.0
    weight_decay: float = 0.01  # not of gains and biases
    schedule: str = "warmup_0.01_linear"
    finetuned: int = 0  # times, from as many seeds; 0: never
    scratch: int = 0  # 1: the encoder without its pretraining is fine-tuned, too
    tasks: str = ""  # on which, joined by "+"
    finetune_lr: float = 5e-5
    finetune_batch: int = 64
    finetune_steps: int = 0


def shape(depth: int, length: int, heads: int, dropout: float = 0.0) -> dict[str, Value]:
    return {"depth": depth, "length": length, "dropout": dropout, "heads": heads}


def load(data: Path | None, dataset: str | None, scale: str) -> Any:
    from data_scripts import bert_corpus

    return bert_corpus.load(data, dataset=dataset, pieces=PIECES[scale], tasks=TASKS[scale])


def octaves(centre: float, *exponents: float) -> Grid:
    """``centre * 2^z``, with the six digits that tables print."""
    return Grid(tuple(float(f"{centre * 2**z:.6g}") for z in exponents))


def halves(low: float, high: float) -> list[float]:
    """Every half of an octave."""
    return [low + z / 2 for z in range(round(2 * (high - low)) + 1)]


def space(lr: float, embed_lr: float) -> Space:
    """App. F.3's grid about these learning rates, its three other multipliers about 1, where SP's default is.

    The paper's alpha_LNgain and alpha_bias go from 2^8.5 to 2^10.5 and its alpha_attn from 2^3 to 2^7, as its code
    counts them; that of the attention is about the sqrt(d_head) by which ours is less.
    """
    return {
        "lr": octaves(lr, *halves(-1, 1)),
        "embed_lr": octaves(embed_lr, *halves(-1, 1)),
        "output_mult": octaves(1.0, -2, 0, 2),
        "attn_mult": octaves(1.0, *halves(-2, 2)),
        "gain_mult": octaves(1.0, *halves(-1, 1)),
        "bias_mult": octaves(1.0, *halves(-1, 1)),
    }


def wider(heads: int, **hps: Value) -> Mapping[str, Value]:
    return {"heads": heads, "ffn_ratio": 4.0, **hps}


def long(scale: str) -> list[PanelRuns]:
    """Two widths in µP at one learning rate, pretrained for longer, then fine-tuned."""
    rate = Values("log2_lr", "learning rate", ({"smoke": -7, "cpu": -8, "gpu": -9}.get(scale, -11),))
    widths = {"smoke": (16, 32), "cpu": (64, 128), "gpu": (256, 512)}.get(scale, (512, 768))
    return [PanelRuns(key="long", x=rate, line=Values("width", "width", widths), heading="µP")]


FINE: dict[str, dict[str, Value]] = {  # fine-tuning of the targets of Table 6
    "smoke": {"finetuned": 1, "finetune_steps": 4, "finetune_lr": 1e-3, "tasks": "stories"},
    "cpu": {"finetuned": 5, "finetune_steps": 40, "finetune_lr": 1e-3, "tasks": "pan"},
    "gpu": {"finetuned": 5, "finetune_steps": 2_000, "finetune_lr": 5e-5, "tasks": "sst2+mrpc+pan"},
    "paper": {"finetuned": 5, "finetune_steps": 30_000, "finetune_lr": 5e-5, "tasks": "mnli+mnli_mm+qqp"},
}
SCRATCH = {"scratch": 1}  # and without its pretraining
LONG: dict[str, dict[str, Value]] = {  # what the runs of the figure have other than the scale's
    "smoke": {**FINE["smoke"], **SCRATCH},
    "cpu": {**FINE["cpu"], **SCRATCH, "batch": 32, "steps": 8000, "finetune_steps": 1500, "tasks": "sst2"},
    "gpu": {**FINE["gpu"], **SCRATCH, "steps": 100_000},
    "paper": {**FINE["paper"], **SCRATCH, "depth": 12, "steps": 1_000_000},
}


def over_depth(scale: str) -> list[PanelRuns]:
    """Learning rate over depth at a target's width, for Table 6's steps and for four times as many."""
    rates = {"smoke": (-9, -7), "cpu": range(-10, -5), "gpu": range(-13, -6), "paper": range(-15, -8)}
    depths = {"smoke": (1, 2), "cpu": (2, 4), "gpu": (4, 6, 12), "paper": (10, 12, 24)}
    x, line = Values("log2_lr", "learning rate", rates[scale]), Values("depth", "depth", depths[scale])
    width, steps = {"smoke": (32, 15), "cpu": (64, 800), "gpu": (256, 5_000)}.get(scale, (768, 100_000))
    columns = [(f"{count} steps", f"{count:,} steps", {"width": width, "steps": count}) for count in (steps, 4 * steps)]
    return [
        PanelRuns(key=key, column=i, x=x, line=line, changes=changes, heading=heading)
        for i, (key, heading, changes) in enumerate(columns)
    ]


def scores(fine: Mapping[str, Value]) -> dict[str, Score]:
    """Of the tasks of this fine-tuning."""
    return {name: SCORES[name] for name in str(fine["tasks"]).split("+")}


def described(dataset: Any, scale: str) -> dict[str, Any]:
    return {"scores": {name: asdict(score) for name, score in scores(LONG[scale]).items() if name in dataset.tasks}}


def table_6(
    scale: str, space: Space, sizes: Sequence[tuple[int, ...]], *, default: float = DEFAULT_LR, **more: Any
) -> Numbers:
    """One search, its winner copied to targets.

    sizes: samples and width of the search; width, heads and depth of ``base`` and ``large``; width and heads of
        ``wide``; depth of ``deep``. The first two decide, and are also trained with the default for longer. One that
        is only deeper has no naive transfer: in SP it is the same run.
    """
    fine = FINE[scale]
    (samples, width), base, large, wide, (deep,) = sizes
    targets = {
        "base": Model(width=base[0], hps=wider(base[1], depth=base[2]), scored=fine, published="BERT-base"),
        "large": Model(width=large[0], hps=wider(large[1], depth=large[2]), scored=fine, published="BERT-large"),
        "wide": Model(width=wide[0], hps=wider(wide[1]), methods=("default", "naive", "mutransfer")),
        "deep": Model(width=width, hps={"depth": deep}, methods=("default", "mutransfer")),
    }
    proxy = Model(width=width, hps=more.pop("proxy", {}))
    numbers = {"template": PROTOTYPE, "scores": scores(fine), "default": {"log2_lr": default}, "inits": 3, **more}
    return Numbers(samples={"proxy": samples}, space=space, proxy=proxy, targets=targets, **numbers)


TABLE_6 = Tuning(
    kind="transfer",
    table="Table 6",
    statement=STATEMENT,
    methods=(Fixed("default"), Long("default_long"), Copy("naive"), Copy("mutransfer", "mup")),
    judged=SCRATCH,
    judges=("default", "mutransfer"),
    numbers={
        "smoke": table_6(
            "smoke", space(2**-8, 2**-8), [(4, 16), (32, 2, 2), (32, 2, 3), (32, 2), (2,)], inits=1, differs=DIFFERS
        ),
        "cpu": table_6("cpu", space(2**-8, 2**-8), [(16, 32), (64, 4, 3), (128, 4, 4), (64, 4), (4,)], differs=DIFFERS),
        "gpu": table_6(
            "gpu",
            space(2**-10, 2**-10),
            [(64, 128), (256, 8, 6), (512, 8, 12), (512, 8), (12,)],
            differs=DIFFERS,
            template={**PROTOTYPE, "steps": 50_000},
            proxy={"steps": 5_000},
        ),
        "paper": table_6(
            "paper",
            space(1e-4 * 2**2.5, 1e-4),
            [(256, 256), (768, 12, 12), (1024, 16, 24), (1024, 16), (24,)],
            default=MEGATRON_LR,
            template={**PROTOTYPE, "base_heads": 8, "steps": 1_000_000},
            proxy={"steps": 100_000},
        ),
    },
)

EXPERIMENT = Experiment(
    name="bert",
    summary="Table 6: BERT, tuned on a small prototype and copied over width and depth, then fine-tuned",
    trains="experiments.bert.runs",
    data=Data(
        load=load,
        stands_in_for="Wikipedia and BookCorpus",
        names=("bert_corpus", "books", "stories"),
        hps=("vocab",),
        unit="sequences",
    ),
    optimizer="adamw",
    columns=("depth", "heads", "length", "ffn_ratio", "output_mult", "attn_mult", "dropout", "schedule"),
    outputs=(
        LrSweep(curves=True),
        TABLE_6,
        Panels(
            number="depth",
            title="BERT in µP, the learning rate over depth",
            panels=over_depth,
            where="Section 6.1",
            statement="Over depth the best learning rate stays for pre-LN Transformers (Figure 4), empirically.",
        ),
        Panels(
            number="pretraining",
            kind="learning",
            title="BERT in µP, one learning rate, pretrained for longer",
            panels=long,
            template=LONG.__getitem__,
            seeds=dict.fromkeys(("cpu", "gpu", "paper"), 3),
            facts=described,
            where="Table 6",
            statement="Fine-tuned, BERT-base reaches 84.3 (MNLI-m) and 90.8 (QQP), BERT-large 87.0 and 91.4.",
        ),
    ),
    scales={
        "smoke": Size((16, 32), (-9, -7), seeds=2, steps=30, batch=8, hps=shape(1, 32, 2)),
        "cpu": Size((32, 64, 128), range(-10, -5), seeds=2, steps=800, batch=16, hps=shape(2, 64, 4)),
        "gpu": Size((128, 256, 512), range(-13, -6), seeds=2, steps=10_000, batch=256, hps=shape(4, 128, 8, 0.1)),
        "paper": Size((256, 512, 1024), range(-15, -8), seeds=1, steps=100_000, batch=256, hps=shape(10, 512, 8, 0.1)),
    },
    variants={
        "pre_ln": Variant(
            title="BERT, pre-LN, Adam",
            y_label="training loss (nats a masked token, and a pair)",
            hps={**defaults(Hps), "ffn_ratio": 4.0, "norm": "pre"},
            where="Section 7.3",
            ours={"optimizer": "Adam", "norm": "pre"},
            statement=LANDSCAPE,
            search={"lr": LogUniform(-11, -6)},
        )
    },
)
