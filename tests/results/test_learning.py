"""Wider is better through training: violations are counted exactly, called clear only by the rule, and drawn."""

import math
import re

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.folder import FigureFolder
from mutransfer.results.learning import COLUMNS, Learning, learning_figure, learning_report, read_learning

WIDTHS = (32, 64, 128)
STEPS = tuple(range(10, 510, 10))


def curves(loss, *, widths=WIDTHS, seeds=(0, 1, 2), steps=STEPS, panel="mup", name="mup"):
    """A table of loss(k, seed, i): of width ``widths[k]`` at logged step ``steps[i]``."""
    rows = [
        (panel, name, width, -6.0, seed, step, step * 1024, loss(k, seed, i))
        for k, width in enumerate(widths)
        for seed in seeds
        for i, step in enumerate(steps)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def one(frame):
    (report,) = learning_report(frame).values()
    return report


def ordered(k, seed, i):
    """Wider is better by 0.1 at every step; a seed shifts all widths alike."""
    return 3 - 0.01 * i - 0.1 * k + 0.05 * seed


def planted(cells, by=0.15):
    """`ordered`, but the wider model of pair ``k`` is behind by 0.05 (its 0.1 less ``by``) at logged step ``i``."""
    return lambda k, seed, i: ordered(k, seed, i) + by * sum(k > pair and i == at for pair, at in cells)


def test_ordered_curves_hold():
    """No violation of 2 pairs x 50 steps, and no largest one."""
    report = one(curves(ordered))
    assert (report.whole.cells, report.whole.violations, report.whole.clear) == (100, 0, 0)
    assert (report.later.cells, report.later.violations) == (2 * 45, 0)  # steps 10..50 are the first tenth
    assert report.verdict == report.later.verdict == "holds"
    assert report.largest is None
    np.testing.assert_allclose(report.mean[1], [ordered(1, 1, i) for i in range(50)])
    assert "'wider is better' holds: the wider model is behind at 0 of 100 cells (0 clear)" in report.sentence


def test_exactly_the_planted_violations_are_counted():
    """Three cells, one of them in the first tenth; alike in all seeds, so each is clear, and 3% is beyond chance."""
    report = one(curves(planted([(0, 2), (0, 20), (1, 49)])))
    assert np.argwhere(report.violation).tolist() == [[0, 2], [0, 20], [1, 49]]
    assert (report.whole.violations, report.whole.clear, report.verdict) == (3, 3, "fails")
    assert (report.later.violations, report.later.clear, report.later.verdict) == (2, 2, "undecided")
    assert report.largest.value == pytest.approx(0.05)


def test_one_clear_violation_is_undecided():
    """One of 100 cells is no more than equal models show by chance, but `holds` allows no clear one."""
    report = one(curves(planted([(1, 30)])))
    assert (report.whole.violations, report.whole.clear, report.verdict) == (1, 1, "undecided")
    worst = report.largest
    assert (worst.step, worst.narrow, worst.wide, worst.is_clear) == (310, 64, 128, True)
    assert "0.0500 nats [0.0500, 0.0500] at step 310, width 128 over 64: beyond the seeds' spread" in report.sentence


def noisy(cells):
    """`planted` with a seed's own noise on the widest model, 0 in the mean and larger than the violation."""
    return lambda k, seed, i: planted(cells)(k, seed, i) + 0.2 * (k == 2) * (seed - 1)


def test_a_violation_within_the_spread_is_not_clear():
    """Differences of -0.15, 0.05, 0.25: the mean is above 0, its t interval [-0.45, 0.55] is not."""
    report = one(curves(noisy([(1, 30), (1, 31)])))
    assert (report.whole.violations, report.whole.clear, report.verdict) == (2, 0, "holds")
    half = 4.302653 * 0.2 / math.sqrt(3)  # t quantile of two degrees of freedom, by hand
    worst = report.largest
    assert (worst.low, worst.high) == (pytest.approx(0.05 - half), pytest.approx(0.05 + half))
    assert not worst.is_clear and "within the seeds' spread" in worst.text


def test_many_violations_within_the_spread_do_not_hold():
    """Six of 100 cells are more than curves that touch now and then: undecided, though none is clear."""
    report = one(curves(noisy([(1, i) for i in range(20, 26)])))
    assert (report.whole.violations, report.whole.clear, report.verdict) == (6, 0, "undecided")
    assert one(curves(noisy([(1, i) for i in range(20, 25)]))).verdict == "holds"


def test_ties_are_no_violations():
    """The same loss at every width, to the bit, is as good; so are two widths that both diverged."""
    report = one(curves(lambda k, seed, i: 3 - 0.01 * i + 0.1 * seed))
    assert (report.whole.violations, report.verdict) == (0, "holds")
    report = one(curves(lambda k, seed, i: math.inf if k and i > 40 else ordered(k, seed, i)))
    assert report.violation.sum(axis=1).tolist() == [9, 0]


def test_one_seed_allows_no_violation():
    """Without a second seed nothing is known of the spread: no violation is clear, and none is allowed."""
    assert one(curves(ordered, seeds=(0,))).verdict == "holds"
    report = one(curves(planted([(0, 30)]), seeds=(0,)))
    assert (report.whole.violations, report.whole.clear, report.verdict) == (1, 0, "undecided")
    assert "no interval" in report.sentence


@pytest.mark.parametrize("lost", [math.inf, math.nan])
def test_a_diverged_wide_run_fails(lost):
    """One seed of the widest model diverges at the last but one logged step: +inf from there, whatever follows."""
    frame = curves(lambda k, seed, i: lost if (k, seed, i) == (2, 1, 48) else ordered(k, seed, i))
    report = one(frame)
    assert np.isinf(report.loss[2, 1, 48:]).all() and np.isfinite(report.loss[2, 1, :48]).all()
    assert (report.whole.violations, report.whole.clear, report.verdict) == (2, 2, "fails")
    assert report.diverged == {128: 1}
    assert report.largest.text == "diverged at step 490, width 128 over 64"
    assert "seeds diverged: 1 of 3 at width 128" in report.sentence
    cut = frame.query("not (width == 128 and seed == 1 and step == 500)")  # it may end where it stopped
    assert one(cut).whole == report.whole
    assert one(curves(lambda k, seed, i: lost if (k, i) == (2, 48) else ordered(k, seed, i), seeds=(0,))).verdict == (
        "fails"
    )


def test_a_diverged_narrow_run_is_no_violation():
    """The wider model trains on where the narrower is lost."""
    assert one(curves(lambda k, seed, i: math.inf if not k and i > 20 else ordered(k, seed, i))).verdict == "holds"


def test_equal_models_seldom_fail():
    """Two equally good widths, independent noise at every step and seed: half the cells violate, about 2.5% clearly,
    so the verdict is never `holds` and the clear share is what the rule calls chance.
    """
    rng = np.random.default_rng(0)
    reports = [one(curves(lambda k, seed, i: 3 + 0.01 * rng.normal(), widths=(32, 64))) for _ in range(40)]
    cells = sum(r.whole.cells for r in reports)
    assert sum(r.whole.violations for r in reports) / cells == pytest.approx(0.5, abs=0.03)
    assert sum(r.whole.clear for r in reports) / cells == pytest.approx(0.025, abs=0.01)
    assert all(r.verdict != "holds" for r in reports)


def test_panels_keep_their_order():
    """A report a panel, each with its own widths."""
    frame = pd.concat([curves(ordered, panel="b", name="sp"), curves(ordered, panel="a", widths=(8, 16))])
    reports = learning_report(frame)
    assert list(reports) == ["b", "a"]
    assert (reports["b"].parametrization, reports["a"].widths) == ("sp", (8, 16))
    assert reports["a"].tokens[-1] == 500 * 1024


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="tokens"), "lacks tokens"),
        (lambda f: f.head(0), "no rows"),
        (lambda f: f.drop(index=7), "lacks 1 rows, first width 32, seed 0, step 80"),
        (lambda f: f.query("not (width == 64 and seed == 2)"), "lacks 50 rows, first width 64, seed 2, step 10"),
        (lambda f: f.query("not (width == 64 and seed == 2 and step > 300)"), "lacks 20 rows"),
        (
            lambda f: pd.concat([f, f.tail(1)]),
            r"1 runs stand there twice, first panel mup, width 128, seed 2, step 500",
        ),
        (lambda f: f.query("width == 64"), "one width, 64"),
        (
            lambda f: f.assign(log2_lr=np.where(f["width"] == 64, -7, -6)),
            "the runs of a panel with panel mup differ in log2_lr",
        ),
        (lambda f: f.assign(tokens=f["step"] * f["width"]), "several values of tokens"),
        (
            lambda f: f.assign(loss=f["loss"].astype(str).where(f["step"] != 70, "")),
            "has '' as loss, expected a number",
        ),
        (lambda f: f.assign(loss=f["loss"].where(f["step"] != 70, -math.inf)), "9 rows .* cannot be, first"),
        (lambda f: f.assign(step=f["step"] - 10), "9 rows .* cannot be, first"),
    ],
)
def test_a_bad_table_is_refused(change, words):
    """A gap, a double and a mixture are named, never averaged over; a finished run that ends early is a gap."""
    with pytest.raises(UserError, match=words):
        learning_report(change(curves(ordered)))


