"""Pictures of trainings, images, predictions and filters, drawn by matplotlib.

Each function returns a ``matplotlib.figure.Figure``, which a notebook shows when it is the last
value of a cell, and writes it to a file if it is given a ``path``, whose ending is the format
(``.png``, ``.svg``, ``.pdf``). They draw into a ``figure`` or, where there is one plot, an ``ax``
of one's own if asked to; for a window, ``figure=plt.figure()`` and ``plt.show()``.

matplotlib is imported when the first is drawn: ``pip install "funcgrad[plot]"``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from funcgrad.errors import ArgumentError, ShapeError
from funcgrad.files import atomic_write

from ._optional import require
from .module import Array, is_sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion", "filters", "history", "images", "predictions"]

PathLike = str | os.PathLike[str]

# Okabe and Ito's blue, vermilion and green, which colour-blind readers can tell apart.
BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
GREY, LIGHT, INK = "#6b7280", "#e5e7eb", "#1f2937"
STYLE: dict[str, Any] = {
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
CHANNELS = (1, 3, 4)
# Inches: the picture's margin, the pitch of its cells, an image's side, a line of text, a heading.
MARGIN, PITCH, SIDE, LINE, HEADING = 0.35, 1.1, 0.92, 0.19, 0.45
CURVE_POINTS = 150
# More numbers than that in a matrix could not be read.
ANNOTATED_CLASSES = 20


# -- Trainings -----------------------------------------------------------------------------------


def history(
    history: Any,
    *,
    steps: Sequence[float] | None = None,
    title: str = "",
    figure: Figure | None = None,
    path: PathLike | None = None,
) -> Figure:
    """The scores of a training over its epochs: a plot for each, with that of the validation.

    Args:
        history: what :func:`~funcgrad_nn.fit` has returned, or its ``history``: a list of dicts of
            numbers, one for each epoch.
        steps: the losses of single steps, the same number in each epoch, to be drawn pale behind
            those of the epochs.
        title: what stands before the names of the scores.
        figure: one to draw into.
        path: a file to write.

    Raises:
        ArgumentError: it is none, or without an epoch or score.
        MissingDependencyError: matplotlib is not installed.

    >>> scores = [{"epoch": 1, "loss": 0.9, "val_loss": 1.1}, {"epoch": 2, "loss": 0.5}]
    >>> figure = nn.plot.history(scores)
    >>> [axes.get_title(loc="left") for axes in figure.axes]
    ['loss']
    """
    rows = _rows(history)
    names = list(dict.fromkeys(name for row in rows for name in row))
    scores = [name for name in names if name not in ("epoch", "seconds")]
    plots = list(dict.fromkeys(name.removeprefix("val_") for name in scores))
    if not plots:
        raise ArgumentError(f"plot.history: there are no scores to draw, only {', '.join(names)}")
    with _style():
        drawn = _figure(figure, (5 * len(plots), 4), layout="constrained")
        for axes, name in zip(drawn.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
            pale = _smoothed(steps, len(rows)) if steps is not None and name == "loss" else None
            _draw_scores(axes, rows, name, pale)
            axes.set_title(f"{title}: {name}" if title else name)
        return _finished(drawn, path)


def _rows(history: Any) -> list[Mapping[str, float]]:
    given = getattr(history, "history", history)
    rows: list[Any] = list(given) if is_sequence(given) else []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise ArgumentError(
            "plot.history takes what nn.fit has returned, or a list of dicts with an epoch's "
            f'scores, such as [{{"epoch": 1, "loss": 0.5}}], not {given!r:.60}'
        )
    return rows


def _smoothed(losses: Sequence[float], epochs: int) -> tuple[Array, Array]:
    """The running mean of the batches' losses, by epoch; single ones are mostly noise."""
    window = max(1, len(losses) // CURVE_POINTS)
    means = np.convolve(np.asarray(losses), np.full(window, 1 / window), mode="valid")
    places = np.arange(len(means)) + (window + 1) / 2
    return places * epochs / max(1, len(losses)), means


def _draw_scores(
    axes: Any, rows: Sequence[Mapping[str, float]], name: str, pale: tuple[Array, Array] | None
) -> None:
    """A score and that of the validation, with their last values in the legend."""
    ticker = require("matplotlib.ticker", "plot")
    drawn: list[float] = []
    if pale is not None:
        axes.plot(*pale, color=BLUE, alpha=0.3, linewidth=1.2, label="batches")
        drawn += pale[1].tolist()
    for label, color in ((name, BLUE), (f"val_{name}", RED)):
        found = [(row.get("epoch", i), row[label]) for i, row in enumerate(rows, 1) if label in row]
        if found:
            epochs, values = zip(*found, strict=True)
            text = f"{label}  {values[-1]:.4g}"
            axes.plot(epochs, values, color=color, marker="o", markersize=3.5, label=text)
            drawn += values
    low, high = min(drawn), max(drawn)
    if low > 0 and high / low > 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(labelcolor="linecolor")


# -- Images --------------------------------------------------------------------------------------


def images(
    images: Any,
    labels: ArrayLike | None = None,
    classes: Sequence[str] | None = None,
    *,
    columns: int = 8,
    channels_last: bool | None = None,
    title: str = "",
    figure: Figure | None = None,
    path: PathLike | None = None,
) -> Figure:
    """Images side by side, with their labels below.

    Args:
        images: grey ones of shape ``(N, H, W)``, or with 1, 3 or 4 channels ``(N, H, W, C)`` or
            ``(N, C, H, W)``; or a list of images of different sizes. Integers count from 0 to 255,
            floats from 0 to 1; if some are beyond, as of normalised images, all are stretched
            from the least to the greatest.
        labels: of shape (N,), classes or anything that has a text.
        classes: the names of classes, where labels are integers.
        columns: images in a row.
        channels_last: where channels are, if both could be.
        title: a heading.
        figure: one to draw into, which gets the size it needs.
        path: a file to write.

    Raises:
        ArgumentError: there is no image, or there are not as many labels.
        ShapeError: arrays are no images.
        MissingDependencyError: matplotlib is not installed.

    >>> figure = nn.plot.images(np.zeros((3, 28, 28)), [0, 1, 0], ["cat", "dog"])
    >>> len(figure.axes), figure.axes[1].texts[0].get_text()
    (3, 'dog')
    """
    shown = _pictures("images", images, channels_last)
    texts = None if labels is None else _names("images", labels, classes, len(shown))

    def draw(axes: Any, i: int) -> None:
        _draw_image(axes, shown[i])
        if texts is not None:
            _write_below(axes, [(texts[i], INK, "normal")])

    with _style():
        parts = [(title, range(len(shown)))]
        return _finished(_grid(figure, parts, draw, columns, lines=texts is not None), path)


def predictions(
    images: Any,
    labels: ArrayLike,
    probabilities: ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    samples: int = 30,
    mistakes: int = 10,
    columns: int = 10,
    channels_last: bool | None = None,
    title: str = "",
    figure: Figure | None = None,
    path: PathLike | None = None,
) -> Figure:
    """Some images with what they are taken for, then the mistakes made with most confidence.

    Below each image are a bar as long as the class's probability and its name, green where it is
    right, else red with the right one below it.

    Args:
        images: see :func:`images`.
        labels: the right classes, integers of shape (N,).
        probabilities: of shape (N, classes), such as ``nn.softmax(logits)``.
        classes: their names.
        samples: so many images, drawn at random.
        mistakes: so many mistakes at most.
        columns: images in a row.
        channels_last: where channels are, if both could be.
        title: what stands before the heading.
        figure: one to draw into, which gets the size it needs.
        path: a file to write.

    Raises:
        ArgumentError: there is no image, or numbers of images and labels differ.
        ShapeError: probabilities are not of shape (N, classes), or arrays no images.
        MissingDependencyError: matplotlib is not installed.

    >>> probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    >>> figure = nn.plot.predictions(np.zeros((2, 8, 8)), [0, 0], probabilities, ["cat", "dog"])
    >>> [text.get_text() for text in figure.texts]
    ['50.0% of 2 images are right', 'The 1 mistake']
    """
    shown = _pictures("predictions", images, channels_last)
    chances = _chances(np.asarray(probabilities), len(shown))
    right: Array = np.asarray(labels)
    names = _names("predictions", np.arange(chances.shape[1]), classes, chances.shape[1])
    if right.shape != (len(shown),) or right.dtype.kind not in "iu":
        raise ArgumentError(
            f"plot.predictions: labels must be {len(shown)} integers, one for each image, got "
            f"{right.dtype} of shape {right.shape}"
        )
    if right.min() < 0 or right.max() >= len(names):
        raise ArgumentError(
            f"plot.predictions: labels go from {right.min()} to {right.max()}, but there are "
            f"{len(names)} classes"
        )
    guesses, confidence = chances.argmax(axis=1), chances.max(axis=1)
    wrong = np.flatnonzero(guesses != right)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: max(0, mistakes)]
    some = np.random.default_rng(0).permutation(len(shown))[: max(0, samples)]
    share = f"{1 - len(wrong) / len(shown):.1%} of {len(shown):,} images are right"
    parts = [(f"{title}: {share}" if title else share, some)]
    if len(worst):
        which = "most confident of the " if len(worst) < len(wrong) else ""
        plural = "s" if len(wrong) > 1 else ""
        parts.append((f"The {which}{len(wrong):,} mistake{plural}", worst))

    def draw(axes: Any, i: int) -> None:
        guess, label = int(guesses[i]), int(right[i])
        color = GREEN if guess == label else RED
        _draw_image(axes, shown[i])
        for length, shade in ((1.0, LIGHT), (float(confidence[i]), color)):
            axes.plot(
                [0, length], [-0.06, -0.06],
                color=shade, linewidth=3, solid_capstyle="butt",
                transform=axes.transAxes, clip_on=False, scalex=False, scaley=False,
            )  # fmt: skip
        lines = [(names[guess], color, "bold")]
        if guess != label:
            lines.append((f"is {names[label]}", GREY, "normal"))
        _write_below(axes, lines, 0.12)

    with _style():
        return _finished(_grid(figure, parts, draw, columns, lines=2), path)


