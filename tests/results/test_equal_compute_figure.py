"""A study is redrawn from its committed numbers: the same bytes, verdicts in table and picture, or a named gap."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from mutransfer.errors import UserError
from mutransfer.reporting.equal_compute import STUDY
from mutransfer.reporting.method_losses import spread
from mutransfer.reporting.parallel import BEST, Pool, loss_range, parallel_coordinates, scale
from mutransfer.results.equal_compute import METHODS

SPACE = {"lr": "10^U(-4, -1)", "init_mult": "10^U(-1, 1)", "attn_mult": "4^U(-1, 1)"}
FACTS = {"space": SPACE, "samples": 12, "search": 6, "searches": 6, "direct": 2, "direct_samples": 5, "seed": 0}
FACTS["default_lr"] = 0.001
NAMES = ["equal_compute", "parallel_coordinates", "loss_vs_tokens"]


def runs(short=True):
    """µTransfer at 2.0 and more, all others above; sample 3 of the proxy, and the longer default, diverged."""
    rng, rows = np.random.default_rng(0), []
    plan = {"proxy_short": range(16 * short), "proxy": range(12), "mutransfer": range(12), "naive": range(12)}
    plan |= {"direct": range(5), "default": [-1], "default_long": [-1]}
    offset = {"proxy_short": 1.5, "proxy": 1.0, "mutransfer": 0.0, "naive": 0.4, "direct": 0.6, "default": 0.3}
    for role, samples in plan.items():
        for i in samples:
            lost = (role, i) in (("proxy", 3), ("default_long", -1))
            is_proxy, long = role.startswith("proxy"), 1 + (role == "default_long")
            steps = 100 * long // (1 + (role == "proxy_short"))
            loss = math.inf if lost else 2 + offset[role] + 0.02 * max(i, 0)
            rows.append(
                {
                    "role": role, "sample": i, "parametrization": "mup", "width": 32 if is_proxy else 128,
                    "log2_lr": rng.uniform(-13, -4), "steps": steps, "steps_done": steps // 4 if lost else steps,
                    "status": "diverged" if lost else "finished", "train_loss": loss,
                    "test_loss": math.nan if lost else loss + 0.1, "init_mult": 10 ** rng.uniform(-1, 1),
                    "attn_mult": 4 ** rng.uniform(-1, 1), "flops": (1 if is_proxy else 6) * steps,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def curves(behind=False):
    """Wider is better at every step, or, at one, not."""
    rows = [
        ("width", "mup", width, -6.0, 0, step, 64 * step, 2.5 - 0.1 * k + 3 * math.exp(-step / 20))
        for k, width in enumerate((32, 64, 128))
        for step in range(10, 210, 10)
    ]
    names = ["panel", "parametrization", "width", "log2_lr", "seed", "step", "tokens", "loss"]
    table = pd.DataFrame(rows, columns=names)
    table.loc[behind * ((table["width"] == 128) & (table["step"] == 100)), "loss"] += 1
    return table


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Fewer pixels: the same drawing in less time."""
    monkeypatch.setattr("mutransfer.results.draw.style.DPI", 50)


@pytest.fixture
def text_only(monkeypatch):
    """What is said, without the pictures."""
    for name in ("method_losses", "parallel_coordinates", "learning_figure"):
        monkeypatch.setattr(f"mutransfer.reporting.equal_compute.{name}", lambda *args, **kwargs: [])


@pytest.fixture
def study(folder):
    """Write a study's folder; ``facts`` changes provenance["study"]."""

    def write(table=None, curve=None, facts=(), **more):
        paper = {"table_or_figure": "Table 7", "statement": "7% is enough.", "differs": "narrower."}
        table = runs() if table is None else table
        where = folder(table, paper=paper, study={**FACTS, **dict(facts)}, stands_in_for="GPT-3's data", **more)
        (curves() if curve is None else curve).to_csv(where / "curves.csv", index=False)
        return where

    return write


def test_redrawing_gives_the_same_bytes_in_any_order_of_rows(study):
    text, paths = STUDY.redraw(study())
    assert [p.name for p in paths] == [*(f"{n}.{s}" for n in NAMES for s in ("png", "svg")), "table.md"]
    first = [path.read_bytes() for path in paths]
    again, paths = STUDY.redraw(study(runs().sample(frac=1, random_state=1)))
    assert again == text and [path.read_bytes() for path in paths] == first


