"""Checks of lab 5: the committed runs are read here again, exponents and optima come from the student's own runs."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from labs.checks.base import Wrong, call, choices, exercise, growth, listed, number, numbers, shown, slip, table
from mutransfer import scaling_plan
from mutransfer.models.mlp import MLP
from mutransfer.results import Estimate, PanelAxis, PanelReport, landscape_report
from mutransfer.results.transfer import LEAST, conditions

FIGURES = Path(__file__).resolve().parents[2] / "figures" / "transformer_lm"
"""The committed runs."""
DECAY_AXIS = PanelAxis("width", is_log2=True)
TABLE_1 = {
    "learning rate": True,
    "LR schedule": True,
    "Adam's beta": True,
    "init std of a layer": True,
    "output multiplier": True,
    "dropout": False,
    "weight decay": False,
}
"""Whether Table 1 of the paper lists it as µTransferable."""
VERDICTS = ("transfers", "does not transfer", "undecided", "not tested")
STATEMENTS = {
    "pre-LN: the learning rate over depth": ("figure_4", "mup/depth/log2_lr"),
    "pre-LN: the init std over depth": ("figure_4", "mup/depth/init_mult"),
    "post-LN: the learning rate over depth": ("figure_17", "mup/depth/log2_lr"),
    "post-LN: the output multiplier over width": ("figure_17", "mup/width/output_mult"),
    "pre-LN: the learning rate over batch size": ("figure_19", "mup/batch/log2_lr"),
    "pre-LN: the init std over batch size": ("figure_19", "mup/batch/init_mult"),
}
"""Statement to (figure, panel)."""
ALPHAS = (0.0, 0.5, 1.0)
CONVENTIONS = ("independent", "coupled")
EXPONENT_TOLERANCE = 0.25
"""Theory's exponents are multiples of 1/2."""
BASE, WIDTH_RATIO = 16, 512 / 64


def axes(runs: pd.DataFrame) -> dict[str, PanelAxis]:
    """What the panels of the committed runs mean: ``mup/depth/log2_lr`` has one line per depth."""
    keys = [str(key) for key in runs["panel"].unique()]
    return {key: PanelAxis(key.split("/")[1], is_log2=not key.endswith("/schedule")) for key in keys}


@cache
def reports(figure: str) -> dict[str, PanelReport]:
    """The suite's report of every panel of a committed figure."""
    runs = pd.read_csv(FIGURES / figure / "runs.csv")
    return landscape_report(runs, axes=axes(runs))


def true_or_false(value: object, what: str) -> bool:
    """The answer as a bool. Raises `Wrong` unless it is one."""
    if not isinstance(value, bool | np.bool_):
        raise Wrong(f"{what} must be True or False, you gave {shown(value)}.")
    return bool(value)


@exercise("5a")
def ex5a(answer: object) -> str | None:
    """Table 1 of the paper."""
    for name, said in table(answer, "copied", TABLE_1).items():
        if true_or_false(said, f"'{name}'") == TABLE_1[name]:
            continue
        if not said:
            return f"you gave False for '{name}': Table 1 lists it. It acts on the optimisation, at any size."
        return (
            f"you gave True for '{name}': is it there to train better, or to generalise better? How much "
            "regularisation a model needs depends on its size and on the data."
        )
    return None


@exercise("5b")
def ex5b(answer: object, runs: pd.DataFrame) -> str | None:
    """Section 6.1's conditions against the columns of the runs."""
    given = table(answer, "met", LEAST)
    for name, values in conditions(runs).items():
        said, is_met = true_or_false(given[name], f"'{name}'"), all(value >= LEAST[name] for value in values)
        if said == is_met:
            continue
        have = ", ".join(f"{value:g}" for value in values)
        if said and values and values[-1] >= LEAST[name]:
            return f"you gave True for '{name}': these runs have {have}, and the smallest is below {LEAST[name]}."
        return f"you gave {said} for '{name}': these runs have {have}, the rule asks for {LEAST[name]} or more."
    return None