def filters(
    weight: Any,
    *,
    columns: int = 8,
    rows: int = 8,
    channels_last: bool = False,
    title: str = "",
    figure: Figure | None = None,
    path: PathLike | None = None,
) -> Figure:
    """The kernels of a convolution over images: what each output looks for.

    Of kernels of three channels each is a picture in colours, grey where weights are zero. Others
    are pictures of single channels, a row for each output: negative weights are blue, positive ones
    red. All are on one scale.

    Args:
        weight: ``params["weight"]`` of a :class:`~funcgrad_nn.Conv2d`, shape (O, C, H, W), or
            its params.
        columns: kernels in a row, or channels of each.
        rows: so many rows at most.
        channels_last: whether the layer's layout is ``"NHWC"``, with weights (H, W, C, O).
        title: what stands before the heading.
        figure: one to draw into, which gets the size it needs.
        path: a file to write.

    Raises:
        ShapeError: weights have another number of axes.
        MissingDependencyError: matplotlib is not installed.

    >>> layer = nn.Conv2d(3, 16, 5)
    >>> figure = nn.plot.filters(layer.init(0, (3, 32, 32)))
    >>> len(figure.axes), figure.texts[0].get_text()
    (16, '16 kernels of 5 × 5, 3 channels')
    """
    given: Any = weight
    array: Array = np.asarray(given["weight"] if isinstance(weight, Mapping) else given)
    if array.ndim != 4:
        raise ShapeError(
            "plot.filters takes the weight of a Conv2d, of shape (outputs, channels, height, "
            f"width), got shape {array.shape}. Of a Sequential's params that is, for its first "
            'layer, params[0]["weight"].'
        )
    kernels = np.transpose(array, (3, 0, 1, 2) if channels_last else (0, 2, 3, 1))
    count, height, width, channels = kernels.shape
    largest = float(np.abs(kernels).max(initial=0)) or 1.0
    scaled = kernels / largest
    if channels == 3:
        shown = [0.5 + kernel / 2 for kernel in scaled[: columns * rows]]
    elif channels == 1:
        shown = [kernel[..., 0] for kernel in scaled[: columns * rows]]
    else:
        columns = min(columns, channels)
        shown = [kernel[..., c] for kernel in scaled[:rows] for c in range(columns)]
    heading = f"{count} kernels of {height} × {width}, {channels} channel{'s'[: channels > 1]}"

    def draw(axes: Any, i: int) -> None:
        axes.imshow(shown[i], cmap="RdBu_r", vmin=-1, vmax=1)
        _frame(axes)

    with _style():
        parts = [(f"{title}: {heading}" if title else heading, range(len(shown)))]
        return _finished(_grid(figure, parts, draw, columns, lines=0), path)


