"""Table 6: what the winner of one search on a proxy is worth on targets that are wider and deeper.

The winner is copied to every target in µP (µTransfer) and in SP (naive transfer), beside the default, which is trained
as long as the others and once for the compute of the search too; each from several inits (seeds 0, 1, ...). `RULE` says
how they are judged, and was declared before any result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mutransfer.errors import UserError, unknown
from mutransfer.results import published
from mutransfer.results.draw.dots import POINTS, Column, Layout, Panel, dots, marks
from mutransfer.results.estimate import Array, Estimate, listing, number
from mutransfer.results.folder import Claim, Described, FigureFolder, Kind, Part, grid
from mutransfer.results.outcomes import (
    IN_MUP,
    RUN,
    Against,
    Verdict,
    by_sample,
    difference,
    difference_text,
    hyperparameters,
    inits_text,
    numbered,
    ordered,
    sample_table,
)
from mutransfer.results.schema import AGAIN, Rows, Schema, Type, require
from mutransfer.results.scores import HEADER, LEAST_INITS, PretrainingGain, heading, known_mean
from mutransfer.results.selection import COPIES, DEFAULT, JUDGED, PROXY, SCRATCH, ranking

RULE = (
    "The winner has the least final validation loss on the proxy, never the best score. A method's loss on a target is "
    "the mean over its inits, with a 95% t interval (+inf, diverged, if one init did). µTransfer is `better` if the "
    "whole 95% t interval of the mean difference, paired by init, lies below 0, `worse` if above, else `undecided`; a "
    "diverged run has +inf: `better` too where all inits of the other diverged and none of ours, `worse` the other way "
    f"round, `undecided` where only some did or both did, and always with fewer than {LEAST_INITS} inits. There is one "
    "search, copied once: the interval covers the targets' inits, not another search. Does pretraining matter: the "
    "score less that of the same model trained on the task from its init, paired by run; `yes` if the whole 95% t "
    f"interval lies above 0, `no` if none of it does, else `undecided`, also with fewer than {LEAST_INITS} runs. Model "
    "speedup: FLOPs of a step of the target over a step of the proxy; total speedup: of a whole training. Compute, in "
    "trainings of the target as planned, includes the whole search for µTransfer and naive transfer, though all "
    "targets share it; the longer default trains for as much."
)
LABELS = {"default": "SP default", "default_long": "longer SP default", "naive": "naive transfer"}
LABELS["mutransfer"] = "µTransfer"
TICKS = {"default": "SP\ndefault", "default_long": "default,\nlonger", "naive": "naive\ntransfer"}
TICKS["mutransfer"] = "µTransfer"
LOOKS = marks([*LABELS][::-1], "oDsP")
CHANGES = {"width": "only wider", "depth": "only deeper", "both": "wider and deeper"}
SETUPS = {"default": "Megatron default", "naive": "naive transfer", "mutransfer": "muTransfer"}
"""As published/values.csv names the methods; the paper has no longer default."""
LOSS, SPEEDUPS = "test loss", ("model speedup", "total speedup")
"""As it names the metrics that are no scores."""
TOP = 5
ON_DEPTH = (
    "The paper: µP's theory is about width. Over depth the transfer is empirical: it works for pre-LN Transformers "
    "(Figure 4; the init's standard deviation excepted, so it is held fixed in App. F.3), and is fragile for post-LN "
    "(Figure 17). A model that is only deeper has the base width, where SP and µP are one: naive transfer to it is the "
    "same run as µTransfer."
)
LAYOUT = Layout(
    stem="losses", rows=("mean", "µTransfer is", "compute"), trial="one init", center="mean", lost="diverged", size=4.5,
    title=POINTS, tall=1.9, foot=0.16, ticks=5,
)  # fmt: skip


def against(ours: Array, its: Array, other: str) -> Against:
    """µTransfer's losses [inits] against another method's of the same inits, +inf: diverged."""
    n, each = len(ours), difference(ours, its)
    lost, theirs = (int(np.isinf(x).sum()) for x in (ours, its))
    if not lost and not theirs:
        apart, reason = Estimate.mean(each), ""
    else:
        counts = {LABELS["mutransfer"]: lost, LABELS[other]: theirs}
        reason = listing([f"{name} diverged in {k} of {n} inits" for name, k in counts.items() if k])
        same = bool((each == each[0]).all())  # all -inf, +inf or, where both diverged, 0
        apart = Estimate(float(each[0]) if same else math.nan, reason=reason)
    verdict: Verdict = "undecided"
    if n < LEAST_INITS:
        reason = f"{inits_text(n)}, fewer than {LEAST_INITS}"
    elif apart.high < 0 or (theirs == n and not lost):
        verdict = "better"
    elif apart.low > 0 or (lost == n and not theirs):
        verdict = "worse"
    lower, tied = int((ours < its).sum()), int((ours == its).sum())
    return Against(other, "test_loss", lower, tied, n, apart, verdict, reason, unit="inits")


def apart_text(comparison: Against) -> str:
    """``-0.0123 [-0.0200, -0.0046] nats``, ``-inf``, a dash where only some diverged."""
    apart = comparison.difference
    if math.isnan(apart.value):
        return "-"
    return difference_text(apart, 4) + " nats" if math.isfinite(apart.value) else f"{apart.value:+}"


@dataclass(frozen=True, eq=False)
class Targets:
    """What the runs of one search and of the targets that got its winner show; `of` checks them."""

    runs: pd.DataFrame
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, runs: pd.DataFrame, facts: Any) -> Targets:
        """``facts``: provenance["transfer"]: ``samples``, ``inits`` and ``seed`` (whole numbers), ``space`` (whose keys
        are the hyperparameters), ``proxy`` (width and depth), ``targets`` (by label: width, depth, changes, roles and
        published) and ``scores`` (by column: label, metric, unit and published).

        Raises `UserError` as `Schema.check` does, if no sample has trained, and if what was copied is not the sample
        with the least validation loss.
        """
        schema = _schema(runs, facts)
        report = cls(schema.check(runs), facts)
        if not report.ranked:
            raise UserError(f"none of the {facts['samples']} samples has trained to the end: nothing was copied.")
        winner = {"sample": report.winner, **report.proxy.loc[report.winner, hyperparameters(facts)]}
        copies = Rows(name="what was copied from the winner by validation loss", where={"role": COPIES}, equal=winner)
        replace(schema, rows=(copies,)).check(report.runs)
        return report

    @cached_property
    def parts(self) -> dict[tuple[str, str], pd.DataFrame]:
        """(target, role) -> its runs, `by_sample`; a diverged one has no scores."""
        groups = self.runs.groupby(["target", "role"])
        return {(str(t), str(role)): by_sample(part, self.scores, math.nan) for (t, role), part in groups}

    @property
    def proxy(self) -> pd.DataFrame:
        """The search, by sample."""
        return self.parts[PROXY, PROXY]

    @cached_property
    def ranked(self) -> list[int]:
        """The samples that trained to the end, the least validation loss first, of a tie the lower number."""
        return ranking({int(str(i)): loss for i, loss in self.proxy["test_loss"].items()})

    @property
    def winner(self) -> int:
        """The sample that was copied."""
        return self.ranked[0]

    @property
    def scores(self) -> list[str]:
        """Columns of the scores: the tasks, and those that have one without pretraining."""
        return _score_columns(self.runs, self.facts)

    def targets(self, *changes: str) -> list[str]:
        """Labels of the targets that differ from the proxy in this way: ``width``, ``depth`` or ``both``."""
        return [label for label, target in self.facts["targets"].items() if target["changes"] in changes]

    def roles(self, label: str) -> list[str]:
        """Of a target, in the order in which they were planned."""
        return list(self.facts["targets"][label]["roles"])

    def changes(self, label: str) -> str:
        """In words."""
        return CHANGES[self.facts["targets"][label]["changes"]]

    def name(self, label: str) -> str:
        """``base (width 128, depth 4)``."""
        target = self.facts["targets"][label]
        return f"{label} (width {target['width']}, depth {target['depth']})"

    def losses(self, label: str, role: str) -> Array:
        """[inits] nats, +inf where it diverged."""
        return self.parts[label, role]["test_loss"].to_numpy(float)

    def training(self, label: str) -> float:
        """FLOPs of one training of the target as planned."""
        return float(self.parts[label, "default"]["flops"].iloc[0])

    def compute(self, label: str, role: str) -> float:
        """Of a method as planned, the search included, in trainings of the target."""
        own = float(self.parts[label, role]["flops"].iloc[0]) / self.training(label)
        return own + self.search_cost(label) * (role in COPIES)

    def search_cost(self, label: str, *, lived: bool = False) -> float:
        """The search in trainings of the target; ``lived``: a diverged run counts the steps it lived, else all."""
        return float(self.proxy["spent" if lived else "flops"].sum()) / self.training(label)

    def speedups(self, label: str) -> tuple[float, float]:
        """FLOPs of a step of the target over those of a step of the proxy, and of a whole training over a training."""
        total = self.training(label) / float(self.proxy["flops"].iloc[0])
        return total * float(self.proxy["steps"].iloc[0] / self.parts[label, "default"]["steps"].iloc[0]), total

    def comparisons(self, label: str) -> list[Against]:
        """µTransfer against every other method, the one next to it in the table first."""
        others = [role for role in self.roles(label) if role != "mutransfer"]
        ours = self.losses(label, "mutransfer")
        return [against(ours, self.losses(label, other), other) for other in others[::-1]]

    @property
    def tasks(self) -> list[str]:
        """Those with a score both after pretraining and from the init."""
        return [name for name in self.facts["scores"] if name + SCRATCH in self.scores]

    def pretraining(self, label: str, role: str = "mutransfer") -> list[PretrainingGain]:
        """For every one of `tasks`."""
        scores = self.parts[label, role]
        return [PretrainingGain.of(t, scores[t].to_numpy(), scores[t + SCRATCH].to_numpy()) for t in self.tasks]

    def ends(self, label: str, role: str) -> tuple[str, str]:
        """``4.6067 [4.3500, 4.8634]``, or that it diverged; ``1 of 3`` that did."""
        losses = self.losses(label, role)
        lost = int(np.isinf(losses).sum())
        return "diverged" if lost else Estimate.mean(losses).brief(4), f"{lost} of {len(losses)}"


def _score_columns(runs: pd.DataFrame, facts: Mapping[str, Any]) -> list[str]:
    return [*facts["scores"], *(name + SCRATCH for name in facts["scores"] if name + SCRATCH in runs.columns)]


def _schema(runs: pd.DataFrame, facts: Any) -> Schema:
    """Of the runs table. Raises `UserError` if a fact is missing or unknown."""
    what, of_target = "the provenance of the transfer", {"changes": str, "roles": list, "published": str}
    types: dict[str, type] = dict.fromkeys(("samples", "inits", "seed", "proxy.width", "proxy.depth"), int)
    require(facts, {**types, **dict.fromkeys(("space", "targets", "scores"), dict)}, what)
    types = {f"targets.{t}.{name}": kind for t in facts["targets"] for name, kind in of_target.items()}
    types |= {f"targets.{t}.{name}": int for t in facts["targets"] for name in ("width", "depth")}
    types |= {f"scores.{s}.{name}": str for s in facts["scores"] for name in ("label", "metric", "unit", "published")}
    require(facts, types, what)
    base, scores = {"base_width": facts["proxy"]["width"]}, _score_columns(runs, facts)
    search = {"parametrization": "mup", "target": PROXY, **{name: facts["proxy"][name] for name in ("width", "depth")}}
    rows = [
        Rows(name="the transfer", constant=("data_fingerprint",), equal=base, results=("test_loss",)),
        Rows(name="the search", where={"role": [PROXY]}, complete={"sample": range(facts["samples"])}, equal=search,
             constant=("steps", "flops")),
    ]  # fmt: skip
    for label, target in facts["targets"].items():
        if target["changes"] not in CHANGES:
            raise unknown(f"change of target '{label}'", target["changes"], CHANGES)
        if not {"default", "mutransfer"} <= {*target["roles"]} <= {*LABELS}:
            raise UserError(f"target '{label}' has the roles {', '.join(target['roles'])}; {AGAIN}")
        name, of = f"target '{label}'", {"target": [label]}
        model = {"width": target["width"], "depth": target["depth"]}
        inits = {"role": target["roles"], "seed": range(facts["inits"])}
        alike = {**of, "role": [role for role in target["roles"] if role != "default_long"]}
        rows.append(Rows(name=name, where=of, equal=model, complete=inits))
        rows.append(Rows(name=f"{name} (as long as the others)", where=alike, constant=("steps", "flops")))
        if target["changes"] == "both":
            tasks, scratch = tuple(facts["scores"]), tuple(scores[len(facts["scores"]) :])
            rows.append(Rows(name=name, where=of, results=tasks))
            rows.append(Rows(name=name, where={**of, "role": JUDGED}, results=scratch))
    for role in LABELS:
        equal: dict[str, Any] = {"parametrization": "mup" if role in IN_MUP else "sp"}
        equal |= {} if role in COPIES else {"sample": DEFAULT}
        rows.append(Rows(name=f"role '{role}'", where={"role": [role]}, equal=equal, may_be_none=True))
    columns: dict[str, Type] = {**RUN, "target": "text", "base_width": "whole number", "depth": "whole number"}
    columns |= {**dict.fromkeys(scores, "number"), **dict.fromkeys({*hyperparameters(facts)} - {"log2_lr"}, "value")}
    choices = {"role": (PROXY, *LABELS), "target": (PROXY, *facts["targets"])}
    key = ("role", "target", "sample", "seed")
    return Schema(name="the table of the transfer", columns=columns, choices=choices, key=key, rows=tuple(rows))


def _describe(folder: Path) -> Described[Targets]:
    figure = FigureFolder.open(folder, ("transfer",))
    facts = figure["transfer"]
    require(figure.provenance, {"transfer.table": str, "transfer.default": dict}, f"{folder / 'provenance.json'}")
    report = Targets.of(figure.runs, facts)
    main, apart = report.targets("both"), report.targets("width", "depth")
    summary = [_sentence(report, target, one) for target in [*main, *apart] for one in report.comparisons(target)]
    summary += [_cost_sentence(report, target) for target in main]
    summary += [_pretraining_sentence(report, target) for target in main if report.tasks]
    parts = [
        *figure.heading(_count(report)),
        "## Who wins",
        "\n".join(f"- {line}" for line in summary),
        f"## Pretraining beside {facts['table']} of the paper",
        _losses(report, main),
        "Validation loss at the end of pretraining (nats), mean over the inits with its 95% t interval; beside it, the "
        "paper's test loss. Compute: in trainings of the target, the search included.",
        "## µTransfer against each method",
        _comparisons(report, main),
        *([f"## Fine-tuned, beside {facts['table']} of the paper", *_scores(report, main)] if facts["scores"] else []),
        *(["## Does pretraining matter?", _pretraining(report, main)] if report.tasks else []),
        *(["## Transfer over width and depth apart", *_apart(report, apart)] if apart else []),
        "## What was copied",
        *_copied(report),
        "## The paper beside ours",
        _paper(report, figure["paper"]["statement"]),
        *numbered(figure["paper"]["differs"]),
        "## How to read it",
        RULE,
    ]
    pictures = {"losses": "Validation losses of the targets by method"}
    return Described(figure, report, "\n".join(summary), parts, pictures)


def _sentence(report: Targets, target: str, comparison: Against) -> str:
    """One verdict, for the terminal and the table."""
    apart = apart_text(comparison)
    words = f"{report.name(target)}, {report.changes(target)}: µTransfer against {LABELS[comparison.other]}"
    words += f": {comparison.text}; validation loss lower in {comparison.share_text}"
    return words + (f", mean difference {apart}" if apart != "-" else "")


def _cost_sentence(report: Targets, target: str) -> str:
    """What the search cost and how much cheaper one of its runs was."""
    model, total = report.speedups(target)
    return (
        f"{report.name(target)}: the search cost {report.search_cost(target):.3g} trainings of it "
        f"({report.search_cost(target, lived=True):.3g} with diverged runs stopped); model speedup {model:.3g}x, total "
        f"speedup {total:.3g}x"
    )


def _pretraining_sentence(report: Targets, target: str) -> str:
    """Whether the tasks gain from pretraining, after µTransfer."""
    words = []
    for task in report.pretraining(target):
        gain = f", {difference_text(task.difference)}" if task.runs else ""
        words.append(f"{heading(report.facts['scores'][task.task])} {task.text}{gain}")
    return f"{report.name(target)}, does pretraining matter, after µTransfer: {'; '.join(words)}"


def _count(report: Targets) -> str:
    facts, proxy = report.facts, report.facts["proxy"]
    lost = int((report.proxy["status"] == "diverged").sum())
    return (
        f"One search of {facts['samples']} samples at width {proxy['width']} and depth {proxy['depth']} (search seed "
        f"{facts['seed']}; {lost} diverged); its winner, sample {report.winner}, and the default train every target "
        f"from {inits_text(facts['inits'])}"
    )


def _losses(report: Targets, targets: Sequence[str]) -> str:
    """A row a target and method; beside speedups and loss, the paper's."""
    header = ["", "method", "model speedup", "the paper", "total speedup", "the paper", "steps"]
    header += ["compute (target trainings)", "validation loss", "the paper's test loss", "diverged"]
    rows = []
    for target in targets:
        for role in report.roles(target):
            cells = []
            for value, metric in zip(report.speedups(target), SPEEDUPS, strict=True):
                cells += [f"{value:.3g}x" if role in COPIES else "1x" * (role == "default") or "-"]
                cells += [_theirs(report, target, role, metric)]
            loss, lost = report.ends(target, role)
            cells += [str(report.parts[target, role]["steps"].iloc[0]), f"{report.compute(target, role):.2f}", loss]
            rows.append(
                [report.name(target), LABELS[role], *cells, _theirs(report, target, role, LOSS, "outcome"), lost]
            )
    return grid(header, rows)