@exercise("5c")
def ex5c(function: object, runs: pd.DataFrame) -> str | None:
    """The suite's regret of every panel that has no diverged run."""
    figure_reports = landscape_report(runs, axes=axes(runs))
    for key, panel in runs.groupby("panel", sort=False):
        columns = panel[["x", "line", "seed", "train_loss"]].infer_objects().reset_index(drop=True)
        if not np.isfinite(columns["train_loss"]).all() or (panel["status"] != "finished").any():
            continue
        given, expected = number(call(function, columns), "the regret"), figure_reports[str(key)].regret.value
        if abs(given - expected) < 1e-6:
            continue
        mean = columns.groupby(["line", "x"])["train_loss"].mean().unstack("x")
        first, last = mean.loc[mean.index.min()], mean.loc[mean.index.max()]
        single = columns[columns["line"] == mean.index.max()].groupby("x")["train_loss"].min()
        lowest = columns[columns["line"] == mean.index.min()].groupby("x")["train_loss"].min()
        slips = [
            (last.min() - last[first.idxmin()], "The size is right; nothing is better than a line's own best."),
            (first[last.idxmin()] - first.min(), "That copies from the largest line to the smallest."),
            (last[first.idxmin()] - first.min(), "That compares two lines; both losses are of the largest one."),
            (single[lowest.idxmin()] - single.min(), "Take the mean over the seeds before you choose the best."),
            (last[first.idxmin()], "That is the loss itself; take from it the largest line's own least mean loss."),
        ]
        otherwise = "Expected a difference of two mean losses of the largest line: at which two choices of x?"
        return f"panel {key}: you gave {given:.4f}. {slip(given, slips, otherwise, abs_tol=1e-6)}"
    return None


@exercise("5d")
def ex5d(answer: object) -> str | None:
    """The verdicts of the suite's rule; a panel that is not in the table was not tested."""
    for statement, word in choices(answer, "read", STATEMENTS, VERDICTS).items():
        figure, key = STATEMENTS[statement]
        report = reports(figure).get(key)
        if word == (report.verdict if report else "not tested"):
            continue
        if report is None:
            return f"'{statement}' is not '{word}': {figure} has no panel {key}. No run, no evidence, either way."
        if word == "not tested":
            return f"'{statement}': it was tested, see panel {key} of {figure}."
        if report.verdict == "undecided":
            return f"'{statement}' is not '{word}' ({report.reason}): the best choice may lie outside of the grid."
        where = f"best {report.panel.choice(report.lines[0].best)} at the smallest line"
        return f"'{statement}' is not '{word}': {where}, interval {report.interval_text()} at the largest."
    return None


@exercise("5e")
def ex5e(answer: object, measured: pd.DataFrame) -> str | None:
    """The slopes of log2 size on log2 depth that the student's runs have."""
    given = table(answer, "growth", ALPHAS)
    for alpha in ALPHAS:
        mean = measured[measured["alpha"] == alpha].groupby("depth")[["init", "change"]].mean()
        for what, k in numbers(given[alpha], f"growth[{alpha:g}]", ("init", "change")).items():
            exponent = growth(mean[what].get, mean.index)
            if abs(k - exponent) <= EXPONENT_TOLERANCE:
                continue
            said = f"alpha {alpha:g}, {what}: you gave {k:g}, measured {exponent:+.2f}. "
            if what == "init" and abs(k + 0.5) < 0.1:
                return said + "So go the branches; but the stream begins with an embedding, which does not shrink."
            if what == "init":
                return said + "At init the branches are independent: what adds up, sizes or variances? Then L^-alpha."
            return said + "Updates are aligned: the changes of L branches add up as they are. Then L^-alpha."
    return None


RULES = {0: "copy", 0.5: "root", 1: "linear"}


@exercise("5f")
def ex5f(answer: object, drifts: dict[str, Estimate]) -> str | None:
    """The exponents inside the interval of the drift."""
    for norm, said in table(answer, "compatible", drifts).items():
        if not isinstance(said, set | frozenset | list | tuple):
            return f"{norm}: expected a set of exponents, you gave {shown(said)}."
        low, high = drifts[norm].low, drifts[norm].high
        given = {number(k, "an exponent") for k in said}
        if strange := sorted(given - set(RULES)):
            return f"{norm}: {strange[0]:g} is none of the exponents {listed(RULES)}."
        inside = {k for k in RULES if low <= k <= high}
        where = f"the interval is [{low:.2f}, {high:.2f}]"
        if extra := sorted(given - inside):
            why = " It is near, but an interval that leaves it out speaks against it." if not inside else ""
            return f"{norm}: {extra[0]:g} ({RULES[extra[0]]}) is not compatible: {where}.{why}"
        if missing := sorted(inside - given):
            return (
                f"{norm}: {missing[0]:g} ({RULES[missing[0]]}) is compatible, too: {where}. The rule nearest to "
                "the middle is not the only one that the runs allow."
            )
    return None


