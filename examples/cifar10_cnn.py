"""A convolutional network on CIFAR-10: six convolutions, three poolings, three linear layers.

Batches of 128, Adam at a rate of 1e-3. With ``--augmented``: images are cropped and flipped at
random and normalised, convolutions are followed by batch normalisation, dropout stands between the
linear layers, and the rate goes up and down once.

    python examples/cifar10_cnn.py --root path/to/cifar10
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise

import funcgrad_nn as nn
from funcgrad_nn import transforms

BATCH = 128
MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def model(augmented: bool, width: int = 32, classes: int = 10) -> nn.Sequential:
    """Of images of shape (3, 32, 32)."""
    layers: list[nn.Layer] = []
    sizes = (3, width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width)
    for i, (before, after) in enumerate(pairwise(sizes)):
        layers.append(nn.Conv2d(before, after, 3, padding=1, bias=not augmented))
        layers += [nn.BatchNorm2d(after)] if augmented else []
        layers.append(nn.ReLU())
        layers += [nn.MaxPool2d(2)] if i % 2 else []
    layers.append(nn.Flatten())
    for before, after in pairwise((16 * 8 * width, 32 * width, 16 * width)):
        layers += [nn.Dropout(0.3)] if augmented else []
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(16 * width, classes))


def pipelines() -> tuple[transforms.Compose, transforms.Compose]:
    """Of images in uint8, for training and for evaluation."""
    last = [transforms.ToArray(), transforms.Normalize(MEAN, DEVIATION)]
    crop = transforms.RandomCrop(32, padding=4, padding_mode="reflect")
    return (
        transforms.Compose([crop, transforms.RandomHorizontalFlip(), *last]),
        transforms.Compose(last),
    )


def train(
    train_set: nn.Dataset,
    test_set: nn.Dataset,
    epochs: int,
    seed: int,
    augmented: bool = False,
    width: int = 32,
) -> nn.Fitted:
    """Train, and evaluate after each epoch."""
    cnn = model(augmented, width)
    steps = epochs * -(-len(train_set) // BATCH)
    rate = nn.schedules.one_cycle(1e-2, steps) if augmented else 1e-3
    return nn.fit(
        cnn,
        cnn.init(seed, (3, 32, 32)),
        nn.DataLoader(train_set, BATCH, shuffle=True, seed=seed, num_workers=int(augmented)),
        nn.adamw(rate, weight_decay=1e-2) if augmented else nn.adam(rate),
        nn.cross_entropy,
        epochs=epochs,
        key=seed,
        metrics={"accuracy": nn.accuracy},
        validation=nn.DataLoader(test_set, 256),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Train, printing a line for each epoch."""
    parser = argparse.ArgumentParser(description="A convolutional network on CIFAR-10.")
    parser.add_argument("--root", help="where the data is, or is to be downloaded to")
    parser.add_argument("--augmented", action="store_true")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=32, help="channels of the first convolution")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    used = pipelines() if options.augmented else (None, None)
    train_set, test_set = (
        nn.datasets.cifar10(split, options.root, transform=transform)
        for split, transform in zip(("train", "test"), used, strict=True)
    )
    train(train_set, test_set, options.epochs, options.seed, options.augmented, options.width)


if __name__ == "__main__":
    main()
