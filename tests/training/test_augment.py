"""Augmentation of whole batches against one image at a time."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mutransfer.training.augment import Augmented, CropFlipCutout, Standardize

SIZE, PAD, CUT = 8, 2, 3
MEAN = (120.4, 99.6, 7.0)


@pytest.fixture
def images():
    """Every pixel of every image and channel is another number, as far as 256 go."""
    return (torch.arange(5 * SIZE * SIZE * 3) * 7 % 251).to(torch.uint8).view(5, -1)


def candidates(image: np.ndarray, cutout: int) -> set[bytes]:
    """All that may become of one image [H, H, C]: NumPy's own reflection padding, every crop, mirrored or not."""
    padded = np.pad(image, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="reflect")
    crops, cuts, found = range(2 * PAD + 1), range(SIZE - cutout + 1 if cutout else 1), set()
    for y, x, step, cut_y, cut_x in itertools.product(crops, crops, (1, -1), cuts, cuts):
        done = padded[y : y + SIZE, x : x + SIZE][:, ::step].copy()
        done[cut_y : cut_y + cutout, cut_x : cut_x + cutout] = np.round(MEAN)
        found.add(done.tobytes())
    return found


@pytest.mark.parametrize("cutout", [0, CUT])
def test_every_image_is_a_crop_of_its_padded_self(images, cutout):
    """And in many draws every crop, mirrored and not, occurs: no image is left out, none comes from another one."""
    augment = CropFlipCutout(seed=0, size=SIZE, pad=PAD, cutout=cutout, mean=MEAN)
    rows = torch.tensor([3, 0, 3])
    allowed = {row: candidates(images[row].view(SIZE, SIZE, 3).numpy(), cutout) for row in (0, 3)}
    seen: dict[int, set[bytes]] = {0: set(), 3: set()}
    for _ in range(400):
        for row, image in zip(rows.tolist(), augment(images, rows, *augment.draw(1, 3)), strict=True):
            seen[row].add(image.numpy().tobytes())
    assert seen[0] <= allowed[0] and seen[3] <= allowed[3]
    if not cutout:
        assert seen[0] == allowed[0] and len(allowed[0]) == 2 * (2 * PAD + 1) ** 2


def test_the_seed_decides_the_draws(images):
    """Same seed, same images, batch for batch; another seed or another batch, others; the data stays as it was."""
    before = images.clone()

    augments = [CropFlipCutout(seed=seed, size=SIZE, pad=PAD, cutout=CUT, mean=MEAN) for seed in (0, 0, 1)]
    first, again, other = (torch.stack([f(images, torch.arange(5), *f.draw(1, 5)) for _ in range(3)]) for f in augments)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], first[1])
    assert torch.equal(images, before)


def test_images_are_standardized_channel_by_channel(images):
    """In NCHW, stored channels-last, which convolutions like."""
    std = (60.0, 50.0, 2.0)
    found = Standardize(SIZE, MEAN, std)(images)
    wanted = (images.view(5, SIZE, SIZE, 3).numpy() - np.array(MEAN)) / np.array(std)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), wanted, rtol=1e-5, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_training_images_are_augmented_and_test_images_are_not(images):
    """The loss sees what `augment` gives; the evaluation sees the images themselves."""
    labels = torch.arange(5)
    data = SimpleNamespace(train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    seen = []

    def model(x):
        seen.append(x)
        return torch.zeros(len(x), 5)

    plain = Standardize(SIZE, (0.0,) * 3, (1.0,) * 3)
    task, same = (
        Augmented(data, F.cross_entropy, plain, CropFlipCutout(seed=0, size=SIZE, pad=PAD, cutout=CUT, mean=MEAN))
        for _ in range(2)
    )
    rows = torch.tensor([2, 4])
    ((x, y),) = task.batches(rows[None])
    assert torch.equal(x, same._augment(images, rows, *same._augment.draw(1, 2))) and y.tolist() == [2, 4]
    assert not torch.equal(x, images[rows])
    assert task.loss(model, x, y).item() == pytest.approx(np.log(5))
    task.evaluate(model)
    assert torch.equal(seen[0], plain(x)) and torch.equal(seen[1], plain(images))
