"""Training loops, short enough to be read and copied: `fit`, `evaluate`, and what stops or saves.

All randomness follows from the key, the number of the epoch and that of the step, and the order of
the batches from the loader's seed and the epoch; so a run that was killed and resumed from its last
epoch ends with the same bits.
"""

from __future__ import annotations

import csv
import io
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
from funcgrad import random, tree
from funcgrad.errors import ArgumentError
from funcgrad.files import atomic_write

from ._fit_arguments import (
    check_callbacks,
    check_epochs,
    check_loader,
    check_metrics,
    check_order,
)
from .module import Key, Layer, Params, is_sequence
from .optimizers import Optimizer
from .serialization import load, save

__all__ = ["Checkpoint", "EarlyStopping", "Fitted", "HistoryFile", "Scores", "evaluate", "fit"]

Scores = dict[str, float]
"""Means over the samples of an epoch, by name."""
Loss = Callable[[Any, Any], Any]
PlainLoss = Callable[..., Any]
Metrics = Mapping[str, Callable[..., Any]]
Rate = Callable[[list[Scores]], Any]


class Fitted(NamedTuple):
    """Where a training stands; what :func:`fit` returns, and what callbacks are given.

    Attributes:
        params: the parameters.
        optimizer_state: the optimiser's.
        epoch: the number of epochs made.
        history: the scores of each: ``"epoch"``, ``"seconds"``, ``"loss"`` and the metrics, with
            ``"val_"`` before them those of the validation, and ``"rate"`` where it follows from
            the scores before.

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
    model: Layer | PlainLoss,
    params: Params,
    loader: Iterable[Any],
    optimizer: Optimizer | Callable[[Any], Optimizer],
    loss: Loss | None = None,
    *,
    epochs: int,
    key: Key | int = 0,
    rate: Rate | None = None,
    metrics: Metrics | None = None,
    validation: Iterable[Any] | None = None,
    callbacks: Sequence[Callback] = (),
    resume: Fitted | None = None,
    progress: bool = True,
) -> Fitted:
    """Train a model in epochs, each step compiled by ``fg.jit``.

    Args:
        model: a layer, called in training mode; or, without `loss`, any function
            ``loss(params, *batch)``, the batch's mean.
        params: its parameters.
        loader: batches ``(x, y)``, such as an ``nn.DataLoader``'s; iterated once an epoch.
        optimizer: such as ``nn.adam(1e-3)``; with `rate`, a function of it, such as ``nn.adam``.
        loss: of outputs and targets, ``loss(model_outputs, y)``: the batch's mean.
        epochs: how many there are to be in all.
        key: for dropout and the like, a key of :mod:`funcgrad.random` or a seed.
        rate: the learning rate of an epoch, a function of the history before it, such as
            ``nn.schedules.plateau(1e-3).by("val_loss")``.
        metrics: functions of outputs and targets (without `loss`, of what it takes) to report
            beside the loss, by name.
        validation: batches on which the model is evaluated after each epoch.
        callbacks: called with a :class:`Fitted` after each epoch; one that returns True ends the
            training. See :class:`EarlyStopping`, :class:`Checkpoint` and :class:`HistoryFile`.
        resume: go on from there rather than from ``params``.
        progress: print a line for each epoch, and a bar where tqdm is installed and someone
            watches.

    Returns:
        Parameters, the optimiser's state and the history.

    Raises:
        ArgumentError: an argument is not what it should be, an epoch has no batch, or a model has
            no loss.

    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> loader = nn.DataLoader(nn.ArrayDataset(x, 2 * x + 1), batch_size=16, shuffle=True)
    >>> model = nn.Linear(1, 1)
    >>> fitted = nn.fit(
    ...     model, model.init(0, 1), loader, nn.sgd(0.2), nn.mse, epochs=20, progress=False
    ... )
    >>> fitted.history[-1]["loss"] < 1e-3, fitted.params["weight"].round(1)
    (True, array([[2.]], dtype=float32))

    Of a function, with a rate that follows from the scores:

    >>> def loss_fn(params, x, y):
    ...     return np.mean((x * params["w"] - y) ** 2)
    >>> rate = nn.schedules.plateau(0.5, patience=0).by("loss")
    >>> fitted = nn.fit(
    ...     loss_fn, {"w": np.zeros(1)}, [(x, 2 * x)], nn.sgd, epochs=9, rate=rate, progress=False
    ... )
    >>> fitted.params["w"].round(1), fitted.history[-1]["rate"]
    (array([2.]), 0.5)
    """
    check_order("fit", model, params, loader, loss)
    check_loader("fit", model, loader)
    check_loader("fit", model, validation, "validation")
    check_metrics("fit", metrics)
    check_epochs(epochs)
    check_callbacks(callbacks)
    metrics = {} if metrics is None else metrics
    now = _start(params, optimizer, rate) if resume is None else resume
    key = random.key(key) if isinstance(key, (int, np.integer)) else key
    if leaves := tree.leaves(now.params):
        key = fg.device_put(key, leaves[0])
    step = _training_step(_objective("fit", model, loss), optimizer, metrics)
    for epoch in range(now.epoch, epochs):
        start = time.perf_counter()
        params, state = now.params, now.optimizer_state
        totals, now_rate = _Means(metrics), None if rate is None else rate(now.history)
        for i, batch in enumerate(_shown(_batches(loader, epoch), epoch, progress)):
            batch = _as_batch(batch)
            params, state, scores = step(params, state, now_rate, (key, epoch, i), *batch)
            totals.add(scores, _length(batch))
        scores = {"epoch": epoch + 1, "seconds": 0.0} | totals.means("fit")
        if now_rate is not None:
            scores["rate"] = float(now_rate)
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
    model: Layer | PlainLoss,
    params: Params,
    loader: Iterable[Any],
    loss: Loss | None = None,
    metrics: Metrics | None = None,
) -> Scores:
    """The means of loss and metrics over all samples of a loader, in evaluation mode.

    Args:
        model: a layer; or, without `loss`, a function ``loss(params, *batch)``, as for :func:`fit`.
        params: its parameters.
        loader: batches ``(x, y)``.
        loss: of outputs and targets, the batch's mean.
        metrics: functions of outputs and targets, by name.

    Raises:
        ArgumentError: there is no batch, or a model has no loss.

    >>> x = np.ones((5, 3), np.float32)
    >>> loader = nn.DataLoader(nn.ArrayDataset(x, x), batch_size=2)
    >>> nn.evaluate(nn.Identity(), {}, loader, nn.mse, {"l1": nn.l1})
    {'loss': 0.0, 'l1': 0.0}
    """
    check_order("evaluate", model, params, loader, loss)
    check_loader("evaluate", model, loader)
    check_metrics("evaluate", metrics)
    measure = _evaluation(_objective("evaluate", model, loss), tuple((metrics or {}).items()))
    totals = _Means(metrics or {})
    for batch in _batches(loader, 0):
        batch = _as_batch(batch)
        totals.add(measure(params, *batch), _length(batch))
    return totals.means("evaluate")


@dataclass(frozen=True)
class _OfModel:
    """A batch's loss; beside it parameters with new states, and what metrics are functions of."""

    model: Layer
    loss: Loss

    def __call__(self, key: Key | None, params: Params, *batch: Any) -> Any:
        if len(batch) != 2:
            raise ArgumentError(
                f"a model takes batches (x, y), and the loader gives {len(batch)} arrays a batch. "
                "Pass a function loss(params, *batch) in place of model and loss."
            )
        x, y = batch
        if key is None:
            outputs = self.model(params, x)
        else:
            outputs, params = self.model.train(params, x, key)
        return self.loss(outputs, y), (params, (outputs, y))


