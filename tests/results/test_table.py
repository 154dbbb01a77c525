"""The table holds the numbers of the report, the paper's beside them and the rule."""

from __future__ import annotations

import numpy as np

from mutransfer.results import published, transfer_report
from mutransfer.results.drift import RULE
from mutransfer.results.table import grid, write_table


def table(runs, tmp_path, **kwargs) -> str:
    """The Markdown that ``runs`` give."""
    report = transfer_report(runs)
    rows = published.rows(table_or_figure="Figure 3")
    return write_table(report, rows, out=tmp_path, heading="H", **kwargs).read_text(encoding="utf-8")


def test_every_width_has_its_row_with_the_reports_numbers(runs, tmp_path):
    """The table is what people quote: it must be the report, digit for digit."""
    text = table(runs, tmp_path)
    for o in transfer_report(runs).optima.itertuples():
        row = next(
            line
            for line in text.splitlines()
            if line.startswith(f"| {'SP' if o.parametrization == 'sp' else 'µP'} | {o.width} |")
        )
        assert f"2^{o.log2_lr:.2f}" in row and f"{o.loss:.4f} ± {o.loss_se:.4f}" in row and "(n = 2)" in row


def test_divergence_is_a_word(runs, tmp_path):
    """SP's best learning rate of width 64 diverges at 1024: `inf` in a table reads like a bug."""
    text = table(runs, tmp_path)
    assert "diverged" in next(line for line in text.splitlines() if line.startswith("| SP | 1024 |"))
    assert "inf]" not in text and "nan" not in text


def test_the_paper_stands_beside_ours(runs, tmp_path):
    """A reproduction without the original beside it leaves the comparison to memory."""
    text = table(runs, tmp_path, statement="it moves", differs="all of it", ours={"epochs": "2"})
    assert "| SP and µP: epochs | 20 | 2 |" in text
    assert "| conclusion | it moves | SP drifts" in text and "What differs in ours: all of it" in text


def test_the_rule_stands_in_the_table(runs, tmp_path):
    """A verdict without its rule cannot be checked."""
    assert RULE in table(runs, tmp_path)


def test_what_is_not_known_has_its_reason(runs, tmp_path):
    """Three widths are too few for L(inf); a bare dash would look like an oversight."""
    text = table(runs, tmp_path)
    assert "SP: L(inf): the fit needs 4 widths, there are 3." in text
    one = table(runs[runs.seed == 0], tmp_path)
    assert "one seed gives no interval" in one and "±" not in one.split("## Does it transfer?")[0]


def test_an_edge_is_said_in_the_table(runs, tmp_path):
    """An interval beside an edge optimum would claim to know what lies beyond the grid."""
    assert "on the low edge of the grid" in table(runs.query("log2_lr >= -7"), tmp_path)
    assert "edge of the grid" not in table(runs, tmp_path).split("## How to read it")[0]


def test_a_regret_that_was_not_run_is_said(runs, tmp_path):
    """A missing run must not look like a regret of nothing."""
    report = transfer_report(runs.query("width == 64 or log2_lr != -4 or parametrization == 'mup'"))
    assert np.isnan(report.parametrizations["sp"].regret.value)
    assert "not run" in write_table(report, (), out=tmp_path, heading="H").read_text(encoding="utf-8")


def test_a_bar_in_a_cell_opens_no_column():
    """Statements are free text; one with a bar would shift every cell behind it."""
    assert grid(["a", "b"], [["x|y", "two\nlines"]]).splitlines()[-1] == r"| x\|y | two lines |"
