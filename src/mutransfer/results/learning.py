"""Wider is better through training (Figures 7 and 8): is the wider model ahead at every step, at fixed hyperparameters?

The rule, declared before any result, is `RULE`. A panel is one parametrization at one learning rate. A loss that is
NaN or inf is a divergence. That the wider model diverged where no seed of the narrower did is no noise, hence clear. A
few violations are noise where two curves touch; with one seed nothing is known of noise, and none is allowed. The
verdict is that of the whole of training; the part after the first tenth of the steps, which the common start of all
widths does not touch, is judged beside it by the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mutransfer.errors import UserError, unknown
from mutransfer.results.draw.curves import add_strip, curve_limits, draw_curves, line_looks, line_signs
from mutransfer.results.draw.page import Axes, Entry, new_page, set_ticks, write_title
from mutransfer.results.draw.style import MUTED, WARNING, WIDTH, Look, paper_style, save, wrapped
from mutransfer.results.estimate import LEVEL, Array, counted, label, number, power, span, t_half
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid, read_texts
from mutransfer.results.frame import Curves
from mutransfer.results.schema import Rows, Schema, cell
from mutransfer.results.scores import pretraining_lines, pretraining_section, translations_lines, translations_section

COLUMNS = ("panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss")
START = 0.1
"""The first part of the steps, in which all widths still come from the same loss."""
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
    rows=(Rows(name="a panel", by=("panel",), constant=("parametrization", "log2_lr")),),
)
CSV = "curves.csv"
PICTURES = {"learning_curves": "Training loss through training, one line per width"}
FIGURE_7 = "In µP the wider model is at least as good at every step; in SP it is not, at either rate."
X_LABELS = {"steps": "training step", "tokens": "training tokens"}
COLOURS = {"holds": "black", "undecided": MUTED, "fails": WARNING}
Verdict = Literal["holds", "fails", "undecided"]
WORDS: dict[Verdict, str] = {"holds": "holds", "fails": "fails", "undecided": "is undecided"}


@dataclass(frozen=True)
class Count:
    """Violations among ``cells`` (step, pair of widths), how many of them are clear, and what follows."""

    cells: int
    violations: int
    clear: int
    verdict: Verdict

    @property
    def text(self) -> str:
        """``3 of 196 cells (1 clear)``."""
        return f"{self.violations} of {self.cells} cells ({self.clear} clear)"


@dataclass(frozen=True)
class Excess:
    """The largest violation: ``value`` nats (+inf: diverged) of ``wide`` above ``narrow`` at ``step``, with its
    95% interval (NaN without one).
    """

    value: float
    low: float
    high: float
    step: int
    narrow: int
    wide: int
    is_clear: bool

    @property
    def text(self) -> str:
        """``0.0123 nats [0.0100, 0.0146] at step 50, width 256 over 128: beyond the seeds' spread``."""
        where = f"at step {self.step}, width {self.wide} over {self.narrow}"
        if math.isinf(self.value):
            return f"diverged {where}"
        spread = "no interval" if math.isnan(self.low) else "beyond" if self.is_clear else "within"
        spread = spread if spread == "no interval" else f"{spread} the seeds' spread"
        interval = "" if math.isnan(self.low) else f" {span(self.low, self.high, 4)}"
        return f"{number(self.value, 4)} nats{interval} {where}: {spread}"