def share_left(lr: float, weight_decay: float, m: int, steps: int, convention: str) -> float:
    """What torch's AdamW leaves of a hidden weight whose gradient is zero."""
    base, model = MLP(BASE, inputs=8), MLP(BASE * m, inputs=8)
    plan = scaling_plan(base, model, parametrization="mup", optimizer="adamw", weight_decay=convention)
    optimizer = torch.optim.AdamW(plan.param_groups(model, lr=lr, weight_decay=weight_decay))
    before = model.hidden.weight[0, 0].item()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for _ in range(steps):
        optimizer.step()
    return model.hidden.weight[0, 0].item() / before


@exercise("5g")
def ex5g(function: object) -> str | None:
    """Against AdamW itself, under the suite's plans."""
    for m, lr, decay, steps in ((1, 0.01, 2.0, 5), (4, 0.02, 1.0, 10), (2, 0.05, 2.0, 3)):
        for convention in CONVENTIONS:
            given = number(call(function, lr, decay, m, steps, convention), "the share")
            expected = share_left(lr, decay, m, steps, convention)
            if abs(given - expected) < 1e-4:
                continue
            limit = math.exp(-steps * (1 - expected ** (1 / steps)))
            other = CONVENTIONS[convention == "independent"]
            slips = [
                (share_left(lr, decay, m, steps, other), f"That is the {other} convention."),
                ((1 - lr * decay * m) ** steps, "The weight decay grows by m, but the learning rate falls by m, too."),
                (expected ** (1 / steps), "That is after one step."),
                (1 - expected, "That is the share that is lost."),
                (limit, "The exponential is the limit of small steps; here each step multiplies."),
            ]
            otherwise = "Each step multiplies the weight by 1 - (its learning rate) x (its weight decay)."
            return (
                f"(lr {lr:g}, weight decay {decay:g}, m {m}, {steps} steps, {convention}): you gave {given:.5f}, AdamW "
                f"leaves {expected:.5f}. {slip(given, slips, otherwise, abs_tol=1e-4)}"
            )
    return None


@exercise("5h")
def ex5h(answer: object) -> str | None:
    """A decay moved by so many octaves must leave at the wide width what the base's leaves at the base width."""
    m, lr, decay, steps = int(WIDTH_RATIO), 0.01, 0.1, 100
    wanted = math.log(share_left(lr, decay, 1, steps, "independent"))
    for convention, k in numbers(answer, "octaves", CONVENTIONS).items():
        left = share_left(lr, decay * 2**k, m, steps, convention) if abs(k) < 9 else math.nan
        if left > 0 and abs(math.log(left) / wanted - 1) < 0.02:
            continue
        said = f"{convention}: moved by {k:g} octaves, "
        if not left > 0:
            said += "the weight decay is far off."
        else:
            said += f"it shrinks the weights {math.log(left) / wanted:.2g} times as fast as at the base width."
        if k == m:
            said += f" A factor of {m} is not {m} octaves."
        return said + " What does the product of a hidden tensor's learning rate and weight decay do over width?"
    return None


@exercise("5i")
def ex5i(answer: object, runs: pd.DataFrame) -> str | None:
    """The choice of least mean test loss."""
    given = table(answer, "best_decay", CONVENTIONS)
    widths = sorted(int(width) for width in runs["line"].unique())
    for convention in CONVENTIONS:
        for width, k in numbers(given[convention], f"best_decay[{convention!r}]", widths).items():
            cell = runs[(runs["panel"] == convention) & (runs["line"] == width)]
            mean = cell.groupby("x")[["train_loss", "test_loss"]].mean()
            if k == mean["test_loss"].idxmin():
                continue
            said = f"{convention} at width {width}: you gave {k:g}. "
            if k not in mean.index:
                return said + f"The tested values of log2 weight decay are {', '.join(f'{x:g}' for x in mean.index)}."
            slips = [
                (mean["train_loss"].idxmin(), "There the training loss is least; weight decay is for the test loss."),
                (
                    cell.loc[cell["test_loss"].idxmin(), "x"],
                    "There one seed has the least test loss; take the mean over the seeds first.",
                ),
            ]
            otherwise = f"The mean test loss there is {mean['test_loss'][k]:.4f}, and another one has less."
            return said + slip(k, slips, otherwise)
    return None
