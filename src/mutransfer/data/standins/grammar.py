"""A stand-in for parallel text, for machines without any: German and English sentences of one small grammar.

Every rule writes both languages at once, so that each pair is an exact translation. What a model has to learn is what
makes the real task hard on a small scale: German articles, adjectives and pronouns agree in gender, number and case;
verbs agree with the subject, and split (the finite part second, prefix, participle or infinitive at the end); in
subordinate and relative clauses the finite verb comes last, after an adverb before the subject; English has its
do-support, "a" and "an", irregular plurals and pasts. The words are in `grammar_words`: a thousand forms in German, six
hundred in English.

The same sentences on every machine: of Python's generator only `random`, whose numbers are promised to stay, is used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from data_scripts.parallel import Lines
from mutransfer.data.pairs import PARTS, PairDataset
from mutransfer.data.standins import grammar_words as words
from mutransfer.data.standins.grammar_words import Noun, Verb, third
from mutransfer.errors import UserError

NAME = "grammar"
SOURCE = "STAND-IN: synthetic sentences of a small German-English grammar, no real text"
LANGUAGES = ("de", "en")
DEFAULT_SEED = 1914
COUNTS = {"test": 1000, "valid": 1000, "train": 20_000}  # in the order in which they are drawn
MOST_PIECES = 1000  # with more, each word is one

ONE, MANY = 1, 2  # the subject, as far as verbs agree with it: er, sie, es; wir, sie (0: ich)

T = TypeVar("T")


@dataclass(frozen=True)
class Phrase:
    """Words of both languages; as a subject, with its number."""

    de: str
    en: str
    number: int = ONE


@dataclass
class Clause:
    """A clause before it is known where its verbs stand.

    finite, last: the German verb's two parts; prefix: ``last`` is one, which is written together with a final verb.
    help, base: the English helper and what follows it; plain: what stands for both where neither "not" nor a question
    calls for a helper.
    """

    subject: Phrase
    finite: str
    last: str
    prefix: bool
    help: str
    base: str
    plain: str
    is_negative: bool
    middle: list[str] = field(default_factory=list)  # German, between the finite verb and ``last``
    rest: list[str] = field(default_factory=list)  # English, after the verb

    def german(self, first: str | None = None) -> str:
        """With the verb second; ``first``: what stands before it instead of the subject ("": nothing, a question)."""
        head = [self.subject.de, self.finite] if first is None else [first, self.finite, self.subject.de]
        return _join(*head, *self.middle, self.last)

    def german_final(self) -> str:
        """With the finite verb last."""
        end = self.last + self.finite if self.prefix else f"{self.last} {self.finite}"
        return _join(self.subject.de, *self.middle, end)

    def english(self) -> str:
        """As a statement."""
        negation = "not" if self.is_negative else ""
        verb = f"{self.help} {negation} {self.base}" if negation or not self.plain else self.plain
        return _join(self.subject.en, verb, *self.rest).replace("can not", "cannot")

    def english_question(self) -> str:
        """With the helper first."""
        return _join(self.help, self.subject.en, "not" if self.is_negative else "", self.base, *self.rest)


class _Speaker:
    """Draws sentences, one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def _chance(self, probability: float) -> bool:
        return self._random() < probability

    def _pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def sentence(self) -> tuple[str, str]:
        """A sentence in both languages, with capital letter and full stop."""
        kind, end = self._random(), "."
        tense = self._pick(("now", "now", "past", "past", "modal"))
        if kind < 0.25:
            clause = self._clause(tense)
            de, en = clause.german(), clause.english()
        elif kind < 0.40:
            when, clause = self._time(tense), self._clause(tense, short=True)
            de, en = clause.german(when.de), _join(when.en, clause.english())
        elif kind < 0.70:
            link, main, sub = self._pick(words.LINKS), self._clause(tense), self._clause(tense, short=True)
            de_sub, en_sub = f"{link[0]} {sub.german_final()}", f"{link[1]} {sub.english()}"
            if self._chance(0.5):
                de, en = f"{main.german()} , {de_sub}", f"{main.english()} {en_sub}"
            else:
                de, en = main.german(f"{de_sub} ,"), f"{en_sub} , {main.english()}"
        elif kind < 0.82:
            outer = self._verb(self._subject(), self._pick(words.SPEECH), tense)
            inner = self._clause(self._pick(("now", "past", "modal")))
            de = f"{outer.german()} , dass {inner.german_final()}"
            en = f"{outer.english()} that {inner.english()}"
        elif kind < 0.92:
            (de, en), clause, end = self._pick(words.QUESTIONS), self._clause(tense), "?"
            de, en = clause.german(de), _join(en, clause.english_question())
        else:
            (de, en), one, two = self._pick(words.AND), self._clause(tense, short=True), self._clause(tense, short=True)
            de, en = f"{one.german()} {de} {two.german()}", f"{one.english()} {en} {two.english()}"
        return _finish(de, end), _finish(en, end)

    def _clause(self, tense: str, short: bool = False) -> Clause:
        """A subject and what it does; ``short``: without phrases of time and place."""
        subject, kind, is_negative = self._subject(), self._random(), self._chance(0.15)
        if kind < 0.12 and tense != "modal":
            return self._be(subject, tense, is_negative)
        articles = "definite" if is_negative else "object"
        pronouns, objects = list[Phrase](), list[Phrase]()
        if kind < 0.35:
            verbs = words.ALONE
        elif kind < 0.47:
            verbs = words.GIVING
            if self._chance(0.4):
                pronouns = [self._object("dat", subject)]
            else:
                objects = [self._noun_phrase("dat", words.PEOPLE)]
            objects.append(self._noun_phrase("acc", words.THINGS, articles))
        elif kind < 0.72:
            verbs = words.WITH_THINGS
            objects = [self._noun_phrase("acc", words.THINGS, articles)]
        else:
            verbs = words.WITH_PEOPLE
            if self._chance(0.25):
                pronouns = [self._object("acc", subject)]
            else:
                objects = [self._noun_phrase("acc", self._pick((words.PEOPLE, words.ANIMALS)), articles)]
        clause = self._verb(subject, self._pick(verbs), tense, is_negative)
        when = [self._time(tense)] if not short and self._chance(0.2) else []
        where = [self._place()] if not short and not is_negative and self._chance(0.3) else []
        # German says when after a pronoun, but before other objects; English in the end.
        clause.middle = [phrase.de for phrase in (*pronouns, *when, *objects, *where)]
        clause.middle += ["nicht"] * is_negative
        clause.rest = [phrase.en for phrase in (*pronouns, *objects, *where, *when)]
        return clause

    def _be(self, subject: Phrase, tense: str, is_negative: bool) -> Clause:
        """Something is as an adjective says."""
        de, en = words.BE[tense][subject.number]
        adjective = self._pick(words.ADJECTIVES)
        middle = [*(["nicht"] * is_negative), adjective.alone]
        return Clause(subject, de, "", False, en, "", "", is_negative, middle, [adjective.en])

    def _verb(self, subject: Phrase, verb: Verb, tense: str, is_negative: bool = False) -> Clause:
        """A subject with its verb."""
        n, english = subject.number, f"{verb.base} {verb.tail}".strip()
        if tense == "now":
            finite = (verb.infinitive[:-1], verb.third, verb.infinitive)[n]
            plain = f"{third(verb.base) if n == ONE else verb.base} {verb.tail}".strip()
            help_ = "does" if n == ONE else "do"
            return Clause(subject, finite, verb.prefix, bool(verb.prefix), help_, english, plain, is_negative)
        if tense == "past":
            finite, participle = words.PERFECT[verb.is_moving][n], verb.prefix + verb.participle
            plain = f"{verb.past} {verb.tail}".strip()
            return Clause(subject, finite, participle, False, "did", english, plain, is_negative)
        modal, infinitive = self._pick(words.MODALS), verb.prefix + verb.infinitive
        if modal.is_helper:
            return Clause(subject, modal.de[n], infinitive, False, modal.en, english, "", is_negative)
        help_, plain = ("does", third(modal.en)) if n == ONE else ("do", modal.en)
        full = f"{modal.en} to {english}"
        return Clause(subject, modal.de[n], infinitive, False, help_, full, f"{plain} to {english}", is_negative)

    def _subject(self) -> Phrase:
        kind = self._random()
        if kind < 0.3:
            return Phrase(*self._pick(words.SUBJECTS))
        if kind < 0.45:
            name = self._pick(words.PERSONS)
            return Phrase(name, name)
        nouns = words.ANIMALS if kind < 0.6 else words.PEOPLE
        if self._chance(0.15):
            return self._with_relative(nouns)
        return self._noun_phrase("nom", nouns)

    def _object(self, case: str, subject: Phrase) -> Phrase:
        """A pronoun for somebody else."""
        own = words.THEMSELVES.get(subject.de, ())
        return Phrase(*self._pick([entry for entry in words.OBJECTS[case] if entry[0] not in own]))

    def _time(self, tense: str) -> Phrase:
        return Phrase(*self._pick(words.TIMES[tense]))

    def _place(self) -> Phrase:
        de, en, nouns = self._pick(words.PREPOSITIONS)
        place = self._noun_phrase("dat", nouns, "definite")
        contracted = re.sub(r"^(in|bei) dem ", lambda found: words.CONTRACTED[found[1]] + " ", f"{de} {place.de}")
        return Phrase(contracted, f"{en} {place.en}")

    def _noun_phrase(self, case: str, nouns: Sequence[Noun], articles: str = "any") -> Phrase:
        """Article, perhaps an adjective, noun."""
        return self._phrase_of(self._pick(nouns), case, articles, self._chance(0.3))

    def _with_relative(self, nouns: Sequence[Noun]) -> Phrase:
        """A subject with a relative clause."""
        noun, is_plural = self._pick(nouns), self._chance(0.3)
        phrase = self._phrase_of(noun, "nom", "relative", is_plural)
        pronoun = "d" + words.ENDINGS["d"]["nom"][_column(noun, is_plural)]
        who = Phrase(pronoun, "who" if noun.is_human else "that", phrase.number)
        clause = self._verb(who, self._pick(words.WITH_THINGS), self._pick(("now", "past")))
        thing = self._noun_phrase("acc", words.THINGS)
        clause.middle, clause.rest = [thing.de], [thing.en]
        return Phrase(f"{phrase.de} , {clause.german_final()} ,", f"{phrase.en} {clause.english()}", phrase.number)

    def _phrase_of(self, noun: Noun, case: str, articles: str, is_plural: bool) -> Phrase:
        article = self._pick(words.DETERMINERS[articles][is_plural])
        adjective = self._pick(words.ADJECTIVES) if self._chance(0.35) else None
        column = _column(noun, is_plural)
        de = [article.stem + words.ENDINGS[article.kind][case][column], noun.german(case, is_plural)]
        en = [noun.plural_en if is_plural else noun.en]
        if adjective:
            de.insert(1, adjective.stem + words.ADJECTIVE_ENDINGS[article.kind][case][column])
            en.insert(0, adjective.en)
        first = "an" if article.en == "a" and en[0][0] in "aeiou" else article.en
        return Phrase(_join(*de), _join(first, *en), MANY if is_plural else ONE)


