"""The quickstart's network, 784-512-512-10 with ReLU, in every library: one step of training.

``BUILDERS`` maps a library's name to a function that makes its contender; each starts from the same
parameters and sees the same batch, so that losses and parameters can be compared after any number
of steps. Peers are written as their own users would write them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Contender, Plan, Result, Work, check_agreement, compare
from benchmarks.stepper import Stepper

SIZES = (784, 512, 512, 10)
BATCH = 64
TRAINING = {64: 0.85, 1024: 0.95}  # batch sizes, and the bars beside the better of two peers
RATE = 1e-3

Params = dict[str, Any]


def make_params() -> Params:
    """Weights (inputs, outputs) and biases, float32, uniform as in PyTorch's Linear."""
    rng = np.random.default_rng(0)
    params: Params = {}
    for layer, (inputs, outputs) in enumerate(pairwise(SIZES), start=1):
        bound = inputs**-0.5
        params[f"w{layer}"] = rng.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)
        params[f"b{layer}"] = rng.uniform(-bound, bound, outputs).astype(np.float32)
    return params


def make_batch(size: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Images (size, 784) float32 in [0, 1] and classes (size,) int64."""
    rng = np.random.default_rng(1)
    return rng.random((size, SIZES[0]), dtype=np.float32), rng.integers(0, SIZES[-1], size)


def make_loss(
    relu: Callable[[Any], Any], cross_entropy: Callable[[Any, Any], Any]
) -> Callable[[Params, Any, Any], Any]:
    """The network and its loss, spelled once; each library brings its own two functions."""

    def loss(params: Params, x: Any, y: Any) -> Any:
        hidden = relu(x @ params["w1"] + params["b1"])
        hidden = relu(hidden @ params["w2"] + params["b2"])
        return cross_entropy(hidden @ params["w3"] + params["b3"], y)

    return loss


def make_step(value_and_grad: Callable[..., Any]) -> Callable[..., Any]:
    """Stochastic gradient descent as a pure function ``params, x, y -> params, loss``."""

    def step(params: Params, x: Any, y: Any) -> tuple[Params, Any]:
        loss, grads = value_and_grad(params, x, y)
        return {name: params[name] - RATE * grads[name] for name in params}, loss

    return step


def step_by_hand(params: Params, x: Any, y: Any) -> tuple[Params, Any]:
    """NumPy, or CuPy, alone: manual backward pass, temporaries reused, parameters updated in
    place."""
    w1, b1, w2, b2, w3, b3 = (params[name] for name in ("w1", "b1", "w2", "b2", "w3", "b3"))
    rows = np.arange(len(y), like=y)

    hidden1 = x @ w1
    hidden1 += b1
    np.maximum(hidden1, 0, out=hidden1)
    hidden2 = hidden1 @ w2
    hidden2 += b2
    np.maximum(hidden2, 0, out=hidden2)
    logits = hidden2 @ w3
    logits += b3

    logits -= logits.max(axis=1, keepdims=True)
    picked = logits[rows, y]
    probs = np.exp(logits, out=logits)
    total = probs.sum(axis=1, keepdims=True)
    loss = (np.log(total[:, 0]) - picked).mean()

    d_logits = np.divide(probs, total, out=probs)
    d_logits[rows, y] -= 1
    d_logits /= len(y)
    d_hidden2 = d_logits @ w3.T
    d_hidden2 *= hidden2 > 0
    d_hidden1 = d_hidden2 @ w2.T
    d_hidden1 *= hidden1 > 0

    layers = ((w3, b3, hidden2, d_logits), (w2, b2, hidden1, d_hidden2), (w1, b1, x, d_hidden1))
    for weight, bias, inputs, d_outputs in layers:
        d_weight = inputs.T @ d_outputs
        d_weight *= RATE
        weight -= d_weight
        bias -= RATE * d_outputs.sum(axis=0)
    return params, loss


def numpy_contender(batch: int = BATCH) -> Contender:
    """The step written by hand."""
    return Stepper(step_by_hand, make_params(), *make_batch(batch)).contender("NumPy by hand")


def funcgrad_step() -> Callable[..., Any]:
    """The step before it is compiled."""
    import funcgrad as fg
    import funcgrad_nn as nn

    loss = make_loss(lambda x: np.maximum(x, 0), nn.cross_entropy)
    return make_step(fg.value_and_grad(loss))


def funcgrad_contender(
    batch: int = BATCH, backend: str | None = "numpy", name: str = functions.OURS
) -> Contender:
    """The same functions, differentiated and compiled, the old parameters given up."""
    import funcgrad as fg

    step = fg.jit(funcgrad_step(), donate_argnums=0, backend=backend)
    return Stepper(step, make_params(), *make_batch(batch)).contender(name)


def jax_step() -> Callable[..., Any]:
    """The step before it is compiled."""
    import jax
    import jax.numpy as jnp

    def cross_entropy(logits: Any, y: Any) -> Any:
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -jnp.mean(picked)

    return make_step(jax.value_and_grad(make_loss(jax.nn.relu, cross_entropy)))


def jax_contender(batch: int = BATCH) -> Contender:
    """Compiled by XLA, the old parameters given up for the new ones."""
    import jax
    import jax.numpy as jnp

    step = jax.jit(jax_step(), donate_argnums=0)
    params, data = jax.tree.map(jnp.array, (make_params(), make_batch(batch)))
    return Stepper(step, params, *data).contender("JAX jit", jax.block_until_ready)


def torch_contender(batch: int = BATCH, compiled: bool = False) -> Contender:
    """With the parts of PyTorch's quickstart: eager, or the model and its loss compiled."""
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    params = make_params()
    with torch.no_grad():
        for layer, linear in enumerate(model[::2], start=1):
            linear.weight.copy_(torch.from_numpy(params[f"w{layer}"].T))
            linear.bias.copy_(torch.from_numpy(params[f"b{layer}"]))
    cross_entropy, optimizer = nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=RATE)

    def loss_fn(x: Any, y: Any) -> Any:
        return cross_entropy(model(x), y)

    evaluate = torch.compile(loss_fn) if compiled else loss_fn

    def step(params: Params, x: Any, y: Any) -> tuple[Params, Any]:
        loss = evaluate(x, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return params, loss.detach()

    views = {}
    for layer, linear in enumerate(model[::2], start=1):
        views[f"w{layer}"], views[f"b{layer}"] = linear.weight.T, linear.bias
    stepper = Stepper(step, views, *(torch.from_numpy(part) for part in make_batch(batch)))
    name = functions.COMPILED_TORCH if compiled else "PyTorch"
    return stepper.contender(name, detach=lambda value: value.detach())


def autograd_contender() -> Contender:
    """HIPS autograd, which runs the plain NumPy functions through its own namespace."""
    import autograd
    import autograd.numpy as anp
    from autograd.scipy.special import logsumexp

    def cross_entropy(logits: Any, y: Any) -> Any:
        return anp.mean(logsumexp(logits, axis=1) - logits[anp.arange(len(y)), y])

    step = make_step(autograd.value_and_grad(make_loss(lambda x: anp.maximum(x, 0), cross_entropy)))
    return Stepper(step, make_params(), *make_batch()).contender("HIPS autograd")


BUILDERS: dict[str, Callable[[], Contender]] = {
    "funcgrad": funcgrad_contender,
    "NumPy by hand": numpy_contender,
    "JAX jit": jax_contender,
    "PyTorch": torch_contender,
    "HIPS autograd": autograd_contender,
}


def measure_step() -> list[Result]:
    """A compiled step of training, float32, batch 64."""
    contenders = [build() for build in BUILDERS.values()]
    check_agreement(contenders, rtol=1e-3, atol=1e-5)
    plan = Plan(rounds=31, repeats=3, loop_s=40e-3)  # outlasts other libraries' spinning threads
    what = "MLP step jitted for NumPy (784-512-512-10, batch 64)"
    return compare(what, contenders, {"NumPy by hand": Bar(1.05)}, plan)


def measure_training() -> list[Result]:
    """A compiled step of training by the backend that `jit` chooses, float32, two batch sizes."""
    return [result for batch, limit in TRAINING.items() for result in _training(batch, limit)]


def _training(batch: int, limit: float) -> list[Result]:
    contenders = [
        funcgrad_contender(batch, backend=None),
        funcgrad_contender(batch, name=functions.OURS_ON_NUMPY),
        jax_contender(batch),
        torch_contender(batch),
        *([torch_contender(batch, compiled=True)] if functions.can_compile_torch() else []),
        numpy_contender(batch),
    ]
    check_agreement(contenders, rtol=1e-3, atol=1e-5)
    plan = Plan(rounds=15, repeats=3, loop_s=60e-3)  # as above
    what = f"jitted MLP step (784-512-512-10, batch {batch})"
    # Three products a layer, but for the gradient by the images.
    weights = [inputs * outputs for inputs, outputs in pairwise(SIZES)]
    work = Work(flops=2 * batch * (3 * sum(weights) - weights[0]))
    return compare(what, contenders, {("JAX jit", "PyTorch"): Bar(limit)}, plan, work=work)


def measure_trace() -> list[Result]:
    """From the Python function to the graph of the whole step, nothing compiled."""
    import jax

    import funcgrad as fg

    ours, theirs, args = funcgrad_step(), jax_step(), (make_params(), *make_batch())
    contenders = [
        Contender("funcgrad", lambda: fg.make_graph(_anew(ours))(*args)),
        Contender("JAX", lambda: jax.make_jaxpr(_anew(theirs))(*args)),
    ]
    return compare("tracing the MLP step", contenders, {}, Plan(rounds=21, repeats=1, loop_s=0.0))


def measure_compile() -> list[Result]:
    """The first call of a jitted step: tracing, compiling and one run."""
    import jax

    import funcgrad as fg

    ours, theirs, args = funcgrad_step(), jax_step(), (make_params(), *make_batch())
    contenders = [
        Contender("funcgrad", lambda: fg.jit(_anew(ours), backend="numpy")(*args)),
        Contender("JAX jit", lambda: jax.block_until_ready(jax.jit(_anew(theirs))(*args))),
    ]
    what = "first call of the MLP step jitted for NumPy (trace, compile, run)"
    return compare(what, contenders, {}, Plan(rounds=15, repeats=1, loop_s=0.0))


def _anew(step: Callable[..., Any]) -> Callable[..., Any]:
    """The same function as another object, of which no cache knows."""
    return lambda *args: step(*args)
