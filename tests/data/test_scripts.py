"""What every data script does: it finds nothing quickly, says so in one line, and runs alone."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import import_module
from pathlib import Path

import pytest
from corpus_files import DAMAGE, REFUSED, damage, put, sides
from huggingface_hub import HfApi, constants
from torchvision.datasets import CIFAR10

from data_scripts import places
from data_scripts.places import Missing
from mutransfer.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
STAND_INS = {  # what stands in, what the loud line says
    "cifar10": ("synthetic", "WARNING: NOT CIFAR-10", CIFAR10.filename),
    "text": ("topics", "WARNING: NO REAL TEXT", "wiki.train.raw", "train.txt"),
    "bert_corpus": ("stories", "WARNING: NO REAL TEXT", "bert_corpus", "train.txt"),
    "iwslt14": ("grammar", "WARNING: NOT IWSLT14", "iwslt14/train.de", "--corpus"),
    "wmt14": ("grammar", "WARNING: NOT WMT14", "wmt14/train.en", "--corpus"),
}
WITHOUT = ("wikitext2", "openwebtext", "books", "multi30k")
SCRIPTS = {name: import_module(f"data_scripts.{name}") for name in (*STAND_INS, *WITHOUT, "glue", "imagenet")}


def assert_loud(name, said):
    """One line that tells what to do."""
    assert said.count("\n") == 1
    assert all(help_ in said for help_ in (*STAND_INS[name][1:], "MUTRANSFER_DATA")), said


@pytest.mark.parametrize("network", ["refuses", "is silent"])
@pytest.mark.parametrize("name", [*STAND_INS, *WITHOUT])
def test_without_data_and_network(folder, name, network, monkeypatch, capsys):
    """Within seconds, by the real clients: the stand-in, loudly, and how to do better; or where the data belongs."""
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        if network == "is silent":
            monkeypatch.setattr(places, "CONNECT_SECONDS", 0.2)
            deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            for where, what in ((constants, "ENDPOINT"), (CIFAR10, "url"), (SCRIPTS["iwslt14"], "URL")):
                monkeypatch.setattr(where, what, address)
        if name in WITHOUT:
            with pytest.raises(Missing, match=r"hub failed .*|not in|not here") as error:
                SCRIPTS[name].load(folder)
            assert "\n" not in str(error.value) and str(folder) in str(error.value)
        else:
            dataset, said = SCRIPTS[name].load(), capsys.readouterr().err
            assert (dataset.name, dataset.is_real) == (STAND_INS[name][0], False)
            assert_loud(name, said)
            assert "refused" in said or network == "is silent"
    assert time.monotonic() - start < 10 and socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in ("text", "imagenet")])
def test_turned_off_download_asks_nobody(name, monkeypatch, capsys):
    """``download=False`` means it, even where the download would work."""
    for where, client in ((HfApi, "dataset_info"), (urllib.request, "urlopen"), (CIFAR10, "download")):
        monkeypatch.setattr(where, client, lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(Missing) if name in WITHOUT else contextlib.nullcontext():
        SCRIPTS[name].load(download=False)
    said = capsys.readouterr().err
    assert "turned off" in said or name in WITHOUT
    if name in STAND_INS:
        assert_loud(name, said)


@pytest.mark.parametrize("by", ["argument", "environment"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_named_folder_must_exist(folder, monkeypatch, name, by):
    """A mistyped path must not end in the stand-in."""
    missing = folder / "no-such"
    monkeypatch.setenv("MUTRANSFER_DATA", str(missing if by == "environment" else folder))
    with pytest.raises(UserError, match="no-such"):
        SCRIPTS[name].load(*[missing] * (by == "argument"))


def test_which_folder(folder, monkeypatch, tmp_path):
    """What is typed for this run is meant more than what the shell was set up with; else the repository's own."""
    assert places.data_folder(tmp_path, "x") == tmp_path and places.data_folder(None, "x") == folder
    monkeypatch.delenv("MUTRANSFER_DATA")
    assert places.data_folder(None, "x") == ROOT / "data"


