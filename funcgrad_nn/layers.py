"""Layers: Linear, Flatten and Unflatten, and Sequential and Residual, which are made of layers."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np

from funcgrad import random
from funcgrad.errors import ArgumentError, TreeMismatchError

from . import init
from .init import Initializer
from .module import Key, Layer, Params, Shape, is_sequence, note_child, shape_error

__all__ = [
    "Flatten",
    "Identity",
    "Lambda",
    "Linear",
    "Residual",
    "Sequential",
    "Unflatten",
]


class Linear(Layer):
    """``x @ weight + bias``.

    Parameters: ``{"weight": (in_features, out_features), "bias": (out_features,)}``, without
    ``"bias"`` if there is none. (PyTorch stores the weight transposed.)

    Args:
        in_features: the length of the last axis of the inputs; None for whatever it is when
            ``init`` makes the parameters.
        out_features: the length of the last axis of the outputs.
        bias: whether there is a bias.
        weight_init: by default uniform in ±1/√in_features, as in PyTorch.
        bias_init: by default the same.

    Inputs have shape ``(..., in_features)``, with any number of axes before, also none.

    >>> layer = nn.Linear(64, 10)
    >>> layer
    Linear(in_features=64, out_features=10, bias=True)
    >>> params = layer.init(0, (64,))
    >>> layer(params, np.ones((32, 64), np.float32)).shape
    (32, 10)

    Behind convolutions the number of features takes counting; left open (PyTorch's
    ``LazyLinear``) it is found by ``init``, which lets the shape of an example flow through the
    model:

    >>> model = nn.Sequential(nn.Conv2d(1, 8, 5), nn.Flatten(), nn.Linear(None, 10))
    >>> model.init(0, (1, 28, 28))[2]["weight"].shape
    (4608, 10)
    """

    in_features: int | None
    out_features: int
    bias: bool = True
    weight_init: Initializer | None = None
    bias_init: Initializer | None = None

    def __post_init__(self) -> None:
        for name in ("in_features", "out_features"):
            size = getattr(self, name)
            if size is None and name == "in_features":
                continue
            if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
                raise ArgumentError(f"Linear: {name} must be a non-negative integer, not {size!r}")

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        size = self._features(input_shape)
        self._check_input(input_shape, "input_shape must end in", size)
        bound = 1 / math.sqrt(max(1, size))
        default = init.uniform(-bound, bound)
        weight_key, bias_key = random.split(key)
        weight_shape = (size, self.out_features)
        params = {"weight": (self.weight_init or default)(weight_key, weight_shape, dtype)}
        if self.bias:
            params["bias"] = (self.bias_init or default)(bias_key, (self.out_features,), dtype)
        return params

    def apply(self, params: Params, x: Any) -> Any:
        size = self._features(x.shape, params)
        self._check_input(x.shape, "inputs must have shape (..., n) with n =", size)
        check_params(self, params, self._param_shapes(size))
        outputs = x @ params["weight"]
        return outputs + params["bias"] if self.bias else outputs

    def describe(self) -> str:
        settings = f"{self.in_features}, out_features={self.out_features}, bias={self.bias}"
        for name in ("weight_init", "bias_init"):
            if getattr(self, name) is not None:
                settings += f", {name}={getattr(self, name)!r}"
        return f"Linear(in_features={settings})"

    def _features(self, shape: Shape, params: Params = None) -> int:
        """`in_features`; where they are open, those of the parameters, else of the inputs."""
        if self.in_features is not None:
            return self.in_features
        return size_of_inputs(params, 0) or (shape[-1] if shape else 0)

    def _check_input(self, shape: Shape, rule: str, size: int) -> None:
        if shape[-1:] == (size,):
            return
        if not shape:
            mend = "Give the inputs an axis of features"
        elif self.in_features is None:
            mend = "The parameters were made for that, by init; change what comes before"
        else:
            mend = f"Write Linear({shape[-1]}, {self.out_features}), or change what comes before"
        raise shape_error(
            self,
            f"{rule} {size}, got {tuple(shape)}.",
            f"{mend} (nn.Flatten() makes one axis of all but the batch's).",
        )

    def _param_shapes(self, size: int) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"weight": (size, self.out_features)}
        return {**shapes, "bias": (self.out_features,)} if self.bias else shapes


def size_of_inputs(params: Params, axis: int, name: str = "weight") -> int | None:
    """For inputs of what size parameters are made: the length of an axis of one of them."""
    try:
        return params[name].shape[axis]
    except (TypeError, KeyError, AttributeError, IndexError):
        return None


def check_params(layer: Layer, params: Params, wanted: dict[str, Shape]) -> None:
    """Raise an error for parameters that are no dict of arrays of these shapes."""
    try:
        found = {name: params[name].shape for name in params}
    except (TypeError, AttributeError, IndexError):
        raise _no_params(layer, params, f"a dict of arrays of shapes {wanted}") from None
    if found != wanted:
        raise shape_error(
            layer,
            f"takes parameters of shapes {wanted}, got {found}. Pass what init has made for "
            "this very layer.",
        )


def _no_params(layer: Layer, params: Params, wanted: str) -> TreeMismatchError:
    return TreeMismatchError(
        f"{layer.describe()} takes parameters that are {wanted}, got a "
        f"{type(params).__name__}. Pass what init has made: "
        "params = layer.init(0, input_shape); layer(params, x)."
    )


class Sequential(Layer):
    """Layers one after the other.

    Parameters: a tuple with those of each layer, an empty dict for one that has none; so the
    weight of layer 1 is ``params[1]["weight"]``, and is saved under the name ``1.weight``.

    Args:
        *layers: layers, or plain functions of arrays such as ``np.tanh``.

    A layer that is there twice (one object, not two equal ones) is shared, as in PyTorch: its
    parameters stand at its first place, an empty dict at the others.

    ``model[1]`` is the layer at a position, ``model[:2]`` a Sequential of the first two, to be
    used with ``params[1]`` and ``params[:2]``.

    Raises:
        ArgumentError: something is neither a layer nor a function.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> model
    Sequential(
      (0): Flatten()
      (1): Linear(in_features=64, out_features=32, bias=True)
      (2): ReLU()
      (3): Linear(in_features=32, out_features=10, bias=True)
    )
    >>> params = model.init(0, (8, 8))
    >>> fg.tree.map(np.shape, params)
    ({}, {'bias': (32,), 'weight': (64, 32)}, {}, {'bias': (10,), 'weight': (32, 10)})
    >>> model(params, np.ones((5, 8, 8), np.float32)).shape
    (5, 10)
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer | Callable[[Any], Any]) -> None:
        self.layers = tuple([_as_layer(layer) for layer in layers])
        first = {id(layer): i for i, layer in reversed([*enumerate(self.layers)])}
        # No field, but a setting: models that share parameters otherwise are not equal.
        self.places = tuple([first[id(layer)] for layer in self.layers])

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        params: list[Params] = []
        shape = input_shape
        for i, (at, layer) in enumerate(zip(self.places, self.layers, strict=True)):
            try:
                # Folded in rather than split, so that layers added behind change no other.
                own = layer.init(random.fold_in(key, i), shape, dtype) if at == i else params[at]
                params.append(own if at == i else {})
                shape = layer.output_shape(own, shape, dtype)
            except Exception as error:
                note_child(error, self, str(i), layer)
                raise
        return tuple(params)

    def apply(self, params: Params, x: Any) -> Any:
        if not is_sequence(params) or len(params) != len(self.layers):
            raise _wrong_number(self, params)
        for i, (at, layer) in enumerate(zip(self.places, self.layers, strict=True)):
            try:
                x = layer(params[at], x)
            except Exception as error:
                note_child(error, self, str(i), layer)
                raise
        return x

    def children(self) -> dict[str, Layer]:
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def describe(self) -> str:
        return "Sequential()"

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    def __getitem__(self, index: int | slice) -> Layer:
        if isinstance(index, slice):
            return Sequential(*self.layers[index])
        return self.layers[index]


