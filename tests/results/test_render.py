"""Figures are redrawn from committed numbers: the same bytes, or an error that names the gap."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.render import SWEEP

FILES = {"lr_vs_loss.png", "lr_vs_loss.svg", "table.md"}


def test_redrawing_gives_the_same_bytes(runs, folder):
    """Otherwise every `figures` shows up as a change in version control, and a real one hides in it."""
    where = folder(runs)
    _, paths = SWEEP.redraw(where)
    assert {path.name for path in paths} == FILES
    first = {path.name: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    assert {path.name: path.read_bytes() for path in SWEEP.redraw(where)[1]} == first
    assert {path.name for path in where.iterdir()} == FILES | {"runs.csv", "provenance.json"}


def test_one_changed_loss_changes_table_and_figure(runs, folder):
    """If it did not, the figure would not come from the numbers."""
    before = {path.name: path.read_bytes() for path in SWEEP.redraw(folder(runs))[1]}
    runs.loc[(runs.width == 64) & (runs.log2_lr == -4) & (runs.seed == 0), "train_loss"] -= 0.001
    after = {path.name: path.read_bytes() for path in SWEEP.redraw(folder(runs))[1]}
    assert all(before[name] != after[name] for name in ("table.md", "lr_vs_loss.svg"))


def test_the_order_of_the_rows_does_not_matter(runs, folder):
    """A resumed sweep writes the same runs in another order."""
    before = [path.read_bytes() for path in SWEEP.redraw(folder(runs))[1]]
    assert [path.read_bytes() for path in SWEEP.redraw(folder(runs.sample(frac=1, random_state=1)))[1]] == before


def test_a_gap_is_named(runs, folder):
    """A figure over missing runs would be a claim about runs that nobody made."""
    one = runs.query("not (parametrization == 'mup' and width == 256 and log2_lr == -4 and seed == 1)")
    with pytest.raises(UserError, match=r"lacks 1 runs: \(mup, width 256, 2\^-4, seed 1\)"):
        SWEEP.redraw(folder(one))
    with pytest.raises(UserError, match=r"lacks 20 runs: \(mup, width 256, 2\^-10, seed 0\).* and 15 more"):
        SWEEP.redraw(folder(runs.query("not (parametrization == 'mup' and width == 256)")))
    with pytest.raises(UserError, match=r"lacks 12 runs: \(mup, width 64, 2\^0, seed 0\)"):
        SWEEP.redraw(folder(runs, log2_lrs=[-4, 0]))


def test_an_extended_grid_is_no_gap(runs, folder):
    """The sweep extends the grid of one width; the others need not follow."""
    extra = runs.query("parametrization == 'sp' and width == 1024 and log2_lr == -10").assign(log2_lr=-11.0)
    SWEEP.redraw(folder(pd.concat([runs, extra])))


def test_missing_and_broken_files_are_one_line_errors(runs, folder, tmp_path):
    """The person who types `figures` on a fresh clone must learn what to run, not read a traceback."""
    with pytest.raises(UserError, match=r"provenance.json does not exist; run the experiment first"):
        SWEEP.redraw(tmp_path / "nowhere")
    where = folder(runs)
    (where / "runs.csv").unlink()
    with pytest.raises(UserError, match=r"runs.csv does not exist"):
        SWEEP.redraw(where)
    where = folder(runs)
    (where / "runs.csv").write_text("")
    with pytest.raises(UserError, match=r"runs.csv is not a runs table"):
        SWEEP.redraw(where)
    (where / "runs.csv").write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(UserError, match=r"cannot read .*runs.csv"):
        SWEEP.redraw(where)
    where = folder(runs.drop(columns=["seed"]))
    with pytest.raises(UserError, match="lacks seed"):
        SWEEP.redraw(where)
    (where / "provenance.json").write_text("{")
    with pytest.raises(UserError, match=r"provenance.json is not JSON"):
        SWEEP.redraw(where)


def test_missing_provenance_is_named(runs, folder):
    """A figure that cannot say where its data came from is not drawn."""
    where = folder(runs)
    known = json.loads((where / "provenance.json").read_text())
    del known["data_is_real"]
    (where / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match="lacks data_is_real"):
        SWEEP.redraw(where)
    with pytest.raises(UserError, match=r"lacks paper.statement, paper.differs"):
        SWEEP.redraw(folder(runs, paper={"table_or_figure": "Figure 3"}))


def test_a_stand_in_is_said_everywhere(runs, folder):
    """Nobody may mistake a stand-in for CIFAR-10, in the picture or in the table."""
    real = [path.read_bytes() for path in SWEEP.redraw(folder(runs))[1]]
    assert not any(b"SYNTHETIC" in content for content in real)
    where = folder(runs, data_is_real=False, data_source="synthetic stand-in, not CIFAR-10")
    SWEEP.redraw(where)
    for name in ("lr_vs_loss.svg", "table.md"):
        assert "STAND-IN DATA, not CIFAR-10" in (where / name).read_text(encoding="utf-8")


def test_our_settings_come_from_the_runs(runs, folder):
    """Widths and base width beside the paper's are read off the table, not typed."""
    where = folder(runs)
    SWEEP.redraw(where)
    text = (where / "table.md").read_text(encoding="utf-8")
    assert "| SP and µP: widths | 256,512,1024,2048,4096,8192 | 64,256,1024 |" in text
    assert "| SP and µP: base width | 128 | 64 |" in text
