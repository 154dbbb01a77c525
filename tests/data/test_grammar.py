"""The stand-in for translations: exact, grammatical, never twice the same, and named as what it is."""

from __future__ import annotations

import hashlib
import re
import time

import pytest

from mutransfer.data.standins import grammar
from mutransfer.data.standins.grammar import LEXICON, LINKS, MODALS, grammar_dataset, grammar_texts
from mutransfer.errors import UserError

COUNTS = {"test": 200, "valid": 200, "train": 3000}
TEXTS = grammar_texts(counts=COUNTS)
PAIRS = list(zip(*TEXTS["train"], strict=True))
NOUNS = [noun for kind in ("people", "animals", "things") for noun in LEXICON[kind]]
VERBS = [verb for kind in ("alone", "with_people", "with_things", "giving") for verb in LEXICON[kind]]


def test_the_same_sentences_everywhere() -> None:
    """On every machine and version of Python, or two results on the stand-in could not be compared."""
    text = "\n".join("\n".join(side) for lines in TEXTS.values() for side in lines)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "f0cbad73543ff977"
    start = time.process_time()
    assert grammar_texts(counts=COUNTS) == TEXTS != grammar_texts(1, COUNTS)
    assert time.process_time() - start < 2  # a newcomer does not wait for the stand-in


def test_no_sentence_comes_twice() -> None:
    """In neither language, within a part or across: a test on seen sentences would measure memory."""
    for side in (0, 1):
        everything = [line for lines in TEXTS.values() for line in lines[side]]
        assert len(set(everything)) == len(everything) == sum(COUNTS.values())


def test_a_smaller_training_part_is_the_beginning() -> None:
    """And the other parts are the same: losses over sizes of the training part are comparable."""
    assert grammar.COUNTS == {"test": 1000, "valid": 1000, "train": 20_000}
    small = grammar_texts(counts=COUNTS | {"train": 50})
    assert small["test"] == TEXTS["test"] and small["valid"] == TEXTS["valid"]
    assert small["train"] == (TEXTS["train"][0][:50], TEXTS["train"][1][:50])


def test_sentences_are_written_as_such() -> None:
    """A capital letter, one end, single spaces, commas behind their word."""
    for sentence in (line for pair in PAIRS for line in pair):
        assert sentence[0].isupper() and re.fullmatch(r"\w+(,? \w+)*[.?]", sentence), sentence


def test_articles_and_adjectives_agree() -> None:
    """Gender, number and case: only the forms that German has, and every article and gender is seen."""
    articles = {"nom": ("der", "die", "das", "die"), "acc": ("den", "die", "das", "die")}
    right: dict[str, set[str]] = {}
    for case, forms in (articles | {"dat": ("dem", "der", "dem", "den")}).items():
        for noun, gender, plural, *_ in NOUNS:
            right.setdefault(noun, set()).add(forms["mfn".index(gender)])
            dative_n = "n" * (case == "dat" and not plural.endswith("n"))
            right.setdefault(plural + dative_n, set()).add(forms[3])
    genders = {noun: gender for noun, gender, *_ in NOUNS}
    seen, adjectives = set[str](), 0
    for german, _ in PAIRS:
        for article, form in re.findall(r"\b([Dd](?:er|ie|as|en|em)) (?:[a-zäöüß]+ )?([A-ZÄÖÜ]\w+)", german):
            assert article.lower() in right[form], german
            seen.add(article.lower())
        for ending, noun in re.findall(r"\b[Ee]in [a-zäöüß]+?(er|es|e|en) ([A-ZÄÖÜ]\w+)", german):
            assert {"m": "er", "n": "es"}[genders[noun]] == ending, german  # "ein" does not show the gender
            adjectives += 1
        for ending in re.findall(r"\b(?:[dD]em|einem|einer|unserem|diesem) [a-zäöüß]+?(en|e|er|es) [A-ZÄÖÜ]", german):
            assert ending == "en", german  # of the dative
    assert seen == {"der", "die", "das", "den", "dem"} and adjectives > 50


