"""WordPiece: the same pieces in every process, cut as BERT cuts, and a published vocabulary that is one."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer

from mutransfer.data.standins.grammar import stories_texts
from mutransfer.data.wordpiece import LEAST, SPECIALS, Special, WordPiece, trained
from mutransfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
LINES = [line for story in stories_texts({"train": 60})["train"] for line in story]
PUBLISHED = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##aff", "##able", ",", "the"]


@pytest.fixture(scope="module")
def pieces():
    """Of some stories."""
    return WordPiece.fit(LINES, 300)


def encode(pieces, text):
    """The tokens of one text."""
    return pieces.encode_lines([text])[0].tolist()


def merged(symbols, pair):
    """The symbols with the pair joined, from the left."""
    found = []
    for symbol in symbols:
        if found and (found[-1], symbol) == pair:
            found[-1] += symbol.removeprefix("##")
        else:
            found.append(symbol)
    return found


def slowly(words, size):
    """`trained` as it is defined: count all pairs, join the most frequent one, again and again."""
    parts = {word: [word[0], *("##" + letter for letter in word[1:])] for word in words}
    pieces = dict.fromkeys([*SPECIALS, *sorted({*"".join(words)}), *sorted({"##" + c for w in words for c in w[1:]})])
    while len(pieces) < size:
        counts = Counter()
        for word, symbols in parts.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        if not counts or max(counts.values()) < LEAST:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        parts = {word: merged(symbols, best) for word, symbols in parts.items()}
        pieces[best[0] + best[1].removeprefix("##")] = None
    return list(pieces)


@given(words=st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 5), min_size=1, max_size=12))
def test_training_is_its_definition(words):
    """Ties and runs of one letter included: the counts that are kept must be those of counting anew."""
    assert trained(words, 80) == slowly(words, 80)


def test_every_process_has_the_same_pieces(pieces):
    """Whatever Python's hashes and the number of threads, or no two runs could be compared."""
    code = (
        "import json, sys; from mutransfer.data.wordpiece import WordPiece; lines = json.load(sys.stdin)\n"
        "pieces = WordPiece.fit(lines, 300)\n"
        "print(json.dumps([pieces.vocabulary, pieces.encode_lines(lines)[0].tolist()]))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "4"}
    command, lines = [sys.executable, "-c", code], json.dumps(LINES)
    run = subprocess.run(command, env=env, input=lines, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [pieces.vocabulary, pieces.encode_lines(LINES)[0].tolist()]


def test_pieces_are_cut_greedily(pieces):
    """The longest piece first, as in BERT; what cannot be spelt is [UNK]; a special piece's name in a text is words."""
    published = WordPiece("vocab.txt", "\n".join(PUBLISHED))
    assert published.special == Special(pad=0, unk=2, cls=3, sep=4, mask=5)
    assert encode(published, "Unaffable,the  thé\tunthe") == [6, 7, 8, 9, 10, 10, 2]
    assert WordPiece("vocab.txt", "\r\n".join([*PUBLISHED, ""])).pieces == PUBLISHED
    assert pieces.special == (0, 1, 2, 3, 4) and tuple(pieces.pieces[:5]) == SPECIALS
    assert pieces.vocab == 300 == len(set(pieces.pieces))
    assert not {*encode(pieces, "[MASK] [CLS] [PAD] mask")} & {0, 2, 3, 4}


TEXT = st.text(st.one_of(st.sampled_from(" aehs.,'-\t"), st.characters(blacklist_categories=["Cs"])), max_size=30)


@given(lines=st.lists(st.one_of(st.sampled_from(LINES), TEXT), max_size=8))
def test_lines_are_cut_as_by_the_library(pieces, lines):
    """What stands between spaces is cut once and put together: exactly what the library makes of the whole line."""
    tokens, ends = pieces.encode_lines(lines)
    assert ends.dtype == np.int64 and len(ends) == len(lines) and len(tokens) == (ends[-1] if lines else 0)
    vocabulary = {piece: i for i, piece in enumerate(pieces.pieces)}
    theirs = BertWordPieceTokenizer(vocabulary, lowercase=True)
    for line, start, end in zip(lines, [0, *ends], ends, strict=False):
        assert tokens[start:end].tolist() == theirs.encode(line, add_special_tokens=False).ids


def test_rare_characters_are_unknown():
    """At most a quarter of the pieces are characters, or a text in many scripts would leave none for words."""
    lines = ["the cat sat on the mat"] * 9 + [chr(0x400 + i) for i in range(200)]
    pieces = WordPiece.fit(lines, 100)
    assert pieces.vocab <= 100 and "the" in pieces.pieces
    assert encode(pieces, "the \u0460") == [pieces.pieces.index("the"), pieces.special.unk]


def test_a_short_text_has_fewer_pieces():
    """A pair that comes once is none; a type as small as the vocabulary allows."""
    small = WordPiece.fit(["ab ab cd"], 1000)
    assert small.pieces == [*SPECIALS, "a", "b", "c", "d", "##b", "##d", "ab"]
    assert WordPiece.fit(["", " "], 100).pieces == [*SPECIALS]


@pytest.mark.parametrize(
    ("more", "says"),
    [(["the"], "'the' 2 times"), (["a b"], "'a b'.* white space"), (["", "x"], "''"), (["A", "T"], "uncased")],
)
def test_a_broken_vocabulary_is_refused(more, says):
    """Each by what is wrong with it."""
    with pytest.raises(UserError, match=says):
        WordPiece("mine", "\n".join([*PUBLISHED, *more]))