def test_the_table_says_who_won_what_it_cost_and_what_the_paper_has(study, text_only):
    text, paths = STUDY.redraw(study())
    table = paths[-1].read_text()
    assert text.startswith("µTransfer against naive transfer: better; training loss lower in 6 of 6 searches")
    assert all(f"- {line}" in table for line in text.split("\n"))
    assert "difference of the medians -0.4000 [-0.4000, -0.4000] nats" in table
    assert "| SP default, longer | 1 | diverged | diverged |" in table and "| 6 of 6 | 0 of 6 | 0.50 | 300 |" in table
    assert "| SP default (spends less) | 1 | 2.3000 | 2.3000 |" in table
    # a search costs 6 x 100 FLOPs, the target 600: two trainings in all, and k = 2
    assert (
        "one search and its target cost 2.00 trainings of the target, direct tuning looks at the whole number k = 2"
        in table
    )
    assert "tuning cost / target training: 100.0% for a search of 6 samples" in table
    assert (
        "333.3% for the whole study's samples (16 x 50 steps and 12 x 100 steps); the paper's GPT-3 6.7B: 6.5%" in table
    )
    assert "NOT equal within 10%" in table  # the longer default diverged after a quarter
    assert "| App. F.4: tuning cost / pretraining | 6.5%, printed as 7% | 100.0% |" in table
    assert "| Table 7, 6.7B µP: validation loss (nats) | 1.98 | µTransfer: 2.1" in table
    assert "| Table 7, 6.7B re-run: validation loss (nats) | 2.03 | SP default: 2.4000 |" in table
    assert "neither new pools nor new training seeds" in table and "What differs in ours: narrower." in table
    assert "0 of 40 cells" in table and "| sample | searches | lr, of 10^U(-4, -1) |" in table


def test_unlike_verdicts_are_told_apart(study, text_only):
    """Where the naive copy is the better one, the table says worse."""
    table = runs()
    table.loc[table["role"] == "naive", "train_loss"] -= 0.8
    text, _ = STUDY.redraw(study(table))
    assert "µTransfer against naive transfer: worse" in text and "µTransfer against SP default: better" in text
    worse, _ = STUDY.redraw(study(curve=curves(behind=True)))
    assert "behind at 1 of 40 cells" in worse


def test_verdicts_and_stand_in_data_stand_in_every_picture(study, monkeypatch):
    """A figure is passed around without its table."""
    said = {}

    def keep(figure, out, stem):
        words = [text.get_text() for text in figure.texts] + [t.get_text() for a in figure.axes for t in a.texts]
        said[stem] = words + [t.get_text() for legend in figure.legends for t in legend.get_texts()]
        return [out / stem]

    for module in ("method_losses", "parallel", "learning_curves"):
        monkeypatch.setattr(f"mutransfer.reporting.{module}.save", keep)
    _, paths = STUDY.redraw(study(data_is_real=False))
    assert list(said) == NAMES
    for words in said.values():
        assert any("STAND-IN DATA, not GPT-3's data" in text for text in words)
    assert said["equal_compute"].count("better") == 2 * (len(METHODS) - 1)
    assert "diverged, or no winner" in said["equal_compute"] and "1 of 1" in said["equal_compute"]
    assert "1 diverged" in said["parallel_coordinates"] and f"the best {BEST}" in said["parallel_coordinates"]
    assert "width 32, 100 steps: 12 samples, 11 finished; best loss 3.0000" in said["parallel_coordinates"]
    assert any("wider is better: holds" in text for text in said["loss_vs_tokens"])
    assert "**" in paths[-1].read_text().split("\n")[2]


def test_each_changed_number_changes_its_picture(study, monkeypatch):
    """If it did not, the figures would not come from the numbers."""
    seen = {}

    def keep(figure, out, stem):
        figure.canvas.draw()
        seen[stem] = bytes(figure.canvas.buffer_rgba())
        return []

    for module in ("method_losses", "parallel", "learning_curves"):
        monkeypatch.setattr(f"mutransfer.reporting.{module}.save", keep)

    def drawn(table=None, curve=None):
        (path,) = STUDY.redraw(study(table, curve))[1]
        return {**seen, "table": path.read_bytes()}

    before = drawn()
    sample, default = runs(), runs()
    sample.loc[(sample["role"] == "proxy") & (sample["sample"] == 11), "attn_mult"] = 1.0  # a sample that never wins
    default.loc[default["role"] == "default", "train_loss"] += 0.05
    for after, names in (
        (drawn(sample), {"parallel_coordinates"}),
        (drawn(default), {"equal_compute", "table"}),
        (drawn(curve=curves(behind=True)), {"loss_vs_tokens", "table"}),
    ):
        assert {name for name in before if after[name] != before[name]} == names


