"""Recurrent layers: RNN, LSTM and GRU, by `fg.scan` over the steps of a sequence.

Formulas, order of gates and defaults are PyTorch's; sequences are (batch, steps, features), batch
first, and weights are stored as in :class:`~funcgrad_nn.Linear`, transposed to PyTorch's. All
inputs of a sequence go through one product; only what depends on the step before is in the loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import random
from funcgrad.errors import ArgumentError, ShapeError

from . import init
from ._numbers import as_number, narrow, widen
from .activations import relu, sigmoid
from .dropout import Dropout
from .module import Key, Layer, Params, Shape, is_sequence, shape_error

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

State = tuple[Any, ...]


class _Step:
    """What a kind of recurrent layer does in a step; the same in a cell."""

    gates: ClassVar[int] = 1
    parts: ClassVar[int] = 1
    """Of so many arrays the state consists."""

    def step(self, state: State, driven: Any, recurrent: Any) -> State:
        """The new state, the hidden part first, from what the inputs and the state contribute."""
        raise NotImplementedError


class _ElmanStep(_Step):
    nonlinearity: Literal["tanh", "relu"]

    def step(self, state: State, driven: Any, recurrent: Any) -> State:
        total = driven + recurrent
        return (np.tanh(total) if self.nonlinearity == "tanh" else relu(total),)


class _LSTMStep(_Step):
    gates: ClassVar[int] = 4
    parts: ClassVar[int] = 2

    def step(self, state: State, driven: Any, recurrent: Any) -> State:
        let_in, keep, new, let_out = np.split(driven + recurrent, 4, axis=1)
        cell = sigmoid(keep) * state[1] + sigmoid(let_in) * np.tanh(new)
        return sigmoid(let_out) * np.tanh(cell), cell


class _GRUStep(_Step):
    gates: ClassVar[int] = 3

    def step(self, state: State, driven: Any, recurrent: Any) -> State:
        n = driven.shape[1] // 3
        reset, update = np.split(sigmoid(driven[:, : 2 * n] + recurrent[:, : 2 * n]), 2, axis=1)
        new = np.tanh(driven[:, 2 * n :] + reset * recurrent[:, 2 * n :])
        return ((1 - update) * new + update * state[0],)


def _check_sizes(layer: Layer, *names: str) -> None:
    for name in names:
        size = getattr(layer, name)
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
            raise ArgumentError(
                f"{type(layer).__name__}: {name} must be a positive integer, not {size!r}"
            )


def _check_nonlinearity(layer: RNN | RNNCell) -> None:
    if layer.nonlinearity not in ("tanh", "relu"):
        raise ArgumentError(
            f'{type(layer).__name__}: nonlinearity must be "tanh" or "relu", not '
            f"{layer.nonlinearity!r}"
        )


def _as_states(layer: Any, method: str, state: Any, shape: Shape, axes: str, x: Any) -> State:
    """The parts of a state; zeros where none is given."""
    if state is None:
        return (fg.device_put(np.zeros(shape, x.dtype), x),) * layer.parts
    parts: Sequence[Any] = state if is_sequence(state) else (state,)
    if [np.shape(part) for part in parts] != [shape] * layer.parts:
        of = "" if layer.parts == 1 else f"a tuple of {layer.parts} of "
        raise ShapeError(
            f"{type(layer).__name__}.{method}: the state must be {of}shape {shape}, ({axes}), got "
            f"{[np.shape(part) for part in parts]}"
        )
    return tuple([widen(part) for part in parts])


class _Recurrent(_Step, Layer):
    """What the recurrent layers share: their parameters, and the loop over steps and layers."""

    input_size: int
    hidden_size: int
    num_layers: int = 1
    bias: bool = True
    bidirectional: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_sizes(self, "input_size", "hidden_size", "num_layers")
        p = as_number(self.dropout)
        if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 <= p <= 1:
            raise ArgumentError(
                f"{type(self).__name__}: dropout must be from 0 to 1, not {self.dropout!r}"
            )

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check((1, *input_shape))
        bound = 1 / math.sqrt(self.hidden_size)
        draw, size = init.uniform(-bound, bound), self.gates * self.hidden_size
        params: dict[str, Any] = {}
        for layer in range(self.num_layers):
            inputs = self.input_size if not layer else self.hidden_size * len(self._directions())
            for suffix in self._directions():
                shapes = {"weight_ih": (inputs, size), "weight_hh": (self.hidden_size, size)}
                if self.bias:
                    shapes |= {"bias_ih": (size,), "bias_hh": (size,)}
                for name, shape in shapes.items():
                    params[f"{name}_l{layer}{suffix}"] = draw(
                        random.fold_in(key, len(params)), shape, dtype
                    )
        return params

    def apply(self, params: Params, x: Any) -> Any:
        return self.run(params, x)[0]

    def run(
        self, params: Params, x: Any, state: Any = None, lengths: Any = None
    ) -> tuple[Any, Any]:
        """The outputs of all steps, and the state after the last one.

        Args:
            params: what ``init`` has made.
            x: shape (batch, steps, input_size).
            state: what an earlier call has returned; zeros by default.
            lengths: integers of shape (batch,): of each sequence only so many steps count; its
                state stays behind them, and its outputs there are zero.

        Returns:
            Outputs of shape (batch, steps, directions * hidden_size), and the state: an array of
            shape (num_layers * directions, batch, hidden_size), for an LSTM a tuple of two, the
            hidden state and the cell's.

        Raises:
            LayerShapeError: the inputs have another shape.
            ShapeError: the state, or the lengths, have another shape.
            ArgumentError: a length is none of the steps' numbers, where they have values.
        """
        self._check(x.shape)
        dtype, x = x.dtype, widen(x)
        directions = self._directions()
        shape = (self.num_layers * len(directions), x.shape[0], self.hidden_size)
        states = _as_states(
            self, "run", state, shape, "layers and directions, batch, hidden_size", x
        )
        self._check_lengths(lengths, x.shape)
        ended: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = Dropout(self.dropout)({}, x)
            outputs: list[Any] = []
            for suffix in directions:
                start = tuple([part[len(ended)] for part in states])
                y, end = self._over_steps(params, f"_l{layer}{suffix}", x, start, lengths)
                outputs.append(y)
                ended.append(end)
            x = fnp.concatenate(outputs, axis=-1)
        final = [narrow(fnp.stack(parts), dtype) for parts in zip(*ended, strict=True)]
        return narrow(x, dtype), final[0] if len(final) == 1 else tuple(final)

    def _over_steps(
        self, params: Params, suffix: str, x: Any, state: State, lengths: Any
    ) -> tuple[Any, State]:
        """The outputs and the last state of one direction of one layer."""
        weight = widen(params[f"weight_hh{suffix}"])
        driven = x @ widen(params[f"weight_ih{suffix}"])
        if self.bias:
            driven = driven + params[f"bias_ih{suffix}"]
        # Axes are steps, batch, features; a reversed direction begins with the last step.
        turn: Any = slice(None, None, -1 if suffix.endswith("_reverse") else 1)
        driven, places = np.swapaxes(driven, 0, 1), fg.device_put(np.arange(x.shape[1]), x)

        def step(state: State, given: tuple[Any, Any]) -> tuple[State, Any]:
            now, at = given
            recurrent = state[0] @ weight
            if self.bias:
                recurrent = recurrent + params[f"bias_hh{suffix}"]
            new = self.step(state, now, recurrent)
            if lengths is None:
                return new, new[0]
            counts = (at < lengths)[:, None]
            kept = tuple([fnp.where(counts, n, s) for n, s in zip(new, state, strict=True)])
            return kept, fnp.where(counts, new[0], 0)

        end, ys = fg.scan(step, state, (driven[turn], places[turn]))
        return np.swapaxes(ys[turn], 0, 1), end

    def _check_lengths(self, lengths: Any, shape: Shape) -> None:
        if lengths is None:
            return
        name = type(self).__name__
        if np.shape(lengths) != shape[:1]:
            raise ShapeError(
                f"{name}.run: lengths must have shape {shape[:1]}, one for each sequence, got "
                f"{np.shape(lengths)}"
            )
        # Those of a tracer have no values yet.
        if not isinstance(lengths, np.ndarray) and not is_sequence(lengths):
            return
        counts: Any = np.asarray(cast(Any, lengths))
        if counts.size and not 0 <= counts.min() <= counts.max() <= shape[1]:
            raise ArgumentError(
                f"{name}.run: lengths must be from 0 to the number of steps, {shape[1]} in inputs "
                f"of shape {shape}, and go from {counts.min()} to {counts.max()}"
            )

    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _check(self, shape: Shape) -> None:
        if len(shape) != 3 or shape[2] != self.input_size:
            raise shape_error(
                self,
                f"inputs must have shape (batch, steps, {self.input_size}), got {tuple(shape)}.",
            )


class RNN(_ElmanStep, _Recurrent):
    """``h = tanh(x @ weight_ih + bias_ih + h @ weight_hh + bias_hh)``, step by step.

    J. L. Elman (1990), *Finding Structure in Time*.

    Parameters, for each layer k (with ``_reverse`` behind for the second direction):
    ``weight_ih_lk`` of shape (inputs, hidden_size), ``weight_hh_lk`` of shape (hidden_size,
    hidden_size), ``bias_ih_lk`` and ``bias_hh_lk`` of shape (hidden_size,).

    Args:
        input_size: the number of features of a step.
        hidden_size: of the state.
        num_layers: so many layers, each reading the outputs of the one before.
        bias: whether there are biases.
        bidirectional: whether a second loop reads the steps from the end; its outputs come behind.
        dropout: the probability with which elements are dropped between layers in training mode.
        nonlinearity: "tanh" or "relu".

    Inputs have shape (batch, steps, input_size), outputs (batch, steps, directions *
    hidden_size). :meth:`run` takes and gives states, and lengths of padded sequences.

    >>> layer = nn.RNN(3, 5)
    >>> params = layer.init(0, (7, 3))
    >>> layer(params, np.ones((2, 7, 3), np.float32)).shape
    (2, 7, 5)
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_nonlinearity(self)


