"""A figure's cells are the runs that its declaration names, each once; curves are those of the declared rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiments.cifar_mlp.experiment import EXPERIMENT
from mutransfer.data import TokenDataset
from mutransfer.designs.design import Bench, with_points
from mutransfer.designs.experiment import Experiment, Size, Variant
from mutransfer.designs.grid import to_curves
from mutransfer.designs.panels import PanelRuns, Panels, Values
from mutransfer.errors import UserError
from mutransfer.results.learning import learning_report
from mutransfer.runs.table import to_frame
from mutransfer.training.spec import RunRecord, RunSpec, Value

TEXT = {"is_real": False, "vocab": 9, "tokenizer": "bytes", "train": np.arange(9), "test": np.arange(9)}
DATA = TokenDataset.from_arrays("tiny", "digits", **TEXT)
RATES = Values(name="log2_lr", label="learning rate", values=(-8, -6))
MULTS = Values(name="output_mult", label="alpha_output", values=(-4, 0, 2))
SCHEDULES = Values(name="schedule", label="LR schedule", values=("cosine", "constant"))
WIDTHS = Values(name="width", label="width", values=(32, 64))
DEPTHS = Values(name="depth", label="depth", values=(2, 4))
BATCHES = Values(name="batch", label="batch size", values=(4, 8))


def panel(x: Values, line: Values, **options: Any) -> PanelRuns:
    return PanelRuns(**{"key": f"{line.name}/{x.name}", "row": 0, "column": 0, "x": x, "line": line, **options})


def figure(*panels: PanelRuns, **options: Any) -> Panels:
    values: dict[str, Any] = {"number": "4", "kind": "landscape", "title": "T", "variant": "post_ln", "statement": ""}
    values |= {"panels": lambda scale: panels, "template": lambda scale: {"log2_lr": -7, "width": 32, "batch": 8}}
    return Panels(**values | options)


def experiment(*figures: Panels) -> Experiment:
    hps: dict[str, Value] = {"schedule": "constant", "output_mult": 1.0}
    variants = {
        name: Variant(title="", y_label="", hps={"norm": name[:-3], **hps}, where="", statement="")
        for name in ("pre_ln", "post_ln")
    }
    size: dict[str, Any] = {"widths": (16, 32), "base_width": 16, "log2_lrs": (-9, -5), "steps": 60, "batch": 16}
    scales = {name: Size(seeds=seeds, hps={"depth": 2}, **size) for name, seeds in (("smoke", 1), ("cpu", 2))}
    changes: dict[str, Any] = {"scales": scales, "variants": variants, "outputs": figures, "momentum": 0.0}
    return replace(EXPERIMENT, name="tiny", optimizer="adam", **changes)


def cells(
    *panels: PanelRuns, scale: str = "cpu", seeds: int | None = None, own: Any = (), **options: Any
) -> list[tuple[str, Value, Value, RunSpec]]:
    """``seeds``: the command's; ``own``: the figure's, by scale."""
    output = figure(*panels, seeds=dict(own), **options)
    bench = Bench(experiment=experiment(output), dataset=DATA, scale=scale, variant="post_ln", seeds=seeds)
    return output.cells(bench)


def test_a_swept_number_is_octaves_a_word_a_choice_and_a_line_is_plain() -> None:
    """x = -4 of alpha_output is 2^-4 in the run; the learning rate is log2 in a spec already; a width is a width."""
    swept = cells(panel(MULTS, WIDTHS), seeds=1)
    points = [(x, n) for n in (32, 64) for x in (-4, 0, 2)]
    assert [(x, n, s.hp("output_mult"), s.width) for _, x, n, s in swept] == [(x, n, 2.0**x, n) for x, n in points]
    assert [(x, s.log2_lr) for _, x, _, s in cells(panel(RATES, WIDTHS), seeds=1)] == [(-8, -8), (-6, -6)] * 2
    chosen = cells(panel(SCHEDULES, DEPTHS), seeds=1)
    points = [(word, depth, word, depth) for depth in (2, 4) for word in ("cosine", "constant")]
    assert [(x, n, s.hp("schedule"), s.hp("depth")) for _, x, n, s in chosen] == points
    assert panel(SCHEDULES, DEPTHS).facts["choices"] == ["cosine", "constant"]


@pytest.mark.parametrize(
    ("x", "line", "options", "near"),
    [
        (replace(MULTS, name="outputmult"), WIDTHS, {}, "output_mult"),
        (RATES, replace(DEPTHS, name="dept"), {}, "depth"),
        (RATES, WIDTHS, {"changes": {"shedule": "linear"}}, "schedule"),
    ],
)
def test_a_name_that_no_run_has_is_refused(x: Values, line: Values, options: dict[str, Any], near: str) -> None:
    """With the nearest name; nothing is added silently that no runner reads."""
    with pytest.raises(UserError, match=f"unknown hyperparameter .* Did you mean '{near}'"):
        cells(panel(x, line, **options))


@pytest.mark.parametrize("name", ["batch", "width", "base_width", "steps"])
def test_fields_of_a_spec_are_lines_too(name: str) -> None:
    """Batch size, steps, widths are fields, not hyperparameters: the field changes and no other."""
    specs = [s for *_, s in cells(panel(RATES, Values(name=name, label=name, values=(16, 128))), seeds=1)]
    assert [getattr(s, name) for s in specs] == [16, 16, 128, 128]
    assert len({replace(s, log2_lr=0, **{name: 16}) for s in specs}) == 1


def test_what_a_run_starts_from() -> None:
    """The figure's variant, the scale, the figure's template, the panel's parametrization and changes, in this order.

    The base width is the scale's whatever the lines' widths: where µP equals SP does not move.
    """
    changed = panel(RATES, DEPTHS, parametrization="sp", changes={"width": 64, "output_mult": 0.5}, key="b")
    found = cells(panel(RATES, DEPTHS), changed, seeds=1)
    first, second = (next(s for key, *_, s in found if key == k) for k in ("depth/log2_lr", "b"))
    assert (first.variant, first.hp("norm"), first.base_width, first.optimizer) == ("post_ln", "post", 16, "adam")
    assert (first.width, first.batch, first.steps, first.parametrization) == (32, 8, 60, "mup")
    assert (first.data, first.data_fingerprint) == (DATA.name, DATA.fingerprint)
    assert (second.width, second.hp("output_mult"), second.parametrization) == (64, 0.5, "sp")
    assert second.hp("depth") == 2 and first.hp("output_mult") == 1
    # a line wins over the template's width, and x over its learning rate
    assert {s.width for *_, s in cells(panel(MULTS, WIDTHS))} == {32, 64}
    assert {s.log2_lr for *_, s in cells(panel(MULTS, WIDTHS))} == {-7}
    assert {s.log2_lr for *_, s in cells(panel(RATES, WIDTHS))} == {-8, -6}


def test_seeds() -> None:
    """The scale's, the figure's own where it says so, the caller's above all; always from 0 on."""
    for count, options, own in ((2, {}, {}), (1, {"scale": "smoke"}, {}), (4, {"seeds": 4}, {}), (3, {}, {"cpu": 3})):
        assert {s.seed for *_, s in cells(panel(RATES, WIDTHS), **options, own=own)} == set(range(count))
    described = figure(panel(RATES, WIDTHS), panel(MULTS, WIDTHS), panel(RATES, BATCHES)).describe("cpu")
    assert described == "batch size 4, 8; width 32, 64"


