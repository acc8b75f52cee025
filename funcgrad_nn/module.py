"""What a layer is: an immutable description that makes parameters and applies them.

A layer holds no arrays. ``layer.init(seed, input_shape)`` makes its parameters, a pytree;
``layer(params, x)`` is a pure function of them and a batch of inputs. So layers compare and hash by
their settings, can be static arguments of ``fg.jit``, and the same parameters can be used by as
many layers, at as many places, as one likes.

**Writing one's own layer.** Subclass :class:`Layer`, annotate the settings as in a dataclass (the
subclass becomes one, which cannot be changed once it is made), and write two methods:

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

Layers in the fields of a layer are shown inside it, and it makes their parameters by itself: a dict
of them by the fields' names. A layer that does so otherwise writes ``init_params``:

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

import inspect
import math
import operator
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any, ClassVar, cast, dataclass_transform

import numpy as np
from numpy.typing import DTypeLike, NDArray

import funcgrad as fg
from funcgrad import random, tree
from funcgrad.errors import ArgumentError, LayerShapeError

from . import _mistakes, _modes
from ._pytorch import check_options, options_of
from .declarations import declared, is_array, is_sequence

Array = NDArray[Any]
Key = NDArray[np.uint32]
Shape = tuple[int, ...]
Params = Any
"""Parameters: any pytree of arrays."""


# What users of PyTorch look for on a model, and where it is here.
_ELSEWHERE = {
    "parameters": "they are what model.init(seed, input_shape) returns, a tree of arrays",
    "named_parameters": "nn.named_parameters(params), of what model.init returns",
    "state_dict": "params is that; nn.save(path, params) writes it, and "
    "nn.torch.to_state_dict(model, params) has PyTorch's names and layouts",
    "load_state_dict": "params = nn.load(path, like=params), or of PyTorch's "
    "nn.torch.from_state_dict(model, state)",
    "eval": "model(params, x) is the evaluation, model.train(params, x, key) the training mode",
    "to": "params = fg.device_put(params, device); a layer holds no arrays",
    "cuda": 'params = fg.device_put(params, ("cuda", 0)); a layer holds no arrays',
    "cpu": "params = fg.device_get(params); a layer holds no arrays",
    "zero_grad": "nothing to do: fg.grad returns new gradients, and nothing adds up",
    "requires_grad_": "fg.grad differentiates by its argument; fg.stop_gradient(x) holds one fixed",
    "register_buffer": "what is no parameter is a nn.State among what init_params makes",
    "forward": "call the model, model(params, x); own layers write apply(self, params, x)",
    "modules": "model.children()",
}


class _Sealing(type):
    """Seals objects when they are made: `__init__` may set attributes, nobody afterwards."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            layer: Any = super().__call__(*args, **kwargs)
        except (TypeError, ValueError):
            if any(map(is_array, (*args, *kwargs.values()))):
                raise ArgumentError(
                    f"{cls.__name__} was given an array where its settings belong. Make the "
                    f"layer first, then its parameters, then call it: layer = {cls.__name__}(...); "
                    "params = layer.init(0, input_shape); layer(params, x)."
                ) from None
            # Here rather than before, where it would take time.
            options = options_of(cls.__init__)
            if options is not None:
                check_options(cls.__name__, options, kwargs)
            raise
        return _sealed(layer)


def _sealed(layer: Layer) -> Layer:
    name = next((name for name, value in vars(layer).items() if is_array(value)), None)
    if name is not None:
        raise ArgumentError(
            f"{type(layer).__name__} was given an array, {name}, but layers hold none: nothing "
            f"would train it. Declare it, {name} = nn.Parameter(shape, nn.init.ones()), and take "
            "it from params; or make it in init_params, as a nn.State if it is not to be trained."
        )
    # A list could still be changed, and has no hash.
    vars(layer).update({name: _fixed(value) for name, value in vars(layer).items()})
    vars(layer)["_sealed"] = True
    return layer


def _fixed(value: Any) -> Any:
    if type(value) is not list:
        return value
    return tuple([_fixed(part) for part in cast(list[Any], value)])