PANELS = {"mup": "µP at LR 2^-6", "sp_same_lr": "SP at the same LR", "sp_widest_lr": "SP at the LR of the widest"}
PROVENANCE = {
    "title": "Transformer",
    "scale": "smoke",
    "data_source": "books",
    "data_is_real": True,
    "learning": {"panels": PANELS},
}


def three_panels(seeds=(0, 1), noise=0.01, widths=(32, 64, 128)):
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


def learning(headings=None, **options):
    """What a folder shows of `three_panels`."""
    return Learning(learning_report(three_panels(**options)), PANELS if headings is None else headings)


def test_a_folder_is_read_and_drawn(tmp_path, words):
    """From curves.csv and the provenance alone: one line for every panel, two files, a section."""
    three_panels().to_csv(tmp_path / "curves.csv", index=False)
    shown = read_learning(FigureFolder(tmp_path, PROVENANCE))
    assert ["holds" in shown.lines[0], "fails" in shown.lines[1], "holds" in shown.lines[2]] == [True] * 3
    assert shown.section == learning().section
    paths = shown.draw(FigureFolder(tmp_path, PROVENANCE | {"data_is_real": False}))
    assert [p.name for p in paths] == ["learning_curves.png", "learning_curves.svg"]
    said = words(paths[1])
    assert said.count("wider is better: holds") == 2 and said.count("wider is better: fails") == 1
    assert {"µP at LR 2^-6", "width 32", "width 128", "diverged"} <= set(said)
    assert any("STAND-IN DATA" in text for text in said)


