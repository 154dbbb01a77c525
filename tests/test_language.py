"""The language-model experiments through the command line, at a size of seconds."""

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from experiments.gpt3_proxy.experiment import EXPERIMENT as GPT3
from experiments.gpt3_proxy.experiment import STUDY
from experiments.transformer_lm import runs
from experiments.transformer_lm.experiment import EXPERIMENT as LM
from mutransfer.data import TokenDataset
from mutransfer.designs.algorithm import Model, Numbers
from mutransfer.designs.design import Bench
from mutransfer.designs.experiment import Size
from tests.here import command

HPS = {"output_mult": 1.0, "depth": 2, "length": 16}
TINY = Size(widths=(16, 32), base_width=16, log2_lrs=(-9, -7), seeds=2, steps=20, batch=4, hps=HPS)


def tiny_text(*_: object) -> TokenDataset:
    """Sixteen letters, each of which likes its successor: something to learn, nothing to wait for."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 2, 5], size=20_000, p=[0.7, 0.2, 0.1])
    tokens = 97 + np.cumsum(steps) % 16
    return TokenDataset.from_arrays(
        "tiny",
        "made-up letters",
        is_real=False,
        vocab=256,
        tokenizer="bytes",
        train=tokens[:18_000],
        test=tokens[18_000:],
    )


def short(scale: str) -> dict:
    return {"width": 16, "batch": 2, "steps": 24, "length": 16}


SMALL = replace(
    LM,
    trains=SimpleNamespace(**{**vars(runs), "coordinates": partial(runs.coordinates, widths=(16, 32))}),
    data=replace(LM.data, load=tiny_text),
    scales={"smoke": TINY},
    outputs=(LM.outputs[0], replace(LM.output("18"), template=short), LM.output("7"), LM.output("21")),
)
SMOKE = ["transformer_lm", "--scale", "smoke"]


def test_the_default_draws_figures_1_5_and_7_and_redraws_them(tmp_path):
    """One set of runs: LR curves, learning curves, coordinate check, one table; all from committed CSVs."""
    assert command(*SMOKE, "--out", tmp_path, of=SMALL) == 0
    folder = tmp_path / "figures/transformer_lm"
    stems = ("lr_vs_loss", "learning_curves", "coordinate_check")
    drawn = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")} | {"table.md"}
    committed = {"runs.csv", "curves.csv", "coordinates.csv", "provenance.json"}
    assert {p.name for p in folder.iterdir()} == drawn | committed
    table = (folder / "table.md").read_text()
    assert "STAND-IN DATA, not WikiText-2" in table and "rule of thumb" in table and "depth >= 4: out of reach" in table
    before = {name: (folder / name).read_bytes() for name in drawn}
    for name in drawn:
        (folder / name).unlink()
    assert command("figures", "transformer_lm", "--out", tmp_path, of=SMALL) == 0
    assert {name: (folder / name).read_bytes() for name in drawn} == before
    runs = pd.read_csv(folder / "runs.csv")
    base = runs[(runs["width"] == 16)].pivot(index=["log2_lr", "seed"], columns="parametrization", values="train_loss")
    assert (base["sp"] == base["mup"]).all() and len(base) >= 8


def test_a_figure_of_panels_reuses_runs_and_raises_on_a_gap(tmp_path, capsys):
    """Figure 18 holds what Figure 13 lacks; the same command again trains nothing; a missing point is named."""
    figure = [*SMOKE, "--figure", "18", "--seeds", 1, "--out", tmp_path]
    assert command(*figure, of=SMALL) == 0
    folder = tmp_path / "figures/transformer_lm/figure_18"
    runs = pd.read_csv(folder / "runs.csv", dtype={"run_id": str})
    shared = runs.groupby("run_id")["panel"].nunique()
    assert len(runs) == 2 * 2 * (3 + 3 * 3) and shared.max() >= 3
    assert set(runs.query("panel == 'sp/width/log2_lr'")["parametrization"]) == {"sp"}
    capsys.readouterr()
    assert command(*figure, of=SMALL) == 0
    count = runs["run_id"].nunique()
    assert f"{count} of {count} runs are in the store already" in capsys.readouterr().out
    table = (folder / "table.md").read_bytes()
    assert b"; 24 steps of 2 examples" in table  # the figure's own, not the sweep's
    assert command("figures", "transformer_lm", "--out", tmp_path, of=SMALL) == 0
    assert (folder / "table.md").read_bytes() == table
    lines = (folder / "runs.csv").read_text().splitlines()
    (folder / "runs.csv").write_text("\n".join([*lines[:5], *lines[6:]]) + "\n")
    capsys.readouterr()
    assert command("figures", "transformer_lm", "--out", tmp_path, of=SMALL) == 2
    assert "error: " in capsys.readouterr().err


def test_figure_21_simulates_the_real_widths(tmp_path):
    """The narrow model's runs have the base widths of the real ones; the threshold is the text's own entropy."""
    assert command(*SMOKE, "--figure", "21", "--seeds", 1, "--out", tmp_path, of=SMALL) == 0
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


def test_figure_7_draws_learning_curves_at_fixed_rates(tmp_path):
    """Its panels are a rate in µP, and in SP a quarter of it and all of it; the narrowest SP run is µP's."""
    assert command(*SMOKE, "--figure", "7", "--seeds", 2, "--out", tmp_path, of=SMALL) == 0
    folder = tmp_path / "figures/transformer_lm/figure_7"
    names = {"runs.csv", "curves.csv", "provenance.json", "table.md", "learning_curves.png", "learning_curves.svg"}
    assert {p.name for p in folder.iterdir()} == names
    curves = pd.read_csv(folder / "curves.csv")
    assert curves.groupby("panel")["log2_lr"].first().to_dict() == {"mup/-7": -7, "sp/-7": -7, "sp/-9": -9}
    assert (curves.groupby("panel").size() == 2 * 2 * TINY.steps).all()
    table = (folder / "table.md").read_text()
    assert "wider is better" in table and "| MUP: steps | 10000 | 20 |".replace("MUP", "wider is better") in table
    assert command("figures", "transformer_lm", "--out", tmp_path, of=SMALL) == 0
    assert (folder / "table.md").read_text() == table


