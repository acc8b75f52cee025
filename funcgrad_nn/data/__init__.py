"""Datasets of arrays and of files, batches of them, and the IDX file format."""

from __future__ import annotations

from .combined import ConcatDataset, TransformedDataset
from .dataset import ArrayDataset, Dataset, Subset, random_split
from .idx import read_idx, write_idx
from .images import CSVDataset, ImageFolder, read_image
from .loader import DataLoader
from .samplers import (
    DistributedSampler,
    FixedSampler,
    Sampler,
    StratifiedSampler,
    WeightedSampler,
)

__all__ = [
    "ArrayDataset",
    "CSVDataset",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DistributedSampler",
    "FixedSampler",
    "ImageFolder",
    "Sampler",
    "StratifiedSampler",
    "Subset",
    "TransformedDataset",
    "WeightedSampler",
    "random_split",
    "read_idx",
    "read_image",
    "write_idx",
]