def test_panels_share_runs() -> None:
    """The default point lies in every panel: one run_id, trained once, and shown in each of them."""
    rates = replace(RATES, values=(-8, -7))
    found = cells(panel(rates, WIDTHS), panel(MULTS, WIDTHS), panel(SCHEDULES, WIDTHS), panel(rates, BATCHES), seeds=1)
    of: dict[str, list[str]] = {}
    for key, _, _, spec in found:
        of.setdefault(spec.run_id, []).append(key)
    # (log2 LR -8, width 32, batch 8) twice; the default point thrice at width 64, and at width 32 in the batch row too
    assert sorted(len(keys) for keys in of.values() if len(keys) > 1) == [2, 3, 4]
    assert len(found) == 4 + 6 + 4 + 4 and len(of) == len(found) - (1 + 2 + 3)


def test_the_table_repeats_a_shared_run() -> None:
    """One row per point: panel, x and line, then the run's own columns; a point without a run is an error later."""
    found = cells(panel(RATES, WIDTHS), panel(SCHEDULES, WIDTHS), seeds=1, template=lambda scale: {"log2_lr": -6})
    losses = {s: float(i) for i, s in enumerate(dict.fromkeys(s for *_, s in found))}
    records = [RunRecord(spec=s, status="finished", train_loss=loss) for s, loss in losses.items()]
    points = [(key, x, n, s.run_id) for key, x, n, s in found]
    table = with_points(points, ("panel", "x", "line"), records, ["schedule"])
    assert list(table.columns[:4]) == ["panel", "x", "line", "run_id"] and "schedule" in table
    assert len(table) == len(found) == 8 and len(records) == 6
    for row, (key, x, n, s) in zip(table.itertuples(), found, strict=True):
        assert (row.panel, row.x, row.line, row.train_loss, row.width) == (key, x, n, losses[s], n)


