"""What trained models are worth beside their loss: BLEU by width with translated sentences, and fine-tuned tasks.

`PRETRAINING_RULE` says when pretraining matters, and was declared before any result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.estimate import Array, Estimate, number
from mutransfer.results.folder import grid
from mutransfer.results.outcomes import difference_text
from mutransfer.results.selection import SCRATCH

BLEUS = {"bleu_valid": "validation BLEU", "bleu_test": "test BLEU"}
LEAST_INITS = 3
HEADER = ("task", "pretrained", "from the init", "difference, paired", "does pretraining matter?")
PRETRAINING_RULE = (
    "Does pretraining matter: a task's score (median over the seeds of its fine-tuning) less that of the same model "
    "trained on the task from its init, paired by run; `yes` if the whole 95% t interval of the mean lies above 0, "
    f"`no` if none of it does, else `undecided`, also with fewer than {LEAST_INITS} runs."
)
Scores = Mapping[str, Mapping[str, str]]
"""Column -> how the score is called: label, metric and unit."""


@dataclass(frozen=True)
class PretrainingGain:
    """A task's score after pretraining and from the init, over the inits of one model."""

    task: str
    runs: int
    pretrained: Estimate
    scratch: Estimate
    difference: Estimate
    verdict: Literal["yes", "no", "undecided"]
    reason: str = ""

    @classmethod
    def of(cls, task: str, pretrained: Array, scratch: Array) -> PretrainingGain:
        """Scores [inits] of the same runs, NaN where they diverged."""
        n, gain = int(np.isfinite(pretrained).sum()), known_mean(pretrained - scratch)
        reason = f"{n} run{'s' * (n != 1)}, fewer than {LEAST_INITS}" if n < LEAST_INITS else ""
        verdict: Literal["yes", "no", "undecided"] = "yes" if gain.low > 0 else "no" if gain.high <= 0 else "undecided"
        verdict = "undecided" if reason else verdict
        return cls(task, n, known_mean(pretrained), known_mean(scratch), gain, verdict, reason)

    @property
    def text(self) -> str:
        """``yes`` or ``undecided (2 runs, fewer than 3)``."""
        return self.verdict + (f" ({self.reason})" if self.reason else "")

    def cells(self, scores: Scores) -> tuple[str, ...]:
        """Below `HEADER`."""
        apart = difference_text(self.difference) if self.runs else "-"
        return heading(scores[self.task]), self.pretrained.brief(), self.scratch.brief(), apart, f"**{self.text}**"


def known_mean(values: Array) -> Estimate:
    """Over the inits that did not diverge, whose score is NaN."""
    known = values[np.isfinite(values)]
    return Estimate.mean(known) if len(known) else Estimate(math.nan, reason="all inits diverged")


def heading(score: Mapping[str, str]) -> str:
    """``SST-2, accuracy (%)``."""
    unit = f" ({score['unit']})" if score["unit"] else ""
    return f"{score['label']}, {score['metric']}{unit}"


def pretraining(scores: Scores, runs: pd.DataFrame) -> list[tuple[int, PretrainingGain]]:
    """(width, task by task) of a figure whose runs were fine-tuned; empty for one without ``scores``.

    Raises `UserError` if the runs table lacks a score.
    """
    results = []
    for name in scores:
        if missing := [column for column in (name, name + SCRATCH) if column not in runs.columns]:
            raise UserError(f"the runs table lacks {', '.join(missing)}; run the figure again.")
        for width, part in runs.groupby("width"):
            values = (part[column].to_numpy(float) for column in (name, name + SCRATCH))
            results.append((int(str(width)), PretrainingGain.of(name, *values)))
    return sorted(results, key=lambda result: result[0])


def pretraining_section(provenance: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """For the table; nothing for a figure without ``scores`` in its provenance. Raises as `pretraining` does."""
    scores: Scores = provenance.get("scores", {})
    rows = [(str(width), str(task.runs), *task.cells(scores)) for width, task in pretraining(scores, runs)]
    table = grid(("width", "runs", *HEADER), rows)
    return ["## Does pretraining matter?", table, PRETRAINING_RULE] if rows else []


def pretraining_lines(provenance: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """For the terminal."""
    scores: Scores = provenance.get("scores", {})
    return [
        f"width {width}, does pretraining matter: {heading(scores[task.task])}: {task.text}, "
        f"{task.pretrained.brief()} against {task.scratch.brief()} from the init"
        for width, task in pretraining(scores, runs)
    ]


def translations_section(provenance: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """Of ``runs`` with `BLEUS`, and provenance["translations"] (width, seed, samples: source, reference, translation).

    Nothing for an experiment that translates nothing. Raises `UserError` if one of the two is there without the other.
    """
    shown = provenance.get("translations")
    if missing := [name for name in BLEUS if name not in runs.columns]:
        if shown:
            raise UserError(f"the runs table lacks {', '.join(missing)}; run the figure again.")
        return []
    if not shown:
        raise UserError("provenance.json lacks translations; run the figure again.")
    rows = [
        (f"{run.width:g}", str(run.seed), f"{run.log2_lr:g}", f"{run.steps:g}", *(_bleu(run, name) for name in BLEUS))
        for run in runs.sort_values(["width", "seed"]).itertuples()
    ]
    return [
        "## BLEU",
        grid(("width", "seed", "log2 LR", "steps", *BLEUS.values()), rows),
        f"BLEU: `{provenance.get('signature', '')}`.",
        f"## The first sentences of the test part, translated by width {shown['width']}, seed {shown['seed']}",
        grid(("source", "reference", "translation"), shown["samples"]),
    ]


def translations_lines(runs: pd.DataFrame) -> list[str]:
    """For the terminal: the best run by validation BLEU."""
    if "bleu_valid" not in runs.columns or runs["bleu_valid"].isna().all():
        return []
    best = runs.loc[runs["bleu_valid"].idxmax()]
    scores = ", ".join(f"{words} {number(float(best[name]))}" for name, words in BLEUS.items())
    return [f"best by validation BLEU: width {best['width']}, seed {best['seed']}: {scores}"]


def _bleu(run: Any, name: str) -> str:
    value = float(getattr(run, name))
    return "diverged" if math.isnan(value) else number(value)