def test_axes_are_in_log_units():
    """Of the space's own base and range; of other texts the values span the axis, words in equal steps."""
    places, ticks = scale(pd.Series([1e-4, 1e-3, 0.1]), "10^U(-4, -1)")
    assert places == pytest.approx([0, 1 / 3, 1]) and [t for _, t in ticks] == ["0.0001", "0.001", "0.01", "0.1"]
    places, ticks = scale(pd.Series([0.25, 2.0]), "4^U(-1, 1)")
    assert places == pytest.approx([0, 0.75]) and ticks == [(0, "0.25"), (0.5, "1"), (1, "4")]
    assert [t for _, t in scale(pd.Series([0.25]), "2^U(-2.5, 0)")[1]] == ["$2^{-2}$", "$2^{-1}$", "$2^{0}$"]
    places, ticks = scale(pd.Series([1, 4, 2]), "{1, 2, 4}")
    assert places == pytest.approx([0, 1, 0.5]) and [t for _, t in ticks] == ["1", "2", "4"]
    assert scale(pd.Series(["linear", "cosine"]), "{linear, cosine}")[0] == pytest.approx([1, 0])
    assert scale(pd.Series([3, 3]), "{3}")[0] == pytest.approx([0.5, 0.5])


def test_one_bad_sample_does_not_flatten_the_loss_axis():
    assert loss_range(np.array([2.0, 2.1, 2.2])) == (2.0, 2.2)
    assert loss_range(np.array([2.0, 2.1, 9.0])) == pytest.approx((2.0, 2.4))
    low, high = loss_range(np.array([2.0]))
    assert low == 2.0 < high


def test_dots_on_one_another_stand_side_by_side():
    found = spread(np.array([1.0, 1.0, 1.0, 5.0]), near=0.1, step=0.2)
    assert sorted(found[:3]) == pytest.approx([-0.2, 0, 0.2]) and found[3] == 0


@pytest.mark.parametrize(
    "case", ["one pool, all targets diverged", "all of the short pool diverged, losses above the axes"]
)
def test_odd_studies_are_drawn(study, case):
    table = runs(short="short" in case)
    at = table["role"].isin(["proxy_short"] if "short" in case else list(METHODS))
    table.loc[at, ["status", "train_loss", "test_loss"]] = ["diverged", math.inf, math.nan]
    if "above" in case:
        table.loc[(table["role"] == "direct") & (table["sample"] > 2), "train_loss"] = 50.0
        table.loc[(table["role"] == "proxy") & (table["sample"] > 8), "train_loss"] = 50.0
    text, paths = STUDY.redraw(study(table))
    assert all(path.stat().st_size for path in paths)
    if "targets" in case:
        assert text.count("undecided; training loss lower in 0 of 6 searches (6 ties)") == 4


def test_gaps_are_named(study):
    with pytest.raises(UserError, match="no run with role 'direct'"):
        STUDY.redraw(study(runs().query("role != 'direct'")))
    with pytest.raises(UserError, match="lacks the hyperparameters attn_mult"):
        STUDY.redraw(study(runs().drop(columns="attn_mult")))
    with pytest.raises(UserError, match="panel 'width' of the learning curves lacks 1 rows"):
        STUDY.redraw(study(curve=curves().drop(index=7)))
    with pytest.raises(UserError, match=r"unknown panel of .*curves.csv 'widths'"):
        STUDY.redraw(study(curve=curves().assign(panel="widths")))
    where = study()
    (where / "curves.csv").unlink()
    with pytest.raises(UserError, match=r"curves.csv does not exist"):
        STUDY.redraw(where)
    known = json.loads((study() / "provenance.json").read_text())
    del known["study"]["space"]
    (where / "provenance.json").write_text(json.dumps(known))
    with pytest.raises(UserError, match=r"lacks study.space"):
        STUDY.redraw(where)
    with pytest.raises(UserError, match="lack embed_mult"):
        parallel_coordinates([Pool("x", runs())], {"embed_mult": "10^U(-1, 1)"}, out=where, y_label="loss")