# ---- learning curves -----------------------------------------------------------------------------------------------

Loss = Callable[[RunSpec], float]


def records(final: Loss, *, seeds: int = 2, steps: int = 10) -> list[RunRecord]:
    """The grid of SP and µP at two widths and three rates; a curve of 10 points that ends at ``final``."""
    points = experiment().specs(DATA, scale="cpu", variant="post_ln", seeds=seeds)
    hps = (*points[0].hps, ("length", 4))
    grid = {replace(s, log2_lr=lr, steps=steps, hps=hps) for s in points for lr in (-9, -7, -5)}
    return [
        RunRecord(spec=s, status="finished", train_loss=final(s), loss_curve=tuple(final(s) + 9 - i for i in range(10)))
        for s in sorted(grid, key=lambda s: s.run_id)
    ]


def curves(runs: list[RunRecord]) -> tuple[pd.DataFrame, dict[str, Any]]:
    return to_curves(runs, to_frame(runs))


def parabola(spec: RunSpec) -> float:
    """Best at -7 in µP, and in SP at -5 (narrow) and -9 (wide)."""
    best = -7 if spec.parametrization == "mup" else -5 if spec.width == 16 else -9
    return 2 + 0.1 * (spec.log2_lr - best) ** 2 + 0.01 * spec.seed


def test_curves_are_those_of_all_rates_and_three_are_drawn() -> None:
    """µP and SP at µP's best of the smallest width, and SP at its own best of the largest; a panel for every rate that
    both widths ran.
    """
    found, facts = curves(records(parabola))
    headings = facts["panels"]
    assert list(headings) == ["mup/-7", "sp/-7", "sp/-9"]
    assert "{-7}" in headings["mup/-7"] and "width 16" in headings["mup/-7"] and "width 32" in headings["sp/-9"]
    assert set(found["panel"]) == {f"{name}/{lr}" for name in ("sp", "mup") for lr in (-9, -7, -5)}
    assert len(found) == 2 * 3 * 2 * 2 * 10
    told = found["parametrization"] + "/" + found["log2_lr"].map("{:g}".format)
    assert (found["panel"] == told).all() and set(learning_report(found)) > set(headings)

    lone = [r for r in records(parabola) if (r.spec.parametrization, r.spec.width, r.spec.log2_lr) != ("mup", 16, -9)]
    assert set(curves(lone)[0]["panel"]) == set(found["panel"]) - {"mup/-9"}


def test_steps_tokens_and_losses() -> None:
    """A point stands at the end of its chunk of steps; tokens are steps times batch times length."""
    runs = [replace(r, loss_curve=tuple(float(i) for i in range(50))) for r in records(parabola, steps=200)]
    curve = curves(runs)[0].query("panel == 'mup/-7' and width == 32 and seed == 1")
    assert curve["step"].tolist() == [*range(4, 201, 4)]
    assert curve["tokens"].tolist() == [16 * 4 * step for step in curve["step"]]
    assert curve["loss"].tolist() == [*range(50)]
    with pytest.raises(UserError, match="10 points of 50"):
        curves(records(parabola, steps=200))
