"""The scripts for translation on made-up corpora: where they look, what they refuse, what they say, and how fast."""

import functools

import pytest
from corpus_files import ENGLISH, GERMAN, SCRIPTS, put, sides

from data_scripts import iwslt14, multi30k, parallel, wmt14
from data_scripts.parallel import Cleaning
from data_scripts.places import Missing
from mutransfer.data.pairs import PARTS
from mutransfer.errors import UserError

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("name", SCRIPTS)
def test_prepared_files_come_first(folder, name, monkeypatch):
    """Taken as they are; named as other text unless their sizes are the documented ones."""
    put(folder / name, sides())
    script = SCRIPTS[name]
    dataset = script.load(folder, languages=("de", "en"), pieces=150)
    assert dataset.source == f"other text in the place of {name.upper()} de-en, 100 training pairs, joint-bpe-150"
    assert dataset.references("test") == ENGLISH[106:110] and dataset.is_real
    monkeypatch.setattr(script, "COUNTS", {"train": 101, "valid": 6, "test": 4})
    assert script.load(folder, languages=("en", "de"), pieces=150).source.startswith(f"{name.upper()} en-de, ")


@pytest.mark.parametrize(
    ("name", "valid", "test"),
    [("iwslt14", "val", "test_2016_flickr"), ("wmt14", "dev", "newstest2014"), ("wmt14", "newstest2012", "test")],
)
def test_any_corpus_works(tmp_path, name, valid, test):
    """Files as Multi30k, WMT and others name them; both directions; it gives the data set its name."""
    place = put(tmp_path / "mine", sides(("train", valid, test)))
    dataset = SCRIPTS[name].load(corpus=place, languages=("en", "de"), pieces=150)
    assert (dataset.name, dataset.is_real, dataset.vocab) == ("mine", True, 150)
    assert dataset.source == "parallel corpus mine en-de, 100 training pairs, joint-bpe-150"
    assert (dataset.source_lang, dataset.target_lang) == ("en", "de")
    assert dataset.sources("valid") == ENGLISH[100:106] and dataset.references("test") == GERMAN[106:110]


def test_names_can_be_given(tmp_path):
    """Where the rule finds none, or another; the first name of the rule wins."""
    place = put(tmp_path / "mine", sides(("train", "val", "test"), ("xx", "yy")))
    put(place, {f"extra.{x}": ["Der Mann."] for x in ("xx", "yy")} | {f"dev.{x}": ["Es."] for x in ("xx", "yy")})
    load = functools.partial(iwslt14.load, corpus=place, languages=("xx", "yy"), pieces=150)
    assert load().count("valid") == 6
    assert load(names={"test": "extra"}).references("test") == ["Der Mann."]
    with pytest.raises(UserError, match="Did you mean 'extra'"):
        load(names={"test": "extras"})


def test_lines_are_tidied_and_empty_pairs_left_out(tmp_path):
    """Moses' escapes are undone in text and references; a training pair without a side teaches nothing."""
    place = put(tmp_path / "mine", sides())
    put(place, {"train.de": [*GERMAN[:100], ""], "train.en": [*ENGLISH[:100], "alone"]})
    put(place, {"test.de": ["Er  sagt : &quot; A &amp; B &quot;\r"], "test.en": ["&#91; it &apos;s &#93;"]})
    dataset = wmt14.load(corpus=place, languages=("de", "en"), pieces=150)
    assert dataset.count("train") == 100
    assert dataset.sources("test") == ['Er sagt : " A & B "'] and dataset.references("test") == ["[ it 's ]"]


def test_cleaning_and_lower_case_are_options(tmp_path):
    """Named in the source; the references follow the case, the other parts are never cleaned."""
    place = put(tmp_path / "mine", sides())
    put(place, {"valid.de": ["Kurz."], "valid.en": ["One side is much longer than the other."]})
    put(place, {"train.de": [*GERMAN[:100], "Kurz."], "train.en": [*ENGLISH[:100], "Far longer than the other one."]})
    load = functools.partial(iwslt14.load, corpus=place, pieces=150)
    kept = sum(iwslt14.CLEANING.keeps(*pair) for pair in zip(GERMAN[:100], ENGLISH[:100], strict=True))
    dataset = load(clean=True, lowercase=True)
    assert dataset.source == f"parallel corpus mine de-en, {kept} of 101 training pairs, lower-cased, joint-bpe-150"
    assert dataset.references("valid") == ["one side is much longer than the other."]
    assert load().count("train") == 101 and load().references("valid")[0].startswith("One")
    put(place, {"train.de": ["Kurz."], "train.en": ["Far longer than the other one."]})
    with pytest.raises(UserError, match="no training pair left of 1"):
        load(clean=True)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"train.en": ENGLISH[:99]}, r"train\.de has 100 lines, but train\.en 99"),
        ({"valid.en": None}, r"has valid\.de, but no valid\.en; .*found: de"),
        (
            {"valid.en": None, "valid.de": None},
            r"no valid part: expected valid\.de and \.en .*found test\.de, test\.en",
        ),
        ({"train.de": ["Sch@@ lüssel"] * 100}, r"train\.de is cut into subwords already"),
        (None, "does not exist"),
    ],
)
def test_a_broken_corpus_is_refused(tmp_path, files, says):
    """One line that names the file, what was expected, and what is there."""
    place = put(tmp_path / "mine", sides()) if files is not None else tmp_path / "no-such"
    for name, content in (files or {}).items():
        (place / name).unlink() if content is None else put(place, {name: content})
    with pytest.raises(UserError, match=says) as error:
        wmt14.load(corpus=place, languages=("de", "en"))
    assert "\n" not in str(error.value)


