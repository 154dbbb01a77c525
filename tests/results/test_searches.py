"""Tables 4 and 5 and Figure 6, on numbers made by hand: what is selected, what came of it, and what a folder shows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from drawn import words
from search_table import LOST, outcomes, search_table

from mutransfer.errors import UserError
from mutransfer.results import published
from mutransfer.results.estimate import Estimate
from mutransfer.results.front import LINES, Fronts, along
from mutransfer.results.searches import SEARCHES, cell, searches_report
from mutransfer.results.selection import searches

DOWN = -math.inf
N = 7
SPACE = {"lr": "5e-4 * 2^{-1.5..1.25}", "output_mult": "2^{-8..7}", "attn_mult": "2^{-3..8}"}
FACTS = {
    "samples": 6, "search": 3, "searches": N, "direct_samples": 4, "direct": 2, "inits": 2, "seed": 0,
    "proxy_width": 32, "target_width": 128, "space": SPACE,
}  # fmt: skip


def inits(first, step, samples):
    """Sample i has the BLEUs first + i step -+ 0.1: its mean is first + i step."""
    return {i: (first + i * step - 0.1, first + i * step + 0.1) for i in range(samples)}


def runs(proxy=None, direct_pool=None, **targets):
    """Sample i of a pool has loss 5 + i, so that the lowest number looked at wins."""
    every = {"mutransfer": inits(35, -1, 6), "naive": inits(20, -1, 6), "direct": inits(33, -1, 4)}
    every |= {"default": {-1: (31.0, 33.0)}, **targets}
    return search_table(proxy or [5.0 + i for i in range(6)], direct_pool or [5.0 + i for i in range(4)], every)


def report(table=None, **facts):
    return searches_report(runs() if table is None else table, {**FACTS, **facts})


def median(known, name):
    return known.methods[name].percentile(50, "bleu_valid")


def test_outcomes_are_means_over_the_inits_of_the_sample_with_the_least_validation_loss():
    """By hand from the looks; BLEU decides nothing, though sample 5 has by far the best in both pools' targets."""
    known = report(runs(mutransfer={**inits(35, -1, 6), 5: (99.0, 99.0)}, direct={**inits(33, -1, 4), 3: (99.0, 99.0)}))
    best = [min(look) for look in searches(6, 3, N, 0)]
    of_direct = [min(look) for look in searches(4, 2, N, 0)]
    methods = known.methods
    assert list(methods["mutransfer"].chosen) == best == list(methods["naive"].chosen)
    assert methods["mutransfer"].values("bleu_valid") == pytest.approx([35 - i for i in best])
    assert methods["naive"].values("bleu_test") == pytest.approx([19 - i for i in best])
    assert list(methods["direct"].chosen) == of_direct
    assert methods["direct"].values("bleu_valid") == pytest.approx([33 - i for i in of_direct])
    assert set(methods["default"].values("bleu_valid")) == {32.0}
    shuffled = report(runs().sample(frac=1, random_state=1))
    assert [against.other for against in shuffled.comparisons()] == ["naive", "direct", "default"]
    assert shuffled.comparisons("bleu_test") == report().comparisons("bleu_test")


def test_of_a_tie_the_lower_number_is_selected_and_a_diverged_sample_never():
    ties = report(runs(proxy=[LOST, 5.0, 5.0, LOST, 5.0, 5.0]))
    expected = [min((i for i in look if i not in (0, 3)), default=None) for look in searches(6, 3, N, 0)]
    assert list(ties.methods["naive"].chosen) == expected


def test_one_diverged_init_makes_the_outcome_diverged():
    """Sample 0 loses one init of two; it ranks below every BLEU, in every draw."""
    mup = report(runs(mutransfer={**inits(35, -1, 6), 0: (LOST, 40.0)}), search=6).methods["mutransfer"]
    assert set(mup.chosen) == {0} and (mup.diverged, mup.without_winner) == (N, 0)
    assert (mup.percentiles(100, "bleu_valid") == DOWN).all() and mup.lost == ("7 of 7", "0 of 7")


def test_a_search_whose_samples_all_diverged_is_diverged_too():
    """Only sample 0 trains on the proxy."""
    mup = report(runs(proxy=[5.0] + [LOST] * 5)).methods["mutransfer"]
    without = sum(0 not in look for look in searches(6, 3, N, 0))
    assert 0 < without < N and (mup.without_winner, mup.diverged) == (without, 0)
    assert sorted(mup.values("bleu_valid")) == [DOWN] * without + [35.0] * (N - without)


