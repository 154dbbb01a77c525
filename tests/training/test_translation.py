"""Translation as a task: batches hold what they should, and a model that learnt is found to.

Tokens tell which pair they belong to, where that must be known.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer.data.pairs import PairDataset, Pairs, Side
from mutransfer.errors import UserError
from mutransfer.models.beam import beam_search
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import Config
from mutransfer.training import translation
from mutransfer.training.loop import evaluate, train
from mutransfer.training.spec import RunRecord, RunSpec
from mutransfer.training.step import Step
from mutransfer.training.translation import EOS, PAD, Translation, bleu, cuts, smoothed_cross_entropy, translate
from tests.training.specs import spec_of

Lists = Sequence[tuple[list[int], list[int]]]
LONGEST = 12


def side(sentences: Sequence[list[int]]) -> Side:
    return Side(torch.tensor([*itertools.chain(*sentences)]), torch.tensor([*map(len, sentences)]).cumsum(0))


@dataclass
class Corpus:
    """Pairs of lists of tokens; text is their numbers."""

    parts: dict[str, Lists]
    source: str = "lists"
    is_real: bool = False
    fingerprint: str = "tiny"

    def pairs(self, part: str) -> Pairs:
        return Pairs(*map(side, zip(*self.parts[part], strict=True)))

    def decode(self, tokens: Sequence[int]) -> str:
        return " ".join(map(str, tokens))


def random_pairs(
    count: int, vocab: int, longest: int = LONGEST - 1, seed: int = 0
) -> list[tuple[list[int], list[int]]]:
    """Sentences of 1 to ``longest`` tokens; the first one of a source says which pair it is, where vocab has room."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(count):
        lengths = rng.integers(1, longest + 1, 2)
        source, target = (rng.integers(4, vocab, n).tolist() for n in lengths)
        found.append(([4 + i % (vocab - 4), *source[1:]], target))
    return found


COUNT, VOCAB = 150, 200
CORPUS = Corpus({part: random_pairs(COUNT, VOCAB, seed=i) for i, part in enumerate(("train", "valid", "test"))})
SPEC = spec_of(CORPUS, optimizer="adam", log2_lr=-7, steps=40, batch=100)


def net(width: int = 8, vocab: int = VOCAB, **changes: object) -> EncoderDecoder:
    torch.manual_seed(0)
    c = Config(vocab=vocab, width=width, heads=2, depth=1, length=LONGEST, zero_readout=False, zero_query=False)
    return EncoderDecoder(replace(c, **changes))


def run(spec: RunSpec, model: EncoderDecoder, task: Translation, **options: object) -> RunRecord:
    optimizer = torch.optim.Adam(model.parameters(), lr=2**spec.log2_lr, fused=True)
    return train(spec, model, optimizer, task, **options)


def epochs(task: Translation, count: int = 1, seed: int = 0, batch: int = 100) -> list[list[tuple[Tensor, ...]]]:
    generator = torch.Generator().manual_seed(seed)
    return [list(task.epoch(batch, generator)) for _ in range(count)]


def pairs_of(batch: tuple[Tensor, ...]) -> list[tuple[list[int], list[int]]]:
    """The pairs as they were, without special tokens."""
    source, _, target = batch
    rows = zip(source.tolist(), target.tolist(), strict=True)
    return [tuple([v for v in tokens if v not in (PAD, EOS)] for tokens in row) for row in rows]


# ---- batches -------------------------------------------------------------------------------------------------------


def test_a_batch_by_hand() -> None:
    """Source and target end; the decoder starts from the end and is told the target a place later."""
    lists = [([5, 6, 7], [8]), ([9], [10, 11])]
    task = Translation(Corpus({"train": lists, "valid": lists}), LONGEST)
    ((source, inputs, target),) = task.batches(torch.tensor([[0, 1]]))
    assert source.tolist() == [[5, 6, 7, EOS], [9, EOS, PAD, PAD]]
    assert inputs.tolist() == [[EOS, 8, PAD], [EOS, 10, 11]]
    assert target.tolist() == [[8, EOS, PAD], [10, 11, EOS]]
    assert {x.dtype for x in (source, inputs, target)} == {torch.int64}


