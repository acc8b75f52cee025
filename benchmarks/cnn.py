"""Steps of training convolutional networks, in every library: the one for CIFAR-10, and LeNet.

As in `mlp`, all start from the same parameters and see the same batch. Images have their channels
first; PyTorch runs the larger network with channels last as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Contender, Plan, Result, check_agreement, compare
from benchmarks.stepper import Stepper

CHANNELS, WIDTHS = (3, 32, 64, 128, 128, 256, 256), (4096, 1024, 512, 10)
BATCH, RATE, LENET_RATE = 128, 1e-3, 0.9
LENET_BATCH = 256
PLAN = Plan(rounds=5, repeats=2, loop_s=0.0, pause_s=0.3)
LENET_PLAN = Plan(rounds=9, repeats=3, loop_s=0.0, pause_s=0.3)
TORCH_LAST = "PyTorch, channels last"

Params = dict[str, Any]


def make_params() -> Params:
    """Kernels (outputs, inputs, 3, 3), weights (inputs, outputs), and biases of zeros."""
    rng = np.random.default_rng(0)
    params: Params = {}
    for layer, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
        kernel = rng.standard_normal((outputs, inputs, 3, 3), dtype=np.float32)
        params[f"c{layer}"] = kernel * np.float32((9 * inputs) ** -0.5)
        params[f"cb{layer}"] = np.zeros(outputs, np.float32)
    for layer, (inputs, outputs) in enumerate(pairwise(WIDTHS)):
        weight = rng.standard_normal((inputs, outputs), dtype=np.float32)
        params[f"l{layer}"] = weight * np.float32(inputs**-0.5)
        params[f"lb{layer}"] = np.zeros(outputs, np.float32)
    return params


def make_batch() -> tuple[np.ndarray, np.ndarray]:
    """Images (128, 3, 32, 32) float32 and classes int64."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((BATCH, 3, 32, 32), dtype=np.float32)
    return x, rng.integers(0, 10, BATCH)


def make_step(
    conv: Callable[[Any, Any], Any],
    pool: Callable[[Any], Any],
    relu: Callable[[Any], Any],
    cross_entropy: Callable[[Any, Any], Any],
    value_and_grad: Callable[..., Any],
) -> Callable[..., Any]:
    """Stochastic gradient descent, spelled once; each library brings its own functions."""

    def loss(params: Params, x: Any, y: Any) -> Any:
        for layer in range(len(CHANNELS) - 1):
            bias = params[f"cb{layer}"].reshape((-1, 1, 1))
            x = relu(conv(x, params[f"c{layer}"]) + bias)
            x = pool(x) if layer % 2 else x
        x = x.reshape((BATCH, WIDTHS[0]))
        for layer in range(len(WIDTHS) - 1):
            x = x @ params[f"l{layer}"] + params[f"lb{layer}"]
            x = relu(x) if layer < len(WIDTHS) - 2 else x
        return cross_entropy(x, y)

    evaluate = value_and_grad(loss)

    def step(params: Params, x: Any, y: Any) -> tuple[Params, Any]:
        loss, grads = evaluate(params, x, y)
        return {name: params[name] - RATE * grads[name] for name in params}, loss

    return step


def funcgrad_step() -> Callable[..., Any]:
    """The step before it is compiled."""
    import funcgrad as fg
    import funcgrad_nn as nn

    return make_step(
        partial(fg.conv, padding="same"),
        partial(fg.max_pool, window=2),
        lambda x: np.maximum(x, 0),
        nn.cross_entropy,
        fg.value_and_grad,
    )


def funcgrad_contender() -> Contender:
    """Compiled, the old parameters given up."""
    import funcgrad as fg

    step = fg.jit(funcgrad_step(), donate_argnums=0)
    return Stepper(step, make_params(), *make_batch()).contender(functions.OURS)


