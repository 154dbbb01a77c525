"""What an experiment of the paper declares: what is trained, swept and drawn, at each scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from mutransfer.designs.figure import Figure, put
from mutransfer.designs.repeated import Searches
from mutransfer.designs.search import Space
from mutransfer.designs.study import Study
from mutransfer.designs.transfer import Transfer
from mutransfer.errors import UserError, unknown
from mutransfer.training.spec import RunRecord, RunSpec, Value

SCALES = ("smoke", "cpu", "gpu", "paper")
EXTENSION_OCTAVES = 2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One size of an experiment. All numbers are the experiment's defaults; widths and seeds can be overridden."""

    widths: tuple[int, ...]
    base_width: int  # where µP equals SP
    log2_lrs: tuple[float, ...]  # the planned grid, in octaves
    seeds: int
    steps: int
    batch: int
    samples: int = 64  # of a search on the smallest width; 64 in Tables 4 and 5
    hps: Mapping[str, Value] = field(default_factory=dict)  # the experiment's own that the scale decides


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One figure of an experiment. ``hps`` goes into every `RunSpec` and is what the runner reads."""

    title: str
    y_label: str  # quantity and unit of the loss
    hps: Mapping[str, float | int | str]
    paper: Mapping[str, Any]  # table_or_figure, statement, differs, ours: what stands beside our numbers
    loss_ceiling: float | None = None  # the loss of a model that has learnt nothing: no need to draw above it
    grids: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # log2 LRs by scale, where not the scale's
    search: Space = field(default_factory=dict)  # of the hyperparameters to tune, by name (`assign`); none: no search


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A learning-rate sweep over widths in SP and µP.

    load: from the data folder (None: the default), the name of one of ``datasets`` (None: the first there is) and the
        scale to the data set; where it ``takes_corpus``, also from what the command line says of parallel text.
    run: one run; a module-level function, called in a worker as ``run(spec, dataset)``.
    flops: floating-point operations of a run, for the plan and to start the longest runs first.
    memory: bytes that a run adds to a worker's, at its peak.
    figures: drawn on demand, by number; ``columns``: hyperparameters that stand in the runs table.
    from_data: hyperparameters that the data set decides, such as its vocabulary.
    examples: in the training part of the data set, for a run of that spec.
    parameters: of a run's model, where App. F.4's cost formula is wanted.
    unit: that batches are counted in.
    searches: by scale, of a table of repeated searches, drawn after the sweep (Table 4), and ``front``: the number of
        the figure that shows them over their sizes (Figure 6), if there is one; ``scores``: of the target's runs.
    transfers: by scale, of a table of one search copied to wider and deeper targets, drawn after the sweep (Table 6).
    backends: by name, what else may train the sweep's runs (as the hyperparameter ``backend`` of their specs); called
        first, to raise if it is not installed.
    probe: of a run that does more than train, such as fine-tuning, the training alone: the machine is measured with it.
    studies: by scale; an experiment that has them is one of Algorithm 1, not a sweep of learning rates.
    has_curves: whether losses through training are drawn too (Figure 7).
    accuracy: the paper's table of test accuracies of a copied learning rate, such as Table 12; none: not reported.
    coordinates: the coordinate check of SP and µP (Figure 5), from the data set, scale and variant: its table
        (`CoordFrame.data` with parametrization and optimizer) and what provenance.json says of it.
    elsewhere: what it is on data sets that need another model and other scales, by the name of the data set; their
        figures stand in the folder of that name.
    folder: inside of figures/<name>; of one of ``elsewhere``.
    """

    name: str
    summary: str
    scales: Mapping[str, Scale]
    variants: Mapping[str, Variant]  # the first is the default
    optimizer: str
    momentum: float
    load: Callable[[Path | None, str | None, str], Any]
    run: Callable[[RunSpec, Any], RunRecord]
    flops: Callable[[RunSpec], float]
    memory: Callable[[RunSpec], float]
    examples: Callable[[Any, RunSpec], int]
    stands_in_for: str  # the paper's data set, which stand-in data is not
    from_data: Callable[[Any], Mapping[str, Value]] = lambda dataset: {}
    parametrizations: tuple[str, ...] = ("sp", "mup")
    datasets: tuple[str, ...] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    has_curves: bool = False
    accuracy: str = ""
    parameters: Callable[[RunSpec], float] | None = None
    studies: Mapping[str, Study] = field(default_factory=dict)
    searches: Mapping[str, Searches] = field(default_factory=dict)
    transfers: Mapping[str, Transfer] = field(default_factory=dict)
    front: str = ""
    scores: tuple[str, ...] = ()
    takes_corpus: bool = False
    backends: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    unit: str = "examples"
    probe: Callable[[RunSpec], RunSpec] = lambda spec: spec
    coordinates: Callable[[Any, str, str], tuple[pd.DataFrame, dict[str, Any]]] | None = None
    elsewhere: Mapping[str, Experiment] = field(default_factory=dict)
    folder: str = ""

    def on(self, dataset: str | None) -> Experiment:
        """The experiment on the data set of that name. Raises `UserError` if it has none of that name."""
        names = [*self.datasets, *self.elsewhere]
        if dataset and dataset not in names:
            raise unknown(f"data set of {self.name}", dataset, names or ["the one it has"])
        return self.elsewhere.get(dataset or "", self)

    def scale(self, name: str) -> Scale:
        if name not in self.scales:
            raise unknown("scale", name, self.scales)
        return self.scales[name]

    def variant(self, name: str | None) -> tuple[str, Variant]:
        """The variant of that name, or the default one, with its name."""
        name = name or next(iter(self.variants))
        if name not in self.variants:
            raise unknown("variant", name, self.variants)
        return name, self.variants[name]

    @property
    def numbers(self) -> list[str]:
        """Of all figures that are drawn on demand."""
        return [*self.figures, *filter(None, [self.front])]

    def figure(self, number: str) -> Figure:
        """The figure of that number. Raises `UserError` if the experiment has no such figure."""
        if number not in self.figures:
            raise unknown("figure", number, [*self.numbers, "all"])
        return self.figures[number]

    def grid(self, scale: str, variant: str) -> tuple[float, ...]:
        """The planned log2 learning rates."""
        return self.variants[variant].grids.get(scale, self.scales[scale].log2_lrs)

    def specs(
        self,
        dataset: Any,
        *,
        scale: str,
        variant: str,
        widths: Sequence[int] | None = None,
        seeds: int | None = None,
    ) -> list[RunSpec]:
        """The grid: parametrizations x widths x learning rates x seeds.

        Raises `UserError` for a width that is no positive whole number, or fewer than two widths.
        """
        s = self.scale(scale)
        widths = sorted(set(s.widths if widths is None else widths))
        if len(widths) < 2:
            raise UserError(f"widths {widths}: a drift needs at least two widths, such as --widths 64,256.")
        cells = product(self.parametrizations, widths, self.grid(scale, variant), range(seeds or s.seeds))
        return [
            RunSpec(
                experiment=self.name,
                variant=variant,
                parametrization=parametrization,
                optimizer=self.optimizer,
                width=width,
                base_width=s.base_width,
                log2_lr=log2_lr,
                seed=seed,
                steps=s.steps,
                batch=s.batch,
                momentum=self.momentum,
                precision="float32",
                data=dataset.name,
                data_fingerprint=dataset.fingerprint,
                hps=tuple({**s.hps, **self.variants[variant].hps, **self.from_data(dataset)}.items()),
            )
            for parametrization, width, log2_lr, seed in cells
        ]


