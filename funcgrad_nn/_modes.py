"""How layers are called: what stands between a layer's call and its `apply`.

By itself nothing does: a call is an evaluation. While a model is trained, initialised or looked
at, one of these is active, is told of each call of each layer, and makes the call itself.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np

import funcgrad as fg
from funcgrad import random, tree
from funcgrad.errors import ArgumentError, TrainingModeError

# `module.Layer`, which calls what is here.
Layer = Any
Caller = Callable[[Layer, Any, Any], Any]
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def active() -> Caller | None:
    """Who makes the calls of layers now, in place of themselves."""
    return _caller.get()


@contextmanager
def calls_by(caller: Caller | None) -> Generator[None]:
    """Have all layers call ``caller(layer, params, x)`` in place of ``layer.apply(params, x)``.

    None for none.
    """
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


class Training:
    """The calls of one `Layer.train`: hands out keys, and collects the new states.

    New parameters of a layer take the place of those it was called with, found by identity: what a
    layer around it passes on is a part of the tree that `train` was given.
    """

    def __init__(self, key: Any) -> None:
        self._keys = None if key is None else _keys(key)
        self._level = fg.trace_level()
        # By the ids of parameters that layers were called with: these, the new ones, and whose.
        self._renewed: dict[int, tuple[Any, Any, Layer]] = {}

    def __call__(self, layer: Layer, params: Any, x: Any) -> Any:
        if not layer.differs_in_training():
            return layer.apply(params, x)
        if fg.trace_level() != self._level:
            raise TrainingModeError(
                f"{layer.describe()} is called within a transformation that is inside the model "
                "(scan, cond, vmap, grad, checkpoint, ...), from where its new state and its use "
                "of the key cannot be taken out. Call layer.train(params, x, key) there, which is "
                "pure, and return the new parameters from the transformed function."
            )
        now = self._renewed[id(params)][1] if id(params) in self._renewed else params
        y, new = layer.apply_training(now, x, self._key_for(layer))
        if new is not now:
            self._renewed[id(params)] = params, new, layer
        return y

    def _key_for(self, layer: Layer) -> Any:
        if not layer.needs_key:
            return None
        if self._keys is None:
            raise TrainingModeError(
                f"{layer.describe()} draws random numbers in training mode and has no key. Pass "
                "one, another for each step: model.train(params, x, key), with "
                "key, step_key = fg.random.split(key)."
            )
        return next(self._keys)

    def with_new_states(self, params: Any) -> Any:
        """The tree that `train` was given, with what layers have renewed in its place."""
        if not self._renewed:
            return params
        found: set[int] = set()

        def renew(part: Any) -> Any:
            if id(part) not in self._renewed:
                return part
            found.add(id(part))
            return self._renewed[id(part)][1]

        result = tree.map(renew, params, is_leaf=lambda part: id(part) in self._renewed)
        for part, (_, _, layer) in self._renewed.items():
            if part not in found:
                raise TrainingModeError(
                    f"{layer.describe()} was called with parameters that are no part of those "
                    "given to train, so there is no place for its new state. Let the layers "
                    "around it pass its part on as it is (convert or change parameters before "
                    "model.train, not within)."
                )
        return result


def _keys(key: Any) -> Iterator[Any]:
    key = random.key(key) if isinstance(key, int) else key
    count = 0
    while True:
        yield random.fold_in(key, count)
        count += 1


class Pending:
    """Stands for the parameters of a layer until its input's shape is known."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.input_shape: tuple[int, ...] | None = None
        self.params: Any = None

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ArgumentError(
            f"apply uses the parameters of {self.layer.describe()} for something else than to "
            "call it with them, so their shapes have to be known first. Write "
            "init_params(self, key, input_shape, dtype), which makes all parameters."
        )

    __array__ = __getitem__ = __iter__ = __len__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse()


class Initialising:
    """The calls of an `apply` that is run for the shapes that its layers are given."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def __call__(self, layer: Layer, params: Any, x: Any) -> Any:
        if type(params) is not Pending:
            if type(params) is dict:
                _refuse_whole(layer, cast(dict[Any, Any], params))
            return layer.apply(params, x)
        if params.input_shape is None:
            params.input_shape = tuple(x.shape[1:])
            shapes = shapes_of_params(layer, params.input_shape, self._dtype)
            params.params = tree.map(_zeros, shapes)
        with calls_by(self):
            return layer.apply(params.params, layer.as_input(x))


def _refuse_whole(layer: Layer, params: dict[Any, Any]) -> None:
    """Raise ArgumentError for a layer that is called with all that the one around it has."""
    parts = {name: part for name, part in params.items() if type(part) is Pending}
    if parts:
        found = [name for name, part in parts.items() if part.layer is layer]
        name = found[0] if found else "name"
        raise ArgumentError(
            f"{layer.describe()} is called with the whole of params, where its own part belongs. "
            f"Write self.{name}(params[{name!r}], x)."
        )


def _zeros(like: Any) -> Any:
    """An array without memory of its own."""
    return np.broadcast_to(np.zeros((), like.dtype), like.shape)


def shapes_of_params(layer: Layer, input_shape: tuple[int, ...], dtype: Any) -> Any:
    """The parameters' shapes and dtypes, without drawing any."""

    def init(key: Any) -> Any:
        return layer.init(key, input_shape, dtype)

    return fg.eval_shape(init, fg.ShapeDtypeStruct((2,), np.uint32))