def alone(*command, folder):
    """A process in which no path is set."""
    env = {**os.environ, "HF_ENDPOINT": REFUSED, "MUTRANSFER_DATA": str(folder)}
    env.pop("PYTHONPATH", None)
    return subprocess.run([sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", SCRIPTS)
def test_runs_alone(folder, name):
    """Without any path set, and without importing what only the work needs."""
    run = alone(f"data_scripts/{name}.py", "--help", folder=folder)
    assert run.returncode == 0 and "--data DIR" in run.stdout, run.stderr


def test_nothing_heavy_is_imported_before_it_is_needed(folder):
    """The list of experiments, which import the scripts, must not wait for torch."""
    heavy = ("torch", "torchvision", "pandas", "pyarrow", "datasets", "sentencepiece", "tokenizers", "huggingface_hub")
    code = f"from data_scripts import {', '.join(SCRIPTS)}; print([m for m in {heavy} if m in sys.modules])"
    run = alone("-c", f"import sys; sys.path.insert(0, '.'); {code}", folder=folder)
    assert run.stdout.strip() == "[]", run.stderr


PROSE = {"train.txt": "He came. She saw.\n" * 40, "valid.txt": "Call me Ishmael. It ends.\n"}
PAN = {f"{part}.tsv": "label\tsentence1\tsentence2\n1\tThe dog.\tA dog.\n" for part in ("train", "test")}
FILES = {  # what a script finds, and where
    "books": ("classic_books", PROSE),
    "text": ("classic_books", PROSE),
    "openwebtext": ("openwebtext", PROSE),
    "bert_corpus": ("bert_corpus", PROSE),
    "glue": ("glue_like/PAN-paraphrase", PAN),
    "iwslt14": ("iwslt14", sides()),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_refused(folder, name, how):
    """It was meant to be the data: never the stand-in, never half the text in silence. One line with its name."""
    where, files = FILES[name]
    for file in files:
        shutil.rmtree(folder / where, ignore_errors=True)
        damage(put(folder / where, files) / file, how)
        with pytest.raises(UserError, match=re.escape(file)) as error:
            SCRIPTS[name].load()
        assert "\n" not in str(error.value) and not isinstance(error.value, Missing)


@pytest.mark.parametrize(
    ("name", "given", "says", "wrong", "mistake"),
    [
        ("books", "", "novels and essays), bytes", "--tokenizer x", "unknown tokenizer"),
        ("text", "--dataset books --tokenizer words", "essays), words", "--dataset book", "'books'"),
        ("openwebtext", "--documents 50", "OpenWebText (", "--data no-such", "no-such"),
        ("bert_corpus", "--pieces 120 --no-download --tasks", "26 pieces", "--tasks pam", "'pan'"),
        ("glue", "--no-download --tasks pan", "1 pairs to train, 1 to test; accuracy", "--tasks pam", "'pan'"),
        ("iwslt14", "--languages en-de --pieces 150 --lowercase", "100 train, 6 valid", "--languages de", "no pair"),
    ],
)
def test_as_a_command(folder, name, given, says, wrong, mistake, capsys):
    """Source, counts and fingerprint, exit code 0; or one line, exit code 2. fairseq's folder is written on demand."""
    put(folder / FILES[name][0], FILES[name][1])
    binary = ["--binary", str(folder / "binary")] if name == "iwslt14" else []
    options = ["--data", str(folder), *given.split()]
    assert SCRIPTS[name].main([*options, *binary]) == 0
    said = capsys.readouterr()
    assert says in said.out and "\nfingerprint  " in said.out
    assert (folder / "binary" / "dict.en.txt").exists() == bool(binary)
    assert SCRIPTS[name].main([*options, *wrong.split()]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and mistake in said.err and not said.out


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        *((name, {"tokenizer": "word"}, "Did you mean 'words'") for name in ("wikitext2", "books", "openwebtext")),
        ("text", {"dataset": "wikitext-2"}, "Did you mean 'wikitext2'"),
        ("openwebtext", {"documents": 49}, "49"),
        ("bert_corpus", {"dataset": "book"}, "unknown data set of bert 'book'. Did you mean 'books'"),
        ("bert_corpus", {"tasks": ["sst"]}, "Did you mean 'sst2'"),
        ("bert_corpus", {"pieces": 99}, "99 pieces are no vocabulary; expected 100"),
        ("bert_corpus", {"documents": 10}, "10 documents are too few"),
        ("glue", {"tasks": ["sst-2"]}, "Did you mean 'sst2'"),
        ("wmt14", {"pieces": 7}, "7 pieces are no vocabulary; expected 100 to"),
        ("iwslt14", {"names": {"vlid": "dev"}}, "Did you mean 'valid'"),
        ("iwslt14", {"names": {"valid": "dev"}}, "for a corpus of your own"),
        # they go into names of files
        *(("iwslt14", {"languages": x}, "are no pair") for x in (("de", "de"), ("de", ""), ("de", "e/n"))),
        *((name, {"languages": ("fr", "en")}, r"fr-en is not here.*--corpus") for name in ("iwslt14", "wmt14")),
    ],
)
def test_what_is_none_is_refused(name, options, says):
    """With the nearest valid name; and who asks for French must not get German."""
    with pytest.raises(UserError, match=says):
        SCRIPTS[name].load(**options)