@dataclass(frozen=True)
class LearningReport:
    """The learning curves of one panel and what they say. W widths ascending, S seeds, T logged steps."""

    panel: str
    parametrization: str
    log2_lr: float
    widths: tuple[int, ...]
    seeds: int
    steps: Array
    """[T], ascending."""
    tokens: Array
    """[T] seen at each of the steps."""
    loss: Array
    """[W, S, T]; +inf from where a run diverged."""

    @cached_property
    def mean(self) -> Array:
        """[W, T] mean loss over seeds; +inf from where the first seed diverged."""
        return self.loss.mean(axis=1)

    @cached_property
    def excess(self) -> Array:
        """[W-1, T] mean loss of the wider model less the narrower's; 0 where both diverged."""
        return _difference(self.mean)

    @cached_property
    def interval(self) -> Array:
        """[2, W-1, T] 95% t interval of the difference paired by seed; NaN for one seed and where a run diverged."""
        pairs = _difference(self.loss)
        pairs = np.where(np.isfinite(self.loss[1:] + self.loss[:-1]).all(axis=1, keepdims=True), pairs, np.nan)
        half = t_half(pairs, axis=1)
        return pairs.mean(axis=1) + np.stack([-half, half])

    @cached_property
    def violation(self) -> NDArray[np.bool_]:
        """[W-1, T] whether the wider model is behind."""
        return self.mean[1:] > self.mean[:-1]

    @cached_property
    def clear(self) -> NDArray[np.bool_]:
        """[W-1, T] violations that are no noise."""
        return self.violation & (np.isinf(self.excess) | (self.interval[0] > 0))

    @cached_property
    def whole(self) -> Count:
        """All of training."""
        return self._count(np.ones(len(self.steps), dtype=bool))

    @cached_property
    def later(self) -> Count:
        """What follows the first tenth of the steps."""
        return self._count(self.steps > START * self.steps[-1])

    def _count(self, chosen: NDArray[np.bool_]) -> Count:
        violation, clear = self.violation[:, chosen], self.clear[:, chosen]
        cells, violations, sure = violation.size, int(violation.sum()), int(clear.sum())
        verdict: Verdict = "undecided"
        if sure > CHANCE * cells or np.isinf(self.excess[:, chosen][violation]).any():
            verdict = "fails"
        elif not sure and violations <= (TOUCHING * cells if self.seeds > 1 else 0):
            verdict = "holds"
        return Count(cells, violations, sure, verdict)

    @cached_property
    def largest(self) -> Excess | None:
        """The largest violation, the first one if several are as large; None if there is none."""
        if not self.violation.any():
            return None
        size = np.where(self.violation, self.excess, -np.inf)
        step, pair = (int(i) for i in np.unravel_index(size.T.argmax(), size.T.shape))
        low, high = (float(x) for x in self.interval[:, pair, step])
        narrow, wide = self.widths[pair], self.widths[pair + 1]
        at = int(self.steps[step])
        return Excess(float(size[pair, step]), low, high, at, narrow, wide, bool(self.clear[pair, step]))

    @property
    def diverged(self) -> dict[int, int]:
        """Width -> how many of its seeds diverged, where any did."""
        counts = np.isinf(self.loss[:, :, -1]).sum(axis=1)
        return {width: int(count) for width, count in zip(self.widths, counts, strict=True) if count}

    @property
    def verdict(self) -> Verdict:
        """Whether wider is better through the whole of training."""
        return self.whole.verdict

    def end(self, width: int) -> str:
        """The loss at the last step, with its standard error; a dash for another width."""
        if width not in self.widths:
            return "-"
        last = self.loss[self.widths.index(width), :, -1]
        mean = number(float(last.mean()), 4)
        if np.isinf(last).any() or self.seeds == 1:
            return mean
        return f"{mean} ± {number(float(last.std(ddof=1)) / np.sqrt(self.seeds), 4)}"

    @property
    def sentence(self) -> str:
        """The line for the terminal and the table."""
        excess = f"; largest excess: {self.largest.text}" if self.largest else ""
        lost = ", ".join(f"{count} of {self.seeds} at width {width}" for width, count in self.diverged.items())
        return (
            f"{label(self.parametrization)} at LR {power(self.log2_lr, 1)}: 'wider is better' {WORDS[self.verdict]}: "
            f"the wider model is behind at {self.whole.text}; after the first tenth of the steps at {self.later.text}, "
            f"and it {WORDS[self.later.verdict]}{excess}{f'; seeds diverged: {lost}' if lost else ''}."
        )


def learning_report(curves: pd.DataFrame) -> dict[str, LearningReport]:
    """A report a panel, in the order of the table; ``curves`` has `COLUMNS`, a row a (run, logged step).

    ``loss`` is the mean training loss (nats) of the steps since the row before. A diverged run has loss inf or NaN
    from where it stopped, and may end there. Raises `UserError` for missing columns, values that are no numbers,
    doubles, a panel of several settings or of one width, and a missing (width, seed, step): it names which.
    """
    frame = SCHEMA.check(curves)
    wrong = (frame["loss"] == -np.inf) | (frame["width"] < 1) | (frame["step"] < 1)
    if wrong.any():
        at = ", ".join(f"{name}={value}" for name, value in frame.loc[wrong, list(COLUMNS)].iloc[0].items())
        raise UserError(f"{int(wrong.sum())} rows of the learning curves cannot be, first ({at}); run them again.")
    return {str(panel): _panel(str(panel), group) for panel, group in frame.groupby("panel", sort=False)}


