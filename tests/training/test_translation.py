"""Translation as a task: batches hold what they should, and a model that learnt is found to.

Tokens tell which pair they belong to, where that must be known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer.data.pairs import Pairs, Side
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


def random_pairs(count: int, vocab: int, longest: int = LONGEST - 1, seed: int = 0) -> Lists:
    """Sentences of 1 to ``longest`` tokens; the first one of a source says which pair it is, where vocab has room."""
    rng = np.random.default_rng(seed)
    lists = [[rng.integers(4, vocab, n).tolist() for n in rng.integers(1, longest + 1, 2)] for _ in range(count)]
    return [([4 + i % (vocab - 4), *source[1:]], target) for i, (source, target) in enumerate(lists)]


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
    for i, size in enumerate([*sizes, math.inf]):  # nothing goes with the last one
        while batch and (len(batch) + 1) * max(*batch, size) > limit:
            batch = batch[len(batch) if len(batch) < 8 else len(batch) // 8 * 8 :]
            ends.append(i - len(batch))
        batch.append(size)
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
    singles = task.batches(torch.arange(20)[:, None])
    rows = [(task.loss(model, *batch).item(), len(pairs_of(batch)[0][1]) + 1) for batch in singles]
    want = sum(loss * n for loss, n in rows) / sum(n for _, n in rows)
    assert task.loss(model, *whole).item() == pytest.approx(want, rel=1e-5)


# ---- runs ----------------------------------------------------------------------------------------------------------


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
    with torch.no_grad():  # a model that says "padding" everywhere is never right
        model.readout.linear.weight[PAD] = 100 * model.decoder.norm.bias.fill_(1.0)
        model.decoder.norm.weight.zero_()
    assert evaluate(model, task)[1] == 0


def test_long_pairs() -> None:
    """Left out of training and counted, whichever side is long; refused in the valid part, and where none is left."""
    lists = [([5] * 3, [6] * 3), ([5] * 4, [6]), ([5], [6] * 4), ([5], [6])]
    task = Translation(Corpus({"train": lists, "valid": lists[:1]}), 4)
    assert (task.count, task.skipped) == (2, 2)
    (found,) = epochs(task)
    assert sorted(p for batch in found for p in pairs_of(batch)) == sorted([lists[0], lists[3]])
    assert [pairs_of(batch) for batch in task.batches(torch.tensor([[0], [1]]))] == [[lists[0]], [lists[3]]]
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
    with pytest.raises(UserError, match="49 translations, but 50 references"):  # all after the missing one are shifted
        bleu(references[1:], references)


def test_translations_keep_their_order() -> None:
    """Searched by length, in batches of any size; given as the part has them. None of a model that has diverged."""
    model, want = net(), []
    few = Corpus({"test": CORPUS.parts["test"][:40]})
    for source, _ in few.parts["test"]:
        tokens = torch.tensor([[*source, EOS]])
        ((best, *_),) = beam_search(model, tokens, tokens == PAD, beam=2)
        want.append(CORPUS.decode(best.tokens))
    assert translate(model, few, beam=2) == translate(model, few, beam=2, batch=20) == want
    assert len(set(want)) > 20
    torch.nn.init.constant_(model.readout.linear.weight, torch.nan)
    assert translate(model, few) == [""] * 40


# ---- the label-smoothed loss -----------------------------------------------------------------------------------------


def formula(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """fairseq's label_smoothed_nll_loss with ``reduce``, / the number of targets."""
    log_p, each = logits.double().log_softmax(-1)[targets != PAD], smoothing / (logits.shape[1] - 1)
    nll = -log_p.gather(1, targets[targets != PAD, None]).sum()
    return ((1 - smoothing - each) * nll - each * log_p.sum()) / len(log_p)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_fairseqs(smoothing: float, dtype: torch.dtype) -> None:
    """Value (float32) and gradient; padding counts neither above nor below the line. torch spreads over all V."""
    x = torch.randn(9, 7, generator=torch.Generator().manual_seed(0)).mul(3).to(dtype).requires_grad_()
    targets = torch.tensor([3, PAD, 6, 2, PAD, 0, 4, 4, 5])
    loss, want = smoothed_cross_entropy(x, targets, smoothing), formula(x, targets, smoothing)
    assert loss.dtype is torch.float32 and loss.item() == pytest.approx(want.item(), rel=1e-6)
    found, gradient = (torch.autograd.grad(3 * y, x)[0] for y in (loss, want))
    torch.testing.assert_close(found, gradient, rtol=1e-5 if dtype is torch.float32 else 0.01, atol=1e-6)
    theirs = F.cross_entropy(x.float(), targets, ignore_index=PAD, label_smoothing=smoothing * 7 / 6)
    torch.testing.assert_close(loss, theirs)


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
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        losses = [
            translation.smoothed_readout_loss(x, weight, targets, smoothing),
            smoothed_cross_entropy(x @ weight.T, targets, smoothing),
        ]
    found, wanted = ([loss.detach(), *torch.autograd.grad(3 * loss, [x, weight])] for loss in losses)
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 0.03, "atol": 0.01}
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype is torch.float32
        torch.testing.assert_close(ours, theirs.float(), **close)
    assert not found[1][targets == PAD].any()


def test_a_step_of_it_is_replayed_with_other_padding() -> None:
    """One operator of a recorded step: the rows of padding may be others, and more or fewer, in each batch."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(8, 20, bias=False)
    loss = lambda x, y: translation.smoothed_readout_loss(x, layer.weight, y, 0.1)  # noqa: E731
    step = Step(loss, torch.optim.Adam([layer.weight]))
    for padded in (2, 3, 0, 9):
        x, y = torch.randn(10, 8), torch.randint(2, 20, (10,))
        y[:padded] = PAD
        wanted = smoothed_cross_entropy(layer(x), y, 0.1).item()
        assert step(x, y).item() == pytest.approx(wanted, rel=1e-5)
    assert step.is_replayed
