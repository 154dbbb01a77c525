"""Figure 6: the median outcome of a search against what it spends and against the samples it looks at.

Two lines, µTransfer's and direct tuning's; a point is one size of search. `RULE` says how they are judged; what a point
and its bootstrap are, RULE of `searches`: every draw is the same for all points of both lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mutransfer.errors import UserError
from mutransfer.results import outcomes, published
from mutransfer.results.draw.dots import fronts
from mutransfer.results.estimate import Array, Estimate, counted
from mutransfer.results.folder import Claim, FigureFolder, Part, Shown
from mutransfer.results.outcomes import LABELS, LEAST_SEARCHES, LOOKS, Outcomes, Searches

METRIC, LINES = "bleu_valid", ("direct", "mutransfer")
X = Literal["compute", "samples"]
PANELS: dict[X, tuple[str, str, str | None]] = {
    "compute": ("equal compute", "trainings of the target", "µTransfer dominates"),
    "samples": ("equal number of samples", "samples", None),
}
"""What is equal, its unit, and the verdict that the paper claims."""
Verdict = Literal["µTransfer dominates", "direct tuning dominates", "the lines cross", "undecided"]
PAPER = "At equal compute µTransfer dominates; at equal number of samples it is slightly lower, and the gap closes."
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
        few = f" ({self.searches} searches, fewer than {LEAST_SEARCHES})" * (self.searches < LEAST_SEARCHES)
        return self.verdict + (few if self.differences else " (no place that both have)")


@dataclass(frozen=True)
class Front:
    """The points of both lines, smallest search first."""

    facts: Mapping[str, Any]
    points: Mapping[str, tuple[Outcomes, ...]]

    @classmethod
    def of(cls, report: Searches, sizes: Mapping[str, Sequence[int]]) -> Front:
        """``sizes``: line -> numbers of samples. Raises `UserError` if a line has none."""
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
    def shown(self) -> Shown:
        """Both verdicts, the numbers behind the figure, and ``pareto.png`` and ``.svg``."""
        lines, sections, parts = list[str](), list[str](), list[Part]()
        for x, (heading, unit, expected) in PANELS.items():
            duel = self.duel(x)
            n, better, worse = len(duel.x), duel.words.count("better"), duel.words.count("worse")
            more = f"; µTransfer clearly better at {better} and worse at {worse} of {n}, " if n else ""
            more += f"{duel.x[0]:.3g} to {duel.x[-1]:.3g} {unit}" if n else ""
            lines.append(f"Figure 6, at {heading}: {duel.text}{more}")
            parts.append(Part.of(f"at {heading}", duel.text, duel.verdict, expected))
            places: outcomes.Cells[tuple[float, Estimate, str]] = {
                unit: lambda row: f"{row[0]:.3g}",
                "difference, 95% interval": lambda row: outcomes.difference_text(row[1]),
                "µTransfer is": lambda row: row[2],
            }
            rows = zip(duel.x, duel.differences, duel.words, strict=True)
            sections.append(f"Median of µTransfer less that of direct tuning (validation BLEU) at {heading}:")
            sections.append(outcomes.table(rows, places) if n else "None: the lines share no place.")
        cells: outcomes.Cells[Outcomes] = {
            "": lambda point: LABELS[point.name],
            "samples": lambda point: str(point.looked),
            "compute (target trainings)": lambda point: f"{point.cost:.2f}",
            **{f"p{q}": partial(Outcomes.text, percent=q, metric=METRIC) for q in (25, 50, 75)},
            "target diverged": lambda point: f"{point.lost[0]} of {len(point.chosen)}",
            "no winner": lambda point: f"{point.lost[1]} of {len(point.chosen)}",
        }
        points = outcomes.table([point for name in LINES for point in self.points[name]], cells)
        values = published.rows(table_or_figure="Figure 6")
        paper = ", ".join(f"{value.metric.replace('_', ' ')} {value.value}" for value in values)
        sections.append(f"The paper's Figure 6 ({paper}): {PAPER} {RULE}")
        section = "\n\n".join(["## Figure 6: the median search against what it spends", points, *sections])
        pictures = {"pareto": "Median BLEU of a search against its compute and its number of samples"}
        return Shown(lines, section, Claim("Figure 6", PAPER, tuple(parts)), pictures, self._draw)

    def _draw(self, folder: FigureFolder) -> list[Path]:
        """Against compute left, against samples right."""
        facts, panels = self.facts, {}
        caption = (
            f"Median over {facts['searches']} searches of validation BLEU (after Figure 6 of the paper), each the mean "
            f"over {counted([facts['inits']], 'init')} of the selected sample; compute includes the tuning. All "
            f"searches look at one pool of {facts['samples']} samples on the proxy, or of {facts['direct_samples']} on "
            "the target: as their size nears it, they become the same one, and the band narrows by construction. "
            f"{folder.source}"
        )
        for x, (heading, unit, _) in PANELS.items():
            known = [(LABELS[n], LOOKS[n], self.x(n, x), self.quartiles(n)) for n in LINES]
            panels[f"{heading}: {self.duel(x).verdict}"] = f"{unit} (log scale)", known
        return fronts(panels, "median validation BLEU", folder.path / "pareto", caption, folder.banner)


def along(x: Array, values: Sequence[Array], at: float) -> Array:
    """[1 + draws] of the line through (``x``, ``values``) at ``at``, straight in log2 x; of equal x the last."""
    if len(same := np.flatnonzero(x == at)):
        return values[same[-1]]
    order = np.argsort(x, kind="stable")
    k = int(np.searchsorted(x[order], at))
    low, high = order[k - 1], order[k]
    weight = (np.log2(at) - np.log2(x[low])) / (np.log2(x[high]) - np.log2(x[low]))
    return np.asarray((1 - weight) * values[low] + weight * values[high])
