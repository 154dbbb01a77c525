"""WikiText-2 (Merity et al. 2016): find it on disk or download it, and hold it in memory as tokens.

2 million words of Wikipedia articles. In two forms: ``.tokens``, where words that are rare have become <unk> and
33,278 are left, and ``.raw``, with all of them. Words need ``.tokens``; bytes and SentencePiece take ``.raw``, or
``.tokens`` if only that is there. Looked for, in this order:

1. ``<data>/wikitext2/wiki.{train,valid}.raw`` or ``.tokens``, with ``vocab.txt`` (one word per line, in the order of
   its number) or without: then the words have the numbers in which they appear in the training text, as in that file;
2. a download of ``Salesforce/wikitext`` through the library `datasets`, kept in ``<data>/wikitext2``.

The test part is the *validation* text. (The paper's metric is the training loss; WikiText-2's own test text is not
used.) ``<data>`` is ``--data``, else ``$MUTRANSFER_DATA``, else ``data/`` at the root of the repository. Alone:

    python data_scripts/wikitext2.py [--data DIR] [--tokenizer NAME]
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run alone: then the path has this folder, not its parent
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from data_scripts import hub
from data_scripts.places import MENDING, OTHER_TEXT, Documented, Missing, data_folder, read_text, text_command
from mutransfer.errors import UserError
from mutransfer.files import keep

if TYPE_CHECKING:
    from mutransfer.data import TokenDataset

FOLDER = "wikitext2"
HUB = "Salesforce/wikitext"
CONFIGS = {"raw": "wikitext-2-raw-v1", "tokens": "wikitext-2-v1"}
SOURCES = {"raw": "WikiText-2", "tokens": "WikiText-2 (rare words as <unk>)"}
SPLITS = {"train": "train", "valid": "validation"}
HEAD, LINES = " \n = Valkyria Chronicles III = \n", 36_718  # how the training text begins, and its length
VOCAB = "vocab.txt"
FILES = {
    "wiki.valid.raw": Documented(
        "10254bc6b658414e", 1_146_846, "4cd0f6876d07a413aa911261ff6d363c72d757d47f0fdd6015702014c89cb9c7"
    ),
    "wiki.valid.tokens": Documented(
        "480b2be5fe775a89", 1_121_681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"
    ),
    VOCAB: Documented("4fdf86c807e47099", 268_474, "ae8545d1f7c9c3caf969ce4b3f44acd43a61bba54b19efc20f795d1da4edf075"),
}


def load(data_dir: Path | None = None, *, tokenizer: str = "bytes", download: bool = True) -> TokenDataset:
    """WikiText-2 from the first place that has it.

    Raises `Missing` if none has, within seconds where there is no network; `UserError` if a file that should hold it
    is cut short, unreadable or not UTF-8.
    """
    from mutransfer.data.tokens import pieces_of, tokenize

    pieces_of(tokenizer)
    folder = data_folder(data_dir, FOLDER) / FOLDER
    forms = ("tokens",) if tokenizer == "words" else ("raw", "tokens")
    on_disk = [f for f in forms if all(os.path.lexists(folder / f"wiki.{part}.{f}") for part in SPLITS)]
    form = (on_disk or forms)[0]
    paths = {part: folder / f"wiki.{part}.{form}" for part in SPLITS}
    found = {part: read_text(path, FILES.get(path.name)) for part, path in paths.items() if os.path.lexists(path)}
    texts = {part: text for part, (text, _) in found.items()}
    fetched = _from_hub(form, {part: path for part, path in paths.items() if part not in texts}, download)
    train, test = (texts | fetched)["train"], (texts | fetched)["valid"]
    is_known = _is_whole(paths["train"], train) and all(is_documented for _, is_documented in found.values())
    for part, text in fetched.items():
        keep(paths[part], text.encode())
    vocabulary = _vocabulary(folder, train) if tokenizer == "words" else None
    source = ("" if is_known else OTHER_TEXT) + ("WikiText-2" if tokenizer == "words" else SOURCES[form])
    return tokenize(
        "wikitext2", source, tokenizer, is_real=True, train=train, test=test, vocabulary=vocabulary, cache=folder
    )


def _is_whole(path: Path, text: str) -> bool:
    """Whether it is the training text; a note if it is another, `UserError` if it is only that one's beginning."""
    lines = text.count("\n")
    if text.startswith(HEAD) and lines < LINES:
        raise UserError(f"{path} is cut short: {lines:,} of {LINES:,} lines; {MENDING}")
    if text.startswith(HEAD) and lines == LINES:
        return True
    print(
        f"note: {path} is not WikiText-2's training text: another beginning, or {lines:,} lines, not {LINES:,}; "
        "results carry another fingerprint.",
        file=sys.stderr,
    )
    return False


def _vocabulary(folder: Path, train: str) -> list[str]:
    """The words of vocab.txt, else those of the training text as they appear."""
    from mutransfer.data.tokens import EOS, UNK, split_words

    path = folder / VOCAB
    if os.path.lexists(path):
        return read_text(path, FILES[VOCAB])[0].removesuffix("\n").split("\n")
    return list(dict.fromkeys([*split_words(train), EOS, UNK]))


def _from_hub(form: str, paths: dict[str, Path], download: bool) -> dict[str, str]:
    """The texts of the parts that ``paths`` has. Raises `Missing` if one cannot be had."""
    reason, texts = "downloading was turned off", dict[str, str]()
    if download:
        try:
            for part in paths:
                texts[part] = "".join(map(_line, hub.texts(HUB, CONFIGS[form], split=SPLITS[part])))
        except hub.HubError as error:
            reason = str(error)
    if len(texts) < len(paths):
        wanted = " and ".join(path.name for path in paths.values())
        folder = next(iter(paths.values())).parent
        raise Missing(
            f"WikiText-2's {wanted} is not in {folder}; {reason}. Put it there, or name the folder that has "
            f"{FOLDER} (--data or MUTRANSFER_DATA)."
        )
    return texts


def _line(row: str) -> str:
    """A row of the hub as the line of the original file: there an empty line is one space."""
    return row.rstrip("\n") + "\n" if row.strip() else " \n"


def main(argv: list[str] | None = None) -> int:
    """Fetch, verify and summarise; exit code 2 and one line on stderr for an error of the user's."""
    return text_command("Fetch and verify WikiText-2.", load, argv)


if __name__ == "__main__":
    sys.exit(main())
