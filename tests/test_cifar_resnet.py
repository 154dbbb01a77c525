"""cifar_resnet through the command line, at a size of seconds; its network beside the textbook loop."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from experiments.cifar_resnet import runs as resnet
from experiments.cifar_resnet.experiment import EXPERIMENT, ORIGINAL_LR, RECIPE_STATEMENT
from experiments.shared import scaled
from mutransfer.coordinate_check import coord_check
from mutransfer.designs.panels import Values
from mutransfer.models.resnet import Davidnet
from mutransfer.training import loop
from mutransfer.training.augment import Standardize
from mutransfer.training.schedule import schedule
from tests.here import command
from tests.images import tinted
from tests.small import small


def test_the_sweep_says_what_copying_is_worth(smoke):
    """LR curves, learning curves, coordinate check and accuracies from one set of runs; SP is µP at the base width."""
    folder = smoke("cifar_resnet") / "figures/cifar_resnet"
    table = (folder / "table.md").read_text()
    assert "STAND-IN DATA, not CIFAR-10" in table
    assert "What is copying worth?" in table and "95.29 %" in table and "points (2 seeds)" in table
    runs = pd.read_csv(folder / "runs.csv")
    losses = runs.pivot(index=["width", "log2_lr", "seed"], columns="parametrization", values="train_loss")
    base = losses.loc[2].dropna()  # the grid may be extended for one of them only
    assert (base["sp"] == base["mup"]).all() and len(base) >= 4
    assert (runs["test_accuracy"].between(0, 1) | (runs["status"] == "diverged")).all()
    assert (runs["output_mult"] == 4).all() and set(runs["status"]) <= {"finished", "diverged"}
    shared = set(pd.read_csv(folder / "figure_16/runs.csv")["run_id"])
    assert len(shared & set(runs["run_id"])) == 2 * 2 * 2 * 2 < len(shared)  # only alpha_output is trained anew


def test_a_run_is_the_textbook_loop():
    """Plain PyTorch modules, optimizer and loop on the same augmented batches give the same losses and accuracy."""
    data, width, steps, rate = tinted(), 4, 12, 0.25
    changes = {"width": width, "base_width": width, "batch": 32, "steps": steps, "log2_lr": -2.0}
    spec = replace(EXPERIMENT.specs(data, scale="smoke", variant="davidnet")[0], **changes)
    ours = resnet.run(spec, data)
    torch.manual_seed(spec.seed)
    model, task = Davidnet(width, output_mult=4.0), resnet.task(data, spec.seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    factor, losses = schedule("warmup_linear"), []
    for step, (images, labels) in enumerate(loop.Batches(spec, task)):
        optimizer.param_groups[0]["lr"] = rate * factor(step / steps)
        loss = F.cross_entropy(model(task._standardize(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(ours.loss_curve, losses, rtol=1e-3)
    model.eval()
    assert ours.test_accuracy == pytest.approx(loop.evaluate(model, task)[1], abs=0.02)
    assert losses[-1] < losses[0] - 0.2


def growths(network: str, parametrization: str, widths: tuple[int, ...]) -> dict[str, float]:
    """Growth exponents of the changes shown in the experiment's figure, after three steps on noise."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 3 * 32 * 32), dtype=np.uint8))
    batch = Standardize(resnet.SIZE, resnet.MEAN, resnet.STD)(images), torch.arange(16) % 10
    options = {"parametrization": parametrization, "optimizer": "sgd", "lr": resnet.CHECK_LR, "steps": 3, "seeds": 1}
    frame = coord_check(lambda width: resnet.NETWORKS[network](width, 1.0), widths, [batch], **options)
    found = frame.exponents().query("kind == 'change' and step == 3").set_index("activation")["exponent"]
    return {name: found[name] for name in resnet.SHOWN[network]}


