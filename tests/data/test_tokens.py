"""`TokenDataset`: tokens stay small and valid, windows are a view."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import tokens

from mutransfer.data import TokenDataset
from mutransfer.errors import UserError


@pytest.mark.parametrize(("vocab", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int32)])
def test_tokens_take_the_smallest_type(vocab: int, dtype: torch.dtype) -> None:
    """35 MB of text must not become 280 MB; and 256 is the last vocabulary of bytes."""
    dataset = tokens(vocab)
    assert dataset.train_tokens.dtype == dataset.test_tokens.dtype == dtype
    np.testing.assert_array_equal(dataset.train_tokens.numpy(), np.random.default_rng(0).integers(0, vocab, 21))


@pytest.mark.parametrize("wrong", [[0, 1, 5], [-1, 0, 1], [256, 1, 0], [0.0, 1.0], [[0, 1], [1, 0]]])
def test_what_is_no_token_is_refused(wrong: list) -> None:
    """256 as uint8 is 0 and -1 is 255: both would train, silently, on another text."""
    fine = np.arange(5)
    for train, test in ((np.array(wrong), fine), (fine, np.array(wrong))):
        with pytest.raises(ValueError, match="train_tokens" if test is fine else "test_tokens"):
            TokenDataset.from_arrays("n", "s", is_real=True, vocab=5, tokenizer="t", train=train, test=test)


def test_wrong_tensors_are_refused() -> None:
    """A folder whose tokens are too large for its vocabulary, or of another type, does not open."""
    dataset = tokens(vocab=300)
    with pytest.raises(ValueError, match=r"0\.\.199"):
        replace(
            dataset, train_tokens=torch.full((4,), 200, dtype=torch.uint8), vocab=200, test_tokens=torch.zeros(1).byte()
        )
    with pytest.raises(ValueError, match="train_tokens"):
        replace(dataset, train_tokens=dataset.train_tokens.long())
    with pytest.raises(ValueError, match="test_tokens"):
        replace(dataset, test_tokens=dataset.test_tokens[None])


@pytest.mark.parametrize("vocab", [256, 1000])
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 19, 20])
def test_windows_predict_each_token_once(vocab: int, length: int) -> None:
    """With the window's first tokens as inputs and its last as targets no token is learnt twice, or skipped."""
    dataset = tokens(vocab)
    windows, text = dataset.windows("train", length), dataset.train_tokens
    assert windows.shape == ((21 - 1) // length, length + 1)
    n = len(windows) * length
    assert torch.equal(windows[:, :-1].reshape(-1), text[:n])
    assert torch.equal(windows[:, 1:].reshape(-1), text[1 : n + 1])


def test_windows_are_a_view() -> None:
    """All workers share one copy of the text, whatever the lengths that they cut it into."""
    dataset = tokens()
    for part in ("train", "test"):
        windows = dataset.windows(part, 4)
        text = getattr(dataset, f"{part}_tokens")
        assert windows.data_ptr() == text.data_ptr() and windows.stride() == (4, 1)
        assert windows.untyped_storage().nbytes() == text.untyped_storage().nbytes()


@pytest.mark.parametrize(("part", "length"), [("train", 21), ("test", 9), ("train", 0), ("tset", 2)])
def test_no_window_is_an_error(part: str, length: int) -> None:
    """An experiment longer than its text is the user's to mend; a loop over no windows would say nothing."""
    with pytest.raises(UserError, match="test" if part == "tset" else str(length)):
        tokens().windows(part, length)
