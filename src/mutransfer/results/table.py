"""The numbers behind a figure, in Markdown, with the paper's beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mutransfer.files import write
from mutransfer.results.drift import RULE, DriftResult
from mutransfer.results.estimate import Estimate, label, number, power, span
from mutransfer.results.published import PublishedValue
from mutransfer.results.transfer import TransferReport, interval_text

NAME = "table.md"


def write_table(
    report: TransferReport,
    published: Sequence[PublishedValue],
    *,
    out: Path,
    heading: str,
    notes: Sequence[str] = (),
    statement: str = "",
    differs: str = "",
    ours: Mapping[str, str] | None = None,
    sections: Sequence[str] = (),
) -> Path:
    """Write ``out/table.md``: optima, drift and verdict, the paper beside ours, and the rule; returns its
    path. The keywords are those of `table_text`.
    """
    text = table_text(
        report,
        published,
        heading=heading,
        notes=notes,
        statement=statement,
        differs=differs,
        ours=ours,
        sections=sections,
    )
    return write(out / NAME, text.encode())


def table_text(
    report: TransferReport,
    published: Sequence[PublishedValue],
    *,
    heading: str,
    notes: Sequence[str] = (),
    statement: str = "",
    differs: str = "",
    ours: Mapping[str, str] | None = None,
    sections: Sequence[str] = (),
) -> str:
    """The table of a sweep in Markdown.

    ``published`` are the paper's values of this table or figure, ``ours`` our value for any of their metrics,
    ``statement`` what the paper concludes, ``differs`` what is not the same in ours, ``notes`` lines under
    the heading (data source, scale, warnings), ``sections`` what else the folder shows.
    """
    parts = [
        f"# {heading}",
        *notes,
        "## Best learning rate of every width",
        _optima(report),
        "## Does it transfer?",
        _drift(report),
    ]
    parts.append("\n".join(f"- {result.sentence}" for result in report.results))
    reasons = [f"- {label(r.name)}: {what}: {reason}." for r in report.results for what, reason in _unknown(r)]
    if reasons:
        parts += ["Not known, and why:", "\n".join(reasons)]
    if published or statement:
        parts += ["## The paper beside ours", _paper(report, published, statement, ours or {})]
        if differs:
            parts.append(f"What differs in ours: {differs}")
    parts += [*sections, "## How to read it", _reading(report)]
    return "\n\n".join(parts) + "\n"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is escaped, so that it cannot open a column."""
    cells = [[str(cell).replace("|", r"\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def seed_text(optima: pd.DataFrame) -> str:
    """``3 seeds``, or ``2 to 3 seeds`` where the widths differ."""
    low, high = int(optima["seeds"].min()), int(optima["seeds"].max())
    count = str(low) if low == high else f"{low} to {high}"
    return f"{count} seed{'' if high == 1 else 's'}"


def _optima(report: TransferReport) -> str:
    header = (
        "",
        "width",
        "LR*",
        "95% interval of log2 LR*",
        "loss at the best grid LR",
        "regret of the transferred LR",
    )
    rows = []
    for o in report.optima.itertuples():
        spread = "" if pd.isna(o.loss_se) else f" ± {number(o.loss_se, 4)}"
        loss = f"{number(o.loss, 4)}{spread} at {power(o.grid_log2_lr, 1)} (n = {o.seeds})"
        regret = "not run" if pd.isna(o.regret) else number(o.regret, 4)
        if not pd.isna(o.regret_low):
            regret += f" {span(o.regret_low, o.regret_high, 4)}"
        rows.append((label(o.parametrization), str(o.width), power(o.log2_lr), interval_text(o), loss, regret))
    return grid(header, rows)


def _drift(report: TransferReport) -> str:
    header = ("", "verdict", "drift (octaves per doubling)", "E (octaves)", "kappa", "L(inf)", "R(inf)")
    rows = []
    for r in report.results:
        used = "" if r.kappa_widths == len(r.widths) else f" ({r.kappa_widths} of {len(r.widths)} widths)"
        cells = [
            _short(r.slope, 2),
            _short(r.E, 2),
            _short(r.kappa, 2) + used,
            _short(r.l_inf, 3),
            _short(r.r_inf, 3),
        ]
        rows.append((label(r.name), f"**{r.verdict}**", *cells))
    return grid(header, rows)


def _short(estimate: Estimate, digits: int) -> str:
    value = number(estimate.value, digits)
    return value if math.isnan(estimate.value) else f"{value} {span(estimate.low, estimate.high, digits)}"


def _unknown(result: DriftResult) -> list[tuple[str, str]]:
    """What is missing in a row of the drift table, with the reason."""
    named = {"drift": result.slope, "E": result.E, "kappa": result.kappa, "L(inf)": result.l_inf}
    named |= {"R(inf)": result.r_inf, "regret": result.regret}
    return [(name, estimate.reason) for name, estimate in named.items() if estimate.reason]


def _paper(report: TransferReport, published: Sequence[PublishedValue], statement: str, ours: Mapping[str, str]) -> str:
    source = published[0].table_or_figure if published else "paper"
    claims = "; ".join(
        f"{label(r.name)} {r.verdict}, {number(r.slope.value)} {span(*r.interval)} octaves per doubling"
        for r in report.results
    )
    rows = [("conclusion", statement, claims)] if statement else []
    return grid(("", f"the paper, {source}", "ours"), [*rows, *published_rows(published, ours)])


def published_rows(published: Sequence[PublishedValue], ours: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(what, the paper's value, ours) of each, and how sure the paper's is where it was not read in its text."""
    rows = []
    for p in published:
        name = f"{p.setup}: {p.metric}".replace("_", " ").replace("muP", "µP").replace("muT", "µT")
        mark = "" if p.confidence == "VERIFIED" else f" ({p.confidence.lower()})"
        rows.append((name, f"{p.value} {p.unit}".strip() + mark, ours.get(p.metric, "-")))
    return rows


def _reading(report: TransferReport) -> str:
    return (
        f"{RULE} Regret: mean loss at the best grid learning rate of the smallest width, less the width's "
        "own least mean loss. E: root-mean-square distance of log2 LR* from that straight line. kappa: how "
        "fast the cost of missing LR* by an octave grows with width (slope in log2-log2; positive: wider "
        "models forgive less). L(inf): least loss extrapolated to infinite width; R(inf): L(inf) less the "
        "smallest one of the parametrizations. E, kappa and R(inf) follow Kalra and Barkeshli 2026 "
        "(arXiv:2605.21486); the formulas are our reading. Losses are means ± standard errors over "
        f"{seed_text(report.optima)}; the bootstrap resamples a seed's whole curve as one."
    )
