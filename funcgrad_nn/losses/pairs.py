"""Losses of distances and rankings: of pairs, triplets, and signs."""

from __future__ import annotations

from typing import Any

import numpy as np

import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad_nn._numbers import checked, narrow
from funcgrad_nn.activations import softplus

from ._common import (
    Reduction,
    as_array,
    as_floats,
    check_signs,
    positive,
    real_alike,
    reduced,
)

__all__ = [
    "cosine_embedding",
    "cosine_similarity",
    "hinge",
    "hinge_embedding",
    "margin_ranking",
    "soft_margin",
    "triplet",
]


def hinge(scores: Any, targets: Any, *, margin: float = 1.0, reduction: Reduction = "mean") -> Any:
    """``max(0, margin - t * x)``, the loss of support vector machines.

    Args:
        scores: of any shape.
        targets: -1 and 1, of the same shape.
        margin: how far on the right side a score costs nothing.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction, or targets that are neither -1 nor 1.

    >>> nn.hinge(np.array([0.5, 2.0, 1.0]), np.array([1, 1, -1]), reduction="none")
    array([0.5, 0. , 2. ])
    """
    margin = checked("hinge", "margin", margin, -np.inf)
    (x, t), dtype = _with_signs("hinge", scores, targets)
    return reduced("hinge", positive(margin - t * x), reduction, dtype)