def test_a_data_set_of_pairs() -> None:
    """What the suite's own corpora give: their text comes out of a batch again, and translations are text."""
    sides = ["ein hund läuft", "zwei hunde laufen", "ein hund"], ["a dog runs", "two dogs run", "a dog"]
    parts = dict.fromkeys(("train", "valid", "test"), sides)
    data = PairDataset.from_texts("x", "by hand", is_real=False, languages=("de", "en"), pieces=40, **parts)
    task = Translation(data, 64)
    assert task.count == 3
    ((source, _, target),) = task.batches(torch.tensor([[2, 0, 1]]))
    for found, texts in zip((source, target), sides, strict=True):
        assert [data.decode(row[row != PAD]) for row in found] == [texts[i] for i in (2, 0, 1)]
    translations = translate(net(vocab=data.vocab, length=64), data, beam=2, max_length=(0, 5))
    assert len(translations) == len(data.references("test")) and all(isinstance(x, str) for x in translations)


def test_an_epoch_has_every_pair_once() -> None:
    """None is dropped, none comes twice; other epochs and other seeds have another order, and other batches."""
    task = Translation(CORPUS, LONGEST)
    first, second = epochs(task, 2)
    (other,) = epochs(task, seed=1)
    orders = [[pair for batch in epoch for pair in pairs_of(batch)] for epoch in (first, second, other)]
    for order in orders:
        assert sorted(order) == sorted(CORPUS.parts["train"]) and len(order) == task.count == COUNT
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert {frozenset(map(str, pairs_of(b))) for b in first} != {frozenset(map(str, pairs_of(b))) for b in second}
    again = epochs(task, 2)[1]
    assert all(torch.equal(x, y) for a, b in zip(second, again, strict=True) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("batch", [12, 60, 100, 5000])
def test_batches_keep_the_limit(batch: int) -> None:
    """In tokens with padding, on either side; sentences of a batch are about as long; their number is fairseq's."""
    task = Translation(CORPUS, LONGEST)
    (found,) = epochs(task, batch=batch)
    for source, inputs, target in found:
        assert inputs.shape == target.shape and source[:, -1].ne(PAD).any() and target[:, -1].ne(PAD).any()
        assert max(source.numel(), target.numel()) <= batch
        assert len(source) < 8 or len(source) % 8 == 0
    spans = [(int(lengths.min()), int(lengths.max())) for lengths in (source.ne(PAD).sum(1) for source, *_ in found)]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(sorted(spans)))
    assert len(found) == 1 or spans != sorted(spans)  # not from short to long


