"""Table 6: what the winner of one search on a proxy is worth on targets that are wider and deeper.

The winner is copied in µP (µTransfer) and in SP (naive transfer), beside the default; each from several inits (seeds
0, 1, ...). `RULE` says how they are judged, and was declared before any result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results import outcomes, published
from mutransfer.results.draw.dots import dots
from mutransfer.results.estimate import Array, Estimate, counted, listing, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, grid
from mutransfer.results.outcomes import LABELS, Against, Cells, Metric, hyperparameters
from mutransfer.results.schema import AGAIN, Rows, Schema
from mutransfer.results.scores import HEADER, LEAST_INITS, PRETRAINING_RULE, PretrainingGain, heading, known_mean
from mutransfer.results.selection import COPIES, JUDGED, PROXY, SCRATCH, ranking

RULE = (
    "The winner has the least final validation loss on the proxy, never the best score. A method's loss on a target is "
    "the mean over its inits, with a 95% t interval (+inf, diverged, if one init did). µTransfer is `better` if the "
    "whole 95% t interval of the mean difference, paired by init, lies below 0, `worse` if above, else `undecided`; a "
    "diverged run has +inf: `better` too where all inits of the other diverged and none of ours, `worse` the other way "
    f"round, `undecided` where only some did or both did, and always with fewer than {LEAST_INITS} inits. There is one "
    "search, copied once: the interval covers the targets' inits, not another search. Scores are means over the inits "
    f"that did not diverge and decide nothing. {PRETRAINING_RULE} Model speedup: FLOPs of a step of the target over a "
    "step of the proxy; total speedup: of a whole training. Compute, in trainings of the target as planned, "
    "includes the whole search for µTransfer and naive transfer, though all targets share it; the longer default "
    "trains for as much. The paper: µP's theory is about width. Over depth the transfer is empirical: it works for "
    "pre-LN Transformers (Figure 4; the init's standard deviation excepted, so it is held fixed in App. F.3), and is "
    "fragile for post-LN (Figure 17). A model that is only deeper has the base width, where SP and µP are one: naive "
    "transfer to it is the same run as µTransfer."
)
METRIC = Metric("test_loss", "validation loss")
CHANGES = {"both": "wider and deeper", "width": "only wider", "depth": "only deeper"}
"""Of a target beside the proxy, in words; the paper's are of the first kind."""
SETUPS = {"default": "Megatron default", "naive": "naive transfer", "mutransfer": "muTransfer"}
"""As published/values.csv names the methods; the paper has no longer default."""
SPEEDUPS, LOSS = ("model speedup", "total speedup"), ("test loss", "outcome")
"""As it names the metrics that are no scores."""
TOP = 5


@dataclass(frozen=True, eq=False)
class Trained:
    """What a method reached on a target, from every init."""

    target: str
    name: str
    runs: pd.DataFrame
    cost: float  # as planned, the search included, in trainings of the target

    @property
    def losses(self) -> Array:
        """[inits] nats, +inf where it diverged."""
        return self.runs["test_loss"].to_numpy(float)

    @property
    def mean(self) -> Estimate:
        return Estimate.mean(self.losses)

    def score(self, name: str) -> str:
        """Mean over the inits that did not diverge, a dash without any."""
        return known_mean(self.runs[name].to_numpy()).brief()


def by_inits(ours: Array, its: Array, other: str, where: str = "") -> Against:
    """µTransfer's losses [inits] against another method's of the same inits, +inf: diverged."""
    n, each = len(ours), outcomes.difference(ours, its)
    lost = {LABELS["mutransfer"]: int(np.isinf(ours).sum()), LABELS[other]: int(np.isinf(its).sum())}
    words = [f"{name} diverged in {k} of {n} inits" for name, k in lost.items() if k]
    if not words:
        apart = Estimate.mean(each)
    else:
        same = float(each[0]) if (each == each[0]).all() else math.nan  # all -inf, +inf or, where both diverged, 0
        low = same if math.isinf(same) else math.nan
        apart = Estimate(same, low, low, listing(words))
    few = f"{counted([n], 'init')}, fewer than {LEAST_INITS}" if n < LEAST_INITS else ""
    against = Against.of(ours, its, apart, few, METRIC, "inits", other=other, center="means", where=where)
    return replace(against, reason=few or apart.reason * bool(words))


