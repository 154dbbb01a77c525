"""Reading the files of a figure folder, with errors for the person at the keyboard."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.errors import UserError

KEYS = ("experiment", "title", "scale", "data_source", "data_is_real", "y_label", "paper")
PAPER_KEYS = ("table_or_figure", "statement", "differs")


def read(path: Path) -> str:
    """The text of ``path``. Raises `UserError` if it is missing or unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist; run the experiment first, it writes runs.csv and provenance.json."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path}: {error}; restore it from the repository or run the experiment again."
        ) from error


def read_runs(path: Path) -> pd.DataFrame:
    """The runs table. Raises `UserError` if it is missing or no CSV."""
    read(path)
    try:
        return pd.read_csv(path, dtype={"run_id": str})
    except (ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a runs table ({reason}); run the experiment again.") from error


def stand_in(provenance: Mapping[str, Any]) -> str:
    """What every figure and table of stand-in data says; empty for real data."""
    if provenance["data_is_real"]:
        return ""
    return f"STAND-IN DATA, not {provenance.get('stands_in_for', 'CIFAR-10')}"


def read_provenance(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """The JSON object at ``path``. Raises `UserError` if missing, malformed or without one of ``keys``."""
    try:
        provenance = json.loads(read(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error}); run the experiment again.") from error
    missing = [key for key in keys if key not in provenance] if isinstance(provenance, dict) else list(keys)
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}; run the experiment again.")
    return provenance


def read_figure(folder: Path, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    """The provenance of a figure folder: `KEYS`, with `PAPER_KEYS` in ``paper``, and ``keys``.

    Raises `UserError` if it is missing, malformed or lacks one.
    """
    provenance = read_provenance(folder / "provenance.json", (*KEYS, *keys))
    paper = provenance["paper"]
    absent = [key for key in PAPER_KEYS if not isinstance(paper, dict) or key not in paper]
    if absent:
        raise UserError(
            f"{folder / 'provenance.json'} lacks paper.{', paper.'.join(absent)}; run the experiment again."
        )
    return provenance
