"""Made-up parallel corpora on the disk, and scripts for translation that are kept from the network."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from huggingface_hub import constants

from data_scripts import corpora, iwslt14, wmt14
from mutransfer.data.pairs import PARTS, PairDataset
from mutransfer.data.standins.grammar import grammar_dataset, grammar_texts

REFUSED = "http://127.0.0.1:9"  # the discard port
SCRIPTS = {"iwslt14": iwslt14, "wmt14": wmt14}
GERMAN, ENGLISH = grammar_texts(counts={"train": 150})["train"]
COUNTS = {"test": 5, "valid": 5, "train": 60}


def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network; a small stand-in; the default folder is an empty one. Returns an empty data folder."""
    monkeypatch.setattr(constants, "ENDPOINT", REFUSED)
    monkeypatch.setattr(iwslt14, "URL", f"{REFUSED}/de-en.tgz")
    monkeypatch.setattr(corpora, "grammar_dataset", functools.partial(grammar_dataset, counts=COUNTS))
    for script in SCRIPTS.values():
        monkeypatch.setattr(script, "__file__", str(tmp_path / "repository" / "data_scripts" / "x.py"))
    monkeypatch.delenv("MUTRANSFER_DATA", raising=False)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def put(folder: Path, files: dict[str, list[str]]) -> Path:
    """Write lines into files of ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in lines).encode())
    return folder


def corpus(folder: Path, names: tuple[str, str, str] = PARTS, languages: tuple[str, str] = ("de", "en")) -> Path:
    """A corpus of 100, 6 and 4 pairs."""
    cuts = {names[0]: slice(0, 100), names[1]: slice(100, 106), names[2]: slice(106, 110)}
    sides = zip(languages, (GERMAN, ENGLISH), strict=True)
    return put(folder, {f"{name}.{x}": side[cut] for x, side in sides for name, cut in cuts.items()})


def assert_stand_in(dataset: PairDataset, said: str, name: str) -> None:
    """Not real, and said so in exactly one line that tells what to do."""
    assert not dataset.is_real and dataset.source.startswith("STAND-IN: synthetic")
    loud = [line for line in said.splitlines() if line.startswith(f"WARNING: NOT {name.upper()}")]
    assert len(loud) == 1 and said.count("\n") == 1
    for help_ in ("MUTRANSFER_DATA", "--corpus", str(Path(name) / "train.")):
        assert help_ in loud[0]
