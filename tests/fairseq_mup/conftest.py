"""A small corpus in fairseq's format."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutransfer.data import fairseq_format
from mutransfer.data.pairs import PairDataset
from mutransfer.data.standins.grammar import grammar_texts


@pytest.fixture(scope="session")
def dataset() -> PairDataset:
    """Eighty sentences of the grammar to train on."""
    texts = grammar_texts({"test": 5, "valid": 12, "train": 80})
    return PairDataset.from_texts("made-up", "test", is_real=False, languages=("de", "en"), pieces=100, **texts)


@pytest.fixture(scope="session")
def folder(dataset: PairDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What fairseq reads."""
    return fairseq_format.write(dataset, tmp_path_factory.mktemp("binary"))