def test_section_has_the_counts_and_the_rule():
    """The counts of the report, the ends, and the rule with its numbers."""
    shown = learning()
    text, reports = shown.section, shown.reports
    assert f"| SP at the same LR | 2^-6.0 | **fails** | {reports['sp_same_lr'].whole.text} |" in text
    assert "diverged at step 110, width 128 over 64" in text
    assert "more than 2.5% of the cells" in text and "at most 5% of the cells" in text
    end = reports["mup"].loss[0, :, -1]
    assert f"{end.mean():.4f} ± {np.ptp(end) / 2:.4f}" in text  # the standard error of two is half their distance
    assert text.count("| diverged |") == 1 and "At every learning rate" not in text
    assert "±" not in learning(seeds=(0,)).section


def test_rates_that_are_not_drawn_are_counted():
    """The table has every rate of the sweep beside those of the figure."""
    shown = learning({"mup": "µP at LR 2^-6"})
    text, reports = shown.section, shown.reports
    assert f"| 2^-9.0 | holds: {reports['sp_widest_lr'].whole.text} | - |" in text and "| LR | SP | µP |" in text
    assert f"| 2^-6.0 | fails: {reports['sp_same_lr'].whole.text} | holds: {reports['mup'].whole.text} |" in text
    assert "At every learning rate" in text


def test_the_loss_axis_keeps_the_basins(tmp_path, words):
    """It shows neither the steep start nor a curve that blew up, but all ends that are near the others."""
    frame = three_panels()
    frame.loc[(frame["panel"] == "sp_same_lr") & (frame["width"] == 64), "loss"] = 50.0
    paths = learning_figure(learning_report(frame), PANELS, out=tmp_path)
    ticks = [float(word) for word in words(paths[1]) if re.fullmatch(r"\d+\.\d+", word)]
    assert min(ticks) < 2.3 and 2.5 < max(ticks) < 6


@pytest.mark.parametrize("case", ["one seed", "all diverged", "a curve above the axis", "many widths"])
def test_odd_tables_are_drawn(tmp_path, words, case):
    """What a small or a wild sweep leaves is drawn too, without a warning, and named."""
    frame, panels = three_panels(seeds=(0,) if case == "one seed" else (0, 1)), dict(PANELS)
    if case == "many widths":
        frame, panels = three_panels(widths=tuple(2**k for k in range(5, 14))), {"mup": "µP"}
    if case == "all diverged":
        frame["loss"] = np.nan
    if case == "a curve above the axis":
        frame.loc[(frame["panel"] == "mup") & (frame["width"] == 32), "loss"] = 50.0
    said = words(learning_figure(learning_report(frame), panels, out=tmp_path, caption="planted", banner="STAND-IN")[1])
    assert {"planted", "STAND-IN"} <= set(said)
    assert ("ends above the axis" in said) == (case == "a curve above the axis")
    assert ("wider is behind (one seed: no interval)" in said) == (case == "one seed")


def test_gaps_are_refused(tmp_path):
    """A panel that only one of table and provenance knows, an empty cell, no table."""
    with pytest.raises(UserError, match="does not exist"):
        read_learning(FigureFolder(tmp_path, PROVENANCE))
    three_panels().to_csv(tmp_path / "curves.csv", index=False)
    with pytest.raises(UserError, match="'extra'"):
        read_learning(FigureFolder(tmp_path, PROVENANCE | {"learning": {"panels": PANELS | {"extra": "more"}}}))
    with pytest.raises(UserError, match=r"lacks learning\.panels"):
        read_learning(FigureFolder(tmp_path, {k: v for k, v in PROVENANCE.items() if k != "learning"}))
    text = (tmp_path / "curves.csv").read_text()
    (tmp_path / "curves.csv").write_text(text[: text.rindex(",") + 1] + "\n")
    with pytest.raises(UserError, match="has '' as loss"):
        read_learning(FigureFolder(tmp_path, PROVENANCE))
    (tmp_path / "curves.csv").write_text("")
    with pytest.raises(UserError, match="is not a table"):
        read_learning(FigureFolder(tmp_path, PROVENANCE))
    with pytest.raises(UserError, match="at least one panel"):
        learning_figure(learning().reports, {}, out=tmp_path)
