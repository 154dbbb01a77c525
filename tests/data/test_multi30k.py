"""Multi30k is found on the disk, in lower case, and is never taken for what it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus_files import ENGLISH, GERMAN, put

from data_scripts import multi30k
from data_scripts.places import Missing
from mutransfer.errors import UserError


def folder(tmp_path: Path) -> Path:
    files = {"train.de": GERMAN[:40], "train.en": ENGLISH[:40]}
    for part, at in (("val", 50), ("test", 60)):
        files |= {f"{part}.de": GERMAN[at : at + 4], f"{part}.en": ENGLISH[at : at + 4]}
    put(tmp_path / multi30k.FOLDER, files)
    return tmp_path


def test_it_is_made_lower_case_unless_told_otherwise(tmp_path: Path) -> None:
    """References too: BLEU is then of lower-case text. Other sizes than Multi30k's are another text, and say so."""
    found = multi30k.load(folder(tmp_path), pieces=150)
    assert found.references("test") == [line.lower() for line in ENGLISH[60:64]]
    assert found.source == "other text in the place of Multi30k de-en, 40 training pairs, lower-cased, joint-bpe-150"
    cased = multi30k.load(tmp_path, pieces=150, lowercase=False)
    assert cased.references("test") == ENGLISH[60:64] != found.references("test")
    assert cased.fingerprint != found.fingerprint


def test_its_own_sizes_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multi30k, "COUNTS", {"train": 40, "valid": 4, "test": 4})
    assert multi30k.load(folder(tmp_path), pieces=150).source.startswith("Multi30k de-en, 40 training pairs")


def test_absence_says_where_it_belongs(tmp_path: Path) -> None:
    """No stand-in and no download; a corpus of one's own is that corpus, not Multi30k."""
    with pytest.raises(Missing, match=f"expected {tmp_path / multi30k.FOLDER / 'train'}.de"):
        multi30k.load(tmp_path)
    (folder(tmp_path) / multi30k.FOLDER / "val.en").unlink()
    with pytest.raises(UserError, match=r"val\.de, but no val\.en"):
        multi30k.load(tmp_path)
    own = folder(tmp_path / "own") / multi30k.FOLDER
    assert multi30k.load(corpus=own, pieces=150).source.startswith("parallel corpus multi30k_de_en de-en")