def _wrong_number(model: Sequential, params: Params) -> TreeMismatchError:
    if is_sequence(params):
        return TreeMismatchError(
            f"a Sequential of {len(model)} layers takes a tuple of as many parameter trees, got "
            f"{len(params)}. Pass what init has made; for a part of a model, that part of its "
            "parameters: model[:2](params[:2], x)."
        )
    return _no_params(model, params, f"a tuple of {len(model)}, one for each layer")


def _as_layer(layer: Layer | Callable[[Any], Any]) -> Layer:
    if isinstance(layer, Layer):
        return layer
    if inspect.isclass(layer) and issubclass(layer, Layer):
        raise ArgumentError(
            f"Sequential takes layers, and {layer.__name__} is a class: write {layer.__name__}()."
        )
    if not callable(layer):
        raise ArgumentError(
            f"Sequential takes layers or functions of arrays, not {layer!r:.60}. Give the layers "
            "one by one, or unpack a list of them: nn.Sequential(*layers)."
        )
    return Lambda(layer)


class Residual(Layer):
    """``x + block(x)``: what a block adds to its inputs.

    K. He, X. Zhang, S. Ren, J. Sun (2016), *Deep Residual Learning for Image Recognition*.

    Parameters: ``{"block": ..., "shortcut": ...}``, without ``"shortcut"`` if there is none.

    Args:
        block: a layer.
        shortcut: what the inputs go through on the other way, such as a convolution of size 1
            where the block changes their shape; by default they stay as they are.

    Raises:
        ArgumentError: one is no layer.
        LayerShapeError: the two do not have the same shape.

    >>> block = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    >>> layer = nn.Residual(block)
    >>> layer(layer.init(0, 8), np.ones((5, 8), np.float32)).shape
    (5, 8)
    >>> wider = nn.Residual(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(3, 8, 1, stride=2))
    >>> wider.output_shape(wider.init(0, (3, 9, 9)), (3, 9, 9))
    (8, 5, 5)
    """

    block: Layer
    shortcut: Layer | None = None

    def __post_init__(self) -> None:
        for name in ("block", "shortcut"):
            layer: Any = getattr(self, name)
            if not isinstance(layer, Layer) and (name, layer) != ("shortcut", None):
                raise ArgumentError(
                    f"Residual: {name} must be a layer, not {layer!r:.60}. Several are one by "
                    "nn.Sequential(...), a function by nn.Lambda(...)."
                )

    def apply(self, params: Params, x: Any) -> Any:
        added = self.block(params["block"], x)
        kept = x if self.shortcut is None else self.shortcut(params["shortcut"], x)
        if added.shape != kept.shape:
            way = "the inputs have" if self.shortcut is None else "the shortcut gives"
            raise shape_error(
                self,
                f"the block gives shape {tuple(added.shape)} where {way} {tuple(kept.shape)}, and "
                "the two are added. Pass a shortcut that changes the inputs' shape likewise, for "
                "example nn.Residual(block, nn.Conv2d(in_channels, out_channels, 1, stride)).",
            )
        return kept + added


