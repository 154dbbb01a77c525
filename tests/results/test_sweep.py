"""A sweep in its figure and table: what the report says, digit for digit; and what the copied rate is worth."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from scipy import stats

from mutransfer.errors import UserError
from mutransfer.results import lr_figure, transfer_report
from mutransfer.results.draw.curves import loss_limits
from mutransfer.results.draw.style import palette
from mutransfer.results.frame import Curves
from mutransfer.results.sweep import RULE, SWEEP, accuracy


def drawn(words, runs: pd.DataFrame, out: Path, **kwargs: object) -> str:
    """Every text of the figure of ``runs``."""
    paths = lr_figure(runs, transfer_report(runs), out, caption="Data: here.", **kwargs)
    return "\n".join(words(paths[1]))


def test_the_figure_says_what_the_report_says_and_hides_nothing(runs, words, tmp_path):
    """Verdict and interval in words; divergence, in all seeds or in some, and an edge, where they happened alone."""
    said = drawn(words, runs, tmp_path)
    there = ("SP: drifts", "\N{MINUS SIGN}0.7", "µP: stable", "octaves per doubling", "Data: here.", "diverged")
    assert all(word in said for word in (*there, "95% interval"))
    assert not any(word in said for word in ("faint", "edge", "STAND-IN"))
    at = (runs.width == 64) & (runs.log2_lr == -2) & (runs.seed == 0)
    lost = runs.assign(train_loss=runs.train_loss.where(~at, np.inf))
    assert "faint" in drawn(words, lost, tmp_path, banner="STAND-IN DATA")
    assert "STAND-IN DATA" in words(tmp_path / "lr_vs_loss.svg")
    calm = drawn(words, runs[np.isfinite(runs.train_loss) & (runs.seed == 0)].query("-7 <= log2_lr < -4"), tmp_path)
    assert "diverged" not in calm and "95% interval" not in calm
    assert re.search(r"optimum on the edge of the grid at width .*1024 \(low\)", calm)


def test_the_loss_axis_shows_the_basins():
    """A plateau at 50 nats must not squeeze basins of 0.1 nats into a line; every optimum stays inside."""
    x = np.arange(-10.0, 0.0)
    wide = np.minimum(1.3 + 0.05 * (x + 5) ** 2, 1.8)[None]
    wide[:, -2:] = 50.0
    low, high = loss_limits([Curves(64, x, wide), Curves(128, x, wide + 0.3)])
    assert low < 1.3 and 1.6 < high < 3
    assert loss_limits([Curves(64, x, wide)], ceiling=1.6)[1] < 1.7


def test_the_users_matplotlib_settings_are_left_alone_and_do_not_matter(runs, tmp_path):
    """Nor does a figure change what the user draws next. 200 dpi at a page's width; less is unreadable in print."""
    report = transfer_report(runs)
    paths = lr_figure(runs, report, tmp_path / "new" / "folder", caption="c")
    assert [path.name for path in paths] == ["lr_vs_loss.png", "lr_vs_loss.svg"]
    assert imread(paths[0]).shape[1] == 1440
    plain = [path.read_bytes() for path in paths]
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        assert [path.read_bytes() for path in lr_figure(runs, report, tmp_path, caption="c")] == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_the_palette_is_ordered_in_greyscale():
    """Printed without colour, wider must still be lighter, by steps that can be seen."""
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in palette(6)]
    assert (np.diff(grey) > 0.05).all() and grey[-1] < 0.85


def table(folder, runs, **changes) -> str:
    """The Markdown that ``runs`` give."""
    return SWEEP.describe(folder(runs, **changes)).text


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_the_table_is_the_report_digit_for_digit_beside_the_paper(runs, folder):
    """A loss that diverged is a word, the rule stands there; widths beside the paper's are read off the runs."""
    paper = {"table_or_figure": "Figure 3", "statement": "it moves", "differs": "all of it", "ours": {"epochs": "2"}}
    text = table(folder, runs, paper=paper)
    for o in transfer_report(runs).optima.itertuples():
        line = row(text, f"| {'SP' if o.parametrization == 'sp' else 'µP'} | {o.width} |")
        assert f"2^{o.log2_lr:.2f}" in line and f"{o.loss:.4f} ± {o.loss_se:.4f}" in line and "(n = 2)" in line
    assert "diverged" in row(text, "| SP | 1024 |") and "inf]" not in text and "nan" not in text
    assert RULE in text and "| SP and µP: epochs | 20 | 2 |" in text
    assert "| conclusion | it moves | SP drifts" in text and "What differs in ours: all of it" in text
    assert "| SP and µP: widths | 256,512,1024,2048,4096,8192 | 64,256,1024 |" in text
    assert "| SP and µP: base width | 128 | 64 |" in text


def test_what_is_not_known_has_its_reason_in_the_table(runs, folder):
    """A bare dash would look like an oversight, an interval beside an edge like knowledge of what lies beyond."""
    text = table(folder, runs)
    assert "SP: L(inf): the fit needs 4 widths, there are 3." in text
    assert "edge of the grid" not in text.split("## How to read it")[0]
    alone = table(folder, runs[runs.seed == 0])
    assert "one seed gives no interval" in alone and "±" not in alone.split("## Does it transfer?")[0]
    assert "on the low edge of the grid" in table(folder, runs.query("log2_lr >= -7"))
    lacking = runs.query("width == 64 or log2_lr < -4 or parametrization == 'mup'")
    assert "not run" in row(table(folder, lacking), "| SP | 256 |")


