"""The table and the figure of one search whose winner is copied to larger targets: Table 6 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.reporting.pretraining import HEADER, heading, pretraining_cells, short
from mutransfer.reporting.transfer_figure import transfer_figure
from mutransfer.results import published
from mutransfer.results.claims import Claim, Part, paper_claim
from mutransfer.results.estimate import Estimate, number
from mutransfer.results.files import read_figure, read_runs, stand_in
from mutransfer.results.repeated_searches import difference_text
from mutransfer.results.sections import Described, Kind, heading_section, joined
from mutransfer.results.table import grid
from mutransfer.results.transfer_runs import COPIES, JUDGED
from mutransfer.results.transfer_table import CHANGES, LABELS, LEAST_INITS, RULE, Against, TransferTable

KEYS = ("table", "default")
"""Of provenance["transfer"], beside what `mutransfer.results.transfer_runs` needs."""
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
PICTURES = {"losses": "Validation losses of the targets by method"}
"""The one, and what it is."""


def _draw(folder: Path, described: Described[Any]) -> list[Path]:
    provenance, report = described.provenance, described.report
    source = f"{provenance['title']}, scale '{provenance['scale']}'. Data: {provenance['data_source']}."
    caption = f"{_caption(report)} After {report.facts['table']} of the paper. {source}"
    return transfer_figure(report, out=folder, caption=caption, banner=stand_in(provenance))


def describe_transfer(folder: Path) -> Described[TransferTable]:
    """What `render_transfer` writes in ``table.md``; raises as it does."""
    provenance = read_figure(folder, ("transfer",))
    facts = provenance["transfer"]
    if missing := [key for key in KEYS if not isinstance(facts, dict) or key not in facts]:
        raise UserError(f"{folder / 'provenance.json'} lacks transfer.{', transfer.'.join(missing)}; run it again.")
    report = TransferTable(read_runs(folder / "runs.csv"), facts)
    main, apart = report.targets("both"), report.targets("width", "depth")
    summary = [sentence(report, target, one) for target in [*main, *apart] for one in report.comparisons(target)]
    summary += [cost_sentence(report, target) for target in main]
    summary += [pretraining_sentence(report, target) for target in main if report.tasks]
    differs = [one.strip().rstrip(".") for one in provenance["paper"]["differs"].split("; ") if one.strip()]
    parts = [
        *heading_section(provenance, _count(report)),
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
        _paper(report, provenance),
        *(["What differs in ours:", "\n".join(f"{k}. {one}." for k, one in enumerate(differs, 1))] if differs else []),
        "## How to read it",
        RULE,
    ]
    return Described(provenance, report, "\n".join(summary), joined(parts), PICTURES)


def sentence(report: TransferTable, target: str, one: Against) -> str:
    """One verdict, for the terminal and the table."""
    changes, difference = CHANGES[report.facts["targets"][target]["changes"]], one.difference_text
    return (
        f"{report.name(target)}, {changes}: µTransfer against {LABELS[one.other]}: {one.text}; validation loss lower "
        f"in {one.lower} of {_inits(one.inits)}" + f", mean difference {difference}" * (difference != "-")
    )


def cost_sentence(report: TransferTable, target: str) -> str:
    """What the search cost and how much cheaper one of its runs was."""
    return (
        f"{report.name(target)}: the search cost {report.search_cost(target):.3g} trainings of it "
        f"({report.search_cost(target, lived=True):.3g} with diverged runs stopped); model speedup "
        f"{report.model_speedup(target):.3g}x, total speedup {report.total_speedup(target):.3g}x"
    )


def pretraining_sentence(report: TransferTable, target: str) -> str:
    """Whether the tasks gain from pretraining, after µTransfer."""
    words = (
        f"{heading(report.facts['scores'][one.task])} {one.text}"
        + f", {difference_text(one.difference)}" * bool(one.runs)
        for one in report.pretraining(target)
    )
    return f"{report.name(target)}, does pretraining matter, after µTransfer: {'; '.join(words)}"


def _inits(count: int) -> str:
    return f"{count} init{'s' * (count != 1)}"


def _count(report: TransferTable) -> str:
    facts, proxy = report.facts, report.facts["proxy"]
    lost = int((report.table.proxy["status"] == "diverged").sum())
    return (
        f"One search of {facts['samples']} samples at width {proxy['width']} and depth {proxy['depth']} (search seed "
        f"{facts['seed']}; {lost} diverged); its winner, sample {report.winner}, and the default train every target "
        f"from {_inits(facts['inits'])}"
    )


def _caption(report: TransferTable) -> str:
    facts, proxy = report.facts, report.facts["proxy"]
    return (
        f"Validation loss of the targets at the end of pretraining, {_inits(facts['inits'])} each. One search of "
        f"{facts['samples']} samples on a proxy of width {proxy['width']} and depth {proxy['depth']}; its winner, by "
        "validation loss, is copied in µP (µTransfer) and in SP (naive transfer). Default: in SP, as long as the "
        "others, and longer, for the compute of the search too. Verdict: by the difference of µTransfer's losses and "
        f"the method's, paired by init, with at least {LEAST_INITS}. Compute: in trainings of the target, the search "
        "included. There is one search: an interval is over inits only."
    )


def _losses(report: TransferTable, targets: Sequence[str]) -> str:
    """A row a target and method; beside speedups and loss, the paper's."""
    header = ["", "method", "model speedup", "the paper", "total speedup", "the paper", "steps"]
    header += ["compute (target trainings)", "validation loss", "the paper's test loss", "diverged"]
    rows = []
    for target in targets:
        theirs, speedups = _published(report, target), (report.model_speedup(target), report.total_speedup(target))
        for role, one in report.outcomes[target].items():
            cells = []
            for value, metric in zip(speedups, SPEEDUPS, strict=True):
                cells += [f"{value:.3g}x" if role in COPIES else "1x" * (role == "default") or "-"]
                cells += [_text(theirs, role, metric)]
            cells += [str(one.steps), f"{one.compute / report.training(target):.2f}", _loss(one.loss)]
            cells += [_text(theirs, role, LOSS, "outcome"), f"{one.diverged} of {len(one.losses)}"]
            rows.append([report.name(target), one.label, *cells])
    return grid(header, rows)


