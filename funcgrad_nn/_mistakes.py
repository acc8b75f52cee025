"""What the calls of layers say where their arguments are mistaken.

What does not fit is tried with a batch axis more or less, as shapes alone: where that would fit, it
is what the message says, in place of what a layer inside would have the user change.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import funcgrad as fg
from funcgrad import tree
from funcgrad.errors import ArgumentError, LayerShapeError

from . import _modes

# `module.Layer`, which calls what is here.
Layer = Any
MISSING: Any = object()
_initialising: ContextVar[bool] = ContextVar("initialising", default=False)


def call_error(layer: Layer, missing: bool, method: str = "") -> ArgumentError:
    problem = "takes parameters and inputs" if missing else "takes parameters first, then inputs"
    end = ", key)" if method else ")"
    return ArgumentError(
        f"{type(layer).__name__}{method} {problem}: layer{method}(params, x{end}. The parameters "
        "are what layer.init(seed, input_shape) has made, {} for a layer that has none."
    )


def check_init(layer: Any, base: type, key: Any, input_shape: Any) -> None:
    """Raise ArgumentError for arguments of `init` that are missing, or in another order."""
    write = (
        "Write params = layer.init(seed, input_shape), with the shape of one example without the "
        "batch axis: layer.init(0, (28, 28))."
    )
    if not isinstance(layer, base):
        raise ArgumentError(f"init was called on a class. Make the layer first. {write}")
    name = type(layer).__name__
    if isinstance(key, (tuple, list)):
        raise ArgumentError(
            f"{name}.init takes a seed or a key first, then the shape, and was given {key!r} "
            f"first. {write}"
        )
    if input_shape is MISSING:
        given = "neither" if key is MISSING else "no shape"
        raise ArgumentError(f"{name}.init takes a seed and a shape, and was given {given}. {write}")
    if key is MISSING:
        raise ArgumentError(f"{name}.init takes a seed and a shape, and was given no seed. {write}")


def check_apply(cls: type) -> None:
    """Raise ArgumentError for a class whose `apply` has another name, or takes no parameters."""
    own: dict[str, Any] = dict(vars(cls))
    for name in ("__call__", "call"):
        if name in own and (name == "__call__" or "apply" not in own):
            raise ArgumentError(
                f"{cls.__name__} writes {name}. Write apply(self, params, x) instead, which "
                "layer(params, x) calls."
            )
    code = getattr(own.get("apply"), "__code__", None)
    # With *args there may be any number.
    if code is not None and code.co_argcount == 2 and not code.co_flags & inspect.CO_VARARGS:
        raise ArgumentError(
            f"{cls.__name__}.apply takes {' and '.join(code.co_varnames[:2])} alone. Write "
            "apply(self, params, x), and call the layers in it with their parts of params: "
            'self.linear(params["linear"], x).'
        )


def returned(layer: Layer, y: Any) -> Any:
    """What `apply` has returned.

    Raises:
        ArgumentError: it is None.
    """
    if y is None:
        raise ArgumentError(
            f"{type(layer).__name__}.apply returned None, not outputs. Write return before what it "
            "computes last."
        )
    return y


def taught(layer: Layer, params: Any, x: Any, error: Exception) -> ArgumentError | None:
    """What an error of Python's own out of `apply` is to say; None if it is another."""
    if isinstance(error, KeyError):
        return _missing_key(layer, params, error)
    name = type(layer).__name__
    owner, attribute = getattr(error, "obj", None), getattr(error, "name", None)
    if owner is params and type(params) is dict:
        return ArgumentError(
            f"{name}.apply asks for params.{attribute}, and params is a dict. Write "
            f"params[{attribute!r}]."
        )
    if owner is not x or not isinstance(x, (tuple, list)):
        return None
    match cast(Any, x):
        case (outputs, dict() | tuple()) if hasattr(outputs, "dtype"):
            return ArgumentError(
                f"{name} was given a pair of outputs and parameters, as model.train returns it, "
                "for inputs. Take the two apart: outputs, params = model.train(params, x, key)."
            )
        case _:
            return ArgumentError(
                f"{name} takes an array, and was given a {type(cast(Any, x)).__name__}. Make it "
                "one: np.asarray(x, np.float32), or np.stack(x) of arrays."
            )


def _missing_key(layer: Layer, params: Any, error: KeyError) -> ArgumentError | None:
    """What a KeyError says that `apply` itself got from its parameters; None if it is another."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    apply: Any = layer.apply
    own = getattr(apply, "__code__", None)
    if frame is None or frame.tb_frame.f_code is not own or not isinstance(params, dict):
        return None
    key: Any = error.args[0] if error.args else None
    if key in params:
        return None
    names = ", ".join(map(repr, cast(dict[Any, Any], params)))
    has = f"has {names}, by the names of the layer's fields" if names else "is empty"
    return ArgumentError(
        f"{type(layer).__name__}.apply, line {frame.tb_lineno}, takes {key!r} out of params, which "
        f"{has}. Write one of these names, or set self.{key} in __init__."
    )


@contextmanager
def hints_for_init(layer: Layer, shape: tuple[int, ...], dtype: Any) -> Generator[None]:
    """What is initialised within: of the whole, a batch's shape is told from an example's."""
    if _initialising.get():
        yield
        return
    token = _initialising.set(True)
    try:
        yield
    except LayerShapeError as error:
        if len(shape) > 1 and _fits(_modes.shapes_of_params, layer, shape[1:], dtype):
            error.mend = (
                "init takes the shape of one example, and a batch of examples would fit: drop the "
                f"batch axis, init(seed, {shape[1:]}) in place of init(seed, {shape})."
            )
        raise
    finally:
        _initialising.reset(token)


def hint_for_call(error: LayerShapeError, layer: Layer, params: Any, x: Any) -> None:
    """Say in the error where one example was given in the place of a batch."""
    shape, dtype = getattr(x, "shape", None), getattr(x, "dtype", None)
    if _initialising.get() or not shape or dtype is None or "x[None]" in error.problem:
        return

    def struct(leaf: Any) -> fg.ShapeDtypeStruct:
        return fg.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    def of_batch() -> None:
        like = tree.map(struct, params)
        fg.eval_shape(layer.apply, like, fg.ShapeDtypeStruct((1, *shape), dtype))

    if _fits(of_batch):
        error.mend = (
            f"The inputs of shape {tuple(shape)} are one example, and a batch of examples would "
            "fit: make one of it, x[None]."
        )


def _fits(function: Callable[..., Any], *args: Any) -> bool:
    token = _initialising.set(True)
    try:
        with _modes.calls_by(None):
            function(*args)
    # Whatever it is, the user's own error is the one to tell.
    except Exception:
        return False
    finally:
        _initialising.reset(token)
    return True
