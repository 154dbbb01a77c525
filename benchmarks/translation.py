"""(i) Translation beside fairseq: target words a second of training, and sentences a second of beam search.

Both train the same Transformer (post-LN, 2 + 2 layers, d_model 128, d_ffn 256, 4 heads, dropout 0.3, the decoder's
embedding for a readout) from one folder of fairseq's format, 8,000 joint pieces of Multi30k German-English (else of the
stand-in), batches of at most 4,096 tokens. ``fairseq-train --cpu`` runs as a user runs it, with torch's own threads,
which take all cores; its words a second are those of its log, without the first line. Ours is what a sweep runs, one
worker a core; and one process with torch's own threads. They take turns, twice.

For beam search a model is trained a little, and both translate the test part with its weights, beam 5, at most 60
tokens. fairseq's time is the one that it prints, of the search alone; ours is that of `translate`, from
tokens to text. Starting up counts on neither side.

``python -m benchmarks.translation train|learn|translate ...`` is one process of it.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import answer_rate, as_worker, rates
from data_scripts import iwslt14, multi30k
from data_scripts.places import Missing
from experiments.translation import BETAS, MULTIPLE, SMOOTHING
from mutransfer.data import fairseq_format
from mutransfer.data.pairs import PairDataset
from mutransfer.errors import UserError
from mutransfer.fairseq_mup import require
from mutransfer.fairseq_mup.weights import read_checkpoint, to_fairseq
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.runs.worker import environment
from mutransfer.training.provenance import cores
from mutransfer.training.step import Step
from mutransfer.training.translation import PAD, Translation, bleu, translate

PIECES, TOKENS, LONGEST, DROPOUT, RATE = 8000, 4096, 1024, 0.3, 5e-4
UPDATES, LOG_EVERY = 25, 5
LEARN, LEARN_TOKENS, LEARN_RATE, WARM_UP = 500, 1024, 2e-3, 100  # of the model that translates: steps, small ones
BEAM, MAX_LENGTH = 5, (0.0, 60.0)  # no part of the source's length: fairseq counts the padding beside it too
PRECISIONS = ("float32", "bfloat16")
CORES = cores()
ROUNDS, SEARCHES = 2, 2
DATA, FAIRSEQ, FOUND = "data", "fairseq", "found.json"
SAVED, TRAINED = "checkpoint_last.pt", "trained.pt"  # fairseq's checkpoints
START, LEARNT = "start.pt", "learnt.pt"  # ours: so that our processes need not import fairseq

# --- fairseq's side ---------------------------------------------------------------------------------------------------


def train_arguments(folder: Path) -> list[str]:
    """Of ``fairseq-train``: fairseq's recipe for IWSLT14, smaller."""
    sides = [
        (f"--{side}-{name}", value)
        for side in ("encoder", "decoder")
        for name, value in (("layers", 2), ("embed-dim", 128), ("ffn-embed-dim", 256), ("attention-heads", 4))
    ]
    return [
        *(str(folder / FAIRSEQ), "--arch", "transformer_iwslt_de_en", *(str(x) for pair in sides for x in pair)),
        *("--share-decoder-input-output-embed", "--dropout", str(DROPOUT), "--optimizer", "adam"),
        *("--adam-betas", str(BETAS), "--clip-norm", "0", "--weight-decay", "0.0001", "--lr", str(RATE)),
        *("--lr-scheduler", "inverse_sqrt", "--warmup-updates", "4000"),
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", str(SMOOTHING)),
        *("--max-tokens", str(TOKENS), "--max-update", str(UPDATES), "--log-interval", str(LOG_EVERY)),
        *("--log-format", "simple", "--disable-validation", "--no-epoch-checkpoints", "--save-dir", str(folder)),
    ]


def generate_arguments(folder: Path) -> list[str]:
    """Of ``fairseq-generate``."""
    longest = ("--max-len-a", str(MAX_LENGTH[0]), "--max-len-b", str(int(MAX_LENGTH[1])))
    path = ("--path", str(folder / TRAINED), "--gen-subset", "test")
    return [str(folder / FAIRSEQ), *path, "--beam", str(BEAM), *longest, "--max-tokens", str(TOKENS)]