def test_inits_are_drawn_within_their_sample():
    """All searches select sample 0: what is left is its inits, all but one of them drawn: 34.9 or 35.1."""
    mup = report(search=6).methods["mutransfer"]
    middle = mup.percentile(50, "bleu_valid")
    assert (middle.value, middle.low, middle.high) == pytest.approx((35, 34.9, 35.1))
    assert {len(np.unique(mup.percentiles(p, "bleu_valid")[1:])) for p in (0, 50, 100)} == {2}
    alone = median(report(runs().query("seed == 0"), inits=1, search=6), "mutransfer")
    assert alone.low == alone.high == pytest.approx(34.9)


def test_what_a_search_spent():
    """3 proxies at 10 FLOPs and a target at 100; two targets, the winner among them; the default once."""
    known = report()
    spent = {name: set(of.spent) for name, of in known.methods.items()}
    assert spent == {"default": {100.0}, "direct": {200.0}, "naive": {130.0}, "mutransfer": {130.0}}
    for kind in ("compute", "planned"):
        gap, least, most = known.gap(kind, ("direct", "mutransfer"))
        assert gap == pytest.approx(200 / 130 - 1) and (least.name, most.name) == ("mutransfer", "direct")


def test_diverged_runs_cost_the_steps_that_they_lived():
    """A quarter: 2.5 for a proxy, 25 for a target, (25 + 100) / 2 for a target of which one init is lost."""
    table = runs(proxy=[5.0, LOST, LOST, 8.0, 9.0, 10.0], naive={**inits(20, -1, 6), 0: (LOST, 20.0)})
    methods = report(table, search=6).methods
    assert set(methods["mutransfer"].spent) == {2 * 2.5 + 4 * 10 + 100}
    assert set(methods["naive"].spent) == {45 + 62.5} and methods["naive"].planned == 160


def row(table, role, sample, seed=0):
    return (table["role"] == role) & (table["sample"] == sample) & (table["seed"] == seed)


def changed(column, value, role, sample=0, seed=0):
    table = runs()
    table[column] = table[column].astype(object).mask(row(table, role, sample, seed), value)
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (runs().drop(columns="flops"), "lacks flops; run"),
        (runs().drop(columns="attn_mult"), "lacks attn_mult; run"),
        (runs().query("role != 'default'"), "has no runs of role 'default'"),
        (runs().query("role != 'direct_pool'"), "has no runs of role 'direct_pool'"),
        (runs().replace({"role": {"naive": "naiv"}}), "unknown role in the table of the searches 'naiv'. Did you mean"),
        (changed("status", "failed", "naive"), "1 runs failed, first role naive, sample 0, seed 0; the same command"),
        (changed("test_loss", math.nan, "proxy", 2), "1 runs of the searches finished without a test_loss, first role"),
        (changed("bleu_valid", math.nan, "direct", 1), "role 'direct' finished without a bleu_valid"),
        (changed("bleu_test", math.nan, "default", -1), "role 'default' finished without a bleu_test"),
        (runs()[lambda t: ~row(t, "proxy", 4)], "role 'proxy' lacks 1 of 6 runs, first sample 4"),
        (runs(direct_pool=[5.0] * 5), "role 'direct_pool' has sample 4, which was not planned"),
        (runs()[lambda t: ~row(t, "mutransfer", 0, 1)], "'mutransfer' with sample 0 lacks 1 of 2 runs, first seed 1"),
        (runs(default={-1: (30.0, 31.0), 0: (30.0, 31.0)}), "role 'default' have sample '0', expected '-1'"),
        (pd.concat([runs(), runs()[lambda t: row(t, "naive", 1)]]), "stand there twice, first role naive, sample 1"),
        (pd.concat([runs(), runs()[lambda t: row(t, "proxy", 1)].assign(seed=1)]), "role 'proxy' stand there twice"),
        (changed("width", 64, "naive"), "1 runs of the target have width '64', expected '128', first role naive"),
        (changed("steps", 50, "proxy"), r"the runs of the proxy differ in steps \(100, 50\)"),
        (runs().assign(data_fingerprint=range(len(runs()))), "the runs of the searches differ in data_fingerprint"),
        (changed("parametrization", "mup", "naive"), "role 'naive' have parametrization 'mup', expected 'sp'"),
        (changed("log2_lr", -1.0, "naive"), "role naive, sample 0, seed 0 differs in log2_lr from its sample of role"),
        (changed("test_loss", 5.5, "direct"), "is the pool's own run but has another test_loss"),
        (runs(mutransfer=inits(35, -1, 7)), "sample 6, seed 0 copies a sample that role 'proxy' does not have"),
    ],
)  # fmt: skip
def test_gaps_are_named(table, message):
    with pytest.raises(UserError, match=message):
        report(table)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"inits": "2", "searches": True}, "has searches True, inits '2', of the wrong type"),
        ({"direct": None}, "lacks direct; run"),
        ({"inits": 0}, "has inits 0, expected 1 or more"),
        ({"space": None}, "lacks space"),
        ({"proxy_width": 64}, "6 runs of the proxy have width '32', expected '64'"),
    ],
)
def test_wrong_facts_are_named(facts, message):
    with pytest.raises(UserError, match=message):
        report(**facts)


