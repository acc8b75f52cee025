"""L-BFGS: steps by an estimate of the inverse Hessian, for full batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import tree
from funcgrad.errors import ArgumentError, ShapeError
from funcgrad_nn._numbers import computed_in, like, refuse_complex
from funcgrad_nn.parameters import trainable, with_trainable

from ._base import (
    Optimizer,
    Params,
    advance,
    checked_count,
    checked_rate,
    described,
    expect_state,
    kept,
    no_steps,
)

__all__ = ["LBFGSState", "lbfgs"]

# Wolfe's conditions: how much of the expected decrease, and of the slope, may be left.
_DECREASE, _SLOPE = 1e-4, 0.9
_MAX_TRIALS = 25


class LBFGSState(NamedTuple):
    """The state of :func:`lbfgs`; n is the number of numbers in the parameters.

    Attributes:
        step: the number of updates made, an integer array.
        value: the loss before the last update; at first infinity.
        grad: its gradient, shape (n,).
        move: the last step, shape (n,).
        moves: steps before it, the last of them last, shape (history, n); at first 0.
        changes: the changes of the gradient in these.

    >>> nn.lbfgs(history=5).init({"w": np.zeros((2, 3))}).moves.shape
    (5, 6)
    """

    step: Any
    value: Any
    grad: Any
    move: Any
    moves: Any
    changes: Any


@described
def lbfgs(learning_rate: Any = 1.0, history: int = 10, line_search: bool = True) -> Optimizer:
    """L-BFGS, for losses that are the same at each step: full batches, fits, physics.

    Its ``update`` takes **the loss function** in the place of gradients, as it may try several
    steps: ``update(loss_fn, state, params)``, where ``loss_fn(params)`` is a number. One update is
    one iteration. D. Liu, J. Nocedal (1989), *On the limited memory BFGS method for large scale
    optimization*.

    Args:
        learning_rate: the length of the first trial of each step, in units of the step that the
            estimate gives; a number, an array or tracer without axes, or a schedule.
        history: from how many steps the estimate is made.
        line_search: whether steps are lengthened or shortened until they meet Wolfe's conditions,
            which takes a further evaluation or more per update, 25 at most; where none is found
            that makes the loss less, parameters stay. Without, updates are those of PyTorch's
            ``LBFGS(line_search_fn=None, max_iter=1)``, and may diverge.

    Returns:
        The optimiser; its state is an :class:`LBFGSState`. Parameters keep their dtypes. The
        combinators that change gradients, and :func:`accumulate`, are not for it.

    Raises:
        ArgumentError: an option is out of range; (``update``) there are gradients in the place of
            the loss function.
        OperandTypeError: complex parameters.
        ShapeError: (``update``) the state is that of other parameters.

    >>> def rosenbrock(params):
    ...     x, y = params["x"], params["y"]
    ...     return (1 - x) ** 2 + 100 * (y - x * x) ** 2
    >>> optimizer = nn.lbfgs()
    >>> params = {"x": np.array(-1.2), "y": np.array(1.0)}
    >>> state = optimizer.init(params)
    >>> step = fg.jit(lambda state, params: optimizer.update(rosenbrock, state, params))
    >>> for _ in range(40):
    ...     params, state = step(state, params)
    >>> params["x"].round(4), params["y"].round(4)
    (np.float64(1.0), np.float64(1.0))
    """
    rate = checked_rate("lbfgs", learning_rate)
    history = checked_count("lbfgs", "history", history)

    def init(params: Params) -> LBFGSState:
        refuse_complex("lbfgs", *tree.leaves(params))
        flat = _flat(params)
        zeros = np.zeros_like(flat)
        rows = zeros * np.zeros((history, 1), flat.dtype)
        return LBFGSState(no_steps(), np.sum(zeros) + np.inf, zeros, zeros, rows, rows)

    def update(
        loss_fn: Callable[[Params], Any], state: LBFGSState, params: Params
    ) -> tuple[Params, LBFGSState]:
        point = _flat(params)
        if state.grad.shape != point.shape:
            raise ShapeError(
                f"lbfgs: the state is that of {state.grad.size} numbers, the parameters have "
                f"{point.size}. Pass the state that init(params), or the update before, has given."
            )

        def of_point(point: Any) -> Any:
            return loss_fn(_like_tree(params, point))

        evaluate = fg.value_and_grad(of_point)
        value, grad = evaluate(point)
        value = value.astype(point.dtype)
        moves, changes = _remembered(state, grad)
        direction = _direction(grad, moves, changes)
        now, step = advance(rate, state.step)
        # Nothing is known of the first step's length.
        first = np.minimum(1.0, 1.0 / np.maximum(np.sum(np.abs(grad)), np.finfo(grad.dtype).tiny))
        length = like(now, point) * fnp.where(state.step == 0, first, 1.0)
        if line_search:
            length = _searched(evaluate, point, value, grad, direction, length)
        # Where no step is better, the direction may be NaN.
        move = fnp.where(length > 0, length * direction, 0)
        moved = _like_tree(params, point + move)
        return moved, LBFGSState(step, value, grad, move, moves, changes)

    def update_all(loss_fn: Any, state: LBFGSState, params: Params) -> tuple[Params, LBFGSState]:
        if not callable(loss_fn):
            raise ArgumentError(
                "lbfgs: update's first argument is the loss function, not the gradients: "
                "update(loss_fn, state, params), with loss_fn(params) a number"
            )
        expect_state("lbfgs", LBFGSState, loss_fn, state, params)
        alone, state = update(
            lambda one: loss_fn(with_trainable(params, one)), state, trainable(params)
        )
        return with_trainable(params, alone), state

    def init_all(params: Params) -> LBFGSState:
        return init(trainable(params))

    return Optimizer(init_all, update_all)


def _flat(params: Params) -> Any:
    leaves = tree.leaves(params)
    if not leaves:
        raise ArgumentError("lbfgs: there are no parameters")
    parts = [np.ravel(leaf) for leaf in leaves]
    dtype = computed_in(np.result_type(*[part.dtype for part in parts]))
    return np.concatenate([part.astype(dtype) for part in parts])


def _like_tree(params: Params, flat: Any) -> Params:
    leaves, treedef = tree.flatten(params)
    parts, start = list[Any](), 0
    for leaf in leaves:
        end = start + math.prod(np.shape(leaf))
        parts.append(kept(np.reshape(flat[start:end], np.shape(leaf)), leaf))
        start = end
    return treedef.unflatten(parts)


def _remembered(state: LBFGSState, grad: Any) -> tuple[Any, Any]:
    """Moves and changes with the last ones, if the loss is convex between them."""
    change = grad - state.grad
    convex = np.sum(state.move * change) > 1e-10

    def with_last(rows: Any, last: Any) -> Any:
        return fnp.where(convex, np.concatenate([rows[1:], last[None]]), rows)

    return with_last(state.moves, state.move), with_last(state.changes, change)


def _direction(grad: Any, moves: Any, changes: Any) -> Any:
    """Minus the estimate of the inverse Hessian times the gradient, by two loops over the rows."""
    curvatures = np.sum(moves * changes, axis=1)
    known = curvatures > 0
    # Rows that are still 0 take no part.
    weights = fnp.where(known, 1.0 / fnp.where(known, curvatures, 1.0), 0.0)

    def back(q: Any, row: Any) -> tuple[Any, Any]:
        move, change, weight = row
        share = weight * np.sum(move * q)
        return q - share * change, share

    q, shares = fg.scan(back, -grad, (moves, changes, weights), reverse=True)
    size = np.sum(np.square(changes[-1]))
    q = q * fnp.where(known[-1], curvatures[-1] / fnp.where(known[-1], size, 1.0), 1.0)

    def forth(q: Any, row: Any) -> tuple[Any, Any]:
        move, change, weight, share = row
        return q + (share - weight * np.sum(change * q)) * move, None

    return fg.scan(forth, q, (moves, changes, weights, shares))[0]


def _searched(
    evaluate: Callable[[Any], Any], point: Any, value: Any, grad: Any, direction: Any, length: Any
) -> Any:
    """A length that meets Wolfe's conditions, by bisection; else one that makes the loss less.

    A. Lewis, M. Overton (2013), *Nonsmooth optimization via quasi-Newton methods*.
    """
    slope = np.sum(grad * direction)

    def trial(carry: Any) -> Any:
        length, low, high, done, count = carry
        there, grad_there = evaluate(point + length * direction)
        # NaN is too far as well.
        far = ~(there <= value + _DECREASE * length * slope)
        near = ~far & (np.sum(grad_there * direction) < _SLOPE * slope)
        high, low = fnp.where(far, length, high), fnp.where(far, low, length)
        middle = fnp.where(np.isfinite(high), (low + high) * 0.5, low * 2.0)
        done = ~far & ~near
        return fnp.where(done, length, middle), low, high, done, count + 1

    def goes_on(carry: Any) -> Any:
        return ~carry[3] & (carry[4] < _MAX_TRIALS)

    none, false = np.zeros_like(length), slope != slope
    start = (length, none, none + np.inf, false & False, np.zeros((), np.int64))
    return fg.while_loop(goes_on, trial, start)[1]
