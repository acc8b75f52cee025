"""What users do with arrays of a device: networks are trained, numbers drawn, arrays written to."""

from __future__ import annotations

import gc
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from device_arrays import (
    CUPY_ONLY,
    assert_same,
    is_device_array,
    library,
    to_device,
    to_host,
)
from funcgrad import random
from funcgrad.scipy import special
from random_cases import CASES

pytestmark = pytest.mark.usefixtures("device_library")

RNG = np.random.default_rng(0)
X = np.array([1.0, 2.0, 3.0])
MATRIX = RNG.normal(size=(4, 5))


def on_both(program: Any, *trees: Any) -> None:
    """What a program gives on the host, in arrays of the device."""
    expected = fg.tree.leaves(program(*trees))
    found = fg.tree.leaves(program(*fg.tree.map(to_device, trees)))
    assert_same(found, expected)


# --- networks -------------------------------------------------------------------------

CLASSES = 3
IMAGES = RNG.normal(size=(40, 6)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, 40)
OPTIMIZERS = {
    "sgd": nn.sgd(0.1),
    "momentum": nn.sgd(0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "schedule": nn.sgd(lambda step: 0.1 / (1 + step)),
    "adam": nn.adam(1e-2),
    "adamw": nn.adamw(1e-2),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_gives_what_it_gives_on_the_host(name: str, compiled: bool) -> None:
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, CLASSES))
    optimizer = OPTIMIZERS[name]

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            return nn.cross_entropy(model(params, x), y)

        value, grads = fg.value_and_grad(loss)(params)
        params, state = optimizer.update(grads, state, params)
        return params, state, value

    def train(params: Any, x: Any, y: Any) -> Any:
        run = fg.jit(step, backend="numpy") if compiled else step
        state, losses = optimizer.init(params), []
        for k in range(20):
            rows = slice(k % 4 * 10, k % 4 * 10 + 10)
            params, state, value = run(params, state, x[rows], y[rows])
            losses.append(value)
        return params, losses

    params = model.init(random.key(0), (6,))
    expected, losses = train(params, IMAGES, LABELS)
    found, found_losses = train(*map(fg.device_put, (params, IMAGES, LABELS), [to_device(X)] * 3))
    assert all(map(is_device_array, fg.tree.leaves(found)))
    for f, e in zip(fg.tree.leaves(found), fg.tree.leaves(expected), strict=True):
        assert to_host(f).dtype == e.dtype == np.float32
        np.testing.assert_allclose(to_host(f), e, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose([float(v) for v in found_losses], losses, rtol=1e-4)
    assert losses[-1] < losses[0]


LAYERS = {
    "linear": nn.Linear(6, 4),
    "relu": nn.ReLU(),
    "leaky relu": nn.LeakyReLU(0.1),
    "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(),
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(),
    "softmax": nn.Softmax(),
    "log softmax": nn.LogSoftmax(),
    "flatten": nn.Flatten(),
    "identity": nn.Identity(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    layer = LAYERS[name]
    params = layer.init(random.key(1), (6,))

    def program(params: Any, x: Any) -> Any:
        def loss(params: Any, x: Any) -> Any:
            return np.sum(layer(params, x) ** 2)

        grads = fg.grad(loss, argnums=1)(params, x)
        return layer(params, x), grads, fg.jit(fg.grad(loss, argnums=1))(params, x)

    on_both(program, params, IMAGES)


SEQUENCES = RNG.normal(size=(3, 5, 4)).astype(np.float32)
OF_SEQUENCES = {
    "rnn": nn.RNN(4, 3, num_layers=2, bidirectional=True),
    "lstm": nn.LSTM(4, 3),
    "gru": nn.GRU(4, 3),
    "attention": nn.MultiheadAttention(4, 2),
    "causal attention": nn.MultiheadAttention(4, 2, causal=True),
    "transformer": nn.TransformerEncoderLayer(4, 2, 8, causal=True),
}


@pytest.mark.parametrize("name", OF_SEQUENCES)
def test_layers_of_sequences(name: str) -> None:
    layer = OF_SEQUENCES[name]
    params = layer.init(random.key(1), SEQUENCES.shape[1:])

    def program(params: Any, x: Any) -> Any:
        def loss(params: Any) -> Any:
            return np.sum(layer(params, x) ** 2)

        return layer(params, x), fg.jit(fg.grad(loss))(params)

    on_both(program, params, SEQUENCES)


SCORES = RNG.normal(size=(40, CLASSES))
LOSSES: dict[str, Any] = {
    "cross entropy": (nn.cross_entropy, SCORES, LABELS),
    "cross entropy, probabilities": (nn.cross_entropy, SCORES, np.abs(SCORES)),
    "nll": (nn.nll, SCORES, LABELS),
    "binary": (nn.binary_cross_entropy_with_logits, X, np.array([0.0, 1.0, 1.0])),
    "mse": (nn.mse, X, X[::-1].copy()),
    "l1": (nn.l1, X, X[::-1].copy() + 0.5),
    "huber": (nn.huber, X, X[::-1].copy() * 3),
}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, reduction: Any) -> None:
    loss, scores, targets = LOSSES[name]

    def program(scores: Any, targets: Any) -> Any:
        def total(scores: Any) -> Any:
            return np.sum(loss(scores, targets, reduction=reduction))

        return loss(scores, targets, reduction=reduction), fg.jit(fg.grad(total))(scores)

    on_both(program, scores, targets)


def test_accuracy() -> None:
    on_both(nn.accuracy, SCORES, LABELS)


def test_a_class_out_of_range_is_found_on_the_device() -> None:
    with pytest.raises(fg.errors.IndexRangeError):
        nn.cross_entropy(to_device(SCORES), to_device(LABELS + 1))


def test_batches_of_a_loader_are_of_the_datasets_device() -> None:
    loader = nn.DataLoader(nn.ArrayDataset(IMAGES, LABELS), 16, shuffle=True)
    on_device = nn.DataLoader(
        nn.ArrayDataset(to_device(IMAGES), to_device(LABELS)), 16, shuffle=True
    )
    batches = list(zip(on_device, loader, strict=True))
    assert len(batches) == 3
    for found, expected in batches:
        assert_same(list(found), list(expected))


def test_parameters_are_saved_from_the_host(tmp_path: Path) -> None:
    params = fg.device_put({"w": MATRIX, "b": [X, 2.0]}, to_device(X))
    path = tmp_path / "params.safetensors"
    with pytest.raises(TypeError):
        nn.save(path, params)
    assert not path.exists()
    nn.save(path, fg.device_get(params))
    loaded = fg.device_put(nn.load(path), params["w"])
    for found, saved in zip(fg.tree.leaves(loaded), fg.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(to_host(found), to_host(saved))


# --- random numbers -------------------------------------------------------------------

KEY = random.key(7)


class OnDevice:
    """`fg.random` with arrays on a device, their results copied back."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(random, name)

        def call(*args: Any, **options: Any) -> Any:
            options = {key: to_device(value) for key, value in options.items()}
            return to_host(function(*map(to_device, args), **options))

        return call


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_random_numbers_of_a_key_on_the_device_are_the_hosts(case: Any) -> None:
    expected, found = case.call(random, KEY), case.call(OnDevice(), KEY)
    assert found.dtype == expected.dtype
    # Of exact numbers, too, some end in a function that another library rounds otherwise.
    eps = 8 * float(np.finfo(found.dtype).eps) if found.dtype.kind in "fc" else 0.0
    near = {"rtol": max(case.rtol, eps), "atol": max(case.atol, eps)}
    np.testing.assert_allclose(found, expected, **near)


def test_keys_are_split_where_they_are() -> None:
    on_both(lambda key: (random.split(key, 3), random.fold_in(key, 5)), KEY)
    on_both(lambda key: fg.jit(lambda key: random.normal(key, (5,)))(key), KEY)
    on_both(fg.vmap(lambda key: random.uniform(key, (4,))), random.split(KEY, 3))
    for draw in (
        lambda key: random.permutation(key, 7),
        lambda key: random.randint(key, (4,), 0, 10),
        lambda key: random.randint(key, (), -(2**63), 2**63, np.int64),
        lambda key: random.uniform(key, (4,), np.float32, -0.3, 1.7),
        lambda key: random.bernoulli(key, 0.3, (9,)),
    ):
        on_both(fg.jit(draw, backend="numpy"), KEY)


# --- dtypes ---------------------------------------------------------------------------

DTYPES = ["?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"]
NUMBERS = [True, 2, 2.0, 2j, np.float32(2), np.float64(2), np.int64(2), np.complex64(2)]
OPERATORS = [operator.add, operator.mul, operator.truediv, operator.lt]


def _dtype_of(operation: Any, x: Any, number: Any, reflected: bool) -> Any:
    try:
        return (operation(number, x) if reflected else operation(x, number)).dtype
    except TypeError:
        return TypeError


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: f"{type(n).__name__}")
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_promote_as_numpy_says(dtype: str, number: Any) -> None:
    """By the library itself, in a traced function and compiled."""
    host = np.ones(3, dtype)
    for operation in OPERATORS:
        if operation is operator.lt and (host.dtype.kind == "c" or isinstance(number, complex)):
            continue
        for reflected in (False, True):
            expected = _dtype_of(operation, host, number, reflected)
            x = to_device(host)

            def compiled(x: Any, reflected: bool = reflected, operation: Any = operation) -> Any:
                apply = operation if not reflected else lambda a, b: operation(b, a)
                return fg.jit(lambda x: apply(x, number), backend="numpy")(x)

            assert _dtype_of(operation, x, number, reflected) == expected
            assert compiled(x).dtype == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "c8", "c16"])
def test_gradients_have_their_inputs_dtype(dtype: str) -> None:
    x = (MATRIX + (1j * MATRIX if dtype[0] == "c" else 0)).astype(dtype)

    def loss(x: Any) -> Any:
        y = x @ x.T / 4 + 1.5 * np.sum(x * x, axis=1)
        return np.mean(np.real(y) ** 2) if dtype[0] == "c" else np.mean(np.tanh(y))

    on_both(fg.value_and_grad(loss), x)
    on_both(lambda x: fg.jit(fg.value_and_grad(loss), backend="numpy")(x), x)


# --- how arrays lie in memory ---------------------------------------------------------

LAYOUTS: dict[str, Any] = {
    "transposed": lambda a: a.T,
    "columns": lambda a: a[:, ::2],
    "backwards": lambda a: a[::-1, ::-1],
    "fortran": lambda a: (np if isinstance(a, np.ndarray) else library).asfortranarray(a),
    "repeated": lambda a: np.broadcast_to(a[0], (4, 5)),
    "a part": lambda a: a[1:3, 1:4],
    "one column": lambda a: a[:, :1],
    "no rows": lambda a: a[:0],
    "no columns": lambda a: a[:, :0],
    "0-d": lambda a: a[0, 0],
}
FUNCTIONS: dict[str, Any] = {
    "elementwise": lambda x: np.sin(x) * x + 1,
    "sum": lambda x: np.sum(x * x),
    "rows": lambda x: np.sum(x, axis=-1) if np.ndim(x) else x,
    "product": lambda x: x.T @ (x * 2) if np.ndim(x) else x * x,
    "reshape": lambda x: np.reshape(x * 2, -1),
    "cumsum": lambda x: np.cumsum(x * x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_layouts(name: str, layout: str) -> None:
    function = FUNCTIONS[name]

    def program(a: Any) -> Any:
        x = LAYOUTS[layout](a)
        total = fg.grad(lambda x: np.sum(function(x) ** 2))
        return (
            fg.jit(function, backend="numpy")(x),
            total(x),
            fg.jit(total, backend="numpy")(x),
        )

    expected, found = program(MATRIX), program(to_device(MATRIX))
    assert_same(list(found), list(expected))


def test_results_without_axes_stay_on_the_device() -> None:
    x = to_device(X)
    value, grads = fg.value_and_grad(np.sum)(x)
    for result in (value, grads, fg.jit(np.sum)(x), fg.vmap(np.sum)(to_device(MATRIX))):
        assert is_device_array(result)
    assert value.shape == ()
    assert float(value) == 6.0


def test_writes_after_recording_change_no_derivative() -> None:
    for view in (lambda a: a, lambda a: a[1:3], lambda a: a.T, lambda a: a.reshape(-1)):
        whole, other = to_device(MATRIX.copy()), to_device(MATRIX.copy())
        x, captured = view(whole), view(other)
        _, pull = fg.vjp(lambda x, c=captured: np.sum(x * x * c), x)
        linear = fg.linearize(lambda x, c=captured: x * x * c, x)[1]
        expected = to_host(2 * x * captured)
        whole[...] = other[...] = 50.0
        one = to_device(np.ones(()))
        np.testing.assert_allclose(to_host(pull(one)[0]), expected)
        np.testing.assert_allclose(
            to_host(linear(to_device(np.ones(expected.shape)))), expected, rtol=1e-12
        )


def test_results_may_be_written_to_and_change_nothing_else() -> None:
    x = to_device(MATRIX)
    f = fg.jit(lambda x: (x, x.T, x[1:], np.reshape(x, -1), np.broadcast_to(x[0], (2, 5))))
    for results in (f(x), fg.vmap(lambda r: (r, r[::-1]))(x), [fg.grad(np.sum)(x)]):
        for result in results:
            result[...] = 7.0
    np.testing.assert_array_equal(to_host(x), MATRIX)


def test_argsort_of_any_kind() -> None:
    kinds: tuple[Any, ...] = (None, "quicksort", "stable")
    for kind in kinds:

        def order(x: Any, kind: Any = kind) -> Any:
            return np.argsort(x, axis=1, kind=kind)

        on_both(fg.jit(order, backend="numpy"), MATRIX)
        on_both(fg.vmap(lambda row, kind=kind: np.argsort(row, kind=kind)), MATRIX)


INDEXED: dict[str, Any] = {
    "list": lambda x: x[[0, 2, 2]],
    "host array": lambda x: x[np.array([0, 2, 2])],
    "rows and columns": lambda x: x[np.array([[0], [3]]), np.array([1, 4])],
    "mask": lambda x: x[:, np.array([True, False, True, False, True])],
    "take": lambda x: np.take(x, [0, -1], axis=1),
    "take along axis": lambda x: np.take_along_axis(x, np.argsort(x, axis=1), 1),
    "roll": lambda x: np.roll(x, 2, axis=1),
    "repeat": lambda x: np.repeat(x, [1, 0, 2, 1], axis=0),
    "delete": lambda x: np.delete(x, [1, 2], axis=0),
    "pad": lambda x: np.pad(x, ((1, 0), (0, 2)), mode="reflect"),
    "set": lambda x: fg.at(x)[np.array([0, 2])].set(1.0),
    "set a part": lambda x: fg.at(x)[1:, 2].set(1.0),
    "set a traced number": lambda x: fg.jit(lambda x, v: fg.at(x)[[0, 2]].set(v))(x, 2.0),
    "add a number": lambda x: fg.at(x)[:, [1, 1]].add(0.5),
    "add": lambda x: fg.at(x)[:, [1, 1]].add(x[:, :2]),
    "multiply": lambda x: fg.at(x)[[0, 0]].multiply(x[2:]),
}


@pytest.mark.parametrize("name", INDEXED)
def test_indices_may_be_of_the_host(name: str) -> None:
    """As in CuPy's own indexing."""
    function = INDEXED[name]
    total = fg.grad(lambda x: np.sum(np.sin(function(x))))
    on_both(fg.jit(function, backend="numpy"), MATRIX)
    on_both(total, MATRIX)
    on_both(fg.jit(total, backend="numpy"), MATRIX)


def test_indices_of_the_host_are_in_range() -> None:
    for transform in (fg.jit, fg.grad):
        for index in ([0, 4], np.array([-5])):
            with pytest.raises(fg.errors.IndexRangeError):
                transform(lambda x, index=index: np.sum(x[index]))(to_device(MATRIX))


# --- values of tracers ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("name", ["max", "min"])
def test_extrema_at_indices_are_exact_and_keep_nans(name: str, dtype: str) -> None:
    tiny = np.finfo(dtype).eps
    base = np.array([1.0, -1.0, -np.inf, np.inf, 0.0, 5.0, np.nan], dtype)
    index = np.array([0, 0, 1, 1, 2, 3, 4, 4, 4, 5, 6])
    given = [1 + tiny, 1 - tiny, -1 - tiny, -1 + tiny, 2, 3, -4, np.nan, 4, -np.nan, 1]
    values = np.array(given, dtype)

    def update(x: Any, v: Any) -> Any:
        return getattr(fg.at(x)[index], name)(v)

    expected = base.copy()
    with np.errstate(invalid="ignore"):
        getattr(np, f"{name}imum").at(expected, index, values)
    for function in (update, fg.jit(update, backend="numpy")):
        found = to_host(function(to_device(base), to_device(values)))
        np.testing.assert_array_equal(found, expected)


def test_values_are_asked_for_under_grad() -> None:
    def loss(x: Any) -> Any:
        first, second, third = (fg.stop_gradient(x[i]) for i in range(3))
        scale = float(first) + int(second) + third.item()
        if x[0] > 0 and bool(np.all(x > 0)):
            return np.sum(x * scale)
        return np.sum(x)

    on_both(fg.grad(loss), X)


def test_values_are_not_asked_for_under_jit() -> None:
    x = to_device(X)
    for f in (lambda x: float(x[0]), lambda x: 1 if x[0] > 0 else 2, lambda x: x[0].item()):
        with pytest.raises(fg.errors.TracerValueError):
            fg.jit(f)(x)


def test_numpys_functions_of_arrays_that_are_not_traced() -> None:
    w = to_device(np.abs(MATRIX[:, :3]))

    def loss(x: Any) -> Any:
        mask = np.where(w > 0.5, w, 0.0)
        centred = mask - np.mean(mask, axis=0, keepdims=True)
        weights = np.exp(centred) / np.sum(np.exp(centred))
        stacked = np.stack([weights, np.sqrt(w)]).reshape(2, -1, 3)
        return np.sum(stacked @ x + np.linalg.norm(w) + np.max(w) + np.log1p(w).T.sum())

    x = to_device(X)
    eager, compiled = fg.grad(loss)(x), fg.jit(fg.grad(loss), backend="numpy")(x)
    w = np.abs(MATRIX[:, :3])
    assert_same([eager, compiled], [fg.grad(loss)(X)] * 2)


@pytest.mark.parametrize("operation", OPERATORS[:3], ids=lambda f: f.__name__)
def test_operators_of_device_arrays_and_tracers(operation: Any) -> None:
    c = to_device(X)

    def loss(x: Any) -> Any:
        return np.sum(operation(c, x) + operation(x, c) + operation(c[0], x))

    found = fg.grad(loss)(to_device(X + 1)), fg.jit(fg.grad(loss))(to_device(X + 1))
    c = X
    assert_same(list(found), [fg.grad(loss)(X + 1)] * 2)


def test_assigning_a_tracer_to_elements_of_a_device_array_is_refused() -> None:
    buffer = to_device(np.zeros(3))

    def loss(x: Any) -> Any:
        buffer[0] = x[0]
        return np.sum(buffer * x)

    with pytest.raises((TypeError, ValueError, fg.errors.FuncgradError)):
        fg.grad(loss)(to_device(X))
    np.testing.assert_array_equal(to_host(buffer), 0.0)


def test_host_arrays_are_never_copied_unasked() -> None:
    x = to_device(X)
    with pytest.raises(TypeError):
        np.asarray(x)
    for f in (lambda x: x + X, lambda x: np.where(x > 0, x, X), lambda x: np.stack([x, X])):
        for call in (fg.grad(lambda x, f=f: np.sum(f(x))), fg.jit(f)):
            with pytest.raises(fg.errors.DeviceError, match=r"test_device_programs\.py"):
                call(x)


# --- special functions, control flow --------------------------------------------------

SPECIAL = ["erf", "erfc", "expit", "gammaln", "digamma", "log_ndtr", "logsumexp", "softmax"]


@pytest.mark.parametrize("name", SPECIAL)
def test_special_functions(name: str) -> None:
    function = getattr(special, name)
    on_both(lambda x: (function(x), fg.grad(lambda x: np.sum(function(x) * x))(x)), X)


def test_loops_over_parameters() -> None:
    def loss(params: Any, xs: Any) -> Any:
        def body(h: Any, x: Any) -> Any:
            h = np.tanh(params["w"] @ h + x)
            return h, np.sum(h)

        h, ys = fg.scan(body, params["h"], xs)
        return np.sum(h) + np.sum(ys)

    params = {"w": MATRIX[:, :4] / 4, "h": MATRIX[0, :4]}
    xs = RNG.normal(size=(6, 4))
    on_both(fg.value_and_grad(loss), params, xs)
    on_both(lambda p, xs: fg.jit(fg.value_and_grad(loss))(p, xs), params, xs)
    on_both(fg.vmap(fg.grad(loss), in_axes=(None, 0)), params, np.stack([xs, xs + 1]))


# --- memory ---------------------------------------------------------------------------


@CUPY_ONLY
@pytest.mark.parametrize("transform", [lambda f: f, fg.jit], ids=["eager", "jit"])
def test_memory_comes_back(transform: Any) -> None:
    pool = library.get_default_memory_pool()
    x = to_device(RNG.normal(size=(512, 512)).astype(np.float32))
    function = transform(fg.value_and_grad(lambda x: np.sum(np.tanh(x @ x) * x)))
    function(x)
    gc.collect()
    before = pool.used_bytes()
    for _ in range(5):
        function(x)
    # Without the garbage collector: what is held in cycles would pile up.
    assert pool.used_bytes() == before


@CUPY_ONLY
def test_a_training_loop_holds_no_more_memory_step_by_step() -> None:
    pool = library.get_default_memory_pool()
    step = fg.jit(lambda w, x: w - 0.1 * fg.grad(lambda w: np.mean((x @ w) ** 2))(w))
    x, w = to_device(RNG.normal(size=(256, 256))), to_device(np.ones((256, 16)))
    used = []
    for _ in range(6):
        w = step(w, x)
        used.append(pool.used_bytes())
    assert used[2:] == used[2:3] * 4