@dataclass(frozen=True, eq=False)
class Targets:
    """What the runs of one search and of the targets that got its winner show; `of` checks them."""

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, runs: pd.DataFrame, facts: Mapping[str, Any]) -> Targets:
        """``facts``: provenance["transfer"]: ``samples``, ``inits`` and ``seed`` (whole numbers), ``space`` (whose keys
        are the hyperparameters), ``proxy`` (width and depth), ``targets`` (by label: width, depth, changes, roles and
        published) and ``scores`` (by column: label, metric, unit and published). Raises `UserError` as `Schema.check`
        does, if no sample has trained, and if what was copied is not the sample with the least validation loss.
        """
        report, names = cls(_schema(runs, facts).check(runs), facts), hyperparameters(facts)
        if not report.ranked:
            raise UserError(f"none of the {facts['samples']} samples has trained to the end: nothing was copied.")
        copies = report.runs[report.runs["role"].isin(COPIES)].set_index("sample")[names]
        if {*copies.index} != {report.ranked[0]} or (copies != report.proxy.loc[copies.index, names]).any(axis=None):
            raise UserError(f"sample {report.ranked[0]} has the least validation loss, and was not copied; {AGAIN}")
        return report

    def _part(self, target: str, role: str) -> pd.DataFrame:
        """By sample; a diverged run has no scores."""
        runs = self.runs[(self.runs["target"] == target) & (self.runs["role"] == role)]
        return outcomes.by_sample(runs, _score_columns(self.runs, self.facts), math.nan)

    @cached_property
    def proxy(self) -> pd.DataFrame:
        """The search, by sample."""
        return self._part(PROXY, PROXY)

    @cached_property
    def ranked(self) -> list[int]:
        """The samples that trained, the winner first: the least validation loss, of a tie the lower number."""
        return ranking({int(str(i)): loss for i, loss in self.proxy["test_loss"].items()})

    @cached_property
    def methods(self) -> dict[str, dict[str, Trained]]:
        """What every target reached by every method; those first that are wider and deeper."""
        every = {label: dict[str, Trained]() for change in CHANGES for label in self.targets(change)}
        for label in every:
            for role in [role for role in LABELS if role in self.facts["targets"][label]["roles"]]:
                runs = self._part(label, role)
                cost = float(runs["flops"].iloc[0]) / self.training(label)
                every[label][role] = Trained(label, role, runs, cost + self.search_cost(label) * (role in COPIES))
        return every

    def targets(self, changes: str) -> list[str]:
        """Labels of the targets that differ from the proxy in this way: ``width``, ``depth`` or ``both``."""
        return [label for label, target in self.facts["targets"].items() if target["changes"] == changes]

    def name(self, label: str) -> str:
        """``base (width 128, depth 4), wider and deeper``."""
        target = self.facts["targets"][label]
        return f"{label} (width {target['width']}, depth {target['depth']}), {CHANGES[target['changes']]}"

    def training(self, label: str) -> float:
        """FLOPs of one training of the target as planned."""
        return float(self._part(label, "default")["flops"].iloc[0])

    def search_cost(self, label: str, column: str = "flops") -> float:
        """The search in trainings of the target; ``spent``: a diverged run counts the steps it lived, else all."""
        return float(self.proxy[column].sum()) / self.training(label)

    def speedups(self, label: str) -> tuple[float, float]:
        """FLOPs of a step of the target over those of a step of the proxy, and of a whole training over a training."""
        total = self.training(label) / float(self.proxy["flops"].iloc[0])
        return total * float(self.proxy["steps"].iloc[0] / self._part(label, "default")["steps"].iloc[0]), total

    def comparisons(self, *labels: str) -> list[Against]:
        """µTransfer against every other method on some targets, the next in the table first."""
        every = [(label, [*self.methods[label].values()][::-1]) for label in labels]
        pairs = [(self.name(label), ours, its) for label, (ours, *others) in every for its in others]
        return [by_inits(ours.losses, its.losses, its.name, where) for where, ours, its in pairs]

    @property
    def tasks(self) -> list[str]:
        """Those with a score both after pretraining and from the init."""
        return [name for name in self.facts["scores"] if name + SCRATCH in self.runs.columns]

    def pretraining(self, label: str, role: str = "mutransfer") -> list[PretrainingGain]:
        """For every one of `tasks`."""
        scores = self.methods[label][role].runs
        return [PretrainingGain.of(t, scores[t].to_numpy(), scores[t + SCRATCH].to_numpy()) for t in self.tasks]


