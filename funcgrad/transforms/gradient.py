"""Gradients of scalar functions: `grad`, `value_and_grad`, `stop_gradient`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from funcgrad import tree
from funcgrad.core.aval import aval_of
from funcgrad.core.binding import bind, note_gradients
from funcgrad.core.device import CPU, namespace
from funcgrad.core.ownership import own_arrays
from funcgrad.core.tracer import Recorder, Tracer
from funcgrad.errors import GradDtypeError, NonScalarError, NotAnArrayError, at_line
from funcgrad.primitives.discrete import stop_gradient as stop_gradient_p
from funcgrad.transforms.arguments import Argnums, check_differentiable, select_arguments
from funcgrad.transforms.linearize import constants, own_cotangents, results_of
from funcgrad.transforms.trace import wraps
from funcgrad.transforms.vjp import pullback_of


def _check_scalar(out: Any, name: str, holomorphic: bool) -> None:
    try:
        aval = aval_of(out)
    except NotAnArrayError:
        raise at_line(
            NonScalarError,
            f"{name} needs a function that returns a scalar, this one returned "
            f"{type(out).__name__}; with (loss, extra results) use has_aux=True",
        ) from None
    if aval.shape != ():
        raise at_line(
            NonScalarError,
            f"{name} needs a function that returns a scalar, this one returned shape "
            f"{aval.shape}. Reduce it (np.sum, np.mean), or use fg.jacrev, fg.jacfwd or fg.vjp",
        )
    if aval.dtype.kind != ("c" if holomorphic else "f"):
        if holomorphic:
            hint = "with holomorphic=True it must be complex"
        elif aval.dtype.kind == "c":
            hint = "take the real part or np.abs(z)**2, or pass holomorphic=True"
        else:
            hint = "the loss must be a float"
        raise at_line(GradDtypeError, f"{name}: the function returned a {aval.dtype.name}; {hint}")


_REAL_SCALARS = frozenset({np.float64, np.float32})
_ONES: dict[Any, Any] = {np.float64: np.float64(1), np.float32: np.float32(1)}


def _one_like(x: Any) -> Any:
    one = _ONES.get(type(x))
    if one is not None:
        return one
    aval = aval_of(x)
    # Where x is on a device, a cotangent that begins as a number would be spread on the host.
    return aval.dtype.type(1) if aval.device == CPU else namespace(aval).ones((), aval.dtype)


def _no_gradient(n: int) -> Callable[[Any], list[Any]]:
    """The pullback of a result that no input has part in."""
    return lambda cts: [None] * n


def _value_and_aux(out: Any, name: str) -> Any:
    if not isinstance(out, (tuple, list)) or len(cast(Sequence[Any], out)) != 2:
        raise at_line(
            NonScalarError,
            f"{name} with has_aux=True needs a function that returns (loss, aux), this one "
            f"returned {type(cast(object, out)).__name__}",
        )
    return cast(Sequence[Any], out)


def _differentiate(
    fun: Callable[..., Any], argnums: Argnums, has_aux: bool, holomorphic: bool, name: str
) -> Callable[..., Any]:
    """What `grad` and `value_and_grad` share; messages speak of `name`."""
    position = argnums if isinstance(argnums, int) else -1

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if 0 <= position < len(args):
            chosen, place = args[position], None
        else:
            chosen, place = select_arguments(args, argnums, name)
        leaves, treedef = tree.flatten(chosen)
        check_differentiable(chosen, leaves, name, holomorphic=holomorphic)
        with Recorder("grad", concrete=True, reverse=True) as rec:
            new = treedef.unflatten([rec.input(leaf) for leaf in leaves])
            full = place(new) if place else (*args[:position], new, *args[position + 1 :])
            out = fun(*full, **kwargs)
        aux: Any = None
        if has_aux:
            out, aux = _value_and_aux(out, name)
        if holomorphic or type(out) is not Tracer or type(out.value) not in _REAL_SCALARS:
            _check_scalar(out, name, holomorphic)
        if has_aux:
            aux_leaves, aux_tree = tree.flatten(aux)
            results, where, pull = results_of(rec, [out, *aux_leaves], leaves, pullback_of)
            cts: list[Any] = [None] * len(where)
            if type(out) is Tracer:
                cts[0] = _one_like(results[0])
            taken = [*leaves, *constants(results, where)]
            aux = aux_tree.unflatten(own_arrays(results[1:], taken))
        elif type(out) is Tracer:
            results, pull = pullback_of(rec, [out], leaves)
            cts = [_one_like(results[0])]
        else:
            results, pull, cts = [out], _no_gradient(len(leaves)), []
        with np.errstate(all="ignore"):
            found = pull(cts)
        slopes = own_cotangents(found, leaves)
        note_gradients(slopes, leaves)
        grads = treedef.unflatten(slopes)
        return ((results[0], aux), grads) if has_aux else (results[0], grads)

    return wraps(fun, name)(wrapper)


def value_and_grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives `fun`'s value and its gradient, at the cost of about one gradient.

    Args:
        fun: returns a real scalar, or `(scalar, auxiliary results)` with `has_aux`.
        argnums: which positional argument, or arguments (a tuple), to differentiate by;
            each is a pytree of float or complex arrays.
        has_aux: the second result is passed through undifferentiated.
        holomorphic: `fun` is holomorphic; its argument and its result are complex.

    Returns:
        A function with `fun`'s arguments that returns `(value, gradient)`, with `has_aux`
        `((value, aux), gradient)`. The gradient has the structure, shapes and dtypes of the
        chosen argument (a tuple of them for a tuple of argnums), in the machine's byte order.
        For a complex argument it is JAX's: the conjugate of the direction of steepest ascent.

    Raises:
        NonScalarError: the function's value is no scalar.
        GradDtypeError: an argument has integers or booleans, or the value is complex.
        ArgumentError: there is no argument of that number.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> fg.value_and_grad(lambda w: np.sum(w**2))(np.array([1.0, 2.0]))
        (np.float64(5.0), array([2., 4.]))
    """
    return _differentiate(fun, argnums, has_aux, holomorphic, "value_and_grad")


def grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
) -> Callable[..., Any]:
    """A function that gives the gradient of a scalar function.

    The arguments, results and errors are those of `value_and_grad`, without the value: the
    result is the gradient, or `(gradient, aux)` with `has_aux`.

    Example:
        >>> import numpy as np, funcgrad as fg
        >>> def loss(params, x):
        ...     return np.sum((params["w"] * x + params["b"]) ** 2)
        >>> fg.grad(loss)({"w": 2.0, "b": 1.0}, np.array([1.0, 3.0]))
        {'b': np.float64(20.0), 'w': np.float64(48.0)}
    """
    both = _differentiate(fun, argnums, has_aux, holomorphic, "grad")

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        value, grads = both(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads

    return wraps(fun, "grad")(wrapper)


def stop_gradient(x: Any) -> Any:
    """`x` itself, held constant by every derivative.

    Args:
        x: a pytree of arrays.

    Example:
        >>> import funcgrad as fg
        >>> fg.grad(lambda x: x * fg.stop_gradient(x))(3.0)
        np.float64(3.0)
    """
    return tree.map(functools.partial(bind, stop_gradient_p), x)