def test_a_selected_sample_without_its_target_is_named():
    best = min(min(look) for look in searches(6, 3, N, 0))
    partly = report(runs()[lambda t: ~((t["role"] == "naive") & (t["sample"] == best))])
    with pytest.raises(UserError, match=rf"runs of sample {best} \(role 'naive'\), which search \d selects of 3"):
        partly.methods  # noqa: B018
    with pytest.raises(UserError, match="a search looks at 9 samples of a pool of 6"):
        report(search=9).methods  # noqa: B018


# Figure 6


class Line:
    """Stands for a report: one training of the target is 1 FLOP."""

    training = 1.0

    def __init__(self, n):
        self.facts = {"searches": n}


def fronts(direct, mutransfer):
    """Each a list of (samples, compute, outcomes)."""
    points = {"direct": direct, "mutransfer": mutransfer}
    n = len(direct[0][2])
    return Fronts(Line(n), {k: tuple(outcomes(b, k, s, c) for s, c, b in v) for k, v in points.items()})


def flat(value, n=5):
    return [value] * n


def test_between_points_a_line_is_straight_in_log2():
    x, values = np.array([1.0, 4.0]), [np.array([10.0]), np.array([20.0])]
    assert along(x, values, 2.0) == pytest.approx(15) and along(x, values, 4.0) == 20 and along(x, values, 1.0) == 10
    assert along(x[::-1], values[::-1], 2.0) == pytest.approx(15)
    assert along(x, [np.array([DOWN]), np.array([20.0])], 2.0) == DOWN
    assert along(np.array([1.0, 1.0, 4.0]), [*values, np.array([0.0])], 1.0) == 20


def test_lines_are_compared_where_both_have_a_value():
    """Direct at 2 and 8 trainings, µTransfer at 1, 4 and 16: at 2, 4 and 8; 30, 32, 34 against 31, 32, 36 there."""
    both = fronts([(2, 2, flat(30)), (8, 8, flat(34))], [(4, 1, flat(30)), (8, 4, flat(32)), (16, 16, flat(40))])
    duel = both.duel("compute")
    assert list(duel.x) == [2, 4, 8] and [d.value for d in duel.differences] == pytest.approx([1, 0, 2])
    assert duel.verdict == "µTransfer dominates" and [d.low > 0 for d in duel.differences] == [True, False, True]
    duel = both.duel("samples")
    assert list(duel.x) == [4, 8] and [d.value for d in duel.differences] == pytest.approx([-2, -2])
    assert duel.verdict == "tuning on 1x dominates"


NOISY = [20.0, 25.0, 30.0, 35.0, 40.0]


