"""Wider is better through training: violations are counted exactly, and called clear only by the declared rule."""

import math

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.results.learning import COLUMNS, learning_report

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
        (lambda f: f.drop(columns="tokens"), "lack tokens"),
        (lambda f: f.head(0), "no rows"),
        (lambda f: f.drop(index=7), r"lacks 1 rows, first \(width 32, seed 0, step 80\)"),
        (lambda f: f.query("not (width == 64 and seed == 2)"), r"lacks 50 rows, first \(width 64, seed 2, step 10\)"),
        (lambda f: f.query("not (width == 64 and seed == 2 and step > 300)"), "lacks 20 rows"),
        (lambda f: pd.concat([f, f.tail(1)]), r"\(width 128, seed 2, step 500\) twice"),
        (lambda f: f.query("width == 64"), "one width, 64"),
        (lambda f: f.assign(log2_lr=np.where(f["width"] == 64, -7, -6)), "several values of log2_lr"),
        (lambda f: f.assign(tokens=f["step"] * f["width"]), "several values of tokens"),
        (lambda f: f.assign(loss=f["loss"].astype(str).where(f["step"] != 70, "")), "hold no number in loss"),
        (lambda f: f.assign(loss=f["loss"].where(f["step"] != 70, -math.inf)), "9 rows .* hold no number"),
        (lambda f: f.assign(step=f["step"] - 10), "hold no number, first"),
    ],
)
def test_a_bad_table_is_refused(change, words):
    """A gap, a double and a mixture are named, never averaged over; a finished run that ends early is a gap."""
    with pytest.raises(UserError, match=words):
        learning_report(change(curves(ordered)))
