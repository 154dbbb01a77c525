"""Pairs of sentences: tokens spell the text, offsets cut it where it was cut, and no array can change unnoticed."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mutransfer.data import joint, parallel
from mutransfer.data.grammar import grammar_texts
from mutransfer.data.joint import JointPieces
from mutransfer.data.pairs import ARRAYS, BOS, EOS, PAD, PARTS, UNK, PairDataset, fingerprint_of_pairs
from mutransfer.data.parallel import Cleaning
from mutransfer.data.tokenizers import SentencePiece
from mutransfer.errors import UserError
from mutransfer.runs.sweep import on_disk

TEXTS = grammar_texts(counts={"test": 7, "valid": 5, "train": 90})
ALPHABET = sorted(set("".join("".join(side) for side in TEXTS["train"])) - {"\n"})


def made(size: int = 120, **changes: Any) -> PairDataset:
    """A hundred sentences of the grammar."""
    given_: dict[str, Any] = {"languages": ("de", "en"), "pieces": size, "is_real": False, **TEXTS}
    return PairDataset.from_texts("made-up", "test", **(given_ | changes))


@pytest.fixture(scope="module")
def dataset() -> PairDataset:
    """Made once: it cannot be written."""
    return made()


def test_tokens_spell_the_text(dataset: PairDataset) -> None:
    """Line by line, in both languages and all parts: a shift by one would train on the neighbour's translation."""
    for part in PARTS:
        found = dataset.pairs(part)
        assert dataset.count(part) == len(found) == len(TEXTS[part][0])
        for i, lines in enumerate(zip(*TEXTS[part], strict=True)):
            assert tuple(dataset.decode(side) for side in found[i]) == lines
        assert dataset.sources(part) == TEXTS[part][0] and dataset.references(part) == TEXTS[part][1]


def test_offsets_cover_every_token_once(dataset: PairDataset) -> None:
    """Lengths, starts and ends are three views of one thing; sentences are views of the tokens."""
    for side in (dataset.pairs("train").source, dataset.pairs("valid").target):
        assert torch.equal(side.starts + side.lengths, side.ends) and side.starts[0] == 0
        assert int(side.lengths.sum()) == len(side.tokens)
        assert torch.equal(torch.cat([side[i] for i in range(len(side))]), side.tokens)
        assert side[1].data_ptr() == side.tokens[int(side.starts[1]) :].data_ptr()
        for beyond in (-1, len(side)):
            with pytest.raises(IndexError):
                side[beyond]


