"""Train a multilayer perceptron on Fashion-MNIST: 784-512-512-10, ReLU, batches of 64, plain SGD.

The same model and recipe as PyTorch's quickstart, which reports an accuracy of about 64 to 65 % and
an average loss near 1.1 after 5 epochs at a rate of 1e-3 (without shuffling, which makes no
difference here):

    python examples/quickstart.py
    python examples/quickstart.py --learning-rate 0.05 --momentum 0.9

The second reaches a little over 86 % on average; single runs differ from that by a point or so.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad_nn as nn

model = nn.Sequential(
    nn.Flatten(),
    nn.Linear(28 * 28, 512),
    nn.ReLU(),
    nn.Linear(512, 512),
    nn.ReLU(),
    nn.Linear(512, 10),
)


def loss_fn(params: Any, images: Any, labels: Any) -> Any:
    """The mean cross-entropy of a batch."""
    return nn.cross_entropy(model(params, images), labels)


@fg.jit
def evaluate(params: Any, images: Any, labels: Any) -> Any:
    """Mean loss and accuracy of a batch."""
    logits = model(params, images)
    return nn.cross_entropy(logits, labels), nn.accuracy(logits, labels)


def make_step(optimizer: nn.Optimizer) -> Callable[..., Any]:
    """One update: new parameters, new state of the optimiser, and the loss before."""

    @fg.jit
    def step(params: Any, state: Any, images: Any, labels: Any) -> Any:
        loss, grads = fg.value_and_grad(loss_fn)(params, images, labels)
        params, state = optimizer.update(grads, state, params)
        return params, state, loss

    return step


def train(
    data: nn.Dataset,
    test_data: nn.Dataset,
    optimizer: nn.Optimizer,
    epochs: int = 5,
    seed: int = 0,
    shuffle: bool = True,
) -> tuple[float, float]:
    """Train from a fresh start; returns the average loss and the accuracy on the test data."""
    params = model.init(seed, (28, 28))
    state = optimizer.init(params)
    step = make_step(optimizer)
    batches = nn.DataLoader(data, batch_size=64, shuffle=shuffle, seed=seed)
    result = (float("nan"), float("nan"))
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        losses = []
        for images, labels in batches:
            params, state, loss = step(params, state, images, labels)
            losses.append(loss)
        seconds = time.perf_counter() - start
        result = test(params, test_data)
        print(
            f"epoch {epoch}: training loss {np.mean(losses):.4f}, test loss {result[0]:.4f}, "
            f"accuracy {100 * result[1]:.1f} % ({seconds:.1f} s)"
        )
    return result


def test(params: Any, data: nn.Dataset) -> tuple[float, float]:
    """Average loss and accuracy over a dataset."""
    results = [
        np.array([*evaluate(params, images, labels), 1.0]) * len(labels)
        for images, labels in nn.DataLoader(data, batch_size=1000)
    ]
    loss, hits, count = np.sum(results, axis=0)
    return float(loss / count), float(hits / count)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the options, print the model, train."""
    parser = argparse.ArgumentParser(description="Train a classifier of Fashion-MNIST.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--learning-rate", "--lr", type=float, default=1e-3)
    parser.add_argument("--momentum", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shuffle",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take the images in a new order in each epoch, or in that of the files",
    )
    options = parser.parse_args(argv)

    print(model)
    train(
        nn.datasets.fashion_mnist("train"),
        nn.datasets.fashion_mnist("test"),
        nn.sgd(options.learning_rate, momentum=options.momentum),
        options.epochs,
        options.seed,
        options.shuffle,
    )


if __name__ == "__main__":
    main()
