"""Logistic regression on four points: the overhead of each library, with hardly any arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import functions
from benchmarks.harness import Bar, Contender, Result, check_agreement, compare
from benchmarks.stepper import Stepper

RATE = 1e-2
X = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
Y = np.array([0.0, 1.0, 0.0, 1.0])
START = {"w": np.array([0.3, -0.2]), "b": np.array(0.1)}

Loss = Callable[[Any, Any, Any], Any]


def make_loss(xp: Any) -> Loss:
    """The loss, spelled once for all libraries; ``xp`` is the library's NumPy-like namespace."""

    def loss(params: Any, x: Any, y: Any) -> Any:
        preds = 0.5 * (xp.tanh(0.5 * (x @ params["w"] + params["b"])) + 1.0)
        label_probs = preds * y + (1.0 - preds) * (1.0 - y)
        return -xp.sum(xp.log(label_probs))

    return loss


def value_and_grad_by_hand(params: dict[str, Any], x: Any, y: Any) -> tuple[Any, dict[str, Any]]:
    """What one writes with NumPy alone: the chain rule, each intermediate computed once."""
    preds = 0.5 * (np.tanh(0.5 * (x @ params["w"] + params["b"])) + 1.0)
    misses = 1.0 - preds
    label_probs = preds * y + misses * (1.0 - y)
    loss = -np.log(label_probs).sum()
    d_logits = (1.0 - 2.0 * y) / label_probs * (preds * misses)
    return loss, {"w": d_logits @ x, "b": d_logits.sum()}


def value_and_grad_simplified(params: dict[str, Any], x: Any, y: Any) -> tuple[Any, dict[str, Any]]:
    """The same with pencil and paper first: for targets of 0 and 1 the slope is ``preds - y``."""
    preds = 0.5 * (np.tanh(0.5 * (x @ params["w"] + params["b"])) + 1.0)
    loss = -np.log(preds * y + (1.0 - preds) * (1.0 - y)).sum()
    d_logits = preds - y
    return loss, {"w": d_logits @ x, "b": d_logits.sum()}


def make_step(value_and_grad: Callable[..., Any]) -> Callable[..., Any]:
    """One step of gradient descent as a pure function ``params, x, y -> params, loss``."""

    def step(params: Any, x: Any, y: Any) -> Any:
        loss, grads = value_and_grad(params, x, y)
        params = {"w": params["w"] - RATE * grads["w"], "b": params["b"] - RATE * grads["b"]}
        return params, loss

    return step


def measure_eager() -> list[Result]:
    """Value and gradient without compilation: recording, differentiation and arithmetic."""
    import autograd
    import autograd.numpy as anp
    import jax
    import jax.numpy as jnp

    import funcgrad as fg

    def evaluation(name: str, value_and_grad: Callable[..., Any], convert: Any) -> Contender:
        params = {name: convert(value) for name, value in START.items()}
        x, y = convert(X), convert(Y)
        return _evaluation(name, lambda: value_and_grad(params, x, y))

    loss_of_autograd = make_loss(anp)
    # Two arguments suit it better than one dict (0.85 of the time).
    positional = autograd.value_and_grad(
        lambda w, b, x, y: loss_of_autograd({"w": w, "b": b}, x, y), argnum=(0, 1)
    )

    def of_autograd(params: Any, x: Any, y: Any) -> Any:
        value, (w, b) = positional(params["w"], params["b"], x, y)
        return value, {"w": w, "b": b}

    contenders = [
        evaluation("funcgrad", fg.value_and_grad(make_loss(np)), np.asarray),
        evaluation("HIPS autograd", of_autograd, np.asarray),
        _torch_evaluation(),
        evaluation("JAX without jit", jax.value_and_grad(make_loss(jnp)), jnp.asarray),
        evaluation("NumPy by hand", value_and_grad_by_hand, np.asarray),
    ]
    check_agreement(contenders)
    what = "eager `value_and_grad`, logistic loss (4×2)"
    return compare(what, contenders, {"HIPS autograd": Bar(0.4)})