_MISSING = _mistakes.MISSING


@dataclass_transform()
@dataclass(eq=False, repr=False)
class Layer(metaclass=_Sealing):
    """Base of all layers; see the module's text for how to write one.

    Subclasses become dataclasses by themselves, without the decorator, and leaves for
    :mod:`funcgrad.tree`; their objects cannot be changed once they are made. They write
    :meth:`apply` and, if their parameters are not those of the layers in them and of
    :class:`Parameter`, :meth:`init_params`; users call :meth:`init`, the layer itself and
    :meth:`train`.

    >>> class Double(nn.Layer):
    ...     def apply(self, params, x):
    ...         return 2 * x
    >>> layer = Double()
    >>> params = layer.init(0, (3,))
    >>> layer(params, np.ones((2, 3)))
    array([[2., 2., 2.],
           [2., 2., 2.]])
    """

    needs_key: ClassVar[bool] = False
    """Whether :meth:`apply_training` draws random numbers."""
    takes_indices: ClassVar[bool] = False
    """Whether inputs are integers, whatever the dtype of the parameters."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "forward" in vars(cls) and "apply" not in vars(cls):
            raise ArgumentError(
                f"{cls.__name__} writes forward(self, x), as in PyTorch. Write apply(self, params, "
                "x) instead, and call the layers in it with their parts of params: "
                'self.linear(params["linear"], x).'
            )
        _mistakes.check_apply(cls)
        # Without fields of its own it has its base's `__init__`: to write one takes time.
        if inspect.get_annotations(cls):
            dataclass(eq=False, repr=False)(cls)
        tree.register_leaf(cls)

    def __setattr__(self, name: str, value: Any) -> None:
        if "_sealed" in vars(self):
            raise FrozenInstanceError(
                f"cannot set {name}: a {type(self).__name__} cannot be changed once it is made. "
                "Make another, for example by dataclasses.replace(layer, ...); arrays that change "
                "belong to its parameters."
            )
        vars(self)[name] = value

    def __getattr__(self, name: str) -> Any:
        hint = f": {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{hint}")

    def __delattr__(self, name: str) -> None:
        raise FrozenInstanceError(f"cannot delete {name} of a {type(self).__name__}")

    def settings(self) -> dict[str, Any]:
        """All attributes: the fields, then what ``__init__`` has set beside them.

        >>> nn.ReLU().settings(), nn.Dropout(0.1).settings()
        ({}, {'p': 0.1})
        """
        attributes = vars(self)
        names = [f.name for f in fields(self) if f.name in attributes]
        names += [n for n in attributes if n not in names and not n.startswith("_")]
        return {name: attributes[name] for name in names}

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(other) is not type(self):
            return NotImplemented
        return self.settings() == other.settings()

    def __hash__(self) -> int:
        if "_hash" not in vars(self):
            vars(self)["_hash"] = hash((type(self), *self.settings().items()))
        return vars(self)["_hash"]

    def init(
        self,
        key: Key | int = _MISSING,
        input_shape: int | tuple[int, ...] = _MISSING,
        dtype: DTypeLike = np.float32,
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
            ArgumentError: the shape is none, the dtype no float dtype, or an argument is missing.
            RandomKeyError: the key is none.

        >>> nn.Linear(2, 3).init(0, (2,))["weight"].shape
        (2, 3)
        """
        _mistakes.check_init(self, Layer, key, input_shape)
        number = np.dtype(dtype)
        if number.kind != "f":
            raise ArgumentError(f"parameters must be of a float dtype, not {number}")
        shape = _checked_shape(input_shape)
        with _mistakes.hints_for_init(self, shape, number), _located(self):
            return self.init_params(_as_key(key), shape, number)

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        """Make the parameters; for subclasses to write where this will not do.

        By default they are a dict with those of the layers in it and of each
        :class:`Parameter`, by their names; layers in a tuple have a tuple of theirs, and lists have
        become tuples. For the shapes that these layers are given, :meth:`apply` runs once without
        computing.

        Args:
            key: a key of :mod:`funcgrad.random`; for several arrays, split it.
            input_shape: the shape of one example.
            dtype: of the parameters.

        Raises:
            ArgumentError: apply does not call one of the layers, or one layer has two names.
        """
        own = declared(self)
        # Folded in rather than split, so that what is added behind changes no other.
        keys = (random.fold_in(key, i) for i in range(2**31))
        params = {
            name: parameter.init(next(keys), parameter.shape_in(self), dtype)
            for name, parameter in own.items()
        }
        inputs = _inputs(self, params, input_shape, dtype)

        def init(given: Any) -> Params:
            if is_sequence(given):
                return tuple([init(part) for part in given])
            if given is None:
                return {}
            with _located(self):
                return given.layer.init(next(keys), given.input_shape, dtype)

        return params | {name: init(given) for name, given in inputs.items()}

    def __call__(self, params: Params, x: Any = _MISSING) -> Any:
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
            ArgumentError: one of the two is missing, or they stand the other way round.
        """
        if x is _MISSING or (type(x) is dict and is_array(params)):
            raise _mistakes.call_error(self, x is _MISSING)
        caller = _modes.active()
        try:
            y = self.apply(params, x) if caller is None else caller(self, params, x)
        except LayerShapeError as error:
            _locate(error, self)
            _mistakes.hint_for_call(error, self, params, x)
            raise
        except (KeyError, AttributeError) as error:
            if taught := _mistakes.taught(self, params, x, error):
                raise taught from error
            raise
        return _mistakes.returned(self, y)

    def apply(self, params: Params, x: Any) -> Any:
        """Compute the outputs for a batch; for subclasses to write, as a pure function."""
        raise NotImplementedError(f"{type(self).__name__} has no method apply(self, params, x)")

    def train(
        self, params: Params = _MISSING, x: Any = _MISSING, key: Key | int | None = None
    ) -> tuple[Any, Params]:
        """Apply the layer in training mode: dropout drops, statistics are the batch's.

        A pure function as the evaluation ``layer(params, x)`` is, for the same parameters. Layers
        whose training differs are found wherever they are in the model; others never notice.

        Args:
            params: as for the evaluation.
            x: inputs, shape ``(batch, *input_shape)``.
            key: for layers that draw random numbers, a key of :mod:`funcgrad.random` or a seed;
                another for each step.

        Returns:
            The outputs, and the parameters with new states: those given where no layer has a
            state. States have no derivatives, and optimisers leave them as they are.

        Raises:
            LayerShapeError: as for the evaluation.
            TrainingModeError: a layer needs a key, or is called where its new state is lost.

        >>> model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm(8), nn.ReLU(), nn.Dropout(0.5))
        >>> params = model.init(0, 3)
        >>> optimizer = nn.sgd(0.1)
        >>> @fg.jit
        ... def step(params, state, key, x, y):
        ...     def loss_fn(params):
        ...         outputs, params = model.train(params, x, key)
        ...         return nn.mse(outputs, y), params
        ...     grads, params = fg.grad(loss_fn, has_aux=True)(params)
        ...     return optimizer.update(grads, state, params)
        >>> x, y = np.ones((4, 3), np.float32), np.zeros((4, 8), np.float32)
        >>> params, state = step(params, optimizer.init(params), fg.random.key(1), x, y)
        >>> params[1]["running"].var[0].round(3)
        np.float32(0.9)
        """
        if x is _MISSING:
            raise _mistakes.call_error(self, True, ".train")
        run = _modes.Training(None if key is None else _as_key(key))
        with _modes.calls_by(run):
            y = self(params, x)
        return y, run.with_new_states(params)

    def apply_training(self, params: Params, x: Any, key: Any) -> tuple[Any, Params]:
        """Outputs and parameters in training mode; for subclasses whose training differs.

        Args:
            params: as for :meth:`apply`; what is to be renewed by it is a :class:`State` in it.
            x: inputs.
            key: a key of :mod:`funcgrad.random`, where the class says ``needs_key = True``.
        """
        return self.apply(params, x), params

    @classmethod
    def differs_in_training(cls) -> bool:
        """Whether the class writes :meth:`apply_training`."""
        return cls.apply_training is not Layer.apply_training

    def as_input(self, x: Any) -> Any:
        """What stands for inputs where only their shape is known, in a dtype that it takes."""
        return x.astype(np.int64) if self.takes_indices and x.dtype.kind == "f" else x

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
        return fg.eval_shape(self._of_shapes, params, batch).shape[1:]

    def _of_shapes(self, params: Params, x: Any) -> Any:
        return self(params, self.as_input(x))

    def children(self) -> dict[str, Layer]:
        """The layers in this layer's attributes, alone or in tuples and lists, by name.

        >>> list(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).children())
        ['0', '1']
        """
        found: dict[str, Layer] = {}
        for name, value in self.settings().items():
            if isinstance(value, Layer):
                found[name] = value
            elif is_sequence(value):
                for i, part in enumerate(value):
                    if isinstance(part, Layer):
                        found[f"{name}.{i}"] = part
        return found

    def describe(self) -> str:
        """The layer's name and its own settings on one line, without the layers in it."""
        owned = {name.partition(".")[0] for name in self.children()}
        shown = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.repr and field.name not in owned and hasattr(self, field.name)
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


