"""What trained models are worth beside their loss: BLEU by width with translated sentences, and fine-tuned tasks.

`PRETRAINING_RULE` says when pretraining matters, and was declared before any result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

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
Said = tuple[list[str], list[str]]
"""Lines for the terminal, and the parts of the table."""


class PretrainingGain(NamedTuple):
    """A task's score after pretraining and from the init, over the inits of one model."""

    task: str
    runs: int
    pretrained: Estimate
    scratch: Estimate
    difference: Estimate

    @classmethod
    def of(cls, task: str, pretrained: Array, scratch: Array) -> PretrainingGain:
        """Scores [inits] of the same runs, NaN where they diverged."""
        means = (known_mean(values) for values in (pretrained, scratch, pretrained - scratch))
        return cls(task, int(np.isfinite(pretrained).sum()), *means)

    @property
    def text(self) -> str:
        """``yes``, ``no``, ``undecided`` or ``undecided (2 runs, fewer than 3)``."""
        if self.runs < LEAST_INITS:
            return f"undecided ({self.runs} run{'s' * (self.runs != 1)}, fewer than {LEAST_INITS})"
        return "yes" if self.difference.low > 0 else "no" if self.difference.high <= 0 else "undecided"

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
    return f"{score['label']}, {score['metric']}" + (f" ({score['unit']})" if score["unit"] else "")


def pretraining(provenance: Mapping[str, Any], runs: pd.DataFrame) -> Said:
    """Width by width, of a figure with ``scores`` (`Scores`) in its provenance; nothing of another.

    Raises `UserError` if the runs table lacks a score.
    """
    scores: Scores = provenance.get("scores", {})
    _require(runs, [column for name in scores for column in (name, name + SCRATCH)])
    lines, rows = [], []
    for width, part in runs.groupby("width"):
        for name, score in scores.items():
            gain = PretrainingGain.of(name, *(part[column].to_numpy(float) for column in (name, name + SCRATCH)))
            rows.append((str(width), str(gain.runs), *gain.cells(scores)))
            lines.append(
                f"width {width}, does pretraining matter: {heading(score)}: {gain.text}, "
                f"{gain.pretrained.brief()} against {gain.scratch.brief()} from the init"
            )
    table = grid(("width", "runs", *HEADER), rows)
    return lines, ["## Does pretraining matter?", table, PRETRAINING_RULE] if rows else []


def translations(provenance: Mapping[str, Any], runs: pd.DataFrame) -> Said:
    """Of ``runs`` with `BLEUS`, and provenance["translations"] (width, seed, samples: source, reference, translation).

    Nothing for an experiment that translates nothing. Raises `UserError` if the table lacks a BLEU.
    """
    shown = provenance.get("translations")
    if not shown:
        return [], []
    _require(runs, [*BLEUS])
    texts = runs[[*BLEUS]].map(lambda bleu: "diverged" if math.isnan(bleu) else number(bleu))
    rows = [
        (f"{run.width:g}", str(run.seed), f"{run.log2_lr:g}", f"{run.steps:g}", *texts.loc[run.Index])
        for run in runs.sort_values(["width", "seed"]).itertuples()
    ]
    lines = []
    if runs["bleu_valid"].notna().any():
        best = runs.loc[runs["bleu_valid"].idxmax()]
        told = ", ".join(f"{words} {texts.at[best.name, name]}" for name, words in BLEUS.items())
        lines = [f"best by validation BLEU: width {best['width']}, seed {best['seed']}: {told}"]
    return lines, [
        "## BLEU",
        grid(("width", "seed", "log2 LR", "steps", *BLEUS.values()), rows),
        f"BLEU: `{provenance.get('signature', '')}`.",
        f"## The first sentences of the test part, translated by width {shown['width']}, seed {shown['seed']}",
        grid(("source", "reference", "translation"), shown["samples"]),
    ]


def _require(runs: pd.DataFrame, columns: list[str]) -> None:
    if missing := [name for name in columns if name not in runs.columns]:
        raise UserError(f"the runs table lacks {', '.join(missing)}; run the figure again.")
