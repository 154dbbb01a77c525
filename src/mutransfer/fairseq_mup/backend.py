"""fairseq as a backend: ``fairseq-train`` on a folder for a number of updates -> the loss of every update.

`train` runs it in a process of its own, whose threads, seeds and logs stay there; `run` is what that process does.
fairseq logs in bits and rounds to three digits; losses here are what its criterion returns, in nats.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from mutransfer.errors import UserError
from mutransfer.fairseq_mup import USER_DIR, require

NEVER = 1 << 30
WARMUP = 0.04  # of training


@dataclass
class Result:
    """What a run of fairseq gave. Of a run that diverged, ``losses`` end before the loss that is not finite."""

    losses: list[float] = field(default_factory=list)  # of each update: label-smoothed, nats a target token
    valid_loss: float | None = None  # at the end: not smoothed, nats a target token
    reason: str = ""  # why it stopped early; "" if it did not


def arguments(
    folder: Path,
    scratch: Path,
    *,
    arch: str,
    arch_options: Sequence[str] = (),
    updates: int,
    lr: float,
    seed: int = 1,
    max_tokens: int = 4096,
    languages: tuple[str, str] = ("de", "en"),
    weight_decay: float = 0.0,
    save: bool = False,
) -> list[str]:
    """The arguments of ``fairseq-train`` on ``folder`` (`mutransfer.data.fairseq_format`), checkpoints in ``scratch``.

    A learning rate warms up for 4% of training, then falls as 1/sqrt(update); labels are smoothed by 0.1, Adam's betas
    are 0.9 and 0.98.

    Args:
        arch: ``transformer_iwslt_de_en``, ...; with ``mup_`` before it, in µP.
        arch_options: more arguments, of the model or any other; they win.
        lr: the peak, of the base in µP.
        max_tokens: of a batch, padding included.
        languages: source and target.
        weight_decay: decoupled, as fairseq's Adam has it.
    """
    return [
        *(str(folder), "--user-dir", USER_DIR, "--source-lang", languages[0], "--target-lang", languages[1]),
        *("--arch", arch, "--optimizer", "mup_adam" if arch.startswith("mup_") else "adam"),
        *("--adam-betas", "(0.9, 0.98)", "--adam-eps", "1e-08", "--weight-decay", repr(weight_decay)),
        *("--lr", repr(lr), "--lr-scheduler", "inverse_sqrt"),
        *("--warmup-updates", str(max(1, round(WARMUP * updates)))),  # of 0 fairseq divides by zero
        *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
        *("--max-tokens", str(max_tokens), "--max-update", str(updates), "--seed", str(seed)),
        # with fairseq's 8 the last batch, in training and validation, is left out unless it has a multiple of 8 pairs
        *("--required-batch-size-multiple", "1"),
        # one process: no workers for the data, one GPU at most, the valid part once at the end
        *("--num-workers", "0", "--distributed-world-size", "1", "--validate-interval", str(NEVER)),
        *("--save-dir", str(scratch), "--no-epoch-checkpoints", *(() if save else ("--no-save",))),
        *("--no-progress-bar", "--log-format", "simple", "--log-interval", str(NEVER)),
        *arch_options,
    ]


def train(folder: Path, **settings: Any) -> Result:
    """``fairseq-train`` with the settings of `arguments` in a process of its own, in float32: on a GPU where torch
    finds one, else on one thread. The same settings give the same losses on the same machine.

    Raises `UserError` if fairseq is not installed, or if it failed, with its last line.
    """
    require()
    with tempfile.TemporaryDirectory(prefix="fairseq-") as name:
        path = Path(name) / "result.json"
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path), *arguments(folder, path.parent, **settings)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(f"fairseq-train failed: {lines[-1]}")
        return Result(**json.loads(path.read_text()))


def run(command: Sequence[str]) -> Result:
    """``fairseq-train`` with the arguments ``command`` in this process, whose random state it sets.

    Raises `UserError` if fairseq is not installed.
    """
    require()
    import torch
    from fairseq import options, utils
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq_cli import train as fairseq_train

    command = [*command, *(() if torch.cuda.is_available() else ("--cpu",))]
    # fairseq's own parser looks for --user-dir in the arguments of the process
    utils.import_user_module(argparse.Namespace(user_dir=USER_DIR))
    args = options.parse_args_and_arch(options.get_training_parser(), input_args=command)
    with _recorded() as result:
        fairseq_train.main(convert_namespace_to_omegaconf(args))
    return result


class _Diverged(BaseException):
    """No `Exception`: for those fairseq writes a checkpoint of what crashed."""


@contextmanager
def _recorded() -> Iterator[Result]:
    """Keep the losses of what fairseq trains in this process meanwhile, and stop at the first that is not finite."""
    from fairseq.tasks import FairseqTask

    sums: dict[int, list[float]] = {}  # by update: the loss of its --update-freq batches, and its tokens
    valid, result = [0.0, 0.0], Result()
    train_step, valid_step = FairseqTask.train_step, FairseqTask.valid_step

    def training(*given: Any, update_num: int, **more: Any) -> Any:
        loss, size, log = train_step(*given, update_num=update_num, **more)
        if not math.isfinite(value := float(log["loss"])):
            raise _Diverged(f"the loss of update {update_num + 1} is {value}")
        total = sums.setdefault(update_num, [0.0, 0.0])
        total[:] = total[0] + value, total[1] + float(log["sample_size"])
        valid[:] = 0.0, 0.0
        return loss, size, log

    def validating(*given: Any, **more: Any) -> Any:
        loss, size, log = valid_step(*given, **more)
        valid[:] = valid[0] + float(log["nll_loss"]), valid[1] + float(log["ntokens"])
        return loss, size, log

    with mock.patch.multiple(FairseqTask, train_step=training, valid_step=validating):
        try:
            yield result
        except _Diverged as why:
            result.reason = str(why)
        except FloatingPointError as why:  # of the gradients, while the loss is finite
            result.reason = f"update {len(sums)}: {why}"
    result.losses = [loss / size for loss, size in sums.values()]
    if valid[1] and math.isfinite(loss := valid[0] / valid[1]):
        result.valid_loss = loss
    elif valid[1]:
        result.reason = result.reason or "the loss of the valid part is not finite"


if __name__ == "__main__":
    path, *rest = sys.argv[1:]
    Path(path).write_text(json.dumps(asdict(run(rest))))
