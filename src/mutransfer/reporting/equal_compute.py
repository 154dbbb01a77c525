"""The table and the figures of a study: Algorithm 1 against its alternatives at equal compute."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.reporting.learning import CSV, FIGURE_7, learning_section, wider_claims
from mutransfer.reporting.method_losses import method_losses
from mutransfer.reporting.parallel import Pool, column, parallel_coordinates
from mutransfer.reporting.search import GPT3
from mutransfer.results import published
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.comparison import Metric
from mutransfer.results.draw.learning_curves import learning_figure
from mutransfer.results.equal_compute import EQUAL, RULE, EqualCompute, Method
from mutransfer.results.estimate import label, number
from mutransfer.results.files import read, read_figure, read_runs, stand_in
from mutransfer.results.learning import LearningReport, learning_report
from mutransfer.results.sections import Described, Kind, heading_section, joined
from mutransfer.results.table import grid

PANEL = "width"
PICTURES = {
    "equal_compute": "Final losses of the target by method, at equal compute",
    "loss_vs_tokens": "Training loss against tokens, a line a width",
    "parallel_coordinates": "The samples of the search, a line a sample over the axes of its hyperparameters",
}
"""Each, and what it is."""
METRICS: tuple[tuple[Metric, str], ...] = (("train_loss", "training loss"), ("test_loss", "test loss"))


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    provenance, (report, curves) = described.provenance, described.report
    banner = stand_in(provenance)
    source = f"{provenance['title']}, scale '{provenance['scale']}'. Data: {provenance['data_source']}."
    return [
        *method_losses(report, out=folder, caption=f"{_methods_caption(report)} {source}", banner=banner),
        *parallel_coordinates(
            _pools(report),
            _space(report.facts),
            out=folder,
            y_label=provenance["y_label"],
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


def describe_study(folder: Path) -> Described[tuple[EqualCompute, LearningReport]]:
    """What `render_study` writes in ``table.md``; raises as it does."""
    provenance = read_figure(folder, ("study",))
    facts = provenance["study"]
    if missing := [key for key in ("space", "default_lr") if not isinstance(facts, dict) or key not in facts]:
        raise UserError(f"{folder / 'provenance.json'} lacks study.{', study.'.join(missing)}; run the study again.")
    report = EqualCompute(read_runs(folder / "runs.csv"), facts)
    space = _space(facts)
    if missing := [name for name in space if column(name) not in report.runs.columns]:
        raise UserError(f"{folder / 'runs.csv'} lacks the hyperparameters {', '.join(missing)}; run the study again.")
    curves = _curves(folder / CSV)
    summary = [one.sentence for one in report.comparisons()]
    summary += [*compute_sentences(report), cost_sentence(report), curves.sentence]
    parts = [
        *heading_section(provenance, _count(report)),
        "## Who wins at equal compute",
        "\n".join(f"- {line}" for line in summary),
        _table(report),
        "Losses are final ones of the target, percentiles over searches; compute is the mean spent per search, in "
        "trainings of the target in the last column but one. The default is one run.",
        "## µTransfer against each method",
        _comparisons(report),
        "## What was copied",
        _winners(report, space),
        "Direct tuning, on the target in SP:",
        _direct(report, space),
        f"The SP default has Adam's customary learning rate {facts['default_lr']:g} and all multipliers 1.",
        "## The paper beside ours",
        _paper(report, provenance),
        *([f"What differs in ours: {provenance['paper']['differs']}"] if provenance["paper"]["differs"] else []),
        learning_section({PANEL: curves}, {PANEL: "µP, best sample"}),
        "## How to read it",
        f"{RULE} Tuning cost is s (t1 N1 + t2 N2 + ...) / (S T) of App. F.4, with s and S in FLOPs a step; the paper "
        "prints about 7% for what its numbers give as 6.5%.",
    ]
    return Described(provenance, (report, curves), "\n".join(summary), joined(parts), PICTURES)


def _space(facts: Mapping[str, Any]) -> dict[str, str]:
    """Name -> distribution as text, the learning rate first."""
    return {name: facts["space"][name] for name in sorted(facts["space"], key=lambda name: (name != "lr", name))}


def compute_sentences(report: EqualCompute) -> list[str]:
    """Whether the methods had the same compute, as planned and as spent, and where that differs."""
    planned, least, most = report.gap("planned")
    text = f"compute as planned differs by {planned:.1%} at most"
    if planned > 0.0005:
        text += f" ({least.label} least, {most.label} most)"
    budget = report.trainings(report.methods["mutransfer"].planned)
    k, long = report.methods["direct"].looked, report.methods["default_long"]
    steps, longer = (int(report.part(name)["steps"].iloc[0]) for name in ("default", "default_long"))
    text += (
        f": one search and its target cost {budget:.2f} trainings of the target, direct tuning looks at the whole "
        f"number k = {k} ({k / budget - 1:+.1%}), the longer default trains {longer} for {steps} steps "
        f"({report.trainings(long.planned) / budget - 1:+.1%})"
    )
    spent, least, most = report.gap("spent")
    who = f" ({least.label} least, {most.label} most)" if spent > 0.0005 else ""
    one = report.trainings(float(report.methods["default"].spent.mean()))
    return [
        text,
        f"compute as spent, with diverged runs stopped, differs by {spent:.1%} at most{who}: {equal_text(report)}; the "
        f"default trained once spends {one:.2f} trainings and is no equal",
    ]


def equal_text(report: EqualCompute) -> str:
    """``equal within 10%``."""
    return f"{'equal' if report.is_equal else 'NOT equal'} within {EQUAL:.0%}"


def cost_sentence(report: EqualCompute) -> str:
    """The cost ratio of App. F.4: one search, and all that the study trained on the proxy."""
    pools = [role for role in ("proxy_short", "proxy") if not report.part(role).empty]
    runs = " and ".join(f"{len(part)} x {part['steps'].iloc[0]} steps" for part in map(report.part, pools))
    return (
        f"tuning cost / target training: {report.cost_fraction():.1%} for a search of {report.facts['search']} samples "
        f"({report.cost_fraction(lived=True):.1%} with diverged runs stopped), {report.cost_fraction(pools):.1%} for "
        f"the whole study's samples ({runs}); the paper's GPT-3 6.7B: {GPT3:.1%}"
    )


def _count(report: EqualCompute) -> str:
    facts = report.facts
    proxy, target = (int(report.part(role)["width"].iloc[0]) for role in ("proxy", "default"))
    return (
        f"{facts['searches']} searches, each looking at {facts['search']} of {facts['samples']} samples trained at "
        f"width {proxy} (search seed {facts['seed']}), targets at width {target}; one training seed a run"
    )


def _curves(path: Path) -> LearningReport:
    text = read(path)
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise UserError(f"{path} is no table ({str(error).splitlines()[0]}); run the study again.") from error
    reports = learning_report(table)
    for panel in reports:
        if panel != PANEL:
            raise unknown(f"panel of {path}", panel, [PANEL])
    return reports[PANEL]


def _pools(report: EqualCompute) -> list[Pool]:
    parts = [report.part(role).reset_index() for role in ("proxy_short", "proxy")]
    return [Pool(f"width {p['width'].iloc[0]}, {p['steps'].iloc[0]} steps", p) for p in parts if len(p)]


def _methods_caption(report: EqualCompute) -> str:
    facts = report.facts
    return (
        f"Final losses of the target in {facts['searches']} searches. Each looks at {facts['search']} of "
        f"{facts['samples']} samples on the proxy and copies the best in µP (µTransfer) and in SP (naive transfer), or "
        f"at {facts['direct']} of {facts['direct_samples']} trained on the target in SP (direct tuning). Compute: mean "
        f"spent per search, in trainings of the target; {equal_text(report)}, the default trained once aside. Searches "
        "share their samples; a sample is trained once."
    )


def _table(report: EqualCompute) -> str:
    header = ["", "samples a search", "training loss: best", "25%", "median", "75%", "worst", "test loss: median"]
    header += ["diverged", "no winner", "compute (target trainings)", "compute (FLOPs)"]
    return grid(header, [_row(report, one) for one in report.methods.values()])


def _row(report: EqualCompute, one: Method) -> list[str]:
    n, mean = len(one.chosen), float(np.mean(one.spent))
    losses = [number(one.percentile(percent), 4) for percent in (0, 25, 50, 75, 100)]
    name = one.label + (" (spends less)" if one.name == "default" else "")
    tested = number(one.percentile(50, "test_loss"), 4)
    ends = [f"{one.diverged} of {n}", f"{one.without_winner} of {n}"]
    return [name, str(one.looked), *losses, tested, *ends, f"{report.trainings(mean):.2f}", f"{mean:.3g}"]


def _comparisons(report: EqualCompute) -> str:
    header = ("", "loss", "µTransfer is lower in", "difference of the medians (nats), 95% interval", "verdict")
    rows = []
    for metric, name in METRICS:
        for one in report.comparisons(metric):
            verdict = one.verdict + (f" ({one.reason})" if one.reason else "")
            verdict = f"**{verdict}**" if metric == "train_loss" else verdict
            rows.append((f"against {one.other}", name, one.share_text, one.difference_text, verdict))
    return grid(header, rows)


def _winners(report: EqualCompute, space: Mapping[str, str]) -> str:
    """The samples that searches copied, best first, with both targets."""
    proxy, mup, sp = (report.part(role) for role in ("proxy", "mutransfer", "naive"))
    return _chosen(
        report.methods["mutransfer"],
        proxy,
        space,
        {
            "proxy, training loss": lambda i: number(proxy["train_loss"][i], 4),
            "µTransfer: training, test loss": lambda i: _both(mup.loc[i]),
            "naive transfer: training, test loss": lambda i: _both(sp.loc[i]),
        },
    )


def _direct(report: EqualCompute, space: Mapping[str, str]) -> str:
    part = report.part("direct")
    return _chosen(report.methods["direct"], part, space, {"training, test loss": lambda i: _both(part.loc[i])})


def _chosen(
    method: Method, runs: pd.DataFrame, space: Mapping[str, str], last: Mapping[str, Callable[[int], str]]
) -> str:
    """A row a sample that some search chose, best of ``runs`` first; ``last``: heading -> cell of a sample."""
    chosen, loss = method.chosen, runs["train_loss"]
    header = ["sample", "searches", *(f"{name}, of {text}" for name, text in space.items()), *last]
    rows = [
        [
            str(i),
            f"{chosen.count(i)} of {len(chosen)}",
            *_values(runs.loc[i], space),
            *(cell(i) for cell in last.values()),
        ]
        for i in sorted({i for i in chosen if i is not None}, key=lambda i: (loss[i], i))
    ]
    return grid(header, rows) if rows else "Nothing: all samples diverged."


def _both(run: pd.Series) -> str:
    return "diverged" if run.status == "diverged" else f"{number(run.train_loss, 4)}, {number(run.test_loss, 4)}"


def _values(run: pd.Series, space: Mapping[str, str]) -> list[str]:
    found = [2.0**run.log2_lr if name == "lr" else run[name] for name in space]
    return [value if isinstance(value, str) else f"{value:.6g}" for value in found]


def _paper(report: EqualCompute, provenance: Mapping[str, Any]) -> str:
    """The paper's conclusion, cost ratio and validation losses beside ours."""
    claim = "; ".join(f"{one.verdict} than {one.other}" for one in report.comparisons()).replace(
        "undecided than", "undecided against"
    )
    rows = [("conclusion", provenance["paper"]["statement"], f"µTransfer: {claim}")]
    rows.append(("App. F.4: tuning cost / pretraining", f"{GPT3:.1%}, printed as 7%", f"{report.cost_fraction():.1%}"))
    ours = {"6.7B muP": "mutransfer", "6.7B re-run": "default"}
    for one in published.rows(table_or_figure="Table 7"):
        if one.metric == "validation loss" and one.setup in ours:
            method = report.methods[ours[one.setup]]
            text = f"{method.label}: {number(method.percentile(50, 'test_loss'), 4)}" + " (median)" * (
                method.name == "mutransfer"
            )
            setup = one.setup.replace("muP", "µP")
            rows.append((f"Table 7, {setup}: validation loss ({one.unit})", one.value, text))
    return grid(("", "the paper", "ours"), rows)