class LSTM(_LSTMStep, _Recurrent):
    """Long short-term memory: a cell whose content gates let in, keep and let out.

    S. Hochreiter, J. Schmidhuber (1997), *Long Short-Term Memory*, with the forget gate of
    F. Gers et al. (2000). The gates' columns stand in the order input, forget, cell, output.

    Parameters as of :class:`RNN`, with 4 * hidden_size columns; arguments as there.

    >>> layer = nn.LSTM(3, 5)
    >>> params = layer.init(0, (7, 3))
    >>> y, (hidden, cell) = layer.run(params, np.ones((2, 7, 3), np.float32))
    >>> y.shape, hidden.shape, cell.shape
    ((2, 7, 5), (1, 2, 5), (1, 2, 5))
    """


class GRU(_GRUStep, _Recurrent):
    """Gated recurrent unit.

    K. Cho et al. (2014), *Learning Phrase Representations using RNN Encoder-Decoder*, in PyTorch's
    variant, which resets what the state gives and not the state:
    ``n = tanh(x_n + r * (h @ weight_hn + bias_hn))``, ``h = (1 - z) * n + z * h``. The gates'
    columns stand in the order reset r, update z, new n.

    Parameters as of :class:`RNN`, with 3 * hidden_size columns; arguments as there.

    >>> layer = nn.GRU(3, 5, bidirectional=True)
    >>> params = layer.init(0, (7, 3))
    >>> layer(params, np.ones((2, 7, 3), np.float32)).shape
    (2, 7, 10)
    """


