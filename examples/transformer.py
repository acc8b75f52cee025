"""A small transformer: a language model of characters that looks back at all that it has read.

The text is Python's own help, some 460,000 characters that come with the standard library. It is
read in pieces of 64 characters, in batches of 64. Two layers of attention with four heads, which
see no later characters; AdamW, whose rate rises to 3e-3 and falls again along a cosine. The loss
starts near ln 128 = 4.85, where all characters are equally likely. After 10 epochs that of pieces
which were not read in training is below 1.4.

    python examples/transformer.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pydoc_data.topics import topics
from typing import Any

import numpy as np

import funcgrad as fg
import funcgrad_nn as nn

LENGTH, CLASSES, BATCH = 64, 128, 64


class Transformer(nn.Layer):
    """Scores of the next character at each place, from integers of shape (batch, LENGTH)."""

    positions = nn.Parameter((LENGTH, "width"), nn.init.normal(0.02))

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
        self.embedding = nn.Embedding(CLASSES, width, weight_init=nn.init.normal(0.02))
        self.blocks = [
            nn.TransformerEncoderLayer(
                width, 4, 4 * width, activation=nn.gelu, norm_first=True, causal=True
            )
            for _ in range(depth)
        ]
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def apply(self, params: Any, x: Any) -> Any:
        x = self.embedding(params["embedding"], x) + params["positions"]
        for block, own in zip(self.blocks, params["blocks"], strict=True):
            x = block(own, x)
        return self.head(params["head"], self.norm(params["norm"], x))


MODEL = Transformer(width=96, depth=2)


def text() -> str:
    """What `help` shows on Python's language, topic by topic."""
    return "\n".join(topics[name] for name in sorted(topics))


def encode(text: str) -> np.ndarray:
    """Its ASCII characters as numbers."""
    return np.frombuffer(text.encode("ascii", "ignore"), np.uint8)


def pieces(text: str) -> nn.ArrayDataset:
    """Pieces of the text, and beside each the same piece one character further on."""
    codes = encode(text)
    count = (len(codes) - 1) // LENGTH
    x, y = (codes[start : start + count * LENGTH].reshape(count, LENGTH) for start in (0, 1))
    return nn.ArrayDataset(x, y)


def train(dataset: nn.Dataset, epochs: int, seed: int) -> nn.Fitted:
    """Train on nine tenths of the pieces, and evaluate on the others after each epoch."""
    train_set, validation_set = nn.random_split(dataset, [0.9, 0.1], seed=seed)
    steps = epochs * -(-len(train_set) // BATCH)
    rate = nn.schedules.warmup_cosine(3e-3, min(100, steps // 2), steps)
    return nn.fit(
        MODEL,
        MODEL.init(seed, LENGTH),
        nn.DataLoader(train_set, BATCH, shuffle=True, seed=seed),
        nn.clip_by_global_norm(nn.adamw(rate), 1.0),
        nn.cross_entropy,
        epochs=epochs,
        key=seed,
        validation=nn.DataLoader(validation_set, BATCH),
    )


@fg.jit(static_argnums=3)
def write(params: Any, key: Any, start: Any, count: int) -> Any:
    """Draw so many characters, one after the other, to follow the first."""

    def step(carry: Any, key: Any) -> Any:
        seen, last = carry
        code = fg.random.categorical(key, MODEL(params, seen[None])[0, last])
        # As long as there is room the new one goes to the next place, and then all move up.
        seen = np.where(last == LENGTH - 1, np.roll(seen, -1), seen)
        last = np.minimum(last + 1, LENGTH - 1)
        return (fg.at(seen)[last].set(code), last), code

    seen = fg.at(np.zeros(LENGTH, np.int64))[0].set(start)
    _, codes = fg.scan(step, (seen, 0), fg.random.split(key, count))
    return codes


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and write some lines."""
    parser = argparse.ArgumentParser(description="A small transformer.")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--characters", type=int, help="read only so many of the text")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    fitted = train(pieces(text()[: options.characters]), options.epochs, options.seed)
    codes = write(fitted.params, fg.random.key(options.seed), np.int64(ord("T")), 400)
    print("T" + bytes(codes.astype(np.uint8)).decode())


if __name__ == "__main__":
    main()