def measure_step() -> list[Result]:
    """A compiled step of gradient descent."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg

    ours = fg.jit(make_step(fg.value_and_grad(make_loss(np))), backend="numpy")
    theirs = jax.jit(make_step(jax.value_and_grad(make_loss(jnp))))
    start = {name: jnp.asarray(value) for name, value in START.items()}
    contenders = [
        Stepper(ours, START, X, Y).contender("funcgrad"),
        Stepper(make_step(value_and_grad_by_hand), START, X, Y).contender("NumPy by hand"),
        Stepper(make_step(value_and_grad_simplified), START, X, Y).contender(
            "NumPy by hand, slope simplified to p − y"
        ),
        Stepper(theirs, start, jnp.asarray(X), jnp.asarray(Y)).contender(
            "JAX jit", jax.block_until_ready
        ),
        _torch_stepper(),
    ]
    check_agreement(contenders)
    what = "SGD step jitted for NumPy, logistic loss (4×2)"
    return compare(what, contenders, {"NumPy by hand": Bar(1.2)})


def measure_small_step() -> list[Result]:
    """A compiled step by the backend that `jit` chooses, called from Python."""
    import jax
    import jax.numpy as jnp

    import funcgrad as fg
    from benchmarks import by_numba

    def of_numba(params: Any, x: Any, y: Any) -> Any:
        w, b, loss = by_numba.logistic_step(params["w"], params["b"], x, y, RATE)
        return {"w": w, "b": b}, loss

    step = make_step(fg.value_and_grad(make_loss(np)))
    theirs = jax.jit(make_step(jax.value_and_grad(make_loss(jnp))))
    start, x, y = jax.tree.map(jnp.asarray, (START, X, Y))
    on_numpy = fg.jit(step, backend="numpy")
    contenders = [
        Stepper(fg.jit(step), START, X, Y).contender(functions.OURS),
        Stepper(on_numpy, START, X, Y).contender(functions.OURS_ON_NUMPY),
        Stepper(theirs, start, x, y).contender("JAX jit", jax.block_until_ready),
        Stepper(of_numba, {**START, "b": float(START["b"])}, X, Y).contender("numba by hand"),
        Stepper(make_step(value_and_grad_by_hand), START, X, Y).contender("NumPy by hand"),
        _torch_stepper(),
    ]
    check_agreement(contenders)
    what = "jitted SGD step, logistic loss (4×2), called from Python"
    return compare(what, contenders, {"JAX jit": Bar(0.3)})


def _evaluation(name: str, evaluate: Callable[[], Any]) -> Contender:
    def outcome() -> tuple[object, ...]:
        value, grads = evaluate()
        return value, grads["w"], grads["b"]

    return Contender(name, evaluate, outcome=outcome)


def _torch_evaluation() -> Contender:
    import torch

    loss_fn = make_loss(torch)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in START.items()}
    leaves, x, y = tuple(params.values()), torch.tensor(X), torch.tensor(Y)

    def evaluate() -> Any:
        loss = loss_fn(params, x, y)
        return loss.detach(), dict(zip(params, torch.autograd.grad(loss, leaves), strict=True))

    return _evaluation("PyTorch", evaluate)


def _torch_stepper() -> Contender:
    """The idiom of PyTorch's own introduction: gradients by ``backward``, update in place."""
    import torch

    loss_fn = make_loss(torch)

    def step(params: Any, x: Any, y: Any) -> Any:
        loss = loss_fn(params, x, y)
        loss.backward()
        with torch.no_grad():
            for value in params.values():
                value -= RATE * value.grad
                value.grad = None
        return params, loss.detach()

    params = {name: torch.tensor(value, requires_grad=True) for name, value in START.items()}
    stepper = Stepper(step, params, torch.tensor(X), torch.tensor(Y))
    return stepper.contender("PyTorch", detach=lambda value: value.detach())