def fairseq(command: str, arguments: Sequence[str], languages: tuple[str, str]) -> str:
    """What ``fairseq-COMMAND --cpu`` prints, with torch's own threads."""
    words = [sys.executable, "-m", f"fairseq_cli.{command}", *arguments, "--cpu"]
    words += ["--source-lang", languages[0], "--target-lang", languages[1]]
    # fairseq opens its checkpoints as torch before 2.6 did; this one was written here
    env = _own_threads() | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"fairseq-{command} failed: {done.stdout.strip().splitlines()[-1]}")
    return done.stdout


def words_per_second(log: str) -> float:
    """Median of the lines of ``fairseq-train``, the first left out: in it caches and threads warm up."""
    found = [float(x) for x in re.findall(r"\| train_inner \|.* wps=([\d.]+)", log)]
    return statistics.median(found[1:])


def sentences_per_second(log: str) -> float:
    """Of ``fairseq-generate``, whose clock runs while it searches."""
    (count, seconds), *_ = re.findall(r"Translated ([\d,]+) sentences \([\d,]+ tokens\) in ([\d.]+)s", log)
    return float(count.replace(",", "")) / float(seconds)


def translations(log: str, data: PairDataset, symbols: Sequence[str]) -> list[str]:
    """The texts that ``fairseq-generate`` found, in the order of the part; put together as ours are."""
    number = {symbol: i for i, symbol in enumerate(symbols)}
    found = {
        int(row): data.decode([number[x] for x in pieces.split()])
        for row, pieces in re.findall(r"^H-(\d+)\t\S+\t?(.*)$", log, re.MULTILINE)
    }
    return [found[row] for row in range(len(found))]


# --- our side ---------------------------------------------------------------------------------------------------------


def corpus() -> PairDataset:
    """Multi30k, else what `iwslt14` finds without a download; the stand-in, if nothing."""
    try:
        return multi30k.load(pieces=PIECES)
    except Missing:
        return iwslt14.load(pieces=PIECES, download=False)


