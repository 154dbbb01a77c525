"""Wider is better through training: violations are counted exactly, called clear only by the rule, and drawn."""

import math
import re
from itertools import product

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.folder import FigureFolder
from mutransfer.results.learning import COLUMNS, learning_curves, learning_figure, learning_report, read_learning
from mutransfer.results.schema import Facts

WIDTHS = (32, 64, 128)
STEPS = tuple(range(10, 510, 10))
INF, NAN = math.inf, math.nan


def curves(loss, *, widths=WIDTHS, seeds=(0, 1, 2), steps=STEPS, panel="mup", name="mup", log2_lr=-6.0):
    """A table of loss(k, seed, i): of width ``widths[k]`` at logged step ``steps[i]``."""
    cells = product(enumerate(widths), seeds, enumerate(steps))
    rows = [(panel, name, w, log2_lr, seed, t, t * 1024, loss(k, seed, i)) for (k, w), seed, (i, t) in cells]
    return pd.DataFrame(rows, columns=COLUMNS)


def judged(loss, **options):
    (report,) = learning_report(curves(loss, **options)).values()
    return report


def ordered(k, seed, i):
    """Wider is better by 0.1 at every step; a seed shifts all widths alike."""
    return 3 - 0.01 * i - 0.1 * k + 0.05 * seed


def planted(*cells):
    """`ordered`, but the wider model of pair ``k`` is behind by 0.05 at logged step ``i``."""
    return lambda k, seed, i: ordered(k, seed, i) + 0.15 * sum(k > pair and i == at for pair, at in cells)


def noisy(count):
    """``count`` violations with a seed's own noise on the widest model: differences of -0.15, 0.05, 0.25."""
    violations = planted(*((1, i) for i in range(20, 20 + count)))
    return lambda k, seed, i: violations(k, seed, i) + 0.2 * (k == 2) * (seed - 1)


def lost(value, at):
    """`ordered`, but for one value."""
    return lambda k, seed, i: value if at(k, seed, i) else ordered(k, seed, i)


HALF = 4.302653 * 0.2 / math.sqrt(3)  # t quantile of two degrees of freedom, by hand


@pytest.mark.parametrize(
    ("loss", "seeds", "whole", "later", "words"),
    [
        # no violation of 2 pairs x 50 steps; steps 10 to 50 are the first tenth
        (ordered, 3, (0, 0, "holds"), (0, 0, "holds"), "behind at 0 of 100 cells"),
        (ordered, 1, (0, 0, "holds"), (0, 0, "holds"), "behind at 0 of 100 cells"),
        # three cells, one of them in the first tenth; alike in all seeds, so each is clear, and 3% is beyond chance
        (planted((0, 2), (0, 20), (1, 49)), 3, (3, 3, "fails"), (2, 2, "undecided"), "3 of 100 cells (3 clear)"),
        # one is no more than equal models show by chance, but `holds` allows no clear one
        (planted((1, 30)), 3, (1, 1, "undecided"), (1, 1, "undecided"),
         "0.0500 [0.0500, 0.0500] nats at step 310, width 128 over 64: beyond the seeds' spread"),
        # without a second seed nothing is known of the spread: no violation is clear, and none is allowed
        (planted((0, 30)), 1, (1, 0, "undecided"), (1, 0, "undecided"),
         "0.0500 nats at step 310, width 64 over 32: no interval"),
        # the t interval of the difference holds 0: not clear, and up to 5 of 100 may be such
        (noisy(1), 3, (1, 0, "holds"), (1, 0, "holds"), f"[{0.05 - HALF:.4f}, {0.05 + HALF:.4f}] nats at step 210"),
        (noisy(5), 3, (5, 0, "holds"), (5, 0, "undecided"), "within the seeds' spread"),
        (noisy(6), 3, (6, 0, "undecided"), (6, 0, "undecided"), "within the seeds' spread"),
        # ties are no violations, to the bit; nor are two widths that both diverged
        (lambda k, seed, i: 3 - 0.01 * i + 0.1 * seed, 3, (0, 0, "holds"), (0, 0, "holds"), "holds"),
        (lost(INF, lambda k, seed, i: k and i > 40), 3, (9, 9, "fails"), (9, 9, "fails"), "width 64 over 32"),
        # one seed of the widest diverges at the last but one logged step: +inf from there, whatever follows
        (lost(INF, lambda *x: x == (2, 1, 48)), 3, (2, 2, "fails"), (2, 2, "fails"),
         "largest excess: diverged at step 490, width 128 over 64; seeds diverged: 1 of 3 at width 128"),
        (lost(NAN, lambda *x: x == (2, 1, 48)), 3, (2, 2, "fails"), (2, 2, "fails"), "1 of 3 at width 128"),
        (lost(NAN, lambda k, _, i: (k, i) == (2, 48)), 1, (2, 2, "fails"), (2, 2, "fails"), "1 of 1 at width 128"),
        # the wider model trains on where the narrower is lost
        (lost(INF, lambda k, _, i: not k and i > 20), 3, (0, 0, "holds"), (0, 0, "holds"), "3 of 3 at width 32"),
    ],
)  # fmt: skip
def test_the_rule(loss, seeds, whole, later, words):
    """Exactly the planted violations are counted, in all of training and after its first tenth."""
    report = judged(loss, seeds=range(seeds))
    assert (report.whole, report.later) == ((100, *whole), (90, *later)) and report.verdict == whole[-1]
    assert words in report.sentence and ("largest" in report.sentence) == bool(whole[0])


