"""Fine-tuning: sequences of labelled examples, the batches of an epoch, the metrics, and that a model learns."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mutransfer.training.bert import METRICS, LabelledSequences, epochs, finetune

SPECIAL = SimpleNamespace(pad=0, unk=1, cls=2, sep=3, mask=4)
CPU = torch.device("cpu")


def examples(lengths, labels):
    """Of texts of these (first, second) lengths; tokens count from 10."""
    ends = torch.tensor([n for pair in lengths for n in pair]).cumsum(0).view(-1, 2)
    starts = torch.cat([ends.new_zeros(1), ends[:-1, 1]])
    tokens = torch.arange(10, 10 + int(ends[-1, 1]), dtype=torch.int32)
    return SimpleNamespace(tokens=tokens, starts=starts, ends=ends, labels=torch.tensor(labels))


def test_sequences():
    """One text, a pair, and pairs that are too long: the longer text loses its end first."""
    found = LabelledSequences(examples([(3, 0), (2, 3), (1, 30), (30, 30)], [0, 1, 0, 1]), 16, SPECIAL, CPU)
    assert found.sizes.tolist() == [5, 8, 16, 16]
    tokens, segments, padding, labels = found.batch(np.array([0, 1]))
    assert tokens.tolist() == [[2, 10, 11, 12, 3, 0, 0, 0], [2, 13, 14, 3, 15, 16, 17, 3]]
    assert segments.tolist() == [[0] * 8, [0, 0, 0, 0, 1, 1, 1, 1]]
    assert padding.tolist() == [[False] * 5 + [True] * 3, [False] * 8] and labels.tolist() == [0, 1]
    tokens, segments, *_ = found.batch(np.array([2, 3]))
    assert tokens.shape == (2, 16)
    assert segments[0].tolist() == [0] * 3 + [1] * 13  # 1 + 12 words
    assert segments[1].tolist() == [0] * 9 + [1] * 7  # 7 + 6 words


def test_an_epoch_has_every_example_once_in_batches_of_like_size():
    assert len(next(epochs(np.array([3, 4, 5]), 64, np.random.default_rng(0)))) == 3  # fewer than a batch
    sizes = np.random.default_rng(0).integers(4, 60, 64 * 40)
    found = epochs(sizes, 64, np.random.default_rng(1))
    first = [next(found) for _ in range(40)]
    assert sorted(np.concatenate(first).tolist()) == list(range(len(sizes)))
    widths = [np.ptp(sizes[rows]) for rows in first]
    assert np.mean(widths) < 5 < np.ptp(sizes)
    second = [next(found) for _ in range(40)]
    assert sorted(np.concatenate(second).tolist()) == list(range(len(sizes)))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_metrics():
    said, labels = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])
    assert METRICS["accuracy"](said, labels) == pytest.approx(3 / 5)
    assert METRICS["f1"](said, labels) == pytest.approx(2 / 3)
    assert METRICS["matthews"](said, labels) == pytest.approx((2 * 1 - 1 * 1) / 6)
    assert METRICS["matthews"](np.ones(5), labels) == 0 == METRICS["f1"](np.zeros(5), labels)


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.EmbeddingBag(50, 8, mode="sum"), nn.Linear(8, 2)

    def forward(self, tokens, segments, padding):
        return self.out(self.embed(tokens, per_sample_weights=(~padding).float()))


def task(count, seed):
    """The label is whether token 20 is among the words."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(21, 50, rng.integers(3, 12)) for _ in range(count)]
    labels = rng.integers(0, 2, count)
    for text, label in zip(texts, labels, strict=True):
        if label:
            text[rng.integers(len(text))] = 20
    part = examples([(len(text), 0) for text in texts], labels)
    part.tokens = torch.from_numpy(np.concatenate(texts).astype(np.int32))
    return LabelledSequences(part, 16, SPECIAL, CPU)


def test_a_classifier_learns_and_the_seed_decides():
    train, test = task(600, 0), task(300, 1)
    options = {"metric": "accuracy", "lr": 0.03, "batch": 32}
    assert finetune(Bag(), train, test, steps=150, seed=0, **options) > 95
    few = [finetune(Bag(), train, test, steps=5, seed=seed, **options) for seed in (0, 0, 1)]
    assert few[0] == few[1] < 90
    (broken := Bag()).out.bias.data.fill_(float("nan"))
    assert finetune(broken, train, test, steps=1, seed=0, **{**options, "lr": 0.0}) == 0  # no numbers, no score
