"""Crop, flip and normalise a batch of 128 images of 32×32 pixels, as for training on CIFAR-10."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from benchmarks.harness import Bar, Contender, Plan, Result, compare
from funcgrad_nn import transforms as T

BATCH, SIDE, BORDER = 128, 32, 4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def make_images() -> np.ndarray:
    """Random bytes: no transform looks at the values."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)


def measure() -> list[Result]:
    """The library's transforms of a batch, and the same by PyTorch, sample by sample."""
    images = make_images()
    keys = T.sample_keys(0, 0, np.arange(BATCH))
    augment = T.Compose(
        [T.RandomCrop(SIDE, BORDER), T.RandomHorizontalFlip(), T.ToArray(), T.Normalize(MEAN, STD)]
    )
    tensors = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    threads = torch.get_num_threads()
    # As a worker of PyTorch's loader has it.
    torch.set_num_threads(1)
    try:
        contenders = [
            Contender("funcgrad", lambda: augment.batch(keys, images)),
            Contender("PyTorch, by sample", lambda: _by_sample(tensors)),
        ]
        what = "speed-up of transforms: crop, flip, normalise 128 images of 32×32, uint8"
        bars = {"PyTorch, by sample": Bar(10.0, at_least=True)}
        return compare(what, contenders, bars, Plan(rounds=11), speed_up=True)
    finally:
        torch.set_num_threads(threads)


def _by_sample(images: Any) -> Any:
    """What torchvision's transforms of tensors compute."""
    mean = torch.tensor(MEAN).view(3, 1, 1)
    std = torch.tensor(STD).view(3, 1, 1)
    results: list[Any] = []
    for image in images:
        padded = torch.nn.functional.pad(image, (BORDER,) * 4)
        top, left = torch.randint(0, 2 * BORDER + 1, (2,)).tolist()
        crop = padded[:, top : top + SIDE, left : left + SIDE]
        if torch.rand(1) < 0.5:
            crop = crop.flip(-1)
        results.append(crop.to(torch.float32).div(255).sub_(mean).div_(std))
    return torch.stack(results)
