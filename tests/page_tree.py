"""A small ``figures/`` tree for the tests of the page: one folder of every kind, copied from the committed ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mutransfer.cli import experiments
from mutransfer.page import write_page
from mutransfer.results.kinds import kind_of

FIGURES = Path(__file__).parents[1] / "figures"
EXPERIMENTS = dict.fromkeys(experiments(), "What it is.")
_NAMED = ("cifar_mlp", "cifar_mlp/tune", "cifar_resnet/figure_16", "cifar_resnet/figure_length/bfloat16")
_NAMED += ("transformer_lm/figure_7", "transformer_lm/figure_21", "wmt14/table_5", "bert/table_6", "gpt3_proxy")
_KINDS = {name: kind_of(FIGURES / name).name for name in _NAMED}
_OTHERS = {kind_of(path.parent).name: path.parent for path in FIGURES.rglob("provenance.json")}
_NEW = (str(path.relative_to(FIGURES)) for kind, path in _OTHERS.items() if kind not in _KINDS.values())
ONE_OF_EVERY_KIND = (*_NAMED, *_NEW)
"""A kind that is new is here by itself."""


def change(folder: Path, **changes: Any) -> None:
    """Change keys of the provenance of ``folder``."""
    path = folder / "provenance.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def copied(names: tuple[str, ...], out: Path) -> Path:
    """The files of the folders ``names``, but not their tables nor SVGs, below ``out/figures``, which is returned."""
    for name in names:
        (out / "figures" / name).mkdir(parents=True, exist_ok=True)
        for path in (FIGURES / name).iterdir():
            if path.is_file() and path.suffix in (".csv", ".json", ".png"):
                shutil.copy(path, out / "figures" / name)
    return out / "figures"


def page_of_every_kind(out: Path) -> Path:
    """The page of one folder of every kind, one of them on stand-in data."""
    figures = copied(ONE_OF_EVERY_KIND, out)
    change(figures / "cifar_resnet/figure_16", data_is_real=False, data_source="synthetic images")
    return write_page(figures, out / "report", experiments=EXPERIMENTS)[1]
