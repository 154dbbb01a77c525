"""Table 6 on numbers made by hand: what came of one search on larger targets, and what its folder shows."""

import math
from functools import partial

import numpy as np
import pytest
from drawn import words
from search_table import of_row, redrawn
from transfer_runs import LOST, facts, transfer_runs

from mutransfer.errors import UserError
from mutransfer.results.targets import TRANSFER, Targets, by_inits

BASE = {"default": (5.0, 5.1, 5.2), "default_long": (4.4, 4.6, 4.8), "naive": (LOST,) * 3}
BASE["mutransfer"] = (4.5, 4.6, 4.7)
POOL = (6.1, 6.0, 6.2, LOST, 6.4, 6.5)


def report(table=None, pool=POOL, winner=1, scores=(), values=None, targets=("base",)):
    if table is None:
        table = transfer_runs(pool, dict.fromkeys(targets, BASE), values, winner)
    return Targets.of(table, facts(len(pool), 3, targets, scores))


def naive(ours, its):
    return by_inits(np.array(ours, float), np.array(its, float), "naive")


def test_the_winner_has_the_least_validation_loss_of_a_tie_the_lower_number():
    """Training loss, which the table has the other way round, would choose sample 5."""
    assert report().ranked == [1, 0, 2, 4, 5]
    assert report(pool=(6.0, 6.0, LOST, 6.0, 7.0, 6.0), winner=0).ranked[0] == 0


def test_speedups_and_compute_by_hand():
    """A sample: 50 steps, 10 FLOPs; base: 200 steps, 400 FLOPs. A diverged sample lived 12 steps."""
    known = report(targets=("base", "large"))
    assert (known.speedups("base"), known.speedups("large")) == ((10, 40), (50, 200))
    assert known.search_cost("base") == 60 / 400 and known.search_cost("base", "spent") == 52.4 / 400
    cost = {role: trained.cost for role, trained in known.methods["base"].items()}
    assert cost == pytest.approx({"default": 1, "default_long": 1.15, "naive": 1.15, "mutransfer": 1.15})


def test_better_worse_and_undecided():
    """Paired: all inits are lower by 0.5, though the inits themselves differ by more."""
    better = naive([3.0, 4.0, 5.01], [3.5, 4.5, 5.5])
    assert better.text == "better" and better.share == "3 of 3 inits"
    assert better.difference_text == "-0.4967 [-0.5110, -0.4823] nats"
    worse = naive([3.5, 4.5, 5.5], [3.0, 4.0, 5.01])
    assert (worse.verdict, worse.share) == ("worse", "0 of 3 inits") and worse.difference_text.startswith("+0.4967")
    every = report().comparisons("base")
    expected = [("naive", "better"), ("default_long", "undecided"), ("default", "better")]
    assert [(against.other, against.verdict) for against in every] == expected
    assert naive([3.0, 4.0, 5.0], [3.0, 4.0, 5.0]).text == "undecided"
    for ours, its in (([3.0, 3.1], [5.0, 5.1]), ([3.0, 3.1], [LOST, LOST]), ([3.0], [4.0])):
        assert "undecided" in naive(ours, its).text and "fewer than 3" in naive(ours, its).text


@pytest.mark.parametrize(
    ("ours", "its", "verdict", "text"),
    [
        ((3, 3, 3), (LOST,) * 3, "better", "-inf"),
        ((LOST,) * 3, (3, 3, 3), "worse", "+inf"),
        ((3, 3, 3), (4, LOST, LOST), "undecided", "-"),
        ((LOST, 3, 3), (LOST,) * 3, "undecided", "-"),
        ((3, 3, LOST), (3, LOST, 3), "undecided", "-"),
        ((LOST,) * 3, (LOST,) * 3, "undecided", "0.0000"),
    ],
)
def test_divergence(ours, its, verdict, text):
    """It decides only where all inits of one diverged and none of the other; how many is said."""
    against = naive(ours, its)
    assert against.verdict == verdict and against.difference_text.startswith(text)
    for name, lost in (("µTransfer", ours.count(LOST)), ("naive transfer", its.count(LOST))):
        assert (f"{name} diverged in {lost} of 3 inits" in against.text) == (lost > 0)


