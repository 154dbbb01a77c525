"""Figure 6: the median outcome of a search against what it spends and against the samples it looks at.

Two lines, µTransfer's and conventional tuning's; a point is one size of search. `RULE` says how they are judged; what a
point and its bootstrap are, RULE of `searches`: every draw is the same for all points of both lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.draw import dots
from mutransfer.results.draw.dots import GAP, LEFT, PANEL, TITLE, Look
from mutransfer.results.draw.style import WIDTH, new_figure, paper_style, save, wrapped
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.folder import Claim, Part, grid
from mutransfer.results.outcomes import LEAST_SEARCHES, Outcomes, Searches, difference, difference_text, estimate

STEM, METRIC = "pareto", "bleu_valid"
LINES = ("direct", "mutransfer")
STRIP, TICK, TALL = 0.28, 0.4, 2.4
"""Inches."""
X = Literal["compute", "samples"]
PANELS: dict[X, tuple[str, str]] = {
    "compute": ("equal compute", "compute of a search (trainings of the target, log scale)"),
    "samples": ("equal number of samples", "samples a search looks at (log scale)"),
}
Verdict = Literal["µTransfer dominates", "tuning on 1x dominates", "the lines cross", "undecided"]
PAPER = "at equal compute µTransfer dominates; at equal number of samples it is slightly lower, and the gap closes"
"""What the paper reads off its Figure 6 (section 7.1)."""
RULE = (
    "The two lines are compared at every compute (or number of samples) of a point of either that lies within the "
    "range of both; between points a line is straight in log2 of it, and diverged if one of its ends is. A line "
    "`dominates` if the difference of the medians of validation BLEU is on its side or 0 at all of them, and the whole "
    "95% interval at one at least; `the lines cross` if an interval lies wholly on either side; else `undecided`, also "
    f"with fewer than {LEAST_SEARCHES} searches. As a search nears the size of the pool, all searches become the same "
    "one: bands and intervals narrow by construction."
)


@dataclass(frozen=True)
class Duel:
    """The two lines over one x."""

    x: Array
    """[K] where both have a value, ascending: trainings of the target, or samples."""
    differences: tuple[Estimate, ...]
    """[K] µTransfer's median less the other's."""
    verdict: Verdict
    reason: str = ""

    @property
    def text(self) -> str:
        """``µTransfer dominates``, with the reason where it is undecided for one."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Fronts:
    """The points of both lines, smallest search first."""

    report: Searches
    points: Mapping[str, tuple[Outcomes, ...]]

    @classmethod
    def of(cls, report: Searches, sizes: Any) -> Fronts | None:
        """``sizes``: line -> numbers of samples; None if both are empty. Raises `UserError` if it is malformed."""
        if not isinstance(sizes, Mapping) or set(sizes) != set(LINES):
            raise UserError(f"the provenance of the searches needs sizes of {' and '.join(LINES)}; run it again.")
        if not any(sizes.values()):
            return None
        for name in LINES:
            if not sizes[name] or not all(type(size) is int for size in sizes[name]):
                raise UserError(f"Figure 6 needs numbers of samples for both lines, '{name}' has {sizes[name]}.")
        return cls(report, {n: tuple(report.outcomes(n, size) for size in sorted(set(sizes[n]))) for n in LINES})

    def x(self, name: str, x: X) -> Array:
        """Of every point of a line: mean compute of a search in trainings of the target, or samples."""
        training = self.report.training
        points = self.points[name]
        return np.array([point.compute / training if x == "compute" else point.looked for point in points], float)

    def quartiles(self, name: str) -> Array:
        """[points, 3] 25th percentile, median and 75th of validation BLEU over searches."""
        percents = (25, 50, 75)
        return np.array([[point.percentiles(p, METRIC)[0] for p in percents] for point in self.points[name]])

    def duel(self, x: X) -> Duel:
        """The verdict over compute or samples."""
        places = {name: self.x(name, x) for name in LINES}
        low = max(float(place.min()) for place in places.values())
        high = min(float(place.max()) for place in places.values())
        every = np.unique(np.concatenate([*places.values()]))
        common = every[(every >= low) & (every <= high)]
        medians = {name: [point.percentiles(50, METRIC) for point in self.points[name]] for name in LINES}
        differences = []
        for at in common:
            its, ours = (along(places[name], medians[name], float(at)) for name in LINES)
            differences.append(estimate(difference(ours, its)))
        n, reason = self.report.facts["searches"], ""
        if not differences:
            reason = f"no {'compute' if x == 'compute' else 'number of samples'} that both have"
        elif n < LEAST_SEARCHES:
            reason = f"{n} searches, fewer than {LEAST_SEARCHES}"
        return Duel(common, tuple(differences), "undecided" if reason else _verdict(differences), reason)

    @property
    def claim(self) -> Claim:
        """Of the paper's Figure 6, and whether it is reproduced."""
        equal, same = self.duel("compute"), self.duel("samples")
        parts = (
            Part.of("at equal compute", equal.text, equal.verdict, "µTransfer dominates"),
            Part.of("at equal number of samples", same.text, same.verdict, None),
        )
        return Claim("Figure 6", PAPER[0].upper() + PAPER[1:] + ".", parts)


