"""A run that is killed goes on where it left off, and ends with the same bits.

Trains a small network on the digits that come with the package, with dropout, batch normalisation
and shuffled batches, three times: in one go; in one that kills itself at a random step; and from
that one's last checkpoint.

    python examples/resume.py
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad_nn as nn

MODEL = nn.Sequential(
    nn.Flatten(),
    nn.Linear(64, 32, bias=False),
    nn.BatchNorm(32),
    nn.ReLU(),
    nn.Dropout(0.2),
    nn.Linear(32, 10),
)
OPTIMIZER = nn.adam(1e-2)


class Killed(Exception):
    """Stands for whatever ends a process."""


class Killing(nn.DataLoader):
    """A loader that ends the run at its so many-th batch."""

    left = 0

    def batches(self, epoch: int) -> Any:
        """The batches of an epoch, as far as it goes."""
        for batch in super().batches(epoch):
            self.left -= 1
            if not self.left:
                raise Killed
            yield batch


def train(
    epochs: int,
    loader: Callable[..., nn.DataLoader] = nn.DataLoader,
    checkpoint: nn.Checkpoint | None = None,
) -> nn.Fitted:
    """Train, from the last checkpoint if there is one."""
    params = MODEL.init(0, (8, 8))
    return nn.fit(
        MODEL,
        params,
        loader(nn.datasets.digits(), batch_size=128, shuffle=True, seed=1),
        OPTIMIZER,
        nn.cross_entropy,
        epochs=epochs,
        key=2,
        callbacks=[checkpoint] if checkpoint else [],
        resume=checkpoint.last(params, OPTIMIZER) if checkpoint else None,
    )


def killed_at(step: int) -> Callable[..., nn.DataLoader]:
    """What makes a loader that ends the run there."""

    def make(*args: Any, **options: Any) -> nn.DataLoader:
        loader = Killing(*args, **options)
        loader.left = step
        return loader

    return make


def main(argv: Sequence[str] | None = None) -> None:
    """Train three times, and compare."""
    parser = argparse.ArgumentParser(description="Kill a run, resume it, compare the bits.")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None, help="of the step at which it is killed")
    options = parser.parse_args(argv)
    step = random.Random(options.seed).randint(1, 15 * options.epochs)

    print("in one go")
    whole = train(options.epochs)
    with tempfile.TemporaryDirectory() as folder:
        print(f"killed at step {step}")
        try:
            train(options.epochs, killed_at(step), nn.Checkpoint(folder))
        except Killed:
            print("... killed; resumed")
        resumed = train(options.epochs, checkpoint=nn.Checkpoint(folder))
    pairs = zip(fg.tree.leaves(whole.params), fg.tree.leaves(resumed.params), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    print(f"the parameters are {'equal, bit by bit' if same else 'NOT equal'}")


if __name__ == "__main__":
    main()