def _theirs(report: Targets, target: str, role: str, *metrics: str) -> str:
    """The paper's value for the model that this target stands for; a dash if for none."""
    name, table = report.facts["targets"][target]["published"], report.facts["table"]
    values = published.by_setup(table_or_figure=table, experiment=name) if name else {}
    return published.text(values, SETUPS.get(role, ""), *metrics)


def _comparisons(report: Targets, targets: Sequence[str]) -> str:
    header = ("", "against", "µTransfer is lower in", "mean difference of the validation loss", "verdict")
    rows = [
        (report.name(target), LABELS[one.other], one.share_text, apart_text(one), f"**{one.text}**")
        for target in targets
        for one in report.comparisons(target)
    ]
    return grid(header, rows)


def _scores(report: Targets, targets: Sequence[str]) -> list[str]:
    """A row a target and method: each task beside the paper's where it has it, then the paper's other tasks."""
    scores, table = report.facts["scores"], report.facts["table"]
    ours = {score["published"] for score in scores.values()}
    every = dict.fromkeys(value.metric for value in published.rows(table_or_figure=table))
    others = [metric for metric in every if metric not in {*ours, *SPEEDUPS, LOSS, "outcome"}]
    header = ["", "method"]
    for score in scores.values():
        header += [heading(score), *([f"the paper's {score['published']}"] if score["published"] else [])]
    rows = []
    for target in targets:
        for role in report.roles(target):
            cells = []
            for name, score in scores.items():
                cells += [known_mean(report.parts[target, role][name].to_numpy()).brief()]
                cells += [_theirs(report, target, role, score["published"])] if score["published"] else []
            cells += [_theirs(report, target, role, metric) for metric in others]
            rows.append([report.name(target), LABELS[role], *cells])
    header += [f"the paper's {metric}" for metric in others]
    words = "Means over the inits that did not diverge, with 95% t intervals. They decide nothing above."
    words += " The last columns: what the paper fine-tuned on and we did not." * bool(others)
    return [grid(header, rows), words]