def soft_margin(scores: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """``log(1 + exp(-t * x))``, for targets -1 and 1; as PyTorch's ``soft_margin_loss``.

    Args, errors: as for :func:`hinge`.

    >>> nn.soft_margin(np.array([0.0, 1000.0]), np.array([1, -1]), reduction="none").round(4)
    array([6.931e-01, 1.000e+03])
    """
    (x, t), dtype = _with_signs("soft_margin", scores, targets)
    return reduced("soft_margin", softplus(-t * x), reduction, dtype)


def hinge_embedding(
    distances: Any, targets: Any, *, margin: float = 1.0, reduction: Reduction = "mean"
) -> Any:
    """The distance where the target is 1, ``max(0, margin - distance)`` where it is -1.

    As PyTorch's ``hinge_embedding_loss``.

    Args:
        distances: of any shape.
        targets: -1 and 1, of the same shape.
        margin: how far apart pairs with -1 must be.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, ArgumentError: as for :func:`hinge`.

    >>> nn.hinge_embedding(np.array([0.5, 0.3]), np.array([1, -1]), reduction="none")
    array([0.5, 0.7])
    """
    margin = checked("hinge_embedding", "margin", margin, -np.inf)
    (x, t), dtype = _with_signs("hinge_embedding", distances, targets)
    losses = fnp.where(t == 1, x, positive(margin - x))
    return reduced("hinge_embedding", losses, reduction, dtype)


def margin_ranking(
    first: Any, second: Any, targets: Any, *, margin: float = 0.0, reduction: Reduction = "mean"
) -> Any:
    """``max(0, margin - t * (first - second))``: which of two is to be the higher.

    As PyTorch's ``margin_ranking_loss``.

    Args:
        first, second: scores of one shape.
        targets: of the same shape: 1 where the first is to be higher, -1 where the second is.
        margin: by how much.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, ArgumentError: as for :func:`hinge`.

    >>> nn.margin_ranking(np.array([1.0]), np.array([3.0]), np.array([1]))
    np.float64(2.0)
    """
    margin = checked("margin_ranking", "margin", margin, -np.inf)
    (x, y, t), dtype = _with_signs("margin_ranking", first, second, targets)
    return reduced("margin_ranking", positive(margin - t * (x - y)), reduction, dtype)


def _with_signs(name: str, *values: Any) -> tuple[list[Any], np.dtype[Any]]:
    """Floats of one shape, of which the last are -1 and 1, and the loss's dtype."""
    targets = as_array(values[-1])
    check_signs(name, targets)
    _, dtype = as_floats(*values[:-1])
    floats, _ = real_alike(name, *values[:-1], targets.astype(dtype))
    return floats, dtype


def cosine_embedding(
    first: Any, second: Any, targets: Any, *, margin: float = 0.0, reduction: Reduction = "mean"
) -> Any:
    """1 less the cosine of pairs with target 1, ``max(0, cosine - margin)`` of those with -1.

    As PyTorch's ``cosine_embedding_loss``.

    Args:
        first, second: vectors, shape ``(..., features)``.
        targets: -1 and 1, shape ``(...)``.
        margin: from -1 to 1.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError, ArgumentError: as for :func:`hinge`.

    >>> x, y = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 2.0], [3.0, 0.0]])
    >>> nn.cosine_embedding(x, y, np.array([1, -1]), reduction="none").round(4)
    array([1., 1.])
    """
    name = "cosine_embedding"
    margin, targets = checked(name, "margin", margin, -1, 1), as_array(targets)
    (x, y), dtype = real_alike(name, first, second)
    if targets.shape != x.shape[:-1]:
        raise ShapeError(
            f"{name}: vectors of shape {x.shape} take targets of shape {x.shape[:-1]}, not "
            f"{targets.shape}"
        )
    check_signs(name, targets)
    # PyTorch's constant: the cosine with a vector of zeros is 0.
    sizes = (np.sum(x * x, axis=-1) + 1e-12) * (np.sum(y * y, axis=-1) + 1e-12)
    cosine = np.sum(x * y, axis=-1) / np.sqrt(sizes)
    losses = fnp.where(targets == 1, 1.0 - cosine, positive(cosine - margin))
    return reduced(name, losses, reduction, dtype)


def cosine_similarity(first: Any, second: Any, *, axis: int = 1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between vectors; as PyTorch's ``CosineSimilarity``.

    Args:
        first, second: arrays of one shape, or of shapes that broadcast.
        axis: along which vectors lie.
        eps: what lengths are at least, so that the cosine with a vector of zeros is 0.

    Returns:
        An array without that axis.

    Raises:
        ArgumentError: ``eps`` is negative.
        OperandTypeError: complex arrays.

    >>> x, y = np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 2.0], [3.0, 0.0]])
    >>> nn.cosine_similarity(x, y).round(4)
    array([0.    , 0.7071])
    """
    name = "cosine_similarity"
    eps = checked(name, "eps", eps, 0)
    (x, y), dtype = real_alike(name, *fnp.broadcast_arrays(as_array(first), as_array(second)))

    def unit(x: Any) -> Any:
        squared = np.sum(x * x, axis=axis, keepdims=True)
        some = squared > 0
        # The root's slope at 0 is infinite.
        return x / np.maximum(fnp.where(some, np.sqrt(fnp.where(some, squared, 1)), 0), eps)

    return narrow(np.sum(unit(x) * unit(y), axis=axis), dtype)


def triplet(
    anchor: Any,
    positives: Any,
    negatives: Any,
    *,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Any:
    """By how much less than a margin an anchor is nearer to its positive than to its negative.

    ``max(0, |a - x| - |a - y| + margin)``. F. Schroff et al. (2015), *FaceNet: A Unified Embedding
    for Face Recognition and Clustering*; as PyTorch's ``triplet_margin_loss``.

    Args:
        anchor, positives, negatives: vectors of one shape, ``(..., features)``.
        margin: positive.
        p: of the norm, 1 or more.
        eps: added to all differences, which keeps slopes finite at 0.
        swap: whether the distance of positive to negative counts where it is less than the
            anchor's.
        reduction: of the losses of shape ``(...)``: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction, or an option out of range.

    >>> a, x, y = np.zeros((1, 2)), np.array([[3.0, 4.0]]), np.array([[0.0, 5.5]])
    >>> nn.triplet(a, x, y).round(4)
    np.float64(0.5)
    """
    name = "triplet"
    margin, eps = checked(name, "margin", margin, 0), checked(name, "eps", eps, 0)
    p = checked(name, "p", p, 1)
    if not margin:
        raise ArgumentError("triplet: margin must be positive")
    (a, x, y), dtype = real_alike(name, anchor, positives, negatives)

    def distance(one: Any, other: Any) -> Any:
        difference = one - other + eps
        if p == 2:
            return np.sqrt(np.sum(np.square(difference), axis=-1))
        return np.sum(np.abs(difference) ** p, axis=-1) ** (1 / p)

    near, far = distance(a, x), distance(a, y)
    if swap:
        far = np.minimum(far, distance(x, y))
    return reduced(name, positive(near - far + margin), reduction, dtype)
