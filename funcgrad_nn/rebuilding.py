"""Models that are there already, made into others: drawn anew, or with another layer in a place."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any, cast

import numpy as np

from funcgrad import random
from funcgrad.errors import ArgumentError

from ._spatial import SpatialLayer
from .init import Initializer
from .layers import Sequential
from .module import Key, Layer, Params, is_sequence

__all__ = ["reinitialize", "replace_layer"]

Kinds = type[Layer] | tuple[type[Layer], ...]
Where = str | Callable[[str, Layer], bool]


def reinitialize(
    model: Layer,
    params: Params,
    key: Key | int,
    *,
    of: Kinds = Layer,
    where: Where | None = None,
    **initializers: Initializer,
) -> Params:
    """Draw parameters anew, of all layers or of those of a kind.

    PyTorch's ``model.apply(init_normal)``. To draw all as they were at first,
    ``model.init(key, input_shape)`` does it.

    Args:
        model: any layer.
        params: its parameters.
        key: a key of :mod:`funcgrad.random`, or a seed.
        of: the class of the layers, or a tuple of classes.
        where: of these, the ones whose path fits a pattern such as ``"encoder.*"``, or for which
            a function ``(path, layer) -> bool`` is true.
        **initializers: what draws a parameter, by its name in the layer.

    Returns:
        The parameters, with new arrays of the same shapes and dtypes where something was drawn.

    Raises:
        ArgumentError: nothing is to be drawn; or a layer has its parameters elsewhere than under
            its name.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> params = model.init(0, 2)
    >>> params = nn.reinitialize(
    ...     model, params, 1, of=nn.Linear, weight=nn.init.normal(0.01), bias=nn.init.zeros()
    ... )
    >>> params[2]["bias"], abs(params[2]["weight"]).max() < 0.05
    (array([0.], dtype=float32), np.True_)
    """
    if not initializers:
        raise ArgumentError(
            "reinitialize takes what draws the parameters, by their names, such as "
            "weight=nn.init.normal(0.01). To draw all as they were at first, call "
            "model.init(key, input_shape)."
        )
    base = random.key(key) if isinstance(key, (int, np.integer)) else key
    keys = (random.fold_in(base, i) for i in itertools.count())
    drawn: set[str] = set()

    def draw(path: str, layer: Layer, part: Params) -> Params:
        old = _named(part)
        if not old or not isinstance(layer, of) or not _fits(where, path, layer):
            return part
        names = [name for name in initializers if hasattr(old.get(name), "shape")]
        drawn.update(names)
        return old | {n: _drawn(layer, n, initializers[n], next(keys), old[n]) for n in names}

    result = _visit(model, params, "", draw, of)
    if missing := sorted(initializers.keys() - drawn):
        raise ArgumentError(
            f"reinitialize: no layer that is chosen has a parameter {', '.join(missing)}; print "
            "nn.named_parameters(params) to see what there is."
        )
    return result


def _drawn(layer: Layer, name: str, draw: Initializer, key: Key, old: Any) -> Any:
    if name != "weight" or not isinstance(layer, SpatialLayer) or layer.channels_last:
        return draw(key, old.shape, old.dtype)
    # Initialisers take the axes of inputs and outputs last, whatever the layout.
    outputs, inputs, *kernel = old.shape
    return np.moveaxis(draw(key, (*kernel, inputs, outputs), old.dtype), (-1, -2), (0, 1)).copy()


def _named(part: Params) -> dict[str, Any]:
    """Parameters by their names, where that is what they are."""
    return cast(dict[str, Any], part) if type(part) is dict else {}


def _fits(where: Where | None, path: str, layer: Layer) -> bool:
    if isinstance(where, str):
        return fnmatchcase(path, where)
    return where is None or bool(where(path, layer))


def _visit(
    layer: Layer, params: Params, path: str, draw: Callable[[str, Layer, Params], Params], of: Kinds
) -> Params:
    """The parameters, after `draw` has had those of this layer and of all layers in it."""
    params = draw(path, layer, params)
    for name, child in layer.children().items():
        steps, place = name.split("."), f"{path}.{name}" if path else name
        try:
            part = _part(params, steps)
        except (KeyError, IndexError, TypeError):
            if of is not Layer and isinstance(child, of):
                raise _elsewhere(layer, place) from None
            continue
        params = _with_part(params, steps, _visit(child, part, place, draw, of))
    return params


def replace_layer(
    model: Layer,
    params: Params,
    path: str,
    layer: Layer,
    key: Key | int,
    input_shape: int | tuple[int, ...],
) -> tuple[Layer, Params]:
    """A model with another layer in the place of one, whose parameters are new, all others kept.

    Args:
        model: any layer.
        params: its parameters.
        path: where the layer is in the model, such as ``"3"`` or ``"encoder.0"``.
        layer: the new one.
        key: for its parameters, a key of :mod:`funcgrad.random` or a seed.
        input_shape: the shape of one example, as for ``model.init``.

    Returns:
        The model and its parameters. A layer that is shared within a block or a
        :class:`Sequential` is replaced at all its places there.

    Raises:
        ArgumentError: there is no such layer, or its parameters are not under its name.
        LayerShapeError: the new layer does not fit the others.

    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 10))
    >>> params = model.init(0, 4)
    >>> model, params = nn.replace_layer(model, params, "2", nn.Linear(8, 3), 1, 4)
    >>> model(params, np.ones((5, 4), np.float32)).shape
    (5, 3)
    """
    changed = _with_layer(model, path, layer)
    fresh = changed.init(key, input_shape)
    steps = path.split(".")
    try:
        new = _with_part(params, steps, _part(fresh, steps))
    except (KeyError, IndexError, TypeError):
        raise _elsewhere(model, path) from None
    changed.output_shape(new, input_shape)
    return changed, new


def _with_layer(model: Layer, path: str, new: Layer) -> Layer:
    for name, child in model.children().items():
        if path == name or path.startswith(f"{name}."):
            inner = new if path == name else _with_layer(child, path[len(name) + 1 :], new)
            return _with_child(model, child, inner)
    names = ", ".join(repr(name) for name in model.children()) or "none"
    raise ArgumentError(
        f"{type(model).__name__} has no layer {path!r}; the layers in it are {names}"
    )


def _with_child(parent: Layer, child: Layer, new: Layer) -> Layer:
    """A copy with one layer for another, at all places where the parent has it."""

    def changed(value: Any) -> Any:
        if is_sequence(value):
            return tuple([changed(part) for part in value])
        return new if value is child else value

    if isinstance(parent, Sequential):
        return Sequential(*changed(parent.layers))
    # Not made by its class: what that computes from its arguments may be other layers again.
    result = copy.copy(parent)
    attributes = vars(result)
    attributes.pop("_hash", None)
    attributes |= {name: changed(value) for name, value in attributes.items()}
    return result


def _steps(params: Params, step: str) -> str | int:
    return int(step) if is_sequence(params) and step.isdecimal() else step


def _part(params: Params, steps: list[str]) -> Params:
    for step in steps:
        params = params[_steps(params, step)]
    return params


def _with_part(params: Params, steps: list[str], new: Params) -> Params:
    if not steps:
        return new
    at = _steps(params, steps[0])
    inner = _with_part(params[at], steps[1:], new)
    if is_sequence(params):
        parts: Iterator[Any] = (inner if i == at else part for i, part in enumerate(params))
        return type(params)(parts)
    return {**params, at: inner}


def _elsewhere(parent: Layer, path: str) -> ArgumentError:
    return ArgumentError(
        f"the parameters of layer {path!r} are not found under its name: {type(parent).__name__} "
        "makes them by an init_params of its own. Change that tree by hand."
    )