def _panel(panel: str, frame: pd.DataFrame) -> LearningReport:
    keys = ["width", "seed", "step"]
    widths, seeds, steps = (np.sort(frame[name].unique()) for name in keys)
    if len(widths) < 2:
        raise UserError(f"panel '{panel}' has one width, {int(widths[0])}; wider is better needs two to compare.")
    tokens = frame.drop_duplicates(["step", "tokens"]).set_index("step")["tokens"].sort_index()
    if tokens.index.has_duplicates:
        step = tokens.index[tokens.index.duplicated()][0]
        raise UserError(f"panel '{panel}' has several values of tokens at step {step:g}; select one setting first.")

    every = pd.MultiIndex.from_product([widths, seeds, steps], names=keys)
    shape = (len(widths), len(seeds), len(steps))
    table = frame.set_index(keys)["loss"]
    written = every.isin(table.index).reshape(shape)
    lost = written & ~np.isfinite(table.reindex(every).to_numpy().reshape(shape))
    stopped = np.logical_or.accumulate(lost, axis=2)
    gap = ~written & ~stopped
    if gap.any():
        first = cell(keys, every[int(gap.ravel().argmax())])
        raise UserError(
            f"panel '{panel}' of the learning curves lacks {int(gap.sum())} rows, first {first}; run the "
            "experiment again (a run that diverged has loss inf from where it stopped)."
        )
    loss = np.where(stopped, np.inf, table.reindex(every).to_numpy().reshape(shape))
    return LearningReport(
        panel=panel,
        parametrization=str(frame["parametrization"].iloc[0]),
        log2_lr=float(frame["log2_lr"].iloc[0]),
        widths=tuple(int(w) for w in widths),
        seeds=len(seeds),
        steps=steps,
        tokens=tokens.to_numpy(float),
        loss=loss,
    )


def _difference(loss: Array) -> Array:
    """Each width's loss less that of the next narrower one, along the first axis; 0 where both are +inf."""
    wide, narrow = loss[1:], loss[:-1]
    return np.subtract(wide, narrow, out=np.zeros_like(wide), where=np.isfinite(wide) | np.isfinite(narrow))


