"""Pictures: what is drawn, which shapes and dtypes are taken, and what is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, MissingDependencyError, ShapeError

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

HISTORY = [
    {"epoch": 1, "seconds": 0.1, "loss": 2.0, "val_loss": 2.5, "accuracy": 0.1, "val_top5": 0.5},
    {"epoch": 2, "seconds": 0.1, "loss": 0.1, "val_loss": 0.2, "accuracy": 0.9, "val_top5": 0.6},
]
CLASSES = ["cat", "dog", "frog"]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def pixels(figure, i=0):
    return np.asarray(figure.axes[i].images[0].get_array())


def texts(figure):
    return [[text.get_text() for text in axes.texts] for axes in figure.axes]


# -- Trainings -----------------------------------------------------------------------------------


def test_history_has_a_plot_for_each_score():
    figure = nn.plot.history(HISTORY)
    assert titles(figure) == ["loss", "accuracy", "top5"]
    loss, accuracy, top5 = figure.axes
    assert [line.get_label() for line in loss.lines] == ["loss  0.1", "val_loss  0.2"]
    np.testing.assert_array_equal(loss.lines[1].get_xydata(), [[1, 2.5], [2, 0.2]])
    assert [line.get_label() for line in top5.lines] == ["val_top5  0.6"]
    # Scores that fall over more than a power of ten, and others.
    assert (loss.get_yscale(), top5.get_yscale()) == ("log", "linear")
    assert len(accuracy.lines) == 1


def test_history_of_a_fit_with_steps_in_a_figure_of_ones_own():
    x = np.ones((8, 2), np.float32)
    loader = nn.DataLoader(nn.ArrayDataset(x, x), 4)
    model = nn.Linear(2, 2)
    fitted = nn.fit(model, model.init(0, 2), loader, nn.sgd(0.1), nn.mse, epochs=3, progress=False)
    given = matplotlib.figure.Figure(figsize=(3, 2))
    steps = [3.0, 2.0, 1.0, 1.0, 1.0, 1.0]
    figure = nn.plot.history(fitted, steps=steps, title="run", figure=given)
    assert figure is given and titles(figure) == ["run: loss"]
    pale, line = figure.axes[0].lines
    np.testing.assert_allclose(pale.get_xydata()[[0, -1]], [[0.5, 3], [3, 1]])
    assert len(line.get_xdata()) == 3


def test_long_trainings_are_smoothed():
    steps = np.random.default_rng(0).uniform(size=3000)
    line = nn.plot.history(HISTORY, steps=steps.tolist()).axes[0].lines[0]
    x, y = line.get_data()
    assert x[0] > 0 and x[-1] == pytest.approx(2, abs=0.02)
    assert y.std() < 0.1 < steps.std()


# -- Images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16, bool])
@pytest.mark.parametrize("shape", ["NHW", "NHWC", "NCHW", "N1HW", "NHW1"])
def test_images_of_every_layout_and_dtype(shape, dtype):
    rng = np.random.default_rng(0)
    colour = shape in ("NHWC", "NCHW")
    plain = rng.uniform(size=(3, 8, 6, 3) if colour else (3, 8, 6))
    plain = (plain * 255).astype(np.uint8) / 255 if dtype is not bool else plain > 0.5
    given = (plain * 255).round().astype(np.uint8) if dtype is np.uint8 else plain.astype(dtype)
    if shape == "NCHW":
        given = np.moveaxis(given, -1, 1)
    given = {"N1HW": given[:, None], "NHW1": given[..., None]}.get(shape, given)
    figure = nn.plot.images(given)
    assert len(figure.axes) == 3
    for i in range(3):
        np.testing.assert_allclose(pixels(figure, i), plain[i], atol=1e-3)
        assert figure.axes[i].images[0].get_clim() == (0, 1) or colour


def test_normalised_images_are_stretched_together():
    x = np.stack([np.full((5, 5), -2.0), np.full((5, 5), 0.0), np.full((5, 5), 6.0)])
    figure = nn.plot.images(x)
    assert [pixels(figure, i)[0, 0] for i in range(3)] == [0, 0.25, 1]
    x[0, 0, 0] = np.nan
    assert pixels(nn.plot.images(x), 1)[0, 0] == 0.25


def test_labels_and_a_list_of_images_of_different_sizes():
    images = [np.full((6, 9, 3), 51, np.uint8), np.eye(5, dtype=bool), np.full((3, 7, 2), 0.5)]
    figure = nn.plot.images(images, np.array([2, 0, 1]), CLASSES, columns=2, title="animals")
    assert texts(figure) == [["frog"], ["cat"], ["dog"]]
    assert [text.get_text() for text in figure.texts] == ["animals"]
    assert pixels(figure, 0)[0, 0].tolist() == [0.2, 0.2, 0.2]
    assert pixels(figure, 1).sum() == 5 and pixels(figure, 2).shape == (7, 2, 3)
    # Two columns: the third image is below the first.
    boxes = [axes.get_position() for axes in figure.axes]
    assert boxes[2].y1 < boxes[0].y0 < 1 and min(box.y0 for box in boxes) > 0
    assert texts(nn.plot.images(images, ["a", "b", "c"])) == [["a"], ["b"], ["c"]]


def test_where_channels_are_is_asked_if_both_could_be():
    x = np.zeros((2, 3, 5, 3))
    with pytest.raises(ShapeError, match="channels_last=True or False"):
        nn.plot.images(x)
    assert pixels(nn.plot.images(x, channels_last=True)).shape == (3, 5, 3)
    assert pixels(nn.plot.images(x, channels_last=False)).shape == (5, 3, 3)


def test_predictions():
    images = np.zeros((4, 3, 8, 8), np.float32)
    probabilities = np.array([[0.6, 0.3, 0.1], [0.1, 0.9, 0], [0.2, 0.0, 0.8], [0.5, 0.4, 0.1]])
    figure = nn.plot.predictions(images, [0, 0, 0, 1], probabilities, CLASSES, mistakes=2)
    heads = [text.get_text() for text in figure.texts]
    assert heads == ["25.0% of 4 images are right", "The most confident of the 3 mistakes"]
    assert sorted(map(len, texts(figure)[:4])) == [1, 2, 2, 2]
    assert texts(figure)[4:] == [["dog", "is cat"], ["frog", "is cat"]]
    # The bar is as long as the probability.
    assert figure.axes[4].lines[1].get_xdata()[1] == 0.9
    right = nn.plot.predictions(images, [0, 1, 2, 0], probabilities, title="all")
    assert [text.get_text() for text in right.texts] == ["all: 100.0% of 4 images are right"]
    assert sorted(texts(right)) == [["0"], ["0"], ["1"], ["2"]]


# -- Filters and confusion -----------------------------------------------------------------------


def test_filters():
    layer = nn.Conv2d(3, 20, 5)
    params = layer.init(0, (3, 9, 9))
    figure = nn.plot.filters(params, columns=4, rows=3)
    assert len(figure.axes) == 12
    weight = params["weight"]
    expected = 0.5 + np.moveaxis(weight[5], 0, -1) / np.abs(weight).max() / 2
    np.testing.assert_allclose(pixels(figure, 5), expected, 1e-6)
    last = nn.plot.filters(np.transpose(weight, (2, 3, 1, 0)), channels_last=True)
    np.testing.assert_allclose(pixels(last, 5), expected, 1e-6)
    deep = nn.Conv2d(5, 6, 3).init(0, (5, 9, 9))["weight"]
    figure = nn.plot.filters(deep, rows=2, title="second")
    assert len(figure.axes) == 10
    assert figure.texts[0].get_text() == "second: 6 kernels of 3 × 3, 5 channels"
    np.testing.assert_allclose(pixels(figure, 7), deep[1, 2] / np.abs(deep).max(), 1e-6)
    assert figure.axes[7].images[0].get_clim() == (-1, 1)
    grey = nn.plot.filters(np.zeros((2, 1, 3, 3)))
    assert grey.texts[0].get_text() == "2 kernels of 3 × 3, 1 channel" and not pixels(grey).any()


def test_confusion():
    matrix = np.array([[8, 2], [0, 0]])
    given = matplotlib.figure.Figure().add_subplot()
    figure = nn.plot.confusion(matrix, ["cat", "dog"], title="m", ax=given)
    assert figure is given.figure and titles(figure) == ["m"]
    np.testing.assert_allclose(pixels(figure), [[0.8, 0.2], [0, 0]])
    assert [t.get_text() for t in given.get_yticklabels()] == ["cat", "dog"]
    assert [text.get_color() for text in given.texts[:2]] == ["white", nn.plot.INK]
    large = nn.plot.confusion(np.eye(30, dtype=int))
    assert not large.axes[0].texts and large.get_size_inches().max() <= 12


# -- Files, notebooks, errors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "head"), [("a.png", b"\x89P"), ("a.svg", b"<?xml"), ("b", b"\x89P")]
)
def test_files(tmp_path, name, head):
    nn.plot.confusion(np.eye(2), path=tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(head)
    assert len(list(tmp_path.iterdir())) == 1


def test_notebooks_show_figures_without_pyplot():
    code = (
        "import funcgrad_nn as nn, sys; f = nn.plot.confusion([[1]]); "
        "assert 'matplotlib.pyplot' not in sys.modules; print(f._repr_png_()[1:4].decode())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert found.stdout == "PNG\n"


def test_matplotlib_is_imported_when_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "funcgrad\[plot\]"'):
        nn.plot.confusion([[1]])


IMAGES = np.zeros((2, 8, 8))


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda: nn.plot.history([]), ArgumentError, "what nn.fit has returned"),
        (lambda: nn.plot.history([0.5, 0.4]), ArgumentError, "a list of dicts"),
        (lambda: nn.plot.history([{"epoch": 1}]), ArgumentError, "no scores"),
        (lambda: nn.plot.images(np.zeros((8, 8))), ShapeError, "x[None]"),
        (lambda: nn.plot.images(np.zeros((8, 8, 3))), ShapeError, "x[None]"),
        (lambda: nn.plot.images(np.zeros((2, 8, 8, 5))), ShapeError, "1, 3 or 4 channels"),
        (lambda: nn.plot.images(IMAGES.astype(complex)), ShapeError, "complex128"),
        (lambda: nn.plot.images([]), ArgumentError, "no image"),
        (lambda: nn.plot.images(IMAGES, [1, 2, 3]), ArgumentError, "2 labels"),
        (lambda: nn.plot.images(IMAGES, [0, 3], CLASSES), ArgumentError, "from 0 to 3"),
        (lambda: nn.plot.images(IMAGES, ["a", "b"], CLASSES), ArgumentError, "integers"),
        (lambda: nn.plot.images(IMAGES, columns=0), ArgumentError, "columns"),
        (lambda: nn.plot.predictions(IMAGES, [0, 1], np.ones((2, 3))), ArgumentError, "nn.softmax"),
        (lambda: nn.plot.predictions(IMAGES, [0, 1], np.ones(2)), ShapeError, "(2, classes)"),
        (lambda: nn.plot.predictions(IMAGES, [0, 2], np.eye(2)), ArgumentError, "from 0 to 2"),
        (lambda: nn.plot.predictions(IMAGES, [0.0, 1.0], np.eye(2)), ArgumentError, "float64"),
        (lambda: nn.plot.filters(np.zeros((3, 3))), ShapeError, 'params[0]["weight"]'),
        (lambda: nn.plot.confusion(np.zeros((2, 3))), ShapeError, "square"),
        (lambda: nn.plot.confusion(np.eye(3), ["a"]), ArgumentError, "1 names"),
    ],
)
def test_what_is_refused(call, error, part):
    with pytest.raises(error) as caught:
        call()
    assert part in str(caught.value)


def test_arrays_of_a_jitted_model_can_be_drawn():
    probabilities = fg.jit(nn.softmax)(np.array([[1.0, 2.0], [3.0, 1.0]]))
    assert len(nn.plot.predictions(IMAGES, np.array([1, 0]), probabilities).texts) == 1
