"""The net below every change: what is committed under figures/ is what its own numbers and settings make."""

import io
import json
import math
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mutransfer.cli import ROOT, experiments, load_experiment, main
from mutransfer.designs.algorithm import Copy, Numbers, Tuning
from mutransfer.designs.design import Bench, follow
from mutransfer.designs.grid import LrSweep
from mutransfer.training.spec import CURVE_POINTS, RunRecord, RunSpec

FIGURES = ROOT / "figures"
FOLDERS = sorted(str(path.parent.relative_to(FIGURES)) for path in FIGURES.rglob("provenance.json"))
VOCABULARY = {  # by the data set's fingerprint: it is part of a run's settings and not of the runs table
    "7ba4fa405bb5652d": 256,
    "6d78dd22dda4edd1": 1000,
    "2b33cef2d3350a4b": 2000,
    "7dd6aac7f584a29e": 2000,
}
SCORES = ("bleu_valid", "bleu_test", "pan", "pan_scratch", "sst2", "sst2_scratch")
# What only the data tell, and what the first runs do not say, or say besides.
EPOCHS = r" \([\d.e+-]+ epochs\)|; schedule \w+| float32;"
UNKNOWN = ("signature", "translations", "coordinates")  # what runs.csv does not tell of provenance.json


@pytest.mark.parametrize("name", experiments())
def test_committed_figures_redraw_byte_for_byte(tmp_path: Path, name: str):
    """From the CSV files and provenance.json alone: every figure and table of the experiment."""
    shutil.copytree(FIGURES / name, tmp_path / "figures" / name)
    drawn = [path for path in (tmp_path / "figures").rglob("*") if path.suffix in (".png", ".svg", ".md")]
    for path in drawn:
        path.unlink()
    assert main(["figures", name, "--out", str(tmp_path)]) == 0
    assert len(drawn) >= 3
    for path in sorted(drawn):
        committed = FIGURES / path.relative_to(tmp_path / "figures")
        assert path.read_bytes() == committed.read_bytes(), f"{committed} is not what its numbers draw"


@dataclass(frozen=True)
class Committed:
    """Stands for a data set of which the settings of committed runs are known, and for nothing else."""

    name: str
    fingerprint: str
    source: str
    is_real: bool = True

    @property
    def vocab(self) -> int:
        return VOCABULARY[self.fingerprint]


class Replay:
    """Trains nothing: looks every run up in a committed runs table."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.rows = frame.drop_duplicates("run_id").set_index("run_id").to_dict("index")
        self.made: set[str] = set()

    def __call__(self, specs: list[RunSpec]) -> list[RunRecord]:
        self.made |= {spec.run_id for spec in specs}
        return [self.record(spec) for spec in specs]

    def record(self, spec: RunSpec) -> RunRecord:
        assert spec.run_id in self.rows, f"the declaration makes a run that is not committed: {spec}"
        row = self.rows[spec.run_id]
        columns = ("status", "train_loss", "test_loss", "test_accuracy", "steps_done", "wall_seconds")
        scores = {name: row[name] for name in SCORES if not math.isnan(row.get(name, math.nan))}
        points = min(CURVE_POINTS, spec.steps) if row["status"] == "finished" else 1
        curve = (row["train_loss"],) * points
        return RunRecord(spec=spec, loss_curve=curve, scores=scores, **{name: row[name] for name in columns})


@pytest.mark.parametrize("folder", FOLDERS)
def test_committed_runs_are_those_of_the_declaration(folder: str):
    """Every run_id in runs.csv, and no other, is made by the experiment's declaration at its scale; so is every row.

    A run that depends on the results of others, such as a search's winner on the target, is made from theirs.
    """
    frame = read(FIGURES / folder / "runs.csv")
    provenance = json.loads((FIGURES / folder / "provenance.json").read_text())
    bench, output = declared(folder, provenance, frame)
    train = Replay(frame)
    tables = output.tables(bench, follow(output.design(bench), train))
    assert train.made == set(frame["run_id"])
    again = read(io.StringIO(tables.runs.to_csv(index=False)))
    on_the_way = [name for name in frame if name.startswith("loss_at_")]  # is in the loss curves
    pd.testing.assert_frame_equal(again.drop(columns=on_the_way), frame.drop(columns=on_the_way), check_exact=True)
    facts = json.loads(json.dumps(tables.facts))
    for paper in [told["paper"] for told in (facts, provenance) if "paper" in told]:
        paper["ours"]["epochs"], paper["differs"] = "", re.sub(EPOCHS, "", paper["differs"])
    assert [name for name in provenance if name in facts and name != "title"] == [n for n in facts if n != "title"]
    assert {name: provenance[name] for name in facts if name not in UNKNOWN} == {
        name: value for name, value in facts.items() if name not in UNKNOWN
    }


def read(csv: Any) -> pd.DataFrame:
    return pd.read_csv(csv, dtype={"run_id": str})


def declared(folder: str, provenance: dict[str, Any], frame: pd.DataFrame) -> tuple[Bench, Any]:
    """The output that the folder is of, and what its design makes its runs of."""
    experiment = load_experiment(provenance["experiment"])
    code = SimpleNamespace(**{**vars(experiment.code), "examples": lambda dataset, spec: 1})
    scale, (precision,), (name,) = provenance["scale"], frame["precision"].unique(), frame["data"].unique()
    part = next((p for p in folder.split("/") if p.startswith(("figure_", "table_"))), "")
    output = next(output for output in experiment.outputs if output.part == part)
    widths = frame["width"].unique().tolist() if isinstance(output, LrSweep) else None
    if isinstance(output, LrSweep):  # the check itself needs the data
        output = replace(output, coordinates=False)
    elif hasattr(output, "facts"):
        output = replace(output, facts=lambda dataset, scale: {})
    if facts := provenance.get("search"):
        numbers = {scale: Numbers(samples={"proxy": facts["samples"]})}
        methods, has_naive = (Copy("target", "mup"),), "sp" in set(frame["parametrization"])
        output = Tuning(
            kind="search", table="", select="training", methods=methods, numbers=numbers, has_naive=has_naive
        )
        widths = [frame["width"].min(), frame["width"].max()]
    bench = Bench(
        experiment=replace(experiment, trains=code),
        dataset=Committed(name, provenance["data_fingerprint"], provenance["data_source"]),
        scale=scale,
        variant=provenance["variant"],
        widths=widths,
        seeds=frame["seed"].nunique() if isinstance(output, LrSweep) else None,
        precision=precision,
    )
    return bench, output
