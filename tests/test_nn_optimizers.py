"""Optimisers against PyTorch's formulas, and under the transformations."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, ShapeError, TreeMismatchError

RNG = np.random.default_rng(0)
START = {"w": RNG.normal(size=(3, 2)), "b": [RNG.normal(size=2), RNG.normal(size=())]}
GRADS = [fg.tree.map(lambda p: RNG.normal(size=p.shape), START) for _ in range(5)]
WRAPS = {
    "eager": lambda f: f,
    "jit": fg.jit,
    "jit to NumPy": lambda f: fg.jit(f, backend="numpy"),
}


def run(optimizer, params=START, grads=GRADS, wrap=lambda f: f):
    state, update = optimizer.init(params), wrap(optimizer.update)
    for g in grads:
        params, state = update(g, state, params)
    return params, state


def torch_sgd(p, grads, lr, momentum=0.0, nesterov=False, weight_decay=0.0, dampening=0.0):
    """The algorithm in the documentation of torch.optim.SGD, for one array."""
    buffer = None
    for g in grads:
        g = g + weight_decay * p
        if momentum:
            buffer = g if buffer is None else momentum * buffer + (1 - dampening) * g
            g = g + momentum * buffer if nesterov else buffer
        p = p - lr * g
    return p


def torch_adam(p, grads, lr, beta1, beta2, eps, weight_decay, decoupled):
    """The algorithms in the documentation of torch.optim.Adam and AdamW, for one array."""
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, start=1):
        if decoupled:
            p = p - lr * weight_decay * p
        else:
            g = g + weight_decay * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
        p = p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
    return p


def reference(function, **options):
    leaves = zip(fg.tree.leaves(START), *map(fg.tree.leaves, GRADS), strict=True)
    return [function(p, grads, **options) for p, *grads in leaves]


def pytorchs(p, grads, step, slots, lr=0.1, coupled=0.0, decoupled=0.0):
    """One of PyTorch's algorithms for one array: ``step(t, g, p, *slots) -> (d, *slots)``."""
    for t, g in enumerate(grads, start=1):
        d, *slots = step(t, g + coupled * p, p, *slots)
        p = p - lr * decoupled * p - lr * d
    return p


def rmsprop(alpha, eps, momentum=0.0, centered=False):
    def step(t, g, p, s, m, v):
        s, m = alpha * s + (1 - alpha) * g**2, alpha * m + (1 - alpha) * g
        v = momentum * v + g / (np.sqrt(s - m**2 if centered else s) + eps)
        return v, s, m, v

    return step, (0, 0, 0)


def adagrad(lr_decay, start, eps):
    def step(t, g, p, total):
        total = total + g**2
        return g / (np.sqrt(total) + eps) / (1 + (t - 1) * lr_decay), total

    return step, (start,)


def adadelta(rho, eps):
    def step(t, g, p, s, c):
        s = rho * s + (1 - rho) * g**2
        d = np.sqrt(c + eps) / np.sqrt(s + eps) * g
        return d, s, rho * c + (1 - rho) * d**2

    return step, (0, 0)


def adamax(b1, b2, eps):
    def step(t, g, p, m, u):
        m, u = b1 * m + (1 - b1) * g, np.maximum(b2 * u, np.abs(g) + eps)
        return m / (1 - b1**t) / u, m, u

    return step, (0, 0)


def amsgrad(b1, b2, eps):
    def step(t, g, p, m, s, top):
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        top = np.maximum(top, s)
        return m / (1 - b1**t) / (np.sqrt(top / (1 - b2**t)) + eps), m, s, top

    return step, (0, 0, 0)


def nadam(b1, b2, eps, momentum_decay):
    def mu(t):
        return b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    def step(t, g, p, m, s):
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        product = np.prod([mu(i) for i in range(1, t + 1)])
        d = (1 - mu(t)) * g / (1 - product) + mu(t + 1) * m / (1 - product * mu(t + 1))
        return d / (np.sqrt(s / (1 - b2**t)) + eps), m, s

    return step, (0, 0)


def radam(b1, b2, eps):
    def step(t, g, p, m, s):
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        mean, longest = m / (1 - b1**t), 2 / (1 - b2) - 1
        length = longest - 2 * t * b2**t / (1 - b2**t)
        if length <= 5:
            return mean, m, s
        rectified = (length - 4) * (length - 2) * longest
        rectified /= (longest - 4) * (longest - 2) * length
        return mean * np.sqrt(rectified * (1 - b2**t)) / (np.sqrt(s) + eps), m, s

    return step, (0, 0)