def _pretraining(report: Targets, targets: Sequence[str]) -> str:
    """A row a target and task, after µTransfer and after the default."""
    rows = [
        (report.name(target), LABELS[role], *task.cells(report.facts["scores"]))
        for target in targets
        for role in JUDGED
        for task in report.pretraining(target, role)
    ]
    return grid(("", "method", *HEADER), rows)


def _apart(report: Targets, targets: Sequence[str]) -> list[str]:
    """What is only wider, and what is only deeper, with what the paper says of it."""
    header = ["", "what changes", "method", "validation loss", "diverged", "µTransfer is"]
    rows = []
    for target in targets:
        verdicts = {one.other: one.text for one in report.comparisons(target)}
        for role in report.roles(target):
            cells = [*report.ends(target, role), verdicts.get(role, "")]
            rows.append([report.name(target), report.changes(target), LABELS[role], *cells])
    return [grid(header, rows), ON_DEPTH]


def _copied(report: Targets) -> list[str]:
    """The best samples, the winner first, and the default."""
    pool, best = report.proxy, report.ranked[:TOP]
    loss = {"validation loss on the proxy": lambda i: number(pool.at[i, "test_loss"], 4)}
    default = ", ".join(
        f"LR {2.0**value:.3g}" if name == "log2_lr" else f"{name} {value}"
        for name, value in sorted(report.facts["default"].items())
    )
    return [
        f"Sample {report.winner}, the first of the best {len(best)}:",
        sample_table(pool, best, ordered(report.facts["space"]), loss),
        f"The SP default has {default or 'nothing of its own'}, and is otherwise as the experiment declares it.",
    ]


