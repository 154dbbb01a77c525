"""What trained translation models are worth: BLEU by width, and sentences that the best one translates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mutransfer.errors import UserError
from mutransfer.results.estimate import number
from mutransfer.results.table import grid

BLEUS = {"bleu_valid": "validation BLEU", "bleu_test": "test BLEU"}


def translations_section(provenance: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """Of ``runs`` with `BLEUS`, and provenance["translations"] (width, seed, samples: source, reference, translation).

    Nothing for an experiment that translates nothing. Raises `UserError` if one of the two is there without the other.
    """
    found = provenance.get("translations")
    if missing := [name for name in BLEUS if name not in runs.columns]:
        if found:
            raise UserError(f"the runs table lacks {', '.join(missing)}; run the figure again.")
        return []
    if not found:
        raise UserError("provenance.json lacks translations; run the figure again.")
    rows = [
        (f"{run.width:g}", str(run.seed), f"{run.log2_lr:g}", f"{run.steps:g}", *(_score(run, name) for name in BLEUS))
        for run in runs.sort_values(["width", "seed"]).itertuples()
    ]
    samples = [tuple(map(_cell, row)) for row in found["samples"]]
    return [
        "## BLEU",
        grid(("width", "seed", "log2 LR", "steps", *BLEUS.values()), rows),
        f"BLEU: `{provenance.get('signature', '')}`.",
        f"## The first sentences of the test part, translated by width {found['width']}, seed {found['seed']}",
        grid(("source", "reference", "translation"), samples),
    ]


def translations_lines(runs: pd.DataFrame) -> list[str]:
    """For the terminal: the best run by validation BLEU."""
    if "bleu_valid" not in runs.columns or runs["bleu_valid"].isna().all():
        return []
    best = runs.loc[runs["bleu_valid"].idxmax()]
    scores = ", ".join(f"{words} {number(float(best[name]))}" for name, words in BLEUS.items())
    return [f"best by validation BLEU: width {best['width']}, seed {best['seed']}: {scores}"]


def _score(run: Any, name: str) -> str:
    value = float(getattr(run, name))
    return "diverged" if value != value else number(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