def lamb(b1, b2, eps, decay):
    def step(t, g, p, m, s):
        m, s = b1 * m + (1 - b1) * g, b2 * s + (1 - b2) * g**2
        d = m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + eps) + decay * p
        return np.sqrt(np.sum(p**2) / np.sum(d**2)) * d, m, s

    return step, (0, 0)


def lion(b1, b2):
    def step(t, g, p, m):
        return np.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g

    return step, (0,)


def rprop(shrink, grow, low, high):
    def step(t, g, p, size, before):
        turn = np.sign(g * before)
        size = np.clip(size * np.where(turn > 0, grow, np.where(turn < 0, shrink, 1)), low, high)
        g = np.where(turn < 0, 0, g)
        return np.sign(g) * size / 0.1, size, g

    return step, (0.1, 0)


def adafactor(beta2_decay, eps1, eps2, clip):
    def step(t, g, p, row, column):
        share = t**beta2_decay
        if g.ndim > 1:
            row = row + share * ((g**2).mean(-1, keepdims=True) - row)
            column = column + share * ((g**2).mean(-2, keepdims=True) - column)
            square = row * column / np.maximum(row.mean(-2, keepdims=True), eps1)
        else:
            row = square = row + share * (g**2 - row)
        d = g / np.sqrt(np.maximum(square, eps1**2))
        size = max(eps2, np.sqrt(np.mean(p**2))) * min(0.1, t**-0.5)
        return d * size / max(1, np.sqrt(np.mean(d**2)) / clip) / 0.1, row, column

    return step, (0, 0)


