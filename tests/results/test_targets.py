"""Table 6 on numbers made by hand: what came of one search on larger targets, and what its folder shows."""

import math

import numpy as np
import pytest
from drawn import words
from transfer_runs import LOST, facts, transfer_runs

from mutransfer.errors import UserError
from mutransfer.results.scores import PretrainingGain
from mutransfer.results.targets import TRANSFER, Targets, against, apart_text

BASE = {
    "default": (5.0, 5.1, 5.2),
    "default_long": (4.4, 4.6, 4.8),
    "naive": (LOST, LOST, LOST),
    "mutransfer": (4.5, 4.6, 4.7),
}
POOL = (6.1, 6.0, 6.2, LOST, 6.4, 6.5)


def report(table=None, pool=POOL, winner=1, scores=(), values=None, targets=("base",), **roles):
    every = {label: {**BASE, **roles} for label in targets}
    if table is None:
        table = transfer_runs(pool, every, values, winner)
    return Targets.of(table, facts(len(pool), 3, targets, scores))


def naive(ours, its):
    return against(np.array(ours, float), np.array(its, float), "naive")


def test_the_winner_has_the_least_validation_loss_of_a_tie_the_lower_number():
    """Training loss, which the table has the other way round, would choose sample 5."""
    assert report().winner == 1
    assert report(pool=(6.0, 6.0, LOST, 6.0, 7.0, 6.0), winner=0).winner == 0
    assert report().ranked == [1, 0, 2, 4, 5]


def test_speedups_and_compute_by_hand():
    """A sample: 50 steps, 10 FLOPs; base: 200 steps, 400 FLOPs. A diverged sample lived 12 steps."""
    one = report(targets=("base", "large"))
    assert (one.speedups("base"), one.speedups("large")) == ((10, 40), (50, 200))
    assert one.search_cost("base") == 60 / 400 and one.search_cost("base", lived=True) == 52.4 / 400
    compute = {role: one.compute("base", role) for role in one.roles("base")}
    assert compute == pytest.approx({"default": 1, "default_long": 1.15, "naive": 1.15, "mutransfer": 1.15})


def test_losses_are_means_over_inits():
    assert report().ends("base", "mutransfer") == ("4.6000 [4.3516, 4.8484]", "0 of 3")
    assert report().ends("base", "naive") == ("diverged", "3 of 3")
    assert report(naive=(5.0, LOST, 5.2)).ends("base", "naive") == ("diverged", "1 of 3")


def test_better_worse_and_undecided():
    """Paired: all inits are lower by 0.5, though the inits themselves differ by more."""
    better = naive([3.0, 4.0, 5.01], [3.5, 4.5, 5.5])
    assert better.verdict == better.text == "better" and better.better == 3
    assert apart_text(better) == "-0.4967 [-0.5110, -0.4823] nats"
    worse = naive([3.5, 4.5, 5.5], [3.0, 4.0, 5.01])
    assert (worse.verdict, worse.better) == ("worse", 0) and apart_text(worse).startswith("+0.4967")
    found = report().comparisons("base")
    assert [one.other for one in found] == ["naive", "default_long", "default"]
    assert [one.verdict for one in found] == ["better", "undecided", "better"]
    same = naive([3.0, 4.0, 5.0], [3.0, 4.0, 5.0])
    assert same.text == "undecided" and same.better == 0


def test_two_inits_decide_nothing():
    for ours, its in (([3.0, 3.1], [5.0, 5.1]), ([3.0, 3.1], [LOST, LOST]), ([3.0], [4.0])):
        one = naive(ours, its)
        assert one.verdict == "undecided" and "fewer than 3" in one.text


@pytest.mark.parametrize(
    ("ours", "its", "verdict", "text"),
    [
        ((3, 3, 3), (LOST, LOST, LOST), "better", "-inf"),
        ((LOST, LOST, LOST), (3, 3, 3), "worse", "+inf"),
        ((3, 3, 3), (4, LOST, LOST), "undecided", "-"),
        ((LOST, 3, 3), (4, 4, 4), "undecided", "-"),
        ((LOST, 3, 3), (LOST, LOST, LOST), "undecided", "-"),
        ((3, 3, LOST), (3, LOST, 3), "undecided", "-"),
        ((LOST, LOST, LOST), (LOST, LOST, LOST), "undecided", "0.0000"),
    ],
)
def test_divergence(ours, its, verdict, text):
    """It decides only where all inits of one diverged and none of the other; how many is said."""
    one = naive(ours, its)
    assert one.verdict == verdict and apart_text(one).startswith(text)
    for name, losses in (("µTransfer", ours), ("naive transfer", its)):
        lost = losses.count(LOST)
        assert (f"{name} diverged in {lost} of 3 inits" in one.text) == (lost > 0)


