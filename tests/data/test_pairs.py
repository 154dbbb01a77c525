"""Pairs of sentences: tokens spell the text, offsets cut it where it was cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_data import SENTENCES
from small_data import pairs as made

from mutransfer.data import pairs
from mutransfer.data.pairs import BOS, EOS, PAD, PARTS, UNK, JointPieces
from mutransfer.errors import UserError

ALPHABET = sorted(set("".join("".join(side) for side in SENTENCES["train"])) - {"\n"})


@pytest.fixture(scope="module")
def dataset():
    """Made once: it cannot be written."""
    return made()


def encode(dataset, text):
    """The tokens of a sentence."""
    return dataset.pieces.encode_lines([text])[0].tolist()


def test_tokens_spell_the_text(dataset):
    """Line by line, in both languages and all parts: a shift by one would train on the neighbour's translation."""
    for part in PARTS:
        assert dataset.count(part) == len(SENTENCES[part][0])
        for side, lines in zip(dataset.pairs(part), SENTENCES[part], strict=True):
            assert [dataset.decode(tokens) for tokens in side] == lines
            assert torch.equal(torch.cat([*side]), side.tokens) and int(side.lengths.sum()) == len(side.tokens)
            assert side[1].data_ptr() == side.tokens[int(side.ends[0]) :].data_ptr()  # a view
        assert dataset.sources(part) == SENTENCES[part][0] and dataset.references(part) == SENTENCES[part][1]


def test_special_numbers_are_fairseqs(dataset):
    """0 to 3 in this order, and no text becomes one of them but an unknown character."""
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)
    assert dataset.pieces.pieces()[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = encode(dataset, "<s> Der </s> <pad> 漢 Mann")
    assert UNK in tokens and min(tokens) == UNK
    assert all(int(side.tokens.min()) > UNK for part in PARTS for side in dataset.pairs(part))


def test_decoding_stops_at_the_end(dataset):
    """What a model says after its end, and special tokens anywhere, are no words."""
    tokens = encode(dataset, "Der Mann schläft.")
    said = [BOS, tokens[0], PAD, *tokens[1:], UNK, EOS, *tokens, EOS]
    for form in (said, np.array(said, np.int32), torch.tensor(said)):
        assert dataset.decode(form) == "Der Mann schläft."
    assert dataset.decode([]) == dataset.decode([EOS]) == ""


@given(text=st.text(st.sampled_from(ALPHABET)))
def test_pieces_come_back_normalised(dataset, text):
    """White space aside, all text of known characters; ligatures and wide letters are the letters."""
    assert dataset.decode(encode(dataset, text)) == " ".join(text.split())
    assert dataset.decode(encode(dataset, " ﬁndet  Ｍann ")) == "findet Mann"


def test_pieces_are_shared_and_deterministic(dataset):
    """Fitted to both languages, and the same every time, or no two runs could be compared."""
    assert made().fingerprint == dataset.fingerprint
    for lines in SENTENCES["train"]:  # a model of the other language alone would spell this one
        assert sum(len(encode(dataset, line)) for line in lines) < 0.7 * len("".join(lines))


def test_many_lines_are_drawn_evenly(dataset, monkeypatch):
    """Millions of lines would take hours to fit and change little; both languages are in the half that is taken."""
    monkeypatch.setattr(pairs, "LINES", 90)
    every_second = [*SENTENCES["train"][0][::2], *SENTENCES["train"][1][::2]]
    assert made().pieces.pieces() == JointPieces.fit(every_second, 120).pieces() != dataset.pieces.pieces()


def test_a_blank_sentence_keeps_its_place():
    """In a test set a line without text must not shift the references; the raw text for BLEU stays as it was."""
    texts = ["Der  ﬁnk.", "", "Das Kind."], ["The man.", "A child.", ""]
    blank = made(test=texts)
    assert blank.pairs("test").source.lengths.tolist()[1] == 0 and len(blank.pairs("test").source[1]) == 0
    assert (blank.sources("test"), blank.references("test")) == texts


@pytest.mark.parametrize("part", PARTS)
def test_what_are_no_pairs_is_refused(dataset, part):
    """Unequal sides, an empty part, a line end inside of a sentence, the name of no part."""
    source, target = SENTENCES[part]
    for lines in ((source, target[:-1]), ([], []), ([*source[1:], "Der\nMann."], target)):
        with pytest.raises(UserError, match=f"the {part} part has"):
            made(**{part: lines})
    for call in (dataset.pairs, dataset.count, dataset.sources, dataset.references):
        with pytest.raises(UserError, match="Did you mean 'valid'"):
            call("vaild")