@pytest.mark.parametrize(
    ("direct", "mutransfer", "text"),
    [
        ([(1, 1, flat(30)), (4, 4, flat(36))], [(1, 1, flat(32)), (4, 4, flat(34))], "the lines cross"),
        ([(1, 1, NOISY)], [(1, 1, NOISY[::-1])], "undecided"),
        ([(1, 1, flat(30, 4))], [(1, 1, flat(32, 4))], "undecided (4 searches, fewer than 5)"),
        ([(1, 1, flat(30))], [(2, 2, flat(32))], "undecided (no compute that both have)"),
        # clearly better at 1, a little behind at 4, though not clearly
        ([(1, 1, flat(30)), (4, 4, flat(30))], [(1, 1, flat(32)), (4, 4, [20.0, 25.0, 29.0, 35.0, 40.0])], "undecided"),
        # a diverged median loses
        ([(1, 1, flat(DOWN)), (4, 4, flat(30))], [(1, 1, flat(20)), (4, 4, flat(31))], "µTransfer dominates"),
    ],
)
def test_who_dominates(direct, mutransfer, text):
    assert fronts(direct, mutransfer).duel("compute").text == text


def test_points_of_a_line_are_the_searches_cut_short():
    """A larger search keeps what a smaller one looked at, so its winner's loss never rises, nor its compute falls."""
    known = report()
    lines = Fronts.of(known, {"mutransfer": [4, 1, 2, 3], "direct": [1, 2]})
    assert [p.looked for p in lines.points["mutransfer"]] == [1, 2, 3, 4]
    chosen = np.array([p.chosen for p in lines.points["mutransfer"]])
    assert (np.diff(chosen, axis=0) <= 0).all()  # sample i has loss 5 + i
    assert lines.x("mutransfer", "compute") == pytest.approx([1.1, 1.2, 1.3, 1.4])
    assert lines.x("direct", "compute") == pytest.approx([1, 2])
    assert lines.points["mutransfer"][2].chosen == known.methods["mutransfer"].chosen
    assert Fronts.of(known, {"mutransfer": [], "direct": []}) is None


def test_malformed_sizes_and_sizes_beyond_the_pool_are_named():
    known = report()
    for sizes in (None, {"direct": []}, {"mutransfer": [1], "direct": []}, {"mutransfer": [1.5], "direct": [1]}):
        with pytest.raises(UserError, match=f"sizes of {LINES[0]} and {LINES[1]}|numbers of samples for both lines"):
            Fronts.of(known, sizes)
    with pytest.raises(UserError, match="looks at 5 samples of a pool of 4"):
        Fronts.of(known, {"mutransfer": [1], "direct": [5]})
    worst = max(look[0] for look in searches(6, 1, N, 0))
    table = runs()[lambda t: ~((t["role"] == "mutransfer") & (t["sample"] == worst))]
    with pytest.raises(UserError, match=rf"sample {worst} \(role 'mutransfer'\), which search \d selects of 1"):
        Fronts.of(report(table), {"mutransfer": [1], "direct": [1]})


# The folder: 12 samples on the proxy, the lower the number, the better; of naive transfer odd ones diverged.

SHOWN = {
    **FACTS, "samples": 12, "search": 6, "direct_samples": 5, "table": "Table 4", "percentiles": [25, 50, 75, 100],
    "sizes": {"mutransfer": [1, 2, 6], "direct": [1, 2]}, "default_lr": 5e-4,
}  # fmt: skip
NO_FRONT = {"sizes": {"mutransfer": [], "direct": []}}
PAPER = {"table_or_figure": "Table 4", "statement": "µTransfer wins.", "differs": "width 128; 2 inits; made-up data."}


def shown(**targets):
    """µTransfer 35, direct 33, the default 32, naive 20."""

    def tenths(best, samples):
        return {i: (best - i / 10 - 0.02, best - i / 10 + 0.02) for i in range(samples)}

    naive = {i: (LOST, 20.0) if i % 2 else bleu for i, bleu in tenths(20, 12).items()}
    every = {"mutransfer": tenths(35, 12), "naive": naive, "direct": tenths(33, 5), "default": {-1: (31.9, 32.1)}}
    proxy = [LOST if i == 3 else 5 + i / 10 for i in range(12)]
    return search_table(proxy, [4 + i / 10 for i in range(5)], {**every, **targets})


@pytest.fixture
def written(folder):
    """Write a folder of repeated searches; ``facts`` changes provenance["searches"]."""

    def write(table=None, facts=(), **more):
        known = {"paper": PAPER, "searches": {**SHOWN, **dict(facts)}, "stands_in_for": "IWSLT14", **more}
        return folder(shown() if table is None else table, **known)

    return write