def confusion(
    matrix: ArrayLike,
    classes: Sequence[str] | None = None,
    *,
    title: str = "",
    ax: Axes | None = None,
    path: PathLike | None = None,
) -> Figure:
    """A confusion matrix: for each class, as a row, what its examples are taken for.

    Colours are shares of the row, numbers are counts.

    Args:
        matrix: what :func:`~funcgrad_nn.confusion_matrix` gives.
        classes: their names.
        title: a heading.
        ax: the axes to draw into.
        path: a file to write.

    Raises:
        ShapeError: the matrix is not square.
        ArgumentError: there are not as many names as classes.
        MissingDependencyError: matplotlib is not installed.

    >>> matrix = nn.confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), num_classes=2)
    >>> figure = nn.plot.confusion(matrix, ["cat", "dog"])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['1', '1', '0', '1']
    """
    counts: Array = np.asarray(matrix)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ShapeError(
            "plot.confusion takes a square matrix, nn.confusion_matrix(outputs, labels), got shape "
            f"{counts.shape}"
        )
    n = len(counts)
    names = _names("confusion", np.arange(n), classes, n)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with _style():
        side = min(12.0, 2.2 + 0.5 * n)
        axes: Any = ax
        if axes is None:
            axes = _figure(None, (side, side), layout="constrained").add_subplot()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(False)
        axes.set_xticks(range(n), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(n), names)
        axes.set(xlabel="taken for", ylabel="is", title=title)
        for row, column in np.ndindex(n, n) if n <= ANNOTATED_CLASSES else ():
            dark = shares[row, column] > 0.5
            axes.text(
                column, row, f"{counts[row, column]:,}",
                ha="center", va="center", color="white" if dark else INK, fontsize=9,
            )  # fmt: skip
        return _finished(axes.figure, path)


