"""A small ``figures/`` tree for the tests of the page: one folder of every kind, copied from the committed ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from mutransfer.results.kinds import kind_of

FIGURES = Path(__file__).parents[1] / "figures"
EXPERIMENTS = {
    "cifar_mlp": "An MLP.",
    "transformer_lm": "A language model.",
    "cifar_resnet": "A ResNet.",
    "iwslt14": "Translation.",
    "wmt14": "More translation.",
    "bert": "BERT.",
    "gpt3_proxy": "A search.",
}
_NAMED = ("cifar_mlp", "cifar_mlp/tune", "cifar_resnet/figure_16", "cifar_resnet/figure_length/bfloat16")
_NAMED += ("transformer_lm/figure_7", "transformer_lm/figure_21", "wmt14/table_5", "bert/table_6", "gpt3_proxy")
_OTHERS = {
    kind_of(path.parent).name: str(path.parent.relative_to(FIGURES)) for path in FIGURES.rglob("provenance.json")
}
ONE_OF_EVERY_KIND = (
    *_NAMED,
    *(name for kind, name in _OTHERS.items() if kind not in {kind_of(FIGURES / named).name for named in _NAMED}),
)
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
