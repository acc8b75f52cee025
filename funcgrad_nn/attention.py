"""Attention, and the Transformer's blocks made of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad.numpy as fnp
from funcgrad import random
from funcgrad.errors import ArgumentError, ShapeError

from . import init
from ._numbers import as_number
from .activations import relu, softmax
from .dropout import Dropout
from .layers import Linear
from .module import Key, Layer, Params, Shape, shape_error
from .normalization import LayerNorm

__all__ = [
    "MultiheadAttention",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "scaled_dot_product_attention",
]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    dropout: Callable[[Any], Any] | None = None,
) -> Any:
    """``softmax(query @ key.T * scale) @ value``: means of values, weighted by likeness of keys.

    A. Vaswani et al. (2017), *Attention Is All You Need*.

    Args:
        query: shape (..., targets, features).
        key: shape (..., sources, features).
        value: shape (..., sources, values).
        mask: where false, a source has no weight; booleans that broadcast to (..., targets,
            sources). Numbers are added to the products instead.
        causal: whether a target sees no sources behind its own place.
        scale: by default 1/√features.
        dropout: a function of the weights.

    Returns:
        Shape (..., targets, values). A target that sees no source gets zeros.

    Raises:
        ShapeError: the arrays do not fit one another.

    >>> x = np.eye(2)
    >>> scaled_dot_product_attention(x, x, x, causal=True).round(3)
    array([[1.  , 0.  ],
           [0.33, 0.67]])
    """
    shapes = q, k, v = np.shape(query), np.shape(key), np.shape(value)
    if min(map(len, shapes)) < 2 or q[-1] != k[-1] or k[-2] != v[-2]:
        raise ShapeError(
            "scaled_dot_product_attention takes query (..., targets, features), key (..., "
            f"sources, features) and value (..., sources, values), got {shapes}"
        )
    scale = 1 / math.sqrt(max(1, q[-1])) if scale is None else as_number(scale)
    scores = query @ np.swapaxes(key, -1, -2) * scale
    seen: Any = None
    if causal:
        seen = fg.device_put(np.tri(q[-2], k[-2], dtype=bool), scores)
    if mask is not None:
        if mask.dtype == bool:
            seen = mask if seen is None else mask & seen
        else:
            scores = scores + mask
    if seen is not None:
        # The exponentials of what is hidden are zero, and a row without any is all zeros.
        scores = fnp.where(seen, scores, -np.inf)
        some = np.any(seen, axis=-1, keepdims=True)
        weights = fnp.where(some, softmax(fnp.where(some, scores, 0)), 0)
    else:
        weights = softmax(scores)
    return (weights if dropout is None else dropout(weights)) @ value


class MultiheadAttention(Layer):
    """Attention by several heads, each of a part of the features.

    Parameters as PyTorch's, with weights transposed: ``in_proj_weight`` (embed_dim,
    3 * embed_dim) for queries, keys and values, ``in_proj_bias`` (3 * embed_dim,), ``out_proj``,
    a :class:`Linear`'s.

    Args:
        embed_dim: the number of features.
        num_heads: a divisor of it.
        dropout: the probability with which a weight is dropped in training mode.
        bias: whether there are biases.
        causal: whether a step sees no later ones, when the layer is called with one sequence.

    ``layer(params, x)`` is self-attention of x, shape (batch, steps, embed_dim);
    :meth:`attend` takes queries, keys and values apart, and a mask.

    Raises:
        ArgumentError: the heads do not divide the features.

    >>> layer = nn.MultiheadAttention(8, 2, causal=True)
    >>> params = layer.init(0, (5, 8))
    >>> layer(params, np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    """

    embed_dim: int
    num_heads: int
    dropout: float = 0.0
    bias: bool = True
    causal: bool = False

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.embed_dim < 1 or self.embed_dim % self.num_heads:
            raise ArgumentError(
                f"MultiheadAttention: {self.num_heads} heads do not divide {self.embed_dim} "
                "features"
            )
        self.out_proj = Linear(
            self.embed_dim,
            self.embed_dim,
            self.bias,
            bias_init=init.zeros() if self.bias else None,
        )
        self.drop = Dropout(self.dropout)

    def init_params(self, key: Key, input_shape: Shape, dtype: np.dtype[Any]) -> Params:
        self._check((1, *input_shape))
        shape = (self.embed_dim, 3 * self.embed_dim)
        params = {
            "in_proj_weight": init.glorot_uniform()(random.fold_in(key, 0), shape, dtype),
            "out_proj": self.out_proj.init(random.fold_in(key, 1), self.embed_dim, dtype),
        }
        if self.bias:
            params["in_proj_bias"] = np.zeros(3 * self.embed_dim, dtype)
        return params

    def apply(self, params: Params, x: Any) -> Any:
        return self.attend(params, x, x, x, causal=self.causal)

    def attend(
        self,
        params: Params,
        query: Any,
        key: Any,
        value: Any,
        mask: Any = None,
        *,
        causal: Any = False,
    ) -> Any:
        """Attention of queries to keys and values.

        Args:
            params: what ``init`` has made.
            query: shape (batch, targets, embed_dim).
            key: shape (batch, sources, embed_dim).
            value: the same.
            mask: where false, a source has no weight; booleans that broadcast to (batch, heads,
                targets, sources), for padding of shape (batch, 1, 1, sources).
            causal: whether a target sees no sources behind its own place.

        Returns:
            Shape (batch, targets, embed_dim).
        """
        for x in (query, key, value):
            self._check(x.shape)
        n = self.embed_dim

        def in_heads(i: int, x: Any) -> Any:
            part = x @ params["in_proj_weight"][:, i * n : (i + 1) * n]
            if self.bias:
                part = part + params["in_proj_bias"][i * n : (i + 1) * n]
            split = part.reshape((*x.shape[:2], self.num_heads, n // self.num_heads))
            return np.swapaxes(split, 1, 2)

        def dropped(weights: Any) -> Any:
            return self.drop({}, weights)

        q, k, v = in_heads(0, query), in_heads(1, key), in_heads(2, value)
        mixed = scaled_dot_product_attention(q, k, v, mask, causal=causal, dropout=dropped)
        joined = np.swapaxes(mixed, 1, 2).reshape(query.shape)
        return self.out_proj(params["out_proj"], joined)

    def _check(self, shape: Shape) -> None:
        if len(shape) != 3 or shape[2] != self.embed_dim:
            raise shape_error(
                self,
                f"inputs must have shape (batch, steps, {self.embed_dim}), got {tuple(shape)}.",
            )


class TransformerEncoderLayer(Layer):
    """Self-attention and a small network of each step, each with a residual and a layer norm.

    A. Vaswani et al. (2017), *Attention Is All You Need*; defaults are PyTorch's.

    Args:
        d_model: the number of features.
        nhead: the number of heads.
        dim_feedforward: of the hidden layer.
        dropout: the probability with which elements are dropped in training mode.
        activation: of the hidden layer, a function of arrays.
        layer_norm_eps: of the norms.
        norm_first: whether norms stand before attention and network, rather than behind the sums.
        causal: whether a step sees no later ones.

    >>> layer = nn.TransformerEncoderLayer(8, 2, 16, causal=True)
    >>> params = layer.init(0, (5, 8))
    >>> layer(params, np.ones((3, 5, 8), np.float32)).shape
    (3, 5, 8)
    """

    d_model: int
    nhead: int
    dim_feedforward: int = 2048
    dropout: float = 0.1
    activation: Callable[[Any], Any] = relu
    layer_norm_eps: float = 1e-5
    norm_first: bool = False
    causal: bool = False

    def __post_init__(self) -> None:
        self.self_attn = MultiheadAttention(
            self.d_model, self.nhead, self.dropout, causal=self.causal
        )
        self.linear1 = Linear(self.d_model, self.dim_feedforward)
        self.linear2 = Linear(self.dim_feedforward, self.d_model)
        self.norm1 = LayerNorm(self.d_model, self.layer_norm_eps)
        self.norm2 = LayerNorm(self.d_model, self.layer_norm_eps)
        self.drop = Dropout(self.dropout)

    def apply(self, params: Params, x: Any) -> Any:
        def attended(x: Any) -> Any:
            return self.drop(params["drop"], self.self_attn(params["self_attn"], x))

        def transformed(x: Any) -> Any:
            hidden = self.activation(self.linear1(params["linear1"], x))
            hidden = self.drop(params["drop"], hidden)
            return self.drop(params["drop"], self.linear2(params["linear2"], hidden))

        for inner, norm, own in (
            (attended, self.norm1, params["norm1"]),
            (transformed, self.norm2, params["norm2"]),
        ):
            x = x + inner(norm(own, x)) if self.norm_first else norm(own, x + inner(x))
        return x


class TransformerEncoder(Layer):
    """Layers like one, each reading the outputs of the one before, and a norm behind them.

    Parameters: ``{"layers": (one for each, ...), "norm": ...}``, without ``"norm"`` if there is
    none. (PyTorch begins with the same weights in all layers, here each draws its own.)

    Args:
        encoder_layer: such as a :class:`TransformerEncoderLayer`.
        num_layers: how many there are.
        norm: a layer behind them, such as ``nn.LayerNorm(d_model)``.

    Raises:
        ArgumentError: the number is no positive integer.

    >>> model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3)
    >>> params = model.init(0, (5, 8))
    >>> len(params["layers"]), model(params, np.ones((3, 5, 8), np.float32)).shape
    (3, (3, 5, 8))
    """

    def __init__(self, encoder_layer: Layer, num_layers: int, norm: Layer | None = None) -> None:
        count: Any = num_layers
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise ArgumentError(
                f"TransformerEncoder: num_layers must be a positive integer, not {count!r}"
            )
        # One object at several places would be one set of parameters.
        self.layers = tuple([copy.copy(encoder_layer) for _ in range(num_layers)])
        self.norm = norm

    def apply(self, params: Params, x: Any) -> Any:
        for layer, own in zip(self.layers, params["layers"], strict=True):
            x = layer(own, x)
        return x if self.norm is None else self.norm(params["norm"], x)