def test_special_numbers_are_fairseqs(dataset: PairDataset) -> None:
    """0 to 3 in this order, and no text becomes one of them but an unknown character."""
    assert (BOS, PAD, EOS, UNK) == (0, 1, 2, 3)
    assert dataset.pieces.pieces()[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    tokens = dataset.encode("<s> Der </s> <pad> 漢 Mann").tolist()
    assert UNK in tokens and min(tokens) == UNK
    assert all(int(getattr(dataset, f"{part}_source").min()) > UNK for part in PARTS)


def test_decoding_stops_at_the_end(dataset: PairDataset) -> None:
    """What a model says after its end, and special tokens anywhere, are no words."""
    tokens = dataset.encode("Der Mann schläft.").tolist()
    said = [BOS, tokens[0], PAD, *tokens[1:], UNK, EOS, *tokens, EOS]
    for form in (said, np.array(said, np.int32), torch.tensor(said)):
        assert dataset.decode(form) == "Der Mann schläft."
    assert dataset.decode([]) == dataset.decode([EOS]) == ""


@given(text=st.text(st.sampled_from(ALPHABET)))
def test_pieces_come_back_normalised(dataset: PairDataset, text: str) -> None:
    """White space aside, all text of known characters."""
    pieces = dataset.pieces
    assert pieces.decode(pieces.encode(text)) == pieces.normalize(text) == " ".join(text.split())


def test_normalisation_is_nfkc(dataset: PairDataset) -> None:
    """Ligatures and wide letters are the letters; the raw text for BLEU stays as it was."""
    assert dataset.pieces.normalize(" ﬁndet  Ｍann ") == "findet Mann"
    odd = made(valid=(["Der  ﬁnk"], ["the ﬁnch"]))
    assert odd.sources("valid") == ["Der  ﬁnk"] and odd.decode(odd.pairs("valid")[0][0]) == "Der fink"


def test_tokens_take_the_smallest_type() -> None:
    """As other tokens do: uint8 to 256, then int32; a short text has fewer pieces than wanted."""
    small, large = made(), made(4000)
    assert small.vocab == 120 and small.train_source.dtype == torch.uint8
    assert 256 < large.vocab < 4000 and large.train_source.dtype == large.test_target.dtype == torch.int32
    assert large.tokenizer == "joint-bpe-4000" and large.source == "test, joint-bpe-4000"


def test_pieces_are_shared_and_deterministic(dataset: PairDataset) -> None:
    """Fitted to both languages, and the same every time, or no two runs could be compared."""
    assert made().fingerprint == dataset.fingerprint
    for lines in TEXTS["train"]:  # a model of the other language alone would spell this one
        assert sum(len(dataset.encode(line)) for line in lines) < 0.7 * len("".join(lines))


def test_many_lines_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of lines would take hours to fit and change little; both languages are in the half that is taken."""
    seen = []
    monkeypatch.setattr(joint, "LINES", 50)
    monkeypatch.setattr(JointPieces, "_fit", classmethod(lambda cls, text, size: seen.append(text.split("\n"))))
    monkeypatch.setattr(JointPieces, "__init__", lambda *args: None)
    JointPieces.fit_lines([str(i) for i in range(100)], 10)
    assert seen == [[str(i) for i in range(0, 100, 2)]]


def test_another_model_is_refused() -> None:
    """Its pieces would have other numbers than fairseq's."""
    with pytest.raises(UserError, match="expected \\('<s>', '<pad>'"):
        JointPieces("other", SentencePiece._fit("\n".join(TEXTS["train"][0]), 400))
    with pytest.raises(UserError, match="not a SentencePiece model"):
        JointPieces("none", b"damaged")


def test_a_blank_sentence_keeps_its_place() -> None:
    """In a test set a line without text must not shift the references."""
    blank = made(test=(["Der Mann.", "", "Das Kind."], ["The man.", "A child.", ""]))
    assert blank.pairs("test").source.lengths.tolist()[1] == 0 and len(blank.pairs("test")[1][0]) == 0
    assert blank.references("test") == ["The man.", "A child.", ""]
    assert blank.sources("test") == ["Der Mann.", "", "Das Kind."]


@pytest.mark.parametrize("part", PARTS)
def test_unequal_sides_are_refused(part: str) -> None:
    """And an empty part: no run could use it."""
    source, target = TEXTS[part]
    for lines in ((source, target[:-1]), ([], [])):
        with pytest.raises(UserError, match=f"the {part} part has"):
            made(**{part: lines})


def test_a_line_end_in_a_sentence_is_refused() -> None:
    """The references would no longer be those of the sentences."""
    with pytest.raises(ValueError, match="valid: expected equally many"):
        made(valid=(["Der\nMann."], ["The man."]))


def test_unknown_part(dataset: PairDataset) -> None:
    """The nearest name is in the line."""
    for call in (dataset.pairs, dataset.count, dataset.sources, dataset.references):
        with pytest.raises(UserError, match="Did you mean 'valid'"):
            call("vaild")


def test_wrong_tensors_are_refused(dataset: PairDataset) -> None:
    """A folder whose arrays do not fit together does not open."""
    ends, tokens = dataset.train_source_ends, dataset.train_source
    wrong: list[dict[str, Any]] = [
        {"train_source": tokens.int()},
        {"train_source": tokens[:0]},
        {"train_source": tokens.clone().fill_(EOS)},
        {"vocab": 100},
        {"train_source_ends": ends[:-1]},
        {"train_source_ends": ends.flip(0)},
        {"train_source_ends": ends.int()},
        {"valid_target_text": dataset.valid_target_text[:-1]},
        {"model": dataset.model[None]},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match="expected"):
            replace(dataset, **change)


def test_fingerprint_sees_everything_that_decides_a_run(dataset: PairDataset) -> None:
    """Each array in its last byte, the head, and which language is which."""
    tensors = {name: getattr(dataset, name) for name in ARRAYS}
    head = {"vocab": dataset.vocab, "tokenizer": dataset.tokenizer, "languages": ("de", "en")}
    found = [dataset.fingerprint]
    for name, tensor in tensors.items():
        changed = tensor.clone()
        changed[-1] ^= 1
        found.append(fingerprint_of_pairs(tensors | {name: changed}, **head))
    for change in ({"vocab": 121}, {"tokenizer": "x"}, {"languages": ("en", "de")}):
        found.append(fingerprint_of_pairs(tensors, **(head | change)))
    assert len(set(found)) == len(found) == len(ARRAYS) + 4
    assert fingerprint_of_pairs(tensors, **head) == dataset.fingerprint


def test_opened_equals_saved(tmp_path: Path, dataset: PairDataset) -> None:
    """Workers must train on exactly what the driver loaded, through a sweep's own protocol."""
    with on_disk(dataset, tmp_path / "data") as opened:
        assert opened.folder == tmp_path / "data" and repr(opened) == repr(dataset)
        assert all(torch.equal(getattr(opened, name), getattr(dataset, name)) for name in ARRAYS)
        assert opened.decode(opened.pairs("test")[3][1]) == TEXTS["test"][1][3]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["train_target.npy", "test_source_ends.npy", "valid_target_text.npy", "model.npy"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_folder_is_refused(tmp_path: Path, dataset: PairDataset, name: str, damage: str) -> None:
    """Texts and model too: a changed reference is another BLEU."""
    dataset.save(tmp_path)
    path = tmp_path / name
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(raw[: len(raw) // 2] if damage == "truncated" else raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(UserError, match=str(tmp_path)):
        PairDataset.open(tmp_path)


def test_pickled_without_a_copy(dataset: PairDataset) -> None:
    """Ray's object store holds one copy a node; what is made of the tensors does not travel."""
    assert dataset.pieces.vocab == 120
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
    assert len(buffers) == len(ARRAYS) and len(head) < 4000
    shared = [bytes(buffer.raw()) for buffer in buffers]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copy = pickle.loads(head, buffers=shared)
    assert repr(copy) == repr(dataset) and copy.folder is None and "pieces" not in copy.__dict__
    assert copy.train_source.data_ptr() == np.frombuffer(shared[0], np.uint8).ctypes.data
    assert copy.references("test") == TEXTS["test"][1]


def test_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time the folder is opened; another text, name or number of pieces is prepared on its own."""
    first = made(cache=tmp_path)
    [folder] = tmp_path.iterdir()
    assert first.folder == folder and "test, joint-bpe-120" in (folder / "source.txt").read_text()
    assert first.fingerprint == made().fingerprint
    monkeypatch.setattr(JointPieces, "_fit", None)  # a second fit would fail
    again = made(cache=tmp_path)
    assert again.folder == folder and repr(again) == repr(first) and len(list(tmp_path.iterdir())) == 1
    swapped = TEXTS["valid"][0][::-1], TEXTS["valid"][1]
    for change in ({"valid": swapped}, {"size": 130}, {"is_real": True}, {"languages": ("de", "fr")}):
        with pytest.raises(TypeError):
            made(cache=tmp_path, **change)
    (folder / "model.npy").unlink()
    with pytest.raises(UserError, match=f"{folder.name}.*delete the folder"):
        made(cache=tmp_path)
    (folder / "dataset.json").unlink()  # as a process that was killed leaves it
    with pytest.raises(TypeError):
        made(cache=tmp_path)


def test_a_read_only_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data may lie where nobody should write, even if root could; that is no reason to stop."""
    tmp_path.chmod(0o555)
    try:
        assert made(cache=tmp_path / "prepared").folder is None
    finally:
        tmp_path.chmod(0o755)
    assert not list(tmp_path.iterdir()) and "read-only" in capsys.readouterr().err


PAIRS = [
    ("a b c", "a b"),  # 1.5: kept
    ("a b c d", "a b"),  # 2: not
    ("a b", "a b c d"),
    ("a b c.", "a, b"),  # signs are words: 4 to 3
    ("a" * 500, "b"),  # one word each
    ("a " * 175, "b " * 175),
    ("a " * 176, "b " * 175),
    ("", ""),
    ("a", ""),
    ("größe", "x"),  # one word, whatever the letters
]


def test_cleaning_is_moses() -> None:
    """Ratio at most 1.5 either way, 1 to 175 words: by hand."""
    kept = parallel.clean(([a for a, _ in PAIRS], [b for _, b in PAIRS]), Cleaning())
    assert list(zip(*kept, strict=True)) == [PAIRS[i] for i in (0, 3, 4, 5, 9)]
    assert Cleaning(ratio=2).keeps(*PAIRS[1]) and Cleaning(most=176).keeps(*PAIRS[6])
    assert not Cleaning(least=3).keeps(*PAIRS[0])


def test_steps_on_lines() -> None:
    """Every n-th from the n-th on, as awk's NR%n; white space and Moses' escapes; blank sides."""
    lines = ([str(i) for i in range(1, 48)], [f"-{i}" for i in range(1, 48)])
    train, valid = parallel.split_every(lines, 23)
    assert valid == (["23", "46"], ["-23", "-46"])
    assert sorted(train[0] + valid[0]) == sorted(lines[0]) and not set(train[0]) & set(valid[0])
    assert parallel.tidy(" a\u2028b\xa0 c\t&quot;d&apos;s&quot; &amp;lt; &#91;&#124;&#93; &euro;\r") == (
        'a b c "d\'s" &lt; [|] &euro;'
    )
    assert parallel.without_empty((["a", "", "c"], ["x", "y", ""])) == (["a"], ["x"])
    assert parallel.lower((["ÄB"], ["Cd"])) == (["äb"], ["cd"])