def along(x: Array, values: Sequence[Array], at: float) -> Array:
    """[1 + draws] of the line through (``x``, ``values``) at ``at``, straight in log2 x; of equal x the last."""
    if len(same := np.flatnonzero(x == at)):
        return values[same[-1]]
    order = np.argsort(x, kind="stable")
    k = int(np.searchsorted(x[order], at))
    low, high = order[k - 1], order[k]
    weight = (np.log2(at) - np.log2(x[low])) / (np.log2(x[high]) - np.log2(x[low]))
    return np.asarray((1 - weight) * values[low] + weight * values[high])


def _verdict(differences: Sequence[Estimate]) -> Verdict:
    above, below = any(apart.low > 0 for apart in differences), any(apart.high < 0 for apart in differences)
    if above and below:
        return "the lines cross"
    if above and all(apart.value >= 0 for apart in differences):
        return "µTransfer dominates"
    if below and all(apart.value <= 0 for apart in differences):
        return "tuning on 1x dominates"
    return "undecided"


def front_sentences(fronts: Fronts) -> list[str]:
    """The two verdicts, a line each."""
    lines = []
    for x, (heading, _) in PANELS.items():
        duel = fronts.duel(x)
        line = f"Figure 6, at {heading}: {duel.text}"
        if n := len(duel.x):
            better, worse = sum(d.low > 0 for d in duel.differences), sum(d.high < 0 for d in duel.differences)
            line += f"; µTransfer clearly better at {better} and worse at {worse} of {n}, "
            line += f"{duel.x[0]:.3g} to {duel.x[-1]:.3g} {'trainings of the target' if x == 'compute' else 'samples'}"
        lines.append(line)
    return lines


def front_section(fronts: Fronts) -> list[str]:
    """The numbers behind the figure, for the table."""
    header = ["", "samples", "compute (target trainings)", "p25", "median", "p75", "target diverged", "no winner"]
    body = []
    for name in LINES:
        rows = zip(fronts.x(name, "compute"), fronts.points[name], fronts.quartiles(name), strict=True)
        for place, point, (low, _, high) in rows:
            median = point.percentile(50, METRIC).text() if point.values(METRIC).max() > -np.inf else "diverged"
            cells = [str(point.looked), f"{place:.2f}", number(low), median, number(high), *point.lost]
            body.append([fronts.report.labels[name], *cells])
    parts = [
        "## Figure 6: the median search against what it spends",
        "\n".join(f"- {line}" for line in front_sentences(fronts)),
        grid(header, body),
    ]
    for x, (heading, _) in PANELS.items():
        duel = fronts.duel(x)
        apart = [
            (f"{at:.3g}", difference_text(d), "better" if d.low > 0 else "worse" if d.high < 0 else "undecided")
            for at, d in zip(duel.x, duel.differences, strict=True)
        ]
        unit = "compute (target trainings)" if x == "compute" else "samples"
        what = (unit, "median of µTransfer less that of tuning on 1x (validation BLEU), 95% interval", "µTransfer is")
        parts += [f"Difference at {heading}:", grid(what, apart) if apart else "None: the lines share no place."]
    values = published.rows(table_or_figure="Figure 6")
    paper = ", ".join(f"{value.metric.replace('_', ' ')} {value.value}" for value in values)
    return [*parts, f"The paper's Figure 6 ({paper}): {PAPER}. {RULE}"]


