"""Losses: how far predictions are from targets.

Each takes predictions first and targets second, both with the batch axis first and classes last,
and reduces what it finds for each example (or element) to its mean, its sum, or not at all. They
are those of ``torch.nn.functional``, whose names end in ``_loss``.

The loss has the dtype that predictions and targets promote to, and integers count as float64.
float16 is computed in float32 and rounded once.
"""

from __future__ import annotations

from .classes import (
    cross_entropy,
    multi_margin,
    multilabel_margin,
    multilabel_soft_margin,
    nll,
)
from .elements import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    gaussian_nll,
    huber,
    kl_div,
    l1,
    mse,
    poisson_nll,
    smooth_l1,
)
from .pairs import (
    cosine_embedding,
    cosine_similarity,
    hinge,
    hinge_embedding,
    margin_ranking,
    soft_margin,
    triplet,
)
from .sequences import ctc

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding",
    "cosine_similarity",
    "cross_entropy",
    "ctc",
    "gaussian_nll",
    "hinge",
    "hinge_embedding",
    "huber",
    "kl_div",
    "l1",
    "margin_ranking",
    "mse",
    "multi_margin",
    "multilabel_margin",
    "multilabel_soft_margin",
    "nll",
    "poisson_nll",
    "smooth_l1",
    "soft_margin",
    "triplet",
]
