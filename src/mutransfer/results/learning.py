"""Wider is better through training (Figures 7 and 8): is the wider model ahead at every step, at fixed hyperparameters?

The rule, declared before any result, is `RULE`; a loss of NaN is a divergence, too. A panel is one parametrization at
one learning rate. A few violations are noise where two curves touch; with one seed nothing is known of noise, and none
is allowed. The verdict is that of the whole of training; what follows the common start of all widths, the first tenth
of the steps, is judged beside it by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError, unknown
from mutransfer.results.draw.curves import add_strip, curve_limits, draw_curves, line_looks, line_signs
from mutransfer.results.draw.page import Axes, Entry, new_page, set_ticks, write_title
from mutransfer.results.draw.style import MUTED, WARNING, WIDTH, Look, paper_style, save, wrapped
from mutransfer.results.estimate import LEVEL, Array, Estimate, counted, label, number, power, t_half
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, Shown, grid, points, read_texts
from mutransfer.results.frame import Curves
from mutransfer.results.schema import AGAIN, Rows, Schema, cell
from mutransfer.results.scores import pretraining, translations

COLUMNS = ("panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss")
START = 0.1  # the first part of the steps, in which all widths still come from the same loss
CHANCE = (1 - LEVEL) / 2
TOUCHING = 0.05
RULE = (
    "A cell is a logged step and a pair of adjacent widths. A violation is a cell at which the wider model's mean loss "
    "over seeds is above the narrower's (a diverged run's loss counts as +inf from where it stopped; ties are none). "
    "It is clear if the wider model diverged there and the narrower did not, or if the 95% t interval of the "
    "difference, paired by seed, lies wholly above 0. `fails`: a violation is a divergence, or clear ones are more "
    f"than {100 * CHANCE:g}% of the cells (what equal models would show by chance); `holds`: none is clear and at most "
    f"{100 * TOUCHING:g}% of the cells are violations (with one seed: none); else `undecided`."
)
SCHEMA = Schema(
    name="the table of learning curves",
    columns={**dict.fromkeys(COLUMNS[:2], "text"), **dict.fromkeys(COLUMNS[2:-1], "finite number"), "loss": "number"},
    key=("panel", "width", "seed", "step"),
    rows=(
        Rows(name="a panel", by=("panel",), constant=("parametrization", "log2_lr")),
        Rows(name="a step", by=("panel", "step"), constant=("tokens",)),
    ),
)
CSV = "curves.csv"
FIGURE_7 = "In µP the wider model is at least as good at every step; in SP it is not, at either rate."
X_LABELS = {"steps": "training step", "tokens": "training tokens"}
COLOURS = {"holds": "black", "undecided": MUTED, "fails": WARNING}
WORDS = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}


class Count(NamedTuple):
    """Violations among ``cells`` (step, pair of widths), how many of them are clear, and what follows."""

    cells: int
    violations: int
    clear: int
    verdict: str

    @property
    def text(self) -> str:
        return f"{self.violations} of {self.cells} cells ({self.clear} clear)"


@dataclass(frozen=True)
class LearningReport:
    """The learning curves of one panel and what they say. W widths ascending, S seeds, T logged steps.

    steps, tokens: [T], those seen at each step. loss: [W, S, T], +inf from where a run diverged; mean: [W, T].
    excess: [3, W-1, T] mean loss of the wider model less the narrower's, 0 where both diverged, and the ends of its 95%
    t interval, paired by seed, NaN for one seed and where a run diverged. violation: [W-1, T] whether the wider model
    is behind; clear: that this is no noise. whole, later: of all of training, and after its first tenth.
    """

    parametrization: str
    log2_lr: float
    widths: tuple[int, ...]
    steps: Array
    tokens: Array
    loss: Array
    mean: Array
    excess: Array
    violation: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    whole: Count
    later: Count

    @property
    def seeds(self) -> int:
        return self.loss.shape[1]

    @property
    def largest(self) -> str:
        """The largest violation, the first one if several are as large; empty if there is none."""
        if not self.violation.any():
            return ""
        step, pair = np.unravel_index(self.excess[0].T.argmax(), self.excess[0].T.shape)
        excess = Estimate(*self.excess[:, pair, step].tolist())
        where = f"at step {self.steps[step]:.0f}, width {self.widths[pair + 1]} over {self.widths[pair]}"
        if np.isinf(excess.value):
            return f"diverged {where}"
        spread = f"{'beyond' if self.clear[pair, step] else 'within'} the seeds' spread"
        return f"{excess.brief(4)} nats {where}: {'no interval' if np.isnan(excess.low) else spread}"

    @property
    def diverged(self) -> dict[int, int]:
        """Width -> how many of its seeds diverged, where any did."""
        counts = np.isinf(self.loss[:, :, -1]).sum(axis=1).tolist()
        return {width: count for width, count in zip(self.widths, counts, strict=True) if count}

    @property
    def verdict(self) -> str:
        return self.whole.verdict

    @property
    def name(self) -> str:
        """``µP at LR 2^-6.0``."""
        return f"{label(self.parametrization)} at LR {power(self.log2_lr, 1)}"

    def end(self, width: int) -> str:
        """The loss at the last step, with its standard error; a dash for another width."""
        if width not in self.widths:
            return "-"
        last = pd.Series(self.loss[self.widths.index(width), :, -1])
        error = f" ± {number(last.sem(), 4)}" if self.seeds > 1 and np.isfinite(last).all() else ""
        return number(last.mean(), 4) + error

    @property
    def sentence(self) -> str:
        """The line for the terminal and the table."""
        excess = f"; largest excess: {self.largest}" if self.largest else ""
        lost = ", ".join(f"{count} of {self.seeds} at width {width}" for width, count in self.diverged.items())
        return (
            f"{self.name}: 'wider is better' {WORDS[self.verdict]}: the wider model is behind at {self.whole.text}; "
            f"after the first tenth of the steps at {self.later.text}, and it {WORDS[self.later.verdict]}"
            f"{excess}{f'; seeds diverged: {lost}' if lost else ''}."
        )


def learning_report(curves: pd.DataFrame) -> dict[str, LearningReport]:
    """Panel -> its report, in the order of the table; ``curves`` has `COLUMNS`, one row per run and logged step.

    ``loss`` is the mean training loss (nats) of the steps since the row before. A diverged run has loss inf or NaN
    from where it stopped, and may end there. Raises `UserError` for missing columns, values that are no numbers,
    doubles, a panel of several settings or of one width, and a missing (width, seed, step): it names which.
    """
    frame = SCHEMA.check(curves)
    frame["loss"] = frame["loss"].where(np.isfinite(frame["loss"]), np.inf)
    return {str(panel): _panel(str(panel), group) for panel, group in frame.groupby("panel", sort=False)}


def _panel(panel: str, frame: pd.DataFrame) -> LearningReport:
    table = frame.pivot(index=["width", "seed"], columns="step", values="loss")
    widths, seeds = table.index.levels
    if len(widths) < 2:
        raise UserError(f"panel '{panel}' has one width, {int(widths[0])}; wider is better needs two to compare.")
    table = table.reindex(pd.MultiIndex.from_product([widths, seeds]))
    loss, steps = table.to_numpy(), table.columns.to_numpy(float)
    stopped = np.logical_or.accumulate(np.isinf(loss), axis=1)
    if len(gaps := np.argwhere(np.isnan(loss) & ~stopped)):
        first = cell(["width", "seed", "step"], [*table.index[gaps[0, 0]], steps[gaps[0, 1]]])
        raise UserError(f"panel '{panel}' of the learning curves lacks {len(gaps)} rows, first {first}; {AGAIN}")
    loss = np.where(stopped, np.inf, loss).reshape(len(widths), len(seeds), -1)
    mean = loss.mean(axis=1)
    with np.errstate(invalid="ignore"):  # inf less inf
        apart, pairs = np.diff(mean, axis=0), np.diff(loss, axis=0)
        middle, half = pairs.mean(axis=1), t_half(pairs, axis=1)
    excess = np.stack([np.where(np.isnan(apart), 0.0, apart), middle - half, middle + half])
    violation = excess[0] > 0
    clear = violation & (np.isinf(excess[0]) | (excess[1] > 0))

    def count(chosen: NDArray[np.bool_]) -> Count:
        cells, verdict = violation[:, chosen].size, "undecided"
        behind, sure = int(violation[:, chosen].sum()), int(clear[:, chosen].sum())
        if sure > CHANCE * cells or np.isposinf(excess[0][:, chosen]).any():
            verdict = "fails"
        elif not sure and behind <= (TOUCHING * cells if len(seeds) > 1 else 0):
            verdict = "holds"
        return Count(cells, behind, sure, verdict)

    log2_lr, name = float(frame["log2_lr"].iloc[0]), str(frame["parametrization"].iloc[0])
    tokens, judged = frame.groupby("step")["tokens"].first().to_numpy(float), (violation, clear)
    counts = count(steps >= steps[0]), count(steps > START * steps[-1])
    return LearningReport(name, log2_lr, tuple(map(int, widths)), steps, tokens, loss, mean, excess, *judged, *counts)


def drawn(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> list[LearningReport]:
    """The report of every panel that has a heading. Raises `UserError` for one without a report."""
    for panel in headings:
        if panel not in reports:
            raise unknown("panel of the learning curves", panel, reports)
    return [reports[panel] for panel in headings]


def learning_curves(reports: Mapping[str, LearningReport], headings: Mapping[str, str]) -> Shown:
    """What is drawn and said of these panels; ``headings`` (panel -> its heading) are those drawn, left to right.

    The table has the counts at every learning rate, drawn or not: is the figure's choice of rates a lucky one?
    Raises as `drawn` does.
    """
    shown = drawn(reports, headings)
    lines, widths = [report.sentence for report in shown], sorted({width for r in shown for width in r.widths})
    pairs = zip(headings.values(), shown, strict=True)
    ends = [(heading, power(r.log2_lr, 1), f"**{r.verdict}**", *map(r.end, widths)) for heading, r in pairs]
    spread = ", mean over seeds ± standard error" if any(r.seeds > 1 for r in shown) else ""
    section = ["## Is wider better through training?", "\n".join(f"- {line}" for line in lines)]
    section.append(f"Training loss (nats) at the last logged step{spread}:")
    section.append(grid(("", "LR", "verdict", *(f"width {width}" for width in widths)), ends))
    if len(reports) > len(headings):
        told = {(r.log2_lr, r.parametrization): f"{r.verdict}: {r.whole.text}" for r in reports.values()}
        names = sorted({name for _, name in told}, key=lambda name: (name != "sp", name))
        rates = sorted({log2_lr for log2_lr, _ in told})
        rows = [(power(rate, 1), *(told.get((rate, name), "-") for name in names)) for rate in rates]
        section += ["At every learning rate that all widths ran:", grid(("LR", *map(label, names)), rows)]
    logged = ", ".join(sorted({f"{len(r.steps)} logged steps" for r in shown}))
    section.append(f"Rule: {RULE} Here: {logged}; the verdict is that of the whole of training.")
    wanted, parts = {"mup": "holds", "sp": "fails"}, list[Part]()
    for r in shown:
        ours, expected = f"{r.verdict}, behind at {r.whole.text}", wanted.get(r.parametrization)
        parts.append(Part.of(f"{r.name}, wider is better", ours, r.verdict, expected))

    def draw(folder: FigureFolder) -> list[Path]:
        words = (
            f"Lines: {points(counted([r.seeds for r in shown], 'seed'))}. Ticks above a panel: logged steps at which "
            "the wider model of a pair of adjacent widths is behind, the narrowest pair lowest."
        )
        caption = folder.caption(words, "Figure 7")
        return learning_figure(reports, headings, out=folder.path, caption=caption, banner=folder.banner)

    claim = Claim("Figure 7", FIGURE_7, tuple(parts), picture="learning_curves")
    pictures = {"learning_curves": "Training loss through training, one line per width"}
    return Shown(lines, "\n\n".join(section), claim, pictures, draw)


def read_learning(folder: FigureFolder) -> Shown:
    """From ``folder/curves.csv``; ``provenance["learning"]["panels"]`` is panel -> heading of those to draw.

    Raises `UserError` as `learning_report` does.
    """
    return learning_curves(learning_report(read_texts(folder.path / CSV)), folder["learning"]["panels"])


def learning_figure(
    reports: Mapping[str, LearningReport],
    headings: Mapping[str, str],
    *,
    out: Path,
    stem: str = "learning_curves",
    x: Literal["steps", "tokens"] = "steps",
    **page: str,
) -> list[Path]:
    """Draw ``out/<stem>.png`` and ``.svg`` against ``x``; returns the two paths. page: its ``caption`` and ``banner``.

    One panel for every entry of ``headings`` (panel -> its heading), left to right. Lines are means over seeds, bands
    their standard error; a curve ends in a cross where the first seed diverged. The strip above a panel has a row for
    every pair of adjacent widths with a tick at every violation. Raises `UserError` for a panel without report.
    """
    shown = drawn(reports, headings)
    looks = line_looks(sorted({width for report in shown for width in report.widths}))
    means = [(report.steps, mean) for report in shown for mean in report.mean]
    early = [mean[steps <= max(START * steps[-1], steps[0])][-1:] for steps, mean in means]
    limits = curve_limits([mean for _, mean in means], early)
    with paper_style():
        legends = (line_signs("width", looks), _signs(shown, limits[1]))
        figure, (panels,) = new_page(1, len(shown), 3.6, legends=legends, sharey=True, **page)
        panels[0].set_ylabel("training loss (nats)")
        for axes, report, heading in zip(panels, shown, headings.values(), strict=True):
            along = report.steps if x == "steps" else report.tokens
            gap = max(len(along) // 6, 1)
            axes.set(xlabel=X_LABELS[x], xlim=(-0.02 * along[-1], 1.03 * along[-1]), ylim=limits)
            set_ticks(axes.xaxis, count=5, thousands=x == "tokens")
            for j, (width, loss, mean) in enumerate(zip(report.widths, report.loss, report.mean, strict=True)):
                # each width's markers start elsewhere, so that curves on one another stay apart
                start = int(gap * j / len(report.widths))
                look = {**looks[width], "markevery": (start, gap), "zorder": 3 + j / 10}
                draw_curves(axes, {width: Curves(width, along, loss)}, {width: look})
                _mark_end(axes, along, mean, limits[1], look["color"])
            strip = add_strip(axes, (-0.25, len(looks) - 0.75), 0.07 * len(looks))
            for row, (violation, clear) in enumerate(zip(report.violation, report.clear, strict=True)):
                for chosen, colour, low in ((violation & ~clear, MUTED, 0.3), (clear, WARNING, 0.1)):
                    # also told by their height, not by colour alone
                    strip.vlines(along[chosen], row + low, row + 1 - low, color=colour, linewidth=1.0)
            look = {"color": COLOURS[report.verdict], "fontsize": 7.5}
            top = (wrapped(heading, (WIDTH - 0.7) / len(shown), 7.5), {"fontweight": "bold", "fontsize": 7.5})
            verdict = (f"wider is better: {report.verdict}", look)
            write_title(axes, top, verdict, (f"behind at {report.whole.text}", look))
        return save(figure, out, stem)


def _mark_end(axes: Axes, along: Array, mean: Array, top: float, colour: str) -> None:
    """A cross where a curve diverged, a triangle where it ends above the axis."""
    alive = np.isfinite(mean)
    x, y = (along[alive][-1], min(mean[alive][-1], top)) if alive.any() else (along[0], top)
    sign: Look = {"color": colour, "clip_on": False, "zorder": 5}
    if not alive.all():
        axes.plot(x, y, "x", markersize=5.5, markeredgewidth=1.6, **sign)
    elif mean[-1] > top:
        axes.plot(x, top, "^", markersize=4.5, **sign)


def _signs(reports: Sequence[LearningReport], top: float) -> list[Entry]:
    """Of the legend: those that occur in this figure."""
    black: Look = {"color": "black", "linestyle": "none", "markersize": 4.5}
    tick: Look = {"linestyle": "none", "marker": "|", "markeredgewidth": 1.2}
    known = any(report.seeds > 1 for report in reports)
    words = "wider is behind, within the seeds' spread" if known else "wider is behind (one seed: no interval)"
    ends = np.concatenate([report.mean[:, -1] for report in reports])
    signs: list[tuple[bool, str, Look]] = [
        (any((r.violation & ~r.clear).any() for r in reports), words, {"color": MUTED, "markersize": 4, **tick}),
        (any(r.clear.any() for r in reports), "wider is behind, clearly", {"color": WARNING, "markersize": 7, **tick}),
        (any(r.diverged for r in reports), "diverged", {"marker": "x", "markeredgewidth": 1.4, **black}),
        ((np.isfinite(ends) & (ends > top)).any(), "ends above the axis", {"marker": "^", **black}),
    ]
    return [(words, look) for occurs, words, look in signs if occurs]


def describe_curves(folder: Path) -> Described[Shown]:
    """The table of `LEARNING` in words; raises as it does."""
    figure = FigureFolder.open(folder)
    runs, report, provenance = figure.runs, read_learning(figure), figure.provenance
    metrics = {"widths": "width", "steps": "steps"}
    ours = {metric: ",".join(map(str, sorted(runs[name].unique()))) for metric, name in metrics.items()}
    said = (translations(provenance, runs), pretraining(provenance, runs))
    lines = [*report.lines, *(line for lines, _ in said for line in lines)]
    parts = [*figure.heading(f"{runs['seed'].nunique()} seeds"), report.section]
    parts += [*(part for _, section in said for part in section), *figure.beside_the_paper(" ".join(lines), ours)]
    return Described(figure, report, "\n".join(lines), parts, report.pictures)


def _claims(described: Described[Shown]) -> list[Claim]:
    """Figure 7; a figure of scores (BLEU, tasks) sets numbers beside the paper's, and no rule compares them."""
    parts = described.report.claim.parts
    if {"translations", "scores"} & set(described.folder.provenance):
        parts = tuple(replace(part, verdict="not judged") for part in parts)
    return [described.folder.claim(parts)]


LEARNING = Kind("learning", describe_curves, lambda described: described.report.draw(described.folder), _claims)
"""A folder with the figure of ``folder/curves.csv``, and ``table.md``."""
