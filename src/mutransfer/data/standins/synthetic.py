"""A procedural stand-in for CIFAR-10, for machines without the data: its shape and statistics, no photographs.

An image is a sum of smooth random grids (coarse ones stronger, so that the spectrum falls as in photographs), in
brightness and, weaker, in each colour. Its class adds two patterns of the same kind: the *mean*, which a linear model
can see, and one of several *variants* with a random sign, which only hidden features can use. Contrast and the strength
of the class patterns vary. They are tuned so that a linear model and the MLP of the paper's Figure 3 (widths 64 and
256, plain SGD, one epoch) reach about the losses, accuracies and best learning rates that they reach on CIFAR-10.

Identical bytes on every machine: the random bits are Philox4x64's own (`random_raw`), the arithmetic is
integer, and the matrix products are of integers whose sums stay below 2**24, which float32 adds exactly.
"""

from __future__ import annotations

import numpy as np

from mutransfer.data.images import ImageDataset

SOURCE = "synthetic stand-in, not CIFAR-10"
SIZE, CLASSES = 32, 10
DEFAULT_SEED = 2203

# Grid side -> standard deviation of its values, in units of about 1/14 grey level (see `_bell`).
LUMA = {1: 360, 2: 480, 4: 550, 8: 520, 16: 460}
CHROMA = {1: 150, 2: 150, 4: 160, 8: 140}
# Of these, the grids that carry the class patterns: coarse ones, as in photographs.
LUMA_SIGNAL, CHROMA_SIGNAL = (2, 4), (1, 2)
MEAN_STRENGTH, VARIANT_STRENGTH = 100, 200  # in 256ths of the background's
VARIANTS = 8  # a class
MEAN_GREY = 122
NOISE = 6  # pixel noise, grey levels either way
_CHUNK = 2000  # images at once: bounds memory, changes no byte


def synthetic_cifar(seed: int = DEFAULT_SEED, n_train: int = 50_000, n_test: int = 10_000) -> ImageDataset:
    """Images uint8 [N, 32, 32, 3] and labels 0..9, balanced; the same bytes for the same ``seed``.

    A smaller set is the beginning of a larger one. ``seed`` in 0..2**64-1 decides the classes' patterns too.
    """
    maker = _Maker(seed)
    train, test = maker.images(1, n_train), maker.images(2, n_test)
    return ImageDataset.from_arrays("synthetic", SOURCE, is_real=False, train=train, test=test)


class _Maker:
    """The grids and class patterns of one seed. A coefficient vector holds luma, then red, green, blue."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.luma, self.chroma = _basis(LUMA), _basis(CHROMA)  # [coefficients, 1024]
        levels = [(LUMA, LUMA_SIGNAL)] + 3 * [(CHROMA, CHROMA_SIGNAL)]
        self.amplitude = np.concatenate([np.full(g * g, a) for grids, _ in levels for g, a in grids.items()])
        carries = np.concatenate([np.full(g * g, g in signal) for grids, signal in levels for g in grids])
        pattern = self.amplitude * carries
        bits, n = self._stream(0), len(pattern)
        self.means = _bell(_take(bits, CLASSES, 4 * n)) * pattern * MEAN_STRENGTH >> 16
        self.variants = _bell(_take(bits, CLASSES * VARIANTS, 4 * n)) * pattern * VARIANT_STRENGTH >> 16

    def _stream(self, part: int) -> np.random.Philox:
        return np.random.Philox(key=np.array([self.seed, part], np.uint64))

    def images(self, part: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """``count`` images of stream ``part``; image i is of class i mod 10 and takes its i-th piece."""
        bits, images = self._stream(part), np.empty((count, SIZE, SIZE, 3), np.uint8)
        labels = np.arange(count) % CLASSES
        for start in range(0, count, _CHUNK):
            images[start : start + _CHUNK] = self._draw(bits, labels[start : start + _CHUNK])
        return images, labels

    def _draw(self, bits: np.random.Philox, labels: np.ndarray) -> np.ndarray:
        n, luma, chroma = len(self.amplitude), len(self.luma), len(self.chroma)
        raw = _take(bits, len(labels), 4 * n + 8 + 3 * SIZE**2)
        grids, choices, noise = np.split(raw, [4 * n, 4 * n + 8], axis=1)
        variant, sign, strength, contrast = choices[:, :4].astype(np.int64).T[:, :, None]

        z = _bell(grids) * self.amplitude >> 8
        variants = self.variants[labels * VARIANTS + variant[:, 0] % VARIANTS]
        z += (self.means[labels] + variants * (1 - 2 * (sign & 1))) * (32 + (strength >> 2)) >> 6
        z[:, 1:] = z[:, 1:] * (32 + (contrast >> 2)) >> 6  # all but the brightness of the whole image

        z_float = z.astype(np.float32)
        pixels = np.empty((len(labels), SIZE**2, 3), np.int32)
        brightness = z_float[:, :luma] @ self.luma
        for c in range(3):
            first = luma + c * chroma
            pixels[:, :, c] = brightness + z_float[:, first : first + chroma] @ self.chroma
        pixels >>= 10  # the basis is in 1024ths
        pixels += (noise.reshape(pixels.shape).astype(np.int32) - 128) * NOISE >> 4
        pixels >>= 3
        pixels += MEAN_GREY
        return pixels.clip(0, 255).astype(np.uint8).reshape(-1, SIZE, SIZE, 3)


def _take(bits: np.random.Philox, rows: int, columns: int) -> np.ndarray:
    """The stream's next bytes as uint8 [rows, columns]; ``columns`` must be a multiple of 8."""
    return bits.random_raw(rows * columns // 8).astype("<u8", copy=False).view(np.uint8).reshape(rows, columns)


def _bell(raw: np.ndarray) -> np.ndarray:
    """uint8 [rows, 4n] -> int64 [rows, n], nearly Gaussian: four bytes' sum less its mean (std 148)."""
    return raw.reshape(len(raw), -1, 4).sum(-1, dtype=np.int64) - 510


def _basis(levels: dict[int, int]) -> np.ndarray:
    """[coefficients, 1024]: bilinear enlargement of each g x g grid to 32 x 32, as integers in 1024ths."""
    rows = []
    for g in levels:
        up, step = np.zeros((SIZE, g)), SIZE // g
        for pixel in range(SIZE):
            low, rest = divmod(2 * pixel + 1 - step, 2 * step)  # in halves of a pixel, from a cell's centre
            up[pixel, max(low, 0)] += SIZE - rest * g // 2
            up[pixel, min(low + 1, g - 1)] += rest * g // 2
        rows.append(np.einsum("ya,xb->abyx", up, up).reshape(g * g, SIZE**2))
    return np.concatenate(rows).astype(np.float32)
