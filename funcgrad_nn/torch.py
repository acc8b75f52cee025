"""Parameters from PyTorch and back: its state dicts, without importing it.

:func:`from_state_dict` takes what ``module.state_dict()`` gives, and :func:`to_state_dict` makes
what ``module.load_state_dict`` takes. Names are PyTorch's: positions in a Sequential, names of
fields in own blocks (a list of layers is its ``ModuleList``), ``running_mean`` and so on in batch
norms. What differs is the layout of these, which both functions turn:

======================  ==================================  ====================================
layer                   here                                in PyTorch
======================  ==================================  ====================================
Linear                  weight (in, out)                    weight (out, in)
Conv, channels first    weight (out, in / groups, *kernel)  the same
Conv, channels last     weight (*kernel, in / groups, out)  weight (out, in / groups, *kernel)
ConvTranspose           likewise, (in, out / groups)        weight (in, out / groups, *kernel)
RNN, LSTM, GRU          weight_ih_l0 (in, gates * hidden)   weight_ih_l0 (gates * hidden, in)
MultiheadAttention      in_proj_weight (dim, 3 * dim)       in_proj_weight (3 * dim, dim)
BatchNorm               running: mean, var                  running_mean, running_var,
                                                            num_batches_tracked
all others              as they are                         the same
======================  ==================================  ====================================

Channels that become features by a Flatten come in another order where they are last: the Linear
behind it has to be turned by hand, or the model written with channels first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from funcgrad import tree
from funcgrad.errors import ArgumentError, ParameterMismatchError

from .activation_layers import PReLU
from .attention import MultiheadAttention
from .convolution import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .embedding import Embedding
from .layers import Linear, Sequential
from .module import Array, Layer, Params, declared, is_sequence
from .normalization import (
    BatchNorm,
    BatchStatistics,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
)
from .parameters import named_leaves
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell

__all__ = ["from_state_dict", "to_state_dict"]

# PyTorch's shape, None for a length that is not known, and the order of our axes in it.
Spec = tuple[tuple[int | None, ...], tuple[int, ...] | None]
_SHOWN = 12


def from_state_dict(
    model: Layer, state: Mapping[str, Any], *, prefix: str = "", like: Params = None
) -> Params:
    """The parameters of a model, from a state dict of the same model in PyTorch.

    Args:
        model: the model. What PyTorch registers under other names than its fields have needs
            these names: rename the state's keys.
        state: names and arrays: what ``module.state_dict()`` gives, ``torch.load`` reads, or
            ``nn.load`` of a safetensors file. Tensors on any device and arrays are copied; their
            dtypes stay.
        prefix: take only names that begin so, such as ``"encoder."``, for a part of a model.
        like: parameters of the model, as ``init`` makes them; needed where a layer writes its own
            ``init_params``.

    Returns:
        The tree that ``model.init`` would make.

    Raises:
        ParameterMismatchError: names are missing or not expected, or shapes are others; the message
            lists them.
        ArgumentError: a value is no array, or ``like`` is needed.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    >>> state = {"0.weight": np.ones((2, 3)), "0.bias": np.zeros(2)}
    >>> params = nn.torch.from_state_dict(model, state)
    >>> params[0]["weight"].shape, params[1]
    ((3, 2), {})
    """
    reading = _Reading(state, prefix)
    params = _visit(model, like, prefix, reading)
    reading.finish()
    return params


def to_state_dict(model: Layer, params: Params, *, prefix: str = "") -> dict[str, Array]:
    """The state dict of the same model in PyTorch: names and arrays.

    ``module.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})`` takes it.

    Args:
        model: the model.
        params: its parameters.
        prefix: what stands before each name.

    Raises:
        ParameterMismatchError: these are not the parameters of the model.

    >>> model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm(2))
    >>> for name, array in nn.torch.to_state_dict(model, model.init(0, 3)).items():
    ...     print(name, array.shape)
    0.weight (2, 3)
    0.bias (2,)
    1.weight (2,)
    1.bias (2,)
    1.running_mean (2,)
    1.running_var (2,)
    1.num_batches_tracked ()
    """
    if params is None:
        raise ArgumentError("to_state_dict takes the model's parameters, not None")
    writing = _Writing()
    _visit(model, params, prefix, writing)
    writing.finish()
    return writing.state


# -- What each layer has -------------------------------------------------------------------------


def _linear(layer: Linear) -> dict[str, Spec]:
    specs: dict[str, Spec] = {"weight": ((layer.out_features, layer.in_features), (1, 0))}
    return specs | _vector("bias", layer.out_features, layer.bias)


def _vector(name: str, size: int | None, there: bool = True) -> dict[str, Spec]:
    return {name: ((size,), None)} if there else {}


def _conv(layer: Any) -> dict[str, Spec]:
    inputs, groups, rank = layer.in_channels, layer.groups, layer.rank
    if isinstance(layer, (ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)):
        channels = (inputs, layer.out_channels // groups)
    else:
        channels = (layer.out_channels, None if inputs is None else inputs // groups)
    size: Any = layer.kernel_size
    window: tuple[int, ...] = tuple(size) if is_sequence(size) else (size,) * rank
    order = (rank + 1, rank, *range(rank)) if layer.channels_last else None
    specs: dict[str, Spec] = {"weight": ((*channels, *window), order)}
    return specs | _vector("bias", layer.out_channels, layer.bias)


def _recurrent(layer: RNN | LSTM | GRU) -> dict[str, Spec]:
    specs: dict[str, Spec] = {}
    size, directions = layer.gates * layer.hidden_size, 1 + layer.bidirectional
    for number in range(layer.num_layers):
        inputs = layer.hidden_size * directions if number else layer.input_size
        for suffix in ("", "_reverse")[:directions]:
            behind = f"l{number}{suffix}"
            specs[f"weight_ih_{behind}"] = (size, inputs), (1, 0)
            specs[f"weight_hh_{behind}"] = (size, layer.hidden_size), (1, 0)
            specs |= _vector(f"bias_ih_{behind}", size, layer.bias)
            specs |= _vector(f"bias_hh_{behind}", size, layer.bias)
    return specs


def _cell(layer: RNNCell | LSTMCell | GRUCell) -> dict[str, Spec]:
    size = layer.gates * layer.hidden_size
    specs: dict[str, Spec] = {
        "weight_ih": ((size, layer.input_size), (1, 0)),
        "weight_hh": ((size, layer.hidden_size), (1, 0)),
    }
    return specs | _vector("bias_ih", size, layer.bias) | _vector("bias_hh", size, layer.bias)


def _scales(layer: LayerNorm | RMSNorm) -> dict[str, Spec]:
    sizes: Any = layer.normalized_shape
    shape: tuple[int, ...] = tuple(sizes) if is_sequence(sizes) else (sizes,)
    names = ["weight", *["bias"] * getattr(layer, "bias", False)]
    return {name: (shape, None) for name in names if layer.elementwise_affine}


def _channel_scales(layer: Any) -> dict[str, Spec]:
    size = layer.num_channels if isinstance(layer, GroupNorm) else layer.num_features
    return _vector("weight", size, layer.affine) | _vector("bias", size, layer.affine)


def _attention(layer: MultiheadAttention) -> dict[str, Spec]:
    n = layer.embed_dim
    specs: dict[str, Spec] = {"in_proj_weight": ((3 * n, n), (1, 0))}
    return specs | _vector("in_proj_bias", 3 * n, layer.bias)


def _embedding(layer: Embedding) -> dict[str, Spec]:
    return {"weight": ((layer.num_embeddings, layer.embedding_dim), None)}


def _prelu(layer: PReLU) -> dict[str, Spec]:
    return _vector("weight", layer.num_parameters)


# Layers whose parameters are a dict with PyTorch's names.
_SPECS: dict[type[Layer], Callable[[Any], dict[str, Spec]]] = {
    Linear: _linear,
    **dict.fromkeys((Conv1d, Conv2d, Conv3d), _conv),
    **dict.fromkeys((ConvTranspose1d, ConvTranspose2d, ConvTranspose3d), _conv),
    **dict.fromkeys((RNN, LSTM, GRU), _recurrent),
    **dict.fromkeys((RNNCell, LSTMCell, GRUCell), _cell),
    **dict.fromkeys((LayerNorm, RMSNorm), _scales),
    **dict.fromkeys((GroupNorm, InstanceNorm, BatchNorm), _channel_scales),
    MultiheadAttention: _attention,
    Embedding: _embedding,
    PReLU: _prelu,
}


# -- Through a model -----------------------------------------------------------------------------


class _Reading:
    """Takes arrays from a state dict, and gathers what does not fit."""

    def __init__(self, state: Mapping[str, Any], prefix: str) -> None:
        if not isinstance(state, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentError(
                "from_state_dict takes a model and then its state dict, what module.state_dict() "
                f"gives in PyTorch, not {state!r:.60}"
            )
        self._state = {name: value for name, value in state.items() if name.startswith(prefix)}
        self._left = set(self._state)
        self._problems: list[str] = []

    def take(self, name: str, spec: Spec, ours: Any) -> Any:
        """The array of this name, with its axes in our order."""
        shape, order = spec
        if name not in self._state:
            self._problems.append(f"missing: {name}, of shape {_shown(shape)}")
            return None
        self._left.discard(name)
        array = _as_array(name, self._state[name])
        if not _fits(array.shape, shape):
            self._problems.append(f"{name} has shape {array.shape}, not {_shown(shape)}")
            return None
        return array if order is None else np.transpose(array, np.argsort(order)).copy()

    def ignore(self, name: str) -> None:
        self._left.discard(name)

    def repeat(self, first: str, again: str) -> None:
        """What a layer has at its first place, PyTorch names at the other ones as well."""
        for name in [name for name in self._left if name.startswith(again)]:
            self._left.discard(name)
            before = self._state.get(first + name[len(again) :])
            same = before is not None and np.array_equal(
                _as_array(name, before), _as_array(name, self._state[name])
            )
            if not same:
                self._problems.append(f"{name} is another array than at {first[:-1]}, and shared")

    def finish(self) -> None:
        self._problems += [f"not expected: {name}" for name in sorted(self._left)]
        if self._problems:
            raise ParameterMismatchError(
                f"the state dict is not that of this model:\n{_listed(self._problems)}\n"
                + _hint(self._state)
            )


def _hint(state: Mapping[str, Any]) -> str:
    heads = {name.partition(".")[0] for name in state}
    if len(heads) == 1 and "." in next(iter(state)):
        (head,) = heads
        return f"All its names begin with {head}; if the model's do not, pass prefix='{head}.'."
    return (
        "Names are positions in a Sequential and names of fields in own blocks; print "
        "nn.torch.to_state_dict(model, model.init(0, input_shape)) to see those expected."
    )


class _Writing:
    """Gathers a state dict from a model's parameters."""

    def __init__(self) -> None:
        self.state: dict[str, Array] = {}
        self._problems: list[str] = []

    def take(self, name: str, spec: Spec, ours: Any) -> Any:
        shape, order = spec
        array = None if ours is None else np.asarray(ours)
        if array is not None and order is not None and array.ndim == len(order):
            array = np.transpose(array, order)
        if array is None or not _fits(array.shape, shape):
            found = "missing" if array is None else f"of shape {array.shape}, not {_shown(shape)}"
            self._problems.append(f"{name} is {found}")
        else:
            self.state[name] = np.array(array, order="C")
        return ours

    def ignore(self, name: str) -> None:
        self.state[name] = np.zeros((), np.int64)

    def repeat(self, first: str, again: str) -> None:
        for name in [name for name in self.state if name.startswith(first)]:
            self.state[again + name[len(first) :]] = self.state[name]

    def finish(self) -> None:
        if self._problems:
            raise ParameterMismatchError(
                f"these are not the parameters of this model (shapes are PyTorch's):\n"
                f"{_listed(self._problems)}\nPass what model.init has made."
            )


