"""fairseq as a backend: losses in nats of every update, of the whole valid part, divergence, failure."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("fairseq.tasks", reason="needs fairseq; see mutransfer.fairseq_mup")

from fairseq_nets import shape

from mutransfer.data.pairs import PairDataset
from mutransfer.errors import UserError
from mutransfer.fairseq_mup import USER_DIR
from mutransfer.fairseq_mup.backend import arguments, run, train
from mutransfer.fairseq_mup.weights import read_checkpoint
from mutransfer.training.translation import Translation

pytestmark = pytest.mark.filterwarnings("ignore")  # fairseq and hydra use what torch and hydra deprecate
BASE = ("--mup-base-width=8", "--mup-base-ffn=16", "--mup-base-heads=2")
SMALL = shape(16, "--share-decoder-input-output-embed", "--dropout=0", *BASE)
SETTINGS = {"arch": "mup_transformer_iwslt_de_en", "arch_options": SMALL, "max_tokens": 300}


def test_in_a_process_of_its_own(folder, tmp_path):
    """The same losses as in this process; the learning rate warms up for 4% of the updates; the seed counts."""
    settings = {**SETTINGS, "updates": 30, "lr": 0.02}
    found = train(folder, **settings)
    assert len(found.losses) == 30 and not found.reason
    assert found.losses[0] == pytest.approx(math.log(100), rel=0.3)
    assert found.losses[-1] < found.losses[0] - 0.5 and found.valid_loss < found.losses[0]
    command = arguments(folder, tmp_path, **settings)
    assert command[command.index("--warmup-updates") + 1] == "1"
    assert found == run(command)
    assert run(arguments(folder, tmp_path, **{**settings, "updates": 2, "seed": 2})).losses != found.losses[:2]


def test_the_losses_are_ours(folder, dataset: PairDataset, tmp_path):
    """Our own model with its weights, and our own loss: of the whole valid part, in nats."""
    found = run(arguments(folder, tmp_path, **SETTINGS, updates=8, lr=0.02, save=True))
    ours = read_checkpoint(tmp_path / "checkpoint_last.pt")
    loss, _ = Translation(dataset, 200).evaluate(ours)
    assert found.valid_loss == pytest.approx(loss, rel=1e-5)


def test_divergence_is_a_result(folder, tmp_path):
    """Stopped at once, with what was before; no error."""
    found = run(arguments(folder, tmp_path, **SETTINGS, updates=60, lr=1e30))
    assert found.reason and found.valid_loss is None
    assert 0 < len(found.losses) < 60 and all(map(math.isfinite, found.losses))
    assert "update" in found.reason


def test_failure_says_its_last_line(tmp_path, monkeypatch):
    """With nothing there to train on, fairseq says so; whatever its process says last, `train` does."""
    with pytest.raises(FileNotFoundError, match=r"dict\.de\.txt"):
        run(arguments(tmp_path, tmp_path, **SETTINGS, updates=1, lr=0.1))
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho one >&2\necho 'the last line' >&2\nexit 1\n")
    failing.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(failing))
    with pytest.raises(UserError, match=r"^fairseq-train failed: the last line$"):
        train(tmp_path, **SETTINGS, updates=1, lr=0.1)


def test_plain_fairseq_train(folder: Path, tmp_path: Path):
    """The command of the README, in a process that knows nothing of us; started again, it goes on."""
    command = [str(Path(sys.executable).with_name("fairseq-train")), str(folder), "--user-dir", USER_DIR, *SMALL]
    command += ["--arch", SETTINGS["arch"], "--optimizer", "mup_adam", "--lr", "0.01", "--max-tokens", "300", "--cpu"]
    command += ["--save-dir", str(tmp_path), "--num-workers", "0", "--log-interval", "1", "--log-format", "simple"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*command, "--max-update", "2"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "num_updates=2" in done.stdout and "MupTransformerModel" in done.stdout
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)
    assert {g["mup_lr"] for g in state["last_optimizer_state"]["param_groups"]} == {1.0, 0.5}