# -- What they share -----------------------------------------------------------------------------


def _style() -> Any:
    return require("matplotlib", "plot").rc_context(STYLE)


@lru_cache(maxsize=1)
def _shown_by_notebooks() -> type[Figure]:
    """Figures as a notebook shows them without pyplot, which would keep each one in memory."""
    base: Any = require("matplotlib.figure", "plot").Figure

    class Shown(base):
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=100)
            return buffer.getvalue()

    Shown.__name__ = Shown.__qualname__ = "Figure"
    return Shown


def _figure(given: Figure | None, size: tuple[float, float], **options: Any) -> Any:
    """The figure to draw into, of this size in inches."""
    if given is None:
        return _shown_by_notebooks()(figsize=size, **options)
    return given


def _finished(figure: Any, path: PathLike | None) -> Figure:
    if path is not None:
        with atomic_write(path) as file:
            figure.savefig(file, format=os.path.splitext(path)[1][1:] or "png")
    return figure


def _grid(
    figure: Figure | None,
    parts: Sequence[tuple[str, Sequence[int] | range | Array]],
    draw: Callable[[Any, int], None],
    columns: int,
    lines: int,
) -> Any:
    """Cells in rows, with a heading over each part, and so many lines of text below each cell."""
    if columns < 1:
        raise ArgumentError(f"columns must be a positive integer, not {columns!r}")
    columns = min(columns, max(len(part) for _, part in parts) or 1)
    pitch = PITCH + LINE * lines
    height = 2 * MARGIN - (PITCH - SIDE)
    for heading, part in parts:
        height += HEADING * bool(heading) + -(-len(part) // columns) * pitch
    height += MARGIN * (len(parts) - 1)
    width = 2 * MARGIN + (columns - 1) * PITCH + SIDE
    longest = max(len(heading) for heading, _ in parts)
    width = max(width, 2 * MARGIN + 0.115 * longest)
    drawn = _figure(figure, (width, height))
    if hasattr(drawn, "set_size_inches"):
        drawn.set_size_inches(width, height)
    y = height - MARGIN
    for heading, part in parts:
        if heading:
            drawn.text(MARGIN / width, y / height, heading, va="top", weight="bold", size=13)
            y -= HEADING
        for place, i in enumerate(part):
            x, top = MARGIN + place % columns * PITCH, y - place // columns * pitch
            box = (x / width, (top - SIDE) / height, SIDE / width, SIDE / height)
            draw(drawn.add_axes(box), int(i))
        y -= -(-len(part) // columns) * pitch + MARGIN
    return drawn


def _draw_image(axes: Any, image: Array) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1)
    _frame(axes)


def _frame(axes: Any) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=LIGHT)


