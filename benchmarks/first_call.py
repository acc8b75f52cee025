"""First calls of jitted functions, each in a fresh process: tracing, compiling and one run.

Libraries are imported, and arguments made, before the clock starts. What a library imports only
when it compiles is part of its first call.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks import cnn, functions, mlp, transformer, unrolled
from benchmarks.harness import Bar, Result, check_agreement

CACHED = "funcgrad, from the disk cache"
JAX = "JAX jit"
CACHED_LIMIT_S = 30e-3
ROUNDS = {"mlp": 7, "transformer": 3, "unrolled": 3, "cnn": 3}


def measure_mlp() -> list[Result]:
    """The quickstart's step of training; also with the cache that an earlier process filled."""
    names = [*NAMES, *([functions.COMPILED_TORCH] if functions.can_compile_torch() else [])]
    samples = _rounds("mlp", names)
    what = "first call of the jitted MLP step (trace, compile, run)"
    results = _against("funcgrad", what, samples, {JAX: Bar(0.35)})
    warm = samples[CACHED]
    limit = Bar(CACHED_LIMIT_S)
    absolute = Result(f"{what}, from the disk cache", "", warm, (), warm, limit, figure_unit="s")
    return [*results, absolute]


def measure_transformer() -> list[Result]:
    """Value and gradient of the stack of blocks."""
    args = transformer.make_params(), transformer.make_tokens()
    check_agreement(
        [
            functions.ours(transformer.funcgrad_function(), *args)[0],
            functions.jax(transformer.jax_function(), *args),
        ],
        calls=1,
        rtol=1e-2,
        atol=1e-4,
    )
    samples = _rounds("transformer", NAMES)
    what = f"first call of a jitted stack of {transformer.LAYERS} transformer blocks"
    return _against("funcgrad", what, samples, {JAX: Bar(0.25)})


def measure_cnn() -> list[Result]:
    """A step of training the network for CIFAR-10."""
    samples = _rounds("cnn", [functions.OURS, CACHED, JAX])
    what = "first call of the jitted training step of the CNN for CIFAR-10"
    return _against("funcgrad", what, samples, {JAX: Bar(0.4)})


def measure_unrolled() -> list[Result]:
    """The gradient of a loop of a hundred rounds in Python."""
    args = unrolled.make_parameters()
    check_agreement(
        [
            functions.ours(unrolled.funcgrad_function(), *args)[0],
            functions.jax(unrolled.jax_function(), *args),
        ],
        calls=1,
    )
    samples = _rounds("unrolled", NAMES)
    what = f"first call of the jitted gradient of a Markov model's {unrolled.STEPS} steps, unrolled"
    return _against("funcgrad", what, samples, {JAX: Bar(0.35)})


def _rounds(workload: str, names: list[str]) -> dict[str, tuple[float, ...]]:
    """Seconds of each contender's first calls, in turns; that of `torch.compile` only once."""
    samples: dict[str, list[float]] = {name: [] for name in names}
    for index in range(ROUNDS[workload]):
        with TemporaryDirectory() as folder:
            for name in names:
                if name != functions.COMPILED_TORCH or index == 0:
                    samples[name].append(_in_fresh_process(name, workload, folder))
    return {name: tuple(values) for name, values in samples.items()}


def _in_fresh_process(name: str, workload: str, folder: str) -> float:
    # An installed package has its bytecode; so has an editable one, after the first import.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"FUNCGRAD_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder}
    command = [sys.executable, "-m", "benchmarks.first_call", workload, name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def _against(
    ours: str, what: str, samples: dict[str, tuple[float, ...]], bars: dict[str, Bar]
) -> list[Result]:
    results = []
    for name, theirs in samples.items():
        if name != ours:
            pairs = list(zip(samples[ours], theirs, strict=False))
            figures = tuple(a / b for a, b in pairs)
            results.append(Result(what, name, samples[ours], theirs, figures, bars.get(name)))
    return results


# -- In the fresh process ------------------------------------------------------------------------


def _funcgrad(workload: str, backend: str | None = None) -> Callable[[], object]:
    import funcgrad as fg

    function, args = _workload(workload, "funcgrad")
    return lambda: fg.jit(function, backend=backend)(*args)


def _jax(workload: str) -> Callable[[], object]:
    """With arguments on the device, so that making a client of XLA is no part of the call."""
    import jax

    function, args = _workload(workload, "jax")
    on_device = jax.block_until_ready(jax.tree.map(jax.numpy.asarray, args))
    return lambda: jax.block_until_ready(jax.jit(function)(*on_device))


def _torch(workload: str) -> Callable[[], object]:
    assert workload == "mlp"
    return mlp.torch_contender(compiled=True).call


def _workload(name: str, library: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    if name in ("mlp", "cnn"):
        module = mlp if name == "mlp" else cnn
        return getattr(module, f"{library}_step")(), (module.make_params(), *module.make_batch())
    if name == "unrolled":
        return getattr(unrolled, f"{library}_function")(), unrolled.make_parameters()
    args = transformer.make_params(), transformer.make_tokens()
    return getattr(transformer, f"{library}_function")(), args


# The cache is filled by the first of them, and read by the second.
MAKERS: dict[str, Callable[[str], Callable[[], object]]] = {
    functions.OURS: _funcgrad,
    CACHED: _funcgrad,
    functions.OURS_ON_NUMPY: lambda workload: _funcgrad(workload, backend="numpy"),
    JAX: _jax,
    functions.COMPILED_TORCH: _torch,
}
NAMES = [functions.OURS, CACHED, functions.OURS_ON_NUMPY, JAX]


def _seconds(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


if __name__ == "__main__":
    print(json.dumps(_seconds(MAKERS[sys.argv[2]](sys.argv[1]))))