class _Cell(_Step, Layer):
    """One step of a recurrent layer of one layer and direction."""

    input_size: int
    hidden_size: int
    bias: bool = True

    def __post_init__(self) -> None:
        _check_sizes(self, "input_size", "hidden_size")

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check((1, *input_shape))
        bound = 1 / math.sqrt(self.hidden_size)
        draw, size = init.uniform(-bound, bound), self.gates * self.hidden_size
        shapes = {"weight_ih": (self.input_size, size), "weight_hh": (self.hidden_size, size)}
        if self.bias:
            shapes |= {"bias_ih": (size,), "bias_hh": (size,)}
        return {
            name: draw(random.fold_in(key, i), shape, dtype)
            for i, (name, shape) in enumerate(shapes.items())
        }

    def apply(self, params: Params, x: Any) -> Any:
        state = self.run(params, x)
        return state if self.parts == 1 else state[0]

    def run(self, params: Params, x: Any, state: Any = None) -> Any:
        """The state after a step.

        Args:
            params: what ``init`` has made.
            x: shape (batch, input_size).
            state: what an earlier call has returned; zeros by default.

        Returns:
            An array of shape (batch, hidden_size); for an LSTM a tuple of two, the hidden state
            and the cell's.

        Raises:
            LayerShapeError: the inputs have another shape.
            ShapeError: the state has another shape.
        """
        self._check(x.shape)
        dtype, x = x.dtype, widen(x)
        before = _as_states(
            self, "run", state, (x.shape[0], self.hidden_size), "batch, hidden_size", x
        )
        driven = x @ widen(params["weight_ih"])
        recurrent = before[0] @ widen(params["weight_hh"])
        if self.bias:
            driven, recurrent = driven + params["bias_ih"], recurrent + params["bias_hh"]
        after = [narrow(part, dtype) for part in self.step(before, driven, recurrent)]
        return after[0] if len(after) == 1 else tuple(after)

    def _check(self, shape: Shape) -> None:
        if len(shape) != 2 or shape[1] != self.input_size:
            raise shape_error(
                self, f"inputs must have shape (batch, {self.input_size}), got {tuple(shape)}."
            )


