"""The net below every change: what is committed under figures/ is what its own numbers and settings make."""

import json
import math
import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mutransfer.cli import ROOT, experiments, load_experiment, main
from mutransfer.designs.experiment import extension, figure_cells
from mutransfer.designs.repeated import repeated
from mutransfer.designs.search import Search
from mutransfer.designs.study import Plan as Study
from mutransfer.designs.study import study
from mutransfer.designs.transfer import transfer
from mutransfer.designs.tune import tune
from mutransfer.results import needs_extension, untested_transfers
from mutransfer.runs.sweep import EXTENSION_ROUNDS
from mutransfer.runs.table import to_frame
from mutransfer.setting import Setting
from mutransfer.tables import searches_plan, transfer_plan
from mutransfer.training.spec import CURVE_POINTS, RunRecord, RunSpec

FIGURES = ROOT / "figures"
FOLDERS = sorted(str(path.parent.relative_to(FIGURES)) for path in FIGURES.rglob("provenance.json"))
VOCABULARY = {  # by the data set's fingerprint: it is part of a run's settings and not of the runs table
    "7ba4fa405bb5652d": 256,
    "6d78dd22dda4edd1": 1000,
    "2b33cef2d3350a4b": 2000,
    "7dd6aac7f584a29e": 2000,
}


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

    def __call__(self, specs: Any) -> list[RunRecord]:
        return [self._record(spec) for spec in specs]

    def _record(self, spec: RunSpec) -> RunRecord:
        self.made.add(spec.run_id)
        assert spec.run_id in self.rows, f"the declaration makes a run that is not committed: {spec}"
        row = self.rows[spec.run_id]
        scores = {
            n: row[n] for n in ("bleu_valid", "bleu_test", "pan", "pan_scratch") if not math.isnan(row.get(n, math.nan))
        }
        return RunRecord(
            spec=spec,
            status=row["status"],
            train_loss=row["train_loss"],
            test_loss=row["test_loss"],
            test_accuracy=row["test_accuracy"],
            steps_done=row["steps_done"],
            loss_curve=(row["train_loss"],) * min(CURVE_POINTS, spec.steps),
            scores=scores,
        )


@pytest.mark.parametrize("folder", FOLDERS)
def test_committed_runs_are_those_of_the_declaration(folder: str):
    """Every run_id in runs.csv, and no other, is made by the experiment's declaration at its scale.

    A run that depends on the results of others, such as a search's winner on the target, is made from theirs.
    """
    frame = pd.read_csv(FIGURES / folder / "runs.csv", dtype={"run_id": str})
    provenance = json.loads((FIGURES / folder / "provenance.json").read_text())
    train = Replay(frame)
    remake(folder, provenance, frame, train)
    assert train.made == set(frame["run_id"])


def remake(folder: str, provenance: dict[str, Any], frame: pd.DataFrame, train: Replay) -> None:
    """All runs of a committed folder, from the experiment's declaration."""
    experiment = load_experiment(provenance["experiment"])
    scale, variant = provenance["scale"], provenance["variant"]
    (precision,), (name,) = frame["precision"].unique(), frame["data"].unique()
    dataset = Committed(name, provenance["data_fingerprint"], provenance["data_source"])
    number = next((part.removeprefix("figure_") for part in folder.split("/") if part.startswith("figure_")), "")
    kind = "search" if "search" in provenance else provenance.get("kind", "sweep")

    def grid(**options: Any) -> list[RunSpec]:
        specs = experiment.specs(dataset, scale=scale, variant=variant, **options)
        return [replace(spec, precision=precision) for spec in specs]

    setting = Setting(experiment, scale, variant, Path(), None, dataset, grid(seeds=1))  # type: ignore[arg-type]
    match kind:
        case "sweep":
            specs = grid(widths=frame["width"].unique().tolist(), seeds=frame["seed"].nunique())
            untested = partial(untested_transfers, of_widest=experiment.has_curves)
            extend, records = extension(specs, needs_extension, untested), train(specs)
            for k in range(EXTENSION_ROUNDS):
                records += train(extend(to_frame(records), k == EXTENSION_ROUNDS - 1))
        case "search":
            widths = [frame["width"].min(), frame["width"].max()]
            space, facts = experiment.variants[variant].search, provenance["search"]
            search = Search.plan(grid(widths=widths, seeds=1), space, samples=facts["samples"], seed=facts["seed"])
            tune(search, train, experiment.flops, compare=len(set(frame["parametrization"])) > 1)
        case "study":
            space = experiment.variants[variant].search
            study(Study.of(experiment.studies[scale], grid(seeds=1), space, 0, experiment.flops), train)
        case "searches":
            repeated(searches_plan(experiment, setting, has_sizes=bool(number)), train, experiment.scores)
        case "transfer":
            transfer(transfer_plan(experiment, setting), train)
        case _:
            cells = figure_cells(experiment, number, dataset, scale=scale)
            train([replace(spec, precision=precision) for *_, spec in cells])
