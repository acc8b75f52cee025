"""The demo trains, prints, and writes what it says."""

from __future__ import annotations

import re
import struct
import sys

import numpy as np
import pytest

import funcgrad_nn as nn
from funcgrad_nn import demo


def png_size(path) -> tuple[int, int]:
    """Width and height from the header of a PNG file."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_demo_trains_and_writes_parameters_and_pictures(tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    demo.main(["--epochs", "3", "--out", str(out), "--seed", "1"])
    printed = capsys.readouterr().out
    rows = re.findall(
        r"^ +(\d) +([\d.]+) +([\d.]+)% +([\d.]+) +([\d.]+)% +[\d.]+ s$", printed, re.M
    )
    assert [row[0] for row in rows] == ["1", "2", "3"]
    losses, accuracies = (np.array([row[i] for row in rows], float) for i in (3, 4))
    assert losses[-1] < losses[0]
    assert accuracies[-1] > 90

    names = sorted(path.name for path in out.iterdir())
    assert names == ["parameters.safetensors", "predictions.png", "training.png"]
    assert png_size(out / "training.png") == (1500, 600)
    assert min(png_size(out / "predictions.png")) > 600

    model = demo.RECIPES["digits"].model()
    params = nn.load(out / "parameters.safetensors", like=model.init(0, (8, 8)))
    _, test_set = demo.RECIPES["digits"].load(1)
    _, labels, probabilities = demo.predict(model, params, test_set)
    right = probabilities.argmax(axis=1) == labels
    assert f"{right.mean():.1%}".rstrip("%") == rows[-1][4]


def test_demo_is_reproducible(tmp_path, capsys):
    texts = []
    for name in ("a", "b"):
        demo.main(["--epochs", "1", "--out", str(tmp_path / name)])
        texts.append(re.sub(r"[\d.]+ s\b.*|wrote.*", "", capsys.readouterr().out))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("arguments", [["--epochs", "0"], ["--data", "cats"], ["--epochs", "x"]])
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        demo.main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_what_is_not_installed_is_noticed_before_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r'error: matplotlib .*pip install "funcgrad\[demo\]"'):
        demo.main(["--out", str(tmp_path / "out")])
    assert capsys.readouterr().out == ""