@pytest.mark.parametrize(
    ("network", "widths", "readout"),
    [("davidnet", (4, 8, 16, 32), "readout"), ("torchvision_resnet18", (32, 64), "fc")],
)
def test_coordinates_stay_in_mup_and_grow_in_sp(network, widths, readout):
    """Convolutions, BatchNorm and readout."""
    assert all(abs(x) < 0.25 for x in growths(network, "mup", widths).values())
    sp = growths(network, "sp", widths)
    assert sp[readout] > 0.75 and sp.get("residual3.branch.1.0", 1) > 0.25


@pytest.mark.parametrize("scale", ["smoke", "cpu"])
def test_torchvisions_resnet18_is_initialised_at_every_width_of_a_scale(scale):
    """Its narrowest kernels are too small to measure how their init goes with width; every seed must start."""
    data = tinted()
    for spec in EXPERIMENT.specs(data, scale=scale, variant="torchvision_resnet18", seeds=1):
        if spec.log2_lr == EXPERIMENT.scales[scale].log2_lrs[0]:
            model, _ = scaled(spec, resnet.build, "cpu")
            kernel = model.layer4[1].conv2.weight.detach()
            expected = (2 / (9 * 8 * spec.width)) ** 0.5  # Kaiming's of fan_out; µP's of hidden weights is the same
            assert float(kernel.std()) == pytest.approx(expected, rel=0.1)


def test_torchvisions_resnet18_has_its_own_shapes_at_width_64():
    """And half of them at 32; not a line of it is changed, so its class is a subclass of torchvision's."""
    from torchvision.models import ResNet
    from torchvision.models import resnet18 as torchvisions

    ours, theirs = resnet.resnet18(64, 1.0), torchvisions(num_classes=10)
    assert isinstance(ours, ResNet)
    assert {n: p.shape for n, p in ours.named_parameters()} == {n: p.shape for n, p in theirs.named_parameters()}
    half = resnet.resnet18(32, 1.0)
    convs = [m for m in half.modules() if isinstance(m, nn.Conv2d)]
    assert {m.out_channels for m in convs} == {32, 64, 128, 256} and half.fc.in_features == 256


def test_the_figure_over_lengths_says_what_its_runs_reached(tmp_path, capsys):
    """Five lengths at one learning rate: the table's accuracies are those of runs.csv, and it is redrawn as it was."""
    steps = Values(name="steps", label="steps", values=(2, 4, 6, 8, 12))
    tiny, declared = small("cifar_resnet"), EXPERIMENT.output("length")
    panel = replace(declared.panels("smoke")[0], line=steps)
    lengths = replace(tiny, outputs=(replace(declared, panels=lambda scale: [panel]),))
    assert command("cifar_resnet", "--figure", "length", "--scale", "smoke", "--out", tmp_path, of=lengths) == 0
    folder = tmp_path / "figures/cifar_resnet/figure_length"
    runs, table = pd.read_csv(folder / "runs.csv"), (folder / "table.md").read_text()
    assert sorted(runs["steps"]) == sorted(2 * (2, 4, 6, 8, 12)) and (runs["line"] == runs["steps"]).all()
    assert np.allclose(2.0 ** runs["x"], ORIGINAL_LR) and (runs["status"] == "finished").all()
    rows = [
        line.strip("| ").split(" | ") for line in table.split("## Every length")[1].split("\n## ")[0].split("\n")[4:]
    ]
    reached = {int(row[0]): [float(cell.split(" ")[0]) for cell in row[1:]] for row in rows if len(row) == 4}
    batch = tiny.scales["smoke"].batch
    mean = runs.groupby("steps")[["test_accuracy", "train_loss"]].mean()
    assert [*reached] == [*mean.index]
    for steps, (accuracy, loss) in zip(mean.index, mean.to_numpy(), strict=True):
        assert reached[steps] == pytest.approx([steps * batch / 512, 100 * accuracy, loss], abs=0.006)
    assert "STAND-IN DATA, not CIFAR-10" in table and RECIPE_STATEMENT in table
    assert "24 epochs, the recipe's own: not run" in capsys.readouterr().out
    assert {"length.png", "length.svg"} <= {path.name for path in folder.iterdir()}
