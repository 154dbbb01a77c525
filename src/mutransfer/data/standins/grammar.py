"""A stand-in for text, for machines without any: sentences of one small German-English grammar, and stories in it.

Every rule writes both languages at once, so that each pair is an exact translation. What a model has to learn is what
makes the real task hard on a small scale: German articles and adjectives agree in gender, number and case; verbs agree
with the subject, and split (the finite part second, prefix or participle at the end); in subordinate clauses the finite
verb comes last; English has "a" and "an", irregular plurals and pasts.

A story is some English sentences with a small cast, so that next-sentence prediction can be learnt, and the task that
comes along: whether two sentences are of one story.

The same text on every machine: of Python's generator only `random`, whose numbers are promised to stay, is used.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from mutransfer.data.pairs import PairDataset, Texts
from mutransfer.data.sentences import Examples, SentenceDataset, TaskTexts
from mutransfer.errors import UserError

STORIES = "stories"
SOURCE = "STAND-IN: synthetic sentences of a small German-English grammar, no real text"
STORIES_SOURCE = "STAND-IN: synthetic stories of a small English grammar, no real text"
TASK_SOURCE = "STAND-IN: are two synthetic sentences of one story"
LANGUAGES = ("de", "en")
SEED = 1914
COUNTS = {"test": 1000, "valid": 1000, "train": 20_000}  # sentences, in the order in which they are drawn
MOST_PIECES = 1000  # with more, nearly each word is one
STORY_COUNTS = {"test": 120, "train": 2000}  # stories, likewise
TASK_COUNTS = {"test": 400, "train": 3000}
SENTENCES = (6, 14)  # of a story

T = TypeVar("T")

# people, animals, things: German, gender, plural, English, plural; adjectives: German, English; verbs by what they are
# said with: (prefix-)infinitive, third person, participle, English, third person, past
_WORDS = """
people: Mann m Männer man men, Frau f Frauen woman women, Kind n Kinder child children, Ärztin f Ärztinnen doctor
  doctors, Bäcker m Bäcker baker bakers, Schwester f Schwestern sister sisters, Mädchen n Mädchen girl girls,
  König m Könige king kings, Dieb m Diebe thief thieves, Künstlerin f Künstlerinnen artist artists;
animals: Hund m Hunde dog dogs, Katze f Katzen cat cats, Pferd n Pferde horse horses, Vogel m Vögel bird birds,
  Maus f Mäuse mouse mice, Schaf n Schafe sheep sheep;
things: Buch n Bücher book books, Brief m Briefe letter letters, Apfel m Äpfel apple apples, Ei n Eier egg eggs,
  Zeitung f Zeitungen newspaper newspapers, Kuchen m Kuchen cake cakes, Blume f Blumen flower flowers, Stuhl m Stühle
  chair chairs, Messer n Messer knife knives, Uhr f Uhren clock clocks, Schachtel f Schachteln box boxes;
adjectives: alt old, neu new, klein small, groß big, jung young, schön beautiful, langsam slow, rot red, blau blue,
  weiß white, traurig sad, reich rich, stark strong, klug clever, laut loud, hässlich ugly, ehrlich honest;
alone: schlafen schläft geschlafen sleep sleeps slept, arbeiten arbeitet gearbeitet work works worked,
  lachen lacht gelacht laugh laughs laughed, weinen weint geweint cry cries cried, singen singt gesungen sing sings
  sang, auf-hören hört gehört stop stops stopped, auf-geben gibt gegeben give_up gives_up gave_up;
with_people: sehen sieht gesehen see sees saw, lieben liebt geliebt love loves loved, suchen sucht gesucht look_for
  looks_for looked_for, kennen kennt gekannt know knows knew, treffen trifft getroffen meet meets met,
  an-rufen ruft gerufen call calls called, ein-laden lädt geladen invite invites invited;