# name -> the optimiser at a rate of 0.1, PyTorch's algorithm, and how its weights decay.
FORMULAS = {
    "rmsprop": (nn.rmsprop(0.1), rmsprop(0.99, 1e-8), {}),
    "rmsprop, all": (
        nn.rmsprop(0.1, 0.5, 1e-3, 0.1, 0.9, centered=True),
        rmsprop(0.5, 1e-3, 0.9, centered=True),
        {"coupled": 0.1},
    ),
    "adagrad": (nn.adagrad(0.1), adagrad(0, 0, 1e-10), {}),
    "adagrad, all": (nn.adagrad(0.1, 0.2, 0.3, 0.4, 0.5), adagrad(0.2, 0.4, 0.5), {"coupled": 0.3}),
    "adadelta": (nn.adadelta(0.1), adadelta(0.9, 1e-6), {}),
    "adadelta, all": (nn.adadelta(0.1, 0.5, 0.1, 0.2), adadelta(0.5, 0.1), {"coupled": 0.2}),
    "adamax": (nn.adamax(0.1), adamax(0.9, 0.999, 1e-8), {}),
    "adamax, all": (nn.adamax(0.1, 0.5, 0.8, 0.1, 0.2), adamax(0.5, 0.8, 0.1), {"coupled": 0.2}),
    "adam, amsgrad": (
        nn.adam(0.1, 0.5, 0.6, 1e-3, 0.2, amsgrad=True),
        amsgrad(0.5, 0.6, 1e-3),
        {"coupled": 0.2},
    ),
    "adamw, amsgrad": (
        nn.adamw(0.1, 0.5, 0.6, 1e-3, 0.2, amsgrad=True),
        amsgrad(0.5, 0.6, 1e-3),
        {"decoupled": 0.2},
    ),
    "nadam": (nn.nadam(0.1), nadam(0.9, 0.999, 1e-8, 4e-3), {}),
    "nadam, all": (
        nn.nadam(0.1, 0.5, 0.8, 0.1, 0.2, 0.3),
        nadam(0.5, 0.8, 0.1, 0.3),
        {"coupled": 0.2},
    ),
    "nadam, decoupled": (
        nn.nadam(0.1, weight_decay=0.2, decoupled=True),
        nadam(0.9, 0.999, 1e-8, 4e-3),
        {"decoupled": 0.2},
    ),
    "radam": (nn.radam(0.1), radam(0.9, 0.999, 1e-8), {}),
    "radam, all": (nn.radam(0.1, 0.5, 0.8, 0.1, 0.2), radam(0.5, 0.8, 0.1), {"coupled": 0.2}),
    "radam, never rectified": (nn.radam(0.1, 0.5, 0.5), radam(0.5, 0.5, 1e-8), {}),
    "lamb": (nn.lamb(0.1), lamb(0.9, 0.999, 1e-6, 0), {}),
    "lamb, all": (nn.lamb(0.1, 0.5, 0.8, 0.1, 0.2), lamb(0.5, 0.8, 0.1, 0.2), {}),
    "lion": (nn.lion(0.1), lion(0.9, 0.99), {}),
    "lion, all": (nn.lion(0.1, 0.5, 0.8, 0.2), lion(0.5, 0.8), {"decoupled": 0.2}),
    "rprop": (nn.rprop(0.1), rprop(0.5, 1.2, 1e-6, 50), {}),
    "rprop, all": (nn.rprop(0.1, 0.3, 2.0, 0.05, 0.15), rprop(0.3, 2.0, 0.05, 0.15), {}),
    "adafactor": (nn.adafactor(0.1), adafactor(-0.8, 2.0**-52, 1e-3, 1), {}),
    "adafactor, all": (
        nn.adafactor(0.1, -0.5, 0.5, 3.0, 0.7, 0.2),
        adafactor(-0.5, 0.5, 3.0, 0.7),
        {"decoupled": 0.2},
    ),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
@pytest.mark.parametrize("name", FORMULAS)
def test_others_are_pytorchs(name, wrap):
    optimizer, (step, slots), decays = FORMULAS[name]
    params, _ = run(optimizer, wrap=wrap)
    expected = reference(pytorchs, step=step, slots=slots, **decays)
    for ours, theirs in zip(fg.tree.leaves(params), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


SGD_OPTIONS = [
    {},
    {"weight_decay": 0.1},
    {"momentum": 0.9},
    {"momentum": 0.9, "weight_decay": 0.1},
    {"momentum": 0.9, "nesterov": True},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01},
    {"momentum": 0.9, "dampening": 0.3},
    {"dampening": 0.3},
]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
@pytest.mark.parametrize("options", SGD_OPTIONS, ids=str)
def test_sgd_is_pytorchs(options, wrap):
    params, _ = run(nn.sgd(0.1, **options), wrap=wrap)
    assert fg.tree.structure(params) == fg.tree.structure(START)
    for ours, theirs in zip(
        fg.tree.leaves(params), reference(torch_sgd, lr=0.1, **options), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_is_pytorchs(decoupled, weight_decay, wrap):
    make = nn.adamw if decoupled else nn.adam
    options = {"beta1": 0.8, "beta2": 0.99, "eps": 1e-6, "weight_decay": weight_decay}
    params, _ = run(make(0.1, **options), wrap=wrap)
    expected = reference(torch_adam, lr=0.1, decoupled=decoupled, **options)
    for ours, theirs in zip(fg.tree.leaves(params), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


OPTIMIZERS = {
    "sgd": nn.sgd(0.1, 0.9, nesterov=True, weight_decay=0.1),
    "scheduled": nn.sgd(lambda step: 0.1 * 0.9**step),
    "adam": nn.adam(lambda step: np.minimum(0.1, 0.02 * step), weight_decay=0.1),
    "adamw": nn.adamw(np.float64(0.1)),
    "damped": nn.sgd(0.1, 0.9, dampening=0.5),
    **{name: optimizer for name, (optimizer, _, _) in FORMULAS.items() if "all" in name},
    "clipped": nn.clip_by_global_norm(nn.adam(0.1), 100.0),
    "accumulated": nn.accumulate(nn.adam(0.1), 2),
    "averaged": nn.ema(nn.adam(0.1)),
    "frozen": nn.freeze(nn.adam(0.1), "b.0"),
    "groups": nn.groups({"w": nn.sgd(0.1), "*": nn.adam(0.1)}),
}
EACH = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))


@EACH
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
def test_float32_stays_float32_even_with_float64_gradients(optimizer, wrap):
    single = fg.tree.map(lambda p: p.astype(np.float32), START)
    params, state = run(optimizer, single, wrap=wrap)
    if isinstance(state, nn.NAdamState):
        # One number for all parameters, whatever their dtypes.
        state = state._replace(product=None)
    floats = [leaf for leaf in fg.tree.leaves((params, state)) if leaf.dtype.kind == "f"]
    assert {leaf.dtype for leaf in floats} == {np.dtype(np.float32)}


@EACH
def test_update_changes_none_of_its_arguments(optimizer):
    params = fg.tree.map(np.copy, START)
    state = optimizer.init(params)
    kept = fg.tree.map(np.copy, (GRADS[0], state, params))
    optimizer.update(GRADS[0], state, params)
    for before, after in zip(*map(fg.tree.leaves, (kept, (GRADS[0], state, params))), strict=True):
        np.testing.assert_array_equal(before, after)


@EACH
def test_ensemble_under_vmap(optimizer):
    stacked = [fg.tree.map(lambda p: np.stack([p, 2 * p]), tree) for tree in (START, *GRADS)]
    params, *grads = stacked
    state = fg.vmap(optimizer.init)(params)
    update = fg.vmap(optimizer.update)
    for g in grads:
        params, state = update(g, state, params)
    doubled = fg.tree.map(lambda p: 2 * p, START)
    expected, _ = run(optimizer, doubled, [fg.tree.map(lambda g: 2 * g, tree) for tree in GRADS])
    for ours, theirs in zip(fg.tree.leaves(params), fg.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours[1], theirs, rtol=1e-12)


@EACH
def test_training_loop_in_a_scan(optimizer):
    def step(carry, grads):
        params, state = carry
        return optimizer.update(grads, state, params), None

    stacked = fg.tree.map(lambda *g: np.stack(g), *GRADS)
    (params, _), _ = fg.jit(lambda p: fg.scan(step, (p, optimizer.init(p)), stacked))(START)
    expected, _ = run(optimizer)
    for ours, theirs in zip(fg.tree.leaves(params), fg.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_schedule_is_given_the_number_of_updates_before():
    seen = []

    def schedule(step):
        seen.append(int(step))
        return 0.5 if step < 2 else 0.0

    params, state = run(nn.sgd(schedule), np.zeros(1), [np.ones(1)] * 4)
    assert seen == [0, 1, 2, 3] and state.step == 4
    np.testing.assert_array_equal(params, [-1.0])


def test_derivative_with_respect_to_the_learning_rate():
    def trained(rate):
        params, _ = run(nn.sgd(rate), np.array([1.0, 2.0]), [np.array([3.0, -1.0])] * 2)
        return np.sum(params)

    assert fg.grad(trained)(0.1) == pytest.approx(-4.0)


def test_state_without_options_is_empty():
    assert nn.sgd(0.1).init(START) == nn.SGDState(step=None, velocity=None)
    assert fg.tree.leaves(nn.sgd(0.1).init(START)) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.sgd(-0.1), "sgd: learning_rate must not be negative, got -0.1"),
        (lambda: nn.sgd(float("nan")), "learning_rate must not be negative, got nan"),
        (lambda: nn.sgd("0.1"), "must be a number or a function of the step, not '0.1'"),
        (lambda: nn.sgd(0.1, momentum=-1), "momentum must not be negative"),
        (lambda: nn.sgd(0.1, weight_decay=-1), "weight_decay must not be negative"),
        (lambda: nn.sgd(0.1, nesterov=True), "nesterov=True needs momentum"),
        (lambda: nn.adam(eps=-1), "adam: eps must not be negative"),
        (lambda: nn.adamw(beta2=1.0), "adamw: betas must be from 0 to below 1, not 1.0"),
        (lambda: nn.sgd(0.1, 0.9, nesterov=True, dampening=0.1), "and no dampening"),
        (lambda: nn.rmsprop(alpha=1.0), "rmsprop: alpha must be from 0 to below 1, not 1.0"),
        (lambda: nn.adafactor(beta2_decay=0.1), "beta2_decay must be from -inf to 0, not 0.1"),
        (lambda: nn.adafactor(clip=0), "adafactor: clip must be positive"),
        (lambda: nn.rprop(0.1, grow=0.5), "rprop: grow must be 1 or more, not 0.5"),
        (lambda: nn.rprop(lambda step: 0.1), "the size of the first steps, no schedule"),
        (lambda: nn.lbfgs(history=0), "lbfgs: history must be an integer from 1 on, not 0"),
        (lambda: nn.sgd(lr=0.1), "sgd: instead of lr= write learning_rate="),
        (lambda: nn.adam(1e-3, betas=(0.9, 0.999)), "instead of betas= write beta1= and beta2="),
        (lambda: nn.sgd(START, 0.1), "first argument is the learning rate, .*optimizer.init"),
        (lambda: nn.sgd(nn.Linear(2, 2), 0.1), "not parameters or a model"),
        (lambda: nn.sgd(iter([]), 0.1), "must be a number or a function of the step"),
        (lambda: nn.adam(p for p in ()), "An optimiser keeps no parameters"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


@EACH
def test_gradients_that_do_not_fit(optimizer):
    state = optimizer.init(START)
    with pytest.raises(TreeMismatchError):
        optimizer.update({"w": GRADS[0]["w"]}, state, START)
    wrong = {**GRADS[0], "w": np.ones((5, 3, 2))}
    with pytest.raises(ShapeError, match=r"gradient at \['w'\] has shape \(5, 3, 2\).*\(3, 2\)"):
        optimizer.update(wrong, state, START)


# -- Misuse --------------------------------------------------------------------------------------


def test_arguments_of_update_in_another_order():
    optimizer = nn.adam()
    state = optimizer.init(START)
    for args, where in (
        ((START, GRADS[0], state), "; its third one is"),
        ((state, GRADS[0], START), "; its first one is"),
        ((GRADS[0], START, START), "a dict. Call"),
        ((GRADS[0], nn.sgd(0.1).init(START), START), "a SGDState. Call"),
    ):
        for update in optimizer.update, fg.jit(optimizer.update):
            with pytest.raises(ArgumentError, match="second argument must be the state") as caught:
                update(*args)
            assert where in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("step", r"params, state = optimizer.update\(grads, state, params\)"),
        ("zero_grad", "nothing to set to zero"),
        ("param_groups", "nn.groups"),
        ("state_dict", "nn.save"),
        ("load_state_dict", "nn.load"),
        ("anything", "no attribute 'anything'$"),
    ],
)
def test_what_pytorchs_optimizers_have_and_these_have_not(name, message):
    for optimizer in (nn.sgd(0.1), nn.Optimizer(lambda p: None, lambda g, s, p: (p, s))):
        assert not hasattr(optimizer, name)
        with pytest.raises(AttributeError, match=message):
            getattr(optimizer, name)


