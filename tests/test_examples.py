"""The examples run, and come out as published; those that take minutes run in a short form."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from _markdown import ROOT


def load(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested():
    tested = {
        "char_lstm",
        "cifar10_cnn",
        "lenet",
        "linear_regression",
        "logistic_regression",
        "mnist_feedforward",
        "mnist_logistic",
        "quickstart",
        "resume",
        "transformer",
    }
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == tested


def test_every_example_has_its_page():
    examples, pages = (ROOT / "examples").glob("*.py"), (ROOT / "docs" / "examples").glob("*.md")
    assert {page.stem for page in pages} == {path.stem for path in examples}


# -- Linear regression ---------------------------------------------------------------------------


def test_linear_regression_both_ways():
    example = load("linear_regression")
    start = nn.Linear(3, 2).init(0, (3,))
    by_hand, losses = example.fit_by_hand(start)
    with_parts, same_losses = example.fit_with_parts(start)
    assert len(losses) == 100
    np.testing.assert_allclose(losses, same_losses, rtol=1e-4, atol=1e-6)
    for name in ("weight", "bias"):
        assert by_hand[name].dtype == np.float32
        np.testing.assert_allclose(by_hand[name], with_parts[name], rtol=1e-4, atol=1e-5)


def test_linear_regression_goes_towards_least_squares():
    example = load("linear_regression")
    params, _ = example.fit_with_parts(nn.Linear(3, 2).init(1, (3,)), epochs=3_000)
    best, *_ = np.linalg.lstsq(example.X, example.Y, rcond=None)
    np.testing.assert_allclose(params["weight"], best, atol=1e-3)
    np.testing.assert_allclose(params["bias"], 0, atol=1e-3)


def test_linear_regression_prints(capsys):
    load("linear_regression").main()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 12
    assert printed[0].startswith("by hand: loss ") and printed[6].startswith("with funcgrad_nn: ")


# -- Logistic regression -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["fit_with_loop", "fit_with_scan"])
def test_logistic_regression_falls_as_published(way):
    example = load("logistic_regression")
    _, losses = getattr(example, way)(example.start(0), example.UPDATES)
    assert losses.shape == (10_000,)
    assert 0.5 < losses[0] < 1.2
    # 0.0586 after 9,500 updates in the published run, whose start was another.
    assert 0.045 < losses[9_500] < 0.065
    assert (np.diff(losses) < 0).all()


def test_logistic_regression_loop_and_scan_agree():
    example = load("logistic_regression")
    (a, losses), (b, same) = (
        fit(example.start(3), 300) for fit in (example.fit_with_loop, example.fit_with_scan)
    )
    np.testing.assert_allclose(losses, same, rtol=1e-12)
    for x, y in zip(fg.tree.leaves(a), fg.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_logistic_regression_prints(capsys):
    load("logistic_regression").main(["--updates", "1001"])
    printed = capsys.readouterr().out
    assert printed.count("update     0: loss") == printed.count("update  1000: loss") == 2


# -- Quickstart ----------------------------------------------------------------------------------


def images_of_bars(count, seed):
    """Images of 28×28 with a bright bar in one of 10 places, which is the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    images = rng.random((count, 28, 28), np.float32)
    images[np.arange(count), 2 * labels + 4] += 1
    return nn.ArrayDataset(images, labels)


def test_quickstart_learns():
    example = load("quickstart")
    data, test_data = images_of_bars(1000, 0), images_of_bars(1100, 1)
    optimizer = nn.sgd(0.02, momentum=0.9)
    loss, accuracy = example.train(data, test_data, optimizer, epochs=2, seed=0)
    assert accuracy > 0.9 and loss < 1.0


def test_quickstart_averages_over_examples_not_batches():
    example = load("quickstart")
    params, data = example.model.init(0, (28, 28)), images_of_bars(1100, 1)
    images, labels = data[:]
    loss, accuracy = example.test(params, data)
    logits = example.model(params, images)
    assert loss == pytest.approx(nn.cross_entropy(logits, labels), rel=1e-5)
    assert accuracy == pytest.approx(nn.accuracy(logits, labels))