def jax_step() -> Callable[..., Any]:
    """The step before it is compiled."""
    import jax
    import jax.numpy as jnp

    def cross_entropy(logits: Any, y: Any) -> Any:
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1)
        return -jnp.mean(picked)

    def pool(x: Any) -> Any:
        window = (1, 1, 2, 2)
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")

    return make_step(
        lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME"),
        pool,
        jax.nn.relu,
        cross_entropy,
        jax.value_and_grad,
    )


def torch_contender(last: bool = False) -> Contender:
    """As its users write it."""
    import torch
    from torch import nn

    layers: list[Any] = []
    for layer, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if layer % 2 else []
    layers.append(nn.Flatten())
    for inputs, outputs in pairwise(WIDTHS):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    model, params = nn.Sequential(*layers[:-1]), make_params()
    found = {
        "c": [m for m in model if isinstance(m, nn.Conv2d)],
        "l": [m for m in model if isinstance(m, nn.Linear)],
    }
    views = {}
    with torch.no_grad():
        for kind, modules in found.items():
            for number, module in enumerate(modules):
                weight = params[f"{kind}{number}"]
                turned = weight.T if kind == "l" else weight
                module.weight.copy_(torch.from_numpy(turned))
                module.bias.zero_()
                views[f"{kind}{number}"] = module.weight.T if kind == "l" else module.weight
                views[f"{kind}b{number}"] = module.bias
    x, y = (torch.from_numpy(part) for part in make_batch())
    if last:
        model, x = (part.to(memory_format=torch.channels_last) for part in (model, x))
    return _torch_contender(model, views, (x, y), RATE, TORCH_LAST if last else "PyTorch")


def _torch_contender(model: Any, views: Params, batch: Any, rate: float, name: str) -> Contender:
    import torch

    optimizer = torch.optim.SGD(model.parameters(), lr=rate)

    def step(params: Params, x: Any, y: Any) -> tuple[Params, Any]:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return params, loss.detach()

    return Stepper(step, views, *batch).contender(name, detach=lambda value: value.detach())


BUILDERS: dict[str, Callable[[], Contender]] = {
    functions.OURS: funcgrad_contender,
    "PyTorch": torch_contender,
    TORCH_LAST: partial(torch_contender, last=True),
}


def measure_step() -> list[Result]:
    """A step of each network beside PyTorch's."""
    contenders = [build() for build in BUILDERS.values()]
    check_agreement(contenders, calls=1, rtol=1e-2, atol=1e-3)
    bars = {"PyTorch": Bar(0.5), TORCH_LAST: Bar(0.6)}
    what = f"training step of the CNN for CIFAR-10, batch {BATCH}, float32"
    results = compare(what, contenders, bars, PLAN)
    lenet = [_lenet(), _lenet_of_torch()]
    what = f"training step of LeNet, batch {LENET_BATCH}, float32"
    return [*results, *compare(what, lenet, {"PyTorch": Bar(0.5)}, LENET_PLAN)]


def _lenet_batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.random((LENET_BATCH, 1, 28, 28), dtype=np.float32)
    return x, rng.integers(0, 10, LENET_BATCH)


def _lenet() -> Contender:
    import funcgrad as fg
    import funcgrad_nn as nn

    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)),
    )
    optimizer = nn.sgd(LENET_RATE)

    def step(params: Any, x: Any, y: Any) -> Any:
        def loss(params: Any) -> Any:
            return nn.cross_entropy(model(params, x), y)

        value, grads = fg.value_and_grad(loss)(params)
        return optimizer.update(grads, optimizer.init(params), params)[0], value

    params = model.init(0, (1, 28, 28))
    run = fg.jit(step, donate_argnums=0)
    return Stepper(run, params, *_lenet_batch()).contender(functions.OURS)


def _lenet_of_torch() -> Contender:
    import torch
    from torch import nn

    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)),
    )
    batch = tuple(torch.from_numpy(part) for part in _lenet_batch())
    return _torch_contender(model, dict(model.named_parameters()), batch, LENET_RATE, "PyTorch")
