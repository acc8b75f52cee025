"""Transforms of samples: pure functions, of one sample or of a whole batch at once.

``transform(image)``, and of a random one ``transform(key, image)``; ``transform.batch`` does the
same to many, without a loop in Python and with equal results. Images are as files have them, (H, W)
or (H, W, C) of integers, or as :class:`ToArray` makes them, (C, H, W) of floats.
"""

from __future__ import annotations

from typing import NoReturn

from .base import Compose, Lambda, Transform
from .color import ColorJitter, RandomErasing
from .convert import Normalize, OneHot, ToArray
from .geometry import (
    CenterCrop,
    Pad,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
)
from .keys import sample_keys
from .mixing import CutMix, MixUp
from .resampling import Resize

__all__ = [
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Lambda",
    "MixUp",
    "Normalize",
    "OneHot",
    "Pad",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomVerticalFlip",
    "Resize",
    "ToArray",
    "Transform",
    "sample_keys",
]


def __getattr__(name: str) -> NoReturn:
    hint = ": ToArray() does that" if name in ("ToTensor", "PILToTensor") else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