def _visit(layer: Layer, like: Params, at: str, walk: _Reading | _Writing) -> Params:
    """The layer's parameters, each array by what `walk.take` makes of it."""
    known = next((kind for kind in _SPECS if isinstance(layer, kind)), None)
    if known is not None and type(layer).init_params is known.init_params:
        return _known(layer, _SPECS[known](layer), like, at, walk)
    if isinstance(layer, Sequential):
        return _sequential(layer, like, at, walk)
    if type(layer).init_params is Layer.init_params:
        return _by_fields(layer, like, at, walk)
    if like is None:
        raise ArgumentError(
            f"{layer.describe()} makes its parameters by an init_params of its own, so their "
            "structure is not known: pass like=model.init(0, input_shape)."
        )
    return _by_structure(layer, like, at, walk)


def _known(layer: Layer, specs: dict[str, Spec], like: Params, at: str, walk: Any) -> Params:
    params = {name: walk.take(at + name, spec, _part(like, name)) for name, spec in specs.items()}
    if isinstance(layer, MultiheadAttention):
        own = _visit(layer.out_proj, _part(like, "out_proj"), f"{at}out_proj.", walk)
        params["out_proj"] = own
    if isinstance(layer, BatchNorm) and layer.track_running_stats:
        before, spec = _part(like, "running"), ((layer.num_features,), None)
        mean, var = (
            walk.take(f"{at}running_{name}", spec, getattr(before, name, None))
            for name in ("mean", "var")
        )
        walk.ignore(f"{at}num_batches_tracked")
        params["running"] = BatchStatistics(mean, var)
    return params


