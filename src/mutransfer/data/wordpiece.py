"""WordPiece as BERT cuts text (Devlin et al. 2018): lower case, no accents, a piece inside of a word begins with ##.

The text is cut by the library `tokenizers`, but the pieces are not trained by it: its trainer numbers the pieces as a
hash table has them and lets these numbers decide between pairs that are equally frequent, so that the same text gives
another vocabulary in each process (huggingface/tokenizers, issue 1794). Here the pairs' spelling decides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mutransfer.data.arrays import dtype_of
from mutransfer.data.tokens import numbers_of
from mutransfer.errors import UserError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"
LEAST = 2  # times a pair stands in the training text, to become a piece
LETTERS = 1000  # different characters at most, and at most a quarter of the pieces: rarer ones are [UNK]
WORDS = 1_000_000  # different words, the most frequent ones, that pieces are trained on
LONGEST = 100  # characters of a word; a longer one is [UNK], as in BERT
_LINES = 10_000  # at once: bounds memory, changes no token

_NORMALIZER = normalizers.BertNormalizer(lowercase=True)
_WORDS = pre_tokenizers.BertPreTokenizer()


class Special(NamedTuple):
    """The numbers of `SPECIALS` in a vocabulary."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


class WordPiece:
    """Pieces of words, each word cut into the longest pieces from its beginning on.

    White space and case do not come back; [MASK] in a text is three words, not the special piece.
    """

    def __init__(self, name: str, vocabulary: str) -> None:
        """``vocabulary``: the pieces, one per line, each at its number (BERT's vocab.txt).

        Raises `UserError` if it lacks one of `SPECIALS`, has a piece twice or an empty one, or is for cased text.
        """
        self.name, self.vocabulary = name, vocabulary
        self.pieces = [line.removesuffix("\r") for line in vocabulary.removesuffix("\n").split("\n")]
        self.vocab = len(self.pieces)
        numbers = numbers_of(f"the vocabulary {name}", self.pieces, SPECIALS)
        if {"A", "T"} <= numbers.keys():
            raise UserError(f"the vocabulary {name} has capital letters; expected an uncased one: text is lower-cased.")
        self.special = Special(*(numbers[piece] for piece in SPECIALS))
        model = models.WordPiece(numbers, unk_token="[UNK]", max_input_chars_per_word=LONGEST)
        self._tokenizer = Tokenizer(model)
        self._tokenizer.normalizer, self._tokenizer.pre_tokenizer = _NORMALIZER, _WORDS

    @classmethod
    def fit(cls, lines: Sequence[str], size: int) -> WordPiece:
        """``size`` pieces (fewer if the lines have no more), the special ones first; deterministic."""
        return cls(f"wordpiece-{size}", "".join(f"{piece}\n" for piece in trained(word_counts(lines), size)))

    def encode(self, text: str) -> np.ndarray:
        """Without special pieces: uint8 or int32 [N]."""
        return np.array(self._tokenizer.encode(text).ids, dtype_of(self.vocab))

    def encode_lines(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All lines one after the other, uint8 or int32 [tokens], and where each ends, int64 [lines].

        What stands between two spaces is cut once, however often it comes.
        """
        number: defaultdict[str, int] = defaultdict()
        number.default_factory = number.__len__
        chunks_C = np.fromiter(
            map(number.__getitem__, chain.from_iterable(line.split(" ") for line in lines)), np.int64
        )
        line_ends = np.cumsum([line.count(" ") + 1 for line in lines], dtype=np.int64)

        found, lengths, known = [np.empty(0, dtype_of(self.vocab))], list[int](), list(number)
        for start in range(0, len(known), _LINES):
            some = [encoding.ids for encoding in self._tokenizer.encode_batch(known[start : start + _LINES])]
            lengths += map(len, some)
            found.append(np.fromiter(chain.from_iterable(some), dtype_of(self.vocab)))
        pieces, length_K = np.concatenate(found), np.array(lengths, np.int64)
        start_K = np.cumsum(length_K) - length_K

        ends_C = np.cumsum(length_K[chunks_C])
        tokens = np.empty(ends_C[-1] if len(ends_C) else 0, dtype_of(self.vocab))
        for at in range(0, len(chunks_C), 100 * _LINES):
            some_C = chunks_C[at : at + 100 * _LINES]
            begin, size_C = ends_C[at] - length_K[some_C[0]], length_K[some_C]
            shift_C = start_K[some_C] - (ends_C[at : at + len(some_C)] - size_C)
            places = np.arange(begin, ends_C[at + len(some_C) - 1]) + np.repeat(shift_C, size_C)
            tokens[begin : begin + len(places)] = pieces[places]
        return tokens, ends_C[line_ends - 1] if len(lines) else line_ends

    def decode(self, tokens: np.ndarray) -> str:
        """The words with one space between them; special pieces as they are written, but for [PAD]."""
        numbers = np.asarray(tokens).tolist()
        return " ".join(self.pieces[n] for n in numbers if n != self.special.pad).replace(f" {INSIDE}", "")

    @staticmethod
    def normalize(text: str) -> str:
        """``text`` as it comes back from `encode` and `decode` where no word is unknown."""
        return " ".join(_split(text))


def _split(text: str) -> list[str]:
    """The words and signs of a text, normalised."""
    return [word for word, _ in _WORDS.pre_tokenize_str(_NORMALIZER.normalize_str(text))]


def word_counts(lines: Sequence[str]) -> Counter[str]:
    """How often each word stands in the lines."""
    chunks = Counter[str]()
    for start in range(0, len(lines), _LINES):
        chunks.update(" ".join(lines[start : start + _LINES]).split(" "))
    # Those that come equally often are normalised together: a few thousand calls instead of millions.
    alike = defaultdict[int, list[str]](list)
    for chunk, count in chunks.items():
        alike[count].append(chunk)
    words = Counter[str]()
    for count, some in alike.items():
        for word in _split(" ".join(some)):
            words[word] += count
    return words


def trained(words: Mapping[str, int], size: int) -> list[str]:
    """The special pieces, the characters, and what the most frequent pairs of pieces make, until there are ``size``.

    Of pairs that are equally frequent the first in the order of their spelling.
    """
    known = sorted(words, key=lambda word: (-words[word], word))[:WORDS]
    letters = Counter[str]()
    for word in known:
        for letter in word:
            letters[letter] += words[word]
    most = min(LETTERS, size // 4)
    alphabet = set(sorted(letters, key=lambda letter: (-letters[letter], letter))[:most])
    known = [word for word in known if len(word) <= LONGEST and alphabet.issuperset(word)]
    inside = {INSIDE + letter for letter in set().union(*(word[1:] for word in known))}
    pieces = dict.fromkeys([*SPECIALS, *sorted(alphabet), *sorted(inside)])
    parts = [[word[0], *(INSIDE + letter for letter in word[1:])] for word in known]
    for piece in _merges(parts, [words[word] for word in known]):
        if len(pieces) >= size:
            break
        pieces[piece] = None  # another pair may have made it before
    return list(pieces)


def _merges(parts: list[list[str]], counts: Sequence[int]) -> Iterable[str]:
    """Join the most frequent pair of neighbours everywhere, again and again; gives what each pair makes.

    parts: of each word; changed. counts: how often each word comes.
    """
    total: defaultdict[tuple[str, str], int] = defaultdict(int)
    where: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for i, word in enumerate(parts):
        for pair in pairwise(word):
            total[pair] += counts[i]
            where[pair].add(i)
    heap = [(-count, pair) for pair, count in total.items()]
    heapify(heap)
    while heap:
        negative, pair = heappop(heap)
        if total.get(pair, 0) != -negative:
            continue  # it has changed since, and was pushed again
        if -negative < LEAST:
            return
        joined = pair[0] + pair[1].removeprefix(INSIDE)
        yield joined
        changed = set[tuple[str, str]]()
        for i in where.pop(pair):
            for change, other in _join(parts[i], pair, joined):
                total[other] += change * counts[i]
                changed.add(other)
                if change > 0:
                    where[other].add(i)
        del total[pair]
        for other in changed - {pair}:
            heappush(heap, (-total[other], other))


def _join(word: list[str], pair: tuple[str, str], joined: str) -> list[tuple[int, tuple[str, str]]]:
    """Join ``pair`` in ``word``; gives which other pairs are gone (-1) and new (1)."""
    changes, i = list[tuple[int, tuple[str, str]]](), 0
    while i < len(word) - 1:
        if (word[i], word[i + 1]) == pair:
            if i:
                changes += [(-1, (word[i - 1], word[i])), (1, (word[i - 1], joined))]
            if i + 2 < len(word):
                changes += [(-1, (word[i + 1], word[i + 2])), (1, (joined, word[i + 2]))]
            word[i : i + 2] = [joined]
        i += 1
    return changes
