"""The rows of the table, by the name that ``python -m benchmarks NAME`` takes."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from benchmarks.harness import Result

ROWS = {
    "import": "benchmarks.imports:measure",
    "eager": "benchmarks.logistic:measure_eager",
    "step": "benchmarks.logistic:measure_step",
    "mlp": "benchmarks.mlp:measure_step",
    "scan": "benchmarks.scan:measure_logistic",
    "pendulum": "benchmarks.scan:measure_pendulum",
    "dispatch": "benchmarks.dispatch:measure",
    "dataloader": "benchmarks.dataloader:measure",
    "transforms": "benchmarks.transforms:measure",
    "files": "benchmarks.files:measure",
    "trace": "benchmarks.mlp:measure_trace",
    "compile": "benchmarks.mlp:measure_compile",
    "memory": "benchmarks.memory:measure",
    "fused": "benchmarks.fused:measure",
    "cross-entropy": "benchmarks.cross_entropy:measure",
    "layer-norm": "benchmarks.layer_norm:measure",
    "black-scholes": "benchmarks.black_scholes:measure",
    "n-body": "benchmarks.n_body:measure",
    "mixture": "benchmarks.mixture:measure",
    "adam": "benchmarks.adam:measure",
    "training": "benchmarks.mlp:measure_training",
    "small-step": "benchmarks.logistic:measure_small_step",
    "loops": "benchmarks.loops:measure",
    "first-call": "benchmarks.first_call:measure_mlp",
    "first-call-deep": "benchmarks.first_call:measure_transformer",
    "first-call-cnn": "benchmarks.first_call:measure_cnn",
    "windows": "benchmarks.windows:measure",
    "convolution": "benchmarks.convolution:measure",
    "cnn": "benchmarks.cnn:measure_step",
    "rules": "benchmarks.rules:measure",
    "host-calls": "benchmarks.host_calls:measure",
    "unrolled": "benchmarks.first_call:measure_unrolled",
}


def measure(name: str) -> list[Result]:
    """Measure one row; only its own libraries are imported."""
    module, _, function = ROWS[name].partition(":")
    return cast(Callable[[], list[Result]], getattr(import_module(module), function))()
