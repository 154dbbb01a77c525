"""A table of transfer through the command line: trained after the sweep, drawn, redrawn, planned; runs by a formula."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import pandas as pd
import pytest

from mutransfer import cli, reproduce, setting
from mutransfer.designs.experiment import Experiment, Scale, Variant
from mutransfer.designs.search import Grid
from mutransfer.designs.transfer import Score, Target, Transfer
from mutransfer.training.spec import RunRecord, RunSpec
from tests.runs import tiny

HPS = {"output_mult": 1.0, "tuned": 0, "from_init": 0, "depth": 2}
PAPER = {"table_or_figure": "Table 6", "statement": ""}
TABLE = Transfer(
    table="Table 6",
    width=8,
    samples=5,
    space={"lr": Grid(tuple(2.0**-k for k in range(3, 9))), "output_mult": Grid((0.5, 2.0))},
    targets={
        "base": Target(width=16, hps={"depth": 4}, published="BERT-base"),
        "deep": Target(width=8, hps={"depth": 4}),
    },
    inits=3,
    default={"log2_lr": -11.0},
    statement="Naive transfer diverges.",
    differs="SST-2 in place of MNLI",
    proxy={"steps": 20},
    scored={"tuned": 1},
    judged={"from_init": 1},
    scores={"sst2": Score(label="SST-2", metric="accuracy")},
)


def run(spec: RunSpec, dataset: object) -> RunRecord:
    """Loss |log2 LR + 6| and a little of the init; SP diverges at width 16 but at the default's rate."""
    if spec.parametrization == "sp" and spec.width == 16 and spec.log2_lr > -10:
        return RunRecord(spec=spec, status="diverged", train_loss=math.inf, steps_done=3, wall_seconds=1.0)
    loss = 2 + abs(spec.log2_lr + 6) / 10 + spec.seed / 100 - spec.steps / 1e5
    scores = {"sst2": 90 - loss} if spec.hp("tuned") else {}
    scores |= {"sst2_scratch": 80 - loss + spec.seed / 10} if spec.hp("from_init") else {}
    done = {"status": "finished", "steps_done": spec.steps, "wall_seconds": 1.0}
    return RunRecord(spec=spec, train_loss=-loss, test_loss=loss, scores=scores, **done)


class Here:
    """The engine: in this process."""

    name, workers, devices = "local", 1, ("cpu",)
    made: ClassVar[list[str]] = []

    def run(self, specs, runner, dataset, *, on_records, on_event=print, cost=None) -> None:
        self.made.extend(spec.run_id for spec in specs)
        on_records([run(spec, dataset) for spec in specs])


@pytest.fixture
def experiment(monkeypatch) -> Experiment:
    """In place of cifar_mlp, its sweep left out: that has tests of its own."""
    fake = Experiment(
        name="cifar_mlp",
        summary="",
        scales={"smoke": Scale(widths=(8, 16), base_width=8, log2_lrs=(-6,), seeds=1, steps=100, batch=8)},
        variants={name: Variant(title="Tiny", y_label="loss", hps=HPS, paper=PAPER) for name in ("one", "two")},
        optimizer="adamw",
        momentum=0.0,
        load=lambda data, dataset, scale: tiny.dataset(),
        run=run,
        flops=lambda spec: float(spec.width**2 * int(spec.hp("depth")) * spec.steps),
        memory=lambda spec: 1e6,
        examples=lambda dataset, spec: 256,
        stands_in_for="Wikipedia",
        transfers={"smoke": TABLE},
    )
    monkeypatch.setattr(cli, "load_experiment", lambda name: fake)
    monkeypatch.setattr(setting, "_engine", lambda args: Here())
    monkeypatch.setattr(setting.Setting, "calibrate", lambda self, precision: None)
    monkeypatch.setattr(reproduce, "_sweep", lambda args, experiment: 0)
    monkeypatch.setattr("mutransfer.results.draw.style.DPI", 40)
    monkeypatch.setattr(Here, "made", [])
    return fake


def command(*args: object) -> int:
    return cli.main([str(a) for a in args])


def test_the_table_follows_the_sweep(experiment, tmp_path, capsys) -> None:
    """What the paper has stands beside it, differences are named; the same command again trains nothing."""
    assert command("cifar_mlp", "--scale", "smoke", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert (
        "Table 6, scale smoke" in said.replace("Table 6: ", "") and "the search costs 0.125 trainings of base" in said
    )
    assert "µTransfer against naive transfer: better (naive transfer diverged in 3 of 3 inits)" in said
    folder = tmp_path / "figures" / "cifar_mlp" / "table_6"
    assert {p.name for p in folder.iterdir()} == {"losses.png", "losses.svg", "provenance.json", "runs.csv", "table.md"}
    table = (folder / "table.md").read_text()
    assert "STAND-IN DATA, not Wikipedia" in table and "| 1.995 |" in table and "only deeper" in table
    assert "1. proxy of width 8 and depth 2, 20 steps.\n2. targets: base (width 16, depth 4, 100 steps), deep" in table
    assert ". SST-2 in place of MNLI.\n" in table and ". 3 seeds.\n" in table
    frame = pd.read_csv(folder / "runs.csv")
    assert set(frame["role"]) == {"proxy", "default", "default_long", "naive", "mutransfer"}
    assert len(frame) == 5 + 3 * (4 + 2) and json.loads((folder / "provenance.json").read_text())["kind"] == "transfer"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for again in (["cifar_mlp", "--scale", "smoke"], ["figures", "cifar_mlp"]):
        for path in folder.glob("*.md"):
            path.unlink()
        assert command(*again, "--out", tmp_path) == 0
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(Here.made) == len(frame)  # also when it was called again


def test_what_it_costs_is_planned(experiment, tmp_path, capsys) -> None:
    """With the sweep's four runs; of another variant or figure there is no table."""
    assert command("plan", "cifar_mlp", "--scale", "smoke", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert f": {4 + 5 + 18} runs on" in said and "Table 6: 5 samples; proxy of width 8 and depth 2, 20 steps" in said
    assert "what scoring them takes comes on top" in said
    assert command("plan", "cifar_mlp", "--scale", "smoke", "--variant", "two", "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert ": 4 runs on" in said and "Table 6" not in said
    assert command("cifar_mlp", "--scale", "smoke", "--variant", "two", "--out", tmp_path) == 0
    assert not (tmp_path / "figures").exists()


def test_a_failed_run_draws_nothing(experiment, tmp_path, monkeypatch, capsys) -> None:
    """No table from a gap: exit code 1, and a line that says why."""
    monkeypatch.setattr(
        Here,
        "run",
        lambda self, specs, *args, on_records, **_: on_records([RunRecord.failed(s, "died") for s in specs]),
    )
    assert command("cifar_mlp", "--scale", "smoke", "--out", tmp_path) == 1
    assert "5 of 5 runs failed; the same command tries them again" in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()
