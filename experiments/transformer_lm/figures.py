"""Figures 4, 7, 13, 17, 18, 19 and 21: which hyperparameters are swept, over which lines, at each scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mutransfer.designs.panels import NAMES, PanelRuns, Panels, Values, rectangle
from mutransfer.training.schedule import FIGURE_4
from mutransfer.training.spec import Value

HEADS = 4
# alpha_output where the base width is 32: the best of width 32 in Figure 4's panel. With 1, such a readout learns so
# slowly that much of a short training goes by at the frequencies of single bytes.
NARROW_OUTPUT = 4.0
BASE_WIDTHS = {"smoke": 32, "cpu": 32, "gpu": 32, "paper": 128}
PAPER_WIDTHS = (128, 256, 512, 1024, 2048, 4096)
WIDTHS = {"smoke": (32, 64), "cpu": (32, 64, 128), "gpu": (32, 64, 128, 256, 512, 1024), "paper": PAPER_WIDTHS}
DEPTHS = {"smoke": (1, 2), "cpu": (2, 4, 8), "gpu": (2, 4, 8, 16), "paper": (2, 4, 8, 16, 32)}
BATCHES = {"smoke": (4, 8), "cpu": (2, 4, 8), "gpu": (8, 16, 32, 64, 128), "paper": (20, 32, 64, 128, 256, 512)}
LENGTHS = {"smoke": (32, 64), "cpu": (64, 128, 256), "gpu": (32, 64, 128, 256), "paper": (32, 64, 128, 256, 512)}
STEPS = {
    "smoke": (20, 40),
    "cpu": (100, 200, 400),
    "gpu": (250, 500, 1000, 2000),
    "paper": (2032, 4072, 5912, 7952, 9992),
}
# Of runs that do not say otherwise; every multiplier is 1. The learning rates are those that the grids are centred on.
TEMPLATE: dict[str, dict[str, Value]] = {
    "smoke": {"width": 32, "batch": 4, "steps": 40, "length": 64, "output_mult": 1.0},
    "cpu": {"width": 32, "batch": 4, "steps": 400, "output_mult": 1.0},
    "gpu": {"width": 128, "output_mult": 1.0},
    "paper": {"width": 256},
}
CENTRE = {"pre": -6, "post": -8}
# Figure 7 follows few settings for long.
LONGER: dict[str, dict[str, Value]] = {"cpu": {"steps": 1000}, "gpu": {"steps": 2000}, "paper": {"steps": 10_000}}
# Figure 21 asks whether a model learns at all, which is seen early.
BREAKING: dict[str, dict[str, Value]] = {
    "smoke": {"batch": 4, "steps": 40, "length": 64},
    "cpu": {"batch": 4, "steps": 250},
}


def rates(scale: str, norm: str) -> Values:
    """Octaves around the centre; two more below at the published widths and lengths of training."""
    low, high = CENTRE[norm] - 3, CENTRE[norm] + 3
    values = {"smoke": (low + 1, low + 3, high - 1), "cpu": range(low, high)}.get(scale, range(low - 4, high + 1))
    return Values("log2_lr", "learning rate", values)


def octaves(name: str, label: str, *values: int) -> Callable[[str], Values]:
    """Every second one at `smoke`."""
    return lambda scale: Values(name, label, values[::2] if scale == "smoke" else values)


OUTPUT_MULTS = octaves("output_mult", "alpha_output", -4, -2, 0, 2, 4, 6)
INIT_STDS = octaves("init_mult", "init std", -4, -3, -2, -1, 0, 1)
ATTN_MULTS = octaves("attn_mult", "alpha_attn", -4, -2, 0, 2, 4)


def schedules(scale: str) -> Values:
    return Values("schedule", "LR schedule", FIGURE_4[: 2 if scale == "smoke" else None])


def by(name: str, label: str, values: dict[str, tuple[int, ...]]) -> Callable[[str], Values]:
    return lambda scale: Values(name, label, values[scale])


BY_WIDTH = by("width", "width", WIDTHS)
BY_DEPTH = by("depth", "depth", DEPTHS)
BY_BATCH = by("batch", "batch size", BATCHES)
BY_LENGTH = by("length", "sequence length", LENGTHS)
BY_STEPS = by("steps", "steps", STEPS)


def landscape(
    title: str,
    norm: str,
    columns: Sequence[Callable[[str], Values]],
    rows: Sequence[Callable[[str], Values]],
    *,
    statement: str,
    number: int,
    parametrizations: Sequence[str] = ("mup",),
    is_d_head_fixed: bool = False,
) -> Panels:
    """A figure of panels: one column for each hyperparameter; one row for each kind of line, or parametrization."""

    def panels(scale: str) -> list[PanelRuns]:
        return rectangle([make(scale) for make in columns], [make(scale) for make in rows], parametrizations)

    def template(scale: str) -> dict[str, Value]:
        d_head = BASE_WIDTHS[scale] // HEADS if is_d_head_fixed else 0
        return {"log2_lr": CENTRE[norm], **TEMPLATE[scale], "d_head": d_head}

    return Panels(
        number=str(number),
        title=title,
        variant=f"{norm}_ln",
        panels=panels,
        template=template,
        statement=statement,
    )


def through_training(scale: str) -> list[PanelRuns]:
    """Figure 7: a learning rate in µP, and in SP that one and, as in the paper, a quarter of it."""
    widths = {"smoke": (32, 64), "cpu": (32, 64, 128), "gpu": (32, 64, 128, 256, 512)}
    line = Values("width", "width", widths.get(scale, PAPER_WIDTHS))
    rate = -10 if scale == "paper" else -7
    panels = []
    for i, (name, log2_lr) in enumerate((("mup", rate), ("sp", rate - 2), ("sp", rate))):
        x, heading = Values("log2_lr", "learning rate", (log2_lr,)), f"{NAMES[name]}, LR $2^{{{log2_lr}}}$"
        key = f"{name}/{log2_lr}"
        panels.append(PanelRuns(key=key, column=i, x=x, line=line, parametrization=name, heading=heading))
    return panels


def reverse(scale: str) -> list[PanelRuns]:
    """Figure 21: real widths in SP, and one narrow model in µP whose base width is the simulated one."""
    widths = {"smoke": (32, 64), "cpu": (32, 64, 128, 256, 512), "gpu": (32, 64, 128, 256, 512, 1024)}
    narrow = {"smoke": 32, "cpu": 64, "gpu": 128}.get(scale, 256)
    n = widths.get(scale, (256, 512, 1024, 2048, 4096, 8192))
    octaves = {"smoke": range(-11, -2, 2), "cpu": range(-12, -2), "gpu": range(-13, -2)}.get(scale, range(-18, -4))
    x = Values("log2_lr", "learning rate", octaves)
    real = Values("width", "width", n)
    simulated = Values("base_width", "simulated width", n)
    words = "SP, real models of width n", f"µP, width {narrow}, simulating n"
    return [
        PanelRuns(key="real", x=x, line=real, parametrization="sp", heading=words[0]),
        PanelRuns(key="simulated", column=1, x=x, line=simulated, changes={"width": narrow}, heading=words[1]),
    ]


def entropy(dataset: Any, scale: str) -> dict[str, Any]:
    """Of single tokens of the training text, in nats: what a model reaches that ignores the context."""
    import numpy as np

    counts = np.bincount(dataset.train_tokens.numpy(), minlength=dataset.vocab)
    shares = counts[counts > 0] / counts.sum()
    return {"threshold": float(-(shares * np.log(shares)).sum())}


RATES = {norm: lambda scale, norm=norm: rates(scale, norm) for norm in CENTRE}
FOUR = {norm: (RATES[norm], OUTPUT_MULTS, INIT_STDS, schedules) for norm in CENTRE}
ATTENTION = (RATES["post"], OUTPUT_MULTS, ATTN_MULTS, INIT_STDS)
STABLE = "In µP the best value of each hyperparameter stays as the model is scaled"
FIGURES = (
    landscape(
        "Pre-LN Transformer, four hyperparameters over width and depth",
        "pre",
        FOUR["pre"],
        (BY_WIDTH, BY_DEPTH),
        number=4,
        statement=f"{STABLE} in width and in depth, but for the init std across depth.",
    ),
    Panels(
        number="7",
        kind="learning",
        title="Post-LN Transformer language model, Adam, fixed hyperparameters",
        variant="post_ln",
        panels=through_training,
        template=lambda scale: LONGER.get(scale, {}),
        statement="In µP the wider model is at least as good at every step; in SP it is not, at either rate.",
        seeds={"cpu": 3, "gpu": 4},
    ),
    landscape(
        "Post-LN Transformer with d_head fixed, heads growing with width",
        "post",
        ATTENTION,
        (BY_WIDTH,),
        number=13,
        statement=f"{STABLE} in width with d_head fixed and the number of heads growing.",
        is_d_head_fixed=True,
    ),
    landscape(
        "Post-LN Transformer, four hyperparameters over width, batch size, sequence length and steps",
        "post",
        FOUR["post"],
        (BY_WIDTH, BY_BATCH, BY_LENGTH, BY_STEPS),
        number=17,
        statement=f"{STABLE} in width, and roughly in batch size, sequence length and steps.",
    ),
    landscape(
        "Post-LN Transformer, four hyperparameters over width, SP and µP",
        "post",
        ATTENTION,
        (BY_WIDTH,),
        parametrizations=("sp", "mup"),
        number=18,
        statement="In SP the best values move with width and wide models diverge; in µP they stay.",
    ),
    landscape(
        "Pre-LN Transformer, four hyperparameters over batch size, sequence length and steps",
        "pre",
        FOUR["pre"],
        (BY_BATCH, BY_LENGTH, BY_STEPS),
        number=19,
        statement="In µP they are roughly stable from batch size 32, sequence length 128 and 5000 steps on.",
    ),
    Panels(
        number="21",
        kind="stability",
        title="Reverse µTransfer: a narrow µP model simulates wide SP models",
        variant="post_ln",
        panels=reverse,
        template=lambda scale: {**BREAKING.get(scale, {}), "ffn_ratio": 1.0},
        statement=(
            "A µP model of width 256 and base width n breaks at the learning rates at which a real SP "
            "model of width n does."
        ),
        facts=entropy,
    ),
)
