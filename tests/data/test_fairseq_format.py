"""fairseq's preprocessed folder: byte for byte its format, and what fairseq itself reads."""

import struct

import numpy as np
import pytest
import small_data
import torch
from small_data import SENTENCES

from mutransfer.data import fairseq_format
from mutransfer.data.fairseq_format import write
from mutransfer.data.pairs import EOS, PARTS
from mutransfer.errors import UserError


@pytest.fixture(scope="module")
def dataset():
    return small_data.pairs(300)


@pytest.fixture
def folder(dataset, tmp_path):
    return write(dataset, tmp_path / "new" / "binary")


@pytest.mark.parametrize(("code", "most"), [(8, fairseq_format.MOST_SMALL), (4, 200)])
def test_bytes_are_the_formats(dataset, tmp_path, monkeypatch, code, most):
    """By hand: magic, version, type (two bytes: 65,500 symbols), count, sizes, addresses; sentences end with 2."""
    monkeypatch.setattr(fairseq_format, "MOST_SMALL", most)
    folder = write(dataset, tmp_path)
    sentences = [[*tokens.tolist(), 2] for tokens in dataset.pairs("valid").source]
    sizes, width = [len(sentence) for sentence in sentences], {8: 2, 4: 4}[code]
    pointers = [width * sum(sizes[:i]) for i in range(len(sizes))]
    index = b"MMIDIDX\x00\x00" + struct.pack("<QBQ5i5q", 1, code, 5, *sizes, *pointers)
    assert (folder / "valid.de-en.de.idx").read_bytes() == index
    numbers = [number for sentence in sentences for number in sentence]
    content = struct.pack(f"<{len(numbers)}{'H' if width == 2 else 'i'}", *numbers)
    assert (folder / "valid.de-en.de.bin").read_bytes() == content


def test_dictionary_gives_each_piece_its_number(dataset, folder):
    """From number 4 on, with counts of the training part; text and model go along, to score and encode without us."""
    lines = (folder / "dict.de.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in lines] == dataset.pieces.pieces()[4:]
    both = torch.cat([dataset.train_source, dataset.train_target]).int()
    assert [int(line.split(" ")[1]) for line in lines] == torch.bincount(both, minlength=300).tolist()[4:]
    assert (folder / "dict.en.txt").read_bytes() == (folder / "dict.de.txt").read_bytes()
    assert (folder / "test.de-en.en.txt").read_text() == "".join(f"{line}\n" for line in SENTENCES["test"][1])
    assert not (folder / "train.de-en.en.txt").exists()
    assert (folder / "sentencepiece.model").read_bytes() == dataset.pieces.model
    with pytest.raises(UserError, match="cannot write"):
        write(dataset, folder / "dict.de.txt")


def test_fairseq_reads_it_and_writes_the_same(dataset, folder, tmp_path):
    """The real thing: its classes find our numbers, and their own file has the same bytes."""
    pytest.importorskip("fairseq", reason="needs fairseq (pip install --no-deps fairseq-fixed, extra fairseq)")
    from fairseq.data import Dictionary
    from fairseq.data.indexed_dataset import MMapIndexedDataset, MMapIndexedDatasetBuilder

    for part in PARTS:
        for language, side in zip(("de", "en"), dataset.pairs(part), strict=True):
            prefix = folder / f"{part}.de-en.{language}"
            theirs = MMapIndexedDataset(str(prefix))
            assert [theirs[i].tolist() for i in range(len(theirs))] == [[*tokens.tolist(), EOS] for tokens in side]
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