with_things: kaufen kauft gekauft buy buys bought, malen malt gemalt paint paints painted, tragen trägt getragen carry
  carries carried, nehmen nimmt genommen take takes took, stehlen stiehlt gestohlen steal steals stole, weg-werfen
  wirft geworfen throw_away throws_away threw_away, auf-heben hebt gehoben pick_up picks_up picked_up
"""
LEXICON = {
    kind: [tuple(word.replace("_", " ") for word in entry.split()) for entry in entries.split(",")]
    for kind, entries in (line.strip().split(":") for line in _WORDS.split(";"))
}
CAST = dict(people=2, animals=1, things=2, adjectives=2, alone=2, with_people=1, with_things=1)  # of a story
OBJECTS = {"alone": None, "with_people": "people", "with_things": "things"}  # of a kind of verb
TIMES = (("heute", "today"), ("manchmal", "sometimes"), ("am Sonntag", "on Sunday"), ("im Sommer", "in summer"))
LINKS = (("weil", "because"), ("obwohl", "although"), ("wenn", "when"), ("während", "while"), ("bevor", "before"))
COLUMNS = "mfnp"  # the genders, the plural
# By the English determiner: its stem, its endings as subject and as object, those of an adjective behind it.
_WEAK = ("e e e en", "en e e en")
DETERMINERS = {
    "the": ("d", ("er ie as ie", "en ie as ie"), _WEAK),
    "this": ("dies", ("er e es e", "en e es e"), _WEAK),
    "my": ("mein", ("- e - e", "en e - e"), ("er e es en", "en e es en")),
    "a": ("ein", ("- e -", "en e -"), ("er e es", "en e es")),  # last: it has no plural
}


class _Speaker:
    """Draws sentences, one after the other; English ones of the same few words after `begin`, until the next."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self._words = LEXICON

    def begin(self) -> None:
        """A new cast."""
        self._words = {}
        for kind, count in CAST.items():
            rest = [*LEXICON[kind]]
            self._words[kind] = [rest.pop(int(self._random() * len(rest))) for _ in range(count)]

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def sentence(self) -> tuple[str, str]:
        """A sentence in both languages, with capital letter and full stop."""
        kind = self._random()
        de, en = self._clause("first" if 0.3 < kind < 0.6 else "second")
        if 0.3 < kind < 0.6:
            german, english = self.pick(TIMES)
            de, en = f"{german} {de}", f"{english} {en}"
        if kind > 0.5:
            (german, english), (late_de, late_en) = self.pick(LINKS), self._clause("last")
            de, en = f"{de}, {german} {late_de}", f"{en} {english} {late_en}"
        return de[0].upper() + de[1:] + ".", en[0].upper() + en[1:] + "."

    def _clause(self, order: str) -> tuple[str, str]:
        """Who does what; in German with the finite verb "first", "second", or "last"."""
        de, en, is_plural = self._noun_phrase(0, self.pick(("people", "people", "animals")))
        frame, is_past = self.pick([*OBJECTS]), self._random() < 0.5
        infinitive, third, participle, base, bases, past = self.pick(self._words[frame])
        prefix, _, infinitive = infinitive.rpartition("-")
        if is_past:
            finite, last = "haben" if is_plural else "hat", f"{prefix}{participle} "
        else:
            finite, last = infinitive if is_plural else third, prefix
        kind = OBJECTS[frame]
        de_object, en_object, _ = self._noun_phrase(1, kind) if kind else ("", "", False)
        german = {
            "first": (finite, de, de_object, last.strip()),
            "second": (de, finite, de_object, last.strip()),
            "last": (de, de_object, last + finite),
        }[order]
        english = (en, past if is_past else base if is_plural else bases, en_object)
        return " ".join(filter(None, german)), " ".join(filter(None, english))

    def _noun_phrase(self, case: int, kind: str) -> tuple[str, str, bool]:
        """Determiner, perhaps an adjective, noun, as subject (case 0) or object (1); in both languages; is it many."""
        (de, gender, plural, en, plural_en), is_plural = self.pick(self._words[kind]), self._random() < 0.3
        if is_plural:
            de, gender, en = plural, "p", plural_en
        article = self.pick([*DETERMINERS][: 3 if is_plural else 4])
        stem, *tables = DETERMINERS[article]
        ending, adjective_ending = (table[case].split()[COLUMNS.index(gender)].strip("-") for table in tables)
        if self._random() < 0.35:
            german, english = self.pick(self._words["adjectives"])
            de, en = f"{german}{adjective_ending} {de}", f"{english} {en}"
        if article == "a" and en[0] in "aeiou":
            article = "an"
        return f"{stem}{ending} {de}", f"{'these' if article == 'this' and is_plural else article} {en}", is_plural