def training(
    model: EncoderDecoder, data: PairDataset, precision: str, *, rate: float = RATE, tokens: int = TOKENS
) -> Callable[[], float]:
    """A step of a sweep's worker; returns how many target words it learnt from, their ends counted, as fairseq does."""
    task = Translation(data, LONGEST, smoothing=SMOOTHING, multiple=MULTIPLE)
    groups = [{"params": [*model.parameters()], "lr": rate, "weight_decay": 1e-4}]
    optimizer = torch.optim.AdamW(groups, betas=BETAS, fused=True)
    generator = torch.Generator().manual_seed(0)
    batches = itertools.chain.from_iterable(task.epoch(tokens, generator) for _ in itertools.count())

    def compute(*batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
            return task.loss(model, *batch)

    step, done = Step(compute, optimizer), 0
    model.train()

    def call() -> float:
        nonlocal done
        done += 1
        optimizer.param_groups[0]["lr"] = rate * min(done / WARM_UP, 1.0)
        batch = next(batches)
        step(*batch)
        return float((batch[-1] != PAD).sum())

    return call


def searching(model: EncoderDecoder, data: PairDataset, keep: Path | None = None) -> Callable[[], float]:
    """The test part is translated; returns of how many sentences. ``keep``: where the texts go."""

    def call() -> float:
        found = translate(model, data, beam=BEAM, max_length=MAX_LENGTH, batch=TOKENS)
        if keep is not None:
            keep.write_text(json.dumps(found))
        return len(found)

    return call


def _write(model: EncoderDecoder, path: Path) -> None:
    torch.save({"config": model.decoder.c, "weights": model.state_dict()}, path)


def _read(path: Path) -> EncoderDecoder:
    saved = torch.load(path, weights_only=False)
    model = EncoderDecoder(saved["config"])
    model.load_state_dict(saved["weights"])
    return model


def main() -> None:
    """One process: ``train PRECISION``, ``learn`` or ``translate``, then ``worker`` or ``alone``, FOLDER, SECONDS."""
    kind, *precision, where, place, seconds = sys.argv[1:]
    if where == "worker":
        as_worker()
    folder = Path(place)
    data = PairDataset.open(folder / DATA)
    torch.manual_seed(0)
    if kind == "train":
        answer_rate(training(_read(folder / START), data, *precision), float(seconds))
    elif kind == "learn":
        model = _read(folder / START)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # it learns little enough
        call = training(model, data, "bfloat16", rate=LEARN_RATE, tokens=LEARN_TOKENS)
        for _ in range(LEARN):
            call()
        _write(model, folder / LEARNT)
    else:
        keep = folder / FOUND if where == "alone" else None
        answer_rate(searching(_read(folder / LEARNT), data, keep), float(seconds), warm=1)


# --- both -------------------------------------------------------------------------------------------------------------


def _own_threads() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


def _ours(where: str, *arguments: object) -> float:
    """What one worker per core, or one process alone, does in a second."""
    count, env = (CORES, {**os.environ, **environment()}) if where == "worker" else (1, _own_threads())
    kind, *precision, folder, seconds = arguments
    return sum(rates("benchmarks.translation", count, env, kind, *precision, where, folder, seconds))


def rows(seconds: float) -> Iterator[dict[str, Any]]:
    """The rows of the report; one that says how to install fairseq where it is missing."""
    try:
        require()
    except UserError as error:
        print(error)
        yield {"what": "skipped", "ours": "fairseq is not installed"}
        return
    with tempfile.TemporaryDirectory() as name:
        folder, data = Path(name), corpus()
        data.save(folder / DATA)
        fairseq_format.write(data, folder / FAIRSEQ)
        print(data.source)
        yield from _training_rows(folder, (data.source_lang, data.target_lang), seconds)
        yield from _search_rows(folder, data, seconds)


def _training_rows(folder: Path, languages: tuple[str, str], seconds: float) -> Iterator[dict[str, Any]]:
    kinds = [("worker", p) for p in PRECISIONS] + [("alone", p) for p in PRECISIONS]
    found: dict[Any, list[float]] = {kind: [] for kind in ["fairseq", *kinds]}
    for _ in range(ROUNDS):
        (folder / SAVED).unlink(missing_ok=True)  # fairseq would go on from it, and be done at once
        found["fairseq"].append(words_per_second(fairseq("train", train_arguments(folder), languages)))
        _write(read_checkpoint(folder / SAVED), folder / START)  # fairseq's own model and weights
        for where, precision in kinds:
            found[where, precision].append(_ours(where, "train", precision, folder, seconds))
    theirs = statistics.median(found["fairseq"])
    for where, precision in kinds:
        ours = statistics.median(found[where, precision])
        yield {
            "what": f"training, {precision}",
            "ours": f"{ours:.0f} words/s, {_name(where)}",
            "reference": f"{theirs:.0f} words/s, fairseq-train, float32",
            "ratio": ours / theirs,
        }


def _search_rows(folder: Path, data: PairDataset, seconds: float) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks.translation", "learn", "alone", str(folder), "0"]
    subprocess.run(command, env=_own_threads(), check=True)
    checkpoint = torch.load(folder / SAVED, weights_only=False)
    torch.save({**checkpoint, "model": to_fairseq(_read(folder / LEARNT))}, folder / TRAINED)
    found: dict[str, list[float]] = {"fairseq": [], "worker": [], "alone": []}
    for _ in range(SEARCHES):
        log = fairseq("generate", generate_arguments(folder), (data.source_lang, data.target_lang))
        found["fairseq"].append(sentences_per_second(log))
        for where in ("worker", "alone"):
            found[where].append(_ours(where, "translate", folder, seconds))
    theirs = statistics.median(found["fairseq"])
    for where in ("worker", "alone"):
        ours = statistics.median(found[where])
        yield {
            "what": f"beam {BEAM}, float32",
            "ours": f"{ours:.1f} sentences/s, {_name(where)}",
            "reference": f"{theirs:.1f} sentences/s, fairseq-generate, float32",
            "ratio": ours / theirs,
        }
    symbols = data.pieces.pieces()
    texts = json.loads((folder / FOUND).read_text()), translations(log, data, symbols)
    scores = [bleu(text, data.references("test"))[0] for text in texts]
    same = sum(a == b for a, b in zip(*texts, strict=True))
    yield {
        "what": f"BLEU, {same} of {len(texts[0])} the same",
        "ours": f"{scores[0]:.2f}",
        "reference": f"{scores[1]:.2f}, fairseq-generate",
    }


def _name(where: str) -> str:
    return f"{CORES} workers" if where == "worker" else "one process"


if __name__ == "__main__":
    main()
