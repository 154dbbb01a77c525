"""A stand-in for text, for machines without any: sentences of one small German-English grammar, and stories in it.

Every rule writes both languages at once, so that each pair is an exact translation. What a model has to learn is what
makes the real task hard on a small scale: German articles and adjectives agree in gender, number and case; verbs agree
with the subject, and split (the finite part second, prefix, participle or infinitive at the end); in subordinate
clauses the finite verb comes last; English has its do-support, "a" and "an", irregular plurals and pasts.

A story is some English sentences with a small cast: a few people, animals, things and verbs of the grammar's many. So
two sentences of one story are more alike than two of different ones: next-sentence prediction can be learnt, and the
task that comes along, whether two sentences are of one story.

The same text on every machine: of Python's generator only `random`, whose numbers are promised to stay, is used.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from mutransfer.data.pairs import PARTS, PairDataset, Texts
from mutransfer.data.sentences import Examples, SentenceDataset, TaskTexts
from mutransfer.errors import UserError

NAME, STORIES = "grammar", "stories"
SOURCE = "STAND-IN: synthetic sentences of a small German-English grammar, no real text"
STORIES_SOURCE = "STAND-IN: synthetic stories of a small English grammar, no real text"
TASK_SOURCE = "STAND-IN: are two synthetic sentences of one story"
LANGUAGES = ("de", "en")
DEFAULT_SEED = 1914
COUNTS = {"test": 1000, "valid": 1000, "train": 20_000}  # sentences, in the order in which they are drawn
MOST_PIECES = 1000  # with more, nearly each word is one
STORY_COUNTS = {"test": 120, "train": 2000}  # stories, likewise
TASK_COUNTS = {"test": 400, "train": 3000}
SENTENCES = (6, 14)  # of a story


T = TypeVar("T")
Entry = tuple[str, ...]


def _table(text: str) -> list[Entry]:
    return [tuple(entry.replace("_", " ").split("|")) for entry in "|".join(text.split()).split(",|")]


LEXICON: dict[str, Sequence[Entry]] = {
    # German, gender, plural, English, plural
    "people": _table(
        """Mann m Männer man men, Frau f Frauen woman women, Kind n Kinder child children, Ärztin f Ärztinnen doctor
        doctors, Bäcker m Bäcker baker bakers, Schwester f Schwestern sister sisters, Bruder m Brüder brother brothers,
        Mädchen n Mädchen girl girls, König m Könige king kings, Dieb m Diebe thief thieves, Gast m Gäste guest guests,
        Künstlerin f Künstlerinnen artist artists"""
    ),
    "animals": _table(
        """Hund m Hunde dog dogs, Katze f Katzen cat cats, Pferd n Pferde horse horses, Vogel m Vögel bird birds,
        Maus f Mäuse mouse mice, Schaf n Schafe sheep sheep"""
    ),
    "things": _table(
        """Buch n Bücher book books, Brief m Briefe letter letters, Apfel m Äpfel apple apples, Ei n Eier egg eggs,
        Zeitung f Zeitungen newspaper newspapers, Kuchen m Kuchen cake cakes, Blume f Blumen flower flowers,
        Stuhl m Stühle chair chairs, Messer n Messer knife knives, Uhr f Uhren clock clocks, Bild n Bilder picture
        pictures, Schachtel f Schachteln box boxes"""
    ),
    # German, English
    "adjectives": _table(
        """alt old, neu new, klein small, groß big, jung young, schön beautiful, langsam slow, rot red, blau blue,
        weiß white, traurig sad, reich rich, stark strong, klug clever, laut loud, kalt cold, hässlich ugly, ehrlich
        honest"""
    ),
    # (prefix-)infinitive, third person, participle, English, third person, past
    "alone": _table(
        """schlafen schläft geschlafen sleep sleeps slept, arbeiten arbeitet gearbeitet work works worked,
        lachen lacht gelacht laugh laughs laughed, weinen weint geweint cry cries cried, singen singt gesungen sing
        sings sang, auf-hören hört gehört stop stops stopped, auf-geben gibt gegeben give_up gives_up gave_up"""
    ),
    "with_people": _table(
        """sehen sieht gesehen see sees saw, lieben liebt geliebt love loves loved, suchen sucht gesucht look_for
        looks_for looked_for, kennen kennt gekannt know knows knew, treffen trifft getroffen meet meets met,
        an-rufen ruft gerufen call calls called, ein-laden lädt geladen invite invites invited"""
    ),
    "with_things": _table(
        """kaufen kauft gekauft buy buys bought, malen malt gemalt paint paints painted, tragen trägt getragen carry
        carries carried, nehmen nimmt genommen take takes took, stehlen stiehlt gestohlen steal steals stole,
        weg-werfen wirft geworfen throw_away throws_away threw_away, auf-heben hebt gehoben pick_up picks_up
        picked_up"""
    ),
    "giving": _table(
        """geben gibt gegeben give gives gave, zeigen zeigt gezeigt show shows showed, schicken schickt geschickt send
        sends sent, leihen leiht geliehen lend lends lent"""
    ),
}
CAST = dict(people=2, animals=1, things=2, adjectives=2, alone=2, with_people=1, with_things=1, giving=1)  # of a story
FRAMES = {  # the objects of a kind of verb: their case and kind
    "alone": (),
    "with_people": (("acc", "people"),),
    "with_things": (("acc", "things"),),
    "giving": (("dat", "people"), ("acc", "things")),
}
# With the form of the verb: 0 ich; 1 er, sie, es and any noun; 2 wir, sie and any plural.
PRONOUNS = (("ich", "I", 0), ("er", "he", 1), ("sie", "she", 1), ("es", "it", 1), ("wir", "we", 2), ("sie", "they", 2))
HAVE = ("habe", "hat", "haben")
MODALS = (("soll soll sollen", "should"), ("darf darf dürfen", "may"), ("werde wird werden", "will"))
TIMES = (("heute", "today"), ("manchmal", "sometimes"), ("am Sonntag", "on Sunday"), ("im Sommer", "in summer"))
LINKS = (("weil", "because"), ("obwohl", "although"), ("wenn", "when"), ("während", "while"), ("bevor", "before"))
QUESTIONS = (("", ""), ("warum", "why"), ("wann", "when"))
DETERMINERS = (  # stem, row of `ENDINGS`, English; of the singular, of the plural
    (("d", "d", "the"), ("ein", "ein", "a"), ("dies", "dies", "this"), ("mein", "ein", "my"), ("unser", "ein", "our")),
    (("d", "d", "the"), ("dies", "dies", "these"), ("mein", "ein", "my"), ("unser", "ein", "our")),
)
COLUMNS = "mfnp"  # of `ENDINGS`: the genders, the plural
_WEAK = {"nom": ("e", "e", "e", "en"), "acc": ("en", "e", "e", "en"), "dat": ("en", "en", "en", "en")}
ENDINGS = {  # of a determiner, and of an adjective behind it
    "d": ({"nom": ("er", "ie", "as", "ie"), "acc": ("en", "ie", "as", "ie"), "dat": ("em", "er", "em", "en")}, _WEAK),
    "dies": ({"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")}, _WEAK),
    "ein": (
        {"nom": ("", "e", "", "e"), "acc": ("en", "e", "", "e"), "dat": ("em", "er", "em", "en")},
        {"nom": ("er", "e", "es", "en"), "acc": ("en", "e", "es", "en"), "dat": ("en", "en", "en", "en")},
    ),
}


class _Speaker:
    """Draws sentences, one after the other."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random
        self._words = LEXICON

    def _pick(self, items: Sequence[T]) -> T:
        return items[int(self._random() * len(items))]

    def sentence(self) -> tuple[str, str]:
        """A sentence in both languages, with capital letter and full stop."""
        kind, end = self._random(), "."
        if kind < 0.3:
            de, en = self._clause("second")
        elif kind < 0.5:
            when, (de, en) = self._pick(TIMES), self._clause("first")
            de, en = f"{when[0]} {de}", f"{when[1]} {en}"
        elif kind < 0.6:
            asked, (de, en), end = self._pick(QUESTIONS), self._clause("first", is_question=True), "?"
            de, en = f"{asked[0]} {de}".strip(), f"{asked[1]} {en}".strip()
        else:
            link, sub, is_first = self._pick(LINKS), self._clause("last"), self._random() < 0.5
            main = self._clause("first" if is_first else "second")
            clauses = [(f"{link[0]} {sub[0]}", f"{link[1]} {sub[1]}"), main]
            german, english = zip(*(clauses if is_first else clauses[::-1]), strict=True)
            de, en = ", ".join(german), (", " if is_first else " ").join(english)
        return de[0].upper() + de[1:] + end, en[0].upper() + en[1:] + end

    def _clause(self, order: str, is_question: bool = False) -> tuple[str, str]:
        """Who does what; in German with the finite verb "first", "second", or "last"."""
        subject, frame, is_negative = self._subject(), self._pick([*FRAMES]), self._random() < 0.15
        objects = [self._noun_phrase(*phrase) for phrase in FRAMES[frame]]
        infinitive, third, participle, base, bases, past = self._pick(self._words[frame])
        prefix, _, infinitive = infinitive.rpartition("-")
        person, tense, plain = subject[2], self._pick(("now", "now", "past", "past", "modal")), ""
        if tense == "now":
            finite, last, gap = (infinitive[:-1], third, infinitive)[person], prefix, ""
            helper, plain = ("does", bases) if person == 1 else ("do", base)
        elif tense == "past":
            finite, last, gap, helper, plain = HAVE[person], prefix + participle, " ", "did", past
        else:
            forms, helper = self._pick(MODALS)
            finite, last, gap = forms.split()[person], prefix + infinitive, " "
        middle = [de for de, _, _ in objects] + ["nicht"] * is_negative
        if order == "last":
            german = [subject[0], *middle, last + gap + finite]
        else:
            german = [*([finite, subject[0]] if order == "first" else [subject[0], finite]), *middle, last]
        negation = ["not"] * is_negative
        if is_question:
            english = [helper, subject[1], *negation, base]
        else:
            english = [subject[1], *([plain] if plain and not negation else [helper, *negation, base])]
        return " ".join(filter(None, german)), " ".join([*english, *(en for _, en, _ in objects)])

    def _subject(self) -> tuple[str, str, int]:
        kind = self._random()
        return self._pick(PRONOUNS) if kind < 0.25 else self._noun_phrase("nom", "animals" if kind < 0.5 else "people")

    def _noun_phrase(self, case: str, kind: str) -> tuple[str, str, int]:
        """Determiner, perhaps an adjective, noun; in both languages, and the form of the verb beside it."""
        (de, gender, plural, en, plural_en), is_plural = self._pick(self._words[kind]), self._random() < 0.3
        if is_plural:
            de, gender, en = plural + "n" * (case == "dat" and plural[-1] != "n"), "p", plural_en
        stem, row, article = self._pick(DETERMINERS[is_plural])
        ending, adjective_ending = (table[case][COLUMNS.index(gender)] for table in ENDINGS[row])
        if self._random() < 0.35:
            adjective, english = self._pick(self._words["adjectives"])
            de, en = f"{adjective}{adjective_ending} {de}", f"{english} {en}"
        article = "an" if article == "a" and en[0] in "aeiou" else article
        return f"{stem}{ending} {de}", f"{article} {en}", 1 + is_plural


