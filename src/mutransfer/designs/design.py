"""A design is a generator: it yields a list of runs and is sent their records, until it has what its rows are made of.

`follow` trains what a design yields; `expected` is its plan: the same generator, fed with records that are expected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mode
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from mutransfer.training.spec import RunRecord, RunSpec

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer.designs.experiment import Experiment, Size, Variant

Result = TypeVar("Result")
Design = Generator[list[RunSpec], list[RunRecord], Result]
"""One record is sent for each spec, in the order of the specs; equal specs share one."""
Train = Callable[[list[RunSpec]], Iterable[RunRecord]]


def follow(design: Design[Result], train: Train) -> Result:
    """Train all that ``design`` yields, each list at once and without doubles; what it returns."""
    try:
        specs = next(design)
        while True:
            records = {record.spec: record for record in train([*dict.fromkeys(specs)])}
            specs = design.send([records[spec] for spec in specs])
    except StopIteration as end:
        return end.value


def expected(design: Design[Any]) -> list[RunSpec]:
    """About what will run, each run once: all train to the end, and of a list the first runs are the best."""
    planned: dict[RunSpec, None] = {}

    def train(specs: list[RunSpec]) -> list[RunRecord]:
        planned.update(dict.fromkeys(specs))
        return [
            RunRecord(spec=spec, status="finished", train_loss=i, test_loss=i, steps_done=spec.steps)
            for i, spec in enumerate(specs)
        ]

    follow(design, train)
    return [*planned]


def with_points(
    points: Sequence[tuple[Any, ...]], names: Sequence[str], records: Sequence[RunRecord], hps: Sequence[str]
) -> pd.DataFrame:
    """The runs table with a row for every point; ``points``: what ``names`` name, and the id of a run.

    A run may stand in several points.
    """
    import pandas as pd

    from mutransfer.runs.table import to_frame

    runs = to_frame({record.spec.run_id: record for record in records}.values(), hps)
    return pd.DataFrame(points, columns=[*names, "run_id"]).merge(runs, on="run_id", validate="many_to_one")


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a figure's folder is drawn from."""

    runs: pd.DataFrame  # runs.csv
    facts: Mapping[str, Any]  # for provenance.json, in this order
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # further CSV files, by name


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What a design makes its runs of: an experiment on a data set at a scale, as one command wants it."""

    experiment: Experiment
    dataset: Any
    scale: str
    variant: str
    widths: Sequence[int] | None = None  # instead of the scale's
    seeds: int | None = None
    precision: str = "float32"
    backend: str = ""  # what trains, if not this suite
    extends: bool = True  # whether grids are extended, which no plan can foresee
    known: Callable[[Collection[str]], Mapping[str, RunRecord]] | None = None  # records of runs that are done, by id

    @property
    def size(self) -> Size:
        return self.experiment.scale(self.scale)

    @property
    def declared(self) -> Variant:
        """The variant."""
        return self.experiment.variants[self.variant]

    def specs(self, *, seeds: int | None = None) -> list[RunSpec]:
        """The experiment's grid (`Experiment.specs`)."""
        specs = self.experiment.specs(
            self.dataset, scale=self.scale, variant=self.variant, widths=self.widths, seeds=seeds or self.seeds
        )
        backend = (("backend", self.backend),) if self.backend else ()
        return [replace(spec, precision=self.precision, hps=(*spec.hps, *backend)) for spec in specs]

    def paper(self, records: Iterable[RunRecord], declared: Mapping[str, Any], what: str, seeds: int) -> dict[str, Any]:
        """What stands beside our numbers; ``what`` opens the list of differences. Of what varies: the usual value."""
        specs = [*dict.fromkeys(record.spec for record in records)]
        steps, batch = mode((spec.steps, spec.batch) for spec in specs)
        e, dataset = self.experiment, self.dataset
        epochs = steps * batch / e.code.examples(dataset, specs[0])
        hps = "".join(f"; {name} {mode(spec.hp(name) for spec in specs)}" for name in self.size.hps)
        return {
            **declared,
            "ours": {"epochs": f"{epochs:.3g}", **declared.get("ours", {})},
            "differs": f"{what}; {steps} steps of {batch} {e.data.unit} ({epochs:.3g} epochs){hps}; {seeds} seeds; "
            f"momentum {e.momentum:g}; {self.precision}; data: {dataset.source}.",
        }


@dataclass(frozen=True, kw_only=True)
class Output:
    """What an experiment draws into a folder of its own."""

    number: str = ""  # of the figure that ``--figure`` draws; "": drawn without being asked for
    shows: tuple[str, ...] = ()  # what else of the paper it shows, "5" or "table_12": ``--figure`` takes that, too
    variant: str = ""  # of the experiment, whose hyperparameters its runs have; "": the command's
    below: str = ""  # a folder inside of that of the variant and the precision
    is_tolerant: bool = False  # whether it can be drawn without runs that failed
    more: ClassVar[str] = ""  # said before every list of runs after the first

    @property
    def part(self) -> str:
        """Its folder inside of the experiment's; "": that itself."""
        return f"figure_{self.number}" if self.number else ""

    def design(self, bench: Bench) -> Design[Any]:
        """The runs. What it returns, `tables` takes."""
        raise NotImplementedError

    def tables(self, bench: Bench, trained: Any) -> Tables:
        """The tables and facts of runs that all have a result."""
        raise NotImplementedError

    def notes(self, bench: Bench) -> list[str]:
        """Lines below the plan."""
        return []
