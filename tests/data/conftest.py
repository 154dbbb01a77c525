"""Scripts that look in an empty folder, and have no network but a hub on this machine."""

import functools

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
    small = functools.partial(synthetic.synthetic_cifar, n_train=20, n_test=10)
    monkeypatch.setattr(synthetic, "synthetic_cifar", small)
    for part, count in {"test": 5, "valid": 5, "train": 60}.items():
        monkeypatch.setitem(grammar.COUNTS, part, count)
    for counts in (grammar.STORY_COUNTS, grammar.TASK_COUNTS):
        monkeypatch.setitem(counts, "test", 4)
        monkeypatch.setitem(counts, "train", 40)
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("MUTRANSFER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


class Hub:
    """What was asked, and what is answered: rows by the name of a data set, made of its config and split."""

    def __init__(self):
        self.asked = []  # name, config, split, whether streamed
        self.rows = {}

    def load_dataset(self, name, config=None, *, split, streaming):
        """The library's function of this name."""
        self.asked.append((name, config, split, streaming))
        return self.rows[name](config, split)


@pytest.fixture
def hub(folder, monkeypatch):
    """A hub on this machine, empty as yet; the scripts ask it."""
    import datasets
    from huggingface_hub import HfApi

    found = Hub()
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", found.load_dataset)
    return found