def slow_cuts(sizes: list[int], limit: int) -> list[int]:
    """One example after another, as fairseq's ``batch_by_size`` describes itself."""
    ends, batch = [], []
    for i, size in enumerate(sizes):
        if batch and (len(batch) + 1) * max(*batch, size) > limit:
            while batch and (len(batch) + 1) * max(*batch, size) > limit:
                whole = len(batch) if len(batch) < 8 else len(batch) // 8 * 8
                batch = batch[whole:]
                ends.append(i - len(batch))
        batch.append(size)
    while batch:
        batch = batch[len(batch) if len(batch) < 8 else len(batch) // 8 * 8 :]
        ends.append(len(sizes) - len(batch))
    return ends


@pytest.mark.parametrize("is_sorted", [True, False])
def test_cuts_are_a_slow_references(is_sorted: bool) -> None:
    """Random sizes; sorted by one side, the larger of both is not sorted."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        sizes = rng.integers(2, 40, rng.integers(1, 200))
        sizes = np.sort(sizes) if is_sorted else sizes
        limit = int(rng.integers(40, 600))
        assert cuts(sizes, limit) == slow_cuts(sizes.tolist(), limit)


def test_padded_to_multiples() -> None:
    """Fewer shapes, the same pairs, and no length that the model has no place for."""
    plain, padded = Translation(CORPUS, LONGEST), Translation(CORPUS, LONGEST, multiple=8)
    (few,), (many,) = epochs(padded, batch=60), epochs(plain, batch=60)
    assert {x.shape[1] for batch in few for x in batch} == {8, LONGEST}
    assert len({(a.shape, b.shape) for a, b, _ in few}) < len({(a.shape, b.shape) for a, b, _ in many})
    assert sorted(p for b in few for p in pairs_of(b)) == sorted(p for b in many for p in pairs_of(b))
    assert all(max(a.numel(), b.numel()) <= 60 for a, b, _ in few)


def test_padding_changes_nothing() -> None:
    """The loss of a batch is the mean over its target tokens of what each pair has alone."""
    task, model = Translation(CORPUS, LONGEST), net()
    (whole,) = task.batches(torch.arange(20)[None])
    rows = [(task.loss(model, *batch).item(), len(pairs_of(batch)[0][1]) + 1) for batch in singles(task, range(20))]
    want = sum(loss * n for loss, n in rows) / sum(n for _, n in rows)
    assert task.loss(model, *whole).item() == pytest.approx(want, rel=1e-5)


def singles(task: Translation, rows: Sequence[int]) -> Iterator[tuple[Tensor, ...]]:
    return task.batches(torch.tensor(rows)[:, None])


# ---- runs ----------------------------------------------------------------------------------------------------------


class Recording(Translation):
    """Keeps what it gave to the loop, and learns nothing from it."""

    def epoch(self, *args: Any) -> Iterator[tuple[Tensor, ...]]:
        for tensors in super().epoch(*args):
            self.seen.append(tensors[0].tolist())
            yield tensors

    def loss(self, model: EncoderDecoder, *batch: Tensor) -> Tensor:
        return sum(p.square().sum() for p in model.parameters())


def seen(spec: RunSpec, **options: object) -> list[list[list[int]]]:
    task = Recording(CORPUS, LONGEST)
    task.seen = []
    assert run(spec, net(spec.width), task, **options).steps_done == spec.steps
    return task.seen[: spec.steps]


def test_batches_depend_on_the_seed_alone() -> None:
    """Widths, rates and schedules are compared on the same batches, over epochs."""
    ours = seen(SPEC)
    assert len(ours) == 40 > len(epochs(Translation(CORPUS, LONGEST))[0])
    assert seen(replace(SPEC, width=16, log2_lr=-5), schedule="linear") == ours
    assert seen(replace(SPEC, steps=10)) == ours[:10]
    assert seen(replace(SPEC, seed=4)) != ours


def test_evaluation_is_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean over the valid part's target tokens, ends included, without smoothing; small batches give the same."""
    task, model = Translation(CORPUS, LONGEST), net()
    losses, hits = [], []
    for source, target in CORPUS.parts["valid"]:
        logits = model(torch.tensor([[*source, EOS]]), torch.tensor([[EOS, *target]]))[0]
        wanted = torch.tensor([*target, EOS])
        losses += F.cross_entropy(logits, wanted, reduction="none").tolist()
        hits += (logits.argmax(-1) == wanted).tolist()
    want = (np.mean(losses), np.mean(hits))
    assert evaluate(model, task) == pytest.approx(want, rel=1e-5)
    monkeypatch.setattr(translation, "EVAL_TOKENS", 30)
    assert evaluate(model, task) == pytest.approx(want, rel=1e-5)


def test_padding_is_no_hit() -> None:
    """A model that says "padding" everywhere is never right."""
    model = net()
    with torch.no_grad():
        model.readout.linear.weight[PAD] = 100 * model.decoder.norm.bias.fill_(1.0)
        model.decoder.norm.weight.zero_()
    assert evaluate(model, Translation(CORPUS, LONGEST))[1] == 0


def test_long_pairs() -> None:
    """Left out of training and counted, whichever side is long; refused in the valid part, and where none is left."""
    lists = [([5] * 3, [6] * 3), ([5] * 4, [6]), ([5], [6] * 4), ([5], [6])]
    task = Translation(Corpus({"train": lists, "valid": lists[:1]}), 4)
    assert (task.count, task.skipped) == (2, 2)
    (found,) = epochs(task)
    assert sorted(p for batch in found for p in pairs_of(batch)) == sorted([lists[0], lists[3]])
    assert [pairs_of(batch) for batch in singles(task, [0, 1])] == [[lists[0]], [lists[3]]]
    with pytest.raises(UserError, match="a pair of the valid part has 5 tokens, but the limit is 4"):
        Translation(Corpus({"train": lists, "valid": lists}), 4)
    with pytest.raises(UserError, match="none of the 4 pairs"):
        Translation(Corpus({"train": lists, "valid": lists}), 1)


def test_what_cannot_be_is_refused() -> None:
    """A sentence longer than a batch, parts of unequal batches; few pairs are enough, though fewer than the batch."""
    task = Translation(CORPUS, LONGEST)
    with pytest.raises(UserError, match="at most 11 tokens, but a sentence has 12"):
        run(replace(SPEC, batch=11), net(), task)
    with pytest.raises(UserError, match="batch is 100: Translation cannot cut it into 2"):
        run(SPEC, net(), task, parts=2)
    assert run(replace(SPEC, batch=10_000, steps=2), net(), task).status == "finished"


# ---- translations --------------------------------------------------------------------------------------------------


def test_a_model_learns_to_copy() -> None:
    """The whole path: 50 sentences are learnt by heart, said again, and that is BLEU 100; an untaught model's is 0.

    A wider beam may say less well what was learnt by heart: a model that knows nothing else ends other prefixes early,
    and a sentence is done with its first K ends, however bad they are. fairseq finds the same.
    """
    pytest.importorskip("sacrebleu")
    lists = [(source, source) for source, _ in random_pairs(50, 20, longest=8)]
    corpus = Corpus({part: lists for part in ("train", "valid", "test")})
    references = [corpus.decode(target) for _, target in lists]
    task, model = Translation(corpus, LONGEST), net(32, 20, zero_readout=True)
    untaught = translate(model, corpus)
    record = run(replace(SPEC, batch=250, steps=350, log2_lr=-6), model, task, schedule="linear")
    assert record.loss_curve[0] == pytest.approx(math.log(20), rel=0.1)  # the readout starts at zero
    assert record.status == "finished" and record.test_accuracy == 1
    assert record.test_loss < 0.2  # smoothing leaves -log 0.9 = 0.105
    score, signature = bleu(translate(model, corpus, beam=1), references)
    assert score == pytest.approx(100) and "tok:13a" in signature
    assert bleu(translate(model, corpus, beam=4), references)[0] > 90
    assert bleu(untaught, references)[0] < 5


def test_translations_keep_their_order() -> None:
    """Searched by length, in batches of any size; given as the part has them."""
    model = net()
    want = []
    for source, _ in CORPUS.parts["test"][:40]:
        tokens = torch.tensor([[*source, EOS]])
        ((best, *_),) = beam_search(model, tokens, tokens == PAD, beam=2)
        want.append(CORPUS.decode(best.tokens))
    few = Corpus({"test": CORPUS.parts["test"][:40]})
    assert translate(model, few, beam=2) == translate(model, few, beam=2, batch=20) == want
    assert len(set(want)) > 20


def test_no_numbers_no_text() -> None:
    """A model that has diverged says nothing, and does not stop the one who asks."""
    model = net()
    torch.nn.init.constant_(model.readout.linear.weight, torch.nan)
    assert translate(model, CORPUS) == [""] * COUNT


def test_bleu_without_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else works without it; asking says how to install it."""
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with pytest.raises(UserError, match="pip install sacrebleu"):
        bleu(["a"], ["a"])


def test_bleu_of_unequal_lists() -> None:
    """A translation that is missing shifts all others."""
    pytest.importorskip("sacrebleu")
    with pytest.raises(UserError, match="1 translations, but 2 references"):
        bleu(["a"], ["a", "b"])


# ---- the label-smoothed loss -----------------------------------------------------------------------------------------


def formula(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> tuple[float, np.ndarray]:
    """fairseq's label_smoothed_nll_loss with ``reduce``, / the number of targets; and its gradient: p - smoothed label,
    in float64.
    """
    shifted = logits - logits.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    vocab, is_real = logits.shape[1], targets != PAD
    nll = -log_p[np.arange(len(targets)), targets][is_real].sum()
    smooth = -log_p.sum(-1)[is_real].sum()
    each = smoothing / (vocab - 1)
    loss = (1 - smoothing - each) * nll + each * smooth
    label = np.full_like(logits, each)
    label[np.arange(len(targets)), targets] = 1 - smoothing
    return loss / is_real.sum(), (np.exp(log_p) - label) * is_real[:, None] / is_real.sum()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_fairseqs(smoothing: float) -> None:
    """Value and gradient equal the formula in NumPy; padding counts neither above nor below the line."""
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(0, 3, (9, 7)), np.array([3, PAD, 6, 2, PAD, 0, 4, 4, 5])
    loss, gradient = formula(logits, targets, smoothing)
    x = torch.tensor(logits, dtype=torch.float32, requires_grad=True)
    found = smoothed_cross_entropy(x, torch.tensor(targets), smoothing)
    assert found.item() == pytest.approx(loss, rel=1e-6)
    (3 * found).backward()
    np.testing.assert_allclose(x.grad, 3 * gradient, rtol=1e-5, atol=1e-7)


def test_the_formulas_gradient_is_its_difference() -> None:
    """The reference's own gradient, by finite differences in float64."""
    rng = np.random.default_rng(1)
    logits, targets, step = rng.normal(0, 1, (3, 5)), np.array([3, PAD, 4]), 1e-6
    _, gradient = formula(logits, targets, 0.1)
    for place in np.ndindex(*logits.shape):
        up, down = logits.copy(), logits.copy()
        up[place] += step
        down[place] -= step
        slope = (formula(up, targets, 0.1)[0] - formula(down, targets, 0.1)[0]) / (2 * step)
        assert slope == pytest.approx(gradient[place], abs=1e-8)


def test_torchs_smoothing_is_another() -> None:
    """torch (and fairseq before) spreads it over all V; V / (V - 1) of it there is fairseq's."""
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 2, 3, 4, PAD, 3])
    ours = smoothed_cross_entropy(logits, targets, 0.1)
    same = F.cross_entropy(logits, targets, ignore_index=PAD, label_smoothing=0.1 * 5 / 4)
    other = F.cross_entropy(logits, targets, ignore_index=PAD, label_smoothing=0.1)
    torch.testing.assert_close(ours, same)
    assert abs(ours - other) > 1e-3


