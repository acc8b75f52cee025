"""Datasets of arrays, batches of them, and the IDX file format."""

from __future__ import annotations

from .dataset import ArrayDataset, Dataset, Subset, random_split
from .idx import read_idx, write_idx
from .loader import DataLoader

__all__ = [
    "ArrayDataset",
    "DataLoader",
    "Dataset",
    "Subset",
    "random_split",
    "read_idx",
    "write_idx",
]
