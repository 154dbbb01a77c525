"""Data sets as tensors in memory, each with its source and fingerprint, and the procedural stand-in."""

from mutransfer.data.dataset import ImageDataset, fingerprint_of
from mutransfer.data.synthetic import synthetic_cifar

__all__ = ["ImageDataset", "fingerprint_of", "synthetic_cifar"]