def _paper(report: Targets, statement: str) -> str:
    """The paper's conclusion beside ours, and the size of its search where values.csv has it."""
    claims = "; ".join(
        f"{target}: {', '.join(f'{one.verdict} against {LABELS[one.other]}' for one in report.comparisons(target))}"
        for target in report.targets("both")
    )
    rows = [("conclusion", statement, f"µTransfer: {claims}")]
    sizes = {"steps_per_sample": "steps", "d_model": "width", "layers": "depth"}
    ours = {metric: int(report.proxy[column].iloc[0]) for metric, column in sizes.items()}
    ours["hp_samples"] = len(report.proxy)
    for value in published.rows(table_or_figure="App F.3"):
        if value.setup == "BERT-prototype" and value.metric in ours:
            rows.append((f"the proxy's {value.metric.replace('_', ' ')}", value.value, str(ours[value.metric])))
    return grid(("", f"the paper, {report.facts['table']}", "ours"), rows)


def _draw(described: Described[Targets]) -> list[Path]:
    figure, report = described.folder, described.report
    facts, proxy = report.facts, report.facts["proxy"]
    caption = (
        f"Validation loss of the targets at the end of pretraining, {inits_text(facts['inits'])} each. One search of "
        f"{facts['samples']} samples on a proxy of width {proxy['width']} and depth {proxy['depth']}; its winner, by "
        "validation loss, is copied in µP (µTransfer) and in SP (naive transfer). Default: in SP, as long as the "
        "others, and longer, for the compute of the search too. Verdict: by the difference of µTransfer's losses and "
        f"the method's, paired by init, with at least {LEAST_INITS}. Compute: in trainings of the target, the search "
        f"included. There is one search: an interval is over inits only. After {facts['table']} of the paper. "
        f"{figure.source}"
    )
    labels = [*report.targets("both"), *report.targets("width", "depth")]
    panels = [_panel(report, label, "validation loss (nats)" * (k % 2 == 0)) for k, label in enumerate(labels)]
    return dots(panels, LAYOUT, out=figure.path, caption=caption, banner=figure.banner)


