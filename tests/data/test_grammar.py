"""The stand-in for translations: exact, grammatical, never twice the same, and named as what it is."""

from __future__ import annotations

import hashlib
import re
import time

import pytest

from mutransfer.data.standins import grammar, grammar_words
from mutransfer.data.standins.grammar import Clause, Phrase, grammar_dataset, grammar_texts
from mutransfer.data.standins.grammar_words import ANIMALS, PEOPLE, PERSONS, PLACES, ROOMS, THINGS, third
from mutransfer.errors import UserError

COUNTS = {"test": 200, "valid": 200, "train": 3000}
TEXTS = grammar_texts(counts=COUNTS)
PAIRS = list(zip(*TEXTS["train"], strict=True))
NOUNS = (*PEOPLE, *ANIMALS, *THINGS, *ROOMS, *PLACES)


def words(sentence: str) -> list[str]:
    """Words and commas."""
    return re.findall(r"\w+|,", sentence)


def test_the_same_sentences_everywhere() -> None:
    """On every machine and version of Python, or two results on the stand-in could not be compared."""
    text = "\n".join("\n".join(side) for lines in TEXTS.values() for side in lines)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "1daa20d1dabd0f9b"
    assert grammar_texts(counts=COUNTS) == TEXTS != grammar_texts(1, COUNTS)


def test_no_sentence_comes_twice() -> None:
    """In neither language, within a part or across: a test on seen sentences would measure memory."""
    for side in (0, 1):
        everything = [line for lines in TEXTS.values() for line in lines[side]]
        assert len(set(everything)) == len(everything) == sum(COUNTS.values())


def test_a_smaller_training_part_is_the_beginning() -> None:
    """And the other parts are the same: losses over sizes of the training part are comparable."""
    small = grammar_texts(counts=COUNTS | {"train": 50})
    assert small["test"] == TEXTS["test"] and small["valid"] == TEXTS["valid"]
    assert small["train"] == (TEXTS["train"][0][:50], TEXTS["train"][1][:50])


def test_sentences_are_written_as_such() -> None:
    """A capital letter, one end, single spaces, commas behind their word."""
    for sentence in (line for pair in PAIRS for line in pair):
        assert sentence[0].isupper() and re.fullmatch(r"[\w ,]+[.?]", sentence), sentence
        assert not re.search(r"  | [,.?]|,[^ ]|,[.?]", sentence), sentence


def test_every_noun_agrees_with_its_article() -> None:
    """Gender, number and case: only the forms that German has, and every gender is seen."""
    right: dict[str, set[str]] = {}
    articles = {"nom": ("der", "die", "das", "die"), "acc": ("den", "die", "das", "die")}
    for case, forms in (articles | {"dat": ("dem", "der", "dem", "den")}).items():
        for noun in NOUNS:
            right.setdefault(noun.german(case, False), set()).add(forms["mfn".index(noun.gender)])
            right.setdefault(noun.german(case, True), set()).add(forms[3])
    seen = set()
    for german, _ in PAIRS:
        # After a comma stands the pronoun of a relative clause.
        phrase = r"(?<!, )\b(der|die|das|den|dem) (?:[a-zäöüß]+e[nrsm]? )?([A-ZÄÖÜ]\w+)"
        for article, form in re.findall(phrase, german):
            if form not in (*PERSONS, "Essen"):
                assert article in right[form], german
                seen.add(article)
    assert seen == {"der", "die", "das", "den", "dem"}


def test_adjectives_agree() -> None:
    """After "ein" its ending shows the gender, after "der" it does not; in the dative it is always -en."""
    genders = {noun.de: noun.gender for noun in NOUNS}
    endings = {"m": "er", "n": "es"}
    found = 0
    for german, _ in PAIRS:
        for ending, noun in re.findall(r"\b[Ee]in \w+?(er|es|e|en) ([A-ZÄÖÜ]\w+)", german):
            assert endings[genders[noun]] == ending, german
            found += 1
        for ending in re.findall(
            r"\b(?:[dD]em|einem|einer|keinem|unserem|diesem) [a-zäöüß]+(en|e|er|es) [A-ZÄÖÜ]", german
        ):
            assert ending == "en", german
    assert found > 50