def test_does_pretraining_matter():
    """By the paired difference: yes, no, undecided; a diverged run has no score; two runs decide nothing."""
    scratch = np.array([70.0, 75.0, 80.0])
    yes = PretrainingGain.of("sst2", scratch + np.array([2.0, 2.1, 2.2]), scratch)
    assert (yes.text, yes.runs) == ("yes", 3) and yes.difference.value == pytest.approx(2.1)
    assert yes.pretrained.value == pytest.approx(77.1) and yes.scratch.value == 75
    assert PretrainingGain.of("sst2", scratch - np.array([2.0, 2.1, 2.2]), scratch).text == "no"
    assert PretrainingGain.of("sst2", scratch, scratch).text == "no"
    assert PretrainingGain.of("sst2", scratch + np.array([-1.0, 0.0, 2.0]), scratch).text == "undecided"
    lost = np.array([math.nan, 1.0, 1.0])
    assert PretrainingGain.of("sst2", scratch + 2 * lost, scratch * lost).text == "undecided (2 runs, fewer than 3)"
    none = PretrainingGain.of("sst2", scratch * math.nan, scratch * math.nan)
    assert none.text == "undecided (0 runs, fewer than 3)" and none.difference.reason == "all inits diverged"


def test_scores_decide_nothing_and_come_in_pairs():
    """A task without a score from the init is no part of the question."""
    values = {"sst2": (80, 81, 82), "sst2_scratch": (70, 71, 72.5), "qqp": (1, 2, 3)}
    one = report(scores=("sst2", "qqp"), values=values)
    assert one.tasks == ["sst2"]
    (found,) = one.pretraining("base")
    assert found.text == "yes" and one.parts["base", "mutransfer"]["qqp"].mean() == 2
    assert one.parts["base", "naive"]["sst2"].isna().all()
    assert [o.verdict for o in one.comparisons("base")] == [o.verdict for o in report().comparisons("base")]


TABLE = transfer_runs(POOL, {"base": BASE}, {"sst2": (80, 81, 82)}, 1)


def put(role, column, value, seed=0):
    table = TABLE.copy()
    table[column] = table[column].astype(object).mask((table["role"] == role) & (table["seed"] == seed), value)
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop(columns="depth"), "lacks depth"),
        (TABLE.drop(columns="sst2"), "lacks sst2"),
        (TABLE.drop(columns="output_mult"), "lacks output_mult"),
        (TABLE.query("role != 'naive' or seed < 2"), "target 'base' lacks 1 of 12 runs, first role naive, seed 2"),
        (TABLE.drop(index=2), "the search lacks 1 of 6 runs, first sample 2"),
        (put("default", "status", "failed"), "1 runs failed, first role default, target base, sample -1, seed 0; the"),
        (put("default", "test_loss", math.nan), "1 runs of the transfer finished without a test_loss"),
        (put("mutransfer", "sst2", math.nan, 1), "target 'base' finished without a sst2, first role mutransfer"),
        (put("mutransfer", "parametrization", "sp"), "role 'mutransfer' have parametrization 'sp', expected 'mup'"),
        (put("naive", "width", 128), "1 runs of target 'base' have width '128', expected '64'"),
        (put("naive", "steps", 100), r"target 'base' \(as long as the others\) differ in steps"),
        (put("mutransfer", "base_width", 16), "1 runs of the transfer have base_width '16', expected '32'"),
        (put("mutransfer", "sample", 0), "copied from the winner by validation loss have sample '0', expected '1'"),
        (put("naive", "output_mult", 9.0), "validation loss have output_mult '9.0', expected '2.0', first role naive"),
        (put("naive", "role", "naiv"), "unknown role"),
        (put("naive", "target", "bse"), "unknown target"),
        (transfer_runs([LOST] * 6, {"base": BASE}, {"sst2": (80, 81, 82)}), "none of the 6 samples has trained"),
    ],
)
def test_gaps_are_named(table, message):
    with pytest.raises(UserError, match=message):
        report(table, scores=("sst2",))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"samples": None}, "lacks samples"),
        ({"proxy": {"width": 32}}, "lacks proxy.depth"),
        ({"scores": {"sst2": {}}}, "lacks scores.sst2.label"),
        ({"targets": {"base": {"width": 64}}}, "lacks targets.base.changes, .*, targets.base.depth; run"),
        ({"targets": {"base": {**facts()["targets"]["base"], "changes": "bth"}}}, "'bth'. Did you mean 'both'"),
        ({"targets": {"base": {**facts()["targets"]["base"], "roles": ["naive"]}}}, "'base' has the roles naive"),
    ],
)
def test_wrong_facts_are_named(broken, message):
    with pytest.raises(UserError, match=message):
        Targets.of(TABLE, {**facts(), **broken})