def test_optimizers_print_as_the_calls_that_make_them():
    assert repr(nn.sgd(0.1)) == "sgd(learning_rate=0.1)"
    assert repr(nn.adam()) == "adam(learning_rate=0.001)"
    assert repr(nn.adamw(np.float32(0.5), eps=1e-6)) == "adamw(learning_rate=0.5, eps=1e-06)"
    assert repr(nn.lion(np.minimum)) == "lion(learning_rate=minimum)"
    assert repr(nn.ema(nn.adam(0.1), 0.9)) == "ema(adam(learning_rate=0.1), decay=0.9)"
    optimizer = nn.adamw(decay="*.weight")
    assert repr(optimizer) == "adamw(learning_rate=0.001, decay='*.weight')"
    init, update = optimizer
    assert repr(nn.Optimizer(init, update)).startswith("Optimizer(init=<function")


# -- Weight decay --------------------------------------------------------------------------------

DECAYING = [
    make
    for make in vars(nn.optimizers).values()
    if "decay" in getattr(getattr(make, "__wrapped__", None), "__annotations__", {})
    if make is not nn.ema
]


@pytest.mark.parametrize("make", DECAYING, ids=lambda make: make.__name__)
@pytest.mark.parametrize("decay", ["w", lambda path, leaf: leaf.ndim == 2], ids=["pattern", "rule"])
def test_only_chosen_parameters_decay(make, decay):
    some, _ = run(make(0.1, weight_decay=0.3, decay=decay))
    every, _ = run(make(0.1, weight_decay=0.3))
    none, _ = run(make(0.1, weight_decay=0.0))
    assert not np.allclose(every["w"], none["w"])
    np.testing.assert_array_equal(some["w"], every["w"])
    for ours, theirs in zip(some["b"], none["b"], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_there_are_optimizers_whose_weights_decay():
    assert len(DECAYING) == 12


def test_patterns_that_fit_nothing():
    optimizer = nn.adamw(decay="*.weigth")
    state = optimizer.init(START)
    with pytest.raises(ArgumentError, match=r"'\*\.weigth'\. There are 'b\.0', 'b\.1', 'w'; "):
        optimizer.update(GRADS[0], state, START)
    with pytest.raises(ArgumentError, match="by a function of the path and the array, not by 3"):
        nn.freeze(nn.sgd(0.1), 3).init(START)


# -- L-BFGS --------------------------------------------------------------------------------------


def rosenbrock(params):
    x, y = params["x"], params["y"]
    return np.sum((1 - x) ** 2 + 100 * (y - x * x) ** 2)


def minimised(optimizer, loss, params, steps, wrap=lambda f: f):
    update = wrap(lambda state, params: optimizer.update(loss, state, params))
    state = optimizer.init(params)
    for _ in range(steps):
        params, state = update(state, params)
    return params, state


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=list(WRAPS))
def test_lbfgs_finds_a_minimum(wrap):
    start = {"x": np.array([-1.2, 0.5, 2.0]), "y": np.array([1.0, -1.0, 3.0])}
    params, state = minimised(nn.lbfgs(), rosenbrock, start, 140, wrap)
    np.testing.assert_allclose(params["x"], 1, rtol=1e-6)
    np.testing.assert_allclose(params["y"], 1, rtol=1e-6)
    assert state.value < 1e-12 and state.step == 140


