"""What part (i) of the benchmark compares is the same: words counted, batches, logs read, and the rule of BLEU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import translation as bench
from mutransfer.data.pairs import PairDataset
from mutransfer.data.standins.grammar import grammar_dataset
from mutransfer.models.transformer import EncoderDecoder
from mutransfer.models.transformer_config import Config
from mutransfer.training.translation import Translation, bleu, cuts

TRAIN_LOG = """\
2026-11-22 17:37:42 | INFO | train_inner | epoch 001:     10 / 127 loss=13.74, wps=4061.6, ups=1.13, wpb=3519.8
2026-11-22 17:37:48 | INFO | train_inner | epoch 001:     20 / 127 loss=13.17, wps=5446.6, ups=1.69, wpb=3227.1
2026-11-22 17:37:54 | INFO | train_inner | epoch 001:     30 / 127 loss=12.32, wps=6024.1, ups=1.7, wpb=3542.1
2026-11-22 17:38:23 | INFO | train_inner | epoch 001:     40 / 127 loss=11.56, wps=5500, ups=0.35, wpb=3581.8
2026-11-22 17:39:23 | INFO | train | epoch 001 | loss 12.075 | wps 1877.3 | ups 0.54
"""


@pytest.fixture(scope="module")
def data() -> PairDataset:
    return grammar_dataset(counts={"test": 40, "valid": 40, "train": 400})


def test_logs_are_read() -> None:
    """Training: the median of the lines but the first; the summary is none of them. The search: its own time."""
    assert bench.words_per_second(TRAIN_LOG) == 5500
    line = "| INFO | fairseq_cli.generate | Translated 1,000 sentences (13,123 tokens) in 25.0s (40 sentences/s, 5 t/s)"
    assert bench.sentences_per_second(line) == 40


def test_fairseqs_translations_are_put_together_as_ours(data: PairDataset, tmp_path: Path) -> None:
    """The references, cut into pieces and printed as fairseq does, have the BLEU of the references themselves."""
    symbols = data.pieces.pieces()
    target = data.pairs("test").target
    lines = [f"H-{i}\t-0.5\t{' '.join(symbols[n] for n in target[i].tolist())}" for i in range(len(target))]
    log = "\n".join(reversed([*lines, "H-scores are in base 2", f"H-{len(lines)}\t-1\t"]))
    found = bench.translations(log, data, symbols)
    assert found.pop() == ""  # an empty one, too
    assert found == [data.decode(target[i]) for i in range(len(target))]
    assert bleu(found, data.references("test"))[0] == pytest.approx(100)


def test_words_are_those_that_fairseq_counts(data: PairDataset) -> None:
    """An epoch of steps counts every target token and every end, and no padding."""
    c = Config(vocab=data.vocab, width=8, heads=2, depth=1, length=bench.LONGEST, norm="post", tied=True)
    step = bench.training(EncoderDecoder(c), data, "float32")
    translation = Translation(data, bench.LONGEST, multiple=bench.MULTIPLE)
    target = data.pairs("train").target
    assert sum(step() for _ in translation.epoch(bench.TOKENS, torch.Generator())) == len(target.tokens) + len(target)


def test_batches_are_fairseqs(data: PairDataset, tmp_path: Path) -> None:
    """fairseq cuts the folder that is written for it where we cut ours."""
    pytest.importorskip("fairseq.data.data_utils_fast")
    from fairseq.data.data_utils_fast import batch_by_size_fn

    pairs = data.pairs("train")
    source, target = pairs.source.lengths.numpy() + 1, pairs.target.lengths.numpy() + 1
    order = np.lexsort((target, source))
    sizes = np.maximum(source, target)
    theirs = batch_by_size_fn(order, lambda i: int(sizes[i]), 512, -1, 8)
    assert [len(batch) for batch in theirs] == np.diff([0, *cuts(sizes[order], 512)]).tolist()
