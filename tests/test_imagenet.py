"""Table 13's path: a folder of ten classes of image files through the command line; crops, parts of a batch, errors."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision import transforms

from data_scripts import imagenet as script
from experiments.cifar_resnet.experiment import EXPERIMENT
from experiments.cifar_resnet.imagenet import IMAGENET
from mutransfer import cli
from mutransfer.data.images import AREA, DRAWS, SHAPE, ImageNetFolder, _box, central, cropped
from mutransfer.errors import UserError
from mutransfer.training.augment import FolderClassification, Standardize
from mutransfer.training.step import Step
from tests.here import Here, command
from tests.small import by_formula

MEAN, STD = (120.0, 115.0, 105.0), (60.0, 60.0, 60.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten classes, eight training and two test images each, of several sizes, formats and modes; tinted by class."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 2)):
        for c in range(10):
            folder = root / "imagenet" / part / f"n{c:08d}"
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = rng.integers(70, 120, 2)
                pixels = rng.integers(0, 40, (height, width, 3)) + 24 * c * np.array([1, c % 2, c % 3 == 0])
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                if i == 1:  # as some files of ImageNet are
                    image = image.convert("CMYK" if c % 2 else "L")
                image.save(folder / f"{i}.JPEG", format="JPEG")
    return root


@pytest.fixture(scope="module")
def listed(data):
    return ImageNetFolder.open(data / "imagenet")


# The experiment at a size of seconds.
SIZE = replace(IMAGENET.scales["smoke"], log2_lrs=(-7, -4, -1), seeds=1, steps=6, batch=8, hps={"size": 32})
TINY = replace(EXPERIMENT, elsewhere={"imagenet": replace(IMAGENET, scales={**IMAGENET.scales, "smoke": SIZE})})


def images(root, *places):
    """PNG files of 8 x 8 pixels."""
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / f"{place}.png")


def task(listed, seed=0, **options):
    standardize = Standardize(32, MEAN, STD)
    return FolderClassification(listed, F.cross_entropy, standardize, seed=seed, **{"eval_batch": 4, **options})


def run(*args):
    return cli.main([str(a) for a in args])


def test_a_miniature_folder_is_swept_and_drawn_as_table_13(data, tmp_path):
    """SP beside µP from the proxy's width on, where they are equal; the images are named as not ImageNet."""
    sweep = ["cifar_resnet", "--dataset", "imagenet", "--scale", "smoke", "--data", data, "--out", tmp_path]
    assert command(*sweep, of=TINY) == 0
    folder = tmp_path / "figures/cifar_resnet/imagenet"
    table = (folder / "table.md").read_text()
    assert "STAND-IN DATA, not ImageNet" in table and "80 training images of 10 classes" in table
    assert "77.16" in table and "What is copying worth?" in table
    runs = pd.read_csv(folder / "runs.csv")
    losses = runs.pivot(index=["width", "log2_lr", "seed"], columns="parametrization", values="train_loss").dropna()
    base, wide = losses.loc[8], losses.loc[16]  # the grid may be extended for one of the two only
    assert (base["sp"] == base["mup"]).all() and len(base) >= 2 and (wide["sp"] != wide["mup"]).any()
    assert set(runs["status"]) <= {"finished", "diverged"} and not (tmp_path / "figures/cifar_resnet/runs.csv").exists()


def test_tuning_draws_from_table_13s_grid(data, tmp_path):
    """64 samples at `paper`, 16 here; learning rate, alpha_output, weight decay and momentum are the grid's."""
    tune = ["tune", "cifar_resnet", "--dataset", "imagenet", "--scale", "smoke", "--data", data, "--out", tmp_path]
    assert command(*tune, of=TINY, engine=Here(by_formula)) == 0
    runs = pd.read_csv(tmp_path / "figures/cifar_resnet/imagenet/tune/runs.csv")
    assert len(runs[runs["role"] == "proxy"]) == 16 and (runs["role"] == "target").sum() == 1
    z = np.log2(2.0 ** runs["log2_lr"] / 2.048)
    assert np.allclose(z, z.round(), atol=1e-4) and z.between(-5.01, 4.01).all()
    space = IMAGENET.variants["wide_resnet50"].search
    assert {32.768, 2.048} <= set(space["lr"].values) and 0.625 in space["output_mult"].values  # Table 13's best
    assert 0.4375 in space["momentum"].values and IMAGENET.scales["paper"].samples == 64


def test_the_published_size_is_planned_without_the_images_and_not_run(tmp_path, capsys):
    command = ["cifar_resnet", "--dataset", "imagenet", "--scale", "paper", "--data", tmp_path, "--out", tmp_path]
    assert run("plan", *command) == 0
    plan = capsys.readouterr().out
    assert "31250" in plan and "cannot be downloaded" in plan  # 50 epochs of 625 batches
    assert run(*command) == 2
    assert "train/CLASS/*.JPEG" in capsys.readouterr().err
    assert run("cifar_resnet", "--dataset", "imagnet") == 2
    assert "imagenet" in capsys.readouterr().err
    assert run("cifar_resnet", "--dataset", "imagenet", "--scale", "cpu") == 2
    assert "smoke, paper" in capsys.readouterr().err


