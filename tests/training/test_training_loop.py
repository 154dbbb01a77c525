"""The loop: the same numbers every time, the same batches for every width, divergence as declared."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mutransfer.data.images import ImageDataset
from mutransfer.errors import UserError
from mutransfer.training import loop
from mutransfer.training import task as tasks
from mutransfer.training.loop import evaluate, train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.task import Classification, normalize
from tests.models.tiny import updated
from tests.runs.tiny import outcome
from tests.training import resuming
from tests.training.specs import spec_of

N = 20


def _part(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, 2, 2, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(n)  # the first byte tells which image it is
    return images, rng.integers(0, 10, n)


DATA = ImageDataset.from_arrays("tiny", "random", is_real=False, train=_part(N, 0), test=_part(50, 1))
SPEC = spec_of(DATA, log2_lr=-3, steps=30, momentum=0.9)


def net(spec: RunSpec, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(spec.seed)
    width = spec.width
    return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10))


def run(spec: RunSpec, model: nn.Module | None = None, **options: Callable) -> RunRecord:
    model = model or net(spec)
    optimizer = torch.optim.SGD(model.parameters(), lr=2**spec.log2_lr, momentum=spec.momentum, fused=True)
    return train(spec, model, optimizer, Classification(DATA, **{"loss_fn": cross_entropy, **options}))


def scripted(losses: list[float]) -> RunRecord:
    """A run whose training losses are ``losses``; the test loss is 1."""
    *made, _ = resuming.scripted(losses)
    return train(*made)


def test_same_spec_same_bits() -> None:
    """Dropout included, whatever used the global generator before."""
    first, second = (outcome(run(SPEC, net(SPEC, dropout=0.5))) for _ in range(2))
    assert first == second


def test_same_as_a_plain_slow_loop() -> None:
    """The fast path computes what the textbook loop computes: the same losses, the same weights."""
    model, reference = net(SPEC), net(SPEC)
    optimizer = torch.optim.SGD(reference.parameters(), lr=2**SPEC.log2_lr, momentum=SPEC.momentum)
    generator = torch.Generator().manual_seed(SPEC.seed)
    losses: list[float] = []
    while len(losses) < SPEC.steps:
        order = torch.randperm(N, generator=generator)
        for i in range(0, N - SPEC.batch + 1, SPEC.batch):
            rows = order[i : i + SPEC.batch]
            x = (DATA.train_images[rows].flatten(1).float() / 255 - 0.5) / 0.5
            losses.append(updated(optimizer, cross_entropy(reference(x), DATA.train_labels[rows])).item())
    record = run(SPEC, model)
    assert record.loss_curve == pytest.approx(losses, rel=1e-4)  # 30 steps: a point each
    assert record.train_loss == pytest.approx(np.mean(losses[-3:]), rel=1e-4)
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def batches(spec: RunSpec) -> list[list[int]]:
    """Which images each step sees."""
    seen, step = torch.zeros(spec.steps, spec.batch, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)

    def spy(images: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            seen.index_copy_(0, step, images[:, :1].T)
            step.add_(1)
        return normalize(images)

    run(spec, prepare=spy)
    return seen.tolist()


def test_batches_depend_on_the_seed_alone() -> None:
    """Widths, rates and parametrizations are compared on the same batches, or noise looks like drift."""
    ours = batches(SPEC)
    assert batches(replace(SPEC, width=32, log2_lr=-5, parametrization="mup", optimizer="adam")) == ours
    assert batches(replace(SPEC, seed=4)) != ours
    assert batches(replace(SPEC, steps=10)) == ours[:10]


def test_epochs_are_permutations_without_the_partial_batch() -> None:
    """Within an epoch no image comes twice, and the next epoch has another order."""
    seen = batches(SPEC)
    assert {len(batch) for batch in seen} == {SPEC.batch}
    epochs = [seen[i] + seen[i + 1] for i in range(0, SPEC.steps, N // SPEC.batch)]
    assert all(len(set(epoch)) == 16 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_normalize_is_the_papers() -> None:
    """Mean 0.5 and deviation 0.5 of pixels in [0, 1], as the released script has it, for every byte."""
    pixels = torch.arange(256, dtype=torch.uint8)
    torch.testing.assert_close(normalize(pixels), (pixels.float() / 255 - 0.5) / 0.5, rtol=0, atol=3e-7)
    assert normalize(pixels).dtype == torch.float32


def test_evaluate_weighs_the_last_batch_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """50 images in batches of 7: the mean is over images, not batches; dropout is off and comes back on."""
    model = net(SPEC, dropout=0.5)
    whole = evaluate(model, Classification(DATA, cross_entropy))
    monkeypatch.setattr(tasks, "EVAL_BATCH", 7)
    assert evaluate(model, Classification(DATA, cross_entropy)) == pytest.approx(whole, rel=1e-6)
    outputs = model.eval()(normalize(DATA.test_images.flatten(1)))
    assert whole[1] == (outputs.argmax(1) == DATA.test_labels).sum().item() / 50
    model.train()
    evaluate(model, Classification(DATA, cross_entropy))
    assert model.training


@pytest.mark.parametrize(("log2_lr", "steps", "word"), [(40, 1000, "the loss of step"), (127, 1, "test loss")])
def test_a_huge_learning_rate_diverges(log2_lr: int, steps: int, word: str) -> None:
    """Found within one look, which stops the run, or, after the last step, by the test loss; and that is a result."""
    record = run(replace(SPEC, log2_lr=log2_lr, steps=steps))
    assert (record.status, record.train_loss) == ("diverged", math.inf) and word in record.reason
    assert math.isnan(record.test_loss) and math.isnan(record.test_accuracy)
    assert record.steps_done == min(loop.CHECK_EVERY, steps)


LOOK, PATIENCE = loop.CHECK_EVERY, loop.PATIENCE
RULES: dict[str, tuple[list[float], str, int]] = {
    # the best rate of a wide net in SP starts with a spike: calling it diverged would move the optimum
    "a spike that heals": ([1.0] + [50.0] * (LOOK * (PATIENCE - 1) - 1) + [0.5] * 200, "finished", 275),
    # just above and just below twice the first loss, for so many looks
    "stays high": ([1.0] + [2.1] * 400, "diverged", LOOK * PATIENCE),
    "stays just below": ([1.0] + [1.9] * 400, "finished", 401),
    # too short for the patience: judged by its final loss, and only by that
    "short and high": ([1.0] + [3.0] * 29, "diverged", 30),
    "short and healed": ([1.0] + [3.0] * 25 + [1.0] * 4, "finished", 30),
    # to learn nothing is a loss like any other
    "at chance level": ([math.log(10)] * 60, "finished", 60),
}


@pytest.mark.parametrize(("losses", "status", "steps"), RULES.values(), ids=RULES)
def test_the_rule_of_divergence(losses: list[float], status: str, steps: int) -> None:
    """As declared; a run that has finished has the loss that it has."""
    record = scripted(losses)
    assert (record.status, record.steps_done) == (status, steps)
    assert record.train_loss == pytest.approx(math.inf if status == "diverged" else losses[-1])


@pytest.mark.parametrize("steps", [1, 7, 50, 130])
def test_train_loss_and_curve_cover_the_run(steps: int) -> None:
    """The paper's metric is the mean of the last 10% of steps; the curve's points weigh every step once."""
    losses = np.linspace(2.0, 1.0, steps).astype(np.float32).astype(float)
    record = scripted(losses.tolist())
    assert record.train_loss == pytest.approx(losses[-max(1, steps // 10) :].mean())
    assert len(record.loss_curve) == min(50, steps)
    assert np.mean(record.loss_curve) == pytest.approx(losses.mean(), rel=0.02)
    assert record.loss_curve[0] <= 2.0 and record.loss_curve[-1] >= 1.0


def test_a_curve_that_stops_lies_over_the_whole_ones() -> None:
    """Curves are drawn over one another: a diverged run's points stand at the steps where it was."""
    record = scripted([1.0] * 9 + [math.inf] * 91)
    assert record.steps_done == 25 and record.reason == "the loss of step 10 is inf"
    assert len(record.loss_curve) == 13  # 12 chunks of 2 steps and the one begun
    assert record.loss_curve[:4] == (1.0,) * 4 and math.isinf(record.loss_curve[4])


def test_the_record_says_where_it_comes_from() -> None:
    """A result from a stand-in must say so, and what made it."""
    record = run(SPEC)
    assert record.provenance["data"] == "random" and record.provenance["is_real"] == "false"
    assert record.provenance["torch"] == torch.__version__
    assert set(record.provenance) == {"data", "is_real", "commit", "torch", "threads", "device"}
    assert record.examples_per_second == pytest.approx(240 / record.wall_seconds)
    assert record.peak_memory_mib > 10


@pytest.mark.parametrize("changes", [{"data_fingerprint": "0123"}, {"batch": 21}])
def test_what_cannot_be_is_refused(changes: dict[str, object]) -> None:
    """Results on other data must not be filed under the run's name; an epoch without a batch would never end."""
    with pytest.raises(UserError, match=str(*changes.values())):
        run(replace(SPEC, **changes))