def _loss(one: Estimate) -> str:
    return "diverged" if one.value == float("inf") else short(one, 4)


def _published(report: TransferTable, target: str) -> dict[tuple[str, str], published.PublishedValue]:
    """(setup, metric) -> the paper's value for the model that this target stands for; {} if for none."""
    name, table = report.facts["targets"][target]["published"], report.facts["table"]
    found = published.rows(table_or_figure=table, experiment=name) if name else ()
    return {(one.setup, one.metric): one for one in found}


def _text(theirs: Mapping[tuple[str, str], published.PublishedValue], role: str, *metrics: str) -> str:
    """The first of ``metrics`` that the paper has; a dash if none."""
    for metric in metrics:
        if one := theirs.get((SETUPS.get(role, ""), metric)):
            mark = "" if one.confidence == "VERIFIED" else f" ({one.confidence.lower()})"
            return one.value + (one.unit if one.unit == "x" else "") + mark
    return "-"


def _comparisons(report: TransferTable, targets: Sequence[str]) -> str:
    header = ("", "against", "µTransfer is lower in", "mean difference of the validation loss", "verdict")
    rows = [
        (report.name(target), LABELS[one.other], f"{one.lower} of {_inits(one.inits)}", one.difference_text,
         f"**{one.verdict}**" + one.text.removeprefix(one.verdict))
        for target in targets
        for one in report.comparisons(target)
    ]  # fmt: skip
    return grid(header, rows)


def _scores(report: TransferTable, targets: Sequence[str]) -> list[str]:
    """A row a target and method: each task beside the paper's where it has it, then the paper's other tasks."""
    scores, table = report.facts["scores"], report.facts["table"]
    ours = {score["published"] for score in scores.values()}
    every = dict.fromkeys(one.metric for one in published.rows(table_or_figure=table))
    others = [metric for metric in every if metric not in {*ours, *SPEEDUPS, LOSS, "outcome"}]
    header = ["", "method"]
    for score in scores.values():
        header += [heading(score), *([f"the paper's {score['published']}"] if score["published"] else [])]
    rows = []
    for target in targets:
        theirs = _published(report, target)
        for role, one in report.outcomes[target].items():
            cells = []
            for name, score in scores.items():
                cells += [short(one.score(name))]
                cells += [_text(theirs, role, score["published"])] if score["published"] else []
            cells += [_text(theirs, role, metric) for metric in others]
            rows.append([report.name(target), one.label, *cells])
    header += [f"the paper's {metric}" for metric in others]
    words = "Means over the inits that did not diverge, with 95% t intervals. They decide nothing above."
    words += " The last columns: what the paper fine-tuned on and we did not." * bool(others)
    return [grid(header, rows), words]