@dataclass(frozen=True)
class _OfFunction:
    """The same where the loss is a function of the parameters itself."""

    function: PlainLoss

    def __call__(self, key: Key | None, params: Params, *batch: Any) -> Any:
        return self.function(params, *batch), (params, (params, *batch))


Objective = _OfModel | _OfFunction


def _objective(who: str, model: Layer | PlainLoss, loss: Loss | None) -> Objective:
    if isinstance(model, Layer) and loss is not None:
        return _OfModel(model, loss)
    if isinstance(model, Layer) or loss is not None:
        raise ArgumentError(
            f"{who}: takes a model, a nn.Layer, with a loss of outputs and targets, such as "
            "nn.cross_entropy; or a function loss(params, *batch) alone"
        )
    return _OfFunction(model)


def _start(params: Params, optimizer: Any, rate: Rate | None) -> Fitted:
    if (rate is None) != hasattr(optimizer, "update"):
        raise ArgumentError(
            "fit: optimizer is one, such as nn.adam(1e-3), or with rate= a function of the rate, "
            "such as nn.adam or lambda rate: nn.sgd(rate, momentum=0.9)"
        )
    return Fitted.start(params, optimizer if rate is None else optimizer(rate([])))


def _training_step(objective: Objective, optimizer: Any, metrics: Metrics) -> Callable[..., Any]:
    def step(params: Params, state: Any, rate: Any, numbers: Any, *batch: Any) -> Any:
        key, epoch, i = numbers
        step_key = random.fold_in(random.fold_in(key, epoch), i)

        def loss_fn(params: Params) -> Any:
            return objective(step_key, params, *batch)

        (value, aux), grads = fg.value_and_grad(loss_fn, has_aux=True)(params)
        params, given = aux
        scores = {"loss": value} | {name: metric(*given) for name, metric in metrics.items()}
        moved = optimizer if rate is None else optimizer(rate)
        params, state = moved.update(grads, state, params)
        return params, state, scores

    return fg.jit(step)