class _Narrator(_Speaker):
    """Draws English sentences of the same few words, until a new story begins."""

    def begin(self) -> None:
        """A new cast."""
        self._words = dict(LEXICON)
        for kind, count in CAST.items():
            rest = [*LEXICON[kind]]
            self._words[kind] = [rest.pop(int(self._random() * len(rest))) for _ in range(count)]

    def story(self) -> list[str]:
        """The sentences of a story."""
        self.begin()
        low, high = SENTENCES
        return [self.sentence()[1] for _ in range(low + int(self._random() * (high - low + 1)))]

    def pairs(self, count: int) -> Examples:
        """Label 1: both sentences are of one story; each label half of the time."""
        first, second, labels = list[str](), list[str](), list[int]()
        for _ in range(count):
            is_same = self._random() < 0.5
            self.begin()
            first.append(self.sentence()[1])
            if not is_same:
                self.begin()
            second.append(self.sentence()[1])
            labels.append(int(is_same))
        return Examples(first, second, labels)


def grammar_texts(seed: int = DEFAULT_SEED, counts: Mapping[str, int] = COUNTS) -> dict[str, Texts]:
    """German and English sentences of each part in ``counts``; no sentence of either language comes twice.

    A smaller training part is the beginning of a larger one, whatever its size: it is drawn last.
    """
    if any(n < 1 for n in counts.values()):
        raise UserError(f"{counts} leaves a part without sentences; expected at least 1 in each.")
    speaker, seen, parts = _Speaker(seed), set[str](), dict[str, Texts]()
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
    languages: tuple[str, str] = LANGUAGES,
    *,
    pieces: int = MOST_PIECES,
    seed: int = DEFAULT_SEED,
    counts: Mapping[str, int] = COUNTS,
) -> PairDataset:
    """The sentences as tokens of at most `MOST_PIECES` pieces, from either language into the other.

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


def stories_texts(seed: int = DEFAULT_SEED, counts: Mapping[str, int] = STORY_COUNTS) -> dict[str, list[list[str]]]:
    """Stories, each a list of sentences, of the parts "train" and "test"."""
    narrator = _Narrator(seed)
    return {part: [narrator.story() for _ in range(n)] for part, n in counts.items()}


def stories_task(seed: int = DEFAULT_SEED + 1, counts: Mapping[str, int] = TASK_COUNTS) -> TaskTexts:
    """Whether two sentences are of one story."""
    narrator = _Narrator(seed)
    parts = {part: narrator.pairs(n) for part, n in counts.items()}
    return TaskTexts("accuracy", 2, TASK_SOURCE, False, **parts)


def stories_dataset(
    pieces: int, tasks: Mapping[str, TaskTexts] | None = None, counts: Mapping[str, int] = STORY_COUNTS
) -> SentenceDataset:
    """Stories as tokens of ``pieces`` at most, or 400; with their own task, unless others are given."""
    tasks = {STORIES: stories_task()} if tasks is None else tasks
    texts = stories_texts(counts=counts)
    return SentenceDataset.from_texts(
        STORIES, STORIES_SOURCE, is_real=False, train=texts["train"], test=texts["test"], pieces=pieces, tasks=tasks
    )
