"""The language-model experiments through the command line, at a size of seconds."""

import json

import numpy as np
import pandas as pd
import pytest

from experiments.transformer_lm.experiment import EXPERIMENT as LM
from mutransfer.designs.design import Bench
from tests.here import command
from tests.small import text

SMOKE = ["transformer_lm", "--scale", "smoke"]


def test_the_default_draws_figures_1_5_and_7(smoke):
    """One set of runs: LR curves, learning curves, coordinate check, one table; all from committed CSVs."""
    folder = smoke("transformer_lm") / "figures/transformer_lm"
    stems = ("lr_vs_loss", "learning_curves", "coordinate_check")
    drawn = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")} | {"table.md"}
    committed = {"runs.csv", "curves.csv", "coordinates.csv", "provenance.json"}
    assert {p.name for p in folder.iterdir()} == drawn | committed
    table = (folder / "table.md").read_text()
    assert "STAND-IN DATA, not WikiText-2" in table and "rule of thumb" in table and "depth >= 4: out of reach" in table
    runs = pd.read_csv(folder / "runs.csv")
    base = runs[(runs["width"] == 16)].pivot(index=["log2_lr", "seed"], columns="parametrization", values="train_loss")
    assert (base["sp"] == base["mup"]).all() and len(base) >= 6


def test_a_figure_of_panels_reuses_runs_and_raises_on_a_gap(tmp_path, capsys):
    """Figure 18 holds what Figure 13 lacks; the same command again trains nothing; a missing point is named."""
    figure = [*SMOKE, "--figure", "18", "--seeds", 1, "--out", tmp_path]
    assert command(*figure) == 0
    folder = tmp_path / "figures/transformer_lm/figure_18"
    runs = pd.read_csv(folder / "runs.csv", dtype={"run_id": str})
    shared = runs.groupby("run_id")["panel"].nunique()
    assert len(runs) == 2 * 2 * (3 + 3 * 3) and shared.max() >= 3
    assert set(runs.query("panel == 'sp/width/log2_lr'")["parametrization"]) == {"sp"}
    capsys.readouterr()
    assert command(*figure) == 0
    count = runs["run_id"].nunique()
    assert f"{count} of {count} runs are in the store already" in capsys.readouterr().out
    assert "; 24 steps of 2 examples" in (folder / "table.md").read_text()  # the figure's own, not the sweep's
    lines = (folder / "runs.csv").read_text().splitlines()
    (folder / "runs.csv").write_text("\n".join([*lines[:5], *lines[6:]]) + "\n")
    capsys.readouterr()
    assert command("figures", "transformer_lm", "--out", tmp_path) == 2
    assert "error: " in capsys.readouterr().err


def test_figure_21_simulates_the_real_widths(tmp_path):
    """The narrow model's runs have the base widths of the real ones; the threshold is the text's own entropy."""
    assert command(*SMOKE, "--figure", "21", "--seeds", 1, "--out", tmp_path) == 0
    folder = tmp_path / "figures/transformer_lm/figure_21"
    runs = pd.read_csv(folder / "runs.csv")
    simulated = runs[runs["panel"] == "simulated"]
    assert set(simulated["width"]) == {32} and set(simulated["base_width"]) == {32, 64} == set(simulated["line"])
    assert set(runs[runs["panel"] == "real"]["width"]) == {32, 64}
    provenance = json.loads((folder / "provenance.json").read_text())
    assert [p["heading"] for p in provenance["panels"].values()] == [
        "SP, real models of width n",
        "µP, width 32, simulating n",
    ]
    assert provenance["threshold"] == pytest.approx(np.log(16), abs=0.01)


@pytest.mark.parametrize("scale", LM.scales)
def test_every_figure_at_every_scale_is_a_whole_plan(scale):
    """Each panel is a full rectangle of valid runs, and no two panels have one key."""
    data = text()
    for figure in LM.outputs[1:]:
        bench = Bench(experiment=LM, dataset=data, scale=scale, variant="post_ln")
        cells, panels = figure.cells(bench), figure.panels(scale)
        assert len({p.key for p in panels}) == len(panels)
        points = [(key, x, line, spec.seed) for key, x, line, spec in cells]
        assert len(set(points)) == len(points)
        seeds = len({spec.seed for *_, spec in cells})
        sizes = {p.key: len(p.x.values) * len(p.line.values) * seeds for p in panels}
        assert pd.Series([key for key, *_ in points]).value_counts().to_dict() == sizes


def test_algorithm_1_against_its_alternatives(smoke):
    """Every method has its runs; copies keep the winner's hyperparameters."""
    folder = smoke("gpt3_proxy") / "figures/gpt3_proxy"
    runs = pd.read_csv(folder / "runs.csv")
    assert set(runs["role"]) == {"proxy", "mutransfer", "naive", "direct", "default", "default_long", "width"}
    names = ["log2_lr", "init_mult", "attn_mult", "output_mult", "embed_mult", "position_mult"]
    proxy = runs[runs["role"] == "proxy"].set_index("sample")[names]
    for role in ("mutransfer", "naive"):
        copies = runs[runs["role"] == role].set_index("sample")[names]
        assert (copies == proxy.loc[copies.index]).all(axis=None) and len(copies) >= 1
    default = runs[runs["role"] == "default"].iloc[0]
    assert default["parametrization"] == "sp" and (default[names[1:]] == 1).all() and default["log2_lr"] == -10
    long = runs[runs["role"] == "default_long"].iloc[0]
    assert long["flops"] / default["flops"] == pytest.approx(long["steps"] / default["steps"])


def test_the_published_plan_costs_what_the_paper_says(tmp_path, capsys):
    """App. F.4: about 7% of the pretraining cost, by FLOPs that count attention and readout too; 6.7B parameters."""
    assert command("plan", "gpt3_proxy", "--scale", "paper", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert "467 samples at width 256" in said and "H100" in said
    share = float(said.split("FLOPs = ")[1].split("%")[0])
    assert 5 < share < 15