def test_scores_decide_nothing_and_come_in_pairs():
    """A task without a score from the init is no part of the question."""
    values = {"sst2": (80, 81, 82), "sst2_scratch": (70, 71, 72.5), "qqp": (1, 2, 3)}
    known = report(scores=("sst2", "qqp"), values=values)
    (gain,) = known.pretraining("base")
    assert (gain.task, gain.text) == ("sst2", "yes")
    methods = known.methods["base"]
    assert methods["mutransfer"].score("qqp").startswith("2.00 [") and methods["naive"].score("sst2") == "-"
    assert [o.verdict for o in known.comparisons("base")] == [o.verdict for o in report().comparisons("base")]


TABLE = transfer_runs(POOL, {"base": BASE}, {"sst2": (80, 81, 82)}, 1)


def put(role, column, value, seed=0):
    table = TABLE.copy()
    table[column] = table[column].astype(object).mask((table["role"] == role) & (table["seed"] == seed), value)
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop(columns="depth"), "lacks depth"),
        (TABLE.query("role != 'naive' or seed < 2"), "target 'base' lacks 1 of 12 runs, first role naive, seed 2"),
        (TABLE.drop(index=2), "the search lacks 1 of 6 runs, first sample 2"),
        (put("mutransfer", "sst2", math.nan, 1), "target 'base' finished without a sst2, first role mutransfer"),
        (put("naive", "width", 128), r"the runs of target 'base' differ in width \(128, 64\)"),
        (put("naive", "steps", 100), r"target 'base' \(as long as the others\) differ in steps"),
        (put("naive", "output_mult", 9.0), "sample 1 has the least validation loss, and was not copied"),
        (transfer_runs([LOST] * 6, {"base": BASE}, {"sst2": (80, 81, 82)}), "none of the 6 samples has trained"),
    ],
)
def test_gaps_are_named(table, message):
    with pytest.raises(UserError, match=message):
        report(table, scores=("sst2",))


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


BASE_NAME = "base (width 64, depth 4), wider and deeper"


def test_ours_stands_beside_the_paper(written):
    """Speedups by hand, losses over inits; the paper's from values.csv, a dash where it has none."""
    table = TRANSFER.describe(written()).text
    columns = [f"{whose}{kind} speedup" for kind in ("model", "total") for whose in ("", "the paper's ")]
    columns += ["compute (target trainings)", "the paper's test loss", "diverged", "validation loss"]

    def row(method, name=BASE_NAME):
        cells = of_row(table, "Pretraining beside Table 6 of the paper", name, method)
        return [cells[column] for column in columns]

    assert row("µTransfer") == ["10x", "4x", "40x", "40x", "1.15", "1.97", "0 of 3", "4.6067 [4.3566, 4.8567]"]
    assert row("SP default")[:7] == ["1x", "1x", "1x", "1x", "1.00", "1.995", "0 of 3"]
    assert row("longer SP default")[:6] == ["-", "-", "-", "-", "1.15", "-"]
    assert row("naive transfer")[4:] == ["1.15", "diverged", "3 of 3", "diverged"]
    large = row("µTransfer", "large (width 128, depth 8), wider and deeper")
    assert large[:4] == ["50x", "22x", "200x", "220x"] and large[5] == "1.683"
    fine = of_row(table, "Fine-tuned, beside Table 6", BASE_NAME, "µTransfer")
    # SST-2, QQP and the paper's QQP, then what only the paper has
    assert [*fine.values()][2:] == ["81.00 [78.52, 83.48]", "60.50 [59.26, 61.74]", "90.8", "84.3", "84.8"]
    texts = ("1. width 64.\n2. SST-2 for MNLI.", "µTransfer wins.", "Sample 1, the first of the best 5:", "LR 9.54e-07")
    assert all(text in table for text in texts)
    assert "| the proxy's hp samples | 256 | 6 |" in table and "| the proxy's d model | 256 | 32 |" in table