def of_row(table, heading, start):
    """The cells of the row that begins with ``start``, of the first table under ``heading``."""
    part = table.split(f"## {heading}")[1]
    line = next(line for line in part.split("\n") if line.startswith(f"| {start} |"))
    return [text.strip() for text in line.strip("|").split("|")]


def test_the_table_sets_ours_beside_the_paper(written):
    """Every selected sample is 0 or another low number; the paper's numbers are those of values.csv."""
    described = SEARCHES.describe(written(facts={"search": 12}))
    table, name = described.text, "Validation BLEU beside Table 4 of the paper"
    mup = of_row(table, name, "µTransfer from 0.25x")
    # all samples are looked at: 11 proxies and a quarter of one at 10 FLOPs, a target at 100; sample 0 has 35
    assert mup[1:5] == ["2.12", "1x", "12", "64"] and mup[-2:] == ["0 of 7", "0 of 7"]
    assert mup[5:13] == [*(x for p in ("35.27", "35.33", "35.45", "35.53") for x in ("35.00 [34.98, 35.02]", p))]
    direct = of_row(table, name, "tuning on 1x (SP)")
    assert direct[3:5] == ["2", "5"] and direct[6::2][:4] == ["33.62", "35.0", "35.35", "35.45"]
    assert of_row(table, name, "naive transfer from 0.25x (SP)")[6::2][:4] == ["diverged"] * 4
    default = of_row(table, name, "fairseq default (SP)")
    assert default[5:11] == ["-"] * 6 and default[11].startswith("mean 32.00 [30.73, 33.27]") and default[12] == "35.4"
    assert of_row(table, "Test BLEU", "µTransfer from 0.25x")[3:5] == ["34.00 [33.98, 34.02]"] * 2
    for line in described.summary.split("\n"):
        assert f"- {line}\n" in table
    for text in (
        "1. width 128.\n2. 2 inits.\n3. made-up data.",
        "µTransfer wins.",
        "| Section 7.1: independent search trials | 25 | 7 |",
        "resampled from one pool, so an interval says nothing about another pool",
        "one training of the target is 100 FLOPs",
        "undecided (all searches selected the same",
    ):
        assert text in table


def test_table_5_has_its_own_percentiles_and_numbers(written):
    facts = {"table": "Table 5", "percentiles": [0, 50, 100], "searches": 3, **NO_FRONT}
    described = SEARCHES.describe(written(facts=facts, signature="BLEU|tok:13a"))
    table, name = described.text, "Validation BLEU beside Table 5 of the paper"
    assert "| p0 (worst) | the paper | p50 (median) | the paper | p100 (best) | the paper |" in table
    assert of_row(table, name, "µTransfer from 0.25x")[6:11:2] == ["25.94", "26.34", "26.42"]
    assert of_row(table, name, "tuning on 1x (SP)")[6:11:2] == ["diverged", "diverged", "25.69"]
    assert of_row(table, name, "fairseq default (SP)")[10] == "26.4"
    assert "| Table 5: independent search trials | 3 | 3 |" in table and "Section 7.1" not in table
    assert described.summary.count("undecided (3 searches, fewer than 5)") == 3 and "Figure 6" not in table
    assert "BLEU: `BLEU|tok:13a`." in table


def test_the_published_numbers_say_how_sure_they_are():
    """Of the first metric that the paper has; a dash where it has none."""
    values = published.by_setup(table_or_figure="Table 4")
    setup = "muTransfer from 0.25x"
    assert published.text(values, setup, "total energy", "val BLEU p50", "val BLEU p100") == "35.33"
    values[setup, "total compute"] = replace(values[setup, "val BLEU p50"], value="1", unit="x", confidence="MEMORY")
    assert published.text(values, setup, "total compute") == "1x (memory)"
    assert published.text(values, "nobody", "val BLEU p50") == "-"