def _sequential(layer: Sequential, like: Params, at: str, walk: Any) -> Params:
    params: list[Params] = []
    for i, (first, part) in enumerate(zip(layer.places, layer.layers, strict=True)):
        if first == i:
            params.append(_visit(part, _part(like, i), f"{at}{i}.", walk))
        else:
            walk.repeat(f"{at}{first}.", f"{at}{i}.")
            params.append({})
    return tuple(params)


def _by_fields(layer: Layer, like: Params, at: str, walk: Any) -> Params:
    """A dict of the declared parameters and of the layers in the fields, as `Layer` makes it."""

    def visit(value: Any, like: Params, at: str) -> Params:
        if is_sequence(value):
            parts = enumerate(value)
            return tuple([visit(part, _part(like, i), f"{at}{i}.") for i, part in parts])
        return _visit(value, like, at, walk) if isinstance(value, Layer) else {}

    params = {
        name: walk.take(at + name, (parameter.shape_in(layer), None), _part(like, name))
        for name, parameter in declared(layer).items()
    }
    for name in dict.fromkeys(name.partition(".")[0] for name in layer.children()):
        params[name] = visit(getattr(layer, name), _part(like, name), f"{at}{name}.")
    return params


def _by_structure(layer: Layer, like: Params, at: str, walk: Any) -> Params:
    """What is like given parameters: layers by their names among the keys, arrays as they are."""
    given: Any = like
    if isinstance(like, dict):
        children = layer.children()
        return {
            name: _visit(children[name], part, f"{at}{name}.", walk)
            if name in children
            else _arrays(part, f"{at}{name}", walk)
            for name, part in given.items()
        }
    return _arrays(like, at.removesuffix("."), walk)


