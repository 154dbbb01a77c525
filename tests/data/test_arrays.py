"""What every data set does: what is saved is what is opened, shared, and noticed when damaged; prepared once."""

import errno
import functools
import json
import pickle
import warnings
from dataclasses import fields, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import small_data
import torch
from small_data import SENTENCES, SINGLE, STORIES, TASKS

from mutransfer.data import ImageDataset
from mutransfer.errors import UserError

KINDS = {
    "images": small_data.images,
    "bytes": small_data.tokens,
    "pieces": small_data.pieces,
    "pairs": small_data.pairs,
    "sentences": small_data.sentences,
}


@pytest.fixture(scope="module", params=KINDS)
def dataset(request):
    """Made once: it cannot be written."""
    return KINDS[request.param]()


def assert_equal(some, other):
    """In all but the folder."""
    assert repr(some) == repr(other)
    for name in (f.name for f in fields(some) if f.init):
        a, b = getattr(some, name), getattr(other, name)
        assert torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b, name


def test_opened_equals_saved(dataset, tmp_path, monkeypatch):
    """Workers must train on exactly what the driver loaded, and open it by a path that is absolute."""
    monkeypatch.chdir(tmp_path)
    dataset.save(Path("new", "folder"))
    opened = dataset.open(Path("new", "folder"))
    assert_equal(opened, dataset)
    assert dataset.folder is None and opened.folder == tmp_path / "new" / "folder"
    assert replace(opened, source="other").folder is None  # never that of another data set
    assert {path.stem for path in opened.folder.iterdir()} == {*dataset.ARRAYS, "dataset"}


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "flipped", "shaped anew"])
def test_damaged_folder_is_refused(dataset, tmp_path, damage):
    """After a full disk or a killed copy: stop with the folder's name, since any changed number is other data."""
    dataset.save(tmp_path)
    for path in tmp_path.iterdir():
        raw = path.read_bytes()
        if damage in ("flipped", "shaped anew"):
            if path.suffix != ".npy" or not (array := np.load(path)).size:
                continue  # nothing to change: the json has a test of its own
            array.reshape(-1)[-1] ^= damage == "flipped"
            np.save(path, array if damage == "flipped" else array[None])
        elif damage == "missing":
            path.unlink()
        else:
            path.write_bytes(raw[: len(raw) // 2 if damage == "truncated" else 0])
        with pytest.raises(UserError, match=str(tmp_path)):
            dataset.open(tmp_path)
        path.write_bytes(raw)
    assert_equal(dataset.open(tmp_path), dataset)


def test_changed_facts_are_refused(dataset, tmp_path):
    """The same numbers of another tokenizer, language or task are another data set, whose runs must not be mixed."""
    dataset.save(tmp_path)
    meta = json.loads((tmp_path / "dataset.json").read_text())
    changes = [{key: [meta[key]]} for key in meta.keys() - {"name", "source", "is_real", "tasks"}]
    if tasks := meta.get("tasks"):
        facts = tasks["single"]
        others = [[fact if i != k else [fact] for i, fact in enumerate(facts)] for k in (0, 1, 4, 5, 6)]
        changes += [{"tasks": tasks | {"single": other}} for other in others]
        changes += [{"tasks": dict(reversed(tasks.items()))}, {"tasks": {"single": facts}}]
    for change in changes:
        (tmp_path / "dataset.json").write_text(json.dumps(meta | change))
        with pytest.raises(UserError, match="not a whole"):
            dataset.open(tmp_path)


def test_fingerprint_sees_no_caption(dataset):
    """Where a task or text came from is not what is trained on."""
    assert replace(dataset, source="elsewhere").content_fingerprint() == dataset.fingerprint
    moved = {**TASKS, "single": replace(SINGLE, source="elsewhere")}
    assert small_data.sentences(tasks=moved).fingerprint == small_data.sentences().fingerprint


def test_opened_is_a_private_view_of_the_file(tmp_path):
    """Mapped, not read, so that workers share the page cache; copy-on-write, so that none harms another."""
    small_data.images().save(tmp_path)
    first, second = ImageDataset.open(tmp_path), ImageDataset.open(tmp_path)
    before = second.train_images.clone()
    if (maps := Path("/proc/self/maps")).exists():
        assert maps.read_text().count("train_images.npy") == 2
    first.train_images.fill_(0)
    small_data.images(1).save(tmp_path)  # nor does who prepares it anew
    assert torch.equal(second.train_images, before)
    assert torch.equal(ImageDataset.open(tmp_path).train_images, small_data.images(1).train_images)


def test_pickled_without_a_copy(dataset, tmp_path):
    """Ray's object store holds one copy per node, which all workers read; what is made of the tensors stays behind."""
    dataset.save(tmp_path)
    for whole in (dataset, dataset.open(tmp_path)):
        assert not hasattr(whole, "pieces") or whole.pieces.vocab == whole.vocab  # made of the tensors
        buffers = []
        head = pickle.dumps(whole, protocol=5, buffer_callback=buffers.append)
        assert len(head) < 4000 and len(buffers) == len(dataset.ARRAYS)
        shared = [bytes(buffer.raw()) for buffer in buffers]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            shares, plain = pickle.loads(head, buffers=shared), pickle.loads(pickle.dumps(whole))
        for other in (shares, plain):
            assert_equal(other, dataset)
            assert other.folder is None and "pieces" not in other.__dict__
            assert other.content_fingerprint() == dataset.fingerprint
        first = getattr(shares, dataset.ARRAYS[0])
        assert first.data_ptr() == np.frombuffer(shared[0], np.uint8).ctypes.data


def test_interrupted_save_does_not_open(tmp_path, monkeypatch):
    """A save that runs out of space over an older one leaves no mixture of the two, and no litter."""
    small_data.images(0).save(tmp_path / "data")
    real, calls = Path.write_bytes, []

    def full(path, content):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        small_data.images(1).save(tmp_path / "data")
    with pytest.raises(UserError, match="delete the folder"):
        ImageDataset.open(tmp_path / "data")
    assert not [p.name for p in (tmp_path / "data").iterdir() if p.name.startswith(".")]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        small_data.images().save(tmp_path / "file" / "folder")


OTHERS = {
    "pairs": [
        {"valid": (SENTENCES["valid"][0][::-1], SENTENCES["valid"][1])},
        *({"pieces": 130}, {"is_real": True}, {"languages": ("de", "fr")}),
    ],
    "sentences": [
        {"test": [STORIES["test"][0][::-1], *STORIES["test"][1:]]},
        {"train": [[*STORIES["train"][0], *STORIES["train"][1]], *STORIES["train"][2:]]},
        {"tasks": {**TASKS, "single": replace(SINGLE, test=SINGLE.test._replace(labels=[2, 1]))}},
        *({"pieces": 260}, {"is_real": True}, {"tasks": None}),
    ],
    "pieces": [
        *({"train": "\n".join(SENTENCES["train"][1][:80])}, {"test": "x"}),
        *({"tokenizer": "sentencepiece-310"}, {"is_real": True}),
    ],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_prepared_once(tmp_path, kind):
    """The second time the folder is opened; another text, name, label or number of pieces is prepared on its own."""
    made = functools.partial(KINDS[kind], cache=tmp_path)
    first = made()
    [folder] = tmp_path.iterdir()
    assert first.folder == folder and first.source in (folder / "source.txt").read_text()
    assert first.fingerprint == KINDS[kind]().fingerprint
    stamp = (folder / "dataset.json").stat().st_mtime_ns
    assert_equal(made(), first)
    assert [*tmp_path.iterdir()] == [folder] and (folder / "dataset.json").stat().st_mtime_ns == stamp
    for i, change in enumerate(OTHERS[kind], 2):
        made(**change)
        assert len(list(tmp_path.iterdir())) == i
    array = folder / f"{first.ARRAYS[-1]}.npy"
    array.unlink()
    with pytest.raises(UserError, match=f"{folder.name}.*delete the folder"):
        made()
    (folder / "dataset.json").unlink()  # as a process that was killed leaves it
    assert_equal(made(), first)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_read_only_folder_is_left_alone(tmp_path, capsys, kind):
    """Data may lie where nobody should write, even if root could; that is no reason to stop."""
    tmp_path.chmod(0o555)
    try:
        assert KINDS[kind](cache=tmp_path / "prepared").folder is None
    finally:
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir()) and "read-only" in capsys.readouterr().err


def test_wrong_images_are_refused():
    """Float pixels or one label too few would train, silently, on something else."""
    x, y = np.zeros((4, 2, 2, 3), np.uint8), np.arange(4)
    for wrong, part in product(((x.astype(float), y), (x, y[:3]), (x[0], y), (x, y[:, None])), ("train", "test")):
        with pytest.raises(ValueError, match=f"{part}: expected"):
            ImageDataset.from_arrays("n", "s", is_real=True, **{"train": (x, y), "test": (x, y), part: wrong})


def test_head_is_the_first_images_and_says_so():
    whole = small_data.images()
    head = whole.head(2, 1)
    assert torch.equal(head.train_images, whole.train_images[:2])
    assert torch.equal(head.test_labels, whole.test_labels[:1])
    assert head.fingerprint != whole.fingerprint and "the first 2 training and 1 test images" in head.source
    assert (head.name, head.is_real) == (whole.name, whole.is_real)