def _panel(report: Targets, label: str, y_label: str) -> Panel:
    verdicts = {one.other: one.verdict for one in report.comparisons(label)}
    columns = []
    for role in report.roles(label):
        losses = report.losses(label, role)
        mean = Estimate.mean(losses)
        cells = (number(mean.value, 3), verdicts.get(role, ""), f"{report.compute(label, role):.2f}")
        columns.append(Column(TICKS[role], losses, mean, LOOKS[role], cells))
    return Panel(f"{report.name(label)}: {report.changes(label)}", tuple(columns), y_label, "diverged")


def _claims(described: Described[Targets]) -> list[Claim]:
    """Table 6: better than the default and than naive transfer, on what is wider and deeper."""
    report, parts = described.report, []
    for target in report.targets("both"):
        for one in report.comparisons(target):
            expected = "better" if one.other in SETUPS else None
            what = f"{target}, µTransfer against {LABELS[one.other]}"
            parts.append(Part.of(what, f"{one.text}, {apart_text(one)}", one.verdict, expected))
    return [described.folder.claim(parts)]


TRANSFER = Kind("transfer", _describe, _draw, _claims)
"""The figure is ``losses``. Reads only ``runs.csv`` (columns of every table of searches, ``target``, ``base_width``,
``depth``, one a hyperparameter, one a score) and ``provenance.json``, whose ``transfer`` has ``table`` ("Table 6"),
``default`` (hyperparameters) and the facts of `Targets.of`.

Raises `UserError` if a file is missing or malformed, or as `Targets.of` does: it names what is missing.
"""
