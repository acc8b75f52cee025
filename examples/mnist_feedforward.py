"""A feed-forward network on MNIST: 784 pixels, 32 hidden units with ReLU, 10 classes.

50,000 images to train, 10,000 to validate; batches of 128, SGD at a rate of 0.5. After 5 epochs
about 96 % of the validation images are told.

    python examples/mnist_feedforward.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import funcgrad_nn as nn

MODEL = nn.Sequential(nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))


def train(dataset: nn.Dataset, held_out: int, epochs: int, seed: int) -> nn.Fitted:
    """Train on all but the last ones of a random order, which validate."""
    train_set, validation_set = nn.random_split(
        dataset, [len(dataset) - held_out, held_out], seed=seed
    )
    return nn.fit(
        MODEL,
        MODEL.init(seed, (28, 28)),
        nn.DataLoader(train_set, batch_size=128, shuffle=True, seed=seed),
        nn.sgd(0.5),
        nn.cross_entropy,
        epochs=epochs,
        metrics={"accuracy": nn.accuracy},
        validation=nn.DataLoader(validation_set, batch_size=256),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and tell how well the images of the test set are told."""
    parser = argparse.ArgumentParser(description="A feed-forward network on MNIST.")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    fitted = train(nn.datasets.mnist("train"), 10_000, options.epochs, options.seed)
    test = nn.DataLoader(nn.datasets.mnist("test"), batch_size=256)
    scores = nn.evaluate(MODEL, fitted.params, test, nn.cross_entropy, {"accuracy": nn.accuracy})
    print(f"test: loss {scores['loss']:.4f}, accuracy {scores['accuracy']:.2%}")


if __name__ == "__main__":
    main()