def shape_error(layer: Layer, problem: str, mend: str = "") -> LayerShapeError:
    """The error of a layer about shapes; the layers around it add where it is.

    Where a batch axis is missing, or one too many, they say so in place of how to mend it here.
    """
    error = LayerShapeError(layer.describe(), problem, mend)
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


def _inputs(layer: Layer, own: Params, input_shape: Shape, dtype: np.dtype[Any]) -> dict[str, Any]:
    """By the names of the layers in this one, what each is given; of a sequence a list."""
    names = {name.partition(".")[0] for name in layer.children()}
    if not names:
        return {}
    _check_once(layer)
    pending = {n: _pending(value) for n, value in layer.settings().items() if n in names}
    batch = fg.ShapeDtypeStruct((1, *input_shape), dtype)

    given = {**own, **pending}

    def apply(x: Any) -> Any:
        try:
            return _mistakes.returned(layer, layer.apply(given, layer.as_input(x)))
        except (KeyError, AttributeError) as error:
            if taught := _mistakes.taught(layer, given, x, error):
                raise taught from error
            raise

    with _modes.calls_by(_modes.Initialising(dtype)):
        fg.eval_shape(apply, batch)
    return {name: _given(layer, name, part) for name, part in pending.items()}


def _pending(value: Any) -> Any:
    if is_sequence(value):
        return tuple([_pending(part) for part in value])
    return _modes.Pending(value) if isinstance(value, Layer) else {}