def test_lbfgs_without_a_line_search():
    """PyTorch's formulas, with the inverse Hessian's estimate written out as a matrix."""
    matrix = np.diag([1.0, 3.0, 10.0]) + 0.3
    loss = lambda p: 0.5 * p @ matrix @ p + np.sum(np.cos(p))  # noqa: E731
    slope = lambda p: matrix @ p - np.sin(p)  # noqa: E731
    start, history, rate = np.array([1.0, -2.0, 3.0]), 2, 0.5
    p, pairs, g = start, [], slope(start)
    for i in range(6):
        inverse = np.eye(3)
        if pairs:
            s, y = pairs[-1]
            inverse *= s @ y / (y @ y)
        for s, y in pairs:
            v = np.eye(3) - np.outer(s, y) / (s @ y)
            inverse = v @ inverse @ v.T + np.outer(s, s) / (s @ y)
        move = -rate * (min(1, 1 / np.abs(g).sum()) if i == 0 else 1) * inverse @ g
        p, before = p + move, g
        g = slope(p)
        pairs = [*pairs, (move, g - before)][-history:]
    ours, _ = minimised(nn.lbfgs(rate, history, line_search=False), loss, start, 6)
    np.testing.assert_allclose(ours, p, rtol=1e-10)


def test_lbfgs_of_half_and_states():
    layer = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm(4), nn.Linear(4, 1))
    params = layer.init(0, 2)
    x = RNG.normal(size=(16, 2)).astype(np.float32)
    loss = lambda params: nn.mse(layer(params, x), x[:, :1] * x[:, 1:])  # noqa: E731
    moved, _ = minimised(nn.lbfgs(), loss, params, 5, fg.jit)
    assert loss(moved) < loss(params)
    assert moved[1]["running"].mean is params[1]["running"].mean or np.array_equal(
        moved[1]["running"].mean, params[1]["running"].mean
    )
    half = np.ones(3, np.float16)
    moved, state = minimised(nn.lbfgs(), lambda p: np.sum(np.square(p)), half, 3)
    assert moved.dtype == np.float16 and state.grad.dtype == np.float32
    np.testing.assert_allclose(moved, 0, atol=1e-3)


def test_lbfgs_leaves_parameters_where_no_step_is_better():
    moved, _ = minimised(nn.lbfgs(), lambda p: np.sum(p) * np.nan, np.ones(2), 2)
    np.testing.assert_array_equal(moved, 1)


def test_lbfgs_takes_the_loss_function():
    optimizer, params = nn.lbfgs(), {"x": np.array(1.0), "y": np.array(2.0)}
    state = optimizer.init(params)
    with pytest.raises(ArgumentError, match=r"the loss function, not the gradients"):
        optimizer.update(params, state, params)
    with pytest.raises(ArgumentError, match="second argument must be the state, a LBFGSState"):
        optimizer.update(rosenbrock, params, state)
    with pytest.raises(ShapeError, match="the state is that of 1 numbers, the parameters have 2"):
        optimizer.update(rosenbrock, optimizer.init(np.ones(1)), params)
    with pytest.raises(ArgumentError, match="there are no parameters"):
        optimizer.init({})