def test_what_is_said(written):
    described = TRANSFER.describe(written())
    text, table = described.summary, described.text
    assert f"{BASE_NAME}: µTransfer against SP default: better; validation loss lower in 3 of 3" in text
    assert "against naive transfer: better (naive transfer diverged in 3 of 3 inits)" in text
    assert "against naive transfer: undecided (naive transfer diverged in 1 of 3 inits)" in text
    assert f"{BASE_NAME}: the search cost 0.15 trainings of it (0.131 with diverged runs stopped)" in text
    assert "matter, after µTransfer: SST-2, accuracy (%) yes, +9.83 [" in text and "(%) undecided, 0.00 [" in text
    cells = of_row(table, "Does pretraining matter?", BASE_NAME, "SP default", "SST-2, accuracy (%)")
    assert cells["does pretraining matter?"] == "**yes**" and cells["from the init"].startswith("71.17 [")
    (claim,) = TRANSFER.claims(described)
    assert claim.verdict == "in part" and not any("only" in part.what for part in claim.parts)


def test_width_and_depth_stand_apart(written):
    """After the targets that the paper has; without scores none are shown; the paper's word on depth is there."""
    table = TRANSFER.describe(written()).text
    for name in ("wide (width 64, depth 2), only wider", "deep (width 32, depth 4), only deeper"):
        assert of_row(table, "µTransfer against each method", name, "SP default")["verdict"] == "**better**"
    assert "deep (" not in table.split("## Fine-tuned")[1].split("##")[0] and "fragile for post-LN" in table
    table = TRANSFER.describe(written(names=("base",), of=facts(6, 3, ("base",)))).text
    assert "), only deeper" not in table and "Does pretraining matter?" not in table and "Fine-tuned" not in table


def test_the_same_numbers_give_the_same_bytes_and_others_do_not(written, tmp_path):
    """In any order of rows; scores change the table only, losses the picture too; and what the picture says."""
    two = ("base", "deep")
    loss, score = shown(two), shown(two)
    loss.loc[(loss["role"] == "default_long") & (loss["seed"] == 1), "test_loss"] += 0.1
    score.loc[score["role"] == "default", "qqp"] += 1
    write = partial(written, names=two, data_is_real=False)
    changes, names = redrawn(TRANSFER, write, [(shown(two),), (score,), (loss,)])
    assert names == ["losses.png", "losses.svg", "table.md"]
    assert changes == [{"table"}, {"losses", "table"}]
    lines = words(tmp_path / "losses.svg")
    assert BASE_NAME in lines and "deep (width 32, depth 4), only deeper" in lines
    caption = " ".join(lines)
    assert caption.count("better") == 3 and caption.count("undecided") == 1
    assert "One search of 6 samples" in caption and "After Table 6 of the paper. BERT, scale 'cpu'. Data:" in caption
    assert "STAND-IN DATA, not Wikipedia" in lines


def test_gaps_of_a_folder_are_named(written):
    misnamed = facts(6, 3, NAMES, ("sst2", "qqp"))
    misnamed["targets"]["base"]["published"] = "BERT-bse"
    for changes, message in (
        ({"table": shown().drop(columns="qqp")}, "lacks qqp"),
        ({"of": misnamed}, "unknown experiment of Table 6 'BERT-bse'. Did you mean 'BERT-base'"),
        ({"of": {"table": None}}, r"lacks transfer.table"),
        ({"of": {"proxy": {"width": 32}}}, r"lacks transfer.proxy.depth"),
    ):
        with pytest.raises(UserError, match=message):
            TRANSFER.redraw(written(**changes))
