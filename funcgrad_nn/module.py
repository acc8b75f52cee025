"""What a layer is: an immutable description that makes parameters and applies them.

A layer holds no arrays. ``layer.init(seed, input_shape)`` makes its parameters, a pytree;
``layer(params, x)`` is a pure function of them and a batch of inputs. So layers compare and hash by
their settings, can be static arguments of ``fg.jit``, and the same parameters can be used by as
many layers, at as many places, as one likes.

**Writing one's own layer.** Subclass :class:`Layer`, annotate the settings as in a dataclass (the
subclass becomes a frozen one), and write two methods:

>>> class Scale(nn.Layer):
...     size: int
...     start: float = 1.0
...
...     def init_params(self, key, input_shape, dtype):
...         return {"scale": np.full(self.size, self.start, dtype)}
...
...     def apply(self, params, x):
...         return x * params["scale"]
>>> model = nn.Sequential(nn.Linear(4, 3), Scale(3, start=0.5))
>>> print(model)
Sequential(
  (0): Linear(in_features=4, out_features=3, bias=True)
  (1): Scale(size=3, start=0.5)
)
>>> model.init(0, (4,))[1]
{'scale': array([0.5, 0.5, 0.5], dtype=float32)}

Layers in the fields of a layer are shown inside it:

>>> class Residual(nn.Layer):
...     inner: nn.Layer
...
...     def init_params(self, key, input_shape, dtype):
...         return self.inner.init(key, input_shape, dtype)
...
...     def apply(self, params, x):
...         return x + self.inner(params, x)
>>> print(Residual(nn.Sequential(nn.Linear(3, 3), nn.ReLU())))
Residual(
  (inner): Sequential(
    (0): Linear(in_features=3, out_features=3, bias=True)
    (1): ReLU()
  )
)

**Sharing.** A layer is no owner of parameters, so sharing one between two places is using the same
parameters twice; derivatives add up by themselves:

>>> class Autoencoder(nn.Layer):
...     encoder: nn.Linear
...
...     def init_params(self, key, input_shape, dtype):
...         return self.encoder.init(key, input_shape, dtype)
...
...     def apply(self, params, x):
...         code = np.tanh(self.encoder(params, x))
...         return code @ params["weight"].T
>>> layer = Autoencoder(nn.Linear(8, 2, bias=False))
>>> params = layer.init(0, (8,))
>>> layer(params, np.ones((5, 8), np.float32)).shape
(5, 8)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields
from typing import Any, TypeGuard, dataclass_transform

import numpy as np
from numpy.typing import DTypeLike, NDArray

import funcgrad as fg
from funcgrad import random, tree
from funcgrad.errors import ArgumentError, LayerShapeError

Array = NDArray[Any]
Key = NDArray[np.uint32]
Shape = tuple[int, ...]
Params = Any
"""Parameters: any pytree of arrays."""

# Told of each call of a layer while `nn.summary` looks on.
Observer = Callable[["Layer", Params, Any], Any]
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@dataclass_transform(frozen_default=True)
@dataclass(frozen=True)
class Layer:
    """Base of all layers; see the module's text for how to write one.

    Subclasses become frozen dataclasses by themselves, without the decorator, and leaves for
    :mod:`funcgrad.tree`. They write :meth:`apply` and, if they have parameters,
    :meth:`init_params`; users call :meth:`init` and the layer itself.

    >>> class Double(nn.Layer):
    ...     def apply(self, params, x):
    ...         return 2 * x
    >>> layer = Double()
    >>> params = layer.init(0, (3,))
    >>> layer(params, np.ones((2, 3)))
    array([[2., 2., 2.],
           [2., 2., 2.]])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        dataclass(frozen=True, repr=False)(cls)
        tree.register_leaf(cls)

    def init(
        self, key: Key | int, input_shape: int | tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> Params:
        """Make the parameters.

        Args:
            key: a key of :mod:`funcgrad.random`, or an integer seed. The same key makes the same
                parameters.
            input_shape: the shape of one example, without the batch axis: ``(28, 28)`` for
                batches of shape ``(64, 28, 28)``. An integer stands for one axis.
            dtype: of the parameters, a float dtype.

        Returns:
            A pytree of arrays; an empty dict if the layer has no parameters.

        Raises:
            LayerShapeError: inputs of this shape do not fit; the message names the layer.
            ArgumentError: the shape is none, or the dtype no float dtype.
            RandomKeyError: the key is none.

        >>> nn.Linear(2, 3).init(0, (2,))["weight"].shape
        (2, 3)
        """
        number = np.dtype(dtype)
        if number.kind != "f":
            raise ArgumentError(f"parameters must be of a float dtype, not {number}")
        shape = _checked_shape(input_shape)
        with _located(self):
            return self.init_params(_as_key(key), shape, number)

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        """Make the parameters; for subclasses to write. By default there are none.

        Args:
            key: a key of :mod:`funcgrad.random`; for several arrays, split it.
            input_shape: the shape of one example.
            dtype: of the parameters.
        """
        return {}

    def __call__(self, params: Params, x: Any) -> Any:
        """Apply the layer to a batch.

        Args:
            params: what :meth:`init` has made, or a tree like it.
            x: inputs, shape ``(batch, *input_shape)``. One example becomes a batch by
                ``x[None]``, or is mapped over by ``fg.vmap``.

        Returns:
            The outputs, with the same batch axis.

        Raises:
            LayerShapeError: the inputs or the parameters have not the shapes the layer needs; the
                message names the layer by its path.
        """
        observer = _observer.get()
        if observer is not None:
            return observer(self, params, x)
        try:
            return self.apply(params, x)
        except LayerShapeError as error:
            _locate(error, self)
            raise

    def apply(self, params: Params, x: Any) -> Any:
        """Compute the outputs for a batch; for subclasses to write, as a pure function."""
        raise NotImplementedError(f"{type(self).__name__} has no method apply(self, params, x)")

    def output_shape(
        self, params: Params, input_shape: int | tuple[int, ...], dtype: DTypeLike = np.float32
    ) -> Shape:
        """The shape of one example's output, found without computing it.

        Args:
            params: parameters, or anything of their structure with shapes and dtypes.
            input_shape: the shape of one example, without the batch axis.
            dtype: of the inputs.

        >>> layer = nn.Flatten()
        >>> layer.output_shape({}, (28, 28))
        (784,)
        """
        batch = fg.ShapeDtypeStruct((1, *_checked_shape(input_shape)), np.dtype(dtype))
        return fg.eval_shape(self, params, batch).shape[1:]

    def children(self) -> dict[str, Layer]:
        """The layers in this layer's fields, alone or in tuples and lists, by name.

        >>> list(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).children())
        ['0', '1']
        """
        found: dict[str, Layer] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Layer):
                found[field.name] = value
            elif is_sequence(value):
                for i, part in enumerate(value):
                    if isinstance(part, Layer):
                        found[f"{field.name}.{i}"] = part
        return found

    def describe(self) -> str:
        """The layer's name and its own settings on one line, without the layers in it."""
        owned = {name.partition(".")[0] for name in self.children()}
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.repr and field.name not in owned
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __repr__(self) -> str:
        children = self.children()
        head = self.describe()
        if not children:
            return head
        name, settings = type(self).__name__, head.partition("(")[2][:-1]
        lines = [settings] if settings else []
        lines += [f"({key}): {child!r}" for key, child in children.items()]
        body = "\n".join(lines).replace("\n", "\n  ")
        return f"{name}(\n  {body}\n)"


