"""Tokenizers: what goes in comes out, the numbers are the declared ones, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.data import tokens as tokenizers
from mutransfer.data.tokens import Bytes, SentencePiece, Words, tokenize
from mutransfer.errors import UserError

TEXT = "".join(f"The cat number {i} sat on the mat, {'and so on ' * (i % 4)}\n\n" for i in range(200)) + "ünï 漢字 end"
PIECES = 320
any_text = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.fixture(scope="module")
def pieces() -> SentencePiece:
    """SentencePiece fitted to a text that leaves it few pieces to choose."""
    return SentencePiece.fit(TEXT, PIECES)


@given(any_text)
def test_bytes_come_back(text: str) -> None:
    """Any text, line ends of any kind included: the bits a byte are comparable because nothing is lost."""
    tokens = Bytes().encode(text)
    assert tokens.dtype == np.uint8 and tokens.tolist() == list(text.encode())
    assert Bytes().decode(tokens) == text


def test_half_a_character_is_shown_as_such() -> None:
    """A model's sample may end, or go wrong, in the middle of a character."""
    assert Bytes().decode(Bytes().encode("aé")[:-1]) == "a\N{REPLACEMENT CHARACTER}"


def test_words_as_wikitext_counts_them() -> None:
    """Split at white space, <eos> at the end of each line (a blank one too), <unk> for a stranger."""
    words = Words(["<eos>", "=", "the", "<unk>", "cat"])
    tokens = words.encode(" \n = the cat = \n the dog <unk>")
    assert tokens.tolist() == [0, 1, 2, 4, 1, 0, 2, 3, 3, 0]
    assert tokens.dtype == np.uint8
    assert words.decode(tokens) == "\n= the cat =\nthe <unk> <unk>\n"
    assert words.encode("").tolist() == [] and words.decode(np.array([], int)) == ""


@given(st.lists(st.lists(st.sampled_from(["a", "bb", "c.", "<unk>"]))))
def test_known_words_come_back(lines: list[list[str]]) -> None:
    """Up to white space and strangers nothing is lost: not one line end."""
    text = "".join(" ".join(line) + "\n" for line in lines)
    words = Words(["a", "<unk>", "bb", "<eos>", "c."])
    assert words.decode(words.encode(text)) == text


def test_words_are_fitted_by_frequency() -> None:
    """The frequent first; ties as they appear; what is rarer than the least count is unknown, as in WikiText."""
    text = "z b a a b a z rare\na b z a once rare\n"
    assert Words.fit(text, least=3).words == ["<eos>", "<unk>", "a", "z", "b"]
    assert Words.fit(text, least=2).words == ["<eos>", "<unk>", "a", "z", "b", "rare"]
    assert Words.fit("x x x", least=3).decode(Words.fit("x x x").encode("x y")) == "x <unk>\n"


def test_a_large_vocabulary_has_larger_tokens() -> None:
    """WikiText-2's 33,278 words in a byte would be 256."""
    words = Words(["<eos>", "<unk>", *(f"w{i}" for i in range(33_276))])
    assert words.vocab == 33_278 and words.encode("w33275").tolist() == [33_277, 0]
    assert words.encode("w0").dtype == np.int32


@pytest.mark.parametrize(
    ("vocabulary", "says"),
    [
        (["a", "<eos>"], "<unk>"),
        (["a", "<unk>"], "<eos>"),
        (["<eos>", "<unk>", "a", "a"], "'a'"),
        (["<eos>", "<unk>", ""], "''"),
    ],
)
def test_a_vocabulary_that_cannot_be_read_back_is_refused(vocabulary: list[str], says: str) -> None:
    """Two numbers for one word, or a blank line, is a broken vocab.txt."""
    with pytest.raises(UserError, match=says):
        Words(vocabulary)


@given(any_text.filter(lambda text: "\N{LOWER ONE EIGHTH BLOCK}" not in text))
def test_pieces_come_back(pieces: SentencePiece, text: str) -> None:
    """Blank lines, runs of spaces, tabs, characters never seen: all exactly, whatever pieces were fitted."""
    tokens = pieces.encode(text)
    assert pieces.decode(tokens) == text
    assert tokens.dtype == np.int32 and (tokens < pieces.vocab).all()


def test_pieces_are_longer_than_letters(pieces: SentencePiece) -> None:
    """A tokenizer that spelt everything would pass every round trip."""
    assert len(pieces.encode(TEXT)) < len(TEXT)
    assert pieces.vocab == PIECES and pieces.name == f"sentencepiece-{PIECES}"


def test_chunks_change_no_token(pieces: SentencePiece, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is encoded some lines at a time to bound memory; the tokens are those of the whole."""
    whole = pieces.encode(TEXT)
    monkeypatch.setattr(tokenizers, "_LINES", 3)
    np.testing.assert_array_equal(pieces.encode(TEXT), whole)


def test_pieces_are_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted twice or read from the folder: the same numbers, or no two runs could be compared."""
    first = SentencePiece.fit(TEXT, PIECES, tmp_path).encode(TEXT)
    [kept] = tmp_path.iterdir()
    np.testing.assert_array_equal(SentencePiece.fit(TEXT, PIECES).encode(TEXT), first)
    monkeypatch.setattr(SentencePiece, "_fit", None)  # the kept one is used: a second fit would fail
    np.testing.assert_array_equal(SentencePiece.fit(TEXT, PIECES, tmp_path).encode(TEXT), first)
    for other in ((TEXT + ".", PIECES), (TEXT, PIECES + 1)):
        with pytest.raises(TypeError):
            SentencePiece.fit(*other, tmp_path)
    kept.write_bytes(b"damaged")
    with pytest.raises(UserError, match=f"{kept.name}.*delete it"):
        SentencePiece.fit(TEXT, PIECES, tmp_path)


def test_a_read_only_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data may lie where nobody should write, even if root could; that is no reason to stop."""
    tmp_path.chmod(0o555)
    try:
        assert SentencePiece.fit(TEXT, PIECES, tmp_path).vocab == PIECES
    finally:
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir())
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(tmp_path) in said


def test_impossible_pieces_are_the_users_to_mend() -> None:
    """Fewer pieces than there are bytes: one line, no traceback of a C++ library."""
    with pytest.raises(UserError, match="cannot make 20 pieces") as error:
        SentencePiece.fit(TEXT, 20)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["byte", "sentencepiece", "sentencepiece-0", "sentencepiece-8k", "word"])
def test_unknown_tokenizer(name: str) -> None:
    """The valid names are in the line, the nearest first."""
    with pytest.raises(UserError, match="sentencepiece-8000"):
        tokenize("made-up", "made-up text", name, is_real=False, train=TEXT, test=TEXT)


def test_tokenized_text_is_a_data_set_that_says_what_it_is(pieces: SentencePiece) -> None:
    """Captions name the tokenizer: losses per byte and per word cannot be confused."""
    for fitted in (Bytes(), pieces, Words.fit(TEXT)):
        dataset = tokenize("made-up", "made-up text", fitted.name, is_real=False, train=TEXT, test="The cat sat")
        assert dataset.source == f"made-up text, {fitted.name}"
        assert (dataset.tokenizer, dataset.vocab) == (fitted.name, fitted.vocab)
        assert fitted.decode(dataset.test_tokens.numpy()).rstrip() == "The cat sat"
