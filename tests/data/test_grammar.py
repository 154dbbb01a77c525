"""The stand-in for translations: exact, grammatical, never twice the same, and named as what it is."""

import hashlib
import re

import pytest

from mutransfer.data.standins import grammar
from mutransfer.data.standins.grammar import LEXICON, LINKS, TIMES, grammar_dataset, grammar_texts
from mutransfer.errors import UserError

COUNTS = {"test": 200, "valid": 200, "train": 3000}
TEXTS = grammar_texts(COUNTS)
PAIRS = list(zip(*TEXTS["train"], strict=True))
NOUNS = [noun for kind in ("people", "animals", "things") for noun in LEXICON[kind]]
VERBS = [verb for kind in grammar.OBJECTS for verb in LEXICON[kind]]


def test_the_same_sentences_everywhere():
    """On every machine, or two results could not be compared; a smaller training part is the beginning."""
    text = "\n".join("\n".join(side) for lines in TEXTS.values() for side in lines)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "e42a0d6ebdd8ae67"
    small = grammar_texts(COUNTS | {"train": 50})
    assert small == TEXTS | {"train": (TEXTS["train"][0][:50], TEXTS["train"][1][:50])}
    assert grammar.COUNTS == {"test": 1000, "valid": 1000, "train": 20_000}


def test_sentences_are_written_as_such_and_once():
    """A capital letter, single spaces, one end; a test on sentences that were seen would measure memory."""
    for side in (0, 1):
        everything = [line for lines in TEXTS.values() for line in lines[side]]
        assert len(set(everything)) == len(everything) == sum(COUNTS.values())
        for sentence in everything:
            assert sentence[0].isupper() and re.fullmatch(r"\w+(,? \w+)*\.", sentence), sentence


def test_articles_and_adjectives_agree():
    """Gender, number and case: only the forms that German has, and every article and gender is seen."""
    right = {}
    for noun, gender, plural, *_ in NOUNS:
        right.setdefault(noun, set()).update({"m": {"der", "den"}, "f": {"die"}, "n": {"das"}}[gender])
        right.setdefault(plural, set()).add("die")
    genders = {noun: gender for noun, gender, *_ in NOUNS}
    seen, adjectives = set(), 0
    for german, _ in PAIRS:
        for article, form in re.findall(r"\b([Dd](?:er|ie|as|en|em)) (?:[a-zäöüß]+ )?([A-ZÄÖÜ]\w+)", german):
            assert article.lower() in right[form], german
            seen.add(article.lower())
        for ending, noun in re.findall(r"\b(?:[Ee]|[Mm]e)in [a-zäöüß]+?(er|es|e|en) ([A-ZÄÖÜ]\w+)", german):
            assert {"m": "er", "n": "es"}[genders[noun]] == ending, german  # "ein" does not show the gender
            adjectives += 1
    assert seen == {"der", "die", "das", "den"} and adjectives > 50


def test_verbs_agree_and_stand_where_they_belong():
    """Behind a time first, in subordinate clauses last, its prefix at the end: the order that a model has to learn."""
    prefixes = {infinitive.rpartition("-")[0] for infinitive, *_ in VERBS} - {""}
    one, many = {"hat"} | {third for _, third, *_ in VERBS}, {"haben"} | {v.rpartition("-")[2] for v, *_ in VERBS}
    whole = {prefix + form for prefix in prefixes for form in one | many} | one | many
    plurals = {plural for _, _, plural, *_ in NOUNS} - {noun for noun, *_ in NOUNS}
    links, times = "|".join(link for link, _ in LINKS), "|".join(time[0].upper() + time[1:] for time, _ in TIMES)
    last = inverted = torn = 0
    for german, _ in PAIRS:
        if clause := re.search(rf", (?:{links}) .* (\w+)\.", german):
            assert clause[1] in whole, german
            last += 1
        if clause := re.match(rf"(?:{times}) (\w+) [^A-ZÄÖÜ]+([A-ZÄÖÜ]\w+)", german):
            assert clause[1] in (many if clause[2] in plurals else one | many), german
            inverted += 1
        torn += german[:-1].split(",")[0].split()[-1] in prefixes
    assert min(last, inverted, torn) > 50


def test_english_is_english_and_says_the_same():
    """Plurals, "a" and "an"; each noun is there in both languages: both sides come from one rule."""
    german_of = {en: {de, plural} for de, _, plural, en, _ in NOUNS}
    german_of |= {plural_en: german_of[en] for _, _, _, en, plural_en in NOUNS}
    for german, english in PAIRS:
        assert not re.search(r"\b[aA] [aeiou]|\b[aA]n [^aeiou]|\b[tT]his \w*(?:men|children|mice)\b", english), english
        for word in german_of.keys() & {*re.findall(r"\w+", english)}:
            assert german_of[word] & {*re.findall(r"\w+", german)}, (german, english)
    for word in (" an ", "women", "children", "mice", "thieves", "these ", "sang"):
        assert any(word in english for _, english in PAIRS), word


def test_it_says_what_it_is():
    """Nobody can mistake it for a corpus; its vocabulary is small, whatever is wanted."""
    dataset = grammar_dataset(pieces=10_000, counts=COUNTS)
    assert not dataset.is_real and dataset.name == "grammar"
    assert dataset.source.startswith("STAND-IN: synthetic") and "no real text" in dataset.source
    assert dataset.vocab == grammar.MOST_PIECES and dataset.count("train") == COUNTS["train"]
    assert min(int(side.tokens.min()) for side in dataset.pairs("test")) > 3  # nothing unknown


def test_either_language_is_the_source():
    """The other direction has the same sentences; a third language is refused with what there is."""
    counts = {"test": 5, "valid": 5, "train": 50}
    dataset = grammar_dataset(("en", "de"), pieces=150, counts=counts)
    german, english = grammar_texts(counts)["test"]
    assert dataset.sources("test") == english and dataset.references("test") == german
    assert (dataset.source_lang, dataset.target_lang, dataset.vocab) == ("en", "de", 150)
    with pytest.raises(UserError, match="fr-en; expected de-en or en-de"):
        grammar_dataset(("fr", "en"))
