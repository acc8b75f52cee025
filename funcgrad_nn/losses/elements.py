"""Losses of each element on its own."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.scipy import special
from funcgrad_nn._numbers import as_number, checked, narrow, refuse_complex, squared_size
from funcgrad_nn.activations import softplus

from ._common import (
    Reduction,
    as_array,
    as_floats,
    check_alike,
    real_alike,
    reduced,
)

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "gaussian_nll",
    "huber",
    "kl_div",
    "l1",
    "mse",
    "poisson_nll",
    "smooth_l1",
]


def binary_cross_entropy_with_logits(
    logits: Any,
    targets: Any,
    *,
    weight: Any = None,
    pos_weight: Any = None,
    reduction: Reduction = "mean",
) -> Any:
    """Cross-entropy between targets and sigmoid(logits), without overflow or underflow.

    ``softplus(x) - t x``, smooth everywhere, so that second derivatives are right at 0 as well.

    Args:
        logits: log-odds, of any shape.
        targets: probabilities, or 0 and 1, of the same shape.
        weight: of the losses, an array that broadcasts to their shape.
        pos_weight: of the part that targets of 1 have in them, likewise: above 1 for more recall,
            below for more precision.
        reduction: of the losses of that shape: ``"mean"``, ``"sum"`` or ``"none"``. The mean is
            not by the weights, as in PyTorch.

    Raises:
        ShapeError: the shapes differ, or the weights do not broadcast.
        ArgumentError: an unknown reduction.

    >>> x = np.array([0.0, 1000.0])
    >>> nn.binary_cross_entropy_with_logits(x, np.array([1.0, 1.0])).round(4)
    np.float64(0.3466)
    """
    name = "binary_cross_entropy_with_logits"
    (x, t), dtype = real_alike(name, logits, targets)
    if pos_weight is None:
        losses = softplus(x) - t * x
    else:
        share = 1.0 + (_broadcast(name, "pos_weight", pos_weight, x) - 1.0) * t
        losses = (1.0 - t) * x + share * softplus(-x)
    if weight is not None:
        losses = losses * _broadcast(name, "weight", weight, x)
    return reduced(name, losses, reduction, dtype)


def binary_cross_entropy(
    probs: Any, targets: Any, *, weight: Any = None, reduction: Reduction = "mean"
) -> Any:
    """Cross-entropy between targets and probabilities, whose logarithms count as -100 or more.

    :func:`binary_cross_entropy_with_logits` loses nothing where these round to 0 or 1. Slopes are
    PyTorch's, ``(p - t) / max(p * (1 - p), 1e-12)``, and so large where the prediction is wrong by
    1.

    Args:
        probs: from 0 to 1, of any shape.
        targets: probabilities, or 0 and 1, of the same shape.
        weight: of the losses, an array that broadcasts to their shape.
        reduction: of the losses of that shape: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ, or the weights do not broadcast.
        ArgumentError: an unknown reduction, or a probability is out of range.

    >>> nn.binary_cross_entropy(np.array([0.5, 1.0]), np.array([1.0, 1.0])).round(4)
    np.float64(0.3466)
    """
    name = "binary_cross_entropy"
    (p, t), dtype = real_alike(name, probs, targets)
    if isinstance(p, np.ndarray) and np.any((p < 0) | (p > 1)):
        raise ArgumentError(
            f"{name}: probabilities must be from 0 to 1, but they go from {p.min()} to {p.max()}. "
            "Log-odds are for binary_cross_entropy_with_logits."
        )
    losses = _of_probability(p, t)
    if weight is not None:
        losses = losses * _broadcast(name, "weight", weight, p)
    return reduced(name, losses, reduction, dtype)


def _clamped_log(x: Any) -> Any:
    low = math.exp(-100)
    return fnp.where(x > low, np.log(fnp.where(x > low, x, 1)), -100.0)


@fg.custom_jvp
def _of_probability(p: Any, t: Any) -> Any:
    return -(t * _clamped_log(p) + (1.0 - t) * _clamped_log(1.0 - p))


@_of_probability.defjvp
def _of_probability_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (p, t), (dp, dt) = primals, tangents
    by_p = (p - t) / np.maximum(p * (1.0 - p), 1e-12)
    by_t = _clamped_log(1.0 - p) - _clamped_log(p)
    return _of_probability(p, t), by_p * dp + by_t * dt


def _broadcast(name: str, option: str, weight: Any, like: Any) -> Any:
    weight = narrow(as_array(weight), like.dtype)
    try:
        if np.broadcast_shapes(weight.shape, like.shape) == like.shape:
            return weight
    except ValueError:
        pass
    raise ShapeError(
        f"{name}: {option} of shape {weight.shape} does not broadcast to the losses' {like.shape}"
    )


def mse(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """Squared error, by default its mean; of complex numbers the squared absolute value.

    Args:
        predictions: of any shape.
        targets: of the same shape.
        reduction: of the squares: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ; they are not broadcast, as ``(n,)`` against ``(n, 1)`` would
            compare each prediction with each target.
        ArgumentError: an unknown reduction.

    >>> nn.mse(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(2.0)
    """
    error, dtype = _error("mse", predictions, targets)
    return reduced("mse", squared_size(error), reduction, dtype)


def _error(name: str, predictions: Any, targets: Any) -> tuple[Any, np.dtype[Any]]:
    """Predictions less targets, and the dtype of a loss of that."""
    check_alike(name, predictions, targets)
    (predictions, targets), dtype = as_floats(predictions, targets)
    return predictions - targets, np.finfo(dtype).dtype


def l1(predictions: Any, targets: Any, *, reduction: Reduction = "mean") -> Any:
    """Absolute error, by default its mean.

    Args, errors: as for :func:`mse`.

    >>> nn.l1(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    np.float64(1.0)
    """
    error, dtype = _error("l1", predictions, targets)
    return reduced("l1", np.abs(error), reduction, dtype)


def huber(
    predictions: Any, targets: Any, *, delta: float = 1.0, reduction: Reduction = "mean"
) -> Any:
    """Half the squared error up to ``delta``, beyond it growing linearly.

    P. Huber (1964), *Robust Estimation of a Location Parameter*.

    Args:
        predictions: of any shape.
        targets: of the same shape.
        delta: the error where the two parts meet, positive.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction, or a ``delta`` that is not positive.

    >>> nn.huber(np.array([0.5, 3.0]), np.array([0.0, 0.0]), reduction="none")
    array([0.125, 2.5  ])
    """
    delta = as_number(delta)
    if not delta > 0:
        raise ArgumentError(f"huber: delta must be positive, not {delta!r}")
    error, dtype = _error("huber", predictions, targets)
    return reduced("huber", _huber(error, delta), reduction, dtype)


def _huber(error: Any, delta: float) -> Any:
    size = np.abs(error)
    return fnp.where(size <= delta, squared_size(error) * 0.5, (size - 0.5 * delta) * delta)


def smooth_l1(
    predictions: Any, targets: Any, *, beta: float = 1.0, reduction: Reduction = "mean"
) -> Any:
    """``huber(delta=beta) / beta``: the slope is 1 beyond ``beta``; for 0 it is :func:`l1`.

    R. Girshick (2015), *Fast R-CNN*; as PyTorch's ``smooth_l1_loss``.

    Args:
        predictions: of any shape.
        targets: of the same shape.
        beta: the error where the two parts meet, not negative.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction, or a negative ``beta``.

    >>> nn.smooth_l1(np.array([0.5, 3.0]), np.zeros(2), beta=2.0, reduction="none")
    array([0.0625, 2.    ])
    """
    beta = checked("smooth_l1", "beta", beta, 0)
    error, dtype = _error("smooth_l1", predictions, targets)
    losses = _huber(error, beta) / beta if beta else np.abs(error)
    return reduced("smooth_l1", losses, reduction, dtype)


# -- Likelihoods ---------------------------------------------------------------------------------


def kl_div(
    log_probs: Any,
    targets: Any,
    *,
    log_target: bool = False,
    reduction: Literal["mean", "batchmean", "sum", "none"] = "mean",
) -> Any:
    """The Kullback-Leibler divergence ``t * (log(t) - x)``, element by element.

    As PyTorch's ``kl_div``: the first argument is the model's, in logarithms, and the mean is that
    of all elements. The divergence's own mean over examples is ``"batchmean"``.

    Args:
        log_probs: logarithms of predicted probabilities, of any shape.
        targets: probabilities of the same shape, or their logarithms.
        log_target: whether the targets are logarithms.
        reduction: ``"mean"``, ``"sum"``, ``"none"``, or ``"batchmean"``: the sum over the length
            of the first axis.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction.

    >>> x = np.log([[0.5, 0.5]])
    >>> nn.kl_div(x, np.array([[0.25, 0.75]]), reduction="batchmean").round(4)
    np.float64(0.1308)
    """
    (x, t), dtype = real_alike("kl_div", log_probs, targets)
    # 0 * -inf would be NaN where a class is impossible in both.
    if log_target:
        gone = t == -np.inf
        losses = np.exp(t) * (fnp.where(gone, 0, t) - fnp.where(gone, 0, x))
    else:
        losses = special.xlogy(t, t) - t * fnp.where(t == 0, 0, x)
    if reduction == "batchmean":
        return narrow(np.sum(losses) / np.shape(losses)[0], dtype)
    return reduced("kl_div", losses, reduction, dtype)


def poisson_nll(
    predictions: Any,
    targets: Any,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Any:
    """Negative log-likelihood of counts under Poisson distributions; PyTorch's definition.

    Args:
        predictions: the distributions' means, or their logarithms, of any shape.
        targets: counts, of the same shape.
        log_input: whether predictions are logarithms: ``exp(x) - t * x``, else
            ``x - t * log(x + eps)``.
        full: whether Stirling's approximation of log(t!) is added where t is above 1.
        eps: see above.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes differ.
        ArgumentError: an unknown reduction, or a negative eps.

    >>> nn.poisson_nll(np.array([0.0, 1.0]), np.array([1.0, 3.0])).round(4)
    np.float64(0.3591)
    """
    eps = checked("poisson_nll", "eps", eps, 0)
    (x, t), dtype = real_alike("poisson_nll", predictions, targets)
    losses = np.exp(x) - t * x if log_input else x - t * np.log(x + eps)
    if full:
        many = fnp.where(t > 1, t, 1)
        stirling = many * np.log(many) - many + 0.5 * np.log(2 * math.pi * many)
        losses = losses + fnp.where(t > 1, stirling, 0)
    return reduced("poisson_nll", losses, reduction, dtype)


def gaussian_nll(
    predictions: Any,
    targets: Any,
    var: Any,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Any:
    """Negative log-likelihood of targets under normal distributions; PyTorch's definition.

    ``(log(var) + (x - t)**2 / var) / 2``, with ``eps`` in the place of lower variances; derivatives
    go through these as if they were not replaced.

    Args:
        predictions: the distributions' means, of any shape.
        targets: of the same shape.
        var: their variances, not negative: of the same shape, or with a last axis of length 1, or
            without the last axis.
        full: whether the constant ``log(2 pi) / 2`` is added.
        eps: the lowest variance, positive.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.

    Raises:
        ShapeError: the shapes do not fit.
        ArgumentError: an unknown reduction, an ``eps`` that is not positive, or a negative
            variance.

    >>> nn.gaussian_nll(np.array([1.0, 2.0]), np.array([0.0, 2.0]), np.array([1.0, 4.0])).round(4)
    np.float64(0.5966)
    """
    name = "gaussian_nll"
    eps = checked(name, "eps", eps, 0)
    if not eps:
        raise ArgumentError("gaussian_nll: eps must be positive")
    check_alike(name, predictions, targets)
    shape, given = np.shape(predictions), np.shape(var)
    if given == shape[:-1] and given != shape:
        var = np.expand_dims(as_array(var), -1)
    elif given not in (shape, (*shape[:-1], 1)):
        raise ShapeError(
            f"{name}: var has shape {given}, which does not fit predictions of {shape}"
        )
    if isinstance(var, np.ndarray) and np.any(var < 0):
        raise ArgumentError(f"{name}: a variance is negative, {var.min()}")
    refuse_complex(name, predictions, targets, var)
    (x, t, v), dtype = as_floats(predictions, targets, var)
    v = v + fg.stop_gradient(np.maximum(v, eps) - v)
    losses = 0.5 * (np.log(v) + np.square(x - t) / v)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced(name, losses, reduction, dtype)
