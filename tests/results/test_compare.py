"""Two sets of runs: words that planted shifts must get, and one line for what cannot be compared."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mutransfer.errors import UserError
from mutransfer.results.compare import compare, compare_runs


def planted(drift=0.0, *, name="sp", widths=(64, 128, 256), seeds=3, noise=0.01, start=-4.3, key=0, shift=0.0, own=0.0):
    """Parabolas in log2 LR with their vertex at ``start`` + ``drift`` a doubling, on a grid moved by ``shift``.

    ``own``: octaves between the vertices of two seeds.
    """
    rng, rows = np.random.default_rng(key), []
    for width, x, seed in product(widths, range(-9, 0), range(seeds)):
        best = start + drift * np.log2(width / 64) + own * (seed - 1)
        rows.append((name, width, float(x) + shift, seed, 1.3 + 0.05 * (x - best) ** 2 + noise * rng.normal()))
    return pd.DataFrame(rows, columns=["parametrization", "width", "log2_lr", "seed", "train_loss"])


def one(a, b, **options):
    """The only comparison of two tables."""
    (shifts,) = compare_runs(a, b, draws=options.pop("draws", 300), **options)
    return shifts


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 5), st.sampled_from([0.0, 0.01, 0.3]), st.sampled_from([-0.5, 0.0]), st.integers(0, 999))
def test_identical_runs_are_the_same(seeds, noise, drift, key):
    """However noisy the runs are, they are not shifted against themselves."""
    runs = planted(drift, seeds=seeds, noise=noise, key=key)
    inner = runs.assign(train_loss=runs["train_loss"] + 9.0 * runs["log2_lr"].isin([-9, -1]))  # no optimum on an edge
    shifts = one(inner, inner.sample(frac=1, random_state=key), draws=100)
    assert [(s.value.value, s.value.low, s.value.high, s.word) for s in shifts.shifts] == [(0, 0, 0, "same")] * 3
    assert (shifts.mean.word, shifts.drift.word, shifts.drift.value.value) == ("same", "same", 0)


@settings(max_examples=6, deadline=None)
@given(octaves=st.sampled_from([-2.0, -0.5, 1.0, 3.0]), key=st.integers(0, 999), noise=st.sampled_from([0.0, 0.005]))
def test_a_shifted_copy_is_shifted_by_that_much(octaves, key, noise):
    """The same losses at learning rates twice as high: one octave, exactly, at every width; the drift is the same."""
    shifts = one(planted(key=key, noise=noise), planted(key=key, noise=noise, shift=octaves), draws=100)
    for shift in (*shifts.shifts, shifts.mean):
        assert shift.value.value == pytest.approx(octaves, abs=1e-9)
        assert shift.value.high - shift.value.low < 1e-6 and shift.word == "differs"
    assert shifts.drift.value.value == pytest.approx(0, abs=1e-9) and shifts.drift.word == "same"


@pytest.mark.parametrize(("seeds_of_b", "paired"), [(3, True), (2, False)])
def test_the_interval_covers_the_truth(seeds_of_b, paired):
    """Most times, at one width, over widths and for drifts; and not by being useless."""
    truth, hits, widths, errors = 0.4, [], [], []
    for key in range(14):
        a = planted(noise=0.01, seeds=3, key=key)
        b = planted(noise=0.01, seeds=seeds_of_b, key=key + 1000, start=-4.3 + truth)
        shifts = one(a, b, draws=100, seed=key)
        known = [*((s.value, truth) for s in shifts.shifts), (shifts.mean.value, truth), (shifts.drift.value, 0.0)]
        hits.append([e.low <= value <= e.high for e, value in known])
        widths.append([e.high - e.low for e, _ in known])
        errors.append([e.value - value for e, value in known])
    assert np.mean(np.array(hits)[:, :3]) >= 0.88 and (np.mean(hits, axis=0) >= 0.8).all()
    useful = np.mean(widths, axis=0) / (3.92 * np.std(errors, axis=0))
    assert (useful[3:] < (2.0 if paired else 3.5)).all()


def test_a_shift_that_is_common_to_the_seeds_cancels():
    """Each seed has its own optimum, the same in A and B: paired, 0.5 octaves are seen; unpaired, they are not."""
    a, b, lonely = (planted(noise=0, own=1.2, start=-4.6 + z, seeds=n) for z, n in ((0, 3), (0.5, 3), (0.5, 2)))
    assert (one(a, b).mean.word, one(a, lonely).mean.word) == ("differs", "undecided")


def test_noise_is_undecided():
    """Two seeds of losses that hardly depend on the learning rate bear no word, at one width or over all."""
    pairs = [one(*(planted(seeds=2, noise=0.3, key=key + k) for k in (0, 100))) for key in range(8)]
    words = [s.word for shifts in pairs for s in (*shifts.shifts, shifts.mean, shifts.drift)]
    assert words.count("undecided") >= 0.95 * len(words)


def test_what_the_grid_hides_is_in_the_interval():
    """Beside divergence LR* is known to the grid only: undecided for other runs, the same for the very same ones."""
    a, b = (planted(noise=1e-4, key=key) for key in (0, 1))
    for runs in (a, b):
        runs.loc[runs["log2_lr"] >= -3, "train_loss"] = np.inf  # -4 is best, and the last that trains
    assert one(a, a).mean.word == "same" and one(a, a).shifts[0].value.high == 0
    assert one(a, b).shifts[0].value.value == 0 and one(a, b).shifts[0].value.high > 0.5
    assert one(a, b).shifts[0].word == "undecided"


def test_the_difference_of_drifts_is_that_of_the_slopes():
    """Two ways to the same number; SP against µP where A and B hold one each."""
    shifts = one(planted(-0.7, name="sp"), planted(0.0, name="mup", key=1))
    assert shifts.names == ("sp", "mup") and shifts.drift.word == "differs"
    a, b = (result.slope.value for result in shifts.drifts)
    assert shifts.drift.value.value == pytest.approx(b - a, abs=1e-9) == pytest.approx(0.7, abs=0.1)
    assert [result.verdict for result in shifts.drifts] == ["drifts", "stable"]


def test_only_common_widths_count():
    """A width that one set lacks moves nothing; with one in common there is a shift and no drift."""
    a, b = planted(widths=(64, 128, 256)), planted(widths=(128, 256, 512), key=1)
    both, inner = one(a, b), one(a[a["width"] != 64], b[b["width"] != 512])
    assert both.widths == (128, 256) and (both.shifts, both.drift) == (inner.shifts, inner.drift)
    single = one(a[a["width"] != 128], b)
    assert single.widths == (256,) and single.drift is None and not single.drifts


@pytest.mark.parametrize("which", [0, 1])
def test_one_seed_or_an_edge_is_undecided(which):
    """Neither bears a word, on whichever side it is."""
    runs = planted(noise=0.001)
    lonely, edged = (one(*[part, runs][:: 1 - 2 * which]) for part in (runs[runs.seed == 0], runs[runs.log2_lr <= -5]))
    assert (lonely.mean.word, edged.mean.word) == ("undecided", "undecided") and np.isnan(lonely.mean.value.low)
    assert f"{'AB'[which]} on the high edge" in edged.shifts[0].edges


def write(folder, runs, **provenance):
    folder.mkdir()
    runs.to_csv(folder / "runs.csv", index=False)
    if provenance:
        (folder / "provenance.json").write_text(json.dumps(provenance), encoding="utf-8")
    return folder


def test_the_text_names_what_differs(tmp_path):
    """Precision, steps and scale that differ, the data that are the same, and what is not known of both."""
    runs = planted().assign(precision="float32", steps=100, data_fingerprint="abc", wall_seconds=1.0, test_loss=2.0)
    other = runs.assign(precision="bfloat16", steps=200, wall_seconds=3.0, test_loss=3.0)
    a = write(tmp_path / "a", runs, scale="cpu", data_source="books")
    b = write(tmp_path / "b", other, scale="gpu", data_source="books")
    text = compare(a, b / "runs.csv")
    told = ("differs: precision: A float32; B bfloat16", "differs: steps: A 100; B 200", "differs: scale: A cpu; B gpu")
    for words in (*told, "the same in both: data_fingerprint, data_source", "not known of both: batch", "mean "):
        assert f"\n{words}" in text
    assert "0.00 [0.00, 0.00]  same" in text and "wall_seconds" not in text and "test_loss" not in text
    assert compare(a, a).count("differs:") == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda runs: None, "does not exist; expected a runs.csv, or a folder that holds one"),
        (lambda runs: runs.drop(columns="seed"), "lacks seed"),
        (lambda runs: runs[1:], "missing"),
        (lambda runs: runs.assign(width=runs["width"] * 3), "share no width (A has 64, 128 and 256, B has"),
        (lambda runs: pd.concat([runs.assign(parametrization=name) for name in ("ntk", "mup")]),
         "share no parametrization (A has sp, B has mup and ntk)"),
        (lambda runs: runs.assign(train_loss=np.inf), "no learning rate at which all seeds finished"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_one_line(tmp_path, change, words):
    """On the right: the bad table is B."""
    good, bad = write(tmp_path / "a", planted()), tmp_path / "b"
    if (runs := change(planted())) is not None:
        write(bad, runs)
    with pytest.raises(UserError) as error:
        compare(good, bad)
    assert words in str(error.value) and "\n" not in str(error.value)
