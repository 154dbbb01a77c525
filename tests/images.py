"""A data set of images to learn in seconds."""

import numpy as np

from mutransfer.data import ImageDataset


def tinted(*_):
    """512 noisy images with a class-dependent tint: something to learn, nothing to wait for."""
    rng = np.random.default_rng(0)

    def part(n):
        y = np.arange(n) % 10
        x = rng.integers(0, 128, (n, 32, 32, 3)) + (12 * y)[:, None, None, None]
        return x.astype(np.uint8), y

    return ImageDataset.from_arrays("synthetic", "tinted noise", is_real=False, train=part(512), test=part(64))
