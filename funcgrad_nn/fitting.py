"""Training loops, short enough to be read and copied: `fit`, `evaluate`, and what stops or saves.

All randomness follows from the key, the number of the epoch and that of the step, and the order of
the batches from the loader's seed and the epoch; so a run that was killed and resumed from its last
epoch ends with the same bits.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import funcgrad as fg
from funcgrad import random
from funcgrad.errors import ArgumentError
from funcgrad.files import atomic_write

from .module import Key, Layer, Params
from .optimizers import Optimizer
from .serialization import load, save

__all__ = ["Checkpoint", "EarlyStopping", "Fitted", "Scores", "evaluate", "fit"]

Scores = dict[str, float]
"""Means over the samples of an epoch, by name."""
Loss = Callable[[Any, Any], Any]
Metrics = Mapping[str, Callable[[Any, Any], Any]]


class Fitted(NamedTuple):
    """Where a training stands; what :func:`fit` returns, and what callbacks are given.

    Attributes:
        params: the parameters.
        optimizer_state: the optimiser's.
        epoch: the number of epochs made.
        history: the scores of each: ``"epoch"``, ``"seconds"``, ``"loss"`` and the metrics, with
            ``"val_"`` before them those of the validation.

    >>> nn.Fitted.start({"w": np.zeros(2)}, nn.sgd(0.1)).epoch
    0
    """

    params: Params
    optimizer_state: Any
    epoch: int
    history: list[Scores]

    @classmethod
    def start(cls, params: Params, optimizer: Optimizer) -> Fitted:
        """Where a training begins."""
        return cls(params, optimizer.init(params), 0, [])


Callback = Callable[[Fitted], Any]


def fit(
    model: Layer,
    params: Params,
    loader: Iterable[Any],
    optimizer: Optimizer,
    loss: Loss,
    *,
    epochs: int,
    key: Key | int = 0,
    metrics: Metrics | None = None,
    validation: Iterable[Any] | None = None,
    callbacks: Sequence[Callback] = (),
    resume: Fitted | None = None,
    progress: bool = True,
) -> Fitted:
    """Train a model in epochs, each step compiled by ``fg.jit``.

    Args:
        model: a layer, called in training mode.
        params: its parameters.
        loader: batches ``(x, y)``, such as an ``nn.DataLoader``'s; iterated once an epoch.
        optimizer: such as ``nn.adam(1e-3)``.
        loss: of outputs and targets, ``loss(model_outputs, y)``: the batch's mean.
        epochs: how many there are to be in all.
        key: for dropout and the like, a key of :mod:`funcgrad.random` or a seed.
        metrics: functions of outputs and targets to report beside the loss, by name.
        validation: batches on which the model is evaluated after each epoch.
        callbacks: called with a :class:`Fitted` after each epoch; one that returns True ends the
            training. See :class:`EarlyStopping` and :class:`Checkpoint`.
        resume: go on from there rather than from ``params``.
        progress: print a line for each epoch, and a bar where tqdm is installed and someone
            watches.

    Returns:
        Parameters, the optimiser's state and the history.

    Raises:
        ArgumentError: ``epochs`` is negative, or an epoch has no batch.

    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> loader = nn.DataLoader(nn.ArrayDataset(x, 2 * x + 1), batch_size=16, shuffle=True)
    >>> model = nn.Linear(1, 1)
    >>> fitted = nn.fit(
    ...     model, model.init(0, 1), loader, nn.sgd(0.2), nn.mse, epochs=20, progress=False
    ... )
    >>> fitted.history[-1]["loss"] < 1e-3, fitted.params["weight"].round(1)
    (True, array([[2.]], dtype=float32))
    """
    if epochs < 0:
        raise ArgumentError(f"fit: epochs must not be negative, got {epochs}")
    metrics = {} if metrics is None else metrics
    now = Fitted.start(params, optimizer) if resume is None else resume
    key = random.key(key) if isinstance(key, (int, np.integer)) else key
    step = _training_step(model, optimizer, loss, metrics)
    for epoch in range(now.epoch, epochs):
        start = time.perf_counter()
        params, state = now.params, now.optimizer_state
        totals = _Means(metrics)
        for i, (x, y) in enumerate(_shown(_batches(loader, epoch), epoch, progress)):
            params, state, scores = step(params, state, (key, epoch, i), x, y)
            totals.add(scores, len(y))
        scores = {"epoch": epoch + 1, "seconds": 0.0} | totals.means("fit")
        if validation is not None:
            found = evaluate(model, params, validation, loss, metrics)
            scores |= {f"val_{name}": value for name, value in found.items()}
        scores["seconds"] = time.perf_counter() - start
        now = Fitted(params, state, epoch + 1, [*now.history, scores])
        if progress:
            print(_line(scores), flush=True)
        # Each is called, also where one before it ends the training.
        answers = [callback(now) for callback in callbacks]
        if True in answers:
            break
    return now


def evaluate(
    model: Layer,
    params: Params,
    loader: Iterable[Any],
    loss: Loss,
    metrics: Metrics | None = None,
) -> Scores:
    """The means of loss and metrics over all samples of a loader, in evaluation mode.

    Args:
        model: a layer.
        params: its parameters.
        loader: batches ``(x, y)``.
        loss: of outputs and targets, the batch's mean.
        metrics: functions of outputs and targets, by name.

    Raises:
        ArgumentError: there is no batch.

    >>> x = np.ones((5, 3), np.float32)
    >>> loader = nn.DataLoader(nn.ArrayDataset(x, x), batch_size=2)
    >>> nn.evaluate(nn.Identity(), {}, loader, nn.mse, {"l1": nn.l1})
    {'loss': 0.0, 'l1': 0.0}
    """
    measure = _evaluation(model, loss, tuple((metrics or {}).items()))
    totals = _Means(metrics or {})
    for x, y in _batches(loader, 0):
        totals.add(measure(params, x, y), len(y))
    return totals.means("evaluate")


def _training_step(
    model: Layer, optimizer: Optimizer, loss: Loss, metrics: Metrics
) -> Callable[..., Any]:
    def step(params: Params, state: Any, numbers: Any, x: Any, y: Any) -> Any:
        key, epoch, i = numbers
        step_key = random.fold_in(random.fold_in(key, epoch), i)

        def loss_fn(params: Params) -> Any:
            outputs, params = model.train(params, x, step_key)
            return loss(outputs, y), (params, outputs)

        (value, aux), grads = fg.value_and_grad(loss_fn, has_aux=True)(params)
        params, outputs = aux
        params, state = optimizer.update(grads, state, params)
        return params, state, {"loss": value} | {n: m(outputs, y) for n, m in metrics.items()}

    return fg.jit(step)


@lru_cache(maxsize=32)
def _evaluation(model: Layer, loss: Loss, metrics: tuple[tuple[str, Any], ...]) -> Any:
    def measure(params: Params, x: Any, y: Any) -> Any:
        outputs = model(params, x)
        return {"loss": loss(outputs, y)} | {name: metric(outputs, y) for name, metric in metrics}

    return fg.jit(measure)


class _Means:
    """Means over samples, from means over batches."""

    def __init__(self, metrics: Metrics) -> None:
        self._count = 0
        self._totals: Scores = dict.fromkeys(("loss", *metrics), 0.0)

    def add(self, scores: Mapping[str, Any], count: int) -> None:
        self._count += count
        for name, score in scores.items():
            self._totals[name] += float(score) * count

    def means(self, who: str) -> Scores:
        if not self._count:
            raise ArgumentError(
                f"{who}: the loader gave no batch. Give an nn.DataLoader or a list of batches; a "
                "generator is used up by the first epoch."
            )
        return {name: total / self._count for name, total in self._totals.items()}


def _batches(loader: Any, epoch: int) -> Iterable[Any]:
    """The batches of an epoch: of a loader that can make any, by its number."""
    return loader.batches(epoch) if hasattr(loader, "batches") else loader


def _shown(batches: Iterable[Any], epoch: int, progress: bool) -> Iterable[Any]:
    """The batches, with a bar if tqdm is installed and a person is watching."""
    if not progress:
        return batches
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return batches
    # disable=None: no bar where standard error is no terminal.
    return tqdm(batches, desc=f"epoch {epoch + 1}", unit="batch", leave=False, disable=None)


def _line(scores: Scores) -> str:
    shown = [f"{n} {v:.4g}" for n, v in scores.items() if n not in ("epoch", "seconds")]
    return f"epoch {scores['epoch']:3}: {', '.join(shown)} ({scores['seconds']:.1f} s)"


def _better(score: float, best: float, mode: str) -> bool:
    return score < best if mode == "min" else score > best


def _score(fitted: Fitted, name: str) -> float:
    scores = fitted.history[-1]
    if name not in scores:
        raise ArgumentError(f"there is no score {name!r}; there are {', '.join(scores)}")
    return scores[name]


def _check_mode(mode: str) -> None:
    if mode not in ("min", "max"):
        raise ArgumentError(f'mode must be "min" or "max", not {mode!r}')


@dataclass
class EarlyStopping:
    """A callback that ends a training when a score has not become better for some epochs.

    Args:
        score: its name, such as ``"val_loss"``.
        patience: after so many epochs without a better one.
        mode: whether less is better, ``"min"``, or more, ``"max"``.

    >>> stop = nn.EarlyStopping("loss", patience=2)
    >>> [stop(nn.Fitted({}, None, 1, [{"loss": loss}])) for loss in (1.0, 0.5, 0.6, 0.7)]
    [False, False, False, True]
    """

    score: str = "val_loss"
    patience: int = 3
    mode: str = "min"
    _best: float = field(default=math.nan, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_mode(self.mode)

    def __call__(self, fitted: Fitted) -> bool:
        score = _score(fitted, self.score)
        if math.isnan(self._best) or _better(score, self._best, self.mode):
            self._best, self._waited = score, 0
        else:
            self._waited += 1
        return self._waited >= self.patience


@dataclass
class Checkpoint:
    """A callback that keeps the last epoch, and the best one, on disk.

    The folder gets ``last.safetensors`` (parameters, the optimiser's state, the epoch's number),
    ``best.safetensors`` (parameters) and ``history.jsonl``, a line for each epoch. Files appear
    whole or not at all; a run that is killed at any moment can go on from :meth:`last`.

    Args:
        folder: made if need be.
        score: that by which an epoch is the best; none is kept without.
        mode: whether less is better, ``"min"``, or more, ``"max"``.

    >>> import tempfile
    >>> checkpoint, optimizer = nn.Checkpoint(tempfile.mkdtemp()), nn.sgd(0.1, momentum=0.9)
    >>> params = {"w": np.ones(2)}
    >>> fitted = nn.Fitted.start(params, optimizer)._replace(epoch=1, history=[{"loss": 0.5}])
    >>> checkpoint(fitted)
    >>> checkpoint.last(params, optimizer).history
    [{'loss': 0.5}]
    """

    folder: str | os.PathLike[str]
    score: str | None = None
    mode: str = "min"

    def __post_init__(self) -> None:
        _check_mode(self.mode)

    def __call__(self, fitted: Fitted) -> None:
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.score is not None and self._is_best(fitted, self.score):
            save(folder / "best.safetensors", fitted.params)
        # Before the parameters: `last` takes as many lines as these have seen epochs.
        with atomic_write(folder / "history.jsonl") as file:
            for scores in fitted.history:
                file.write((json.dumps(scores) + "\n").encode())
        save(folder / "last.safetensors", _saved(fitted))

    def _is_best(self, fitted: Fitted, name: str) -> bool:
        score = _score(fitted, name)
        before = [scores[name] for scores in fitted.history[:-1] if name in scores]
        return all(_better(score, other, self.mode) for other in before)

    def last(self, params: Params, optimizer: Optimizer) -> Fitted | None:
        """Where the last complete epoch left off; None if there is none yet.

        Args:
            params: parameters of the same structure, such as the model's initial ones.
            optimizer: that of the training.

        Raises:
            FileFormatError: a file is damaged.
            ParameterMismatchError: it is of another model or optimiser; the message names the
                leaves.
        """
        folder = Path(self.folder)
        if not (folder / "last.safetensors").exists():
            return None
        like = _saved(Fitted.start(params, optimizer))
        found = load(folder / "last.safetensors", like=like)
        epoch = int(found["epoch"])
        lines = (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()[:epoch]
        history = [json.loads(line) for line in lines]
        return Fitted(found["params"], found["optimizer_state"], epoch, history)

    def best(self, params: Params) -> Params:
        """The parameters of the best epoch.

        Args:
            params: parameters of the same structure.
        """
        return load(Path(self.folder) / "best.safetensors", like=params)


def _saved(fitted: Fitted) -> dict[str, Any]:
    return {
        "params": fitted.params,
        "optimizer_state": fitted.optimizer_state,
        "epoch": np.array(fitted.epoch),
    }