def test_a_diverged_run_may_end_where_it_stopped():
    frame = curves(lost(NAN, lambda *x: x == (2, 1, 48)))
    (whole,) = learning_report(frame).values()
    (cut,) = learning_report(frame.query("not (width == 128 and seed == 1 and step == 500)")).values()
    assert np.isinf(cut.loss[2, 1, 48:]).all() and np.isfinite(cut.loss[2, 1, :48]).all() and cut.whole == whole.whole
    assert np.argwhere(whole.violation).tolist() == [[1, 48], [1, 49]]


def test_equal_models_seldom_fail():
    """Two equally good widths with independent noise: half the cells violate, clearly about the 2.5% of chance."""
    rng = np.random.default_rng(0)
    reports = [judged(lambda k, seed, i: 3 + 0.01 * rng.normal(), widths=(32, 64)) for _ in range(40)]
    cells, violations, clear = (sum(report.whole[k] for report in reports) for k in range(3))
    assert [violations / cells, clear / cells] == [pytest.approx(0.5, abs=0.03), pytest.approx(0.025, abs=0.01)]
    assert all(report.verdict != "holds" for report in reports)


def test_panels_keep_their_order():
    """Each with its own widths."""
    frame = pd.concat([curves(ordered, panel="b", name="sp"), curves(ordered, panel="a", widths=(8, 16))])
    told = [(key, r.parametrization, r.widths, r.tokens[-1]) for key, r in learning_report(frame).items()]
    assert told == [("b", "sp", WIDTHS, 512_000), ("a", "mup", (8, 16), 512_000)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(index=7), "lacks 1 rows, first width 32, seed 0, step 80"),
        (lambda f: f.query("not (width == 64 and seed == 2)"), "lacks 50 rows, first width 64, seed 2, step 10"),
        (lambda f: f.query("not (width == 64 and seed == 2 and step > 300)"), "lacks 20 rows"),
        (lambda f: pd.concat([f, f.tail(1)]), "1 runs stand there twice, first panel mup, width 128, seed 2, step 500"),
        (lambda f: f.query("width == 64"), "one width, 64"),
        (lambda f: f.assign(log2_lr=np.where(f["width"] == 64, -7, -6)), "of a panel with panel mup differ in log2_lr"),
        (lambda f: f.assign(tokens=f["step"] * f["width"]), "of a step with panel mup, step 10 differ in tokens"),
    ],
)
def test_a_bad_table_is_refused(change, words):
    """A gap, a double and a mixture are named, never averaged over; a finished run that ends early is a gap."""
    with pytest.raises(UserError, match=words):
        learning_report(change(curves(ordered)))


PANELS = {"mup": "µP at LR 2^-6", "sp_same_lr": "SP at the same LR", "sp_widest_lr": "SP at the LR of the widest"}
PROVENANCE = {"title": "Transformer", "scale": "smoke", "data_source": "books", "data_is_real": True}
PROVENANCE |= {"learning": {"panels": PANELS}}


