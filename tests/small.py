"""The experiments at a size of seconds, on small data; `smoke` of conftest.py trains each once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mutransfer.cli import load_experiment
from mutransfer.data import TokenDataset
from mutransfer.data.pairs import PairDataset
from mutransfer.data.sentences import SentenceDataset
from mutransfer.data.standins.grammar import grammar_dataset, stories_dataset
from mutransfer.designs.algorithm import Model, Numbers
from mutransfer.designs.experiment import Experiment, Size
from mutransfer.designs.panels import Values, rectangle
from tests.corpus_files import ENGLISH, GERMAN, put
from tests.images import tinted

FINE = {"finetuned": 1, "scratch": 1, "finetune_steps": 2, "finetune_lr": 1e-3, "tasks": "stories"}
LETTERS = {"output_mult": 1.0, "depth": 2, "length": 16}
TEXT = Size(widths=(16, 32), base_width=16, log2_lrs=(-8, -6, -4), seeds=2, steps=20, batch=4, hps=LETTERS)


@cache
def text() -> TokenDataset:
    """Sixteen letters, each of which likes its successor: something to learn, nothing to wait for."""
    rng = np.random.default_rng(0)
    steps = rng.choice([1, 2, 5], size=20_000, p=[0.7, 0.2, 0.1])
    tokens = 97 + np.cumsum(steps) % 16
    parts = {"train": tokens[:18_000], "test": tokens[18_000:]}
    return TokenDataset.from_arrays("tiny", "made-up letters", is_real=False, vocab=256, tokenizer="bytes", **parts)


@cache
def pairs(*languages: str) -> PairDataset:
    """A hundred sentences."""
    return grammar_dataset(languages, pieces=200, counts={"train": 120, "valid": 8, "test": 8})


@cache
def stories() -> SentenceDataset:
    """With the stand-in's own task."""
    return stories_dataset(pieces=300)


def corpus(folder: Path) -> Path:
    """Parallel text of one's own: 60 pairs, and 6 in each of ``dev`` and ``test``."""
    files = {"train.de": GERMAN[:60], "train.en": ENGLISH[:60]}
    for part, at in (("dev", 70), ("test", 80)):
        files |= {f"{part}.de": GERMAN[at : at + 6], f"{part}.en": ENGLISH[at : at + 6]}
    return put(folder, files)


def checked(experiment: Experiment, widths: tuple[int, ...]) -> SimpleNamespace:
    """The experiment's code, its coordinate check at these widths."""
    code = experiment.code
    return SimpleNamespace(**{**vars(code), "coordinates": partial(code.coordinates, widths=widths)})


def cifar_mlp(experiment: Experiment) -> dict[str, Any]:
    return {"scales": {"smoke": Size((16, 32), (-6, -4, -2), seeds=2, steps=30, batch=16, samples=6)}}


def cifar_resnet(experiment: Experiment) -> dict[str, Any]:
    rows = Values(name="width", label="width", values=(2, 4))
    columns = [
        Values(name="log2_lr", label="learning rate", values=(-6, -2)),
        Values(name="output_mult", label="x", values=(0, 2)),
    ]
    figure_16 = replace(experiment.output("16"), panels=lambda scale: rectangle(columns, [rows], ("sp", "mup")))
    return {
        "trains": checked(experiment, (2, 4)),
        "scales": {"smoke": Size(widths=(2, 4), base_width=2, log2_lrs=(-6, -2, 2), seeds=2, steps=6, batch=16)},
        "outputs": (experiment.outputs[0], figure_16),
    }


def transformer_lm(experiment: Experiment) -> dict[str, Any]:
    short = {"width": 16, "batch": 2, "steps": 24, "length": 16}
    figure_18 = replace(experiment.output("18"), template=lambda scale: short)
    return {
        "trains": checked(experiment, (16, 32)),
        "scales": {"smoke": TEXT},
        "variants": {name: replace(v, grids={}) for name, v in experiment.variants.items()},
        "outputs": (experiment.outputs[0], figure_18, experiment.output("7"), experiment.output("21")),
    }


def gpt3_proxy(experiment: Experiment) -> dict[str, Any]:
    numbers = Numbers(
        samples={"proxy": 6, "direct": 2},
        search=3,
        searches=5,
        targets={"target": Model(hps={"steps": 30})},
        widths=(16, 32),
        default={"log2_lr": -10.0},
    )
    (study,) = experiment.outputs
    size = replace(TEXT, seeds=1, hps={**LETTERS, "heads": 4, "vocab": 256})
    return {"scales": {"smoke": size}, "outputs": (replace(study, numbers={**study.numbers, "smoke": numbers}),)}


def translation(experiment: Experiment) -> dict[str, Any]:
    sweep, table, *figures = experiment.outputs
    few = {"samples": {"proxy": 3, "direct_pool": 4}, "search": 2, "searches": 2, "inits": 1, "template": {}}
    table = replace(table, numbers={"smoke": replace(table.numbers["smoke"], **few)})
    figures = [replace(f, template=lambda scale: {"beam": 1}) if f.number == "bleu" else f for f in figures]
    size = replace(experiment.scales["smoke"], log2_lrs=(-4, -2, 0), steps=6, batch=128, seeds=1)
    return {"scales": {"smoke": size}, "outputs": (sweep, table, *figures)}


def bert(experiment: Experiment) -> dict[str, Any]:
    sweep, table, depth, pretraining = experiment.outputs
    numbers, fine = table.numbers["smoke"], {**FINE, "scratch": 0}
    targets = {label: replace(m, scored=m.scored and fine) for label, m in numbers.targets.items()}
    table = replace(table, numbers={"smoke": replace(numbers, samples={"proxy": 2}, targets=targets)})
    return {
        "scales": {"smoke": replace(experiment.scales["smoke"], steps=4, log2_lrs=(-6, -4, -2), seeds=1)},
        "outputs": (sweep, table, depth, replace(pretraining, template=lambda scale: FINE)),
    }


SMALLER: dict[str, Callable[[Experiment], dict[str, Any]]] = {
    "cifar_mlp": cifar_mlp,
    "cifar_resnet": cifar_resnet,
    "transformer_lm": transformer_lm,
    "iwslt14": translation,
    "wmt14": translation,
    "bert": bert,
    "gpt3_proxy": gpt3_proxy,
}
DATA: dict[str, Callable[[], Any]] = {
    "cifar_mlp": cache(tinted),
    "cifar_resnet": cache(tinted),
    "transformer_lm": text,
    "iwslt14": partial(pairs, "de", "en"),
    "wmt14": partial(pairs, "en", "de"),
    "bert": stories,
    "gpt3_proxy": text,
}


@cache
def small(name: str) -> Experiment:
    """The experiment as it is declared, but for what makes its smoke scale last. Its other scales are its own."""
    experiment = load_experiment(name)
    changes = SMALLER[name](experiment)

    def load(data: Path | None, dataset: str | None, scale: str, **corpus: Any) -> Any:
        return experiment.data.load(data, dataset, scale, **corpus) if corpus else DATA[name]()

    changes["scales"] = {**experiment.scales, **changes["scales"]}
    return replace(experiment, data=replace(experiment.data, load=load), **changes)