@pytest.mark.parametrize(
    ("rows", "facts", "words"),
    [
        ("parametrization == 'sp' or width != 256 or log2_lr != -4 or seed == 0", {},
         "lacks 1 runs, first parametrization mup, width 256, log2_lr -4, seed 1;"),
        ("parametrization == 'sp' or width != 256", {},
         "lacks 20 runs, first parametrization mup, width 256, log2_lr -10, seed 0;"),
        ("seed >= 0", {"log2_lrs": [-4, 0]}, "lacks 12 runs, first parametrization mup, width 64, log2_lr 0, seed 0;"),
    ],
)  # fmt: skip
def test_a_gap_is_named_and_an_extended_grid_is_none(runs, folder, rows, facts, words):
    """A figure over missing runs would be a claim about runs that nobody made."""
    with pytest.raises(UserError, match=words):
        SWEEP.describe(folder(runs.query(rows), **facts))
    extra = runs.query("parametrization == 'sp' and width == 1024 and log2_lr == -10").assign(log2_lr=-11.0)
    SWEEP.describe(folder(pd.concat([runs, extra])))


SEEDS = 4


def scored(noise=0.002):
    """SP's best rate falls by one octave per width, µP's stays at -3; accuracy is 0.9 less 0.05 per octave off."""
    rng = np.random.default_rng(0)
    rows = []
    for name, k, log2_lr, seed in product(("sp", "mup"), range(3), range(-6, 0), range(SEEDS)):
        far = abs(log2_lr + 3 + k * (name == "sp"))
        score = 0.9 - 0.05 * far + noise * rng.normal()
        rows.append((name, 8 * 2**k, float(log2_lr), seed, "finished", 1 + 0.1 * far, score))
    names = ["parametrization", "width", "log2_lr", "seed", "status", "train_loss", "test_accuracy"]
    return pd.DataFrame(rows, columns=names)


def test_the_rate_of_the_smallest_width_is_copied():
    """SP loses 0.05 an octave at the widest, µP nothing; the interval is Student's; the paper's 95.29 stands beside."""
    shown = accuracy(scored(noise=0), "Table 12")
    assert "| SP | 32 | 2^-3.0 | 80.00 [80.00, 80.00] | 90.00 [90.00, 90.00] at 2^-5.0 |" in shown.section
    assert "| µP | 32 | 2^-3.0 | 90.00 [90.00, 90.00] | 90.00 [90.00, 90.00] at 2^-3.0 |" in shown.section
    assert "µP is higher: difference 10.00 [10.00, 10.00] points (4 seeds)" in shown.lines[0]
    assert shown.lines[0] in shown.section and "95.29 %" in shown.section and shown.claim.verdict == "reproduced"
    runs = scored()
    at = 100 * runs.query("parametrization == 'mup' and width == 32 and log2_lr == -3")["test_accuracy"]
    low, high = stats.t.interval(0.95, SEEDS - 1, at.mean(), stats.sem(at))
    assert f"µP {at.mean():.2f} [{low:.2f}, {high:.2f}]%" in accuracy(runs).lines[0]


def test_the_verdict_on_accuracy_is_that_of_the_interval():
    """µP moved down by what it was ahead, and by more: the seeds' spread decides, and one seed says nothing."""
    for change, verdict in ((-0.3, "lower"), (-0.1, "undecided"), (0.0, "higher")):
        runs = scored()
        runs.loc[runs["parametrization"] == "mup", "test_accuracy"] += change
        assert f"µP is {verdict}:" in accuracy(runs).lines[0]
    assert "µP is undecided:" in accuracy(runs[runs["seed"] == 0]).lines[0]


def test_a_diverged_run_has_no_accuracy_and_a_gap_is_refused():
    """At the copied rate SP's widest diverges in one seed, which counts as 0; a rate or a seed that lacks is named."""
    runs = scored(noise=0)
    lost = (runs["parametrization"] == "sp") & (runs["width"] == 32) & (runs["log2_lr"] == -3) & (runs["seed"] == 1)
    runs.loc[lost, ["status", "train_loss", "test_accuracy"]] = ["diverged", np.inf, np.nan]
    assert f"| SP | 32 | 2^-3.0 | {80 * (SEEDS - 1) / SEEDS:.2f} [" in accuracy(runs).section
    for lacking, words in (
        (runs[~lost], "1 runs are missing, first parametrization sp, width 32, log2_lr -3, seed 1;"),
        (runs[(runs["width"] != 32) | (runs["log2_lr"] != -3)], r"sp at width 32 lacks the copied learning rate 2\^-3"),
        (runs[runs["parametrization"] == "sp"], "no mup"),
        (runs.drop(columns="test_accuracy"), "finished runs have no test_accuracy"),
        (runs.assign(test_accuracy=np.nan), "finished runs have no test_accuracy"),
    ):
        with pytest.raises(UserError, match=words):
            accuracy(lacking)