# The folder.

PAPER = {"table_or_figure": "Table 6", "statement": "µTransfer wins.", "differs": "width 64; SST-2 for MNLI."}
NAMES = ("base", "large", "wide", "deep")
VALUES = {"sst2": (80, 81, 82), "sst2_scratch": (70, 71, 72.5), "qqp": (60, 60.5, 61), "qqp_scratch": (60, 61, 60.5)}


def shown(names=NAMES):
    """µTransfer is below the default, naive transfer diverges; large, one init of three."""
    base = {**BASE, "mutransfer": (4.5, 4.62, 4.7)}
    targets = {
        "base": base,
        "large": {**{role: tuple(x - 0.5 for x in losses) for role, losses in base.items()}, "naive": (LOST, 9.0, 4.9)},
        "wide": {role: base[role] for role in ("default", "naive", "mutransfer")},
        "deep": {role: base[role] for role in ("default", "mutransfer")},
    }
    return transfer_runs(POOL, {name: targets[name] for name in names}, VALUES, winner=1)


@pytest.fixture
def written(folder):
    """Write a folder of a transfer to the targets ``names``; ``of`` changes provenance["transfer"]."""

    def write(table=None, of=(), names=NAMES, **more):
        known = {**facts(6, 3, names, ("sst2", "qqp")), **dict(of)}
        provenance = {"paper": PAPER, "transfer": known, "stands_in_for": "Wikipedia", "title": "BERT", **more}
        return folder(shown(names) if table is None else table, **provenance)

    return write


def rows(table, heading, *start):
    """The cells of the first row with this beginning, of the table under ``heading``."""
    part = table.split(f"## {heading}")[1]
    line = next(line for line in part.split("\n") if line.startswith(f"| {' | '.join(start)} |"))
    return [text.strip() for text in line.strip("|").split("|")][len(start) :]


def test_ours_stands_beside_the_paper(written):
    """Speedups by hand, losses over inits; the paper's from values.csv, a dash where it has none."""
    described = TRANSFER.describe(written())
    table, base, name = described.text, "base (width 64, depth 4)", "Pretraining beside Table 6 of the paper"
    cells = rows(table, name, base, "µTransfer")
    assert cells[:6] == ["10x", "4x", "40x", "40x", "200", "1.15"]
    assert cells[6].startswith("4.6067 [4.35") and cells[7:] == ["1.97", "0 of 3"]
    assert rows(table, name, base, "SP default")[:4] == ["1x"] * 4
    assert rows(table, name, base, "longer SP default")[:6] == ["-", "-", "-", "-", "230", "1.15"]
    assert rows(table, name, base, "naive transfer")[-3:] == ["diverged", "diverged", "3 of 3"]
    large = rows(table, name, "large (width 128, depth 8)", "µTransfer")
    assert large[:4] == ["50x", "22x", "200x", "220x"] and large[-2] == "1.683"
    fine = rows(table, "Fine-tuned, beside Table 6", base, "µTransfer")
    # SST-2, QQP and the paper's QQP, then what only the paper has
    assert fine == ["81.00 [78.52, 83.48]", "60.50 [59.26, 61.74]", "90.8", "84.3", "84.8"]
    assert rows(table, "Fine-tuned, beside Table 6", base, "naive transfer")[:2] == ["-", "-"]
    assert "the paper's MNLI-m acc" in table and "The last columns: what the paper fine-tuned on" in table
    for line in described.summary.split("\n"):
        assert f"- {line}\n" in table
    assert "1. width 64.\n2. SST-2 for MNLI." in table and "µTransfer wins." in table
    assert "| the proxy's hp samples | 256 | 6 |" in table and "the proxy's d model | 256 | 32 |" in table
    assert "Sample 1, the first of the best 5:" in table and "LR 9.54e-07" in table