def _pretraining(report: TransferTable, targets: Sequence[str]) -> str:
    """A row a target and task, after µTransfer and after the default."""
    rows = [
        (report.name(target), LABELS[role], *pretraining_cells(one, report.facts["scores"]))
        for target in targets
        for role in JUDGED
        for one in report.pretraining(target, role)
    ]
    return grid(("", "method", *HEADER), rows)


def _apart(report: TransferTable, targets: Sequence[str]) -> list[str]:
    """What is only wider, and what is only deeper, with what the paper says of it."""
    header = ["", "what changes", "method", "validation loss", "diverged", "µTransfer is"]
    rows = []
    for target in targets:
        verdicts = {one.other: one.text for one in report.comparisons(target)}
        changes = CHANGES[report.facts["targets"][target]["changes"]]
        for role, one in report.outcomes[target].items():
            cells = [_loss(one.loss), f"{one.diverged} of {len(one.losses)}", verdicts.get(role, "")]
            rows.append([report.name(target), changes, one.label, *cells])
    return [grid(header, rows), ON_DEPTH]


def _copied(report: TransferTable) -> list[str]:
    """The best samples, the winner first, and the default."""
    space, pool = report.facts["space"], report.table.proxy
    names = sorted(space, key=lambda name: (name != "lr", name))
    best = report.table.ranked[:TOP]
    header = ["sample", *(f"{name}, of {space[name]}" for name in names), "validation loss on the proxy"]
    rows = [[str(i), *(_value(pool.loc[i], name) for name in names), number(pool.at[i, "test_loss"], 4)] for i in best]
    default = ", ".join(
        f"LR {2.0**value:.3g}" if name == "log2_lr" else f"{name} {value}"
        for name, value in sorted(report.facts["default"].items())
    )
    return [
        f"Sample {report.winner}, the first of the best {len(best)}:",
        grid(header, rows),
        f"The SP default has {default or 'nothing of its own'}, and is otherwise as the experiment declares it.",
    ]


def _value(run: pd.Series, name: str) -> str:
    value = 2.0 ** run["log2_lr"] if name == "lr" else run[name]
    return value if isinstance(value, str) else f"{value:.6g}"


def _paper(report: TransferTable, provenance: Mapping[str, Any]) -> str:
    """The paper's conclusion beside ours, and the size of its search where values.csv has it."""
    claims = "; ".join(
        f"{target}: {', '.join(f'{one.verdict} against {LABELS[one.other]}' for one in report.comparisons(target))}"
        for target in report.targets("both")
    )
    rows = [("conclusion", provenance["paper"]["statement"], f"µTransfer: {claims}")]
    steps = {name: int(report.table.proxy[name].iloc[0]) for name in ("steps", "width", "depth")}
    ours = {"hp_samples": len(report.table.proxy), "steps_per_sample": steps["steps"], "d_model": steps["width"]}
    ours["layers"] = steps["depth"]
    for one in published.rows(table_or_figure="App F.3"):
        if one.setup == "BERT-prototype" and one.metric in ours:
            rows.append((f"the proxy's {one.metric.replace('_', ' ')}", one.value, str(ours[one.metric])))
    return grid(("", f"the paper, {report.facts['table']}", "ours"), rows)


def _claims(provenance: Mapping[str, Any], report: TransferTable) -> list[Claim]:
    """Table 6: better than the default and than naive transfer, on what is wider and deeper."""
    parts = [
        Part.of(
            f"{target}, µTransfer against {LABELS[one.other]}",
            f"{one.text}, {one.difference_text}",
            one.verdict,
            "better" if one.other in SETUPS else None,
        )
        for target in report.targets("both")
        for one in report.comparisons(target)
    ]
    return [paper_claim(provenance, parts)]


TRANSFER = Kind("transfer", describe_transfer, _draw, _claims)
"""A folder with ``losses.png``, ``.svg`` and ``table.md`` in ``folder``.

Reads only ``runs.csv`` (columns of `mutransfer.results.transfer_runs`, one a hyperparameter, one a score) and
``provenance.json``; the same files give the same bytes. The provenance has the keys of `render` and ``transfer``:
an object with ``table`` ("Table 6"), ``default`` (hyperparameters) and the facts of `TransferRuns`.
``paper.differs`` is a list of notes, parted by "; ".

Raises `UserError` if a file is missing or malformed, or as `TransferTable` does: it names what is missing.
"""