@lru_cache(maxsize=32)
def _evaluation(objective: Objective, metrics: tuple[tuple[str, Any], ...]) -> Any:
    def measure(params: Params, *batch: Any) -> Any:
        value, (_, given) = objective(None, params, *batch)
        return {"loss": value} | {name: metric(*given) for name, metric in metrics}

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


def _as_batch(batch: Any) -> tuple[Any, ...]:
    return tuple(batch) if is_sequence(batch) else (batch,)


def _length(batch: tuple[Any, ...]) -> int:
    """The number of samples in a batch: of a pair, that of the targets."""
    return len(tree.leaves(batch)[-1])


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
        HistoryFile(folder / "history.jsonl")(fitted)
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


@dataclass
class HistoryFile:
    """A callback that writes the history, a line for each epoch; the file appears whole.

    Args:
        path: a file that ends in ``.csv``, with the scores' names in the first line and nothing
            where an epoch lacks a score; or in ``.jsonl``.

    Raises:
        ArgumentError: it has another ending.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "history.csv")
    >>> nn.HistoryFile(path)(nn.Fitted({}, None, 2, [{"epoch": 1, "loss": 0.5}, {"epoch": 2}]))
    >>> print(path.read_text(encoding="utf-8"))
    epoch,loss
    1,0.5
    2,
    <BLANKLINE>
    """

    path: str | os.PathLike[str]

    def __post_init__(self) -> None:
        if Path(self.path).suffix not in (".csv", ".jsonl"):
            raise ArgumentError(f"HistoryFile: {str(self.path)!r} must end in .csv or .jsonl")

    def __call__(self, fitted: Fitted) -> None:
        if Path(self.path).suffix == ".csv":
            text = io.StringIO()
            names = dict.fromkeys(name for scores in fitted.history for name in scores)
            table = csv.DictWriter(text, [*names], lineterminator="\n")
            table.writeheader()
            table.writerows(fitted.history)
            lines = text.getvalue()
        else:
            lines = "".join([json.dumps(scores) + "\n" for scores in fitted.history])
        with atomic_write(Path(self.path)) as file:
            file.write(lines.encode())


def _saved(fitted: Fitted) -> dict[str, Any]:
    return {
        "params": fitted.params,
        "optimizer_state": fitted.optimizer_state,
        "epoch": np.array(fitted.epoch),
    }
