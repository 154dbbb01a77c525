"""Table 7: Algorithm 1 against its alternatives at equal compute, what each method reached and spent.

µTransfer and naive transfer copy the best of the samples that a search looks at from the proxy to the target, in µP and
in SP. Direct tuning looks at samples trained on the target itself; the SP default is trained once as long as the target
and once for all of the compute (default, longer). `RULE` says how they are judged, and was declared before any result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.errors import unknown
from mutransfer.results import published
from mutransfer.results.draw.dots import Layout, dots, marks
from mutransfer.results.draw.parallel import parallel_coordinates
from mutransfer.results.estimate import label, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, grid, read_texts
from mutransfer.results.learning import CSV, FIGURE_7, LearningReport, learning_curves, learning_figure, learning_report
from mutransfer.results.outcomes import (
    EQUAL,
    LEAST_SEARCHES,
    Cells,
    Design,
    Searches,
    chosen_table,
    equal_text,
    ordered,
)
from mutransfer.results.schema import require
from mutransfer.results.selection import GPT3, tuning_cost_fraction

RULE = (
    "A search's winner has the least final training loss of its samples; a method's loss in a search is that of its "
    "target's run. Difference: median over searches of µTransfer's final loss less the other method's (+inf: the "
    "target diverged, or no sample trained), with its 95% bootstrap interval over searches (n-1 of n). `better`: the "
    f"whole interval is below 0; `worse`: above 0; else `undecided`, also with fewer than {LEAST_SEARCHES} searches or "
    "if all of them copied the same sample. The verdict is that of the training loss; the test loss stands beside it. "
    "The searches share one pool, and every sample was trained once: the interval covers which samples a search looked "
    "at, neither new pools nor new training seeds. Compute is FLOPs, and a diverged run costs the steps it lived; it "
    f"is equal if the means per search differ by at most {EQUAL:.0%} between the methods, the default trained once "
    "aside."
)
TABLE = Design(
    name="the study",
    select="train_loss",
    metrics={"train_loss": "training loss", "test_loss": "test loss"},
    unit="nats",
    digits=4,
    pools={"proxy": ("samples", "search"), "direct": ("direct_samples", "direct")},
    methods={"mutransfer": "proxy", "naive": "proxy", "direct": "direct", "default": "", "default_long": ""},
    others=("proxy_short", "width"),
)
"""``proxy_short``: another pool on the proxy, shorter; ``width``: runs of Figure 8. Neither decides anything here."""
LABELS = {
    "mutransfer": "µTransfer", "naive": "naive transfer", "direct": "direct tuning", "default": "SP default",
    "default_long": "SP default, longer",
}  # fmt: skip
TICKS = {
    "mutransfer": "µTransfer", "naive": "naive\ntransfer", "direct": "direct\ntuning", "default": "SP\ndefault",
    "default_long": "default,\nlonger",
}  # fmt: skip
LOOKS = marks([*TABLE.methods], "osDvP")
LAYOUT = Layout(
    stem="equal_compute", rows=("median", "µTransfer is", "compute", "samples"), trial="one search (default: one run)",
    center="median", lost="diverged, or no winner", has_bands=False, half=0.36, within=0.43, legend_columns=4,
    legend_points=None, names_first=True,
)  # fmt: skip
PANEL = "width"
PICTURES = {
    "equal_compute": "Final losses of the target by method, at equal compute",
    "loss_vs_tokens": "Training loss against tokens, one line per width",
    "parallel_coordinates": "The samples of the search, one line per sample over the axes of its hyperparameters",
}
"""Each, and what it is."""


def study_report(runs: pd.DataFrame, facts: Mapping[str, Any]) -> Searches:
    """``runs``: the runs table, ``facts``: provenance["study"]. Raises `UserError` as `Searches.of` does."""
    return Searches.of(TABLE, runs, facts, lambda _: LABELS)


def study_gap(report: Searches, kind: str) -> tuple[float, str, str]:
    """Largest relative difference of mean compute between methods at equal compute, whose is least, whose most."""
    gap, least, most = report.gap(kind, [name for name in TABLE.methods if name != "default"])  # type: ignore[arg-type]
    return gap, LABELS[least.name], LABELS[most.name]


def cost_fraction(report: Searches, pools: Sequence[str] = (), *, lived: bool = False) -> float:
    """The cost of tuning over the target's training, by the formula of App. F.4.

    pools: whole pools (``proxy``, ``proxy_short``), or, by default, one search, on average. ``lived``: a diverged
    run counts the steps it lived, else all (the paper's way).
    """
    column, parts = "steps_done" if lived else "steps", [report.parts[role] for role in pools or ("proxy",)]
    if pools:
        tokens = [(1.0, float(steps)) for part in parts for steps in part[column]]
    else:
        looks = report.looks("proxy", report.facts["search"])
        tokens = [(1 / len(looks), float(parts[0][column].loc[list(look)].sum())) for look in looks]
    size = float(parts[0]["flops"].iloc[0] / parts[0]["steps"].iloc[0])
    steps = float(report.parts["default"]["steps"].iloc[0])
    return tuning_cost_fraction(size, tokens, report.training / steps, steps)


def _describe(folder: Path) -> Described[tuple[Searches, LearningReport]]:
    figure = FigureFolder.open(folder, ("study",))
    facts = figure["study"]
    require(figure.provenance, {"study.space": dict, "study.default_lr": float}, f"{folder / 'provenance.json'}")
    report = study_report(figure.runs, facts)
    curves = _curves(folder / CSV)
    summary = [report.sentence(against) for against in report.comparisons()]
    summary += [*_compute_sentences(report), _cost_sentence(report), curves.sentence]
    parts = [
        *figure.heading(_count(report)),
        "## Who wins at equal compute",
        "\n".join(f"- {line}" for line in summary),
        _table(report),
        "Losses are final ones of the target, percentiles over searches; compute is the mean spent per search, in "
        "trainings of the target in the last column but one. The default is one run.",
        "## µTransfer against each method",
        report.comparison_table(
            ("", "loss", "µTransfer is lower in", "difference of the medians (nats), 95% interval", "verdict")
        ),
        "## What was copied",
        *_copied(report),
        f"The SP default has Adam's customary learning rate {facts['default_lr']:g} and all multipliers 1.",
        "## The paper beside ours",
        _paper(report, figure["paper"]["statement"]),
        *([f"What differs in ours: {figure['paper']['differs']}"] if figure["paper"]["differs"] else []),
        learning_curves({PANEL: curves}, {PANEL: "µP, best sample"}).section,
        "## How to read it",
        f"{RULE} Tuning cost is s (t1 N1 + t2 N2 + ...) / (S T) of App. F.4, with s and S in FLOPs a step; the paper "
        "prints about 7% for what its numbers give as 6.5%.",
    ]
    return Described(figure, (report, curves), "\n".join(summary), parts, PICTURES)


def _compute_sentences(report: Searches) -> list[str]:
    """Whether the methods had the same compute, as planned and as spent, and where that differs."""

    def apart(gap: float, least: str, most: str) -> str:
        return f"{gap:.1%} at most" + f" ({least} least, {most} most)" * (gap > 0.0005)

    methods, unit = report.methods, report.training
    budget, k = methods["mutransfer"].planned / unit, methods["direct"].looked
    steps, longer = (int(report.parts[name]["steps"].iloc[0]) for name in ("default", "default_long"))
    return [
        f"compute as planned differs by {apart(*study_gap(report, 'planned'))}: one search and its target cost "
        f"{budget:.2f} trainings of the target, direct tuning looks at the whole number k = {k} ({k / budget - 1:+.1%})"
        f", the longer default trains {longer} for {steps} steps "
        f"({methods['default_long'].planned / unit / budget - 1:+.1%})",
        f"compute as spent, with diverged runs stopped, differs by {apart(*study_gap(report, 'compute'))}: "
        f"{_equal(report)}; the default trained once spends {methods['default'].compute / unit:.2f} trainings and is "
        "no equal",
    ]


def _equal(report: Searches) -> str:
    return equal_text(study_gap(report, "compute")[0])


def _cost_sentence(report: Searches) -> str:
    """The cost ratio of App. F.4: one search, and all that the study trained on the proxy."""
    pools = [role for role in ("proxy_short", "proxy") if not report.parts[role].empty]
    parts = [report.parts[role] for role in pools]
    runs = " and ".join(f"{len(part)} x {part['steps'].iloc[0]} steps" for part in parts)
    return (
        f"tuning cost / target training: {cost_fraction(report):.1%} for a search of {report.facts['search']} samples "
        f"({cost_fraction(report, lived=True):.1%} with diverged runs stopped), {cost_fraction(report, pools):.1%} for "
        f"the whole study's samples ({runs}); the paper's GPT-3 6.7B: {GPT3:.1%}"
    )


def _count(report: Searches) -> str:
    facts = report.facts
    return (
        f"{facts['searches']} searches, each looking at {facts['search']} of {facts['samples']} samples trained at "
        f"width {facts['proxy_width']} (search seed {facts['seed']}), targets at width {facts['target_width']}; one "
        "training seed a run"
    )


def _curves(path: Path) -> LearningReport:
    reports = learning_report(read_texts(path))
    for panel in reports:
        if panel != PANEL:
            raise unknown(f"panel of {path}", panel, [PANEL])
    return reports[PANEL]


def _table(report: Searches) -> str:
    header = ["", "samples a search", "training loss: best", "25%", "median", "75%", "worst", "test loss: median"]
    header += ["diverged", "no winner", "compute (target trainings)", "compute (FLOPs)"]
    rows = []
    for name, outcomes in report.methods.items():
        losses = [number(outcomes.percentile(p, "train_loss").value, 4) for p in (0, 25, 50, 75, 100)]
        losses.append(number(outcomes.percentile(50, "test_loss").value, 4))
        what = LABELS[name] + (" (spends less)" if name == "default" else "")
        spent = f"{outcomes.compute / report.training:.2f}", f"{outcomes.compute:.3g}"
        rows.append([what, report.looked_text(name), *losses, *outcomes.lost, *spent])
    return grid(header, rows)


def _copied(report: Searches) -> list[str]:
    """The samples that searches selected, best first, with their targets."""

    def losses(name: str, sample: int) -> str:
        run = report.parts[name].loc[sample]
        return "diverged" if run["status"] == "diverged" else f"{number(run.train_loss, 4)}, {number(run.test_loss, 4)}"

    copied: Cells = {
        "proxy, training loss": lambda i: number(report.parts["proxy"]["train_loss"][i], 4),
        "µTransfer: training, test loss": lambda i: losses("mutransfer", i),
        "naive transfer: training, test loss": lambda i: losses("naive", i),
    }
    direct: Cells = {"training, test loss": lambda i: losses("direct", i)}
    return [
        chosen_table(report, "mutransfer", copied),
        "Direct tuning, on the target in SP:",
        chosen_table(report, "direct", direct),
    ]


def _paper(report: Searches, statement: str) -> str:
    """The paper's conclusion, cost ratio and validation losses beside ours."""
    rows = [("conclusion", statement, report.conclusion)]
    rows.append(("App. F.4: tuning cost / pretraining", f"{GPT3:.1%}, printed as 7%", f"{cost_fraction(report):.1%}"))
    ours = {"6.7B muP": ("mutransfer", " (median)"), "6.7B re-run": ("default", "")}
    for value in published.rows(table_or_figure="Table 7"):
        if value.metric == "validation loss" and value.setup in ours:
            name, what = ours[value.setup]
            loss = number(report.methods[name].percentile(50, "test_loss").value, 4)
            setup = value.setup.replace("muP", "µP")
            text = f"Table 7, {setup}: validation loss ({value.unit})"
            rows.append((text, value.value, f"{LABELS[name]}: {loss}{what}"))
    return grid(("", "the paper", "ours"), rows)


def _draw(described: Described[tuple[Searches, LearningReport]]) -> list[Path]:
    figure, (report, curves) = described.folder, described.report
    facts, banner, source, folder = report.facts, figure.banner, figure.source, figure.path
    methods = (
        f"Final losses of the target in {facts['searches']} searches. Each looks at {facts['search']} of "
        f"{facts['samples']} samples on the proxy and copies the best in µP (µTransfer) and in SP (naive transfer), or "
        f"at {facts['direct']} of {facts['direct_samples']} trained on the target in SP (direct tuning). Compute: mean "
        f"spent per search, in trainings of the target; {_equal(report)}, the default trained once aside. Searches "
        "share their samples; a sample is trained once."
    )
    panels = [report.panel(metric, f"{words} (nats)", TICKS, LOOKS, 3) for metric, words in TABLE.metrics.items()]
    parts = [report.parts[role].reset_index() for role in ("proxy_short", "proxy")]
    pools = {f"width {p['width'].iloc[0]}, {p['steps'].iloc[0]} steps": p for p in parts if len(p)}
    return [
        *dots(panels, LAYOUT, out=folder, caption=f"{methods} {source}", banner=banner),
        *parallel_coordinates(
            pools,
            ordered(facts["space"]),
            out=folder,
            y_label=figure["y_label"],
            caption="The random search on the proxy (after Figure 14 of the paper): a line a sample, each "
            f"hyperparameter on its own axis in log units. {source}",
            banner=banner,
        ),
        *learning_figure(
            {PANEL: curves},
            {PANEL: f"{label(curves.parametrization)}, LR $2^{{{curves.log2_lr:.1f}}}$"},
            out=folder,
            stem="loss_vs_tokens",
            x="tokens",
            caption="The best sample's hyperparameters in µP at several widths (after Figure 8 of the paper, which "
            "shows validation loss). Ticks above the panel: logged steps at which the wider model of a pair of "
            f"adjacent widths is behind, the narrowest pair lowest. {source}",
            banner=banner,
        ),
    ]


def _claims(described: Described[tuple[Searches, LearningReport]]) -> list[Claim]:
    """µTransfer against every alternative at equal compute, and Figure 8."""
    report, curves = described.report
    wider = learning_curves({"": curves}, {"": ""}).claim.parts
    return [
        described.folder.claim(report.claim_parts(dict.fromkeys(TABLE.methods, "better"))),
        Claim("Figure 8", FIGURE_7.split(";")[0] + ".", wider, picture="loss_vs_tokens"),
    ]


STUDY = Kind("study", _describe, _draw, _claims)
"""Figures: ``equal_compute`` (target losses of the methods), ``parallel_coordinates`` (Figure 14), ``loss_vs_tokens``
(Figure 8). Reads only ``runs.csv`` (columns as `TABLE` has them and one a hyperparameter), ``curves.csv`` (panel
``width``) and ``provenance.json``, whose ``study`` has ``space`` (name -> distribution as text), ``default_lr`` and the
whole numbers that `TABLE` needs.

Raises `UserError` if a file is missing or malformed, or as `Searches.of` does: it names what is missing.
"""