def shape_error(layer: Layer, problem: str) -> LayerShapeError:
    """The error of a layer about shapes; the layers around it add where it is."""
    error = LayerShapeError(layer.describe(), problem)
    error.outermost = layer
    return error


def name_within(parent: Layer, child: Layer, before: int = 0) -> str:
    """The name of a child; of one at several places, that of the place after ``before`` others."""
    names = [name for name, layer in parent.children().items() if layer is child]
    return names[min(before, len(names) - 1)] if names else type(child).__name__


def _locate(error: LayerShapeError, parent: Layer, name: str | None = None) -> None:
    """Note in the error that it has come out of a layer, unless that is noted already."""
    inner = error.outermost
    if isinstance(inner, Layer) and inner is not parent:
        error.path = (name_within(parent, inner) if name is None else name, *error.path)
        error.outermost = parent


@contextmanager
def _located(parent: Layer) -> Generator[None]:
    try:
        yield
    except LayerShapeError as error:
        _locate(error, parent)
        raise


def note_child(error: Exception, parent: Layer, name: str, child: Layer) -> None:
    """Note in an error in which child it was raised."""
    if isinstance(error, LayerShapeError):
        _locate(error, parent, name)
    else:
        error.add_note(f"in layer {name} of {type(parent).__name__}: {child.describe()}")


@contextmanager
def observed(observer: Observer) -> Generator[None]:
    """Have all layers call ``observer(layer, params, x)`` in place of ``layer.apply``."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def _as_key(key: Key | int) -> Key:
    return random.key(key) if isinstance(key, (int, np.integer)) else key


def _checked_shape(shape: Any) -> Shape:
    try:
        sizes = tuple(map(operator.index, shape if is_sequence(shape) else [shape]))
    except TypeError:
        sizes = (-1,)
    if any(size < 0 for size in sizes):
        raise ArgumentError(
            f"input_shape must be a tuple of non-negative integers, the shape of one example "
            f"without the batch axis, not {shape!r}"
        )
    return sizes


def is_sequence(obj: object) -> TypeGuard[tuple[Any, ...] | list[Any]]:
    """Whether this is a tuple or a list."""
    return isinstance(obj, (tuple, list))


def size_of(leaf: Any) -> int:
    """The number of elements of an array, or of what stands for one."""
    return math.prod(leaf.shape)