def test_verbs_come_last_in_subordinate_clauses() -> None:
    """And second in main ones: the order that a model has to learn; German and English differ in it."""
    verbs = (*grammar_words.ALONE, *grammar_words.WITH_PEOPLE, *grammar_words.WITH_THINGS, *grammar_words.GIVING)
    finite = {form for verb in verbs for form in (verb.third, verb.infinitive, verb.infinitive[:-1])}
    finite |= {verb.prefix + form for verb in verbs for form in (verb.third, verb.infinitive, verb.infinitive[:-1])}
    finite |= {form for forms in grammar_words.PERFECT.values() for form in forms}
    finite |= {form for modal in grammar_words.MODALS for form in modal.de}
    finite |= {form for table in grammar_words.BE.values() for form, _ in table}
    last = first = 0
    for german, english in PAIRS:
        links = "|".join(link for link, _ in grammar_words.LINKS)
        if found := re.fullmatch(rf"[^,]+, (?:{links}|dass) ([^,]+)\.", german):
            assert words(found[1])[-1] in finite, german
            last += words(english)[-1] not in words(found[1])
        if found := re.fullmatch(rf"(?:{links.title()}) ([^,]+), (\w+) [^,]+\.", german):
            assert words(found[1])[-1] in finite and found[2] in finite, german
            first += 1
    assert last > 100 and first > 100


def test_clauses_of_a_separable_verb() -> None:
    """Split in a main clause, joined at the end of a subordinate one; "do" where English needs it."""
    man = Phrase("der Mann", "the man")
    clause = Clause(man, "ruft", "an", True, "does", "call", "calls", False, ["die Frau"], ["the woman"])
    assert clause.german() == "der Mann ruft die Frau an" and clause.english() == "the man calls the woman"
    assert clause.german("heute") == "heute ruft der Mann die Frau an"
    assert clause.german("") == "ruft der Mann die Frau an"
    assert clause.german_final() == "der Mann die Frau anruft"
    assert clause.english_question() == "does the man call the woman"
    clause.is_negative = True
    assert clause.english() == "the man does not call the woman"
    perfect = Clause(man, "hat", "angerufen", False, "did", "call", "called", False, ["sie"], ["her"])
    assert perfect.german_final() == "der Mann sie angerufen hat" and perfect.german() == "der Mann hat sie angerufen"


def test_english_is_english() -> None:
    """Third persons, plurals, "a" and "an"."""
    assert [third(word) for word in ("go", "miss", "cry", "buy", "watch", "see", "have", "box", "city")] == [
        *("goes", "misses", "cries", "buys", "watches", "sees", "has", "boxes", "cities")
    ]
    for _, english in PAIRS:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", english), english
        wrong = r"\b(he|she|it) (do|have|want|are|were)\b|\b(I|we|they) (does|has|is)\b"
        assert english[-1] == "?" or not re.search(wrong, english), english
    assert any(" an " in english for _, english in PAIRS)
    assert any(word in english for _, english in PAIRS for word in ("women", "children", "mice", "loaves"))


def test_translations_say_the_same() -> None:
    """The same names, the same number of "not" and of questions: both sides come from one rule."""
    names = {*PERSONS}
    for german, english in PAIRS:
        assert sorted(names & {*words(german)}) == sorted(names & {*words(english)}), (german, english)
        assert (german[-1] == "?") == (english[-1] == "?")
        negations = len(re.findall(r"\bnot\b|\bcannot\b", english))
        assert words(german).count("nicht") == negations, (german, english)


def test_it_is_made_in_seconds() -> None:
    """Of twenty thousand pairs a sixth here: a newcomer does not wait for the stand-in."""
    start = time.process_time()
    grammar_texts(counts=COUNTS)
    assert time.process_time() - start < 2


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