def front_figure(fronts: Fronts, looks: Mapping[str, Look], *, out: Path, caption: str, banner: str) -> list[Path]:
    """Draw ``out/pareto.png`` and ``.svg``: against compute left, against samples right; returns the two paths."""
    lines = {name: fronts.quartiles(name) for name in LINES}
    has_lost = any(np.isinf(line[:, 1]).any() for line in lines.values())
    strip_tall = STRIP * has_lost
    medians = [Estimate(value) for line in lines.values() for value in line[:, 1]]
    low, high = dots.limits([line.ravel() for line in lines.values()], medians, higher_is_better=True)
    with paper_style():
        text = wrapped(caption, WIDTH - 0.2, dots.POINTS)
        below = dots.foot_height(text)
        floor = below + 0.06 + TICK
        height = floor + strip_tall + TALL + TITLE + 0.3 * bool(banner)
        figure = new_figure(height)
        for k, (x, (heading, x_label)) in enumerate(PANELS.items()):
            left = (LEFT + k * (PANEL + GAP)) / WIDTH
            box = (left, (floor + strip_tall) / height, PANEL / WIDTH, TALL / height)
            axes = figure.add_axes(box, zorder=2)
            axes.set_xscale("log", base=2)
            axes.set_ylim(low, high)
            for name in LINES:
                _draw(axes, fronts.x(name, x), lines[name], looks[name])
            lowest = axes
            if has_lost:
                lowest = figure.add_axes((left, floor / height, PANEL / WIDTH, STRIP / height), sharex=axes)
                for row, name in enumerate(LINES):
                    lost = fronts.x(name, x)[np.isinf(lines[name][:, 1])]
                    cross: Look = {"color": looks[name]["color"], "markersize": 5, "markeredgewidth": 1.4}
                    lowest.plot(lost, np.full(len(lost), 0.7 - 0.4 * row), "x", **cross)
                dots.draw_strip(lowest, "diverged" if k == 0 else "")
            for part in {axes, lowest}:
                part.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
                part.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                part.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_locator(MaxNLocator(6))
            axes.tick_params(axis="x", labelbottom=not has_lost, length=0 if has_lost else 3.5)
            axes.grid(alpha=0.25, linewidth=0.5)
            axes.set_axisbelow(True)
            if k == 0:
                axes.set_ylabel("median validation BLEU")
            lowest.set_xlabel(x_label, fontsize=7.5)
            at = (floor + strip_tall + TALL + 0.05) / height
            title = f"{heading}: {fronts.duel(x).verdict}"
            figure.text(left, at, title, fontweight="bold", fontsize=7, va="bottom")
        dots.write_foot(figure, _legend(fronts, looks, has_lost), below - 0.02, text, banner)
        return save(figure, Path(out), STEM)


def _draw(axes: Axes, x: Array, quartiles: Array, look: Look) -> None:
    """A line with its band, interrupted where its median diverged; ``quartiles`` [points, 3]."""
    order = np.argsort(x, kind="stable")
    x, (low, median, high) = x[order], quartiles[order].T
    bottom, top = axes.get_ylim()
    finite = np.isfinite(median)
    where = np.where(finite, median, np.nan)
    band = np.where(finite, np.clip(low, bottom, top), np.nan), np.where(finite, high, np.nan)
    axes.fill_between(x, *band, color=look["color"], alpha=0.22, linewidth=0, zorder=1)
    axes.plot(x, where, **look, markeredgecolor="white", markeredgewidth=0.4, markersize=5, zorder=3)
    under = where < bottom
    axes.plot(x[under], np.full(under.sum(), bottom), "v", color=look["color"], clip_on=False, markersize=4)


def _legend(fronts: Fronts, looks: Mapping[str, Look], has_lost: bool) -> list[Artist]:
    labels = fronts.report.labels
    signs: list[Artist] = [Line2D([], [], **looks[name], markersize=4, label=labels[name]) for name in LINES]
    signs.append(Patch(color="black", alpha=0.22, linewidth=0, label="25th to 75th percentile of the searches"))
    if has_lost:
        signs.append(Line2D([], [], color="black", linestyle="none", marker="x", label="the median search diverged"))
    return signs