@dataclass(frozen=True)
class Learning:
    """What a folder shows of its ``curves.csv``."""

    reports: Mapping[str, LearningReport]
    """By panel."""
    headings: Mapping[str, str]
    """Panel -> heading of those that are drawn, left to right. Raises `UserError` for one without a report."""

    pictures = PICTURES

    def __post_init__(self) -> None:
        for panel in self.headings:
            if panel not in self.reports:
                raise unknown("panel of the learning curves", panel, self.reports)

    @property
    def drawn(self) -> list[LearningReport]:
        return [self.reports[panel] for panel in self.headings]

    @property
    def lines(self) -> list[str]:
        """One for every panel that is drawn, for the terminal."""
        return [report.sentence for report in self.drawn]

    @property
    def section(self) -> str:
        """Counts, verdicts, losses at the end, the rule."""
        header = ("", "LR", "verdict", "violations", "after the first tenth", "largest excess (nats)")
        named = list(zip(self.headings.values(), self.drawn, strict=True))
        rows = []
        for heading, report in named:
            cells = (power(report.log2_lr, 1), f"**{report.verdict}**", report.whole.text)
            excess = report.largest.text if report.largest else "none"
            rows.append((heading, *cells, f"{report.later.text}: {report.later.verdict}", excess))
        widths = sorted({width for report in self.drawn for width in report.widths})
        ends = [(heading, *(report.end(width) for width in widths)) for heading, report in named]
        spread = ", mean over seeds ± standard error" if any(r.seeds > 1 for r in self.drawn) else ""
        points = ", ".join(sorted({f"{len(r.steps)} logged steps" for r in self.drawn}))
        parts = [
            "## Is wider better through training?",
            grid(header, rows),
            "\n".join(f"- {line}" for line in self.lines),
            f"Training loss (nats) at the last logged step{spread}:",
            grid(("", *(f"width {width}" for width in widths)), ends),
            *self._other_rates(),
            f"Rule: {RULE} Here: {points}; the verdict is that of the whole of training.",
        ]
        return "\n\n".join(parts)

    def _other_rates(self) -> list[str]:
        """The counts at every learning rate, drawn or not: is the figure's choice of rates a lucky one?"""
        if len(self.reports) == len(self.headings):
            return []
        table = {(report.log2_lr, report.parametrization): report for report in self.reports.values()}
        columns = sorted({name for _, name in table}, key=lambda name: (name != "sp", name))
        rows = []
        for rate in sorted({log2_lr for log2_lr, _ in table}):
            ran = [table.get((rate, name)) for name in columns]
            rows.append((power(rate, 1), *(f"{r.verdict}: {r.whole.text}" if r else "-" for r in ran)))
        return ["At every learning rate that all widths ran:", grid(("LR", *map(label, columns)), rows)]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Of a claim: in µP wider is better, in SP it is not."""
        expected = {"mup": "holds", "sp": "fails"}
        return tuple(
            Part.of(
                f"{label(report.parametrization)} at {power(report.log2_lr, 1)}, wider is better",
                f"{report.verdict}, behind at {report.whole.text}",
                report.verdict,
                expected.get(report.parametrization),
            )
            for report in self.drawn
        )

    @property
    def claim(self) -> Claim:
        return Claim("Figure 7", FIGURE_7, self.parts, picture="learning_curves")

    def draw(self, folder: FigureFolder) -> list[Path]:
        """``learning_curves.png`` and ``.svg``."""
        seeds = counted([report.seeds for report in self.drawn], "seed")
        shown = "one run a line" if seeds == "1 seed" else f"mean over {seeds}, band: standard error"
        caption = (
            f"Is wider better through training? {folder['title']}, scale '{folder['scale']}' (after Figure 7 "
            f"of the paper). Lines: {shown}. Ticks above a panel: logged steps at which the wider model of a pair of "
            f"adjacent widths is behind, the narrowest pair lowest. Data: {folder['data_source']}."
        )
        return learning_figure(self.reports, self.headings, out=folder.path, caption=caption, banner=folder.banner)


def read_learning(folder: FigureFolder) -> Learning:
    """From ``folder/curves.csv``; ``provenance["learning"]["panels"]`` is panel -> heading of those to draw.

    Raises `UserError` as `learning_report` does.
    """
    reports = learning_report(read_texts(folder.path / CSV))
    try:
        headings = dict(folder["learning"]["panels"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder.path / 'provenance.json'} lacks learning.panels; run the experiment again."
        ) from error
    return Learning(reports, headings)


def learning_figure(
    reports: Mapping[str, LearningReport],
    headings: Mapping[str, str],
    *,
    out: Path,
    stem: str = "learning_curves",
    x: Literal["steps", "tokens"] = "steps",
    caption: str = "",
    banner: str = "",
) -> list[Path]:
    """Draw ``out/<stem>.png`` and ``.svg`` against ``x`` (steps or tokens); returns the two paths.

    One panel for every entry of ``headings`` (panel -> its heading), left to right. Lines are means over seeds, bands
    their standard error; a curve ends in a cross where the first seed diverged. The strip above a panel has a row for
    every pair of adjacent widths with a tick at every violation. Raises `UserError` for a panel without report.
    """
    shown = Learning(reports, headings).drawn
    if not shown:
        raise UserError("a figure of learning curves needs at least one panel.")
    looks = line_looks(sorted({width for report in shown for width in report.widths}))
    means = [(report.steps, mean) for report in shown for mean in report.mean]
    early = [mean[steps <= max(START * steps[-1], steps[0])][-1:] for steps, mean in means]
    limits = curve_limits([mean for _, mean in means], early)
    with paper_style():
        legends = (line_signs("width", looks), _signs(shown, limits[1]))
        figure, (panels,) = new_page(1, len(shown), 3.6, legends=legends, caption=caption, banner=banner, sharey=True)
        panels[0].set_ylabel("training loss (nats)")
        for axes, report, heading in zip(panels, shown, headings.values(), strict=True):
            along = report.steps if x == "steps" else report.tokens
            gap = max(len(along) // 6, 1)
            lines, own = dict[float, Curves](), dict[float, Look]()
            for j, (width, loss) in enumerate(zip(report.widths, report.loss, strict=True)):
                lines[width] = Curves(width, along, loss)
                # each width's markers start elsewhere, so that curves on one another stay apart
                start = int(gap * j / len(report.widths))
                own[width] = {**looks[width], "markevery": (start, gap), "zorder": 3 + j / 10}
            axes.set(xlabel=X_LABELS[x], xlim=(-0.02 * along[-1], 1.03 * along[-1]), ylim=limits)
            draw_curves(axes, lines, own)
            set_ticks(axes.xaxis, count=5, whole=True, thousands=x == "tokens")
            for width, mean in zip(report.widths, report.mean, strict=True):
                _mark_end(axes, along, mean, limits[1], looks[width]["color"])
            strip = add_strip(axes, (-0.25, len(looks) - 0.75), 0.07 * len(looks))
            for row, (violation, clear) in enumerate(zip(report.violation, report.clear, strict=True)):
                for chosen, colour, low in ((violation & ~clear, MUTED, 0.3), (clear, WARNING, 0.1)):
                    # also told by their height, not by colour alone
                    strip.vlines(along[chosen], row + low, row + 1 - low, color=colour, linewidth=1.0)
            colour = {"color": COLOURS[report.verdict], "fontsize": 7.5}
            write_title(
                axes,
                (wrapped(heading, (WIDTH - 0.7) / len(shown), 7.5), {"fontweight": "bold", "fontsize": 7.5}),
                (f"wider is better: {report.verdict}", colour),
                (f"behind at {report.whole.text}", colour),
            )
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
    signs: list[Entry] = []
    if any((report.violation & ~report.clear).any() for report in reports):
        known = any(report.seeds > 1 for report in reports)
        words = "wider is behind, within the seeds' spread" if known else "wider is behind (one seed: no interval)"
        signs.append((words, {"color": MUTED, "markersize": 4, **tick}))
    if any(report.clear.any() for report in reports):
        signs.append(("wider is behind, clearly", {"color": WARNING, "markersize": 7, **tick}))
    if any(report.diverged for report in reports):
        signs.append(("diverged", {"marker": "x", "markeredgewidth": 1.4, **black}))
    if any(np.isfinite(end) and end > top for report in reports for end in report.mean[:, -1]):
        signs.append(("ends above the axis", {"marker": "^", **black}))
    return signs


def describe_curves(folder: Path) -> Described[Learning]:
    """The table of `LEARNING` in words; raises as it does."""
    figure = FigureFolder.open(folder)
    runs, report, provenance = figure.runs, read_learning(figure), figure.provenance
    metrics = {"widths": "width", "steps": "steps"}
    ours = {metric: ",".join(map(str, sorted(runs[name].unique()))) for metric, name in metrics.items()}
    lines = [*report.lines, *translations_lines(runs), *pretraining_lines(provenance, runs)]
    parts = [
        *figure.heading(f"{runs['seed'].nunique()} seeds"),
        report.section,
        *translations_section(provenance, runs),
        *pretraining_section(provenance, runs),
        *figure.beside_the_paper(" ".join(lines), ours),
    ]
    return Described(figure, report, "\n".join(lines), parts, PICTURES)


def _claims(described: Described[Learning]) -> list[Claim]:
    """Figure 7; a figure of scores (BLEU, tasks) sets numbers beside the paper's, and no rule compares them."""
    parts = described.report.parts
    if {"translations", "scores"} & set(described.folder.provenance):
        parts = tuple(Part(part.what, part.ours, "not judged") for part in parts)
    return [described.folder.claim(parts)]


def _draw(described: Described[Learning]) -> list[Path]:
    return described.report.draw(described.folder)


LEARNING = Kind("learning", describe_curves, _draw, _claims)
"""A folder with the figure of ``folder/curves.csv``, and ``table.md``."""
