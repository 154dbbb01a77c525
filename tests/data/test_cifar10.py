"""The CIFAR-10 loader on miniature files: where it looks, what it refuses, and what it says."""

import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import served
from PIL import Image
from torchvision.datasets import CIFAR10

from data_scripts import cifar10
from mutransfer.errors import UserError


@pytest.fixture(autouse=True)
def miniature(folder, monkeypatch):
    """Few images of each class."""
    monkeypatch.setattr(cifar10, "COUNTS", {"train": 50, "test": 10})
    (folder / "cifar10").mkdir()


def pixels(count, seed):
    """Random images that JPEG keeps apart."""
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def jpeg(x):
    """One image as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG")
    return file.getvalue()


def write_parquet(folder, train=50, labels=None, size=32):
    """A parquet file of the shared layout, with ``train`` + 10 random images."""
    images = [jpeg(x[:size, :size]) for x in pixels(train + 10, seed=0)]
    split = ["train"] * train + ["test"] * 10
    labels = np.arange(train + 10) % 10 if labels is None else labels
    columns = {"image": pa.array(images, pa.binary()), "label": pa.array(labels, pa.int8()), "split": split}
    path = folder / "cifar10" / cifar10.PARQUET
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """A miniature of torchvision's archive (and its unpacked folder), with torchvision told its md5 sums."""
    root = tmp_path / "official"
    batches = root / CIFAR10.base_folder
    batches.mkdir(parents=True)
    sums = {"batches.meta": {"label_names": list("0123456789")}}
    for seed, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], 1):
        sums[name] = {"data": pixels(10, seed).transpose(0, 3, 1, 2).reshape(10, -1), "labels": list(range(10))}
    for name, content in sums.items():
        (batches / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((batches / name).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums.pop("batches.meta")})
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums.pop("test_batch")]])
    monkeypatch.setattr(CIFAR10, "train_list", [[*batch] for batch in sums.items()])
    with tarfile.open(root / CIFAR10.filename, "w:gz") as tar:
        tar.add(batches, CIFAR10.base_folder)
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((root / CIFAR10.filename).read_bytes()).hexdigest())
    return root / CIFAR10.filename


@pytest.fixture
def server(archive, monkeypatch):
    """The archive's folder served on this machine, as torchvision's download address."""
    with served(archive.parent) as address:
        monkeypatch.setattr(CIFAR10, "url", f"{address}/{archive.name}")
        yield


def assert_official(dataset):
    """The miniature archive's pixels, in its order and as height x width x colour."""
    assert (dataset.name, dataset.source, dataset.is_real) == ("cifar10", "CIFAR-10", True)
    expected = np.concatenate([pixels(10, seed) for seed in range(1, 6)])
    np.testing.assert_array_equal(dataset.train_images.numpy(), expected)
    np.testing.assert_array_equal(dataset.test_images.numpy(), pixels(10, 6))
    assert dataset.train_labels.tolist() == [i % 10 for i in range(50)]


def test_parquet_is_decoded_in_row_order(folder, archive, capsys):
    """Row i must be image i. It comes before the archive; the log says that it is not the documented file."""
    write_parquet(folder)
    os.link(archive, folder / archive.name)
    dataset = cifar10.load(folder)
    assert (dataset.name, dataset.source) == ("cifar10", "CIFAR-10 (JPEG-recompressed pixels)") and dataset.is_real
    for i, x in enumerate(pixels(60, seed=0)):
        images, row = (dataset.train_images, i) if i < 50 else (dataset.test_images, i - 50)
        np.testing.assert_array_equal(images[row].numpy(), np.asarray(Image.open(io.BytesIO(jpeg(x)))))
    assert dataset.test_labels.tolist() == list(range(10))
    assert "not the documented" in capsys.readouterr().err
    assert cifar10.main(["--data", str(folder)]) == 0
    said = capsys.readouterr().out
    assert dataset.source in said and "50 train, 10 test" in said and dataset.fingerprint in said


@pytest.mark.parametrize(
    "damage",
    [
        *(lambda path, raw, keep=keep: path.write_bytes(raw[:keep]) for keep in (0, 3, 200, -9)),
        lambda path, raw: path.write_bytes(raw[:1000] + bytes(8000) + raw[9000:]),  # although its end is whole
        lambda path, _: pq.write_table(pa.table({"text": ["a"]}), path),
        lambda path, _: path.mkdir(),
        lambda path, _: path.symlink_to("gone"),
        lambda path, _: write_parquet(path.parents[1], train=40),
        lambda path, _: write_parquet(path.parents[1], labels=np.zeros(60, int)),  # not balanced
        lambda path, _: write_parquet(path.parents[1], labels=np.arange(60) % 11),
        lambda path, _: write_parquet(path.parents[1], size=16),
    ],
)
def test_damaged_parquet_is_refused(folder, damage):
    """It must never end in the stand-in: the user believes to have the real data. One line, no traceback."""
    path = write_parquet(folder)
    raw = path.read_bytes()
    path.unlink()
    damage(path, raw)
    with pytest.raises(UserError, match=f"{cifar10.PARQUET} is not a whole CIFAR-10") as error:
        cifar10.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("place", [".", "cifar10"])
@pytest.mark.parametrize("form", ["archive", "unpacked"])
def test_official_copy_on_disk(folder, archive, place, form):
    """Both forms in both places are what torchvision's users already have."""
    source = archive if form == "archive" else archive.parent / CIFAR10.base_folder
    source.rename(folder / place / source.name)
    before = sorted(folder.rglob("*"))
    assert_official(cifar10.load(folder))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("form", ["archive", "unpacked"])
def test_damaged_official_copy_is_refused(folder, archive, form):
    """Checked before it is unpickled: a pickle runs whatever code it holds. A whole one beside it is used."""
    batches = archive.parent / CIFAR10.base_folder
    whole, damaged = (batches, archive) if form == "archive" else (archive, batches)
    path = archive if form == "archive" else batches / "data_batch_3"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    damaged.rename(folder / damaged.name)
    with pytest.raises(UserError, match=str(folder / damaged.name)):
        cifar10.load(folder)
    whole.rename(folder / whole.name)
    assert_official(cifar10.load(folder))


def test_download_is_verified_and_kept(folder, server, monkeypatch, capsys):
    """Fetched once, unpickled only if its md5 is right; a place that cannot keep it is no reason to train on others."""
    (folder / "cifar10").rmdir()
    with monkeypatch.context() as changed:
        changed.setattr(CIFAR10, "tgz_md5", "0" * 32)
        assert cifar10.load(folder).name == "synthetic" and "NOT CIFAR-10" in capsys.readouterr().err
    assert not list(folder.rglob("*"))
    (folder / "cifar10").write_text("a file where the folder should be")
    assert_official(cifar10.load(folder))
    assert "cannot be kept" in capsys.readouterr().err
    (folder / "cifar10").unlink()
    first = cifar10.load(folder)
    assert_official(first)
    assert [p.name for p in (folder / "cifar10").iterdir()] == [CIFAR10.filename]
    assert cifar10.load(folder, download=False).fingerprint == first.fingerprint
