"""Pairs of sentences: tokens spell the text, offsets cut it where it was cut."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import SENTENCES
from small_data import pairs as made

from mutransfer.data import pairs
from mutransfer.data.pairs import BOS, EOS, PAD, PARTS, UNK, JointPieces, PairDataset
from mutransfer.data.tokens import SentencePiece
from mutransfer.errors import UserError

ALPHABET = sorted(set("".join("".join(side) for side in SENTENCES["train"])) - {"\n"})


@pytest.fixture(scope="module")
def dataset() -> PairDataset:
    """Made once: it cannot be written."""
    return made()


def test_tokens_spell_the_text(dataset: PairDataset) -> None:
    """Line by line, in both languages and all parts: a shift by one would train on the neighbour's translation."""
    for part in PARTS:
        found = dataset.pairs(part)
        assert dataset.count(part) == len(found) == len(SENTENCES[part][0])
        for i, lines in enumerate(zip(*SENTENCES[part], strict=True)):
            assert tuple(dataset.decode(side) for side in found[i]) == lines
        assert dataset.sources(part) == SENTENCES[part][0] and dataset.references(part) == SENTENCES[part][1]


def test_offsets_cover_every_token_once(dataset: PairDataset) -> None:
    """Lengths, starts and ends are three views of one thing; sentences are views of the tokens."""
    for side in (dataset.pairs("train").source, dataset.pairs("valid").target):
        assert torch.equal(side.starts + side.lengths, side.ends) and side.starts[0] == 0
        assert int(side.lengths.sum()) == len(side.tokens)
        assert torch.equal(torch.cat([side[i] for i in range(len(side))]), side.tokens)
        assert side[1].data_ptr() == side.tokens[int(side.starts[1]) :].data_ptr()
        for beyond in (-1, len(side)):
            with pytest.raises(IndexError):
                side[beyond]


def test_special_numbers_are_fairseqs(dataset: PairDataset) -> None:
    """0 to 3 in this order, and no text becomes one of them but an unknown character."""
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)
    assert dataset.pieces.pieces()[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = dataset.encode("<s> Der </s> <pad> 漢 Mann").tolist()
    assert UNK in tokens and min(tokens) == UNK
    assert all(int(getattr(dataset, f"{part}_source").min()) > UNK for part in PARTS)


def test_decoding_stops_at_the_end(dataset: PairDataset) -> None:
    """What a model says after its end, and special tokens anywhere, are no words."""
    tokens = dataset.encode("Der Mann schläft.").tolist()
    said = [BOS, tokens[0], PAD, *tokens[1:], UNK, EOS, *tokens, EOS]
    for form in (said, np.array(said, np.int32), torch.tensor(said)):
        assert dataset.decode(form) == "Der Mann schläft."
    assert dataset.decode([]) == dataset.decode([EOS]) == ""


@given(text=st.text(st.sampled_from(ALPHABET)))
def test_pieces_come_back_normalised(dataset: PairDataset, text: str) -> None:
    """White space aside, all text of known characters."""
    pieces = dataset.pieces
    assert pieces.decode(pieces.encode(text)) == pieces.normalize(text) == " ".join(text.split())


def test_normalisation_is_nfkc(dataset: PairDataset) -> None:
    """Ligatures and wide letters are the letters; the raw text for BLEU stays as it was."""
    assert dataset.pieces.normalize(" ﬁndet  Ｍann ") == "findet Mann"
    odd = made(valid=(["Der  ﬁnk"], ["the ﬁnch"]))
    assert odd.sources("valid") == ["Der  ﬁnk"] and odd.decode(odd.pairs("valid")[0][0]) == "Der fink"


def test_pieces_are_shared_and_deterministic(dataset: PairDataset) -> None:
    """Fitted to both languages, and the same every time, or no two runs could be compared."""
    assert made().fingerprint == dataset.fingerprint
    for lines in SENTENCES["train"]:  # a model of the other language alone would spell this one
        assert sum(len(dataset.encode(line)) for line in lines) < 0.7 * len("".join(lines))


def test_many_lines_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of lines would take hours to fit and change little; both languages are in the half that is taken."""
    seen = []
    monkeypatch.setattr(pairs, "LINES", 50)
    monkeypatch.setattr(JointPieces, "_fit", classmethod(lambda cls, text, size: seen.append(text.split("\n"))))
    monkeypatch.setattr(JointPieces, "__init__", lambda *args: None)
    JointPieces.fit_lines([str(i) for i in range(100)], 10)
    assert seen == [[str(i) for i in range(0, 100, 2)]]


def test_another_model_is_refused() -> None:
    """Its pieces would have other numbers than fairseq's."""
    with pytest.raises(UserError, match="expected \\('<s>', '<pad>'"):
        JointPieces("other", SentencePiece._fit("\n".join(SENTENCES["train"][0]), 400))
    with pytest.raises(UserError, match="not a SentencePiece model"):
        JointPieces("none", b"damaged")


def test_a_blank_sentence_keeps_its_place() -> None:
    """In a test set a line without text must not shift the references, nor may a line end inside of a sentence."""
    texts = ["Der Mann.", "", "Das Kind."], ["The man.", "A child.", ""]
    blank = made(test=texts)
    assert blank.pairs("test").source.lengths.tolist()[1] == 0 and len(blank.pairs("test")[1][0]) == 0
    assert (blank.sources("test"), blank.references("test")) == texts
    with pytest.raises(ValueError, match="valid: expected equally many"):
        made(valid=(["Der\nMann."], ["The man."]))


@pytest.mark.parametrize("part", PARTS)
def test_unequal_sides_are_refused(part: str) -> None:
    """And an empty part: no run could use it."""
    source, target = SENTENCES[part]
    for lines in ((source, target[:-1]), ([], [])):
        with pytest.raises(UserError, match=f"the {part} part has"):
            made(**{part: lines})


def test_unknown_part(dataset: PairDataset) -> None:
    """The nearest name is in the line."""
    for call in (dataset.pairs, dataset.count, dataset.sources, dataset.references):
        with pytest.raises(UserError, match="Did you mean 'valid'"):
            call("vaild")


def test_wrong_tensors_are_refused(dataset: PairDataset) -> None:
    """A folder whose arrays do not fit together does not open."""
    ends, tokens = dataset.train_source_ends, dataset.train_source
    wrong: list[dict[str, Any]] = [
        {"train_source": tokens.int()},
        {"train_source": tokens[:0]},
        {"train_source": tokens.clone().fill_(EOS)},
        {"vocab": 100},
        {"train_source_ends": ends[:-1]},
        {"train_source_ends": ends.flip(0)},
        {"train_source_ends": ends.int()},
        {"valid_target_text": dataset.valid_target_text[:-1]},
        {"model": dataset.model[None]},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match="expected"):
            replace(dataset, **change)
