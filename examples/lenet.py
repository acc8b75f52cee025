"""LeNet on Fashion-MNIST: two convolutions with average pooling, three linear layers, sigmoids.

The network of Y. LeCun et al. (1998), *Gradient-Based Learning Applied to Document Recognition*, as
textbooks train it today: batches of 256, SGD at a rate of 0.9, weights after Glorot.

    python examples/lenet.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import funcgrad_nn as nn


def model() -> nn.Sequential:
    """Of images of shape (1, 28, 28)."""
    start = nn.init.glorot_uniform()
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, weight_init=start),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5, weight_init=start),
        nn.Sigmoid(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120, weight_init=start),
        nn.Sigmoid(),
        nn.Linear(120, 84, weight_init=start),
        nn.Sigmoid(),
        nn.Linear(84, 10, weight_init=start),
    )


def train(train_set: nn.Dataset, test_set: nn.Dataset, epochs: int, seed: int) -> nn.Fitted:
    """Train, and evaluate after each epoch."""
    lenet = model()
    return nn.fit(
        lenet,
        lenet.init(seed, (1, 28, 28)),
        nn.DataLoader(train_set, batch_size=256, shuffle=True, seed=seed),
        nn.sgd(0.9),
        nn.cross_entropy,
        epochs=epochs,
        metrics={"accuracy": nn.accuracy},
        validation=nn.DataLoader(test_set, batch_size=256),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, printing a line for each epoch."""
    parser = argparse.ArgumentParser(description="LeNet on Fashion-MNIST.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    train_set, test_set = (
        nn.datasets.fashion_mnist(split, transform=nn.transforms.ToArray())
        for split in ("train", "test")
    )
    train(train_set, test_set, options.epochs, options.seed)


if __name__ == "__main__":
    main()