def test_a_folder_that_is_not_whole_is_refused(tmp_path):
    with pytest.raises(UserError, match="ImageFolder"):
        ImageNetFolder.open(tmp_path)
    images(tmp_path, "train/a/x", "train/b/x", "val/a/x")
    with pytest.raises(UserError, match="class b"):
        ImageNetFolder.open(tmp_path)
    (tmp_path / "train/a/x.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="no whole image"):
        cropped(str(tmp_path / "train/a/x.png"), [0.5] * DRAWS, 8)


def test_crops_are_distributed_as_torchvisions():
    """Area, shape and place of the boxes against ``RandomResizedCrop``, in its mean and quartiles."""
    generator, count, (width, height) = torch.Generator().manual_seed(0), 4000, (120, 80)
    image = Image.new("RGB", (width, height))
    torch.manual_seed(0)

    ours, theirs = [], []
    for uniform in torch.rand(count, DRAWS, generator=generator).tolist():
        left, upper, right, lower = _box(width, height, uniform)
        assert 0 <= left < right <= width and 0 <= upper < lower <= height
        ours.append((left, upper, right - left, lower - upper))
        i, j, h, w = transforms.RandomResizedCrop.get_params(image, list(AREA), list(SHAPE))
        theirs.append((j, i, w, h))

    def quantiles(boxes, q):
        left, upper, w, h = np.transpose(boxes)
        return np.quantile([w * h / (width * height), np.log(w / h), left / width, upper / height], q, axis=1)

    for q in (0.25, 0.5, 0.75):  # four standard errors of a quantile of 4000 numbers is about 3% of their range
        assert np.allclose(quantiles(ours, q), quantiles(theirs, q), atol=0.03)
    very_wide = _box(400, 10, [0.999, 0.0, 0, 0] * 10 + [0])  # no try fits: the central part, as wide as allowed
    assert very_wide == (193, 0, 206, 10)


def test_test_images_are_scaled_to_256_and_cut_to_224(listed):
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for path in listed.paths["test"][:4]:
        assert np.array_equal(central(path, 224), np.asarray(theirs(Image.open(path).convert("RGB"))))


def test_batches_depend_on_the_seed_alone_and_not_on_the_threads(listed):
    """And a run that goes on in mid-epoch reads the files of the rest only, cropped as they would have been."""
    rows = torch.arange(80).view(5, 16)
    (one, again, other) = (
        [x for batch in task(listed, seed, threads=threads).batches(rows) for x in batch]
        for seed, threads in ((0, 1), (0, 3), (1, 1))
    )
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    assert one[0].shape == (16, 32 * 32 * 3) and one[0].dtype == torch.uint8
    assert torch.equal(torch.cat(one[1::2]), listed.labels["train"])
    resumed = task(listed)
    resumed.skip(rows[:3])
    rest = [x for batch in resumed.batches(rows[3:]) for x in batch]
    assert all(torch.equal(a, b) for a, b in zip(rest, one[6:], strict=True)) and not [*resumed.batches(rows[5:])]


def test_evaluation_counts_every_test_image_once(listed):
    model = nn.Module()
    model.forward = lambda x: F.one_hot(torch.full((len(x),), 3), 10).float()
    loss, accuracy = task(listed, eval_batch=6).evaluate(model)
    assert accuracy == pytest.approx(0.1)
    assert loss == pytest.approx(math.log(9 + math.e) - 0.1, abs=1e-6)


def test_the_script_says_what_it_found(data, tmp_path, capsys):
    assert script.main(["--data", str(data)]) == 0
    assert "80 train, 20 test" in capsys.readouterr().out
    assert script.main(["--data", str(tmp_path)]) == 2
    assert "image-net.org" in capsys.readouterr().err


def test_the_fingerprint_is_of_the_files(tmp_path):
    images(tmp_path, "train/a/x", "train/b/x", "val/a/x", "val/b/x")
    before = ImageNetFolder.open(tmp_path).fingerprint
    assert ImageNetFolder.open(tmp_path).fingerprint == before
    images(tmp_path, "train/a/y")
    assert ImageNetFolder.open(tmp_path).fingerprint != before


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_batch_in_parts_is_the_whole_batch(momentum):
    """Without BatchNorm, which sees the parts: the same losses and weights to rounding; replayed as well."""

    def trained(parts):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=momentum)
        step = Step(lambda x, y: F.cross_entropy(model(x), y), optimizer, parts)
        x, y = torch.randn(5, 12, 6).double(), torch.randint(3, (5, 12))
        losses = torch.stack([step(*batch) for batch in zip(x, y, strict=True)])
        assert step.is_replayed
        return torch.cat([losses, *(p.detach().flatten() for p in model.parameters())])

    whole = trained(1)
    assert torch.allclose(trained(4), whole, rtol=1e-12) and torch.allclose(trained(3), whole, rtol=1e-12)
