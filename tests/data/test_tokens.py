"""Text as tokens: what goes in comes out, the numbers are the declared ones, windows are a view."""

from functools import partial

import numpy as np
import pytest
import small_data
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from mutransfer.data import TokenDataset
from mutransfer.data.tokens import SentencePiece, frequent_words, tokenize
from mutransfer.errors import UserError

TEXT = "".join(f"The cat number {i} sat on the mat, {'and so on ' * (i % 4)}\n\n" for i in range(200)) + "ünï 漢字 end"
PIECES = 320


@pytest.fixture(scope="module")
def pieces():
    """SentencePiece fitted to a text that leaves it few pieces to choose."""
    return SentencePiece.fit(TEXT.split("\n"), PIECES)


@pytest.mark.parametrize(("vocab", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int32)])
def test_tokens_take_the_smallest_type(vocab, dtype):
    """35 MB of text must not become 280 MB; and 256 is the last vocabulary of bytes."""
    dataset = small_data.tokens(vocab)
    assert dataset.train_tokens.dtype == dataset.test_tokens.dtype == dtype
    np.testing.assert_array_equal(dataset.train_tokens.numpy(), np.random.default_rng(0).integers(0, vocab, 21))


@pytest.mark.parametrize("wrong", [[0, 1, 5], [-1, 0, 1], [256, 1, 0], [0.0, 1.0], [[0, 1], [1, 0]]])
def test_what_is_no_token_is_refused(wrong):
    """256 as uint8 is 0 and -1 is 255: both would train, silently, on another text."""
    fine = np.arange(5)
    for train, test in ((np.array(wrong), fine), (fine, np.array(wrong))):
        with pytest.raises(ValueError, match="train_tokens" if test is fine else "test_tokens"):
            TokenDataset.from_arrays("n", "s", is_real=True, vocab=5, tokenizer="t", train=train, test=test)


@pytest.mark.parametrize("vocab", [256, 1000])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 19, 20])
def test_windows_predict_each_token_once(vocab, length):
    """No token is learnt twice, or skipped; windows are views: all workers share one copy of the text."""
    dataset = small_data.tokens(vocab)
    windows, text = dataset.windows("train", length), dataset.train_tokens
    assert windows.shape == ((21 - 1) // length, length + 1) and windows.data_ptr() == text.data_ptr()
    n = len(windows) * length
    assert torch.equal(windows[:, :-1].reshape(-1), text[:n])
    assert torch.equal(windows[:, 1:].reshape(-1), text[1 : n + 1])


@pytest.mark.parametrize(("part", "length"), [("train", 21), ("test", 9), ("train", 0), ("tset", 2)])
def test_no_window_is_an_error(part, length):
    """An experiment longer than its text is the user's to mend; a loop over no windows would say nothing."""
    with pytest.raises(UserError, match="test" if part == "tset" else str(length)):
        small_data.tokens().windows(part, length)


def test_words_as_wikitext_counts_them():
    """Split at white space, <eos> ends a line, <unk> is a stranger; WikiText-2's 33,278 words need more than a byte."""
    made = partial(tokenize, "made-up", "made-up text", "words", is_real=False, test="")
    words = made(train=" \n = the cat = \n the dog <unk>", vocabulary=["<eos>", "=", "the", "<unk>", "cat"])
    assert (words.vocab, words.train_tokens.tolist()) == (5, [0, 1, 2, 4, 1, 0, 2, 3, 3, 0])
    assert words.train_tokens.dtype == torch.uint8 and len(words.test_tokens) == 0
    many = made(train="w33275 w0", vocabulary=["<eos>", "<unk>", *(f"w{i}" for i in range(33_276))])
    assert many.train_tokens.tolist() == [33_277, 2, 0] and many.train_tokens.dtype == torch.int32
    # the frequent first, ties as they appear; what comes less than three times is unknown
    assert frequent_words("z b a a b a z rare\na b z a once rare\n") == ["<eos>", "<unk>", "a", "z", "b"]


@pytest.mark.parametrize(
    ("vocabulary", "says"),
    [("a <eos>", "<unk>"), ("a <unk>", "<eos>"), ("<eos> <unk> a a", "'a'"), ("<eos> <unk> ", "''")],
)
def test_a_vocabulary_that_cannot_be_read_back_is_refused(vocabulary, says):
    """Two numbers for one word, or a blank line, is a broken vocab.txt."""
    with pytest.raises(UserError, match=says):
        tokenize("made-up", "text", "words", is_real=False, train="a", test="a", vocabulary=vocabulary.split(" "))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\N{LOWER ONE EIGHTH BLOCK}")))
def test_pieces_come_back(pieces, text):
    """Blank lines, runs of spaces, tabs, characters never seen: all exactly, whatever pieces were fitted."""
    tokens = pieces.encode(text)
    assert SentencePieceProcessor(model_proto=pieces.model).decode(tokens.tolist()) == text
    assert tokens.dtype == np.int32 and (tokens < pieces.vocab).all()


def test_pieces_are_longer_than_letters_and_the_same_every_time(pieces):
    """A tokenizer that spelt everything would pass every round trip; text is encoded some lines at a time."""
    tokens = pieces.encode(TEXT)
    assert pieces.vocab == PIECES and len(tokens) < len(TEXT)
    again = SentencePiece.fit(TEXT.split("\n"), PIECES)
    np.testing.assert_array_equal(again.encode(TEXT * 30), np.concatenate([pieces.encode(TEXT)] * 30))


def test_impossible_pieces_are_the_users_to_mend():
    """Fewer pieces than there are bytes: one line, no traceback of a C++ library."""
    with pytest.raises(UserError, match="cannot make 20 pieces") as error:
        SentencePiece.fit(TEXT.split("\n"), 20)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["byte", "sentencepiece", "sentencepiece-0", "sentencepiece-8k", "word"])
def test_unknown_tokenizer(name):
    """The valid names are in the line, the nearest first."""
    with pytest.raises(UserError, match="sentencepiece-8000"):
        tokenize("made-up", "made-up text", name, is_real=False, train=TEXT, test=TEXT)


@pytest.mark.parametrize("name", ["bytes", "words", f"sentencepiece-{PIECES}"])
def test_tokenized_text_is_a_data_set_that_says_what_it_is(name):
    """Captions name the tokenizer: losses per byte and per word cannot be confused."""
    dataset = tokenize("made-up", "made-up text", name, is_real=False, train=TEXT, test="The cat sat")
    assert (dataset.source, dataset.tokenizer) == (f"made-up text, {name}", name)
    assert len(dataset.test_tokens) == {"bytes": 11, "words": 4}.get(name, len(dataset.test_tokens)) < dataset.vocab
    if name == "bytes":  # nothing is lost
        assert bytes(dataset.train_tokens.tolist()) == TEXT.encode()