def test_quickstart_is_reproducible(capsys, monkeypatch):
    example = load("quickstart")
    monkeypatch.setattr(nn.datasets, "fashion_mnist", lambda split: images_of_bars(128, len(split)))
    lines = []
    for _ in range(2):
        example.main(["--epochs", "1", "--seed", "5"])
        *model, epoch = capsys.readouterr().out.splitlines()
        lines.append(epoch.partition(" (")[0])
    assert "\n".join(model) == repr(example.model)
    assert lines[0].startswith("epoch 1: training loss 2.") and lines[0] == lines[1]


# -- MNIST ---------------------------------------------------------------------------------------


def faint_bars(count):
    images, labels = images_of_bars(count, 0)[:]
    return nn.ArrayDataset(0.3 * images, labels)


def test_mnist_logistic_learns(capsys):
    fitted = load("mnist_logistic").train(faint_bars(1200), 200, epochs=2, seed=0)
    assert fitted.history[1]["val_loss"] < fitted.history[0]["val_loss"] < 2.5
    assert capsys.readouterr().out.startswith("epoch   1: loss 2.")


def test_mnist_feedforward_learns():
    fitted = load("mnist_feedforward").train(faint_bars(2200), 200, epochs=4, seed=0)
    assert fitted.history[-1]["val_accuracy"] > 0.9


# -- Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_ends_with_the_same_bits(seed, capsys):
    load("resume").main(["--epochs", "3", "--seed", str(seed)])
    printed = capsys.readouterr().out
    assert "... killed; resumed" in printed
    assert printed.endswith("the parameters are equal, bit by bit\n")


# -- Convolutional networks ----------------------------------------------------------------------


def test_lenet_trains():
    example = load("lenet")
    images, labels = images_of_bars(512, 0)[:]
    images = (127 * images).astype(np.uint8)
    data = nn.data.TransformedDataset(nn.ArrayDataset(images, labels), nn.transforms.ToArray())
    fitted = example.train(data, data, epochs=2, seed=0)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] < 3.0
    assert nn.num_parameters(fitted.params) == 61_706


def colours(count, dtype):
    """Images of one colour each, with noise; the label is the strongest channel."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, count)
    images = rng.random((count, 32, 32, 3), np.float32) * 0.5
    images[np.arange(count), :, :, labels] += 0.4
    if dtype == np.uint8:
        return nn.ArrayDataset((images * 255).astype(dtype), labels)
    return nn.ArrayDataset(np.moveaxis(images, -1, 1), labels)


def test_cifar_cnn_learns():
    data = colours(384, np.float32)
    fitted = load("cifar10_cnn").train(data, data, epochs=8, seed=0, width=4)
    assert fitted.history[-1]["val_loss"] < 1.2 < 2.2 < fitted.history[0]["loss"]


def test_cifar_cnn_learns_from_changed_images():
    example = load("cifar10_cnn")
    random_ones, plain = example.pipelines()
    images, labels = colours(384, np.uint8)[:]
    data = nn.ArrayDataset(images, labels)
    train_set = nn.data.TransformedDataset(data, random_ones)
    test_set = nn.data.TransformedDataset(data, plain)
    fitted = example.train(train_set, test_set, epochs=3, seed=0, augmented=True, width=4)
    assert fitted.history[-1]["accuracy"] > 0.9


# -- Language models -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["char_lstm", "transformer"])
def test_language_models_learn_a_short_text(name):
    example = load(name)
    poem = "the rain in spain stays mainly in the plain; " * 160
    fitted = example.train(example.pieces(poem), epochs=10, seed=0)
    # That of frequencies alone is 2.4.
    assert fitted.history[-1]["val_loss"] < 2.1 < 3.5 < fitted.history[0]["loss"]
    codes = example.write(fitted.params, fg.random.key(0), np.int64(ord("r")), 100)
    assert codes.shape == (100,) and np.mean([chr(code) in poem for code in codes]) > 0.9


def test_a_transformer_sees_no_later_characters():
    example = load("transformer")
    params = example.MODEL.init(0, example.LENGTH)
    x = np.arange(example.LENGTH)[None]
    np.testing.assert_allclose(
        example.MODEL(params, x)[:, :40],
        example.MODEL(params, np.where(x < 40, x, 0))[:, :40],
        rtol=1e-4,
        atol=1e-6,
    )


def test_char_lstm_reads_the_help_and_writes(capsys):
    load("char_lstm").main(["--epochs", "1", "--characters", "20000"])
    epoch, written = capsys.readouterr().out.split("\n", 1)
    assert epoch.startswith("epoch   1: loss 4.") and written[0] == "T"
    assert len(written) == 402
