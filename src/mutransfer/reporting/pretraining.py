"""Does pretraining matter? Scores of tasks from the pretrained model beside those from its init."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.estimate import Estimate, number, span
from mutransfer.results.repeated_searches import difference_text
from mutransfer.results.table import grid
from mutransfer.results.transfer_runs import SCRATCH
from mutransfer.results.transfer_table import LEAST_INITS, Pretraining

HEADER = ("task", "pretrained", "from the init", "difference, paired", "does pretraining matter?")
PRETRAINING_RULE = (
    "Does pretraining matter: a task's score (median over the seeds of its fine-tuning) less that of the same model "
    "trained on the task from its init, paired by run; `yes` if the whole 95% t interval of the mean lies above 0, "
    f"`no` if none of it does, else `undecided`, also with fewer than {LEAST_INITS} runs."
)


def heading(score: Mapping[str, str]) -> str:
    """``SST-2, accuracy (%)``."""
    unit = f" ({score['unit']})" if score["unit"] else ""
    return f"{score['label']}, {score['metric']}{unit}"


def pretraining_cells(one: Pretraining, scores: Mapping[str, Mapping[str, str]]) -> tuple[str, ...]:
    """Below `HEADER`."""
    verdict = f"**{one.verdict}**" + one.text.removeprefix(one.verdict)
    difference = difference_text(one.difference) if one.runs else "-"
    return heading(scores[one.task]), short(one.pretrained), short(one.scratch), difference, verdict


def short(one: Estimate, digits: int = 2) -> str:
    """``1.23 [1.20, 1.26]``, the value alone where there is no interval, a dash where there is none."""
    return number(one.value, digits) + ("" if one.low != one.low else f" {span(one.low, one.high, digits)}")


def found_pretraining(provenance: Mapping[str, Any], runs: pd.DataFrame) -> dict[int, list[Pretraining]]:
    """By width, of a figure whose runs were fine-tuned; empty for one whose runs were not.

    Raises `UserError` if provenance.json names a score that the runs table lacks.
    """
    found: dict[int, list[Pretraining]] = {}
    for name in provenance.get("scores", {}):
        if missing := [column for column in (name, name + SCRATCH) if column not in runs.columns]:
            raise UserError(f"the runs table lacks {', '.join(missing)}; run the figure again.")
        for width, part in runs.groupby("width"):
            scores = (part[column].to_numpy(float) for column in (name, name + SCRATCH))
            found.setdefault(int(str(width)), []).append(Pretraining.of(name, *scores))
    return found


def pretraining_section(provenance: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    found = found_pretraining(provenance, runs)
    if not found:
        return []
    rows = [
        (str(width), str(one.runs), *pretraining_cells(one, provenance["scores"]))
        for width, every in found.items()
        for one in every
    ]
    return ["## Does pretraining matter?", grid(("width", "runs", *HEADER), rows), PRETRAINING_RULE]


def pretraining_lines(provenance: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """For the terminal."""
    return [
        f"width {width}, does pretraining matter: {heading(provenance['scores'][one.task])}: {one.text}, "
        f"{short(one.pretrained)} against {short(one.scratch)} from the init"
        for width, every in found_pretraining(provenance, runs).items()
        for one in every
    ]