def test_the_loss_of_bfloat16_logits() -> None:
    """Computed in float32; their gradient has their type."""
    x = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    targets = torch.arange(6)
    loss = smoothed_cross_entropy(x, targets, 0.1)
    loss.backward()
    want, gradient = formula(x.detach().double().numpy(), targets.numpy(), 0.1)
    assert loss.dtype is torch.float32 and loss.item() == pytest.approx(want, rel=1e-6)
    assert x.grad.dtype is torch.bfloat16
    np.testing.assert_allclose(x.grad.double(), gradient, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_readout_is_that_of_its_logits(
    smoothing: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and both gradients, whatever is made at a time; rows of padding have none."""
    monkeypatch.setattr(translation, "LOGITS", 60)  # three rows
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(11, 8, generator=generator).requires_grad_()
    weight = torch.randn(20, 8, generator=generator).requires_grad_()
    targets = torch.tensor([3, PAD, 6, 2, PAD, 0, 4, 4, 5, 19, 7])
    found, wanted = {}, {}
    for into, loss_of in (
        (found, lambda: translation.smoothed_readout_loss(x, weight, targets, smoothing)),
        (wanted, lambda: smoothed_cross_entropy(x @ weight.T, targets, smoothing)),
    ):
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss = loss_of()
        into["loss"] = loss.detach()
        into["x"], into["weight"] = torch.autograd.grad(3 * loss, [x, weight])
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 0.03, "atol": 0.01}
    for name, value in found.items():
        assert value.dtype is torch.float32
        torch.testing.assert_close(value, wanted[name].float(), **close)
    assert not found["x"][targets == PAD].any()


def test_a_step_of_it_is_replayed_with_other_padding() -> None:
    """One operator of a recorded step: the rows of padding may be others, and more or fewer, in each batch."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 20, bias=False)
    step = Step(
        lambda x, y: translation.smoothed_readout_loss(x, layer.weight, y, 0.1), torch.optim.Adam([layer.weight])
    )
    for padded in (2, 3, 0, 9):
        x, y = torch.randn(10, 8), torch.randint(2, 20, (10,))
        y[:padded] = PAD
        wanted = smoothed_cross_entropy(layer(x), y, 0.1).item()
        assert step(x, y).item() == pytest.approx(wanted, rel=1e-5)
    assert step.is_replayed