def test_what_is_said(written):
    described = TRANSFER.describe(written())
    text, table, base = described.summary, described.text, "base (width 64, depth 4)"
    assert f"{base}, wider and deeper: µTransfer against SP default: better; validation loss lower in 3 of 3" in text
    assert "against naive transfer: better (naive transfer diverged in 3 of 3 inits)" in text
    assert "against naive transfer: undecided (naive transfer diverged in 1 of 3 inits)" in text
    assert f"{base}: the search cost 0.15 trainings of it (0.131 with diverged runs stopped)" in text
    assert "matter, after µTransfer: SST-2, accuracy (%) yes, +9.83 [" in text and "(%) undecided, 0.00 [" in text
    cells = rows(table, "Does pretraining matter?", base, "SP default", "SST-2, accuracy (%)")
    assert cells[-1] == "**yes**" and cells[1].startswith("71.17 [")
    assert rows(table, "The paper beside ours", "conclusion")[1].startswith("µTransfer: base: better against naive")


def test_width_and_depth_stand_apart(written):
    """Not among the targets that decide; the paper's word on depth beside them. Without such, no section."""
    table, apart = TRANSFER.describe(written()).text, "Transfer over width and depth apart"
    assert rows(table, apart, "wide (width 64, depth 2)", "only wider", "SP default")[2] == "better"
    assert rows(table, apart, "deep (width 32, depth 4)", "only deeper", "µTransfer")[2] == ""
    assert "naive" not in table.split(f"## {apart}")[1].split("\n| deep")[1].split("\n\n")[0]
    assert "works for pre-LN Transformers" in table and "fragile for post-LN" in table
    main = table.split("## Pretraining beside")[1].split("## Fine-tuned")[0]
    assert "wide" not in main and "deep (" not in main
    table = TRANSFER.describe(written(names=("base",), of=facts(6, 3, ("base",)))).text
    assert apart not in table and "Does pretraining matter?" not in table and "Fine-tuned" not in table


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(written):
    """In any order of rows; scores change the table only, losses the picture too; and what the picture says."""
    two = ("base", "deep")

    def drawn(table, **more):
        shuffled = table.sample(frac=1, random_state=len(done))
        _, paths = TRANSFER.redraw(written(shuffled, names=two, **more))
        done.append({path.name: path.read_bytes() for path in paths})
        return done[-1], words(paths[1])

    done = []
    before, lines = drawn(shown(two))
    assert [*before] == ["losses.png", "losses.svg", "table.md"]
    loss, score = shown(two), shown(two)
    loss.loc[(loss["role"] == "default_long") & (loss["seed"] == 1), "test_loss"] += 0.1
    score.loc[score["role"] == "default", "qqp"] += 1
    after, _ = drawn(score)
    assert [name for name in before if after[name] != before[name]] == ["table.md"]
    after, stand_in = drawn(loss, data_is_real=False)
    assert [name for name in before if after[name] != before[name]] == [*before]
    assert "base (width 64, depth 4): wider and deeper" in lines and "deep (width 32, depth 4): only deeper" in lines
    assert lines.count("better") == 3 and lines.count("undecided") == 1
    caption = " ".join(lines)
    assert "One search of 6 samples" in caption and "After Table 6 of the paper. BERT, scale 'cpu'. Data:" in caption
    assert "STAND-IN DATA, not Wikipedia" in stand_in


def test_gaps_of_a_folder_are_named(written):
    misnamed = facts(6, 3, NAMES, ("sst2", "qqp"))
    misnamed["targets"]["base"]["published"] = "BERT-bse"
    for changes, message in (
        ({"table": shown().query("role != 'mutransfer' or target != 'large'")}, "'large' lacks 3 of 12 runs"),
        ({"table": shown().drop(columns="qqp")}, "lacks qqp"),
        ({"of": misnamed}, "unknown experiment of Table 6 'BERT-bse'. Did you mean 'BERT-base'"),
        ({"of": {"table": None}}, r"lacks transfer.table"),
    ):
        with pytest.raises(UserError, match=message):
            TRANSFER.redraw(written(**changes))
    where = written()
    (where / "runs.csv").unlink()
    with pytest.raises(UserError, match=r"runs.csv does not exist"):
        TRANSFER.redraw(where)
