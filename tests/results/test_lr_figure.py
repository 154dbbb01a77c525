"""The figure says what the report says, and hides nothing."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from mutransfer.results import transfer_report
from mutransfer.results.draw.lr_figure import loss_limits, lr_figure, title
from mutransfer.results.draw.style import palette
from mutransfer.results.frame import Curves


def words(runs: pd.DataFrame, out: Path, **kwargs: object) -> str:
    """The SVG of ``runs``; matplotlib leaves every text in it as a comment."""
    lr_figure(runs, transfer_report(runs), **{"caption": "Data: here.", "out": out, **kwargs})
    return (out / "lr_vs_loss.svg").read_text(encoding="utf-8")


def test_both_files_and_their_size(runs, tmp_path):
    """200 dpi at the width of a two-column paper; smaller is unreadable in print."""
    paths = lr_figure(runs, transfer_report(runs), caption="c", out=tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["lr_vs_loss.png", "lr_vs_loss.svg"]
    assert imread(paths[0]).shape[1] == 1440


def test_titles_carry_the_verdict_in_words(runs, tmp_path):
    """A reader who sees only the figure must get the claim with its interval."""
    report = transfer_report(runs)
    assert title(report.parametrizations["sp"]).startswith("SP: drifts, \N{MINUS SIGN}0.7")
    svg = words(runs, tmp_path)
    assert "SP: drifts" in svg and "µP: stable" in svg and "octaves per doubling" in svg and "Data: here." in svg


def test_divergence_is_shown_and_only_where_it_happened(runs, tmp_path):
    """Runs that blew up are part of the result; a figure without any needs no strip for them."""
    assert "diverged" in words(runs, tmp_path)
    assert "diverged" not in words(runs[np.isfinite(runs.train_loss)].query("log2_lr < -4"), tmp_path)


def test_partial_divergence_is_marked(runs, tmp_path):
    """One seed of two diverged is another fact than both."""
    assert "faint" not in words(runs, tmp_path)
    at = (runs.width == 64) & (runs.log2_lr == -2) & (runs.seed == 0)
    assert "faint" in words(runs.assign(train_loss=runs.train_loss.where(~at, np.inf)), tmp_path)


def test_an_edge_optimum_is_said_in_the_figure(runs, tmp_path):
    """A star at the end of a curve looks like an optimum; it is only a bound."""
    assert "edge" not in words(runs, tmp_path)
    assert "optimum on the edge of the grid at width 1024 (low)" in words(runs.query("log2_lr >= -7"), tmp_path)


def test_one_seed_shows_no_interval(runs, tmp_path):
    """No spread is known from one seed, and the legend must not promise one."""
    assert "95% interval" in words(runs, tmp_path)
    assert "95% interval" not in words(runs[runs.seed == 0], tmp_path)


def test_the_banner_stands_on_the_figure(runs, tmp_path):
    """Figures travel without their captions: the warning has to be in the picture."""
    assert "SYNTHETIC" not in words(runs, tmp_path)
    assert "STAND-IN" in words(runs, tmp_path, banner="STAND-IN DATA")


def test_the_loss_axis_shows_the_basins():
    """A plateau at 50 nats must not squeeze basins of 0.1 nats into a line; every optimum stays inside."""
    x = np.arange(-10.0, 0.0)
    wide = np.minimum(1.3 + 0.05 * (x + 5) ** 2, 1.8)[None]
    wide[:, -2:] = 50.0
    low, high = loss_limits([Curves(64, x, wide), Curves(128, x, wide + 0.3)])
    assert low < 1.3 and 1.6 < high < 3
    assert loss_limits([Curves(64, x, wide)], ceiling=1.6)[1] < 1.7


def test_the_users_matplotlib_settings_are_left_alone_and_do_not_matter(runs, tmp_path):
    """A committed figure must not depend on a matplotlibrc, nor change what the user draws next."""
    plain = words(runs, tmp_path)
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "svg.hashsalt": "x"}):
        assert words(runs, tmp_path) == plain
        assert matplotlib.rcParams["font.size"] == 20


def test_the_palette_is_ordered_in_greyscale():
    """Printed without colour, wider must still be lighter, by steps that can be seen."""
    grey = [np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in palette(6)]
    assert (np.diff(grey) > 0.05).all() and grey[-1] < 0.85