@pytest.mark.parametrize("scale", LM.scales)
def test_every_figure_at_every_scale_is_a_whole_plan(scale):
    """Each panel is a full rectangle of valid runs, and no two panels have one key."""
    data = tiny_text()
    for figure in LM.outputs[1:]:
        bench = Bench(experiment=LM, dataset=data, scale=scale, variant="post_ln")
        cells, panels = figure.cells(bench), figure.panels(scale)
        assert len({p.key for p in panels}) == len(panels)
        points = [(key, x, line, spec.seed) for key, x, line, spec in cells]
        assert len(set(points)) == len(points)
        seeds = len({spec.seed for *_, spec in cells})
        sizes = {p.key: len(p.x.values) * len(p.line.values) * seeds for p in panels}
        assert pd.Series([key for key, *_ in points]).value_counts().to_dict() == sizes


NUMBERS = Numbers(
    samples={"proxy": 6, "direct": 2},
    search=3,
    searches=5,
    targets={"target": Model(hps={"steps": 30})},
    widths=(16, 32),
    default={"log2_lr": -10.0},
)
ALGORITHM_1 = replace(
    GPT3,
    data=replace(GPT3.data, load=tiny_text),
    scales={**GPT3.scales, "smoke": replace(TINY, seeds=1, hps={**HPS, "heads": 4, "vocab": 256})},
    outputs=(replace(STUDY, numbers={**STUDY.numbers, "smoke": NUMBERS}),),
)


def test_algorithm_1_against_its_alternatives(tmp_path, capsys):
    """Every method has its runs; copies keep the winner's hyperparameters; the same command trains nothing new."""
    smoke = ["gpt3_proxy", "--scale", "smoke", "--out", tmp_path]
    assert command(*smoke, of=ALGORITHM_1) == 0
    folder = tmp_path / "figures/gpt3_proxy"
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
    text = capsys.readouterr().out
    assert command(*smoke, of=ALGORITHM_1) == 0
    again = capsys.readouterr().out
    assert "6 of 6 runs are in the store already, 0 to do" in again and "6 of 6" not in text
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert command("figures", "gpt3_proxy", "--out", tmp_path, of=ALGORITHM_1) == 0
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_the_published_plan_costs_what_the_paper_says(tmp_path, capsys):
    """App. F.4: about 7% of the pretraining cost, by FLOPs that count attention and readout too; 6.7B parameters."""
    assert command("plan", "gpt3_proxy", "--scale", "paper", "--out", tmp_path, of=ALGORITHM_1) == 0
    text = capsys.readouterr().out
    assert "467 samples at width 256" in text and "H100" in text
    share = float(text.split("FLOPs = ")[1].split("%")[0])
    assert 5 < share < 15