def grammar_texts(seed: int = DEFAULT_SEED, counts: Mapping[str, int] = COUNTS) -> dict[str, Lines]:
    """German and English sentences of each part in ``counts``; no sentence of either language comes twice.

    A smaller training part is the beginning of a larger one, whatever its size: it is drawn last.
    """
    if any(n < 1 for n in counts.values()):
        raise UserError(f"{counts} leaves a part without sentences; expected at least 1 in each.")
    speaker, seen, parts = _Speaker(seed), (set[str](), set[str]()), dict[str, Lines]()
    for part, n in counts.items():
        lines: Lines = ([], [])
        while len(lines[0]) < n:
            pair = speaker.sentence()
            if not any(sentence in known for sentence, known in zip(pair, seen, strict=True)):
                for sentence, known, side in zip(pair, seen, lines, strict=True):
                    known.add(sentence)
                    side.append(sentence)
        parts[part] = lines
    return parts


def grammar_dataset(
    languages: tuple[str, str] = LANGUAGES,
    *,
    pieces: int = MOST_PIECES,
    seed: int = DEFAULT_SEED,
    counts: Mapping[str, int] = COUNTS,
) -> PairDataset:
    """The stand-in as tokens of at most `MOST_PIECES` pieces, from either language into the other.

    Raises `UserError` for other languages: it has only these.
    """
    if set(languages) != set(LANGUAGES):
        raise UserError(f"the synthetic grammar has no {'-'.join(languages)}; expected de-en or en-de.")
    texts = grammar_texts(seed, counts)
    if languages != LANGUAGES:
        texts = {part: (english, german) for part, (german, english) in texts.items()}
    train, valid, test = (texts[part] for part in PARTS)
    size = min(pieces, MOST_PIECES)
    return PairDataset.from_texts(
        NAME, SOURCE, is_real=False, languages=languages, train=train, valid=valid, test=test, pieces=size
    )


def _column(noun: Noun, is_plural: bool) -> int:
    """Of the tables of endings: the three genders, then the plural."""
    return 3 if is_plural else "mfn".index(noun.gender)


def _join(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _finish(sentence: str, end: str) -> str:
    """With a capital letter, its end, and one comma where clauses meet."""
    text = re.sub(r"(\s*,)+", ",", re.sub(r"\s+", " ", sentence)).removesuffix(",") + end
    return text[0].upper() + text[1:]
