"""The translation experiments' runs made by fairseq itself: `--backend fairseq`.

SP is fairseq's own architecture, µP the plug-in's (`mutransfer.fairseq_mup`), at the spec's sizes, on the same pieces
in fairseq's format. Init and batches are fairseq's, so losses are near ours, not equal to them. Nothing is translated.
"""

from __future__ import annotations

import math
import resource
import sys
import tempfile
import time
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mutransfer.data import fairseq_format
from mutransfer.data.pairs import PairDataset
from mutransfer.errors import UserError
from mutransfer.fairseq_mup import backend
from mutransfer.models.transformer_config import Config
from mutransfer.training.loop import EXPLODED, final_loss, loss_curve
from mutransfer.training.provenance import provenance
from mutransfer.training.spec import RunRecord, RunSpec


def options(spec: RunSpec, c: Config, base: Config) -> list[str]:
    """Of ``fairseq-train``: the model ``c``, and in µP its base."""
    sizes = [("embed-dim", c.width), ("ffn-embed-dim", c.d_ffn), ("attention-heads", c.heads), ("layers", c.depth)]
    found = [f"--{side}-{name}={size}" for side in ("encoder", "decoder") for name, size in sizes]
    found += [f"--dropout={c.dropout}", "--attention-dropout=0", "--activation-dropout=0"]
    found += [f"--max-source-positions={c.length - 1}", f"--max-target-positions={c.length - 1}"]
    found += ["--share-all-embeddings" if c.joint else "--share-decoder-input-output-embed"]
    if spec.parametrization == "mup":
        found += [f"--mup-base-width={base.width}", f"--mup-base-ffn={base.d_ffn}", f"--mup-base-heads={base.heads}"]
        found += [f"--mup-alpha-output={c.output_mult}", f"--mup-alpha-attn={float(spec.hp('attn_mult'))}"]
    elif float(spec.hp("output_mult")) != 1 or float(spec.hp("attn_mult")) != 1:
        raise UserError("fairseq's own architecture has no multipliers: output_mult and attn_mult must be 1 in SP.")
    return found


def run(spec: RunSpec, dataset: PairDataset, c: Config, base: Config) -> RunRecord:
    """One run of ``fairseq-train`` in a process of its own; the memory is that of the worker's largest such process.

    Raises `UserError` if fairseq is not installed, fails, or cannot be what the spec asks for.
    """
    if c.head_size * c.heads != c.width:
        raise UserError(f"fairseq's heads divide the width: {c.heads} of {c.head_size} at width {c.width} do not.")
    start = time.perf_counter()
    result = backend.train(
        _folder(dataset.fingerprint, dataset),
        arch=("mup_" if spec.parametrization == "mup" else "") + "transformer_iwslt_de_en",
        arch_options=options(spec, c, base),
        updates=spec.steps,
        lr=2.0**spec.log2_lr,
        seed=spec.seed + 1,  # of 0 some of fairseq's generators are not seeded
        max_tokens=spec.batch,
        languages=(dataset.source_lang, dataset.target_lang),
        weight_decay=float(spec.hp("weight_decay")),
    )
    seconds, losses = time.perf_counter() - start, result.losses
    unit = 2**20 if sys.platform == "darwin" else 2**10  # of what the system counts, in a MiB
    where = provenance(dataset.source, dataset.is_real, torch.device("cpu"))
    reason = result.reason
    if not reason and final_loss(losses, spec.steps) > EXPLODED * losses[0]:
        reason = f"the loss is {final_loss(losses, spec.steps):.4g} at the end, {losses[0]:.4g} at the first step"
    return RunRecord(
        spec=spec,
        status="diverged" if reason else "finished",
        train_loss=math.inf if reason else final_loss(losses, spec.steps),
        test_loss=math.nan if reason or result.valid_loss is None else result.valid_loss,
        steps_done=len(losses),
        loss_curve=loss_curve(losses, spec.steps),
        wall_seconds=seconds,  # fairseq's start and validation too
        examples_per_second=len(losses) * spec.batch / seconds,
        peak_memory_mib=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit,
        reason=reason,
        provenance={**where, "backend": f"fairseq {_version()}"},
    )


@lru_cache(maxsize=1)
def _written(fingerprint: str) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mutransfer-fairseq-")


def _folder(fingerprint: str, dataset: PairDataset) -> Path:
    """The data in fairseq's format, once a process; removed when it ends."""
    folder = Path(_written(fingerprint).name)
    if not any(folder.iterdir()):
        fairseq_format.write(dataset, folder)
    return folder


def _version() -> str:
    for name in ("ve-fairseq", "fairseq-fixed", "fairseq"):
        try:
            return f"{version(name)} ({name})"
        except PackageNotFoundError:
            continue
    return "of unknown version"
