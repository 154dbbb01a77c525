"""WordPiece as BERT cuts text (Devlin et al. 2018): lower case, no accents, a piece inside of a word begins with ##.

The text is cut by the library `tokenizers`, but the pieces are not trained by it: its trainer numbers the pieces as a
hash table has them and lets these numbers decide between pairs that are equally frequent, so that the same text gives
another vocabulary in each process (huggingface/tokenizers, issue 1794). Here the pairs' spelling decides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from mutransfer.data.arrays import joined
from mutransfer.data.tokens import numbers_of
from mutransfer.errors import UserError

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
INSIDE = "##"
LEAST = 2  # times a pair stands in the training text, to become a piece
LETTERS = 1000  # different characters at most, and at most a quarter of the pieces: rarer ones are [UNK]
WORDS = 1_000_000  # different words, the most frequent ones, that pieces are trained on
LONGEST = 100  # characters of a word; a longer one is [UNK], as in BERT

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
        self.vocabulary = vocabulary
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

    def encode_lines(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """All lines one after the other, uint8 or int32 [tokens], and where each ends, int64 [lines].

        What stands between two spaces is cut once, however often it comes.
        """
        cut = cache(lambda chunk: self._tokenizer.encode(chunk).ids)
        return joined((list(chain.from_iterable(map(cut, line.split(" ")))) for line in lines), self.vocab)


def word_counts(lines: Sequence[str]) -> Counter[str]:
    """How often each word, or sign, stands in the lines, normalised."""
    words = Counter[str]()
    for chunk, count in Counter(chunk for line in lines for chunk in line.split(" ")).items():
        for word, _ in _WORDS.pre_tokenize_str(_NORMALIZER.normalize_str(chunk)):
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
    alphabet = {*sorted(letters, key=lambda letter: (-letters[letter], letter))[: min(LETTERS, size // 4)]}
    known = [word for word in known if len(word) <= LONGEST and alphabet.issuperset(word)]
    parts = [[word[0], *(INSIDE + letter for letter in word[1:])] for word in known]
    inside = {part for word in parts for part in word[1:]}
    pieces = dict.fromkeys([*SPECIALS, *sorted(alphabet), *sorted(inside)])
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
    before = dict[tuple[str, str], int]()

    def count(i: int, sign: int) -> None:
        for pair in pairwise(parts[i]):
            before.setdefault(pair, total[pair])
            total[pair] += sign * counts[i]
            if sign > 0:
                where[pair].add(i)

    for i in range(len(parts)):
        count(i, 1)
    heap = [(-number, pair) for pair, number in total.items()]
    heapify(heap)
    while heap:
        negative, pair = heappop(heap)
        if total[pair] != -negative:
            continue  # it has changed since, and was pushed again
        if -negative < LEAST:
            return
        whole = pair[0] + pair[1].removeprefix(INSIDE)
        yield whole
        before.clear()
        for i in where.pop(pair):
            count(i, -1)
            word, place = parts[i], 0
            while place < len(word) - 1:
                if (word[place], word[place + 1]) == pair:
                    word[place : place + 2] = [whole]
                place += 1
            count(i, 1)
        for other, number in before.items():
            if total[other] != number:
                heappush(heap, (-total[other], other))
