"""Learning curves as a picture and as a section of the folder's table."""

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.reporting.learning import learning_section, render_learning
from mutransfer.results.draw.learning_curves import learning_figure, loss_limits
from mutransfer.results.learning import COLUMNS, learning_report

PANELS = {"mup": "µP at LR 2^-6", "sp_same_lr": "SP at the same LR", "sp_widest_lr": "SP at the LR of the widest"}
PROVENANCE = {
    "title": "Transformer",
    "scale": "smoke",
    "data_source": "books",
    "data_is_real": True,
    "learning": {"panels": PANELS},
}


def table(seeds=(0, 1), noise=0.01, widths=(32, 64, 128)):
    """µP in order; SP at µP's LR with the order turned round and its widest diverged; SP at a low LR in order."""
    rng = np.random.default_rng(0)
    rows = []
    for panel, name, log2_lr, slope in (
        ("mup", "mup", -6, -0.2),
        ("sp_same_lr", "sp", -6, 0.2),
        ("sp_widest_lr", "sp", -9, -0.1),
    ):
        for k, width in enumerate(widths):
            for seed in seeds:
                for step in range(10, 210, 10):
                    loss = 2.5 + slope * k + 3 * np.exp(-step / 20) + noise * rng.normal()
                    lost = panel == "sp_same_lr" and k == 2 and step > 100
                    rows.append((panel, name, width, log2_lr, seed, step, 64 * step, np.inf if lost else loss))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_a_folder_redraws_itself(tmp_path):
    """From curves.csv and the provenance alone: a line a panel, two files, a section; the same bytes again."""
    table().to_csv(tmp_path / "curves.csv", index=False)
    lines, paths, section = render_learning(tmp_path, PROVENANCE)
    assert [p.name for p in paths] == ["learning_curves.png", "learning_curves.svg"]
    assert ["holds" in lines[0], "fails" in lines[1], "holds" in lines[2]] == [True] * 3
    first = [p.read_bytes() for p in paths]
    assert [p.read_bytes() for p in render_learning(tmp_path, PROVENANCE)[1]] == first
    assert section == learning_section(learning_report(table()), PANELS)
    render_learning(tmp_path, PROVENANCE | {"data_is_real": False})
    assert paths[0].read_bytes() != first[0]


def test_section_has_the_counts_and_the_rule():
    """The counts of the report, the ends, and the rule with its numbers."""
    reports = learning_report(table())
    text = learning_section(reports, PANELS)
    assert f"| SP at the same LR | 2^-6.0 | **fails** | {reports['sp_same_lr'].whole.text} |" in text
    assert "diverged at step 110, width 128 over 64" in text
    assert "more than 2.5% of the cells" in text and "at most 5% of the cells" in text
    end = reports["mup"].loss[0, :, -1]
    assert f"{end.mean():.4f} ± {np.ptp(end) / 2:.4f}" in text  # the standard error of two is half their distance
    assert text.count("| diverged |") == 1
    assert "±" not in learning_section(learning_report(table(seeds=(0,))), PANELS)


def test_rates_that_are_not_drawn_are_counted():
    """The table has every rate of the sweep beside those of the figure, and none where all are drawn."""
    reports, words = learning_report(table()), "At every learning rate"
    text = learning_section(reports, {"mup": "µP at LR 2^-6"})
    assert f"| 2^-9.0 | holds: {reports['sp_widest_lr'].whole.text} | - |" in text and "| LR | SP | µP |" in text
    assert f"| 2^-6.0 | fails: {reports['sp_same_lr'].whole.text} | holds: {reports['mup'].whole.text} |" in text
    assert words in text and words not in learning_section(reports, PANELS)


def test_the_loss_axis_keeps_the_basins():
    """It starts below the least loss and shows the worst end, but neither the start nor a curve that blew up."""
    reports = list(learning_report(table()).values())
    bottom, top = loss_limits(reports)
    every = np.stack([report.mean for report in reports])
    finite = every[np.isfinite(every)]
    assert bottom < finite.min() and every[:, :, -1][np.isfinite(every[:, :, -1])].max() < top < finite.max()
    bad = table()
    bad.loc[(bad["panel"] == "sp_same_lr") & (bad["width"] == 64), "loss"] = 50.0
    assert loss_limits(list(learning_report(bad).values()))[1] < 6
    bad["loss"] = np.inf
    assert loss_limits(list(learning_report(bad).values())) == (0.0, 1.0)


@pytest.mark.parametrize("case", ["one seed", "one panel", "all diverged", "a curve above the axis", "many widths"])
def test_odd_tables_are_drawn(tmp_path, case):
    """What a small or a wild sweep leaves is drawn too, without a warning."""
    frame, panels = table(seeds=(0,) if case == "one seed" else (0, 1)), dict(PANELS)
    if case == "one panel":
        panels = {"mup": "µP"}
    if case == "all diverged":
        frame["loss"] = np.nan
    if case == "a curve above the axis":
        frame.loc[(frame["panel"] == "mup") & (frame["width"] == 32), "loss"] = 50.0
    if case == "many widths":
        frame = table(widths=tuple(2**k for k in range(5, 14)))
    assert len(learning_figure(learning_report(frame), panels, out=tmp_path, caption="planted", banner="STAND-IN")) == 2


def test_gaps_are_refused(tmp_path):
    """A panel that only one of table and provenance knows, an empty cell, no table."""
    with pytest.raises(UserError, match="does not exist"):
        render_learning(tmp_path, PROVENANCE)
    table().to_csv(tmp_path / "curves.csv", index=False)
    with pytest.raises(UserError, match="'extra'"):
        render_learning(tmp_path, PROVENANCE | {"learning": {"panels": PANELS | {"extra": "more"}}})
    with pytest.raises(UserError, match=r"lacks learning\.panels"):
        render_learning(tmp_path, {k: v for k, v in PROVENANCE.items() if k != "learning"})
    text = (tmp_path / "curves.csv").read_text()
    (tmp_path / "curves.csv").write_text(text[: text.rindex(",") + 1] + "\n")
    with pytest.raises(UserError, match="no number in loss"):
        render_learning(tmp_path, PROVENANCE)
    (tmp_path / "curves.csv").write_text("")
    with pytest.raises(UserError, match="no table"):
        render_learning(tmp_path, PROVENANCE)
    with pytest.raises(UserError, match="at least one panel"):
        learning_figure(learning_report(table()), {}, out=tmp_path)
