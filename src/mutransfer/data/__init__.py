"""Data sets as tensors in memory, each with its source and fingerprint, and the stand-ins for machines without."""

from mutransfer.data.dataset import ImageDataset, fingerprint_of
from mutransfer.data.synthetic import synthetic_cifar
from mutransfer.data.tokens import TokenDataset
from mutransfer.data.topics import topics_dataset

__all__ = ["ImageDataset", "TokenDataset", "fingerprint_of", "synthetic_cifar", "topics_dataset"]
