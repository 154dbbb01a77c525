"""The scripts for translation on made-up corpora: where they look, what they refuse, what they say, and how fast."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from corpus_files import ENGLISH, GERMAN, SCRIPTS, alone, assert_stand_in, corpus, put

from data_scripts import download, hub, iwslt14, wmt14
from data_scripts.places import Missing
from mutransfer.data import fairseq_format
from mutransfer.data.pairs import PARTS
from mutransfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty data folder; no network."""
    return alone(monkeypatch, tmp_path)


@pytest.mark.parametrize("name", SCRIPTS)
def test_turned_off_download_asks_nobody(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``download=False`` means it, even where the download would work."""
    monkeypatch.setattr(hub, "_knock", lambda name: pytest.fail("asked"))
    monkeypatch.setattr(download, "fetch", lambda *args: pytest.fail("asked"))
    assert_stand_in(SCRIPTS[name].load(folder, download=False), capsys.readouterr().err, name)


@pytest.mark.parametrize("name", SCRIPTS)
def test_prepared_files_come_first(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken as they are; named as other text unless their sizes are the documented ones."""
    corpus(folder / name)
    script = SCRIPTS[name]
    dataset = script.load(folder, languages=("de", "en"), pieces=150)
    assert dataset.source == f"other text in the place of {name.upper()} de-en, 100 training pairs, joint-bpe-150"
    assert dataset.references("test") == ENGLISH[106:110] and dataset.is_real
    monkeypatch.setattr(script, "COUNTS", {"train": 101, "valid": 6, "test": 4})
    assert script.load(folder, languages=("en", "de"), pieces=150).source.startswith(f"{name.upper()} en-de, ")


NAMES = [
    ("train", "val", "test_2016_flickr"),
    ("train", "dev", "newstest2014"),
    ("train", "newstest2012", "newstest2014"),
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("name", SCRIPTS)
def test_any_corpus_works(tmp_path: Path, name: str, names: tuple[str, str, str]) -> None:
    """Files as Multi30k, WMT and others name them; both directions; it gives the data set its name."""
    place = corpus(tmp_path / "mine", names)
    dataset = SCRIPTS[name].load(corpus=place, languages=("en", "de"), pieces=150)
    assert (dataset.name, dataset.is_real, dataset.vocab) == ("mine", True, 150)
    assert dataset.source == "parallel corpus mine en-de, 100 training pairs, joint-bpe-150"
    assert (dataset.source_lang, dataset.target_lang) == ("en", "de")
    assert dataset.sources("valid") == ENGLISH[100:106] and dataset.references("test") == GERMAN[106:110]


def test_names_can_be_given(tmp_path: Path) -> None:
    """Where the rule finds none, or another; the first name of the rule wins."""
    place = corpus(tmp_path / "mine", ("train", "val", "test"), ("xx", "yy"))
    put(place, {f"extra.{x}": ["Der Mann."] for x in ("xx", "yy")} | {f"dev.{x}": ["Es."] for x in ("xx", "yy")})
    load = functools.partial(iwslt14.load, corpus=place, languages=("xx", "yy"), pieces=150)
    assert load().count("valid") == 6
    assert load(names={"test": "extra"}).references("test") == ["Der Mann."]
    with pytest.raises(UserError, match="Did you mean 'extra'"):
        load(names={"test": "extras"})
    with pytest.raises(UserError, match="Did you mean 'valid'"):
        load(names={"vlid": "dev"})
    with pytest.raises(UserError, match="for a corpus of your own"):
        iwslt14.load(names={"valid": "dev"})


def test_lines_are_tidied_and_empty_pairs_left_out(tmp_path: Path) -> None:
    """Moses' escapes are undone in text and references; a training pair without a side teaches nothing."""
    place = corpus(tmp_path / "mine")
    put(place, {"train.de": [*GERMAN[:100], ""], "train.en": [*ENGLISH[:100], "alone"]})
    put(place, {"test.de": ["Er  sagt : &quot; A &amp; B &quot;\r"], "test.en": ["", "&#91; it &apos;s &#93;"][1:]})
    dataset = wmt14.load(corpus=place, languages=("de", "en"), pieces=150)
    assert dataset.count("train") == 100
    assert dataset.sources("test") == ['Er sagt : " A & B "'] and dataset.references("test") == ["[ it 's ]"]


def test_cleaning_and_lower_case_are_options(tmp_path: Path) -> None:
    """Named in the source; the references follow the case, the other parts are never cleaned."""
    place = corpus(tmp_path / "mine")
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


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("lines", r"train\.de has 100 lines, but train\.en 99"),
        ("side", r"has valid\.de, but no valid\.en; .*found: de"),
        ("part", r"no valid part: expected valid\.de and \.en \(or instead of valid: val, .*found test\.de, test\.en"),
        ("empty", r"test\.en is not a whole text"),
        ("latin-1", r"test\.en is not a whole text in UTF-8"),
        ("subwords", r"train\.de is cut into subwords already"),
        ("folder", "does not exist"),
    ],
)
def test_a_broken_corpus_is_refused(tmp_path: Path, name: str, damage: str, says: str) -> None:
    """One line that names the file, what was expected, and what is there."""
    place = corpus(tmp_path / "mine")
    if damage == "lines":
        put(place, {"train.en": ENGLISH[:99]})
    elif damage in ("side", "part"):
        for language in ("en",) if damage == "side" else ("de", "en"):
            (place / f"valid.{language}").unlink()
    elif damage in ("empty", "latin-1"):
        (place / "test.en").write_bytes(b"" if damage == "empty" else "é\n".encode("latin-1"))
    elif damage == "subwords":
        put(place, {"train.de": ["Sch@@ lüssel"] * 100})
    else:
        place = tmp_path / "no-such"
    with pytest.raises(UserError, match=says) as error:
        SCRIPTS[name].load(corpus=place, languages=("de", "en"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("languages", [("de", "de"), ("de", ""), ("de", "e/n"), ("d-e", "en")])
def test_no_pair_of_languages(languages: tuple[str, str]) -> None:
    """They go into names of files."""
    for script in SCRIPTS.values():
        with pytest.raises(UserError, match="are no pair"):
            script.load(languages=languages)
        with pytest.raises(UserError, match="7 pieces are no vocabulary; expected 100 to"):
            script.load(pieces=7)


@pytest.mark.parametrize("name", SCRIPTS)
def test_other_languages_have_no_stand_in(folder: Path, name: str) -> None:
    """Who asks for French must not get German."""
    with pytest.raises(Missing, match=r"fr-en is not here.*--corpus"):
        SCRIPTS[name].load(folder, languages=("fr", "en"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A hub on this machine that has a made-up WMT14; the list of what it was asked for."""
    calls: list[dict[str, Any]] = []
    cuts = {"train": slice(0, 100), "validation": slice(100, 106), "test": slice(106, 110)}

    def load_dataset(name: str, config: str, *, split: str, streaming: bool) -> Any:
        calls.append({"name": name, "config": config, "split": split, "streaming": streaming})
        sides = [*zip(GERMAN[cuts[split]], ENGLISH[cuts[split]], strict=True)]
        if split == "train":
            sides += [("Kurz.", "One side is\n much longer than the other."), ("", "nothing")]
        return [{"translation": {"de": de, "en": en}} for de, en in sides]

    monkeypatch.setattr(hub, "_knock", lambda name: None)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    monkeypatch.setattr(wmt14, "COUNTS", {"train": 102, "valid": 6, "test": 4})
    return calls


def test_wmt14_is_downloaded_cleaned_and_kept(folder: Path, asked: list) -> None:
    """The hub's rows become files, and the next run asks nobody and gets the same."""
    kept = sum(wmt14.CLEANING.keeps(*pair) for pair in zip(GERMAN[:100], ENGLISH[:100], strict=True))
    dataset = wmt14.load(folder, pieces=150)
    assert asked == [
        {"name": "wmt/wmt14", "config": "de-en", "split": split, "streaming": True}
        for split in ("validation", "test", "train")
    ]
    assert dataset.source == f"WMT14 en-de, {kept} of 101 training pairs, joint-bpe-150" and dataset.is_real
    assert dataset.sources("valid") == ENGLISH[100:106] and dataset.references("test") == GERMAN[106:110]
    files = sorted(path.name for path in (folder / "wmt14").iterdir() if path.is_file())
    assert files == sorted(f"{part}.{language}" for part in PARTS for language in ("de", "en"))
    again = wmt14.load(folder, pieces=150)
    assert again.fingerprint == dataset.fingerprint and again.folder == dataset.folder and len(asked) == 3
    assert wmt14.load(folder, pieces=150, clean=False).count("train") == 101


def test_half_of_wmt14_is_not_kept(
    folder: Path, asked: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or it would be taken for the whole, for ever."""
    import datasets

    whole = datasets.load_dataset

    def breaks(name: str, config: str, *, split: str, streaming: bool) -> Any:
        yield from whole(name, config, split=split, streaming=streaming)
        if split == "train":
            raise ConnectionError("gone")

    monkeypatch.setattr("datasets.load_dataset", breaks)
    assert_stand_in(wmt14.load(folder), capsys.readouterr().err, "wmt14")
    assert not list(folder.rglob("*"))


def test_wmt14_into_a_read_only_folder_is_used(folder: Path, asked: list, capsys: pytest.CaptureFixture[str]) -> None:
    """A place that cannot keep it is no reason to train on anything else."""
    folder.chmod(0o555)
    try:
        assert wmt14.load(folder, pieces=150).source.startswith("WMT14 en-de")
    finally:
        folder.chmod(0o755)
    assert "read-only" in capsys.readouterr().err


def test_refused_hub_gives_the_stand_in_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The real client against a closed port: it must not retry for minutes."""
    start = time.monotonic()
    assert_stand_in(wmt14.load(folder), capsys.readouterr().err, "wmt14")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("name", SCRIPTS)
def test_named_folder_must_exist(folder: Path, name: str) -> None:
    """A mistyped path must not end in the stand-in."""
    with pytest.raises(UserError, match="no-such"):
        SCRIPTS[name].load(folder / "no-such")


def test_commands_take_their_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same from the command line as from Python; fairseq's folder is written on demand."""
    place, binary = corpus(tmp_path / "mine", ("train", "val", "late")), tmp_path / "binary"
    options = ["--corpus", str(place), "--languages", "en-de", "--pieces", "150", "--test", "late", "--lowercase"]
    assert iwslt14.main([*options, "--binary", str(binary)]) == 0
    said = capsys.readouterr().out
    dataset = iwslt14.load(corpus=place, languages=("en", "de"), pieces=150, names={"test": "late"}, lowercase=True)
    for part in ("lower-cased", "100 train, 6 valid, 4 test", "150 pieces, en-de", dataset.fingerprint, str(binary)):
        assert part in said
    assert list(fairseq_format.read(binary).parts) == list(PARTS)
    for wrong in ([*options[:-3]], [*options, "--languages", "german"], ["--data", str(tmp_path / "no-such")]):
        assert wmt14.main(wrong) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and not captured.out


def test_runs_alone(folder: Path) -> None:
    """As a command without any path set, on the whole stand-in: one loud line, the summary, exit code 0."""
    env = {**os.environ, "MUTRANSFER_DATA": str(folder)}
    env.pop("PYTHONPATH", None)
    command = [sys.executable, "data_scripts/iwslt14.py", "--no-download"]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and run.stderr.startswith("WARNING: NOT IWSLT14") and run.stderr.count("\n") == 1
    assert "STAND-IN" in run.stdout and "20,000 train, 1,000 valid, 1,000 test" in run.stdout