def test_verbs_agree_and_stand_where_they_belong() -> None:
    """Second in main clauses, last in subordinate ones, first in questions: the order that a model has to learn."""
    finite: dict[str, set[int]] = {}  # each form, and whom it goes with: ich; er, sie, es; wir
    for forms in (grammar.HAVE, *(forms.split() for forms, _ in MODALS)):
        for person, form in enumerate(forms):
            finite.setdefault(form, set()).add(person)
    split = set[str]()
    for infinitive, third, *_ in VERBS:
        prefix, _, rest = infinitive.rpartition("-")
        for person, form in enumerate((rest[:-1], third, rest)):
            for whole in {form, prefix + form}:
                finite.setdefault(whole, set()).add(person)
            split |= {prefix} - {""}
    links, persons = "|".join(link for link, _ in LINKS), {"ich": {0}, "wir": {2}, "er": {1}, "es": {1}, "sie": {1, 2}}
    last = inverted = torn = 0
    for german, _ in PAIRS:
        if clause := re.search(rf"\b(?:{links}|{links.title()}) (\w+)([^,.]*) (\w+)[,.]", german):
            assert finite[clause[3]] & persons.get(clause[1], {1, 2}), german
            last += 1
        if clause := re.fullmatch(rf"(?:{links.title()}) [^,]+, (\w+) (\w+)[^,]*\.", german):
            assert finite[clause[1]] & persons.get(clause[2], {1, 2}), german
            inverted += 1
        torn += german[:-1].split()[-1] in split
    assert min(last, inverted, torn) > 50


def test_english_is_english() -> None:
    """Third persons, plurals, "a" and "an", "do" in questions and before "not"."""
    for _, english in PAIRS:
        assert not re.search(r"\b[aA] [aeiou]|\b[aA]n [^aeiou]", english), english
        wrong = r"\b([Hh]e|[Ss]he|[Ii]t) do\b|\b(I|[Ww]e|[Tt]hey) does\b"
        assert not re.search(wrong, english), english
        assert " not " not in english or re.search(r"\b(do|does|did|should|may|will)\b", english.lower()), english
    for word in (" an ", "women", "children", "mice", "thieves", "Does ", "Why did "):
        assert any(word in english for _, english in PAIRS), word


def test_translations_say_the_same() -> None:
    """The same number of "not", of questions, and of each noun: both sides come from one rule."""
    german_of = {en: {de, plural, plural + "n"} for de, _, plural, en, _ in NOUNS}
    german_of |= {plural_en: german_of[en] for _, _, _, en, plural_en in NOUNS}
    for german, english in PAIRS:
        assert (german[-1] == "?") == (english[-1] == "?")
        de, en = re.findall(r"\w+", german), re.findall(r"\w+", english)
        assert de.count("nicht") == en.count("not"), (german, english)
        for word in german_of.keys() & {*en}:
            assert german_of[word] & {*de}, (german, english)


def test_it_says_what_it_is() -> None:
    """Nobody can mistake it for a corpus; its vocabulary is small, whatever is wanted."""
    dataset = grammar_dataset(pieces=10_000, counts=COUNTS)
    assert not dataset.is_real and dataset.name == "grammar"
    assert dataset.source.startswith("STAND-IN: synthetic") and "no real text" in dataset.source
    assert dataset.vocab == grammar.MOST_PIECES and dataset.count("train") == COUNTS["train"]
    assert dataset.references("test") == TEXTS["test"][1]
    assert min(int(tokens.min()) for tokens in (dataset.test_source, dataset.test_target)) > 3  # nothing unknown


def test_either_language_is_the_source() -> None:
    """The other direction has the same sentences; a third language is refused with what there is."""
    counts = {"test": 5, "valid": 5, "train": 50}
    dataset = grammar_dataset(("en", "de"), pieces=150, counts=counts)
    german, english = grammar_texts(counts=counts)["test"]
    assert dataset.sources("test") == english and dataset.references("test") == german
    assert (dataset.source_lang, dataset.target_lang, dataset.vocab) == ("en", "de", 150)
    with pytest.raises(UserError, match="fr-en; expected de-en or en-de"):
        grammar_dataset(("fr", "en"))
    with pytest.raises(UserError, match="at least 1"):
        grammar_texts(counts={"train": 0})
