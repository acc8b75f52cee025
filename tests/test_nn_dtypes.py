"""Dtypes and ranges: float16, complex, small integers, options as NumPy scalars, labels."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import GradDtypeError, OperandTypeError, ShapeError
from funcgrad_nn import init

RNG = np.random.default_rng(0)
HALF = np.float16


def modes(f, *args):
    """What a function gives eagerly, as values riding along, and compiled; and under vmap."""
    pairs = [np.stack([a, a]) for a in args]
    return {
        "eager": f(*args),
        "values riding along": fg.jvp(f, args, args)[0] if args[0].dtype.kind == "f" else f(*args),
        "vmap": fg.vmap(f)(*pairs)[1],
        "numpy": fg.jit(f, backend="numpy")(*args),
        "llvm": fg.jit(f)(*args),
        "llvm, vmap": fg.jit(fg.vmap(f))(*pairs)[1],
    }


# --- float16 --------------------------------------------------------------------------

ACTIVATIONS = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "sigmoid": nn.sigmoid,
    "softplus": nn.softplus,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "gelu with tanh": partial(nn.gelu, approximate=True),
    "elu": nn.elu,
    "celu": partial(nn.celu, alpha=2.0),
    "mish": nn.mish,
    "hardswish": nn.hardswish,
    "hardsigmoid": nn.hardsigmoid,
    "hardtanh": nn.hardtanh,
    "relu6": nn.relu6,
    "logsigmoid": nn.logsigmoid,
    "softsign": nn.softsign,
    "tanhshrink": nn.tanhshrink,
    "softshrink": nn.softshrink,
    "hardshrink": nn.hardshrink,
    "threshold": partial(nn.threshold, threshold=0.5, value=-1.0),
    "prelu": partial(nn.prelu, weight=np.array([0.25], np.float16)),
    "softmax": nn.softmax,
    "log_softmax": nn.log_softmax,
}
ELEMENTWISE = [name for name in ACTIVATIONS if "softmax" not in name]
POINTS = np.array([0.0, 0.5, -0.5, 3.0, -3.0, 30.0, -30.0, 261.0, -262.0, 1e4, -6e4, 65504.0])


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("order", range(3))
def test_activations_of_half_and_single(name, order):
    def f(x):
        return ACTIVATIONS[name](x)

    for _ in range(order):
        f = fg.grad(f)
    slopes = fg.vmap(f)
    for dtype, tolerance in (np.float16, 2e-3), (np.float32, 2e-6):
        x = POINTS.astype(dtype)
        want = slopes(x.astype(np.float64))
        for mode, have in {
            "eager": slopes(x),
            "numpy": fg.jit(slopes, backend="numpy")(x),
            "llvm": fg.jit(slopes)(x),
        }.items():
            np.testing.assert_allclose(
                have.astype(np.float64), want, tolerance, tolerance, err_msg=f"{mode}, {dtype}"
            )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gelu_with_tanh_is_smooth_to_the_end(dtype):
    far = np.finfo(dtype).max * np.array([1, 0.5, 1e-3, -1e-3, -0.5, -1], dtype)
    gelu = partial(nn.gelu, approximate=True)
    for f in gelu, fg.grad(gelu), fg.grad(fg.grad(gelu)):
        for mode, have in modes(lambda x, f=f: fg.vmap(f)(x), far).items():
            assert np.isfinite(have).all(), mode


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_of_many_halves(name):
    x = RNG.normal(size=(5000, 2))
    want = ACTIVATIONS[name](x, axis=0)
    for mode, have in modes(partial(ACTIVATIONS[name], axis=0), x.astype(HALF)).items():
        assert have.dtype == HALF
        assert np.allclose(have, want, rtol=4e-3, atol=1e-6), mode


LOGITS = RNG.normal(size=(3, 20000))
LABELS = np.array([0, 7, 19999])
PROBS = np.full((3, 20000), 1 / 16384)
ERRORS = RNG.normal(size=5000)
X_UP = ERRORS > 0.1
LOSSES = {
    "cross_entropy": (lambda x: nn.cross_entropy(x, LABELS), LOGITS),
    "cross_entropy, smoothed": (
        lambda x: nn.cross_entropy(x, LABELS, label_smoothing=0.5),
        LOGITS,
    ),
    "cross_entropy, probabilities": (
        lambda x: nn.cross_entropy(x, PROBS.astype(x.dtype)),
        LOGITS,
    ),
    "nll": (lambda x: nn.nll(nn.log_softmax(x), LABELS), LOGITS),
    "binary": (
        lambda x: nn.binary_cross_entropy_with_logits(x, np.ones_like(x), reduction="sum"),
        ERRORS,
    ),
    "mse": (lambda x: nn.mse(x, np.zeros_like(x), reduction="sum"), ERRORS),
    "mse of large": (lambda x: nn.mse(x, np.zeros_like(x)), 200 * ERRORS[:50] + 100),
    "l1": (lambda x: nn.l1(x, np.zeros_like(x), reduction="sum"), ERRORS),
    "huber": (lambda x: nn.huber(x, np.zeros_like(x), reduction="sum"), 9 * ERRORS),
    "smooth_l1": (lambda x: nn.smooth_l1(x, np.zeros_like(x), reduction="sum"), 9 * ERRORS),
    "weighted": (lambda x: nn.cross_entropy(x, LABELS, weight=np.full(20000, 0.5)), LOGITS),
    "kl_div": (lambda x: nn.kl_div(x, PROBS.astype(x.dtype), reduction="sum"), LOGITS),
    "poisson_nll": (lambda x: nn.poisson_nll(x, np.ones_like(x), reduction="sum"), ERRORS),
    "gaussian_nll": (lambda x: nn.gaussian_nll(x, 0 * x, 1 + 0 * x, reduction="sum"), ERRORS),
    "hinge": (lambda x: nn.hinge(x, np.where(X_UP, 1, -1), reduction="sum"), ERRORS),
    "soft_margin": (lambda x: nn.soft_margin(x, np.where(X_UP, 1, -1), reduction="sum"), ERRORS),
    "multi_margin": (lambda x: nn.multi_margin(x, LABELS), LOGITS),
    "triplet": (lambda x: nn.triplet(x, 0 * x, 1 + 0 * x), LOGITS),
    "cosine_embedding": (lambda x: nn.cosine_embedding(x, 1 + 0 * x, np.ones(3, int)), LOGITS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_half(name):
    f, x = LOSSES[name]
    half = x.astype(HALF)
    for g in f, fg.grad(f):
        want = g(half.astype(np.float64))
        for mode, have in modes(g, half).items():
            assert have.dtype == HALF, mode
            np.testing.assert_allclose(have, want, 4e-3, 1e-6, err_msg=mode)


OPTIMIZERS = {
    "sgd": nn.sgd,
    "momentum": partial(nn.sgd, momentum=0.9),
    "nesterov": partial(nn.sgd, momentum=0.9, nesterov=True),
    "decayed": partial(nn.sgd, momentum=0.9, weight_decay=0.01),
    "adam": nn.adam,
    "adam, decayed": partial(nn.adam, weight_decay=0.01),
    "adamw": nn.adamw,
}


def steps(update, params, grads, state):
    for _ in range(4):
        params, state = update(grads, state, params)
    return params


# Those of which float16 is not computed with values that a test by formula could compare.
OTHERS = {
    "damped": partial(nn.sgd, momentum=0.9, dampening=0.5),
    "amsgrad": partial(nn.adam, amsgrad=True),
    "rmsprop": partial(nn.rmsprop, momentum=0.9),
    "adagrad": partial(nn.adagrad, lr_decay=0.1),
    "adadelta": nn.adadelta,
    "adamax": nn.adamax,
    "nadam": partial(nn.nadam, weight_decay=0.01, decoupled=True),
    "radam": nn.radam,
    "lamb": partial(nn.lamb, weight_decay=0.01),
    "lion": partial(nn.lion, weight_decay=0.01),
    "adafactor": nn.adafactor,
    "clipped": lambda rate: nn.clip_by_global_norm(nn.adam(rate), 1e5),
    "clipped array by array": lambda rate: nn.clip_by_norm(nn.adam(rate), 1e5),
    "averaged": lambda rate: nn.ema(nn.adam(rate)),
    "accumulated": lambda rate: nn.accumulate(nn.adam(rate), 2),
}


@pytest.mark.parametrize("name", OPTIMIZERS | OTHERS)
@pytest.mark.parametrize("rate", [0.01, lambda step: 0.01 * 0.9**step])
def test_optimizers_of_half(name, rate):
    # Squares of these are below and beyond float16's range; so are sums of the largest.
    grads = np.array([0.0, 1e-5, 300.0, -3e4, 0.1, 1e-7])
    params = np.ones(6)
    optimizer = (OPTIMIZERS | OTHERS)[name](rate)
    want = steps(optimizer.update, params, grads.astype(HALF).astype(float), optimizer.init(params))
    half = params.astype(HALF)
    for update in (
        optimizer.update,
        fg.jit(optimizer.update, backend="numpy"),
        fg.jit(optimizer.update),
    ):
        have = steps(update, half, grads.astype(HALF), optimizer.init(half))
        assert have.dtype == HALF
        np.testing.assert_allclose(have, want, 4e-3)
    pair = np.stack([half, half])
    state = fg.vmap(optimizer.init)(pair)
    have = steps(fg.vmap(optimizer.update), pair, np.stack([grads, grads]).astype(HALF), state)
    np.testing.assert_allclose(have[1], want, 4e-3)


# --- complex --------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_optimizers_of_complex(name, dtype):
    g, p = np.array([3 + 4j, -1j], dtype), np.array([1 + 1j, 2], dtype)
    optimizer = OPTIMIZERS[name](0.1)
    m, s, want = 0, 0, p
    for t in range(1, 5):
        if "adam" in name:
            step = g + (0.01 * want if "decayed" in name else 0)
            want = want * (1 - 0.1 * 0.01) if name == "adamw" else want
            m, s = 0.9 * m + 0.1 * step, 0.999 * s + 0.001 * np.abs(step) ** 2
            want = want - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        else:
            step = g + (0.01 * want if name == "decayed" else 0)
            m = (0 if name == "sgd" else 0.9) * m + step
            want = want - 0.1 * (step + 0.9 * m if name == "nesterov" else m)
    for update in (
        optimizer.update,
        fg.jit(optimizer.update),
        fg.jit(optimizer.update, backend="numpy"),
    ):
        have = steps(update, p, g, optimizer.init(p))
        assert have.dtype == dtype
        np.testing.assert_allclose(have, want, 1e-5)


def test_complex_gradients_of_real_parameters_are_refused():
    optimizer = nn.adam()
    with pytest.raises(GradDtypeError, match=r"gradient at .*w.* is complex128"):
        params = {"w": np.ones(2)}
        optimizer.update({"w": np.ones(2) * 1j}, optimizer.init(params), params)


def test_losses_of_complex():
    p, t = np.array([3 + 4j, 1.0]), np.array([0.0, 1 + 1j])
    for loss, want in (nn.mse, 13.0), (nn.l1, 3.0), (nn.huber, (4.5 + 0.5) / 2):
        for mode, have in modes(loss, p, t).items():
            assert have.dtype == np.float64
            assert np.isclose(have, want), mode
    assert nn.mse(p.astype(np.complex64), t.astype(np.complex64)).dtype == np.float32


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_complex_are_refused(name):
    z = np.array([1 + 2j, 3j])
    for wrap in lambda f: f, fg.jit, fg.vmap, lambda f: lambda z: fg.vjp(f, z):
        with pytest.raises(OperandTypeError, match=r"real numbers"):
            wrap(ACTIVATIONS[name])(z if wrap is not fg.vmap else z[None])


def test_scores_of_complex_are_refused():
    z = np.ones((2, 3)) * 1j
    for f in (
        lambda: nn.cross_entropy(z, np.array([0, 1])),
        lambda: nn.nll(z, np.array([0, 1])),
        lambda: nn.binary_cross_entropy_with_logits(z, z.real),
        lambda: nn.accuracy(z, np.array([0, 1])),
    ):
        with pytest.raises(OperandTypeError, match=r"real numbers"):
            f()


# --- integers -------------------------------------------------------------------------

INTEGERS = [np.dtype(d) for d in "?bBhHiIlL"]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_losses_of_integers(dtype):
    top = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    x, y = np.array([[0, top, 0, 1]], dtype), np.array([[top, 0, 1, 1]], dtype)

    def of_elements(x, y):
        losses = nn.mse, nn.l1, nn.huber, nn.binary_cross_entropy_with_logits
        return np.stack([loss(x, y) for loss in losses])

    def of_classes(x, labels):
        return np.stack([loss(x, labels) for loss in (nn.cross_entropy, nn.nll, nn.accuracy)])

    for f, targets in (of_elements, y), (of_classes, np.array([1])):
        want = f(x.astype(float), targets.astype(float) if f is of_elements else targets)
        for mode, have in modes(f, x, targets).items():
            assert have.dtype == np.float64, mode
            np.testing.assert_allclose(have, want, 1e-12, err_msg=mode)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_activations_of_integers(dtype):
    top = 1 if dtype.kind == "b" else np.iinfo(dtype).max
    x = np.array([0, 1, top, 2 if dtype.kind != "b" else 0], dtype)

    def f(x):
        return np.stack([activation(x) for activation in ACTIVATIONS.values()])

    for mode, have in modes(f, x).items():
        np.testing.assert_allclose(have, f(x.astype(float)), 1e-6, err_msg=mode)


@pytest.mark.parametrize("dtype", INTEGERS[1:], ids=str)
def test_labels_of_every_integer_dtype(dtype):
    logits = RNG.normal(size=(3, 1000))
    for mode, have in modes(partial(nn.cross_entropy, logits), np.array([0, 9, 99], dtype)).items():
        assert np.isclose(have, nn.cross_entropy(logits, np.array([0, 9, 99]))), mode


# --- labels ---------------------------------------------------------------------------

BAD_LABELS = [
    np.array([0, -1]),
    np.array([0, -100]),
    np.array([0, 2**64 - 1], np.uint64),
    np.array([0, 2**63 + 1], np.uint64),
    np.array([0, 3]),
    np.array([0, 255], np.uint8),
    np.array([0, -1], np.int8),
]


@pytest.mark.parametrize("labels", BAD_LABELS, ids=str)
@pytest.mark.parametrize("loss", [nn.cross_entropy, nn.nll])
def test_labels_out_of_range_never_count_as_a_class(loss, labels):
    x = np.zeros((2, 3), np.float32)
    for f in (
        loss,
        fg.grad(loss),
        fg.jit(loss),
        fg.jit(loss, backend="numpy"),
        fg.jit(fg.grad(loss)),
        fg.vmap(loss),
        fg.jit(fg.vmap(fg.grad(loss))),
        lambda x, t: fg.scan(lambda c, xt: (c, loss(*xt)), 0.0, (x, t))[1],
    ):
        with pytest.raises(IndexError):
            f(x, labels)


def test_integers_of_the_shape_of_the_logits_are_no_probabilities():
    x = np.zeros((2, 3))
    for loss in nn.cross_entropy, nn.nll, fg.jit(nn.cross_entropy), fg.vmap(nn.nll):
        for dtype in (int, np.uint8, bool):
            with pytest.raises(OperandTypeError, match=r"probabilities and must be floats"):
                loss(x, np.eye(2, 3, dtype=dtype))


# --- options --------------------------------------------------------------------------

SCALARS = [np.float64, np.float32, np.array]
X = RNG.normal(size=(2, 3)).astype(np.float32)
T = np.array([0, 2])
Y = np.zeros_like(X)
SIGNS = np.where(X > 0, 1, -1)


def stepped(make, **options):
    optimizer = make(**options)
    return optimizer.update(X, optimizer.init(X), X)


OPTIONS = {
    "sgd": (lambda o: stepped(nn.sgd, **{"learning_rate": 0.5} | o), "learning_rate", 0.5),
    "softplus": (lambda o: nn.softplus(X, **o), "beta", 0.5),
    "rrelu": (lambda o: nn.RReLU(**o).train({}, X, 0)[0], "upper", 0.5),
    "pad": (lambda o: nn.Pad(1, **o)({}, X[None]), "value", 0.5),
    "upsample": (lambda o: nn.Upsample(mode="linear", **o)({}, X[None]), "scale_factor", 2.0),
    "alpha dropout": (lambda o: nn.AlphaDropout(**o).train({}, X, 0)[0], "p", 0.5),
    "leaky_relu": (lambda o: nn.leaky_relu(X, **o), "negative_slope", 0.5),
    "LeakyReLU": (lambda o: nn.LeakyReLU(**o)({}, X), "negative_slope", 0.5),
    "attention": (lambda o: nn.scaled_dot_product_attention(X, X, X, **o), "scale", 0.5),
    "elu": (lambda o: nn.elu(X, **o), "alpha", 0.5),
    "celu": (lambda o: nn.celu(X, **o), "alpha", 0.5),
    "hardtanh, low": (lambda o: nn.hardtanh(X, **o), "min_val", -0.5),
    "hardtanh, high": (lambda o: nn.hardtanh(X, **o), "max_val", 0.5),
    "softshrink": (lambda o: nn.softshrink(X, **o), "lambd", 0.25),
    "hardshrink": (lambda o: nn.hardshrink(X, **o), "lambd", 0.25),
    "threshold": (lambda o: nn.threshold(X, value=1.0, **o), "threshold", 0.5),
    "threshold, value": (lambda o: nn.threshold(X, 0.5, **o), "value", 0.5),
    "huber": (lambda o: nn.huber(X, Y, **o), "delta", 0.5),
    "smooth_l1": (lambda o: nn.smooth_l1(X, Y, **o), "beta", 0.5),
    "hinge": (lambda o: nn.hinge(X, SIGNS, **o), "margin", 0.5),
    "hinge_embedding": (lambda o: nn.hinge_embedding(X, SIGNS, **o), "margin", 0.5),
    "margin_ranking": (lambda o: nn.margin_ranking(X, Y, SIGNS, **o), "margin", 0.5),
    "cosine_embedding": (lambda o: nn.cosine_embedding(X, X, SIGNS[:, 0], **o), "margin", 0.5),
    "multi_margin": (lambda o: nn.multi_margin(X, T, **o), "margin", 0.5),
    "poisson_nll": (lambda o: nn.poisson_nll(X**2, Y, log_input=False, **o), "eps", 0.5),
    "gaussian_nll": (lambda o: nn.gaussian_nll(X, Y, Y, **o), "eps", 0.5),
    "triplet": (lambda o: nn.triplet(X, Y, Y, **o), "margin", 0.5),
    "triplet, p": (lambda o: nn.triplet(X, Y, Y, **o), "p", 1.5),
    "cosine_similarity": (lambda o: nn.cosine_similarity(X, Y, axis=-1, **o), "eps", 0.5),
    "triplet, eps": (lambda o: nn.triplet(X, Y, Y, **o), "eps", 0.5),
    "cross_entropy": (lambda o: nn.cross_entropy(X, T, **o), "label_smoothing", 0.5),
}


def numbers(function):
    """The options that are numbers."""
    given = inspect.signature(function).parameters.items()
    return [option for option, one in given if one.annotation in ("float", "float | None")]


def within(make, **options):
    return make(nn.sgd(0.1), **options)


MAKERS = [
    (make, partial(make, 0.1)) for make in vars(nn.optimizers).values()
    if inspect.isfunction(make) and "learning_rate" in inspect.signature(make).parameters
    if make is not nn.lbfgs
] + [
    (make, partial(within, make))
    for make in (nn.clip_by_global_norm, nn.clip_by_norm, nn.clip_by_value, nn.ema)
]  # fmt: skip
# Where a half is out of range.
VALUES = {"beta2_decay": -0.5, "grow": 1.5}
OF_OPTIMIZERS = [(make, made, option) for make, made in MAKERS for option in numbers(make)]
OPTIONS |= {
    f"{make.__name__}, {option}": (
        lambda o, made=made, make=make: stepped(
            made, **({"momentum": 0.9} if make is nn.sgd and "dampening" in o else {}) | o
        ),
        option,
        VALUES.get(option, 0.5),
    )
    for make, made, option in OF_OPTIMIZERS
}
INITIALIZERS = [
    (init.constant, "value"),
    (init.uniform, "low"),
    (init.uniform, "high"),
    (init.normal, "stddev"),
    (init.normal, "mean"),
    (init.truncated_normal, "stddev"),
    (init.truncated_normal, "mean"),
    (init.glorot_uniform, "gain"),
    (init.glorot_normal, "gain"),
    (init.orthogonal, "gain"),
    (partial(init.variance_scaling, mode="fan_in", distribution="normal"), "scale"),
    (partial(init.variance_scaling, mode="fan_in", distribution="uniform"), "scale"),
]
OPTIONS |= {
    f"{getattr(make, '__name__', 'variance_scaling')}, {option}, {i}": (
        lambda o, make=make: make(**o)(fg.random.key(0), (3, 2)),
        option,
        0.5,
    )
    for i, (make, option) in enumerate(INITIALIZERS)
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_do_not_impose_their_dtype(name):
    f, option, value = OPTIONS[name]
    want = fg.tree.leaves(f({option: value}))
    for make in SCALARS:
        for have, plain in zip(fg.tree.leaves(f({option: make(value)})), want, strict=True):
            assert have.dtype == plain.dtype
            assert np.array_equal(have, plain)
    assert want[0].dtype == np.float32


def test_every_option_that_is_a_number_is_tried():
    named = {
        f"{name}.{option}"
        for module in (nn, init)
        for name in module.__all__
        if callable(function := getattr(module, name))
        for option in numbers(function)
    }
    tried = {f"{make.__name__}.{option}" for make, _, option in OF_OPTIMIZERS} | {
        "softplus.beta", "leaky_relu.negative_slope", "huber.delta",
        "LeakyReLU.negative_slope", "cross_entropy.label_smoothing", "smooth_l1.beta",
        "hinge.margin", "hinge_embedding.margin", "margin_ranking.margin", "multi_margin.margin",
        "cosine_embedding.margin", "triplet.margin", "triplet.p", "triplet.eps",
        "cosine_similarity.eps",
        "poisson_nll.eps", "gaussian_nll.eps", "elu.alpha", "celu.alpha", "hardtanh.min_val",
        "hardtanh.max_val", "softshrink.lambd", "hardshrink.lambd", "threshold.threshold",
        "threshold.value", "scaled_dot_product_attention.scale",
        "constant.value", "uniform.low", "uniform.high", "normal.stddev", "normal.mean",
        "truncated_normal.stddev", "truncated_normal.mean", "variance_scaling.scale",
        "glorot_uniform.gain", "glorot_normal.gain", "xavier_uniform.gain", "xavier_normal.gain",
        "orthogonal.gain",
    }  # fmt: skip
    # Those of layers go to the functions of the same names.
    layers = {name for name in named if inspect.isclass(getattr(nn, name.partition(".")[0], None))}
    assert named - tried - layers == set()


@pytest.mark.parametrize("rate", [np.float64(0.1), np.array(0.1), lambda step: np.float64(0.1)])
def test_traced_options_and_schedules_keep_float32(rate):
    for make in nn.sgd, nn.adam, nn.adamw:
        for wrap in lambda f: f, fg.jit:
            assert wrap(lambda x, make=make: stepped_at(make, rate, x))(X).dtype == np.float32
        if not callable(rate):
            step = fg.jit(lambda x, rate, make=make: stepped_at(make, rate, x))
            assert step(X, rate).dtype == np.float32
    assert fg.jit(nn.leaky_relu)(X, np.float64(0.5)).dtype == np.float32


def stepped_at(make, rate, x):
    optimizer = make(rate)
    return optimizer.update(x, optimizer.init(x), x)[0]


# --- states ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw"])
def test_states_of_other_shapes_are_refused(name):
    optimizer = OPTIMIZERS[name](0.1)
    params = {"w": np.ones((2, 3)), "b": np.ones(3)}
    for shape in ((), (3,), (1, 3), (2, 2, 3)):
        state = optimizer.init({"w": np.ones(shape), "b": np.ones(3)})
        for update in optimizer.update, fg.jit(optimizer.update):
            with pytest.raises(ShapeError, match=r"the state at .*w.* has shape"):
                update(params, state, params)


def test_parameters_that_are_integers_are_refused():
    for make in OPTIMIZERS.values():
        optimizer = make(0.1)
        params = {"w": np.ones(2, int)}
        with pytest.raises(OperandTypeError, match=r"parameter at .*w.* is an array of int64"):
            optimizer.update({"w": np.ones(2)}, optimizer.init(params), params)


def test_learning_rates_with_axes_are_refused():
    for make in nn.sgd, nn.adam:
        for rate in np.ones(2), lambda step: np.ones(2):
            with pytest.raises(ShapeError, match=r"must be one number"):
                stepped_at(make, rate, np.ones(2))
