"""Beam search: what it finds is judged by all sequences there are, by a slow search, and by greedy decoding.

Vocabularies are so small that every translation can be scored by itself, without a cache, a batch or padding.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mutransfer.errors import UserError
from mutransfer.models.beam import Hypothesis, beam_search
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import Config
from tests.models.tiny import TINY, built

PAD, EOS = 1, 2
SMALL = replace(TINY, vocab=6, length=12, output_mult=2.0)
LENGTHS = [5, 2, 7, 3]  # of the sources, the end counted
CLOSE = {"rel": 1e-4, "abs": 1e-5}


def sources(vocab: int, lengths: list[int] = LENGTHS) -> tuple[Tensor, Tensor]:
    """Random sentences, each with its end, and what is padding."""
    tokens = torch.randint(3, vocab, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(7))
    padding = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    tokens[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = EOS
    return tokens.masked_fill(padding, PAD), padding


def fickle(c: Config) -> EncoderDecoder:
    """A model that ends sentences at any length: no token is likely everywhere, the end often is."""
    model = built(EncoderDecoder, c)
    last = model.decoder.norm if c.norm == "pre" else model.decoder.blocks[-1].ffn_norm
    with torch.no_grad():
        last.bias.zero_()
        model.readout.linear.weight[EOS] *= 4
    return model


def one_sided(token: int, weight: float) -> EncoderDecoder:
    """A model that holds one token likely, or unlikely, everywhere."""
    model = built(EncoderDecoder, SMALL)
    with torch.no_grad():
        model.readout.linear.weight[token] = weight
        model.decoder.norm.weight.zero_()
        model.decoder.norm.bias.fill_(1.0)
    return model


def log_probabilities(model: EncoderDecoder, source: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """[T + 1, V]: of each next token, after none, one, ... of ``tokens``; one sentence, no cache, no padding."""
    with torch.no_grad():
        return model(source[None], torch.tensor([[EOS, *tokens]]))[0].log_softmax(-1)


def every_hypothesis(model: EncoderDecoder, source: Tensor, longest: int, penalty: float) -> list[Hypothesis]:
    """All translations of 1 to ``longest`` tokens, best first."""
    words = [v for v in range(model.decoder.c.vocab) if v not in (PAD, EOS)]
    found = []
    for length in range(1, longest + 1):
        for tokens in itertools.product(words, repeat=length):
            rows = log_probabilities(model, source, tokens)
            total = sum(rows[i, v].item() for i, v in enumerate((*tokens, EOS)))
            found.append(Hypothesis(tokens, total / (length + 1) ** penalty))
    return sorted(found, key=lambda h: -h.score)


def slow_search(model: EncoderDecoder, source: Tensor, beam: int, longest: int, penalty: float) -> list[Hypothesis]:
    """fairseq's rules, one sentence and one prefix at a time."""
    prefixes, done = [((), 0.0)], []
    for length in range(longest + 1):
        candidates = []
        for tokens, score in prefixes:
            for v, log_p in enumerate(log_probabilities(model, source, tokens)[-1].tolist()):
                if v == PAD or (v == EOS and length == 0) or (v != EOS and length == longest):
                    continue
                candidates.append((score + log_p, tokens, v))
        candidates = sorted(candidates, key=lambda c: -c[0])[: 2 * beam]
        ends = [(s, tokens) for s, tokens, v in candidates[:beam] if v == EOS]
        done += [Hypothesis(tokens, s / (length + 1) ** penalty) for s, tokens in ends]
        if len(done) >= beam:
            break
        prefixes = [((*tokens, v), s) for s, tokens, v in candidates if v != EOS][:beam]
    return sorted(done[:beam], key=lambda h: -h.score)


def agree(found: list[Hypothesis], wanted: list[Hypothesis]) -> None:
    assert [h.tokens for h in found] == [h.tokens for h in wanted]
    assert [h.score for h in found] == pytest.approx([h.score for h in wanted], **CLOSE)


