"""IWSLT14's archive, in miniature: verified before it is read, read without being unpacked, cleaned as fairseq does."""

import hashlib
import tarfile
import time

import pytest
from corpus_files import ENGLISH, GERMAN, REFUSED, put, served

from data_scripts import download, iwslt14, places
from data_scripts.download import DownloadError, fetch
from data_scripts.places import Missing
from mutransfer.errors import UserError

pytestmark = pytest.mark.usefixtures("folder")


def archive_files():
    """A miniature of WIT3's archive: 54 pairs of talks, of which 4 are cleaned away, and five test sets of 2 to 4."""
    files = {}
    for language, lines in (("de", GERMAN), ("en", ENGLISH)):
        other = {"de": "Kurz.", "en": "One side is much longer than the other."}[language]
        titles = ["<url>http://ted.com/1</url>", "<keywords>talks</keywords>", "<talkid>1</talkid>"]
        titles += [f"<title>{lines[0]}</title>", f"<description>{lines[1]}</description>"]
        body = [*lines[2:30], other, "", *lines[30:50], "a " * 176, "b " * 300 if language == "de" else "b"]
        files[f"train.tags.de-en.{language}"] = [*titles, *body]
        for i, name in enumerate(iwslt14.TESTS):
            chosen = lines[60 + 4 * i : 60 + 4 * i + 2 + i % 3]
            segments = [f'<seg id="{n}"> {line} </seg>' for n, line in enumerate(chosen, 1)]
            if i == 0:
                segments[0] = '<seg id="1">It’s &lt;one&gt; &amp;c. </seg>'
            files[name.format(language)] = ['<?xml version="1.0"?>', "<doc>", *segments, "</doc>"]
    return files


def pack(path, files, monkeypatch):
    """An archive of these files, known to the script."""
    with tarfile.open(path, "w:gz") as tar:
        tar.add(put(path.parent.parent / "packed", files), "de-en")
    monkeypatch.setattr(iwslt14, "CHECKSUM", f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}")
    monkeypatch.setattr(iwslt14, "COUNTS", {"train": 48, "valid": 2, "test": 14})
    return path


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The miniature archive, in a folder of its own."""
    (tmp_path / "official").mkdir()
    return pack(tmp_path / "official" / "de-en.tgz", archive_files(), monkeypatch)


@pytest.fixture
def server(archive, monkeypatch):
    """The archive served on this machine as the address of the download."""
    with served(archive.parent) as address:
        monkeypatch.setattr(iwslt14, "URL", f"{address}/{archive.name}")
        yield address


def assert_recipe(dataset):
    """fairseq's steps on the miniature, by hand."""
    assert (dataset.name, dataset.is_real) == ("iwslt14", True)
    assert dataset.source.startswith("IWSLT14 de-en, 48 training pairs, lower-cased, joint-bpe-")
    kept = [*GERMAN[:50]], [*ENGLISH[:50]]
    cleaned = [(a.lower(), b.lower()) for a, b in zip(*kept, strict=True) if iwslt14.CLEANING.keeps(a, b)]
    valid = [cleaned[i] for i in (22, 45)]
    train = [pair for i, pair in enumerate(cleaned) if i not in (22, 45)]
    assert list(zip(dataset.sources("valid"), dataset.references("valid"), strict=True)) == valid
    assert list(zip(dataset.sources("train"), dataset.references("train"), strict=True)) == train
    chosen = [60, 61, 64, 65, 66, 68, 69, 70, 71, 72, 73, 76, 77, 78]
    assert dataset.references("test") == ["it's <one> &c.", *(ENGLISH[i].lower() for i in chosen[1:])]
    assert dataset.sources("test")[1:] == [GERMAN[i].lower() for i in chosen[1:]]


