"""The coordinate check of the Transformer language model, whose runs are `experiments.language`'s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from experiments.language import config, examples, flops, run
from experiments.shared import coordinate_table
from mutransfer.data import TokenDataset
from mutransfer.designs.experiment import Experiment
from mutransfer.models.transformer import Decoder
from mutransfer.training.spec import RunSpec

__all__ = ["coordinates", "examples", "flops", "run"]

CHECK_WIDTHS = {"smoke": (32, 64, 128)}  # of the coordinate check; by scale, else:
MOST_WIDTHS = (64, 128, 256, 512, 1024)
# The same batch at every step, of far fewer tokens than the narrowest d_head: theory's exponents are those of queries
# that are aligned with the keys they are measured on. And a rate so low that a step is small at every width in SP too.
CHECK_BATCH, CHECK_LENGTH, CHECK_LR, CHECK_STEPS, CHECK_SEEDS = 1, 4, 2.0**-14, 4, 5
SHOWN = {
    "readout": "logits",
    "stack.blocks.1.attention.logits": "attention logits, block 2",
    "stack.embed": "word embedding",
}


def visible(spec: RunSpec, width: int) -> Decoder:
    """The model whose attention logits hooks can see."""
    return Decoder(config(spec, width, fused=False))


def coordinates(
    experiment: Experiment, dataset: TokenDataset, scale: str, variant: str, *, widths: Sequence[int] = ()
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Figure 5: four steps of Adam at several widths, on one batch of the text."""
    widths = widths or CHECK_WIDTHS.get(scale, MOST_WIDTHS)
    template = experiment.specs(dataset, scale=scale, variant=variant)[0]
    window = dataset.windows("train", CHECK_LENGTH)[:CHECK_BATCH].long()
    builds = {
        name: partial(visible, replace(template, parametrization=name, base_width=widths[0])) for name in ("sp", "mup")
    }
    frame = coordinate_table(
        builds,
        widths,
        [(window[:, :-1], window[:, 1:])],
        shown=SHOWN,
        optimizer=experiment.optimizer,
        lr=CHECK_LR,
        steps=CHECK_STEPS,
        seeds=CHECK_SEEDS,
    )
    facts = {"activations": SHOWN, "may_shrink_at_init": [*SHOWN][:2], "lr": CHECK_LR}
    return frame, {**facts, "steps": CHECK_STEPS}
