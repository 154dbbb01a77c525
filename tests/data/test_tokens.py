"""`TokenDataset`: tokens stay small and valid, windows are a view, and what is saved is what is opened."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mutransfer.data import TokenDataset
from mutransfer.data.tokens import fingerprint_of_tokens
from mutransfer.errors import UserError
from mutransfer.runs.sweep import on_disk


def small(vocab: int = 256, seed: int = 0, train: int = 21, test: int = 9) -> TokenDataset:
    """Thirty random tokens."""
    rng = np.random.default_rng(seed)
    parts = [rng.integers(0, vocab, n) for n in (train, test)]
    return TokenDataset.from_arrays(
        "made-up", "test", is_real=False, vocab=vocab, tokenizer="bytes", train=parts[0], test=parts[1]
    )


@pytest.mark.parametrize(("vocab", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int32)])
def test_tokens_take_the_smallest_type(vocab: int, dtype: torch.dtype) -> None:
    """35 MB of text must not become 280 MB; and 256 is the last vocabulary of bytes."""
    dataset = small(vocab)
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
    dataset = small(vocab=300)
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
    dataset = small(vocab)
    windows, tokens = dataset.windows("train", length), dataset.train_tokens
    assert windows.shape == ((21 - 1) // length, length + 1)
    n = len(windows) * length
    assert torch.equal(windows[:, :-1].reshape(-1), tokens[:n])
    assert torch.equal(windows[:, 1:].reshape(-1), tokens[1 : n + 1])


def test_windows_are_a_view() -> None:
    """All workers share one copy of the text, whatever the lengths that they cut it into."""
    dataset = small()
    for part in ("train", "test"):
        windows = dataset.windows(part, 4)
        tokens = getattr(dataset, f"{part}_tokens")
        assert windows.data_ptr() == tokens.data_ptr() and windows.stride() == (4, 1)
        assert windows.untyped_storage().nbytes() == tokens.untyped_storage().nbytes()


@pytest.mark.parametrize(("part", "length"), [("train", 21), ("test", 9), ("train", 0), ("tset", 2)])
def test_no_window_is_an_error(part: str, length: int) -> None:
    """An experiment longer than its text is the user's to mend; a loop over no windows would say nothing."""
    with pytest.raises(UserError, match="test" if part == "tset" else str(length)):
        small().windows(part, length)


def test_fingerprint_sees_everything_that_decides_a_run() -> None:
    """The same numbers of another tokenizer or vocabulary are another task: its losses are not comparable."""
    dataset = small(vocab=200)
    tensors = {"train_tokens": dataset.train_tokens, "test_tokens": dataset.test_tokens}
    changed = {name: tensors | {name: tokens.clone()} for name, tokens in tensors.items()}
    for name, other in changed.items():
        other[name][-1] ^= 1
    moved = {
        "train_tokens": torch.cat([dataset.train_tokens, dataset.test_tokens[:1]]),
        "test_tokens": dataset.test_tokens[1:],
    }
    found = [
        dataset.fingerprint,
        fingerprint_of_tokens(tensors, vocab=201, tokenizer="bytes"),
        fingerprint_of_tokens(tensors, vocab=200, tokenizer="words"),
        fingerprint_of_tokens(moved, vocab=200, tokenizer="bytes"),
        *(fingerprint_of_tokens(other, vocab=200, tokenizer="bytes") for other in changed.values()),
    ]
    assert len(set(found)) == len(found)
    assert fingerprint_of_tokens(tensors, vocab=200, tokenizer="bytes") == dataset.fingerprint


@pytest.mark.parametrize("vocab", [256, 1000])
def test_opened_equals_saved(tmp_path: Path, vocab: int) -> None:
    """Workers must train on exactly what the driver loaded, through a sweep's own protocol."""
    saved = small(vocab)
    with on_disk(saved, tmp_path / "data") as opened:
        assert opened.folder == tmp_path / "data"
        assert torch.equal(opened.windows("train", 4), saved.windows("train", 4))
        tensors = {"train_tokens": saved.train_tokens, "test_tokens": saved.test_tokens}
        assert replace(opened, **tensors).__dict__ == saved.__dict__
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["train_tokens.npy", "test_tokens.npy", "dataset.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_folder_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    """The json too: another vocabulary there would be another model on the same tokens."""
    small(vocab=250).save(tmp_path)
    path = tmp_path / name
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(raw[: len(raw) // 2])
    elif name == "dataset.json":
        assert b"250" in raw
        path.write_bytes(raw.replace(b"250", b"251"))
    else:
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(UserError, match=str(tmp_path)):
        TokenDataset.open(tmp_path)


def test_pickled_without_a_copy(tmp_path: Path) -> None:
    """Ray's object store holds one copy a node, which workers read and none can write; no warning of it."""
    dataset = small()
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
    shared = [bytes(buffer.raw()) for buffer in buffers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = pickle.loads(head, buffers=shared)
    assert repr(copy) == repr(dataset) and copy.folder is None
    assert torch.equal(copy.train_tokens, dataset.train_tokens)
    assert copy.train_tokens.data_ptr() == np.frombuffer(shared[0], np.uint8).ctypes.data