def _write_below(axes: Any, lines: Sequence[tuple[str, str, str]], top: float = 0.04) -> None:
    for i, (text, color, weight) in enumerate(lines):
        axes.text(
            0, -top - 0.17 * i, text,
            transform=axes.transAxes, va="top", color=color, weight=weight, size=9,
        )  # fmt: skip


def _chances(chances: Array, count: int) -> Array:
    if chances.ndim != 2 or len(chances) != count:
        raise ShapeError(
            f"plot.predictions: probabilities must have shape ({count}, classes) for {count} "
            f"images, got {chances.shape}"
        )
    if (chances < 0).any() or np.abs(chances.sum(axis=1) - 1).max() > 1e-2:
        raise ArgumentError(
            "plot.predictions: rows of probabilities must be from 0 to 1 and have the sum 1. Of "
            "logits, what a classifier gives, make them by nn.softmax(logits)."
        )
    return chances


def _names(who: str, labels: Any, classes: Sequence[str] | None, count: int) -> list[str]:
    """The text of each label."""
    array: Array = np.asarray(labels)
    if array.shape != (count,):
        raise ArgumentError(
            f"plot.{who}: there must be {count} labels, got those of shape {array.shape}"
        )
    if classes is None:
        return [str(label) for label in array.tolist()]
    if array.dtype.kind not in "iu":
        raise ArgumentError(
            f"plot.{who}: with names of classes, labels must be integers, not {array.dtype}"
        )
    if array.min() < 0 or array.max() >= len(classes):
        raise ArgumentError(
            f"plot.{who}: there are {len(classes)} names of classes, and labels go from "
            f"{array.min()} to {array.max()}"
        )
    return [str(classes[label]) for label in array.tolist()]


def _pictures(who: str, images: Any, channels_last: bool | None) -> list[Array]:
    """Each image as (H, W) or (H, W, C), of numbers from 0 to 1."""
    arrays: list[Array]
    if is_sequence(images):
        arrays = [np.asarray(image) for image in images]
    else:
        whole: Any = np.asarray(images)
        if whole.ndim == 2 or (whole.ndim == 3 and whole.shape[-1] in CHANNELS):
            raise ShapeError(
                f"plot.{who} takes a batch, (N, H, W), (N, H, W, C) or (N, C, H, W), got shape "
                f"{whole.shape}. Of one image make a batch: x[None]."
            )
        arrays = list(whole) if whole.ndim else []
    if not arrays:
        raise ArgumentError(f"plot.{who}: there is no image to draw")
    turned = [_channels_behind(who, image, channels_last) for image in arrays]
    finite = [image[np.isfinite(image)] for image in turned if image.dtype.kind == "f"]
    finite = [part for part in finite if part.size]
    low = min((float(part.min()) for part in finite), default=0.0)
    high = max((float(part.max()) for part in finite), default=1.0)
    # What is beyond by rounding alone is not stretched.
    if low >= -1e-3 and high <= 1 + 1e-3:
        low, high = 0.0, 1.0
    scales = {"b": (0, 1), "u": (0, 255), "i": (0, 255), "f": (low, high - low or 1.0)}
    found: list[Array] = []
    for image in turned:
        start, length = scales[image.dtype.kind]
        found.append(np.clip((image.astype(float) - start) / length, 0, 1))
    return found


def _channels_behind(who: str, image: Array, channels_last: bool | None) -> Array:
    if image.dtype.kind not in "biuf":
        raise ShapeError(f"plot.{who}: images must be real numbers, not {image.dtype}")
    if image.ndim == 2:
        return image
    if image.ndim == 3:
        first, last = image.shape[0] in CHANNELS, image.shape[-1] in CHANNELS
        if channels_last is None and first and last:
            raise ShapeError(
                f"plot.{who}: images of shape {image.shape} could have their channels first or "
                "last. Pass channels_last=True or False."
            )
        behind = last if channels_last is None else channels_last
        if last if behind else first:
            image = image if behind else np.moveaxis(image, 0, -1)
            return image[..., 0] if image.shape[-1] == 1 else image
    raise ShapeError(
        f"plot.{who}: an image has shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, "
        f"got {image.shape}"
    )
