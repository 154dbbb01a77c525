"""Figures 3 and 9: the best learning rate of an MLP on CIFAR-10, over widths, in SP and µP.

Two hidden layers without biases, SGD without momentum, batch 64, images as (x/255 - 0.5)/0.5, zero readout, and the
multipliers that the paper's authors tuned at the base width (multipliers of 1 hide SP's shift).
"""

from __future__ import annotations

from math import log2
from pathlib import Path
from typing import Any

from mutransfer.designs.experiment import Data, Experiment, Size, Variant
from mutransfer.designs.grid import LrSweep
from mutransfer.designs.space import LogUniform

EPOCH = 50_000 // 64  # steps; the last, partial batch is dropped
FIGURE_9 = "With tanh the best learning rate transfers less well than with ReLU, and still better in µP than in SP."
STATEMENTS = {
    ("relu", "xent"): "In SP the best learning rate moves by about an order of magnitude between widths 256 and 8192 "
    "(-0.66 octaves per doubling); in µP it stays.",
    ("relu", "mse"): "The paper draws the mean squared error with tanh only; the multipliers are its authors'.",
    ("tanh", "xent"): FIGURE_9,
    ("tanh", "mse"): FIGURE_9,
}
GRID = range(-9, -2)  # log2 LRs at the cpu scale, where a variant has no grid of its own
LOWER = {"smoke": 0, "cpu": 0, "gpu": 2, "paper": 4}  # octaves added below a variant's grid, for wider models


def load(data: Path | None, dataset: str | None, scale: str) -> Any:
    from data_scripts import cifar10

    return cifar10.load(data)


def variant(nonlinearity: str, loss: str, input_mult: float, output_mult: float, grid: range | None = None) -> Variant:
    """One panel pair of Figures 3 and 9. ``grid``: log2 LRs at the cpu scale; wider models want lower ones in SP."""
    activation = {"relu": "ReLU", "tanh": "tanh"}[nonlinearity]
    figure = "Figure 3" if (nonlinearity, loss) == ("relu", "xent") else "Figure 9"
    words = {"xent": "cross-entropy", "mse": "mean squared error"}[loss]
    ours = {"optimizer": "SGD", "activation": activation, "loss": loss, "losses": loss, "hidden_layers": "2"}
    return Variant(
        title=f"{activation} MLP, {words}, SGD",
        y_label=f"training loss ({words}{', nats' if loss == 'xent' else ''})",
        hps={"nonlinearity": nonlinearity, "loss": loss, "input_mult": input_mult, "output_mult": output_mult},
        loss_ceiling=2.302585 if loss == "xent" else 0.09,  # of the zero readout: chance
        grids={} if grid is None else {name: tuple(range(grid.start - k, grid.stop)) for name, k in LOWER.items()},
        where=figure,
        ours=ours,
        statement=STATEMENTS[nonlinearity, loss],
        # the grid's learning rates and two octaves more; multipliers up to 32 times smaller or larger than the authors'
        search={
            "lr": LogUniform((grid or GRID).start, (grid or GRID).stop + 2),
            "input_mult": LogUniform(log2(input_mult) - 5, log2(input_mult) + 5),
            "output_mult": LogUniform(log2(output_mult) - 5, log2(output_mult) + 5),
        },
    )


EXPERIMENT = Experiment(
    name="cifar_mlp",
    summary="Figures 3 and 9: MLP on CIFAR-10, SGD, learning rate over widths",
    trains="experiments.cifar_mlp.runs",
    data=Data(load=load, stands_in_for="CIFAR-10"),
    optimizer="sgd",
    momentum=0.0,  # the paper says SGD; its released script has 0.9, its notebook none
    outputs=(LrSweep(),),
    scales={
        "smoke": Size((32, 64, 128), (-8, -6, -4, -2), seeds=2, steps=100, batch=64, samples=16),
        # 0.82 epochs: what leaves two cores a margin within ten minutes
        "cpu": Size((64, 128, 256, 512, 1024), GRID, seeds=2, steps=640, batch=64),
        "gpu": Size((128, 256, 512, 1024, 2048, 4096), range(-12, -2), seeds=3, steps=20 * EPOCH, batch=64),
        "paper": Size(
            (256, 512, 1024, 2048, 4096, 8192), range(-14, -1), seeds=5, steps=20 * EPOCH, batch=64, base_width=128
        ),
    },
    # input_mult and output_mult: as tuned by the authors (facts from the released MLP example)
    variants={
        "relu_xent": variant("relu", "xent", 2**-8, 32),
        "tanh_xent": variant("tanh", "xent", 2**-3, 32, range(-14, -7)),
        "relu_mse": variant("relu", "mse", 2**-5, 32, range(-15, -8)),
        "tanh_mse": variant("tanh", "mse", 8.0, 2**-3, range(-1, 6)),
    },
)
