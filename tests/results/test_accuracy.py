"""Accuracy of the copied learning rate, on planted tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mutransfer.errors import UserError
from mutransfer.results.sweep import accuracy_report

SEEDS = 4


def table(noise=0.002):
    """SP's best rate falls by one octave per width, µP's stays at -3; accuracy is 0.9 less 0.05 per octave off."""
    rng = np.random.default_rng(0)
    rows = []
    for name in ("sp", "mup"):
        for k, width in enumerate((8, 16, 32)):
            best = -3 - k * (name == "sp")
            for log2_lr in range(-6, 0):
                for seed in range(SEEDS):
                    far = abs(log2_lr - best)
                    accuracy = 0.9 - 0.05 * far + noise * rng.normal()
                    rows.append((name, width, float(log2_lr), seed, "finished", 1 + 0.1 * far, accuracy))
    names = ["parametrization", "width", "log2_lr", "seed", "status", "train_loss", "test_accuracy"]
    return pd.DataFrame(rows, columns=names)


def test_the_rate_of_the_smallest_width_is_copied():
    """SP loses 0.05 an octave at the widest, µP nothing; the interval is Student's over seeds."""
    report = accuracy_report(table(noise=0))
    assert report.row("sp", 32).log2_lr == report.row("mup", 32).log2_lr == -3
    assert report.row("sp", 32).copied.value == pytest.approx(0.8) and report.row("sp", 32).best_log2_lr == -5
    assert report.row("mup", 32).copied.value == pytest.approx(0.9) == report.row("sp", 32).best.value
    assert report.difference.value == pytest.approx(0.1) and report.verdict == "higher"
    runs = table()
    at = runs.query("parametrization == 'mup' and width == 32 and log2_lr == -3")["test_accuracy"]
    copied = accuracy_report(runs).row("mup", 32).copied
    assert (copied.low, copied.high) == pytest.approx(stats.t.interval(0.95, SEEDS - 1, at.mean(), stats.sem(at)))


@pytest.mark.parametrize(("change", "verdict"), [(-0.3, "lower"), (-0.1, "undecided"), (0.0, "higher")])
def test_the_verdict_is_that_of_the_interval(change, verdict):
    """µP moved down by what it was ahead, and by more: the seeds' spread decides."""
    runs = table()
    runs.loc[runs["parametrization"] == "mup", "test_accuracy"] += change
    assert accuracy_report(runs).verdict == verdict
    assert accuracy_report(runs[runs["seed"] == 0]).verdict == "undecided"  # one seed says nothing


def test_a_diverged_run_counts_as_zero_and_a_gap_is_refused():
    """At the copied rate SP's widest diverges in one seed; a rate or a seed that is missing is named."""
    runs = table(noise=0)
    lost = (runs["parametrization"] == "sp") & (runs["width"] == 32) & (runs["log2_lr"] == -3) & (runs["seed"] == 1)
    runs.loc[lost, ["status", "train_loss", "test_accuracy"]] = ["diverged", np.inf, np.nan]
    assert accuracy_report(runs).row("sp", 32).copied.value == pytest.approx(0.8 * (SEEDS - 1) / SEEDS)
    with pytest.raises(UserError, match=r"1 runs are missing: \(sp, width 32, 2\^-3, seed 1\)"):
        accuracy_report(runs[~lost])
    with pytest.raises(UserError, match=r"sp at width 32 lacks the copied learning rate 2\^-3"):
        accuracy_report(runs[~((runs["width"] == 32) & (runs["log2_lr"] == -3))])
    with pytest.raises(UserError, match="no mup"):
        accuracy_report(runs[runs["parametrization"] == "sp"])
    with pytest.raises(UserError, match="lacks test_accuracy"):
        accuracy_report(runs.drop(columns="test_accuracy"))


def test_the_section_has_ours_beside_the_published():
    """In per cent; the paper's 95.29 of Table 12 stands there."""
    report = accuracy_report(table(), "Table 12")
    (line,), text = report.lines, report.section
    assert "µP is higher: difference 10." in line and line in text
    assert "95.29 %" in text and "| µP | 32 | 2^-3.0 | 9" in text