class RNNCell(_ElmanStep, _Cell):
    """One step of an :class:`RNN`: :meth:`run` takes a state and gives the next.

    Parameters: ``weight_ih`` of shape (input_size, hidden_size), ``weight_hh`` of shape
    (hidden_size, hidden_size), ``bias_ih`` and ``bias_hh`` of shape (hidden_size,).

    Args:
        input_size: the number of features of a step.
        hidden_size: of the state.
        bias: whether there are biases.
        nonlinearity: "tanh" or "relu".

    ``cell(params, x)`` is the hidden state after one step from zeros.

    >>> cell = nn.RNNCell(3, 5)
    >>> params, state = cell.init(0, 3), None
    >>> for x in np.ones((7, 2, 3), np.float32):
    ...     state = cell.run(params, x, state)
    >>> state.shape
    (2, 5)
    """

    nonlinearity: Literal["tanh", "relu"] = "tanh"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_nonlinearity(self)


class LSTMCell(_LSTMStep, _Cell):
    """One step of an :class:`LSTM`; its state is a tuple, hidden state and cell.

    Parameters and arguments as of :class:`RNNCell`, with 4 * hidden_size columns.

    >>> cell = nn.LSTMCell(3, 5)
    >>> hidden, memory = cell.run(cell.init(0, 3), np.ones((2, 3), np.float32))
    >>> hidden.shape, memory.shape
    ((2, 5), (2, 5))
    """


class GRUCell(_GRUStep, _Cell):
    """One step of a :class:`GRU`.

    Parameters and arguments as of :class:`RNNCell`, with 3 * hidden_size columns.

    >>> cell = nn.GRUCell(3, 5)
    >>> cell.run(cell.init(0, 3), np.ones((2, 3), np.float32)).shape
    (2, 5)
    """
