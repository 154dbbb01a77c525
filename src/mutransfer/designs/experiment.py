"""What an experiment of the paper declares: what is trained, at which sizes, and what is drawn of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from importlib import import_module
from itertools import product
from typing import Any

from mutransfer.designs.design import Output
from mutransfer.designs.space import Space
from mutransfer.errors import UserError, known, unknown
from mutransfer.training.spec import RunSpec, Value


@dataclass(frozen=True)
class Size:
    """An experiment at one scale. All numbers are the experiment's defaults; widths and seeds can be overridden."""

    widths: tuple[int, ...]
    log2_lrs: Sequence[float]  # the planned grid, in octaves
    _: KW_ONLY
    base_width: int = 0  # where µP equals SP; 0: the narrowest
    seeds: int
    steps: int
    batch: int
    samples: int = 64  # of a search on the smallest width; 64 in Tables 4 and 5
    hps: Mapping[str, Value] = field(default_factory=dict)  # the experiment's own that the scale decides

    def __post_init__(self) -> None:
        object.__setattr__(self, "base_width", self.base_width or min(self.widths))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One figure of an experiment. ``hps`` goes into every `RunSpec` and is what the runner reads."""

    title: str
    y_label: str  # quantity and unit of the loss
    hps: Mapping[str, Value]
    where: str  # the table or figure of the paper that stands beside it, as values.csv names it
    statement: str  # what the paper says there
    ours: Mapping[str, str] = field(default_factory=dict)  # our value of what values.csv calls metrics, "optimizer"
    loss_ceiling: float | None = None  # the loss of a model that has learnt nothing: no need to draw above it
    grids: Mapping[str, Sequence[float]] = field(default_factory=dict)  # log2 LRs by scale, where not the scale's
    search: Space = field(default_factory=dict)  # of the hyperparameters to tune, by name (`assign`); none: no search

    @property
    def paper(self) -> dict[str, Any]:
        """For provenance.json."""
        ours = {"ours": {**self.ours}} if self.ours else {}
        return {"table_or_figure": self.where, **ours, "statement": self.statement}


@dataclass(frozen=True, kw_only=True)
class Data:
    """What an experiment trains on.

    load: from the data folder (None: the default), one of ``names`` (None: the first that there is) and the scale to
        the data set; where it ``takes_corpus``, also from what the command line says of parallel text.
    """

    load: Callable[..., Any]
    stands_in_for: str  # the paper's data set, which stand-in data is not
    names: tuple[str, ...] = ()  # that ``--dataset`` knows
    hps: tuple[str, ...] = ()  # hyperparameters that the data set decides, which has them as attributes: "vocab"
    unit: str = "examples"  # that batches are counted in
    takes_corpus: bool = False  # whether the command line may name parallel text of one's own


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A learning-rate sweep over widths in SP and µP, or other outputs.

    trains: the module that trains, by its name, so that a list of experiments need not import torch. Its functions:

        run(spec, dataset): one run, in a worker; on a GPU also with ``device``.
        flops(spec): floating-point operations of a run, for the plan and to start the longest runs first; counted from
            the model by `mutransfer.training.flops.counted`.
        examples(dataset, spec): in the training part of the data set, for a run of that spec.

        Not needed: parameters(spec), of a run's model, where App. F.4's cost formula is wanted; probe(spec), of a run
        that does more than train, such as fine-tuning, the training alone: the machine is measured with it.
    outputs: what is drawn, in this order; those with a number on demand.
    columns: hyperparameters that stand in the runs table.
    elsewhere: what it is on data sets that need another model and other scales, by the name of the data set; their
        figures stand in the folder of that name.
    folder: inside of figures/<name>; of one of ``elsewhere``.
    """

    name: str
    summary: str
    trains: Any
    data: Data
    optimizer: str
    momentum: float = 0.0
    scales: Mapping[str, Size]
    variants: Mapping[str, Variant]  # the first is the default
    outputs: tuple[Output, ...]
    columns: tuple[str, ...] = ()
    elsewhere: Mapping[str, Experiment] = field(default_factory=dict)
    folder: str = ""

    @cached_property
    def code(self) -> Any:
        """The module that trains."""
        return import_module(self.trains) if isinstance(self.trains, str) else self.trains

    def on(self, dataset: str | None) -> Experiment:
        """The experiment on the data set of that name. Raises `UserError` if it has none of that name."""
        names = [*self.data.names, *self.elsewhere] or ["the one it has"]
        return self.elsewhere.get(known(f"data set of {self.name}", dataset, names), self) if dataset else self

    def scale(self, name: str) -> Size:
        return self.scales[known("scale", name, self.scales)]

    def variant(self, name: str | None) -> tuple[str, Variant]:
        """The variant of that name, or the default one, with its name."""
        name = known("variant", name or next(iter(self.variants)), self.variants)
        return name, self.variants[name]

    @property
    def numbers(self) -> list[str]:
        """Of all figures that are drawn on demand."""
        return [output.number for output in self.outputs if output.number]

    def output(self, number: str) -> Any:
        """The first of `shown`."""
        return self.shown(number)[0]

    def shown(self, number: str) -> tuple[Output, ...]:
        """What draws a figure of the paper by its number, or a table ("table_4"); or all variants that stand beside it.

        Raises `UserError` if the experiment has no such figure.
        """
        for output in sorted(self.outputs, key=lambda output: output.number != number):
            if number in filter(None, (output.number, output.part, *output.shows)):
                return (output,)
        where = f"Figure {number}"
        beside = [name for name, variant in self.variants.items() if self.outputs and variant.where == where]
        if not beside:
            raise unknown("figure", number, [*self.numbers, "all"])
        return tuple(replace(self.outputs[0], variant=name) for name in beside)

    def grid(self, scale: str, variant: str) -> Sequence[float]:
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
        """The grid: SP and µP x widths x learning rates x seeds.

        Raises `UserError` for a width that is no positive whole number, or fewer than two widths.
        """
        s = self.scale(scale)
        widths = sorted(set(s.widths if widths is None else widths))
        if len(widths) < 2:
            raise UserError(f"widths {widths}: a drift needs at least two widths, such as --widths 64,256.")
        of_data = {name: getattr(dataset, name) for name in self.data.hps}
        cells = product(("sp", "mup"), widths, self.grid(scale, variant), range(seeds or s.seeds))
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
                hps=tuple({**s.hps, **self.variants[variant].hps, **of_data}.items()),
            )
            for parametrization, width, log2_lr, seed in cells
        ]
