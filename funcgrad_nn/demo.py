"""Train a classifier of images and look at what it does: ``python -m funcgrad_nn.demo``.

Writes the parameters, a picture of the course of the training and one of sample predictions.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad_nn import plot
from funcgrad_nn._optional import require

Batches = Iterable[tuple[NDArray[Any], NDArray[Any]]]
EVALUATION_BATCH = 1000
SCORES = ("loss", "accuracy", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Recipe:
    """What is trained on a dataset, and how."""

    load: Callable[[int], tuple[nn.Dataset, nn.Dataset]]
    classes: Sequence[str]
    image_shape: tuple[int, int]
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.9

    def model(self) -> nn.Sequential:
        """A multilayer perceptron."""
        sizes = [self.image_shape[0] * self.image_shape[1], *self.hidden, len(self.classes)]
        layers: list[nn.Layer] = [nn.Flatten()]
        for size_in, size_out in pairwise(sizes):
            layers += [nn.Linear(size_in, size_out), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def _digits(seed: int) -> tuple[nn.Dataset, nn.Dataset]:
    train, test = nn.random_split(nn.datasets.digits(), [0.8, 0.2], seed)
    return train, test


def _fashion_mnist(_seed: int) -> tuple[nn.Dataset, nn.Dataset]:
    return nn.datasets.fashion_mnist("train"), nn.datasets.fashion_mnist("test")


RECIPES = {
    "digits": Recipe(
        load=_digits,
        classes="0123456789",
        image_shape=(8, 8),
        hidden=(128,),
        epochs=20,
        batch_size=32,
        learning_rate=0.1,
    ),
    "fashion-mnist": Recipe(
        load=_fashion_mnist,
        classes=nn.datasets.FASHION_MNIST_CLASSES,
        image_shape=(28, 28),
        hidden=(128,),
        epochs=5,
        batch_size=128,
        learning_rate=0.05,
    ),
}


def train(
    recipe: Recipe, train_set: nn.Dataset, test_set: nn.Dataset, epochs: int, seed: int
) -> tuple[Any, list[dict[str, float]], list[float]]:
    """Train by stochastic gradient descent, printing a line for each epoch.

    Returns:
        The parameters, the scores of each epoch, and the losses of all steps.
    """
    model = recipe.model()
    params = model.init(seed, recipe.image_shape)
    optimiser = nn.sgd(recipe.learning_rate, momentum=recipe.momentum)
    state = optimiser.init(params)
    print(model, end="\n\n")

    def loss_fn(params: Any, x: Any, y: Any) -> Any:
        return nn.cross_entropy(model(params, x), y)

    @fg.jit
    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
        loss, grads = fg.value_and_grad(loss_fn)(params, x, y)
        params, state = optimiser.update(grads, state, params)
        return params, state, loss

    @fg.jit
    def measure(params: Any, x: Any, y: Any) -> Any:
        logits = model(params, x)
        return nn.cross_entropy(logits, y), nn.accuracy(logits, y)

    loader = nn.DataLoader(train_set, recipe.batch_size, shuffle=True, seed=seed)
    history: list[dict[str, float]] = []
    losses: list[float] = []
    print("epoch   train loss  accuracy   test loss  accuracy    time")
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        for x, y in _with_progress(loader, f"epoch {epoch}"):
            params, state, loss = step(params, state, x, y)
            losses.append(float(loss))
        scores = [*evaluate(measure, params, train_set), *evaluate(measure, params, test_set)]
        history.append({"epoch": epoch, **dict(zip(SCORES, scores, strict=True))})
        print(_row(epoch, scores, time.perf_counter() - start), flush=True)
    return params, history, losses


def evaluate(measure: Callable[..., Any], params: Any, dataset: nn.Dataset) -> tuple[float, float]:
    """Mean loss and accuracy over a dataset."""
    totals = np.zeros(2)
    for x, y in nn.DataLoader(dataset, EVALUATION_BATCH):
        totals += len(y) * np.array(measure(params, x, y))
    loss, accuracy = totals / len(dataset)
    return float(loss), float(accuracy)


def _row(epoch: int, scores: Sequence[float], seconds: float) -> str:
    train_loss, train_accuracy, test_loss, test_accuracy = scores
    return (
        f"{epoch:5}   {train_loss:10.4f}  {train_accuracy:7.1%}   "
        f"{test_loss:9.4f}  {test_accuracy:7.1%}   {seconds:5.1f} s"
    )


def _with_progress(batches: Any, label: str) -> Batches:
    """The batches, with a progress bar if tqdm is installed and a person is watching."""
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    # disable=None: no bar where standard error is no terminal.
    return tqdm(batches, desc=label, unit="batch", leave=False, disable=None)


def predict(model: nn.Layer, params: Any, dataset: nn.Dataset) -> tuple[Any, Any, Any]:
    """Images, labels and the probabilities that the model gives to the classes."""
    parts: list[tuple[Any, Any, Any]] = []
    for x, y in nn.DataLoader(dataset, EVALUATION_BATCH):
        parts.append((x, y, nn.softmax(model(params, x))))
    images, labels, probabilities = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels), np.concatenate(probabilities)


def run(data: str, epochs: int | None, out: Path, seed: int) -> None:
    """Train, and write what comes of it into the folder ``out``."""
    start = time.perf_counter()
    # Before the training, not after it, is the time to notice that something is not installed.
    require("matplotlib", "demo")
    recipe = RECIPES[data]
    train_set, test_set = recipe.load(seed)
    print(f"{data}: {len(train_set):,} images to train, {len(test_set):,} to test\n")
    params, history, losses = train(recipe, train_set, test_set, epochs or recipe.epochs, seed)

    out.mkdir(parents=True, exist_ok=True)
    model = recipe.model()
    nn.save(out / "parameters.safetensors", params)
    plot.history(history, steps=losses, title=data, path=out / "training.png")
    found = predict(model, params, test_set)
    plot.predictions(*found, recipe.classes, title=data, path=out / "predictions.png")
    print(f"\nwrote parameters.safetensors, training.png and predictions.png to {out}/")
    print(f"{time.perf_counter() - start:.1f} s in all")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m funcgrad_nn.demo",
        description="Train a classifier of images; save its parameters and pictures.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--data", choices=RECIPES, default="digits", help="what to train on")
    parser.add_argument("--epochs", type=_positive, help="passes over the training set")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder to write to")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation, split and order")
    options = parser.parse_args(arguments)
    try:
        run(options.data, options.epochs, options.out, options.seed)
    except (fg.errors.FuncgradError, OSError) as error:
        sys.exit(f"error: {error}")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {number}")
    return number


if __name__ == "__main__":
    main()
