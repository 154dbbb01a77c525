"""Tables 4, 5, 7 and Figure 6: many independent searches of one method, and what outcome a search can count on.

µTransfer and naive transfer copy the best of the same samples on the proxy to the target, in µP and in SP; direct
tuning ("tuning on 1x") looks at samples on the target, in SP; the default has no search. `RULE` and `FRONT_RULE` say
how they are judged, and were declared before any result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mutransfer.errors import UserError
from mutransfer.results import outcomes, published
from mutransfer.results.draw.dots import dots, fronts
from mutransfer.results.draw.parallel import parallel_coordinates
from mutransfer.results.estimate import Array, Estimate, counted, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, Shown, read_texts
from mutransfer.results.learning import CSV, FIGURE_7, learning_curves, learning_figure, learning_report
from mutransfer.results.outcomes import LABELS, LEAST_SEARCHES, LOOKS, Cells, Design, Metric, Outcomes, Searches
from mutransfer.results.selection import GPT3, PROXY

EQUAL = 0.1
"""Methods spent the same if their means over searches differ by no more than this."""
RULE = (
    "A search selects the sample with the least final {loss} loss of those it looked at. Its outcome is the mean "
    "{metric} over the inits of the selected sample's target; it is diverged if any of these inits diverged or all "
    "samples looked at had, and counts as worse than any number. Percentile p: of the n outcomes in ascending order, "
    "that at rank p n / 100, rounded up (where that is whole, the mean of it and the next). 95% intervals: a "
    "bootstrap over the searches (n-1 of the n, with replacement) and, within every selected sample, over its inits "
    "(all but one, with replacement); a diverged outcome stays so in every draw. The searches are resampled from one "
    "pool, whose samples were trained once, so an interval says nothing about another pool or about its training "
    "seeds; those of the best and the worst are too narrow, as no draw goes beyond what was seen. The default: mean "
    "over its inits with a t interval. µTransfer is `better` if the whole interval of the difference of the medians of "
    "{metric} (a diverged median is infinitely bad) is on its side, `worse` if on the other's, else `undecided`, also "
    f"with fewer than {LEAST_SEARCHES} searches or if all of its searches selected the same sample. What else "
    "is measured stands beside it. Compute is FLOPs: the samples looked at and one training of the target, which "
    "direct tuning has among them; a diverged run costs the steps it lived; equal: the means per search differ by at "
    f"most {EQUAL:.0%}. Tuning cost is s (t1 N1 + t2 N2 + ...) / (S T) of App. F.4, with s and S in FLOPs a step; the "
    "paper prints about 7% for what its numbers give as 6.5%."
)
TRANSLATION = Design(
    name="searches",
    select="test_loss",
    metrics=(
        Metric("bleu_valid", "validation BLEU", "BLEU", 2, True, "val BLEU"),
        Metric("bleu_test", "test BLEU", "BLEU", 2, True),
    ),
    pools={PROXY: ("samples", "search"), "direct_pool": ("direct_samples", "direct")},
    methods={"default": "", "direct": "direct_pool", "naive": PROXY, "mutransfer": PROXY},
    stem="bleu",
    setups={
        "default": "fairseq default", "direct": "tuning on 1x", "naive": "naive transfer from 0.25x (SP)",
        "mutransfer": "muTransfer from 0.25x",
    },
    equal=("direct", "mutransfer"),
    expected=("direct", "naive"),
)  # fmt: skip
STUDIED = Design(
    name="study",
    select="train_loss",
    metrics=(Metric("train_loss", "training loss"), Metric("test_loss", "test loss", published="validation loss")),
    pools={PROXY: ("samples", "search"), "direct": ("direct_samples", "direct")},
    methods={"default": "", "default_long": "", "direct": "direct", "naive": PROXY, "mutransfer": PROXY},
    others=("proxy_short", "width"),
    stem="equal_compute",
    setups={"default": "6.7B re-run", "mutransfer": "6.7B muP"},
    equal=("default_long", "direct", "naive", "mutransfer"),
    expected=("default", "default_long", "direct", "naive"),
)
"""``proxy_short``: another pool on the proxy, shorter; ``width``: runs of Figure 8. Neither decides anything here."""
METRIC, LINES = "bleu_valid", ("direct", "mutransfer")
"""Of Figure 6."""
X = Literal["compute", "samples"]
PANELS: dict[X, tuple[str, str, str | None]] = {
    "compute": ("equal compute", "trainings of the target", "µTransfer dominates"),
    "samples": ("equal number of samples", "samples", None),
}
"""What is equal, its unit, and the verdict that the paper claims."""
Verdict = Literal["µTransfer dominates", "direct tuning dominates", "the lines cross", "undecided"]
FRONT_PAPER = (
    "At equal compute µTransfer dominates; at equal number of samples it is slightly lower, and the gap closes."
)
"""What the paper reads off its Figure 6 (section 7.1)."""
FRONT_RULE = (
    "The two lines are compared at every compute (or number of samples) of a point of either that lies within the "
    "range of both; between points a line is straight in log2 of it, and diverged if one of its ends is. A line "
    "`dominates` if the difference of the medians of validation BLEU is on its side or 0 at all of them, and the whole "
    "95% interval at one at least; `the lines cross` if an interval lies wholly on either side; else `undecided`, also "
    f"with fewer than {LEAST_SEARCHES} searches. As a search nears the size of the pool, all searches become the same "
    "one: bands and intervals narrow by construction."
)
LOSSES = {"test_loss": "validation", "train_loss": "training"}
PERCENTILES = (0, 25, 50, 75, 100)
"""Where provenance.json has none."""
Told = tuple[Searches, Shown | None]
"""The report of a folder and what is shown beside its own picture."""


def costs(report: Searches, kind: Literal["cost", "planned"]) -> tuple[float, str]:
    """Largest relative difference of a search's compute between methods; each in words beside µTransfer's."""
    every = {name: float(getattr(report.methods[name], kind)) for name in report.design.equal}
    words = [f"{LABELS[name]} {cost:.2f} ({cost / every['mutransfer'] - 1:+.1%})" for name, cost in every.items()]
    return max(every.values()) / min(every.values()) - 1, ", ".join(words)


def equal_text(report: Searches) -> str:
    """``equal within 10%``."""
    return f"{'equal' if costs(report, 'cost')[0] <= EQUAL else 'NOT equal'} within {EQUAL:.0%}"


def tuning_cost(report: Searches, column: Literal["flops", "spent"]) -> float:
    """Of one search on the proxy, on average, in trainings of the target (App. F.4).

    column: ``spent`` counts the steps that a diverged run lived, ``flops`` all, as the paper does.
    """
    looks = report.looks(PROXY, report.facts["search"])
    return float(np.mean([report.parts[PROXY][column].loc[list(look)].sum() for look in looks])) / report.training


def _lines(report: Searches) -> Iterable[str]:
    """What methods spent, how far the searches overlap, and what tuning costs."""
    (planned, plan), (gap, spent) = costs(report, "planned"), costs(report, "cost")
    chosen = [
        f"{len({*report.methods[name].chosen} - {None})} of {report.facts[fact]} samples ({LABELS[name]})"
        for name, fact in (("mutransfer", "samples"), ("direct", "direct_samples"))
    ]
    pools = [pool for role in (PROXY, "proxy_short") if len(pool := report.parts.get(role, []))]
    runs = " and ".join(f"{len(pool)} x {pool['steps'].iloc[0]} steps" for pool in pools)
    whole = sum(pool["flops"].sum() for pool in pools) / report.training
    yield (
        f"compute of a search as spent, in trainings of the target: {spent}: {equal_text(report)} ({gap:.1%} apart at "
        f"most); with no diverged run stopped {plan}: {planned:.1%}"
    )
    yield f"the {report.facts['searches']} searches selected {' and '.join(chosen)}"
    yield (
        f"tuning cost / target training: {tuning_cost(report, 'flops'):.1%} for a search of {report.facts['search']} "
        f"samples ({tuning_cost(report, 'spent'):.1%} with diverged runs stopped), {whole:.1%} for all samples on the "
        f"proxy ({runs}); the paper's GPT-3 6.7B: {GPT3:.1%}"
    )


def _reached(report: Searches, metric: Metric, where: str) -> str:
    """What the methods reached on a metric, beside the paper's numbers."""
    methods, percents = report.methods, report.facts.get("percentiles", PERCENTILES)
    worst, best = ("worst", "best") if metric.higher_is_better else ("best", "worst")
    words = {0: f" ({worst})", 50: " (median)", 100: f" ({best})"}

    def at(percent: float, name: str) -> str:
        if methods[name].inits:
            center = methods[name].center(metric.column).brief(metric.digits)
            return f"mean {center}" if percent == percents[-1] else "-"
        return methods[name].text(percent, metric.column, metric.digits)

    def lost(k: int, name: str) -> str:
        return "-" if methods[name].inits else f"{methods[name].lost[k]} of {report.facts['searches']}"

    def theirs(*names: str) -> Cells[str]:
        place = lambda name: (None, report.design.setups.get(name, ""))  # noqa: E731
        return outcomes.theirs(methods, place, where, *names) if metric.published else {}

    cells: Cells[str] = {
        "": LABELS.__getitem__,
        "steps": lambda name: ", ".join(map(str, report.parts[name]["steps"].unique())),
        "compute (target trainings)": lambda name: f"{methods[name].cost:.2f}",
        "compute (FLOPs)": lambda name: f"{methods[name].cost * report.training:.3g}",
        **theirs("total compute"),
        "samples a search": lambda name: str(methods[name].looked or "-"),
        **theirs("HP samples"),
    }
    for percent in percents:
        word, name = words.get(percent, ""), metric.published
        cells[f"p{percent:g}{word}"] = partial(at, percent)
        also = [name] * (percent == 50)
        cells |= theirs(f"{name} p{percent:g}", f"{name} {word.strip(' ()')}", "outcome", *also)
    cells |= {"target diverged": partial(lost, 0), "no winner": partial(lost, 1)}
    return outcomes.table(methods, cells)


