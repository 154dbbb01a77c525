"""Sentences, chapters and documents: tricky ends of sentences, and that no word is lost or added."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_scripts import prose

CASES = [
    "She came. | He went! | Why? | No … | Well.",
    "Mr. Weston and Mrs. J. R. Elton met Dr. Grant at St. James's. | They talked.",
    "The U.S. Navy came. | It left.",
    "See No. 5, vol. 2, p. 10, of Jan. 3. | No. | I will not.",
    "It cost 3.50 pounds in 1850. | 23 men paid.",
    "“Who's that?” asked the Major. | “Law!” | “No!”",
    "\"Ah!\" said he. | 'Oh, yes!' she cried. | 'No.'",
    'He said "Go." | "No," said she.',
    "(It rained.) | [Exeunt.] | The end.",
    "So said I. | Then J. Smith left.",
    "How was she to bear it?-- | It was true.-- | Miss Taylor married.",
    "He waited . . . and waited . . . | Then he left.",
    "Wait... what? | Yes.",
    "Lord—no! | The day ended.— | Éva smiled.",
    "e.g. The law, i.e. The rule, viz. This one.",
    "At five p.m. he came, cf. Darwin etc. and so on.",
    "Really?! | Yes!!! | “(What?)” | Good.",
]


@pytest.mark.parametrize("case", CASES)
def test_sentences_end_where_they_should(case):
    """Abbreviations, initials, quotes, dashes."""
    assert prose.sentences(case.replace(" | ", " ")) == case.split(" | ")


@given(st.text(st.sampled_from("aB1 .?!…\"'”)-—(IMr"), max_size=60))
def test_no_character_is_lost(text):
    """Whatever the text, its sentences are the text but for white space, and none is empty."""
    paragraph = " ".join(text.split())
    found = prose.sentences(paragraph)
    assert "".join("".join(found).split()) == "".join(paragraph.split())
    assert all(sentence == sentence.strip() != "" for sentence in found)


def test_line_ends_are_spaces():
    """Inside of a paragraph; blank lines, with spaces or not, are between two."""
    text = "One line\r\ngoes on.\r\n\r\n  Two\n \n\nThree.\n"
    assert prose.paragraphs(text) == ["One line goes on.", "Two", "Three."]
    assert prose.blocks(text) == [["One line goes on."], ["Two"], ["Three."]]
    anarchism = [["Anarchism", "Is a view. It has roots."], ["Next"]]
    assert prose.blocks("Anarchism\nIs a view. It\nhas roots.\n\n\nNext\n") == anarchism
    assert prose.blocks('all small .\nletters ? "\nhere\nit is') == [["all small .", 'letters ? "', "here it is"]]
    assert prose.paragraphs(" \n\n") == prose.blocks("\n \n") == []


HEADINGS = ["CHAPTER XIII", "Chapter 1", "VOLUME I", "BOOK FIRST", "Part the Second: Home", "Letter 4", "XIV", "7."]
HEADINGS += ["CHAPTER 34. MY AUNT ASTONISHES ME", "CHAPTER XVI - Tom-all-Alone's", "II. The Mail", "3 - A Sound"]
OTHERS = ["I said so.", "Part of it was gone.", "A letter came.", "Mix", "i", "CHAPTER I " + "x" * 80, "1850s"]


def test_headings():
    """Short lines of a few forms; what only begins like one is text."""
    assert [line for line in HEADINGS if not prose.is_heading(line)] == []
    assert [line for line in OTHERS if prose.is_heading(line)] == []


def test_chapters_are_documents():
    """Without their headings; a long one is cut; headings in a row begin one document."""
    found = ["VOLUME I", "CHAPTER I", "One. Two.", "Three.", "CHAPTER II", "Four. Five. Six. Seven.", "THE END"]
    parts = [["One.", "Two.", "Three."], ["Four.", "Five.", "Six."], ["Seven.", "THE END"]]
    assert list(prose.chapters(found, 3)) == parts
    assert list(prose.chapters(["No heading."], 3)) == [["No heading."]]
    assert list(prose.chapters(["XIV"], 3)) == []
