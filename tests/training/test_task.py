"""Language modelling as a task: every token is a target once, the loss is the mean over tokens.

The text is 0, 1, 2, ... where it must be told which window a batch holds.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mutransfer.data import TokenDataset
from mutransfer.models.transformer import Config, Decoder
from mutransfer.training import task as tasks
from mutransfer.training.loop import evaluate, train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.task import NextToken
from tests.training.specs import spec_of

LENGTH = 4


def text(train: int = 83, test: int = 87, vocab: int = 100) -> TokenDataset:
    """Counting; 20 and 21 windows of 4 tokens, a few tokens left over."""
    parts = {"train": np.arange(train) % vocab, "test": np.arange(test)[::-1] % vocab}
    return TokenDataset.from_arrays("tiny", "counting", is_real=False, vocab=vocab, tokenizer="bytes", **parts)


DATA = text()
SPEC = spec_of(DATA, optimizer="adam", log2_lr=-7, steps=12, batch=6)


class Bigram(nn.Module):
    """The logits of the next token from the last one; keeps what it was given."""

    def __init__(self, vocab: int = 100) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(vocab, vocab)
        self.seen: list[Tensor] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens)
        return self.table(tokens)


def slow_loss(model: Bigram, windows: list[list[int]]) -> tuple[float, float]:
    """(mean negative log likelihood in nats, accuracy): token by token."""
    losses, hits = [], []
    for now, following in (pair for window in windows for pair in itertools.pairwise(window)):
        logits = model.table.weight[now].tolist()
        losses.append(math.log(sum(map(math.exp, logits))) - logits[following])
        hits.append(logits.index(max(logits)) == following)
    return float(np.mean(losses)), float(np.mean(hits))


def window(i: int, part: str = "train") -> list[int]:
    """By hand: tokens 4 i to 4 i + 4, the last of which opens the next window."""
    tokens = DATA.train_tokens if part == "train" else DATA.test_tokens
    return tokens.tolist()[LENGTH * i : LENGTH * i + LENGTH + 1]


def test_the_loss_is_a_slow_references() -> None:
    """Mean cross-entropy in nats a token of the windows that a batch names."""
    task, model = NextToken(DATA, LENGTH), Bigram()
    rows = torch.tensor([[3, 0, 17], [5, 5, 19]])
    found = [task.loss(model, *batch).item() for batch in task.batches(rows)]
    want = [slow_loss(model, [window(i) for i in row])[0] for row in rows.tolist()]
    assert found == pytest.approx(want, rel=1e-5)
    assert found[0] != pytest.approx(found[1], rel=1e-2)


def test_every_token_is_a_target_once() -> None:
    """Windows overlap by one token: none is left out between them, none is learnt twice."""
    task, model = NextToken(DATA, LENGTH), Bigram()
    assert task.count == (83 - 1) // LENGTH == 20
    (batch,) = task.batches(torch.arange(task.count)[None])
    task.loss(model, *batch)
    assert model.seen[0].flatten().tolist() == list(range(80))
    assert task._windows[:, 1:].flatten().tolist() == list(range(1, 81))


def test_evaluation_is_spread_over_the_test_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """5 of 21 windows, from the first to the last at equal distances, in batches whose last is smaller."""
    monkeypatch.setattr(tasks, "EVAL_WINDOWS", 5)
    monkeypatch.setattr(tasks, "EVAL_WINDOW_BATCH", 2)
    model = Bigram()
    found = evaluate(model, NextToken(DATA, LENGTH))
    chosen = [window(i, "test") for i in (0, 5, 10, 15, 20)]
    assert torch.cat(model.seen).tolist() == [w[:-1] for w in chosen]
    assert found == pytest.approx(slow_loss(model, chosen), rel=1e-5)


def test_a_short_test_text_is_evaluated_whole() -> None:
    """Each of its windows once; right and wrong answers are told apart."""
    model, windows = Bigram(), [window(i, "test") for i in range(21)]
    for token in range(50, 100):  # knows the next token of the upper half: the test text counts down
        model.table.weight.data[token, token - 1] = 20.0
    loss, accuracy = evaluate(model, NextToken(DATA, LENGTH))
    assert torch.cat(model.seen).tolist() == [w[:-1] for w in windows]
    assert (loss, accuracy) == pytest.approx(slow_loss(model, windows), rel=1e-5) and 0.3 < accuracy < 0.9


def run(spec: RunSpec, model: nn.Module, data: TokenDataset = DATA, **options: str) -> RunRecord:
    optimizer = torch.optim.Adam(model.parameters(), lr=2**spec.log2_lr, fused=True)
    return train(spec, model, optimizer, NextToken(data, LENGTH), **options)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_decoder_learns_to_count(precision: str) -> None:
    """The whole path: a text whose next token is certain is learnt, from chance to near zero; its record says so."""
    data = text(train=401, test=41, vocab=20)
    data = replace(data, test_tokens=data.train_tokens[:41])
    torch.manual_seed(0)
    model = Decoder(Config(vocab=20, width=32, heads=2, length=LENGTH))
    record = run(spec_of(data, steps=120, batch=16, log2_lr=-6, precision=precision), model, data)
    assert record.status == "finished"
    assert record.loss_curve[0] == pytest.approx(math.log(20), rel=0.1)  # the readout starts at zero
    assert record.train_loss < 0.1 and record.test_loss < 0.1 and record.test_accuracy == 1
