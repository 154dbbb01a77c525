"""A stand-in for BERT's data, for machines without any: stories in the English of the synthetic grammar (`grammar`).

A story is some sentences with a small cast: a few people, animals, things and verbs of the grammar's many. So two
sentences of one story are more alike than two of different ones: next-sentence prediction can be learnt, and the task
that comes along, whether two sentences are of one story. The same stories on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mutransfer.data.documents import Examples, TaskTexts
from mutransfer.data.sentences import SentenceDataset
from mutransfer.data.standins import grammar_words as words
from mutransfer.data.standins.grammar import DEFAULT_SEED, T, _Speaker

NAME = "stories"
SOURCE = "STAND-IN: synthetic stories of a small English grammar, no real text"
TASK_SOURCE = "STAND-IN: are two synthetic sentences of one story"
SENTENCES = (6, 14)  # of a story
COUNTS = {"test": 120, "train": 2000}  # stories, in the order in which they are drawn
TASK_COUNTS = {"test": 400, "train": 3000}
CAST = {  # how many of the grammar's tables a story has
    "PEOPLE": 2,
    "ANIMALS": 1,
    "THINGS": 2,
    "PERSONS": 1,
    "ADJECTIVES": 2,
    "ALONE": 2,
    "GIVING": 1,
    "WITH_THINGS": 1,
    "WITH_PEOPLE": 1,
}


class _Narrator(_Speaker):
    """Draws sentences of the same few words, until a new story begins."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._cast: dict[int, Any] = {}
        self._tables = {table: getattr(words, table) for table in CAST}

    def begin(self) -> None:
        """A new cast."""
        self._cast = {}
        for name, table in self._tables.items():
            rest = [*table]
            chosen = [rest.pop(int(self._random() * len(rest))) for _ in range(CAST[name])]
            self._cast[id(table)] = chosen

    def _pick(self, items: Sequence[T]) -> T:
        # The tables live as long as the module: no other sequence has the id of one.
        return super()._pick(self._cast.get(id(items), items))

    def story(self) -> list[str]:
        """The English sentences of a story."""
        self.begin()
        low, high = SENTENCES
        return [self.sentence()[1] for _ in range(low + int(self._random() * (high - low + 1)))]

    def pairs(self, count: int) -> Examples:
        """Label 1: both sentences are of one story; each label half of the time."""
        first, second, labels = list[str](), list[str](), list[int]()
        for _ in range(count):
            is_same = self._chance(0.5)
            self.begin()
            first.append(self.sentence()[1])
            if not is_same:
                self.begin()
            second.append(self.sentence()[1])
            labels.append(int(is_same))
        return Examples(first, second, labels)


def stories_texts(seed: int = DEFAULT_SEED, counts: Mapping[str, int] = COUNTS) -> dict[str, list[list[str]]]:
    """Stories, each a list of sentences, of the parts "train" and "test"."""
    narrator = _Narrator(seed)
    return {part: [narrator.story() for _ in range(n)] for part, n in counts.items()}


def stories_task(seed: int = DEFAULT_SEED + 1, counts: Mapping[str, int] = TASK_COUNTS) -> TaskTexts:
    """Whether two sentences are of one story."""
    narrator = _Narrator(seed)
    parts = {part: narrator.pairs(n) for part, n in counts.items()}
    return TaskTexts("accuracy", 2, TASK_SOURCE, False, **parts)


def stories_dataset(
    pieces: int, tasks: Mapping[str, TaskTexts] | None = None, counts: Mapping[str, int] = COUNTS
) -> SentenceDataset:
    """The stand-in as tokens, of at most about 1,000 pieces; with its own task, unless others are given."""
    texts, tasks = stories_texts(counts=counts), {NAME: stories_task()} if tasks is None else tasks
    return SentenceDataset.from_texts(
        NAME, SOURCE, is_real=False, train=texts["train"], test=texts["test"], pieces=pieces, tasks=tasks
    )