def real(source_S: Tensor, padding_S: Tensor) -> Tensor:
    return source_S[~padding_S]


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
def test_a_wide_beam_finds_everything_in_order(penalty: float) -> None:
    """4 + 16 + 64 translations, none missed, none twice, scored as if alone; the penalty moves the best one."""
    model = built(EncoderDecoder, SMALL)
    source, padding = sources(SMALL.vocab, [4, 2])
    found = beam_search(model, source, padding, beam=90, length_penalty=penalty, max_length=(0, 3))
    for row in range(2):
        wanted = every_hypothesis(model, real(source[row], padding[row]), 3, penalty)
        assert len(wanted) == 84
        agree(found[row], wanted)


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize(
    "changes",
    [
        {"vocab": 11},  # a prime: no two tokens share a first look
        {"vocab": 64},
        {"vocab": 12, "positions": "relative", "norm": "post"},
        {"vocab": 12, "positions": "learned", "fused": False},
    ],
    ids=lambda changes: ",".join(map(str, changes.values())),
)
def test_is_the_slow_search(beam: int, changes: dict) -> None:
    """A batch with a cache finds what fairseq's rules find for each sentence alone, in several configurations."""
    model = fickle(replace(SMALL, **changes))
    source, padding = sources(model.decoder.c.vocab)
    found = beam_search(model, source, padding, beam=beam, length_penalty=0.8, max_length=(0, 7))
    for row in range(len(LENGTHS)):
        agree(found[row], slow_search(model, real(source[row], padding[row]), beam, 7, 0.8))
    lengths = {len(h.tokens) for hypotheses in found for h in hypotheses}
    assert beam < 5 or len(lengths) > 2  # hypotheses end, and sentences leave, at different steps


def test_neighbours_and_padding_change_nothing() -> None:
    """A batch, its sentences one by one, and the batch with more padding (of anything) give the same."""
    model = fickle(replace(SMALL, vocab=12))
    source, padding = sources(12)
    options = {"beam": 3, "max_length": (1.0, 1.0)}
    together = beam_search(model, source, padding, **options)
    wider = torch.cat([source, torch.full((4, 3), 9)], 1), torch.cat([padding, torch.ones(4, 3, dtype=torch.bool)], 1)
    padded = beam_search(model, *wider, **options)
    for row, length in enumerate(LENGTHS):
        (alone,) = beam_search(model, source[row : row + 1, :length], padding[row : row + 1, :length], **options)
        agree(together[row], alone)
        agree(padded[row], alone)


def test_length_is_limited_for_each_sentence() -> None:
    """a * S + b tokens at most, and no more than the model has places for; there the end follows."""
    model = one_sided(EOS, -100.0)
    source, padding = sources(SMALL.vocab)
    found = beam_search(model, source, padding, beam=2, max_length=(1.5, 1.0))
    assert [len(hypotheses[0].tokens) for hypotheses in found] == [int(1.5 * n + 1) for n in LENGTHS]
    assert [len(h.tokens) for h, *_ in beam_search(model, source, padding, beam=2)] == [SMALL.length - 1] * 4


@pytest.mark.parametrize("loved", [PAD, EOS])
def test_padding_and_emptiness_are_never_chosen(loved: int) -> None:
    """Though the model holds nothing else likely."""
    found = beam_search(one_sided(loved, 10.0), *sources(SMALL.vocab), beam=3, max_length=(0, 5))
    tokens = [h.tokens for hypotheses in found for h in hypotheses]
    assert len(tokens) == 12 and all(tokens) and not {PAD, EOS} & {v for row in tokens for v in row}


def test_searches_in_evaluation_mode() -> None:
    """Without dropout, twice the same; the mode comes back, after an error too."""
    model = built(EncoderDecoder, replace(SMALL, dropout=0.5)).train()
    assert beam_search(model, *sources(6)) == beam_search(model, *sources(6))
    assert model.training
    with pytest.raises(UserError, match="13 tokens"):
        beam_search(model, *sources(6, [13, 2]))
    assert model.training
    with pytest.raises(UserError, match="beam is 0"):
        beam_search(model, *sources(6), beam=0)


def test_in_bfloat16() -> None:
    """Scores under autocast are those of float32, to the precision of bfloat16."""
    c = Config(vocab=40, width=32, heads=2, length=16, zero_readout=False, zero_query=False, output_mult=3.0)
    model = EncoderDecoder(c)
    source, padding = sources(40)
    want = beam_search(model, source, padding, beam=3, max_length=(0, 6))
    with torch.autocast("cpu", torch.bfloat16):
        found = beam_search(model, source, padding, beam=3, max_length=(0, 6))
    best = [h.score for h, *_ in found]
    assert best == pytest.approx([h.score for h, *_ in want], rel=0.02)
    assert best != [h.score for h, *_ in want]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("half", [False, True])
def test_on_a_gpu(half: bool) -> None:
    """What the CPU finds; under autocast, translations of about that score."""
    model = built(EncoderDecoder, replace(SMALL, vocab=64))
    source, padding = sources(64)
    want = beam_search(model, source, padding, beam=4, max_length=(0, 7))
    with torch.autocast("cuda", torch.bfloat16, enabled=half):
        found = beam_search(model.cuda(), source.cuda(), padding.cuda(), beam=4, max_length=(0, 7))
    if half:
        assert [h.score for h, *_ in found] == pytest.approx([h.score for h, *_ in want], rel=0.1)
    else:
        for ours, theirs in zip(found, want, strict=True):
            agree(ours, theirs)