def _arrays(like: Params, at: str, walk: Any) -> Params:
    found = [
        walk.take(".".join(filter(None, (at, name))), (np.shape(leaf), None), leaf)
        for name, leaf in named_leaves(like)
    ]
    # None has no leaf, and a missing array stands as it was until all have been looked for.
    leaves = [
        leaf if new is None else new for new, leaf in zip(found, tree.leaves(like), strict=True)
    ]
    return tree.structure(like).unflatten(leaves)


def _part(params: Params, key: str | int) -> Params:
    """A part of the parameters; None if there is none."""
    try:
        return None if params is None else params[key]
    except (TypeError, KeyError, IndexError):
        return None


def _as_array(name: str, value: Any) -> Array:
    # Tensors that are differentiated, or on a device, refuse to become arrays.
    for method in ("detach", "cpu"):
        value = getattr(value, method)() if hasattr(value, method) else value
    try:
        array = np.array(value, order="C")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name} in the state dict is no array: {error}") from None
    if array.dtype.kind not in "fiub":
        raise ArgumentError(f"{name} in the state dict is no array of numbers, but {value!r:.60}")
    return array


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(
        w in (None, n) for n, w in zip(found, wanted, strict=True)
    )


def _shown(shape: tuple[int | None, ...]) -> str:
    text = ", ".join("?" if n is None else str(n) for n in shape)
    return f"({text},)" if len(shape) == 1 else f"({text})"


def _listed(problems: list[str]) -> str:
    more = len(problems) - _SHOWN
    shown = [f"  {problem}" for problem in problems[:_SHOWN]]
    return "\n".join(shown + [f"  and {more} more"] * (more > 0))
