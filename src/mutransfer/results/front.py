"""Figure 6: the median outcome of a search against what it spends and against the samples it looks at.

Two lines, µTransfer's and direct tuning's; a point is one size of search. `RULE` says how they are judged; what a point
and its bootstrap are, RULE of `searches`: every draw is the same for all points of both lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from mutransfer.errors import UserError
from mutransfer.results import outcomes, published
from mutransfer.results.draw import dots
from mutransfer.results.draw.style import Look, paper_style, save
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.folder import Claim, FigureFolder, Part
from mutransfer.results.outcomes import LABELS, LEAST_SEARCHES, LOOKS, Outcomes, Searches

METRIC, LINES = "bleu_valid", ("direct", "mutransfer")
X = Literal["compute", "samples"]
PANELS: dict[X, tuple[str, str]] = {
    "compute": ("equal compute", "trainings of the target"),
    "samples": ("equal number of samples", "samples"),
}
Verdict = Literal["µTransfer dominates", "direct tuning dominates", "the lines cross", "undecided"]
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

    x: Array  # [K] where both have a value, ascending: trainings of the target, or samples
    differences: tuple[Estimate, ...]  # [K] µTransfer's median less the other's
    searches: int

    @property
    def words(self) -> list[str]:
        """[K]"""
        return ["better" if d.low > 0 else "worse" if d.high < 0 else "undecided" for d in self.differences]

    @property
    def verdict(self) -> Verdict:
        """By `RULE`."""
        values, words = [d.value for d in self.differences], self.words
        if self.searches < LEAST_SEARCHES:
            return "undecided"
        if "better" in words and "worse" in words:
            return "the lines cross"
        if "better" in words and min(values) >= 0:
            return "µTransfer dominates"
        return "direct tuning dominates" if "worse" in words and max(values) <= 0 else "undecided"

    @property
    def text(self) -> str:
        """``µTransfer dominates``, with the reason where it is undecided for one."""
        if not self.differences:
            return f"{self.verdict} (no place that both have)"
        few = self.searches < LEAST_SEARCHES
        return self.verdict + f" ({self.searches} searches, fewer than {LEAST_SEARCHES})" * few


@dataclass(frozen=True)
class Front:
    """The points of both lines, smallest search first, and what a folder shows of them."""

    facts: Mapping[str, Any]
    points: Mapping[str, tuple[Outcomes, ...]]
    pictures: ClassVar = {"pareto": "Median BLEU of a search against its compute and its number of samples"}

    @classmethod
    def of(cls, report: Searches, sizes: Mapping[str, Sequence[int]]) -> Front | None:
        """``sizes``: line -> numbers of samples; None if both are empty. Raises `UserError` if only one is."""
        if not any(sizes.values()):
            return None
        if not all(sizes.get(name) for name in LINES):
            raise UserError(f"Figure 6 needs sizes of {' and '.join(LINES)}; run the experiment again.")
        return cls(report.facts, {n: tuple(report.outcomes(n, k) for k in sorted(set(sizes[n]))) for n in LINES})

    def x(self, name: str, x: X) -> Array:
        """Of every point of a line: mean compute of a search in trainings of the target, or samples."""
        return np.array([point.cost if x == "compute" else point.looked for point in self.points[name]], float)

    def quartiles(self, name: str) -> Array:
        """[points, 3] 25th percentile, median and 75th of validation BLEU over searches."""
        return np.array([[p.percentiles(q, METRIC)[0] for q in (25, 50, 75)] for p in self.points[name]])

    def duel(self, x: X) -> Duel:
        """The lines over compute or samples."""
        places, every = {name: self.x(name, x) for name in LINES}, list[Estimate]()
        medians = {name: [point.percentiles(50, METRIC) for point in self.points[name]] for name in LINES}
        low, high = max(place.min() for place in places.values()), min(place.max() for place in places.values())
        common = np.unique([at for place in places.values() for at in place if low <= at <= high])
        for at in common:
            its, ours = (along(places[name], medians[name], float(at)) for name in LINES)
            every.append(outcomes.estimate(outcomes.difference(ours, its)))
        return Duel(common, tuple(every), self.facts["searches"])

    @property
    def claim(self) -> Claim:
        """Of the paper's Figure 6, and whether it is reproduced."""
        expected: dict[X, str | None] = {"compute": "µTransfer dominates", "samples": None}
        duels = [(PANELS[x][0], self.duel(x), wanted) for x, wanted in expected.items()]
        parts = tuple(Part.of(f"at {where}", duel.text, duel.verdict, wanted) for where, duel, wanted in duels)
        return Claim("Figure 6", PAPER[0].upper() + PAPER[1:] + ".", parts)

    @property
    def lines(self) -> list[str]:
        """The two verdicts."""
        lines = []
        for x, (heading, unit) in PANELS.items():
            duel, more = self.duel(x), ""
            if n := len(duel.x):
                better, worse = duel.words.count("better"), duel.words.count("worse")
                more = f"; µTransfer clearly better at {better} and worse at {worse} of {n}, "
                more += f"{duel.x[0]:.3g} to {duel.x[-1]:.3g} {unit}"
            lines.append(f"Figure 6, at {heading}: {duel.text}{more}")
        return lines

    @property
    def section(self) -> str:
        """The numbers behind the figure, for the table."""
        of = self.facts["searches"]
        cells: outcomes.Cells[tuple[Outcomes, Array]] = {
            "": lambda row: LABELS[row[0].name],
            "samples": lambda row: str(row[0].looked),
            "compute (target trainings)": lambda row: f"{row[0].cost:.2f}",
            "p25": lambda row: number(row[1][0]),
            "median": lambda row: row[0].center(METRIC).brief(),
            "p75": lambda row: number(row[1][2]),
            "target diverged": lambda row: f"{row[0].lost[0]} of {of}",
            "no winner": lambda row: f"{row[0].lost[1]} of {of}",
        }
        rows = [row for name in LINES for row in zip(self.points[name], self.quartiles(name), strict=True)]
        parts = ["## Figure 6: the median search against what it spends", outcomes.table(rows, cells)]
        for x, (heading, unit) in PANELS.items():
            duel = self.duel(x)
            places: outcomes.Cells[int] = {
                unit: lambda k, duel=duel: f"{duel.x[k]:.3g}",  # type: ignore[misc]
                "difference, 95% interval": lambda k, duel=duel: outcomes.difference_text(duel.differences[k]),  # type: ignore[misc]
                "µTransfer is": lambda k, duel=duel: duel.words[k],  # type: ignore[misc]
            }
            parts.append(f"Median of µTransfer less that of direct tuning (validation BLEU) at {heading}:")
            parts.append(outcomes.table(range(len(duel.x)), places) if len(duel.x) else "None: they share no place.")
        values = published.rows(table_or_figure="Figure 6")
        paper = ", ".join(f"{value.metric.replace('_', ' ')} {value.value}" for value in values)
        return "\n\n".join([*parts, f"The paper's Figure 6 ({paper}): {PAPER}. {RULE}"])

    def draw(self, folder: FigureFolder) -> list[Path]:
        """``pareto.png`` and ``.svg``: against compute left, against samples right."""
        facts, lines = self.facts, {name: self.quartiles(name) for name in LINES}
        caption = (
            f"Median over {facts['searches']} searches of validation BLEU (after Figure 6 of the paper), each the mean "
            f"over {outcomes.inits_text(facts['inits'])} of the selected sample; compute includes the tuning. All "
            f"searches look at one pool of {facts['samples']} samples on the proxy, or of {facts['direct_samples']} on "
            "the target: as their size nears it, they become the same one, and the band narrows by construction. "
            f"{folder.source}"
        )
        medians = [Estimate(value) for line in lines.values() for value in line[:, 1]]
        limits = dots.limits([line.ravel() for line in lines.values()], medians, higher_is_better=True)
        has_lost = any(np.isinf(line[:, 1]).any() for line in lines.values())
        with paper_style():
            figure, part = dots.sheet(3.3, caption, folder.banner)
            for axes, (x, (heading, unit)) in zip(part.subplots(1, 2), PANELS.items(), strict=True):
                axes.set_xscale("log", base=2)
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.xaxis.set_minor_locator(NullLocator())
                axes.set(ylim=limits, ylabel="median validation BLEU")
                axes.grid(alpha=0.25, linewidth=0.5)
                axes.set_title(f"{heading}: {self.duel(x).verdict}", loc="left", fontweight="bold", fontsize=7.5)
                strip = dots.strip_at(axes, True, "diverged") if has_lost else None
                (strip or axes).set_xlabel(f"{unit} (log scale)")
                for row, name in enumerate(LINES):
                    _draw(axes, self.x(name, x), lines[name], LOOKS[name])
                    if strip:
                        lost = self.x(name, x)[np.isinf(lines[name][:, 1])]
                        cross: Look = {**dots.DIVERGED, "color": LOOKS[name]["color"], "linestyle": "none"}
                        strip.plot(lost, np.full(len(lost), 0.7 - 0.4 * row), **cross)
            signs: list[Any] = [Line2D([], [], label=LABELS[name], **LOOKS[name], markersize=4) for name in LINES]
            signs.append(Patch(label="25th to 75th percentile of the searches", color="black", alpha=0.22, linewidth=0))
            if has_lost:
                signs.append(Line2D([], [], label="the median search diverged", linestyle="none", **dots.DIVERGED))
            dots.legend(part, signs)
            return save(figure, folder.path, "pareto")


