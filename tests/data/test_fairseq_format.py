"""fairseq's preprocessed folder: byte for byte its format, read back as written, and damage named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from mutransfer.data import fairseq_format
from mutransfer.data.fairseq_format import read, write
from mutransfer.data.pairs import EOS, PARTS, PairDataset, Pairs
from mutransfer.data.standins.grammar import grammar_texts
from mutransfer.errors import UserError

TEXTS = grammar_texts(counts={"test": 4, "valid": 3, "train": 80})


@pytest.fixture(scope="module")
def dataset() -> PairDataset:
    """Eighty sentences of the grammar."""
    return PairDataset.from_texts("made-up", "test", is_real=False, languages=("de", "en"), pieces=300, **TEXTS)


@pytest.fixture
def folder(dataset: PairDataset, tmp_path: Path) -> Path:
    """What is written of it."""
    return write(dataset, tmp_path / "new" / "binary")


def assert_same(found: Pairs, expected: Pairs) -> None:
    """The same numbers in the same sentences."""
    for side in ("source", "target"):
        a, b = getattr(found, side), getattr(expected, side)
        assert torch.equal(a.tokens, b.tokens) and torch.equal(a.ends, b.ends)


def test_read_is_what_was_written(dataset: PairDataset, folder: Path) -> None:
    """All parts in both languages, without the ends; the dictionaries are the pieces, the special ones first."""
    found = read(folder)
    assert found.languages == ("de", "en") and list(found.parts) == list(PARTS)
    for part in PARTS:
        assert_same(found.parts[part], dataset.pairs(part))
    assert found.dictionaries == dict.fromkeys(("de", "en"), dataset.pieces.pieces())
    words = found.sentence("en", found.parts["test"].target[2])
    assert words.replace(" ", "").replace("\N{LOWER ONE EIGHTH BLOCK}", " ").strip() == TEXTS["test"][1][2]
    with pytest.raises(UserError, match="unknown language 'fr'"):
        found.sentence("fr", [4])


def test_bytes_are_the_formats(dataset: PairDataset, folder: Path) -> None:
    """Spelt out once by hand: magic, version, type, count, sizes, addresses; each sentence with 2 at its end."""
    sentences = [[*dataset.encode(line).tolist(), 2] for line in TEXTS["valid"][0]]
    sizes = [len(sentence) for sentence in sentences]
    pointers = [0, 2 * sizes[0], 2 * (sizes[0] + sizes[1])]
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQ3i3q", 1, 8, 3, *sizes, *pointers)
    assert (folder / "valid.de-en.de.idx").read_bytes() == index
    numbers = [number for sentence in sentences for number in sentence]
    assert (folder / "valid.de-en.de.bin").read_bytes() == struct.pack(f"<{len(numbers)}H", *numbers)


def test_dictionary_gives_each_piece_its_number(dataset: PairDataset, folder: Path) -> None:
    """A line "piece count" from number 4 on; the counts are those of the training part, the rare ones too.

    Text and model go along: who has the folder can score and encode without us.
    """
    lines = (folder / "dict.de.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == dataset.pieces.pieces()[4:]
    both = torch.cat([dataset.train_source, dataset.train_target]).int()
    assert [int(line.split(" ")[1]) for line in lines] == torch.bincount(both, minlength=300).tolist()[4:]
    assert (folder / "dict.en.txt").read_bytes() == (folder / "dict.de.txt").read_bytes()
    assert (folder / "test.de-en.en.txt").read_text() == "".join(f"{line}\n" for line in TEXTS["test"][1])
    assert not (folder / "train.de-en.en.txt").exists()
    assert (folder / "sentencepiece.model").read_bytes() == dataset.pieces.model


def test_a_large_vocabulary_takes_four_bytes(
    dataset: PairDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """65,500 symbols in two bytes would wrap; fairseq draws the line there too."""
    monkeypatch.setattr(fairseq_format, "MOST_SMALL", 200)
    folder = write(dataset, tmp_path)
    assert (folder / "test.de-en.en.idx").read_bytes()[17] == 4
    assert_same(read(folder).parts["test"], dataset.pairs("test"))


@pytest.mark.parametrize(("code", "kind"), [(5, np.int64), (9, np.uint32), (3, np.int16)])
def test_other_types_are_read(dataset: PairDataset, folder: Path, code: int, kind: type) -> None:
    """As older and newer versions of fairseq write."""
    for language in ("de", "en"):
        index, content = (folder / f"test.de-en.{language}.{ending}" for ending in ("idx", "bin"))
        raw, numbers = bytearray(index.read_bytes()), np.frombuffer(content.read_bytes(), np.uint16)
        n = (len(raw) - 26) // 12
        pointers = np.frombuffer(bytes(raw[26 + 4 * n :]), np.int64) // 2 * np.dtype(kind).itemsize
        raw[17], raw[26 + 4 * n :] = code, pointers.tobytes()
        index.write_bytes(raw)
        content.write_bytes(numbers.astype(kind).tobytes())
    assert_same(read(folder).parts["test"], dataset.pairs("test"))


def test_languages_are_found_or_named(folder: Path) -> None:
    """Both directions may lie in one folder: then it has to be said which; a missing part is no mistake."""
    for path in list(folder.glob("train.*")):
        path.with_name(path.name.replace("de-en", "en-de")).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match="de-en, en-de"):
        read(folder)
    assert list(read(folder, ("en", "de")).parts) == ["train"]
    with pytest.raises(UserError, match="found none"):
        read(folder.parent)
    with pytest.raises(UserError, match=r"dict\.fr\.txt"):
        read(folder, ("fr", "de"))


def _cut(raw: bytes) -> bytes:
    return raw[:-3]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("test.de-en.de.idx", _cut, "expected 74 of 4 sentences"),
        ("test.de-en.de.idx", lambda raw: raw[:20], "unpack_from"),
        ("test.de-en.de.idx", lambda raw: b"TNTIDX" + raw[6:], "expected b'MMIDIDX"),
        ("test.de-en.de.idx", lambda raw: raw[:9] + b"\x02" + raw[10:], "version 2"),
        ("test.de-en.de.idx", lambda raw: raw[:17] + b"\x63" + raw[18:], "type 99"),
        ("test.de-en.de.idx", lambda raw: raw[:-8] + raw[-16:-8], "do not follow one another"),
        ("test.de-en.de.bin", _cut, r"test.de-en.de.bin has"),
        ("test.de-en.de.bin", lambda raw: raw[:-2] + b"\x05\x00", "without </s>"),
        ("test.de-en.en.bin", lambda raw: b"\xff\x01" + raw[2:], r"expected 0\.\.299"),
        ("test.de-en.en.bin", None, "No such file"),
        ("dict.de.txt", lambda raw: raw + b"nocount\n", "symbol count"),
        ("dict.de.txt", lambda raw: raw + b"</s> 4\n", "twice"),
        ("dict.de.txt", lambda raw: raw + b"\xff 4\n", "utf-8"),
    ],
)
def test_damage_is_named(folder: Path, name: str, change, says: str) -> None:
    """One line with the file: never half a corpus, never numbers that its dictionary has not."""
    path = folder / name
    raw = path.read_bytes()
    path.unlink()
    if change:
        path.write_bytes(change(raw))
    with pytest.raises(UserError, match=says) as error:
        read(folder)
    assert name.rpartition(".")[0] in str(error.value) and "\n" not in str(error.value)


def test_unequal_sides_are_refused(dataset: PairDataset, folder: Path) -> None:
    """Two runs of fairseq-preprocess on different text; a folder that cannot be written is one line too."""
    for ending in ("idx", "bin"):
        (folder / f"test.de-en.en.{ending}").write_bytes((folder / f"valid.de-en.en.{ending}").read_bytes())
    with pytest.raises(UserError, match="4 sentences in de and 3 in en"):
        read(folder)
    with pytest.raises(UserError, match="cannot write"):
        write(dataset, folder / "dict.de.txt")


def test_fairseq_reads_it_and_writes_the_same(dataset: PairDataset, folder: Path, tmp_path: Path) -> None:
    """The real thing: its classes find our numbers, and their own file has the same bytes."""
    pytest.importorskip("fairseq", reason="needs fairseq (pip install --no-deps fairseq-fixed, extra fairseq)")
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder

    for part in PARTS:
        pairs = dataset.pairs(part)
        for language, side in (("de", pairs.source), ("en", pairs.target)):
            prefix = folder / f"{part}.de-en.{language}"
            theirs = MMapIndexedDataset(str(prefix))
            assert [theirs[i].tolist() for i in range(len(theirs))] == [
                [*side[i].tolist(), EOS] for i in range(len(side))
            ]
            builder = MMapIndexedDatasetBuilder(str(tmp_path / "x.bin"), dtype=np.uint16)
            for i in range(len(theirs)):
                builder.add_item(theirs[i])
            builder.finalize(str(tmp_path / "x.idx"))
            for ending in ("bin", "idx"):
                ours = prefix.with_name(f"{prefix.name}.{ending}").read_bytes()
                assert (tmp_path / f"x.{ending}").read_bytes() == ours
    dictionary = Dictionary.load(str(folder / "dict.en.txt"))
    assert dictionary.symbols == dataset.pieces.pieces()
    assert (dictionary.bos(), dictionary.pad(), dictionary.eos(), dictionary.unk()) == (0, 1, 2, 3)