def three_panels(seeds=(0, 1), widths=WIDTHS):
    """µP in order; SP at µP's LR with the order turned round and its widest diverged; SP at a low LR in order."""
    rng, options = np.random.default_rng(0), {"seeds": seeds, "widths": widths, "steps": range(10, 210, 10)}

    def losses(slope, lost=INF):
        shape = [2.5 + 3 * np.exp(-(i + 1) / 2) for i in range(20)]
        return lambda k, _, i: INF if k == 2 and i > lost else shape[i] + slope * k + 0.01 * rng.normal()

    panels = {"mup": (-6, losses(-0.2)), "sp_same_lr": (-6, losses(0.2, 9)), "sp_widest_lr": (-9, losses(-0.1))}
    parts = [curves(loss, panel=p, name=p.split("_")[0], log2_lr=lr, **options) for p, (lr, loss) in panels.items()]
    return pd.concat(parts)


def test_a_folder_is_read_and_drawn(tmp_path, words):
    """From curves.csv and the provenance alone: one line for every panel, two files, a section; a gap is named."""
    with pytest.raises(UserError, match="does not exist"):
        read_learning(FigureFolder(tmp_path, PROVENANCE))
    three_panels().to_csv(tmp_path / "curves.csv", index=False)
    shown = read_learning(FigureFolder(tmp_path, PROVENANCE))
    assert ["holds" in shown.lines[0], "fails" in shown.lines[1], "holds" in shown.lines[2]] == [True] * 3
    assert [part.verdict for part in shown.claim.parts] == ["reproduced", "reproduced", "not reproduced"]
    paths = shown.draw(FigureFolder(tmp_path, PROVENANCE | {"data_is_real": False}))
    assert [p.name for p in paths] == ["learning_curves.png", "learning_curves.svg"]
    said = words(paths[1])
    assert said.count("wider is better: holds") == 2 and said.count("wider is better: fails") == 1
    assert {"µP at LR 2^-6", "width 32", "width 128", "diverged"} <= set(said)
    assert any("STAND-IN DATA" in text for text in said)
    with pytest.raises(UserError, match="'extra'"):
        read_learning(FigureFolder(tmp_path, PROVENANCE | {"learning": {"panels": PANELS | {"extra": "more"}}}))
    with pytest.raises(UserError, match="lacks learning"):
        read_learning(FigureFolder(tmp_path, Facts({**PROVENANCE, "learning": None}, tmp_path)))


def test_the_section_has_the_counts_the_ends_and_the_rule():
    """Those of every rate of the sweep stand there, too, where some are not drawn."""
    reports = learning_report(three_panels())
    shown = learning_curves(reports, PANELS)
    text = shown.section
    assert all(f"- {line}" in text for line in shown.lines) and reports["sp_same_lr"].whole.text in shown.lines[1]
    assert "diverged at step 110, width 128 over 64" in text and text.count("| diverged |") == 1
    assert "more than 2.5% of the cells" in text and "at most 5% of the cells" in text
    end = reports["mup"].loss[0, :, -1]  # the standard error of two is half their distance
    assert f"| µP at LR 2^-6 | 2^-6.0 | **holds** | {end.mean():.4f} ± {np.ptp(end) / 2:.4f}" in text
    assert "±" not in learning_curves(learning_report(three_panels(seeds=(0,))), PANELS).section
    every = learning_curves(reports, {"mup": "µP at LR 2^-6"}).section
    assert f"| 2^-9.0 | holds: {reports['sp_widest_lr'].whole.text} | - |" in every and "| LR | SP | µP |" in every
    assert f"| 2^-6.0 | fails: {reports['sp_same_lr'].whole.text} | holds: {reports['mup'].whole.text} |" in every
    assert "At every learning rate" in every and "At every learning rate" not in text


@pytest.mark.parametrize("case", ["one seed", "all diverged", "a curve above the axis", "many widths"])
def test_odd_tables_are_drawn(tmp_path, words, case):
    """Without a warning. The axis shows neither the steep start nor a curve that blew up, but all near ends."""
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
    ticks = [float(word) for word in said if re.fullmatch(r"\d+\.\d+", word)]
    assert case == "all diverged" or (min(ticks) < 2.3 and 2.5 < max(ticks) < 6)