@pytest.mark.parametrize("form", ["archive", "unpacked"])
def test_official_archive_on_disk(folder, archive, form, monkeypatch):
    """Cleaned and split as fairseq does, from the archive or from what its script unpacks; prepared once."""
    place = folder / "iwslt14"
    if form == "archive":
        place.mkdir()
        archive.rename(place / archive.name)
    else:
        put(place / "de-en", archive_files())
    dataset = iwslt14.load(folder, pieces=150)
    assert_recipe(dataset)
    assert dataset.folder is not None and dataset.folder.parent == place / "prepared"
    other = iwslt14.load(folder, languages=("en", "de"), pieces=150, lowercase=False, clean=False)
    assert other.references("test")[1] == GERMAN[61] and other.source.startswith("IWSLT14 en-de, 51 training pairs, j")
    assert other.sources("test")[0] == "It's <one> &c."
    if form == "unpacked":  # which is not verified: its test part must at least have the known size
        monkeypatch.setitem(iwslt14.COUNTS, "test", 6_750)
        assert iwslt14.load(folder, pieces=150).source.startswith("other text in the place of IWSLT14")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("checksum", "documented 0123"),
        ("no member", "tst2011"),
        ("unequal", "53 sentences in de, 54 in en"),
        ("folder", r"de-en\.tgz"),
        ("no archive", r"de-en\.tgz"),
        ("link", r"train\.tags\.de-en\.de .*no file"),
    ],
)
def test_damaged_archive_is_refused(folder, monkeypatch, damage, says):
    """Never the stand-in. Of an unknown archive nothing is read, of a known one files only, no links."""
    path, files = folder / "iwslt14" / "de-en.tgz", archive_files()
    path.parent.mkdir()
    if damage == "no member":
        del files["IWSLT14.TED.tst2011.de-en.en.xml"]
    if damage == "unequal":
        files["train.tags.de-en.de"].pop()
    pack(path, files, monkeypatch)
    if damage == "link":
        with tarfile.open(path, "w:gz") as tar:
            link = tarfile.TarInfo("de-en/train.tags.de-en.de")
            link.type, link.linkname = tarfile.SYMTYPE, str(put(folder, {"secret": ["x"]}) / "secret")
            tar.addfile(link)
            tar.addfile(tarfile.TarInfo("../escaped"))
    if damage in ("folder", "no archive"):
        path.unlink()
        path.mkdir() if damage == "folder" else path.write_bytes(b"")
    raw = path.read_bytes() if path.is_file() else b""
    known = "0123" if damage == "checksum" else hashlib.md5(raw).hexdigest()
    monkeypatch.setattr(iwslt14, "CHECKSUM", f"md5:{known}")
    before = sorted(folder.parent.rglob("*"))
    with pytest.raises(UserError, match=says) as error:
        iwslt14.load(folder)
    assert "\n" not in str(error.value) and not isinstance(error.value, Missing)
    assert sorted(folder.parent.rglob("*")) == before


def test_download_is_verified_and_kept(folder, server, archive, monkeypatch, capsys):
    """Fetched once: the second load finds the archive on disk, with the same fingerprint; a bad one leaves nothing."""
    with monkeypatch.context() as changed:
        changed.setattr(iwslt14, "CHECKSUM", "md5:0123")
        assert not iwslt14.load(folder).is_real
    assert "not the documented 0123" in capsys.readouterr().err and not list(folder.rglob("*"))
    (folder / "iwslt14").write_text("a file where the folder should be: no reason to train on anything else")
    assert_recipe(iwslt14.load(folder, pieces=150))
    assert "cannot be kept" in capsys.readouterr().err
    (folder / "iwslt14").unlink()
    first = iwslt14.load(folder, pieces=150)
    assert_recipe(first)
    assert (folder / "iwslt14" / "de-en.tgz").read_bytes() == archive.read_bytes()
    again = iwslt14.load(folder, pieces=150, download=False)
    assert again.fingerprint == first.fingerprint and again.folder == first.folder


@pytest.mark.parametrize(
    ("address", "checksum", "most", "says"),
    [
        ("/de-en.tgz", "sha256:0", 10**6, "its sha256 is .*, not the documented 0"),
        ("/de-en.tgz", "md5:0123", 9, "longer than 9 bytes"),
        ("/none", "md5:0123", 9, "404"),
        ("/cut", "md5:0123", 10**6, "broke off after 10 of 1,000 bytes"),
        ("/hang", "md5:0123", 10**6, "timed out"),
        ("/drip", "md5:0123", 10**6, r"bytes in 0\.3 seconds"),  # each byte in time
        (f"{REFUSED}/x", "md5:0123", 9, "refused"),
        ("nowhere", "md5:0123", 9, "nowhere"),
    ],
)
def test_fetch_gives_the_documented_file_or_nothing(server, archive, monkeypatch, address, checksum, most, says):
    """Within seconds, in one line."""
    monkeypatch.setattr(places, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(DownloadError, match=says) as error:
        fetch(server + address if address.startswith("/") else address, checksum, most)
    assert time.monotonic() - start < 2 and "\n" not in str(error.value)