def grammar_texts(counts: Mapping[str, int] = COUNTS) -> dict[str, Texts]:
    """German and English sentences of each part in ``counts``; no sentence of either language comes twice.

    A smaller training part is the beginning of a larger one, whatever its size: it is drawn last.
    """
    speaker, seen, parts = _Speaker(SEED), set[str](), dict[str, Texts]()
    for part, n in counts.items():
        lines: tuple[list[str], list[str]] = ([], [])
        while len(lines[0]) < n:
            pair = speaker.sentence()
            if seen.isdisjoint(pair):  # no sentence is both German and English
                seen.update(pair)
                for side, sentence in zip(lines, pair, strict=True):
                    side.append(sentence)
        parts[part] = lines
    return parts


def grammar_dataset(
    languages: tuple[str, str] = LANGUAGES, *, pieces: int = MOST_PIECES, counts: Mapping[str, int] = COUNTS
) -> PairDataset:
    """The sentences as tokens of at most `MOST_PIECES` pieces, from either language into the other.

    Raises `UserError` for other languages: it has only these.
    """
    if set(languages) != set(LANGUAGES):
        raise UserError(f"the synthetic grammar has no {'-'.join(languages)}; expected de-en or en-de.")
    texts: dict[str, Any] = grammar_texts(counts)
    if languages != LANGUAGES:
        texts = {part: (english, german) for part, (german, english) in texts.items()}
    size = min(pieces, MOST_PIECES)
    return PairDataset.from_texts("grammar", SOURCE, is_real=False, languages=languages, pieces=size, **texts)


def stories_texts(counts: Mapping[str, int] = STORY_COUNTS) -> dict[str, list[list[str]]]:
    """Stories, each a list of sentences, of the parts "train" and "test"."""
    speaker, (low, high) = _Speaker(SEED), SENTENCES

    def story() -> list[str]:
        speaker.begin()
        return [speaker.sentence()[1] for _ in range(speaker.pick(range(low, high + 1)))]

    return {part: [story() for _ in range(n)] for part, n in counts.items()}


def stories_task(counts: Mapping[str, int] = TASK_COUNTS) -> TaskTexts:
    """Whether two sentences are of one story (label 1), as half of the pairs are."""
    speaker, parts = _Speaker(SEED + 1), dict[str, Examples]()
    for part, n in counts.items():
        first, second, labels = list[str](), list[str](), list[int]()
        for _ in range(n):
            speaker.begin()
            first.append(speaker.sentence()[1])
            labels.append(speaker.pick((0, 1)))
            if not labels[-1]:
                speaker.begin()
            second.append(speaker.sentence()[1])
        parts[part] = Examples(first, second, labels)
    return TaskTexts("accuracy", 2, TASK_SOURCE, False, **parts)


def stories_dataset(
    pieces: int, tasks: Mapping[str, TaskTexts] | None = None, counts: Mapping[str, int] = STORY_COUNTS
) -> SentenceDataset:
    """Stories as tokens of at most ``pieces``; with their own task, unless others are given."""
    given: dict[str, Any] = {"tasks": {STORIES: stories_task()} if tasks is None else tasks, **stories_texts(counts)}
    return SentenceDataset.from_texts(STORIES, STORIES_SOURCE, is_real=False, pieces=pieces, **given)
