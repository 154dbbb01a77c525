"""`ImageDataset`: what is saved is what is opened, shared, and noticed when damaged."""

from __future__ import annotations

import errno
import json
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mutransfer.data import ImageDataset, fingerprint_of
from mutransfer.data.images import ARRAYS
from mutransfer.errors import UserError


def small(seed: int = 0) -> ImageDataset:
    """Twelve random images."""
    rng = np.random.default_rng(seed)
    parts = [(rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n)) for n in (8, 4)]
    return ImageDataset.from_arrays("synthetic", "test", is_real=False, train=parts[0], test=parts[1])


def tensors(dataset: ImageDataset) -> dict[str, torch.Tensor]:
    """The four tensors by name."""
    return {name: getattr(dataset, name) for name in ARRAYS}


def test_opened_equals_saved(tmp_path: Path) -> None:
    """Workers must train on exactly what the driver loaded."""
    saved = small()
    saved.save(tmp_path / "new" / "folder")
    opened = ImageDataset.open(tmp_path / "new" / "folder")
    for name, tensor in tensors(opened).items():
        assert torch.equal(tensor, getattr(saved, name)), name
        assert tensor.dtype == getattr(saved, name).dtype
    assert replace(opened, **tensors(saved)).__dict__ == saved.__dict__


def test_opened_is_a_private_view_of_the_file(tmp_path: Path) -> None:
    """Mapped, not read, so that workers share the page cache; copy-on-write, so that none harms another."""
    small().save(tmp_path)
    one, other = ImageDataset.open(tmp_path), ImageDataset.open(tmp_path)
    before = other.train_images.clone()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert maps.read_text().count("train_images.npy") == 2
    one.train_images.fill_(0)
    assert torch.equal(other.train_images, before)
    assert torch.equal(ImageDataset.open(tmp_path).train_images, before)


def test_pickled_without_a_copy(tmp_path: Path) -> None:
    """Ray's object store holds one copy a node, which all workers there read and none can write; no warning of it."""
    small().save(tmp_path)
    for dataset in (small(), ImageDataset.open(tmp_path)):
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
        assert len(head) < 2000 and len(buffers) == len(ARRAYS)
        shared = [bytes(buffer.raw()) for buffer in buffers]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            copy = pickle.loads(head, buffers=shared)
            plain = pickle.loads(pickle.dumps(dataset))
        for found in (copy, plain):
            assert fingerprint_of(tensors(found)) == small().fingerprint
            assert repr(found) == repr(dataset) and found.is_real == dataset.is_real
            assert found.folder is None  # another machine has no such folder
        assert copy.train_images.data_ptr() == np.frombuffer(shared[0], np.uint8).ctypes.data


def test_folder_is_where_the_tensors_are_mapped_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers open what lies there: it must be absolute, and never that of other tensors."""
    monkeypatch.chdir(tmp_path)
    small().save(Path("here"))
    opened = ImageDataset.open(Path("here"))
    assert opened.folder == tmp_path / "here"
    assert small().folder is None and replace(opened, **tensors(small(1))).folder is None


@pytest.mark.parametrize("name", ARRAYS)
def test_fingerprint_sees_every_array(name: str) -> None:
    """Any changed byte of any array is another data set, and its runs must not be mixed with these."""
    changed = tensors(small())
    changed[name] = changed[name].clone()
    changed[name].view(-1)[-1] ^= 1
    assert fingerprint_of(changed) != small().fingerprint


def test_fingerprint_sees_shape() -> None:
    """The same bytes cut into other images are another data set."""
    changed = tensors(small())
    changed["train_images"] = changed["train_images"].reshape(8, 16, 64, 3)
    assert fingerprint_of(changed) != small().fingerprint


@pytest.mark.parametrize("name", [f"{n}.npy" for n in ARRAYS] + ["dataset.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "flipped"])
def test_damaged_folder_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    """After a full disk or a killed copy the run must stop with the folder's name, not train on zeros."""
    small().save(tmp_path)
    path = tmp_path / name
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        if name == "dataset.json":
            raw = json.dumps(json.loads(raw) | {"fingerprint": "0" * 16}).encode()
        else:
            raw = raw[:-1] + bytes([raw[-1] ^ 1])
        path.write_bytes(raw)
    else:
        path.write_bytes(raw[: len(raw) // 2 if damage == "truncated" else 0])
    with pytest.raises(UserError, match=str(tmp_path)):
        ImageDataset.open(tmp_path)


def test_interrupted_save_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A save that runs out of space over an older one leaves no mixture of the two, and no litter."""
    small(0).save(tmp_path)
    real, calls = np.save, []

    def full(file, array) -> None:
        calls.append(array)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(file, array)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left"):
        small(1).save(tmp_path)
    with pytest.raises(UserError):
        ImageDataset.open(tmp_path)
    assert not [p.name for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A file where the folder should be is the user's to mend, in one line."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        small().save(tmp_path / "file" / "folder")


def test_wrong_tensors_are_refused() -> None:
    """Float pixels or one label too few would train, silently, on something else."""
    good = small()
    with pytest.raises(ValueError, match="train_images"):
        replace(good, train_images=good.train_images.float())
    with pytest.raises(ValueError, match="test_labels"):
        replace(good, test_labels=good.test_labels[:-1])


def test_head_is_the_first_images_and_says_so() -> None:
    whole = small()
    head = whole.head(2, 1)
    assert torch.equal(head.train_images, whole.train_images[:2]) and torch.equal(
        head.test_labels, whole.test_labels[:1]
    )
    assert head.fingerprint != whole.fingerprint and "the first 2 training and 1 test images" in head.source
    assert (head.name, head.is_real) == (whole.name, whole.is_real)