def _score_columns(runs: pd.DataFrame, facts: Mapping[str, Any]) -> list[str]:
    return [*facts["scores"], *(name + SCRATCH for name in facts["scores"] if name + SCRATCH in runs.columns)]


def _schema(runs: pd.DataFrame, facts: Mapping[str, Any]) -> Schema:
    """Of the runs table."""
    samples, scores, n = {"sample": range(facts["samples"])}, _score_columns(runs, facts), len(facts["scores"])
    rows = [
        Rows(name="the transfer", constant=("data_fingerprint", "base_width"), results=["test_loss"]),
        Rows(name="the search", where={"role": [PROXY]}, complete=samples, constant=("width", "steps", "flops")),
    ]
    for label in facts["targets"]:
        target, name, of = facts["targets"][label], f"target '{label}'", {"target": [label]}
        alike = {**of, "role": [role for role in target["roles"] if role != "default_long"]}
        inits, is_scored = {"role": target["roles"], "seed": range(facts["inits"])}, target["changes"] == "both"
        size = ("width", "depth")
        rows.append(Rows(name=name, where=of, complete=inits, constant=size, results=scores[:n] * is_scored))
        rows.append(Rows(name=f"{name} (as long as the others)", where=alike, constant=("steps", "flops")))
        rows.append(Rows(name=name, where={**of, "role": JUDGED}, results=scores[n:] * is_scored))
    choices = {"role": (PROXY, *LABELS), "target": (PROXY, *facts["targets"])}
    schema = outcomes.table_schema("transfer", facts, scores, rows, ["role", "target", "sample", "seed"], **choices)
    return replace(schema, columns={**schema.columns, "target": "text", "depth": "whole number"})


def _lines(report: Targets) -> Iterable[str]:
    """What the search cost and how much cheaper one of its runs was; whether the tasks gain from pretraining."""
    for label in report.targets("both"):
        model, total = report.speedups(label)
        yield (
            f"{report.name(label)}: the search cost {report.search_cost(label):.3g} trainings of it "
            f"({report.search_cost(label, 'spent'):.3g} with diverged runs stopped); model speedup {model:.3g}x, total "
            f"speedup {total:.3g}x"
        )
        gains = [(heading(report.facts["scores"][gain.task]), gain) for gain in report.pretraining(label)]
        words = [f"{name} {gain.text}, {outcomes.difference_text(gain.difference)}" for name, gain in gains]
        if words:
            yield f"{report.name(label)}, does pretraining matter, after µTransfer: {'; '.join(words)}"


def _tables(report: Targets) -> Iterable[str]:
    """What every target reached and scored by every method, beside the paper's; whether pretraining matters."""
    facts, methods = report.facts, report.methods
    scores: Mapping[str, Mapping[str, str]] = facts["scores"]
    every = [trained for label in methods for trained in methods[label].values()]

    def theirs(*names: str) -> Cells[Trained]:
        published_as = {t: (facts["targets"][t.target]["published"], SETUPS.get(t.name, "")) for t in every}
        return outcomes.theirs(every, published_as.__getitem__, facts["table"], *names)

    def speedup(k: int, t: Trained) -> str:
        if t.name in COPIES:
            return f"{report.speedups(t.target)[k]:.3g}x"
        return "1x" if t.name == "default" else "-"

    start: Cells[Trained] = {"": lambda t: report.name(t.target), "method": lambda t: LABELS[t.name]}
    losses = dict(start)
    for k, name in enumerate(SPEEDUPS):
        losses |= {name: partial(speedup, k), **theirs(name)}
    losses |= {
        "steps": lambda t: str(t.runs["steps"].iloc[0]),
        "compute (target trainings)": lambda t: f"{t.cost:.2f}",
        "validation loss": lambda t: t.mean.brief(4),
        **theirs(*LOSS),
        "diverged": lambda t: f"{int(np.isinf(t.losses).sum())} of {len(t.losses)}",
    }
    yield f"## Pretraining beside {facts['table']} of the paper"
    yield outcomes.table(every, losses)
    yield (
        "Validation loss at the end of pretraining (nats), mean over the inits with its 95% t interval; beside it, the "
        "paper's test loss. Compute: in trainings of the target, the search included."
    )
    if scores:
        for name, score in scores.items():
            start |= {heading(score): partial(Trained.score, name=name), **theirs(score["published"])}
        for value in published.rows(table_or_figure=facts["table"]):
            start |= {} if value.metric in (*SPEEDUPS, *LOSS) else theirs(value.metric)
        yield f"## Fine-tuned, beside {facts['table']} of the paper"
        yield outcomes.table([t for label in report.targets("both") for t in methods[label].values()], start)
    if report.tasks:
        yield "## Does pretraining matter?"
        yield grid(("", "method", *HEADER), [
            (report.name(label), LABELS[role], *gain.cells(scores))
            for label in report.targets("both")
            for role in JUDGED
            for gain in report.pretraining(label, role)
        ])  # fmt: skip


