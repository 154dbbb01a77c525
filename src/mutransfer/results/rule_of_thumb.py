"""Section 6.1's rule of thumb, beside the runs: which part of it they reached, and what held there.

The rule: for language modelling, transfer works if width >= 256, depth >= 4, batch >= 32, sequence length >= 128
and steps >= 5000. Its exceptions: the init std across depth, and anything across depth in post-LN. It is read, before
any result, as a claim on a µP panel *all of whose runs* (so its smallest line) meet every condition; about any
other panel it claims nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from mutransfer.results.estimate import listing

LEAST = {"width": 256, "depth": 4, "batch": 32, "length": 128, "steps": 5000}
"""Column of the runs table -> least value at which the paper says that transfer works."""
NAMES = {"length": "sequence length"}


@dataclass(frozen=True)
class Condition:
    """One condition of the rule and the values that the runs have."""

    name: str
    least: int
    values: tuple[float, ...]
    """Ascending; empty if the runs table does not record it."""

    @property
    def reached(self) -> tuple[float, ...]:
        """The values that meet the condition."""
        return tuple(value for value in self.values if value >= self.least)

    def __str__(self) -> str:
        name = NAMES.get(self.name, self.name)
        if not self.values:
            return f"{name} >= {self.least}: not recorded"
        low, high = self.values[0], self.values[-1]
        have = f"{low:g}" if low == high else f"{low:g}..{high:g}"
        if not self.reached:
            return f"{name} >= {self.least}: out of reach ({have})"
        if len(self.reached) == len(self.values):
            return f"{name} >= {self.least}: met by all runs ({have})"
        which = listing([f"{value:g}" for value in self.reached])
        return f"{name} >= {self.least}: {have}, only {which} reach{'es' * (len(self.reached) == 1)} it"


def conditions(runs: pd.DataFrame) -> tuple[Condition, ...]:
    """The five conditions against the columns width, depth, batch, length and steps of ``runs``."""
    rows = []
    for name, least in LEAST.items():
        values = pd.to_numeric(runs[name], errors="coerce").dropna() if name in runs.columns else ()
        rows.append(Condition(name, least, tuple(sorted({float(value) for value in values}))))
    return tuple(rows)


def exception(x_name: str, line_name: str, norm: str) -> str:
    """The rule's own exception that covers this panel, in words; empty if none. ``norm`` is "pre" or "post"."""
    if line_name != "depth":
        return ""
    if norm == "post":
        return "depth in post-LN"
    return "init std across depth" if x_name.lower().startswith("init") else ""


def panel_line(runs: pd.DataFrame, verdict: str, *, x_name: str, line_name: str) -> str:
    """What the verdict on the panel that ``runs`` are says about the rule; one sentence without its name.

    Post-LN is read off a column ``norm`` ("post") or ``variant`` ("post_ln").
    """
    norm = "post" if any(_is_post(runs[name]) for name in ("norm", "variant") if name in runs.columns) else "pre"
    unmet = [condition for condition in conditions(runs) if len(condition.reached) < max(len(condition.values), 1)]
    excepted = exception(x_name, line_name, norm)
    if verdict == "undecided":
        return "undecided, so it says nothing about the rule"
    if unmet:
        values = [f"from {condition.values[0]:g}" if condition.values else "not recorded" for condition in unmet]
        words = [NAMES.get(condition.name, condition.name) for condition in unmet]
        names = listing([f"{word} {value}" for word, value in zip(words, values, strict=True)])
        if verdict == "transfers":
            return f"transfers although outside of the rule's range ({names})"
        return f"does not transfer, outside of the rule's range ({names})"
    if excepted:
        return f"{verdict}, inside the rule's range but one of its exceptions ({excepted})"
    return f"{verdict}, inside the rule's range: {'as' if verdict == 'transfers' else 'not as'} the rule says"


def markdown(runs: pd.DataFrame, panels: Iterable[tuple[str, str]] = ()) -> str:
    """The conditions, then the panels (name, `panel_line`), as Markdown lists."""
    lines = [f"- {condition}" for condition in conditions(runs)]
    lines += [""] * bool(panels := list(panels))
    return "\n".join([*lines, *(f"- {name}: {text}" for name, text in panels)])


def _is_post(column: pd.Series) -> bool:
    return bool(column.astype(str).str.startswith("post").any())