def along(x: Array, values: Sequence[Array], at: float) -> Array:
    """[1 + draws] of the line through (``x``, ``values``) at ``at``, straight in log2 x; of equal x the last."""
    if len(same := np.flatnonzero(x == at)):
        return values[same[-1]]
    order = np.argsort(x, kind="stable")
    k = int(np.searchsorted(x[order], at))
    low, high = order[k - 1], order[k]
    weight = (np.log2(at) - np.log2(x[low])) / (np.log2(x[high]) - np.log2(x[low]))
    return np.asarray((1 - weight) * values[low] + weight * values[high])


def _draw(axes: Axes, x: Array, quartiles: Array, look: Look) -> None:
    """A line with its band, interrupted where its median diverged; ``quartiles`` [points, 3]."""
    order, (bottom, top) = np.argsort(x, kind="stable"), axes.get_ylim()
    x, (low, median, high) = x[order], np.where(np.isfinite(quartiles[:, 1:2]), quartiles, np.nan)[order].T
    axes.fill_between(x, np.clip(low, bottom, top), high, color=look["color"], alpha=0.22, linewidth=0, zorder=1)
    axes.plot(x, median, **look, markeredgecolor="white", markeredgewidth=0.4, markersize=5, zorder=3)
    for at in x[median < bottom]:
        axes.plot(at, bottom, "v", color=look["color"], clip_on=False, markersize=4)