def _describe(folder: Path) -> Described[Targets]:
    figure = FigureFolder.open(folder)
    report = Targets.of(figure.runs, figure["transfer"])
    facts, pool, best = report.facts, report.proxy, report.ranked[:TOP]
    proxy, default = facts["proxy"], dict(sorted(facts["default"].items()))
    words = [f"LR {2.0**v:.3g}" if name == "log2_lr" else f"{name} {v}" for name, v in default.items()]
    sizes = {"steps_per_sample": "steps", "d_model": "width", "layers": "depth"}
    ours = {metric: str(int(pool[column].iloc[0])) for metric, column in sizes.items()} | {"hp_samples": str(len(pool))}
    loss: Cells[int] = {"validation loss on the proxy": lambda i: number(pool.at[i, "test_loss"], 4)}
    return outcomes.describe(
        figure,
        report,
        {"losses": "Validation losses of the targets by method"},
        count=f"One search of {facts['samples']} samples at width {proxy['width']} and depth {proxy['depth']} (search "
        f"seed {facts['seed']}; {int((pool['status'] == 'diverged').sum())} diverged); its winner, sample {best[0]}, "
        f"and the default train every target from {counted([facts['inits']], 'init')}",
        comparisons=report.comparisons(*report.methods),
        lines=_lines(report),
        tables=_tables(report),
        selected=[
            f"Sample {best[0]}, the first of the best {len(best)}:",
            outcomes.sample_table(pool, best, facts["space"], loss),
            f"The SP default has {', '.join(words) or 'nothing of its own'}; the rest is as the experiment declares.",
        ],
        paper=[
            (f"the proxy's {value.metric.replace('_', ' ')}", value.value, ours[value.metric])
            for value in published.rows(table_or_figure="App F.3")
            if value.setup == "BERT-prototype" and value.metric in ours
        ],
        rule=RULE,
    )


def _draw(described: Described[Targets]) -> list[Path]:
    figure, report = described.folder, described.report
    facts, proxy, panels = report.facts, report.facts["proxy"], []
    caption = (
        f"Validation loss of the targets at the end of pretraining, from {counted([facts['inits']], 'init')}. One "
        f"search of {facts['samples']} samples on a proxy of width {proxy['width']} and depth {proxy['depth']}; its "
        "winner is copied in µP (µTransfer) and in SP (naive transfer). The default is trained in SP, once for the "
        "compute of the search too (longer). Verdict: by the mean difference, paired by init. Compute: in trainings of "
        "the target, the search included. There is one search: an interval is over inits only. After "
        f"{facts['table']} of the paper. {figure.source}"
    )
    for label, methods in report.methods.items():
        rows = [(t.name, t.losses, t.mean, t.cost, facts["samples"] * (t.name in COPIES)) for t in methods.values()]
        panels.append(outcomes.panel(report.name(label), METRIC, rows, report.comparisons(label)))
    signs = ("one init", "mean", "diverged")
    return dots(panels, signs, figure.path / "losses", caption, figure.banner)


def _claims(described: Described[Targets]) -> list[Claim]:
    """Table 6: better than the default and than naive transfer, on what is wider and deeper."""
    every = described.report.comparisons(*described.report.targets("both"))
    return [described.folder.claim(a.part("better" if a.other in SETUPS else None) for a in every)]


TRANSFER = Kind("transfer", _describe, _draw, _claims)
"""The figure is ``losses``. Reads ``runs.csv`` and ``provenance.json``, whose ``transfer`` has ``table`` ("Table 6"),
``default`` (hyperparameters) and the facts of `Targets.of`; raises `UserError` as that does.
"""