@pytest.fixture
def asked(hub, monkeypatch):
    """The hub has a made-up WMT14; the list of what it was asked for."""
    cuts = {"train": slice(0, 100), "validation": slice(100, 106), "test": slice(106, 110)}

    def rows(_, split):
        sides = [*zip(GERMAN[cuts[split]], ENGLISH[cuts[split]], strict=True)]
        if split == "train":
            sides += [("Kurz.", "One side is\n much longer than the other."), ("", "nothing")]
        yield from ({"translation": {"de": de, "en": en}} for de, en in sides)

    hub.rows[wmt14.HUB] = rows
    monkeypatch.setattr(wmt14, "COUNTS", {"train": 102, "valid": 6, "test": 4})
    return hub.asked


def test_wmt14_is_downloaded_cleaned_and_kept(folder, asked, capsys):
    """The hub's rows become files, and the next run asks nobody; a place that cannot keep them is no reason to stop."""
    folder.chmod(0o555)
    try:
        unkept = wmt14.load(folder, pieces=150)
    finally:
        folder.chmod(0o755)
    assert "read-only" in capsys.readouterr().err and asked
    asked.clear()
    kept = sum(wmt14.CLEANING.keeps(*pair) for pair in zip(GERMAN[:100], ENGLISH[:100], strict=True))
    dataset = wmt14.load(folder, pieces=150)
    assert asked == [("wmt/wmt14", "de-en", split, True) for split in ("validation", "test", "train")]
    assert dataset.source == f"WMT14 en-de, {kept} of 101 training pairs, joint-bpe-150" and dataset.is_real
    assert dataset.sources("valid") == ENGLISH[100:106] and dataset.references("test") == GERMAN[106:110]
    files = sorted(path.name for path in (folder / "wmt14").iterdir() if path.is_file())
    assert files == sorted(f"{part}.{language}" for part in PARTS for language in ("de", "en"))
    again = wmt14.load(folder, pieces=150)
    assert again.fingerprint == dataset.fingerprint == unkept.fingerprint
    assert again.folder == dataset.folder and len(asked) == 3
    assert wmt14.load(folder, pieces=150, clean=False).count("train") == 101


def test_half_of_wmt14_is_not_kept(folder, asked, hub, capsys):
    """Or it would be taken for the whole, for ever."""
    whole = hub.rows[wmt14.HUB]
    hub.rows[wmt14.HUB] = lambda config, split: [*whole(config, split), {"gone": 0}]
    assert not wmt14.load(folder).is_real and "wmt14 from the Hugging Face hub failed" in capsys.readouterr().err
    assert not list(folder.rglob("*"))


def test_multi30k(tmp_path, monkeypatch):
    """Lower case unless told otherwise, for BLEU too; other sizes are another text; no stand-in and no download."""
    with pytest.raises(Missing, match=f"expected {tmp_path / multi30k.FOLDER / 'train'}.de"):
        multi30k.load(tmp_path)
    place = put(tmp_path / multi30k.FOLDER, sides(("train", "val", "test")))
    lowered = multi30k.load(tmp_path, pieces=150)
    assert lowered.references("test") == [line.lower() for line in ENGLISH[106:110]]
    assert lowered.source == "other text in the place of Multi30k de-en, 100 training pairs, lower-cased, joint-bpe-150"
    monkeypatch.setattr(multi30k, "COUNTS", {"train": 100, "valid": 6, "test": 4})
    cased = multi30k.load(tmp_path, pieces=150, lowercase=False)
    assert cased.references("test") == ENGLISH[106:110] and cased.fingerprint != lowered.fingerprint
    assert cased.source == "Multi30k de-en, 100 training pairs, joint-bpe-150"
    assert multi30k.load(corpus=place, pieces=150).source.startswith("parallel corpus multi30k_de_en de-en")
    (place / "val.en").unlink()
    with pytest.raises(UserError, match=r"val\.de, but no val\.en"):
        multi30k.load(tmp_path)


# 1.5; signs are words: 4 to 3; one word each; 175; one word, whatever the letters
KEPT = [("a b c", "a b"), ("a b c.", "a, b"), ("a" * 500, "b"), ("a " * 175, "b " * 175), ("größe", "x")]
LEFT_OUT = [("a b c d", "a b"), ("a b", "a b c d"), ("a " * 176, "b " * 175), ("", ""), ("a", "")]


def test_cleaning_is_moses():
    """Ratio at most 1.5 either way, 1 to 175 words: by hand."""
    first, second = zip(*KEPT[:2], *LEFT_OUT, *KEPT[2:], strict=True)
    assert list(zip(*parallel.clean(([*first], [*second]), Cleaning()), strict=True)) == KEPT
    assert Cleaning(ratio=2).keeps(*LEFT_OUT[0]) and Cleaning(most=176).keeps(*LEFT_OUT[2])
    assert not Cleaning(least=3).keeps(*KEPT[0])


def test_steps_on_lines():
    """Every n-th from the n-th on, as awk's NR%n; white space and Moses' escapes."""
    lines = ([str(i) for i in range(1, 48)], [f"-{i}" for i in range(1, 48)])
    train, valid = parallel.split_every(lines, 23)
    assert valid == (["23", "46"], ["-23", "-46"])
    assert train[0] == [line for line in lines[0] if line not in ("23", "46")]
    tidy = parallel.tidy(" a\u2028b\xa0 c\t&quot;d&apos;s&quot; &amp;lt; &#91;&#124;&#93; &euro;\r")
    assert tidy == 'a b c "d\'s" &lt; [|] &euro;'
