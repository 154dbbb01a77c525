"""Landscape figures are redrawn from committed numbers: the same bytes, every panel's verdict, or a named gap."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.reporting.landscape import LANDSCAPE
from mutransfer.reporting.panels import legend_labels
from mutransfer.results.panels import Axis

WORDS = ["constant", "cosine", "inverse sqrt", "linear"]
LINES = {"width": (32, 64, 128), "depth": (2, 4)}


def flat(text):
    """One line."""
    return " ".join(text.split())


@pytest.fixture
def landscape(folder):
    """Write a 2 x 2 figure: µP transfers in width, the learning rate does not in depth; ``more`` changes provenance."""

    def write(change=lambda runs: runs, seeds=2, edit=lambda panels: panels, **more):
        rng, rows, panels = np.random.default_rng(0), [], {}
        for row, (name, lines) in enumerate(LINES.items()):
            for column, (x_name, xs) in enumerate((("learning rate", np.arange(-9.0, -2.0)), ("LR schedule", WORDS))):
                key = f"{name}/{x_name}"
                panels[key] = {
                    "row": row, "column": column, "x_label": x_name, "x_name": x_name, "line_name": name,
                    "parametrization": "mup", "is_log2": column == 0, "heading": x_name, "row_heading": name,
                }  # fmt: skip
                for k, line in enumerate(lines):
                    for place, x in enumerate(xs):
                        off = place - (2 + 2 * k * (key == "depth/learning rate"))
                        for seed in range(seeds):
                            loss = 2.5 - 0.1 * k + 0.05 * off**2 + 0.003 * rng.normal()
                            loss = np.inf if off > 3 and column == 0 else loss
                            status = "diverged" if np.isinf(loss) else "finished"
                            rows.append((key, x, line, seed, "mup", line if name == "width" else 64, status, loss))
        columns = ["panel", "x", "line", "seed", "parametrization", "width", "status", "train_loss"]
        runs = change(pd.DataFrame(rows, columns=columns))
        paper = {"table_or_figure": "Figure 4", "statement": "All four stay.", "differs": "narrower."}
        return folder(runs, paper=paper, panels=edit(panels), **more)

    return write


def test_redrawing_gives_the_same_bytes_in_any_order_of_rows(landscape):
    text, paths = LANDSCAPE.redraw(where := landscape())
    assert [path.name for path in paths] == ["landscape.png", "landscape.svg", "table.md"]
    first = [path.read_bytes() for path in paths]
    where = landscape(lambda runs: runs.sample(frac=1, random_state=1))
    again, paths = LANDSCAPE.redraw(where)
    assert [path.read_bytes() for path in paths] == first
    assert sorted(again.split("\n")) == sorted(text.split("\n"))


def test_the_table_says_each_verdict_the_paper_and_the_rule_of_thumb(landscape):
    _, paths = LANDSCAPE.redraw(landscape())
    table = paths[-1].read_text()
    assert "- learning rate across width, µP: transfers. Best 2^-7 at width 32" in table
    assert "- learning rate across depth, µP: does not transfer. Best 2^-7 at depth 2, 2^-5 at depth 4" in table
    assert "- LR schedule across width, µP: transfers. Best inverse sqrt at width 32" in table
    assert re.search(r"\| 128 \| 2\^-7 \| 2\^-[67]\.\d\d \| \[2\^-7, 2\^-7\] \| 2\.\d{4} ± 0\.\d{4} \| 0\.0000", table)
    assert "| conclusion | All four stay. | µP: 3 of 4 panels transfer, 1 do not |" in table
    assert "µP pre-LN defaults: widths | 128,256,512,1024,2048,4096 | 32,64,128 |" in table
    assert "- width >= 256: out of reach (32..128)" in table
    assert "transfers although outside of the rule's range (width from 32, depth not recorded" in table


def test_verdicts_and_stand_in_data_stand_in_the_picture(landscape, monkeypatch):
    """A figure is passed around without its table."""
    said = []
    monkeypatch.setattr(
        "mutransfer.reporting.landscape.save",
        lambda figure, out, stem: (
            said.extend(text.get_text() for text in figure.texts)
            or said.extend(text.get_text() for legend in figure.legends for text in legend.get_texts())
            or [out / stem]
        ),
    )
    LANDSCAPE.redraw(landscape(data_is_real=False, stands_in_for="WikiText-2"))
    assert (said.count("transfers"), said.count("does not transfer")) == (3, 1)
    assert "STAND-IN DATA, not WikiText-2" in said
    assert {"width 32", "width 128", "depth 2"} <= set(said)
    assert sum(text.startswith("regret") for text in said) == 4
    assert any("band: standard error" in text and "Crosses on grey: diverged" in text for text in map(flat, said))


def test_one_changed_loss_changes_table_and_figure(landscape):
    """If it did not, the figure would not come from the numbers."""

    def lower(runs):
        at = (runs["panel"] == "width/LR schedule") & (runs["line"] == 64) & (runs["x"] == "inverse sqrt")
        return runs.assign(train_loss=runs["train_loss"] - 0.01 * at)

    before = [path.read_bytes() for path in LANDSCAPE.redraw(landscape())[1]]
    after = [path.read_bytes() for path in LANDSCAPE.redraw(landscape(lower))[1]]
    assert all(old != new for old, new in zip(before, after, strict=True))


def test_different_headings_in_a_column_stand_over_their_own_panels(landscape):
    """Figure 18 has one heading a column; a figure without that must not show a wrong one."""

    def rename(panels):
        panels["depth/LR schedule"]["heading"] = "schedule, deep"
        return panels

    _, paths = LANDSCAPE.redraw(landscape(edit=rename, seeds=1))
    assert all(path.stat().st_size for path in paths)
    assert "undecided (one seed)" in paths[-1].read_text()


def test_gaps_are_named(landscape):
    with pytest.raises(UserError, match=r"1 runs are missing: \(width/learning rate, width 64, x 2\^-6, seed 1\)"):
        LANDSCAPE.redraw(landscape(lambda r: r.query("not (width == 64 and x == -6 and seed == 1 and line == 64)")))
    with pytest.raises(UserError, match="differ in their panels: depth/LR schedule"):
        LANDSCAPE.redraw(landscape(lambda r: r.query("panel != 'depth/LR schedule'")))
    with pytest.raises(UserError, match="panel 'width/LR schedule' lacks is_log2"):
        LANDSCAPE.redraw(landscape(edit=lambda p: (p["width/LR schedule"].pop("is_log2") and p) or p))


def test_provenance_without_panels_is_named(landscape):
    where = landscape()
    known = json.loads((where / "provenance.json").read_text())
    del known["panels"]
    (where / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match="lacks panels"):
        LANDSCAPE.redraw(where)


def test_legend_names_fit_the_page():
    assert legend_labels("width", (32, 64)) == ["width 32", "width 64"]
    long = legend_labels("sequence length", (32, 64, 128, 256, 512, 1024))
    assert long == ["sequence length 32", "64", "128", "256", "512", "1024"]
    assert Axis().line_name == "line"


def test_another_loss_is_read_and_named(landscape, monkeypatch):
    """As for Figures 10 and 12: the validation loss decides, diverged runs have none, and no text says training."""
    said = []

    def keep(figure, out, stem):
        said.extend([axes.get_ylabel() for axes in figure.axes] + [text.get_text() for text in figure.texts])
        return []

    def moved(runs):
        """The training loss is of no use; the validation loss is what it was."""
        lost = runs["status"] == "diverged"
        return runs.assign(test_loss=runs["train_loss"].mask(lost), train_loss=0.0)

    monkeypatch.setattr("mutransfer.reporting.landscape.save", keep)
    before, paths = LANDSCAPE.redraw(landscape())
    table = paths[-1].read_text()
    facts = {"metric": "test_loss", "metric_label": "validation loss"}
    text, paths = LANDSCAPE.redraw(landscape(moved, **facts))
    ours = paths[-1].read_text()
    assert text == before and "training" not in ours.split("## The paper beside ours")[0].split("\n", 1)[1]
    assert "least mean validation loss over seeds" in ours and "| 95% interval | validation loss | regret |" in ours
    assert "depth\nvalidation loss (nats)" in said and "depth\ntraining loss (nats)" in said
    assert "least mean training loss over seeds" in table and "| 95% interval | loss | regret |" in table
    unnamed, paths = LANDSCAPE.redraw(landscape(moved, metric="test_loss"))
    assert unnamed == before and "least mean test loss over seeds" in paths[-1].read_text()
    assert (
        LANDSCAPE.redraw(landscape(**{**facts, "metric": "train_loss", "metric_label": "training loss"}))[0] == before
    )


def test_a_loss_that_is_not_there_is_named(landscape):
    with pytest.raises(
        UserError, match="runs table lacks test_loss; it needs the columns panel, x, line, seed, test_loss"
    ):
        LANDSCAPE.redraw(landscape(metric="test_loss"))
    with pytest.raises(UserError, match=r"unknown metric of .* 'test_los'. Did you mean 'test_loss'"):
        LANDSCAPE.redraw(landscape(metric="test_los"))
    with pytest.raises(UserError, match="metric train_loss cannot be labelled 'validation loss'"):
        LANDSCAPE.redraw(landscape(metric_label="validation loss"))

    def gap(runs):
        return runs.assign(test_loss=runs["train_loss"].mask(runs.index == 0))

    with pytest.raises(UserError, match=r"1 of \d+ runs failed or hold no number, first \(.*test_loss=nan\)"):
        LANDSCAPE.redraw(landscape(gap, metric="test_loss"))