def _given(layer: Layer, name: str, part: Any) -> Any:
    """A layer with the shape of its inputs; None for what is no layer."""
    if is_sequence(part):
        return [_given(layer, f"{name}.{i}", p) for i, p in enumerate(part)]
    if type(part) is not _modes.Pending or (part.input_shape is None and _is_bare(part.layer)):
        return None
    if part.input_shape is None:
        raise ArgumentError(
            f"{type(layer).__name__}.apply does not call {name} with params[{name!r}], so the "
            "shape of its inputs is not known. Call it, drop it, or write "
            "init_params(self, key, input_shape, dtype)."
        )
    return part


def _is_bare(layer: Layer) -> bool:
    """Whether a layer has no parameters, whatever its inputs."""
    made = type(layer).init_params is not Layer.init_params
    return not made and not declared(layer) and all(map(_is_bare, layer.children().values()))


def _check_once(layer: Layer) -> None:
    names: dict[int, str] = {}
    for name, child in layer.children().items():
        before = names.setdefault(id(child), name)
        if before != name:
            raise ArgumentError(
                f"{before} and {name} of {type(layer).__name__} are one layer. To share its "
                f"parameters, hold it once and call it twice with params[{before!r}]; else make "
                "two layers."
            )


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


def size_of(leaf: Any) -> int:
    """The number of elements of an array, or of what stands for one."""
    return math.prod(leaf.shape)
