"""BERT's pretraining task: what is masked, what follows what, and that nothing else decides an example."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mutransfer.errors import UserError
from mutransfer.training.bert import IGNORED, Pretraining, predicted

PAD, UNK, CLS, SEP, MASK = range(5)
VOCAB, LENGTH = 2000, 32


@dataclass
class Corpus:
    """Documents of sentences; each token says where it stands: 5 + its place in the text."""

    sentences: list[list[int]]  # lengths, by document
    vocab: int = VOCAB
    source: str = "places"
    is_real: bool = False
    fingerprint: str = "f"
    special = SimpleNamespace(pad=PAD, unk=UNK, cls=CLS, sep=SEP, mask=MASK)

    def documents(self, part):
        lengths = [n for document in self.sentences for n in document]
        return SimpleNamespace(
            tokens=torch.arange(5, 5 + sum(lengths), dtype=torch.int32),
            sentence_ends=torch.tensor(lengths).cumsum(0),
            document_ends=torch.tensor([len(d) for d in self.sentences]).cumsum(0),
        )


def corpus(documents=20, sentences=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Corpus(torch.randint(1, 12, (documents, sentences), generator=generator).tolist())


def batch_of(task, rows=None):
    return next(task.batches((torch.arange(task.count) if rows is None else rows)[None]))


def shown(batch):
    """tokens, segments, padding [B, T], and places, targets [B, P] counted within each sequence, whether other."""
    tokens, segments, padding, places, targets, is_other = batch
    width = len(tokens)
    return tokens, segments, padding, places.view(width, -1) % LENGTH, targets.view(width, -1), is_other


def originals(batch):
    """The tokens [B, T] as they were before masking."""
    tokens, _, _, places, targets, _ = shown(batch)
    return tokens.scatter(1, places, torch.where(targets == IGNORED, tokens.gather(1, places), targets))


def test_sequences_are_two_texts_of_the_corpus():
    """[CLS] a [SEP] b [SEP] padding; both texts are consecutive tokens, and b follows a where the label says so."""
    data = corpus()
    task = Pretraining(data, LENGTH, seed=0)
    batch = batch_of(task)
    tokens, segments, padding, *_, is_other = shown(batch)
    ends = set(data.documents("train").sentence_ends.tolist())
    document_of = [i for i, d in enumerate(data.sentences) for n in d for _ in range(n)]
    follows = 0
    for row, segment, pad, other in zip(originals(batch), segments, padding, is_other, strict=True):
        words = row[~pad].tolist()
        assert words[0] == CLS and words[-1] == SEP and words.count(SEP) == 2 and (row[pad] == PAD).all()
        middle = words.index(SEP)
        a, b = words[1:middle], words[middle + 1 : -1]
        assert segment.tolist() == [0] * (middle + 1) + [1] * (len(b) + 1) + [0] * int(pad.sum())
        for text in (a, b):
            assert text and text == list(range(text[0], text[-1] + 1))
            assert len({document_of[w - 5] for w in text}) == 1
        if not other:
            assert b[0] == a[-1] + 1 and b[0] - 5 in ends and len(words) <= LENGTH
            follows += 1
    assert 0.3 < follows / len(tokens) < 0.6


def test_every_token_of_the_text_is_used_and_no_passage_crosses_documents():
    """First texts and their continuations partition the text: sentences are packed greedily and none is lost."""
    with pytest.raises(UserError, match="4 tokens, expected at least 5"):
        Pretraining(corpus(), 4, seed=0)
    task = Pretraining(Corpus([[3, 100, 4]]), LENGTH, seed=0)
    assert (task._passages.end - task._passages.start).tolist() == [3, LENGTH - 3, 4]  # a long one is cut short
    assert batch_of(task, torch.tensor([1, 1, 1, 1]))[-1].all()  # one sentence: nothing can follow it
    data = corpus()
    task = Pretraining(data, LENGTH, seed=0)
    p = task._passages
    text = data.documents("train")
    assert p.start[0] == 0 and (p.start[1:] == p.end[:-1]).all() and p.end[-1] == len(text.tokens)
    assert (p.end - p.start <= LENGTH - 3).all() and (p.end <= p.document_end).all()
    assert set(text.sentence_ends[text.document_ends - 1].tolist()) <= set(p.end.tolist())


def test_masks():
    """15% of the words, at least one; of them 80% [MASK], 10% random, 10% as they are; never a special token."""
    task = Pretraining(corpus(documents=300), LENGTH, seed=0)
    batch = batch_of(task)
    tokens, _, padding, places, targets, _ = shown(batch)
    before = originals(batch)
    is_target = targets != IGNORED
    words = (before >= 5) & ~padding
    assert is_target.sum(1).tolist() == (words.sum(1) * 0.15).round().clamp(min=1).tolist()
    assert targets.shape[1] == predicted(LENGTH)
    assert (targets[is_target] >= 5).all()
    chosen = places[is_target.nonzero(as_tuple=True)[0].unique()[0]]
    assert len(set(chosen.tolist())) == len(chosen)
    now, was = tokens.gather(1, places)[is_target], targets[is_target]
    n = len(was)
    assert n > 3000
    assert abs(float((now == MASK).float().mean()) - 0.8) < 4 * (0.16 / n) ** 0.5
    assert abs(float((now == was).float().mean()) - 0.1) < 4 * (0.09 / n) ** 0.5 + 1 / VOCAB
    untouched = torch.ones_like(tokens, dtype=torch.bool).scatter(1, places, ~is_target)
    assert (tokens[untouched] == before[untouched]).all()


def test_masks_are_fresh_each_time_and_the_same_for_a_seed():
    """Twice the same rows: other masks. The same seed: the same; another seed: others. Skipped draws are drawn."""
    rows = torch.arange(16).view(2, 8)
    one, two, other = (Pretraining(corpus(), LENGTH, seed=seed) for seed in (0, 0, 1))
    first, again = list(one.batches(rows)), list(one.batches(rows))
    assert any((a[0] != b[0]).any() for a, b in zip(first, again, strict=True))
    two.skip(rows)
    for ours, its in zip(again, two.batches(rows), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, its, strict=True))
    assert any((a[0] != b[0]).any() for a, b in zip(first, other.batches(rows), strict=True))


class Oracle(nn.Module):
    """Knows every token from its neighbours, since the corpus counts; sure of nothing about the pair."""

    def forward(self, tokens, segments, padding, places):
        flat = tokens.flatten()
        guess = torch.where(flat[places - 1] >= 5, flat[places - 1] + 1, flat[(places + 1) % len(flat)] - 1)
        return 50.0 * nn.functional.one_hot(guess.clamp(0, VOCAB - 1), VOCAB), torch.zeros(len(tokens), 2)


class Ignorant(nn.Module):
    def forward(self, tokens, segments, padding, places):
        return torch.zeros(len(places), VOCAB), torch.zeros(len(tokens), 2)


def test_losses_of_known_models():
    """Who knows nothing pays log V and log 2; who reads the neighbours far less. Evaluation repeats exactly."""
    task = Pretraining(corpus(), LENGTH, seed=0)
    chance = torch.log(torch.tensor([float(VOCAB), 2.0])).sum().item()
    assert task.evaluate(Ignorant())[0] == pytest.approx(chance, rel=1e-5)
    assert task.loss(Ignorant(), *batch_of(task)).item() == pytest.approx(chance, rel=1e-5)
    found = task.evaluate(Oracle())
    assert found[1] > 0.6 and found == task.evaluate(Oracle())
    assert found == Pretraining(corpus(), LENGTH, seed=5).evaluate(Oracle())  # the same for every run's seed
