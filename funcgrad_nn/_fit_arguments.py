"""Whether the arguments of `fit` and `evaluate` are what stands in their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from funcgrad.errors import ArgumentError

from .module import Layer, is_array, is_sequence
from .parameters import expect_parameters

_ORDER = {
    "fit": "nn.fit(model, params, loader, optimizer, loss, epochs=...)",
    "evaluate": "nn.evaluate(model, params, loader, loss)",
}


def check_order(who: str, model: Any, params: Any, loader: Any, loss: Any) -> None:
    """Raise ArgumentError for arguments that stand in each other's places."""
    mistake = ""
    if isinstance(params, Layer) and not isinstance(model, Layer):
        mistake = "a model is in the place of the parameters"
    elif hasattr(loader, "update") and hasattr(loader, "init"):
        mistake = "an optimiser is in the place of the loader"
    elif hasattr(params, "batches"):
        mistake = "a loader is in the place of the parameters"
    elif hasattr(loss, "update") and hasattr(loss, "init"):
        mistake = "an optimiser is in the place of the loss"
    elif callable(loader) and not hasattr(loader, "__iter__"):
        mistake = "a function is in the place of the loader"
    if mistake:
        raise ArgumentError(f"{who}: {mistake}. Write {_ORDER[who]}.")
    expect_parameters(who, params)


def check_loader(who: str, model: Any, loader: Any, name: str = "loader") -> None:
    """Raise ArgumentError for what gives samples, or arrays, in the place of batches."""
    write = f"{name}=nn.DataLoader" if name != "loader" else "nn.DataLoader"
    if hasattr(loader, "gather") and not hasattr(loader, "batches"):
        raise ArgumentError(
            f"{who}: {name} gives batches, and this is a dataset, {type(loader).__name__}, which "
            f"gives samples. Write {write}(dataset, batch_size=32, shuffle=True)."
        )
    if not isinstance(model, Layer):
        # A function may take batches of one array each.
        return
    parts: list[Any] = [*cast(Any, loader)] if is_sequence(loader) else [loader]
    if parts and all(map(is_array, parts)):
        raise ArgumentError(
            f"{who}: {name} gives batches (x, y), and arrays are none. Write {write}((X, Y), "
            "batch_size=32, shuffle=True), or for a single batch [(X, Y)]."
        )


def check_metrics(who: str, metrics: Any) -> None:
    """Raise ArgumentError for metrics that are no functions by names."""
    if metrics is None:
        return
    functions: Any = cast(Any, metrics).values() if isinstance(metrics, Mapping) else [None]
    if not all(map(callable, functions)):
        raise ArgumentError(
            f"{who}: metrics are functions by the names that scores have, such as "
            f'metrics={{"accuracy": nn.accuracy}}, not {metrics!r:.80}'
        )


def check_epochs(epochs: Any) -> None:
    """Raise ArgumentError for what is no number of epochs."""
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)):
        raise ArgumentError(f"fit: epochs must be an integer, not {epochs!r:.60}")
    if epochs < 0:
        raise ArgumentError(f"fit: epochs must not be negative, got {epochs}")


def check_callbacks(callbacks: Any) -> None:
    """Raise ArgumentError for one callback in the place of several, or what cannot be called."""
    if callable(callbacks) or not all(map(callable, callbacks)):
        raise ArgumentError(
            f"fit: callbacks are a list of functions of a Fitted, such as callbacks="
            f"[nn.EarlyStopping()], not {callbacks!r:.80}"
        )
