"""A training step on a GPU, 784-512-512-10 in float32, by each way to take it: times in a table.

No row of the report, as it needs a GPU and CuPy: ``python -m benchmarks.device_step [BATCH]``.
All start from the same parameters and see the same batch; losses after the same number of steps are
compared. PyTorch and JAX take part where they are installed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np

import funcgrad as fg
from benchmarks import mlp

STEPS, ROUNDS = 20, 7

Step = Callable[[Any, Any, Any], tuple[Any, Any]]


def by_torch(batch: int) -> tuple[Step, Any, Any, Any, Callable[[], None]]:
    """PyTorch, eager, with parameters as in `mlp`."""
    import torch

    cuda = torch.device("cuda")
    params = {k: torch.from_numpy(v).to(cuda) for k, v in mlp.make_params().items()}
    for p in params.values():
        p.requires_grad_()
    x, y = (torch.from_numpy(a).to(cuda) for a in mlp.make_batch(batch))
    loss_fn = mlp.make_loss(torch.relu, torch.nn.functional.cross_entropy)

    def step(params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        loss = loss_fn(params, x, y)
        loss.backward()
        with torch.no_grad():
            for p in params.values():
                p -= mlp.RATE * p.grad
                p.grad = None
        return params, loss.detach()

    return step, params, x, y, torch.cuda.synchronize


def by_jax(batch: int) -> tuple[Step, Any, Any, Any, Callable[[], None]]:
    """JAX, compiled, on its default device."""
    import jax

    step = jax.jit(mlp.jax_step(), donate_argnums=0)
    params, data = jax.tree.map(jax.numpy.array, (mlp.make_params(), mlp.make_batch(batch)))
    last: list[Any] = [params]

    def kept(params: Any, x: Any, y: Any) -> tuple[Any, Any]:
        last[0] = result = step(params, x, y)
        return result

    return kept, params, *data, lambda: jax.block_until_ready(last[0])


def measure(name: str, step: Step, params: Any, x: Any, y: Any, wait: Callable[[], object]) -> None:
    """Print the best time of a step, of the host's part of it, and the last loss."""
    loss: Any = None
    started = time.perf_counter()
    params, loss = step(params, x, y)
    wait()
    first = time.perf_counter() - started
    for _ in range(STEPS - 1):
        params, loss = step(params, x, y)
    wait()
    whole, asked = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(STEPS):
            params, loss = step(params, x, y)
        asked.append((time.perf_counter() - started) / STEPS)
        wait()
        whole.append((time.perf_counter() - started) / STEPS)
    times = "".join(f"{1e6 * t:12.0f}" for t in (min(whole), median(whole), min(asked)))
    print(f"{name:32}{1e3 * first:11.1f}{times}   {float(loss):.6f}", flush=True)


def main(batch: int) -> None:
    """Measure all, the host's first."""
    cp = import_module("cupy")
    print(f"batch {batch}: {STEPS} steps a round, {ROUNDS} rounds; microseconds a step")
    print(f"{'':32}{'first, ms':>11}{'best':>12}{'median':>12}{'launching':>12}   loss")
    step = mlp.funcgrad_step()
    host = mlp.make_params(), *mlp.make_batch(batch)
    anchor = cp.zeros(())
    wait = cp.cuda.get_current_stream().synchronize

    def on_device() -> Any:
        return fg.device_put((mlp.make_params(), *mlp.make_batch(batch)), anchor)

    compiled = fg.jit(step, backend="numpy")
    ways: dict[str, Callable[[], Any]] = {
        "host: funcgrad eager": lambda: (step, *host, int),
        "host: funcgrad jit, NumPy": lambda: (compiled, *host, int),
        "host: NumPy by hand": lambda: (mlp.step_by_hand, *fg.tree.map(np.copy, host), int),
        "device: funcgrad eager": lambda: (step, *on_device(), wait),
        "device: funcgrad jit": lambda: (compiled, *on_device(), wait),
        "device: CuPy by hand": lambda: (mlp.step_by_hand, *on_device(), wait),
        "device: PyTorch eager": lambda: by_torch(batch),
        "device: JAX jit": lambda: by_jax(batch),
    }
    for name, make in ways.items():
        try:
            measure(name, *make())
        except Exception as error:
            print(f"{name:32}  {type(error).__name__}: {error}"[:400], flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