def _selected(report: Searches) -> list[str]:
    """The samples that searches selected, best first, with their targets by every method."""
    design = report.design
    metrics = {metric.column: metric for metric in (Metric("test_loss", "validation loss"), *design.metrics)}
    words = ", ".join(metric.words for metric in metrics.values())

    def reached(name: str, sample: int) -> str:
        runs = report.parts[name].loc[[sample]]
        if lost := int((runs["status"] == "diverged").sum()):
            return f"{lost} of {len(runs)} inits diverged"
        return ", ".join(number(float(runs[column].mean()), metric.digits) for column, metric in metrics.items())

    def selected(first: str, *others: str) -> str:
        chosen, pool = report.methods[first].chosen, report.parts[design.methods[first]]
        loss = pool[design.select]
        samples = sorted({i for i in chosen if i is not None}, key=lambda i: (loss[i], i))
        more: Cells[int] = {"loss in the pool": lambda i: number(loss[i], 4)}
        for name in (first, *others):
            more[f"{LABELS[name]}: {words}"] = partial(reached, name)
        count = lambda i: f"{chosen.count(i)} of {len(chosen)}"  # noqa: E731
        return outcomes.sample_table(pool, samples, report.facts["space"], more, searches=count)

    return [
        f"From the proxy, by {report.methods['mutransfer'].looked} samples a search:",
        selected("mutransfer", "naive"),
        f"From the target in SP, by {report.methods['direct'].looked} samples a search:",
        selected("direct"),
        f"The default has the customary learning rate {report.facts['default_lr']:g} and all multipliers 1, in SP.",
    ]


