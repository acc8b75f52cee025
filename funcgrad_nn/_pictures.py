"""The demo's pictures; matplotlib is imported when the first is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad.files import atomic_write

from ._optional import require

Array = NDArray[Any]

# Okabe and Ito's blue, vermilion and green, which colour-blind readers can tell apart.
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, LIGHT, INK = "#6b7280", "#e5e7eb", "#1f2937"
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 12,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
COLUMNS, SAMPLE_ROWS = 10, 3
# Inches: the picture's margin, the pitch of its cells, an image's side, the height of a heading.
MARGIN, PITCH_X, PITCH_Y, SIDE, HEADING = 0.35, 1.1, 1.5, 0.92, 0.5
CURVE_POINTS = 150


@dataclass(frozen=True)
class Scores:
    """Loss and accuracy (0 to 1) over both sets, after an epoch."""

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


@dataclass
class History:
    """What was measured during a training."""

    steps_per_epoch: int
    step_losses: list[float] = field(default_factory=list[float])
    epochs: list[Scores] = field(default_factory=list[Scores])


@dataclass(frozen=True)
class Predictions:
    """Images (n, height, width), labels (n,) and probabilities (n, classes)."""

    images: Array
    labels: Array
    probabilities: Array


def draw_training(path: Path, history: History, title: str) -> None:
    """Losses and accuracies over the epochs, as a PNG file."""
    mpl, ticker = require("matplotlib", "plot"), require("matplotlib.ticker", "plot")
    with mpl.rc_context(STYLE):
        figure = require("matplotlib.figure", "plot").Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(*_smoothed(history), color=BLUE, alpha=0.3, linewidth=1.2, label="batches")
        left.set(title=f"{title}: cross-entropy", yscale="log")
        left.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_locator(ticker.NullLocator())
        _draw_pair(left, history, "loss", "{:.3f}")
        right.set(title=f"{title}: accuracy")
        right.yaxis.set_major_formatter(ticker.PercentFormatter(1))
        right.yaxis.set_major_locator(ticker.MaxNLocator(8, steps=[1, 2, 5, 10]))
        _draw_pair(right, history, "accuracy", "{:.1%}")
        for axes in (left, right):
            axes.set(xlabel="epoch", xlim=(0, len(history.epochs) * 1.02))
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
        _write(path, figure)


def _write(path: Path, figure: Any) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _smoothed(history: History) -> tuple[Array, Array]:
    """The running mean of the batches' losses, by epoch; single ones are mostly noise."""
    losses = np.array(history.step_losses)
    window = max(1, len(losses) // CURVE_POINTS)
    means = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    steps = np.arange(len(means)) + (window + 1) / 2
    return steps / history.steps_per_epoch, means


def _draw_pair(axes: Any, history: History, what: str, form: str) -> None:
    """The curves of the training and the test set, with their last values in the legend."""
    epochs = range(1, len(history.epochs) + 1)
    for name, color in (("train", BLUE), ("test", RED)):
        values = [getattr(scores, f"{name}_{what}") for scores in history.epochs]
        label = f"{name}  {form.format(values[-1])}"
        axes.plot(epochs, values, color=color, marker="o", markersize=3.5, label=label)
    axes.legend(labelcolor="linecolor")


def draw_predictions(
    path: Path, predictions: Predictions, classes: Sequence[str], title: str
) -> None:
    """Some samples, and the mistakes made with the most confidence, as a PNG file."""
    guesses = predictions.probabilities.argmax(axis=1)
    confidence = predictions.probabilities.max(axis=1)
    mistakes = np.flatnonzero(guesses != predictions.labels)
    worst = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:COLUMNS]
    samples = np.random.default_rng(0).permutation(len(guesses))[: COLUMNS * SAMPLE_ROWS]
    parts = [
        (f"{title}: {1 - len(mistakes) / len(guesses):.1%} of the test images recognised", samples)
    ]
    if len(mistakes):
        which = "most confident of the " if len(worst) < len(mistakes) else ""
        parts.append((f"The {which}{len(mistakes):,} mistakes", worst))
    rows = sum(-(-len(chosen) // COLUMNS) for _, chosen in parts)
    width = 2 * MARGIN + (COLUMNS - 1) * PITCH_X + SIDE
    size = (width, 2 * MARGIN + rows * PITCH_Y + len(parts) * HEADING)

    with require("matplotlib", "plot").rc_context(STYLE):
        figure = require("matplotlib.figure", "plot").Figure(figsize=size)
        y = size[1] - MARGIN
        for heading, chosen in parts:
            figure.text(MARGIN / size[0], y / size[1], heading, va="top", weight="bold", size=13)
            y -= HEADING
            for i, index in enumerate(chosen):
                x = MARGIN + i % COLUMNS * PITCH_X
                top = y - i // COLUMNS * PITCH_Y
                box = (x / size[0], (top - SIDE) / size[1], SIDE / size[0], SIDE / size[1])
                _draw_sample(figure.add_axes(box), predictions, int(index), classes)
            y -= -(-len(chosen) // COLUMNS) * PITCH_Y + MARGIN / 2
        _write(path, figure)


def _draw_sample(axes: Any, predictions: Predictions, index: int, classes: Sequence[str]) -> None:
    """An image, and below it a bar for the probability of the class it is taken for."""
    probabilities, label = predictions.probabilities[index], int(predictions.labels[index])
    guess = int(probabilities.argmax())
    color = GREEN if guess == label else RED
    axes.imshow(predictions.images[index], cmap="gray_r", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color=LIGHT)
    for length, shade in ((1.0, LIGHT), (float(probabilities[guess]), color)):
        axes.plot(
            [0, length], [-0.06, -0.06],
            color=shade, linewidth=3, solid_capstyle="butt",
            transform=axes.transAxes, clip_on=False, scalex=False, scaley=False,
        )  # fmt: skip
    lines = [(f"{classes[guess]}", color, "bold")]
    if guess != label:
        lines.append((f"is {classes[label]}", GREY, "normal"))
    for i, (text, shade, weight) in enumerate(lines):
        axes.text(
            0, -0.12 - 0.17 * i, text,
            transform=axes.transAxes, va="top", color=shade, weight=weight, size=9,
        )  # fmt: skip