class Lambda(Layer):
    """A function of arrays as a layer without parameters.

    >>> nn.Sequential(nn.Linear(3, 8), np.tanh)
    Sequential(
      (0): Linear(in_features=3, out_features=8, bias=True)
      (1): Lambda(tanh)
    )
    """

    function: Callable[[Any], Any]

    def apply(self, params: Params, x: Any) -> Any:
        return self.function(x)

    def describe(self) -> str:
        return f"Lambda({getattr(self.function, '__name__', repr(self.function))})"


class Identity(Layer):
    """Gives back its input.

    >>> nn.Identity()({}, np.ones(2))
    array([1., 1.])
    """

    def apply(self, params: Params, x: Any) -> Any:
        return x


class Flatten(Layer):
    """One axis in place of several, by default of all but the first, which counts the batch.

    Args:
        start_dim: the first of them.
        end_dim: the last of them.

    Raises:
        LayerShapeError: inputs have no such axes.

    >>> nn.Flatten()({}, np.ones((5, 8, 8))).shape
    (5, 64)
    >>> nn.Flatten(2)({}, np.ones((5, 3, 8, 8))).shape
    (5, 3, 64)
    """

    start_dim: int = 1
    end_dim: int = -1

    def apply(self, params: Params, x: Any) -> Any:
        rank = len(x.shape)
        if not rank:
            raise shape_error(self, "inputs must have a batch axis first, got shape ().")
        if (self.start_dim, self.end_dim) == (1, -1):
            return np.reshape(x, (x.shape[0], math.prod(x.shape[1:])))
        first, last = (n + rank if n < 0 else n for n in (self.start_dim, self.end_dim))
        if not 0 <= first <= last < rank:
            raise shape_error(
                self,
                f"inputs must have axes from {self.start_dim} to {self.end_dim}, got shape "
                f"{tuple(x.shape)}.",
            )
        joined = math.prod(x.shape[first : last + 1])
        return np.reshape(x, (*x.shape[:first], joined, *x.shape[last + 1 :]))

    def describe(self) -> str:
        axes = (self.start_dim, self.end_dim)
        return "Flatten()" if axes == (1, -1) else super().describe()


class Unflatten(Layer):
    """Several axes in place of one: what undoes :class:`Flatten`.

    Args:
        axis: the one that is divided; 0 is the batch's, which stays as it is.
        sizes: the lengths of the axes in its place; one may be -1, for what is left.

    Raises:
        ArgumentError: the axis is the batch's, or lengths are none.
        LayerShapeError: the axis has another length than the product of the sizes.

    >>> nn.Unflatten(1, (2, -1, 4))({}, np.ones((5, 32))).shape
    (5, 2, 4, 4)
    """

    axis: int
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        sizes: Any = self.sizes
        self.sizes = tuple(sizes) if is_sequence(sizes) else (sizes,)
        whole = [isinstance(n, (int, np.integer)) and n >= -1 for n in self.sizes]
        if not whole or not all(whole) or self.sizes.count(-1) > 1:
            raise ArgumentError(
                "Unflatten: sizes must be a tuple of non-negative integers, of which one may be "
                f"-1, not {sizes!r}"
            )
        if self.axis == 0:
            raise ArgumentError("Unflatten: axis 0 counts the batch; take one behind it")

    def apply(self, params: Params, x: Any) -> Any:
        rank = len(x.shape)
        axis = self.axis + rank if self.axis < 0 else self.axis
        known = math.prod([n for n in self.sizes if n != -1])
        fits = 0 < axis < rank and (
            bool(known) and x.shape[axis] % known == 0
            if -1 in self.sizes
            else x.shape[axis] == known
        )
        if not fits:
            raise shape_error(
                self,
                f"inputs must have along axis {self.axis} the length {_product(self.sizes)}, got "
                f"shape {tuple(x.shape)}.",
            )
        left = x.shape[axis] // known if -1 in self.sizes else 0
        sizes = [left if n == -1 else n for n in self.sizes]
        return np.reshape(x, (*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))


def _product(sizes: Shape) -> str:
    known = math.prod([n for n in sizes if n != -1])
    return f"a multiple of {known}" if -1 in sizes else str(known)