def figure_cells(
    experiment: Experiment, number: str, dataset: Any, *, scale: str, seeds: int | None = None
) -> list[tuple[str, Value, Value, RunSpec]]:
    """(panel, x, line, run) of every point of a figure; panels share runs.

    Raises `UserError` for a number that the experiment does not have.
    """
    figure, s = experiment.figure(number), experiment.scale(scale)
    template = experiment.specs(dataset, scale=scale, variant=figure.variant)[0]
    for name, value in figure.template(scale).items():
        template = put(template, name, value)
    count = seeds or figure.seeds.get(scale, s.seeds)
    return [(p.key, *cell) for p in figure.panels(scale) for cell in p.cells(template, count)]


def extension(
    specs: Sequence[RunSpec],
    at_edge: Callable[[pd.DataFrame], Sequence[tuple[str, int, str]]],
    untested: Callable[[pd.DataFrame], Sequence[tuple[str, int, float]]],
) -> Callable[[pd.DataFrame, bool], list[RunSpec]]:
    """For `sweep`: the runs that a finished grid turns out to lack.

    at_edge: (parametrization, width, "low" or "high") of optima on the edge: two octaves more on that side; not the
        last time, when a rate that is new could not be copied to the other widths any more.
    untested: (parametrization, width, log2 LR) of transferred learning rates that the width never ran: up to there.
    Both read the runs table, as `analysis.needs_extension` and `analysis.untested_transfers` do.
    """
    cells: dict[tuple[str, int], list[RunSpec]] = {}
    for spec in specs:
        cells.setdefault((spec.parametrization, spec.width), []).append(spec)

    def extend(frame: pd.DataFrame, is_last: bool) -> list[RunSpec]:
        grown: list[tuple[str, int, float]] = []
        for parametrization, width, side in [] if is_last else at_edge(frame):
            own = frame[(frame["parametrization"] == parametrization) & (frame["width"] == width)]["log2_lr"]
            edge, step = (own.min(), -1) if side == "low" else (own.max(), 1)
            grown += [(parametrization, width, edge + step * k) for k in range(1, EXTENSION_OCTAVES + 1)]
        for parametrization, width, log2_lr in untested(frame):
            own = frame[(frame["parametrization"] == parametrization) & (frame["width"] == width)]["log2_lr"]
            # no hole is left on the way
            between = {x for x in frame["log2_lr"] if own.max() < x <= log2_lr or log2_lr <= x < own.min()}
            grown += [(parametrization, width, x) for x in between]
        return [
            replace(spec, log2_lr=log2_lr)
            for parametrization, width, log2_lr in grown
            for spec in {s.seed: s for s in cells[parametrization, width]}.values()
        ]

    return extend
