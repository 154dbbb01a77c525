"""Scripts that look in an empty folder, and have no network but a hub on this machine."""

import functools
from types import SimpleNamespace

import pytest
from corpus_files import REFUSED


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty data folder, which the environment names too; no network; small stand-ins."""
    from huggingface_hub import constants
    from torchvision.datasets import CIFAR10

    from data_scripts import iwslt14
    from mutransfer.data.standins import grammar, synthetic

    monkeypatch.setattr(constants, "ENDPOINT", REFUSED)
    monkeypatch.setattr(iwslt14, "URL", f"{REFUSED}/de-en.tgz")
    monkeypatch.setattr(CIFAR10, "url", f"{REFUSED}/{CIFAR10.filename}")
    monkeypatch.setattr(synthetic, "synthetic_cifar", functools.partial(synthetic.synthetic_cifar, 3, 20, 10))
    for part, count in {"test": 5, "valid": 5, "train": 60}.items():
        monkeypatch.setitem(grammar.COUNTS, part, count)
    for counts in (grammar.STORY_COUNTS, grammar.TASK_COUNTS):
        monkeypatch.setitem(counts, "test", 4)
        monkeypatch.setitem(counts, "train", 40)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MUTRANSFER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def hub(folder, monkeypatch):
    """A hub that the scripts ask. rows: by the name of a data set, made of its config and split; asked: for what."""
    import datasets
    from huggingface_hub import HfApi

    made = SimpleNamespace(asked=[], rows={})

    def load_dataset(name, config=None, *, split, streaming):
        made.asked.append((name, config, split, streaming))
        return made.rows[name](config, split)

    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return made