def _claims(provenance: Mapping[str, Any], report: tuple[EqualCompute, LearningReport]) -> list[Claim]:
    """µTransfer against every alternative at equal compute, and Figure 8."""
    parts = [
        Part.of(
            f"µTransfer against {one.other}",
            f"{one.verdict}, {one.difference_text} nats",
            one.verdict,
            "better",
        )
        for one in report[0].comparisons()
    ]
    return [
        paper_claim(provenance, parts),
        Claim(
            "Figure 8",
            FIGURE_7.split(";")[0] + ".",
            wider_claims({"": report[1]}, {"": ""}),
            picture="loss_vs_tokens",
        ),
    ]


STUDY = Kind("study", describe_study, _draw, _claims)
"""A folder with the figures and ``table.md`` of a study in ``folder``.

Figures: ``equal_compute`` (target losses of the methods), ``parallel_coordinates`` (Figure 14) and
``loss_vs_tokens`` (Figure 8), each as ``.png`` and ``.svg``. Reads only ``runs.csv`` (columns of
`mutransfer.results.equal_compute` and one a hyperparameter), ``curves.csv`` (panel ``width``) and
``provenance.json``; the same files give the same bytes. The provenance has the keys of `render` and ``study``: an
object with ``space`` (name -> distribution as text), ``default_lr`` and `mutransfer.results.equal_compute.FACTS`.

Raises `UserError` if a file is missing or malformed, or as `EqualCompute` does: it names what is missing.
"""