def test_verdicts_compute_and_what_was_selected(written):
    described = SEARCHES.describe(written())
    text, table = described.summary, described.text
    assert "µTransfer against naive transfer from 0.25x (SP): better; validation BLEU higher in 7 of 7 searches" in text
    assert "µTransfer against fairseq default (SP): better" in text and "| **better** |" in table
    assert "NOT equal within 10%" in text and "with no diverged run stopped 1.60 and 2.00, 25.0%" in text
    assert "| 5 of 5 inits diverged" not in table and "| 1 of 2 inits diverged |" in table
    assert "lr, of 5e-4 * 2^{-1.5..1.25}" in table and "learning rate 0.0005" in table
    assert "Figure 6, at equal compute: µTransfer dominates" in text
    worse = SEARCHES.describe(written(shown(mutransfer={i: (1.0, 1.1) for i in range(12)}))).summary
    assert "µTransfer against tuning on 1x (SP): worse" in worse
    assert "Figure 6, at equal number of samples: tuning on 1x dominates" in worse


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(written):
    """In any order of rows; what is never selected changes nothing, what is changes its table and its pictures."""

    def drawn(table):
        _, paths = SEARCHES.redraw(written(table.sample(frac=1, random_state=len(done))))
        done.append({path.name: path.read_bytes() for path in paths})
        return done[-1]

    done = []
    before = drawn(shown())
    assert [*before] == ["bleu.png", "bleu.svg", "pareto.png", "pareto.svg", "table.md"]
    default, never, loser = shown(), shown(), shown()
    never.loc[(never["role"] == "naive") & (never["sample"] == 10), "bleu_valid"] += 0.2
    default.loc[(default["role"] == "default") & (default["seed"] == 1), "bleu_test"] += 0.2
    loser.loc[(loser["role"] == "direct") & (loser["sample"] == 0) & (loser["seed"] == 1), "bleu_valid"] += 0.5
    for table, stems in ((never, set()), (default, {"bleu", "table"}), (loser, {"bleu", "pareto", "table"})):
        after = drawn(table)
        assert {name.split(".")[0] for name in before if after[name] != before[name]} == stems


@pytest.mark.parametrize("role", ["mutransfer", "direct", "default"])
def test_odd_searches_are_drawn_and_pictures_say_what_they_are_made_of(written, role):
    """All targets of a method diverged; that is a result. A figure is passed around without its table."""
    table = shown()
    lost = table["role"] == role
    table.loc[lost, ["status", "test_loss", "bleu_valid", "bleu_test"]] = ["diverged", math.nan, math.nan, math.nan]
    if role == "direct":
        table.loc[table["role"] == "direct_pool", ["status", "test_loss"]] = ["diverged", math.nan]
    text, paths = SEARCHES.redraw(written(table, data_is_real=False))
    told = {"mutransfer": "against fairseq default (SP): worse", "direct": "tuning on 1x (SP): better"}
    assert told.get(role, "fairseq default (SP): better") in text
    assert "[+inf, +inf]" in text or role == "mutransfer"
    assert ("Nothing: all samples diverged." in paths[-1].read_text()) == (role == "direct")
    said = {path.stem: words(path) for path in paths if path.suffix == ".svg"}
    for lines in said.values():
        caption = " ".join(lines)
        assert "STAND-IN DATA, not IWSLT14" in lines and "one pool" in caption and "Data: CIFAR-10" in caption
    assert said["bleu"].count("worse" if role == "mutransfer" else "better") >= 4
    assert "diverged, or no winner" in said["bleu"] and "median validation BLEU" in said["pareto"]
    assert "compute of a search (trainings of the target, log scale)" in said["pareto"]
    assert "samples a search looks at (log scale)" in said["pareto"]
    dominates = "tuning on 1x" if role == "mutransfer" else "µTransfer"
    assert f"equal compute: {dominates} dominates" in said["pareto"]


def test_cells():
    assert cell(Estimate(DOWN, DOWN, DOWN)) == "diverged"
    assert cell(Estimate(29.82, DOWN, 30.05)) == "29.82 [diverged, 30.05]"


def test_gaps_of_a_folder_are_named(written):
    for facts, message in (
        ({"percentiles": [25, 101]}, "expected numbers from 0 to 100"),
        ({"percentiles": None}, r"provenance.json lacks searches.percentiles"),
        ({"table": "Table 44", **NO_FRONT}, "unknown published table or figure 'Table 44'. Did you mean 'Table 4'"),
        ({"sizes": []}, "needs sizes of direct and mutransfer"),
    ):
        with pytest.raises(UserError, match=message):
            SEARCHES.redraw(written(facts=facts))
    where = written()
    (where / "runs.csv").unlink()
    with pytest.raises(UserError, match=r"runs.csv does not exist"):
        SEARCHES.redraw(where)
