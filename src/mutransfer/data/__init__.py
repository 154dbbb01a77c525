"""Data sets as tensors in memory, each with its source and fingerprint, and the stand-ins for machines without."""

from mutransfer.data.images import ImageDataset
from mutransfer.data.standins.synthetic import synthetic_cifar
from mutransfer.data.standins.topics import topics_dataset
from mutransfer.data.tokens import TokenDataset

__all__ = ["ImageDataset", "TokenDataset", "synthetic_cifar", "topics_dataset"]