# ---- Figure 6: the median outcome of a search against what it spends and the samples it looks at --------------------


@dataclass(frozen=True)
class Duel:
    """The two lines over one x."""

    x: Array  # [K] where both have a value, ascending: trainings of the target, or samples
    differences: tuple[Estimate, ...]  # [K] µTransfer's median less the other's
    searches: int

    @property
    def words(self) -> list[str]:
        """[K] of µTransfer."""
        return ["better" if d.low > 0 else "worse" if d.high < 0 else "undecided" for d in self.differences]

    @property
    def verdict(self) -> Verdict:
        """By `FRONT_RULE`."""
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
            places: Cells[tuple[float, Estimate, str]] = {
                unit: lambda row: f"{row[0]:.3g}",
                "difference, 95% interval": lambda row: outcomes.difference_text(row[1]),
                "µTransfer is": lambda row: row[2],
            }
            rows = zip(duel.x, duel.differences, duel.words, strict=True)
            sections.append(f"Median of µTransfer less that of direct tuning (validation BLEU) at {heading}:")
            sections.append(outcomes.table(rows, places) if n else "None: the lines share no place.")
        cells: Cells[Outcomes] = {
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
        sections.append(f"The paper's Figure 6 ({paper}): {FRONT_PAPER} {FRONT_RULE}")
        section = "\n\n".join(["## Figure 6: the median search against what it spends", points, *sections])
        pictures = {"pareto": "Median BLEU of a search against its compute and its number of samples"}
        return Shown(lines, section, Claim("Figure 6", FRONT_PAPER, tuple(parts)), pictures, self._draw)

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
    low, high = order[k - 1 : k + 1]
    weight = (np.log2(at) - np.log2(x[low])) / (np.log2(x[high]) - np.log2(x[low]))
    return np.asarray((1 - weight) * values[low] + weight * values[high])


# ---- the folder ----------------------------------------------------------------------------------------------------


def _describe(design: Design, folder: Path) -> Described[Told]:
    figure = FigureFolder.open(folder)
    report = Searches.of(design, figure.runs, figure[design.name])
    facts = report.facts
    where = facts.get("table", figure["paper"]["table_or_figure"])
    if design is STUDIED:
        more: Shown | None = _study(report, folder)
    else:
        more = Front.of(report, facts["sizes"]).shown if any(facts["sizes"].values()) else None
    ours = {"independent search trials": facts["searches"], "inits per selected HP": facts.get("inits", 1)}
    values = published.rows(table_or_figure=where)
    also = [v for v in published.rows(table_or_figure="Section 7.1") if v.experiment == values[0].experiment]
    rows = [(f"{v.table_or_figure}: {v.metric}", v.value, str(ours.get(v.metric, ""))) for v in (*values, *also)]
    cost = ("App. F.4: tuning cost / pretraining", f"{GPT3:.1%}, printed as 7%", f"{tuning_cost(report, 'flops'):.1%}")
    tables = []
    for metric in design.metrics:
        tables.append(f"## {metric.words[0].upper()}{metric.words[1:]}, beside {where} of the paper")
        tables.append(_reached(report, metric, where))
    tables.append(
        f"Of the target at its end; percentiles over {facts['searches']} searches with 95% intervals, the default's "
        f"mean over {report.inits_text}. Compute: mean of a search with its tuning; one training of the target "
        f"is {report.training:.4g} FLOPs."
    )
    signature = figure.provenance.get("signature")
    return outcomes.describe(
        figure,
        (report, more),
        {design.stem: f"{design.metrics[0].words} of the target by method", **(more.pictures if more else {})},
        count=f"{facts['searches']} searches, each looking at {facts['search']} of {facts['samples']} samples trained "
        f"at width {facts['proxy_width']}, or at {facts['direct']} of {facts['direct_samples']} trained at the "
        f"target's width {facts['target_width']} (search seed {facts['seed']}); {report.inits_text} of every "
        "selected sample",
        comparisons=report.comparisons,
        lines=[*_lines(report), *(more.lines if more else [])],
        tables=[*tables, *([more.section] if more else [])],
        selected=[*_selected(report), *([f"BLEU: `{signature}`."] if signature else [])],
        paper=[*(row for row in rows if row[2]), *([cost] if design is STUDIED else [])],
        rule=RULE.format(loss=LOSSES[design.select], metric=design.metrics[0].words),
    )


def _draw(described: Described[Told]) -> list[Path]:
    figure, (report, more) = described.folder, described.report
    facts, panels = report.facts, []
    caption = (
        f"Outcomes of the target in {facts['searches']} searches, each the mean over {report.inits_text} of the "
        f"sample with the least loss: of {facts['search']} of {facts['samples']} on the proxy, copied in µP "
        f"(µTransfer) and in SP (naive transfer), or of {facts['direct']} of {facts['direct_samples']} on the target "
        "in SP (direct tuning). Verdict: by the difference of the medians. Compute: mean of a search, in trainings of "
        f"the target; {equal_text(report)}, the default trained once aside. The searches are resampled from one pool: "
        f"an interval says nothing about another pool. After {figure['paper']['table_or_figure']} of the paper. "
        f"{figure.source}"
    )
    for m in report.design.metrics:
        rows = [(x.name, x.shown(m.column), x.center(m.column), x.cost, x.looked) for x in report.methods.values()]
        panels.append(outcomes.panel(m.words, m, rows, report.comparisons))
    signs = ("one search (default: one init)", "median (default: mean)", "diverged, or no winner")
    stem = figure.path / report.design.stem
    return dots(panels, signs, stem, caption, figure.banner) + (more.draw(figure) if more else [])


def _claims(described: Described[Told]) -> list[Claim]:
    """Tables 4 and 5: better than direct tuning and naive transfer; or Figure 6. Table 7: than all; and Figure 8."""
    report, more = described.report
    if more and report.design is TRANSLATION:
        return [more.claim]
    deciding = [against for against in report.comparisons if against.decides]
    parts = [against.part("better" if against.other in report.design.expected else None) for against in deciding]
    return [described.folder.claim(parts), *([more.claim] if more else [])]


def _study(report: Searches, folder: Path) -> Shown:
    """Figures 8 and 14: the best sample at several widths, and the search in parallel coordinates.

    Raises `UserError` as `learning_report` does, and without a panel ``width``.
    """
    reports = learning_report(read_texts(folder / CSV))
    if "width" not in reports:
        raise UserError(f"{folder / CSV} lacks the panel width; run the experiment again.")
    headings = {"width": f"best sample: {reports['width'].name}"}
    shown = learning_curves({"width": reports["width"]}, headings)

    def draw(folder: FigureFolder) -> list[Path]:
        parts = [report.parts[role].reset_index() for role in ("proxy_short", PROXY)]
        pools = {f"width {p['width'].iloc[0]}, {p['steps'].iloc[0]} steps": p for p in parts if len(p)}
        samples = (
            "The random search on the proxy (after Figure 14 of the paper): one line per sample, each hyperparameter "
            f"on its own axis in log units. {folder.source}"
        )
        widths = (
            "The best sample's hyperparameters in µP at several widths (after Figure 8 of the paper, which shows "
            "validation loss). Ticks above the panel: logged steps at which the wider model of a pair of adjacent "
            f"widths is behind, the narrowest pair lowest. {folder.source}"
        )
        more: dict[str, Any] = {"out": folder.path, "banner": folder.banner}
        space = outcomes.ordered(report.facts["space"])
        paths = parallel_coordinates(pools, space, y_label=folder["y_label"], caption=samples, **more)
        return paths + learning_figure(reports, headings, stem="loss_vs_tokens", x="tokens", caption=widths, **more)

    pictures = {
        "loss_vs_tokens": "Training loss against tokens, one line per width",
        "parallel_coordinates": "The samples of the search, one line per sample over the axes of its hyperparameters",
    }
    claim = Claim("Figure 8", FIGURE_7.split(";")[0] + ".", shown.claim.parts, picture="loss_vs_tokens")
    return Shown(shown.lines, shown.section, claim, pictures, draw)


SEARCHES: Kind[Told] = Kind("searches", partial(_describe, TRANSLATION), _draw, _claims)
"""Figures: ``bleu`` (outcomes by method) and, where sizes of searches are given, ``pareto`` (Figure 6).

Reads ``runs.csv`` and ``provenance.json``, whose ``searches`` has ``table`` ("Table 4"), ``percentiles``, ``sizes`` (of
``mutransfer`` and ``direct``, in samples; empty: no Figure 6), ``default_lr``, ``space`` (name -> distribution as text)
and the whole numbers ``searches``, ``search``, ``samples``, ``direct``, ``direct_samples``, ``inits``, ``seed``,
``proxy_width``, ``target_width``; ``signature`` says how BLEU was counted. Raises `UserError` as `Searches.of` does.
"""
STUDY: Kind[Told] = Kind("study", partial(_describe, STUDIED), _draw, _claims)
"""Figures: ``equal_compute`` (outcomes by method), ``parallel_coordinates`` (Figure 14), ``loss_vs_tokens`` (Figure 8).

As `SEARCHES`, without table, percentiles, sizes and inits, and with ``curves.csv`` (panel ``width``).
"""
