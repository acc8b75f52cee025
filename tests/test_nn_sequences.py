"""Recurrent layers and attention, against the formulas written step by step."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, LayerShapeError, ShapeError, TrainingModeError

RNG = np.random.default_rng(0)
BATCH, STEPS, INPUTS, HIDDEN = 3, 5, 4, 6
BACKENDS = ["numpy", "llvm"]


def normal(*shape):
    return RNG.standard_normal(shape)


def jitted(f, backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    return fg.jit(f, backend=backend)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def rnn_step(state, driven, recurrent):
    return (np.tanh(driven + recurrent),)


def relu_step(state, driven, recurrent):
    return (np.maximum(driven + recurrent, 0),)


def lstm_step(state, driven, recurrent):
    i, f, g, o = np.split(driven + recurrent, 4, axis=-1)
    cell = sigma(f) * state[1] + sigma(i) * np.tanh(g)
    return sigma(o) * np.tanh(cell), cell


def gru_step(state, driven, recurrent):
    (r, z, n), (hr, hz, hn) = np.split(driven, 3, axis=-1), np.split(recurrent, 3, axis=-1)
    z = sigma(z + hz)
    return ((1 - z) * np.tanh(n + sigma(r + hr) * hn) + z * state[0],)


KINDS = {
    "rnn": (nn.RNN, {}, rnn_step),
    "relu": (nn.RNN, {"nonlinearity": "relu"}, relu_step),
    "lstm": (nn.LSTM, {}, lstm_step),
    "gru": (nn.GRU, {}, gru_step),
}


def by_hand(step, params, x, layers, directions, states, lengths):
    """One sequence after the other, one step after the other."""
    ended = [np.zeros_like(part) for part in states]
    for layer in range(layers):
        outputs = np.zeros((*x.shape[:2], HIDDEN * len(directions)))
        for d, suffix in enumerate(directions):
            place, name = layer * len(directions) + d, f"_l{layer}{suffix}"
            for b in range(len(x)):
                state = tuple([part[place, b] for part in states])
                steps = range(lengths[b]) if not d else reversed(range(lengths[b]))
                for t in steps:
                    driven = x[b, t] @ params["weight_ih" + name] + params["bias_ih" + name]
                    recurrent = state[0] @ params["weight_hh" + name] + params["bias_hh" + name]
                    state = step(state, driven, recurrent)
                    outputs[b, t, d * HIDDEN : (d + 1) * HIDDEN] = state[0]
                for part, value in zip(ended, state, strict=True):
                    part[place, b] = value
        x = outputs
    return x, ended


@pytest.mark.parametrize("given", [False, True], ids=["zeros", "state and lengths"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_layers(kind, layers, bidirectional, given):
    cls, options, step = KINDS[kind]
    layer = cls(INPUTS, HIDDEN, layers, bidirectional=bidirectional, **options)
    params, x = layer.init(0, (STEPS, INPUTS), np.float64), normal(BATCH, STEPS, INPUTS)
    directions = ("", "_reverse") if bidirectional else ("",)
    shape = (layers * len(directions), BATCH, HIDDEN)
    states = [normal(*shape) if given else np.zeros(shape) for _ in range(layer.parts)]
    lengths = np.array([5, 2, 3]) if given else np.full(BATCH, STEPS)
    want, ended = by_hand(step, params, x, layers, directions, states, lengths)
    state = (tuple(states) if layer.parts > 1 else states[0]) if given else None
    got, end = layer.run(params, x, state, lengths if given else None)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    for a, b in zip(end if layer.parts > 1 else [end], ended, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    if not given:
        np.testing.assert_array_equal(layer(params, x), got)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_recurrent_layers(kind, backend):
    cls, options, _ = KINDS[kind]
    layer = cls(INPUTS, HIDDEN, 2, **options)
    params, x = layer.init(0, (STEPS, INPUTS), np.float64), normal(BATCH, STEPS, INPUTS)
    weights = normal(BATCH, STEPS, HIDDEN)

    def loss(params, x):
        return np.sum(layer(params, x) * weights)

    grads = jitted(fg.grad(loss, (0, 1)), backend)(params, x)
    direction = fg.tree.map(lambda leaf: normal(*leaf.shape), (params, x))
    _, slope = fg.jvp(loss, (params, x), direction)
    inner = sum(
        np.sum(g * d) for g, d in zip(fg.tree.leaves(grads), fg.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose(inner, slope, rtol=1e-8)
    eps = 1e-6
    ends = [
        loss(*fg.tree.map(lambda a, d, s=s: a + s * eps * d, (params, x), direction))
        for s in (1, -1)
    ]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / (2 * eps), rtol=1e-5)


def test_recurrent_layers_keep_float32_and_begin_within_bounds():
    layer = nn.LSTM(INPUTS, HIDDEN, bias=False)
    params = layer.init(0, (STEPS, INPUTS))
    assert sorted(params) == ["weight_hh_l0", "weight_ih_l0"]
    assert all(np.abs(leaf).max() <= 1 / np.sqrt(HIDDEN) for leaf in fg.tree.leaves(params))
    y, (hidden, cell) = layer.run(params, normal(BATCH, STEPS, INPUTS).astype(np.float32))
    assert y.dtype == hidden.dtype == cell.dtype == np.float32


def test_sequences_that_do_not_fit():
    layer = nn.GRU(INPUTS, HIDDEN)
    params, x = layer.init(0, (STEPS, INPUTS)), normal(BATCH, STEPS, INPUTS)
    with pytest.raises(LayerShapeError, match=r"\(batch, steps, 4\), got \(5, 4\)"):
        layer(params, x[0])
    with pytest.raises(ShapeError, match=r"shape \(1, 3, 6\), .* got \[\(3, 6\)\]"):
        layer.run(params, x, np.zeros((3, 6)))
    with pytest.raises(ShapeError, match=r"lengths must have shape \(3,\)"):
        layer.run(params, x, lengths=np.array([1, 2]))
    with pytest.raises(ArgumentError, match="hidden_size must be a positive integer, not 0"):
        nn.LSTM(4, 0)
    with pytest.raises(ArgumentError, match="nonlinearity"):
        nn.RNN(4, 4, nonlinearity="sin")


# -- Attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_is_a_weighted_mean(backend):
    q, k, v = normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 6)
    weights = np.exp(q @ np.swapaxes(k, -1, -2) / 2)
    want = weights / weights.sum(-1, keepdims=True) @ v
    got = jitted(nn.scaled_dot_product_attention, backend)(q, k, v)
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_hidden_sources_have_no_weight(backend):
    q, k, v = normal(3, 4), normal(5, 4), normal(5, 6)
    mask = RNG.random((3, 5)) < 0.5
    mask[0], mask[1:] = (
        False,
        [[True, False, False, False, False], [True, True, False, True, False]],
    )

    def attend(q, k, v):
        return nn.scaled_dot_product_attention(q, k, v, mask)

    got = jitted(attend, backend)(q, k, v)
    np.testing.assert_array_equal(got[0], 0)
    np.testing.assert_allclose(got[1], v[0], rtol=1e-12)
    seen = mask[2]
    alone = nn.scaled_dot_product_attention(q[2:], k[seen], v[seen])
    np.testing.assert_allclose(got[2:], alone, rtol=1e-10)
    # Rows that see nothing have no derivative, and spoil no others.
    grads = jitted(fg.grad(lambda *a: np.sum(attend(*a) ** 2), (0, 1, 2)), backend)(q, k, v)
    assert all(np.all(np.isfinite(g)) for g in grads)
    np.testing.assert_array_equal(grads[0][0], 0)


def test_causal_attention_sees_no_later_steps():
    layer = nn.TransformerEncoderLayer(8, 2, 16, causal=True)
    params, x = layer.init(0, (STEPS, 8), np.float64), normal(2, STEPS, 8)
    changed = x.copy()
    changed[:, 3:] += 1.0
    before, after = layer(params, x), layer(params, changed)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.all(np.any(before[:, 3:] != after[:, 3:], axis=-1))


def test_heads_attend_apart():
    layer = nn.MultiheadAttention(8, 2)
    params, x = layer.init(0, (STEPS, 8), np.float64), normal(2, STEPS, 8)
    q, k, v = np.split(x @ params["in_proj_weight"] + params["in_proj_bias"], 3, axis=-1)
    parts = [
        nn.scaled_dot_product_attention(q[..., h], k[..., h], v[..., h])
        for h in (slice(0, 4), slice(4, 8))
    ]
    want = np.concatenate(parts, axis=-1) @ params["out_proj"]["weight"]
    np.testing.assert_allclose(layer(params, x), want, rtol=1e-10)


def test_transformers_train():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, norm_first=True)
    params, x = layer.init(0, (STEPS, 8)), normal(2, STEPS, 8).astype(np.float32)
    y, new = layer.train(params, x, 0)
    assert new is params and np.any(y != layer(params, x))
    np.testing.assert_array_equal(layer.train(params, x, 0)[0], y)
    with pytest.raises(TrainingModeError, match="has no key"):
        layer.train(params, x)


def test_attention_that_does_not_fit():
    with pytest.raises(ArgumentError, match="3 heads do not divide 8 features"):
        nn.MultiheadAttention(8, 3)
    with pytest.raises(ShapeError, match="scaled_dot_product_attention takes"):
        nn.scaled_dot_product_attention(normal(3, 4), normal(5, 3), normal(5, 3))
    layer = nn.MultiheadAttention(8, 2)
    with pytest.raises(LayerShapeError, match=r"\(batch, steps, 8\)"):
        layer(layer.init(0, (5, 8)), normal(5, 8))


@pytest.mark.parametrize("layer", [nn.RNN(3, 5), nn.LSTM(3, 5), nn.GRU(3, 5)], ids=repr)
@pytest.mark.parametrize("lengths", [[7, 9], [-1, 7]])
def test_lengths_that_no_sequence_has(layer, lengths):
    params, x = layer.init(0, (7, 3)), np.zeros((2, 7, 3), np.float32)
    with pytest.raises(
        ArgumentError, match=rf"from 0 to the number of steps, 7.*to {max(lengths)}"
    ):
        layer.run(params, x, lengths=np.array(lengths))
    layer.run(params, x, lengths=np.array([0, 7]))


# -- Options and cells ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_dropout_is_between_layers(kind):
    make = KINDS[kind][0]
    plain, layer = make(4, 6, 2), make(4, 6, 2, dropout=0.5)
    x = normal(BATCH, STEPS, INPUTS)
    params = layer.init(0, (STEPS, INPUTS), np.float64)
    np.testing.assert_array_equal(layer(params, x), plain(params, x))
    # Written as two layers with a dropout between, of the same key.
    first, second = make(4, 6), make(6, 6)
    own = [
        {n.replace(f"_l{i}", "_l0"): a for n, a in params.items() if n.endswith(f"_l{i}")}
        for i in (0, 1)
    ]
    written = nn.Sequential(first, nn.Dropout(0.5), second)
    y, after = layer.train(params, x, 7)
    expected, _ = written.train((own[0], {}, own[1]), x, 7)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    assert after is params and not np.allclose(y, layer(params, x))
    jitted = fg.jit(lambda p, x, key: layer.train(p, x, key)[0])
    np.testing.assert_allclose(jitted(params, x, fg.random.key(7)), expected, rtol=1e-10)
    with pytest.raises(TrainingModeError, match="has no key"):
        layer.train(params, x)
    assert make(4, 6, 1, dropout=1.0).train(plain.init(0, (STEPS, INPUTS)), x)
    with pytest.raises(ArgumentError, match=rf"{make.__name__}: dropout must be from 0 to 1"):
        make(4, 6, dropout=1.5)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        ("RNN", {}), ("RNN", {"nonlinearity": "relu", "bias": False}), ("LSTM", {}), ("GRU", {}),
    ],
)  # fmt: skip
def test_cells_make_the_steps_of_a_layer(make, options):
    layer, cell = getattr(nn, make)(4, 6, **options), getattr(nn, f"{make}Cell")(4, 6, **options)
    params = cell.init(0, 4, np.float64)
    whole = {f"{name}_l0": array for name, array in params.items()}
    assert whole.keys() == layer.init(0, (STEPS, 4)).keys()
    x, state = normal(STEPS, BATCH, INPUTS), None
    outputs = []
    for now in x:
        state = cell.run(params, now, state)
        outputs.append(state[0] if make == "LSTM" else state)
    expected, end = layer.run(whole, np.swapaxes(x, 0, 1))
    np.testing.assert_allclose(outputs, np.swapaxes(expected, 0, 1), rtol=1e-12)
    np.testing.assert_allclose(
        state, [part[0] for part in end] if make == "LSTM" else end[0], rtol=1e-12
    )
    np.testing.assert_array_equal(cell(params, x[0]), outputs[0])
    assert cell(cell.init(0, 4), x[0].astype(np.float32)).dtype == np.float32


def test_cells_that_do_not_fit():
    cell = nn.LSTMCell(4, 6)
    params = cell.init(0, 4)
    with pytest.raises(LayerShapeError, match=r"shape \(batch, 4\), got \(3, 5\)"):
        cell(params, normal(3, 5))
    with pytest.raises(ShapeError, match=r"LSTMCell.run: the state must be a tuple of 2 of shape"):
        cell.run(params, normal(3, 4), normal(3, 6))
    with pytest.raises(ArgumentError, match="GRUCell: hidden_size must be a positive integer"):
        nn.GRUCell(4, 0)
    with pytest.raises(ArgumentError, match="RNNCell: nonlinearity"):
        nn.RNNCell(4, 3, nonlinearity="sigmoid")  # type: ignore[arg-type]


def test_an_encoder_is_layers_in_a_row():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8))
    params = model.init(0, (5, 8))
    x = normal(3, 5, 8).astype(np.float32)
    first, second = params["layers"]
    expected = nn.LayerNorm(8)(params["norm"], layer(second, layer(first, x)))
    np.testing.assert_allclose(model(params, x), expected, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(first["linear1"]["weight"], second["linear1"]["weight"])
    assert model == nn.TransformerEncoder(layer, 2, nn.LayerNorm(8)) and hash(model)
    assert "norm" not in nn.TransformerEncoder(layer, 1).init(0, (5, 8))
    for count in (0, True, 2.0):
        with pytest.raises(ArgumentError, match="num_layers must be a positive integer"):
            nn.TransformerEncoder(layer, count)  # type: ignore[arg-type]


def test_rows_of_padding_are_not_trained():
    layer = nn.Embedding(5, 3, padding_idx=-2)
    params = layer.init(0, 4)
    assert not params["weight"][3].any() and params["weight"][[0, 1, 2, 4]].all()
    params = {"weight": normal(5, 3)}
    x = np.array([[0, 3], [3, 1]])
    np.testing.assert_array_equal(layer(params, x), params["weight"][x])
    slopes = fg.grad(lambda p: np.sum(layer(p, x)))(params)["weight"]
    np.testing.assert_array_equal(slopes[:, 0], [1, 1, 0, 0, 0])
    for row in (5, -6, True, 1.0):
        with pytest.raises(ArgumentError, match="padding_idx must be one of 5 rows"):
            nn.Embedding(5, 3, row)  # type: ignore[arg-type]
