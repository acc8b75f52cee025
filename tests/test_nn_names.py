"""The names of `funcgrad_nn`: all there, loaded when used, and seen by type checkers."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError


def typed() -> dict[str, str | None]:
    """By name, the module that type checkers are told of; None for modules."""
    tree = ast.parse(Path(nn.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name
            found[alias.name] = node.module
    return found


def test_type_checkers_and_python_see_the_same_names():
    assert typed() == nn._HOMES | dict.fromkeys(nn._MODULES)
    assert nn.__all__ == sorted(typed()) and set(nn.__all__) <= set(dir(nn))


def test_every_name_is_what_its_module_has():
    for name, home in typed().items():
        value = getattr(nn, name)
        if home is None:
            assert value is importlib.import_module(f"funcgrad_nn.{name}")
        else:
            assert value is getattr(importlib.import_module(f"funcgrad_nn.{home}"), name)
        # The second time it is an attribute like any other.
        assert vars(nn)[name] is value


# Types for annotations, and samplers, which are names of `nn.data`.
ELSEWHERE = {
    "DistributedSampler", "FixedSampler", "Sampler", "Schedule", "Scores", "StratifiedSampler",
    "WeightedSampler",
}  # fmt: skip


def test_public_names_of_modules_are_names_of_the_package():
    for home in nn._NAMES:
        module = importlib.import_module(f"funcgrad_nn.{home}")
        missing = {*getattr(module, "__all__", ())} - {*nn.__all__}
        assert missing <= ELSEWHERE, (home, missing)


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=120
    )
    return result.stdout.strip()


def test_modules_are_loaded_when_they_are_used():
    loaded = "sorted(n for n in sys.modules if n.startswith('funcgrad'))"
    assert run(f"import sys, funcgrad_nn; print({loaded})") == "['funcgrad_nn']"
    found = run(f"import sys, funcgrad_nn as nn; nn.Linear(2, 3); print({loaded})")
    assert "'funcgrad_nn.layers'" in found
    for other in ("data", "datasets", "optimizers", "losses", "plot", "convolution"):
        assert f"'funcgrad_nn.{other}'" not in found


def test_modules_that_are_no_public_names_are_found_as_well():
    code = "import funcgrad_nn as nn; print(nn.losses.mse is nn.mse, nn.optimizers.sgd is nn.sgd)"
    assert run(code) == "True True"


def test_all_names_at_once():
    code = "from funcgrad_nn import *; print(Linear.__name__, summary.__name__, data.__name__)"
    assert run(code) == "Linear summary funcgrad_nn.data"


def test_names_that_there_are_not():
    with pytest.raises(AttributeError, match=r"'funcgrad_nn' has no attribute 'Linera'$"):
        nn.Linera  # type: ignore[attr-defined]  # noqa: B018
    for name, part in (
        ("Module", "nn.Layer"),
        ("LazyLinear", "nn.Linear(None"),
        ("MSELoss", "mse"),
    ):
        with pytest.raises(AttributeError) as caught:
            getattr(nn, name)
        assert part in str(caught.value)


def test_hints_name_what_there_is():
    for name, hint in nn._ELSEWHERE.items():
        assert name not in nn.__all__
        for found in re.findall(r"nn\.(\w+)", hint):
            assert hasattr(nn, found), (name, found)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(1, 2, 3, device="cpu"), "^Conv2d: instead of device= write nothing, "),
        (lambda: nn.LSTM(2, 3, batch_first=True), "^LSTM: instead of batch_first= write nothing"),
        (lambda: nn.ReLU(inplace=True), "^ReLU: instead of inplace= write nothing"),
        (lambda: nn.Softmax(dim=1), "^Softmax: instead of dim= write axis=$"),
        (lambda: nn.Flatten(dim=1), "^Flatten: instead of dim= write start_dim= and end_dim=$"),
        (lambda: nn.Linear(2, 3, dtype=1), r"^Linear: instead of dtype= write .*layer\.init\("),
        (
            lambda: nn.DataLoader([1], collate_fn=1),
            "^DataLoader: instead of collate_fn= write c",
        ),
        (lambda: nn.DataLoader([1], generator=1), "^DataLoader: instead of generator= write seed"),
        (lambda: nn.datasets.mnist(train=True), '^mnist: instead of train= write split="train"'),
        (lambda: nn.datasets.cifar10(train=False), "^cifar10: instead of train= write split="),
    ],
)
def test_options_that_pytorch_calls_otherwise(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


class Scaled(nn.Layer):
    scale: float = 1.0


def test_options_that_there_are_not_name_the_layer():
    for make, message in (
        (lambda: nn.Conv2d(1, 2, 3, pading=1), "^Conv2d has no option pading=; it has in_channels"),
        (lambda: nn.Linear(2, 3, dim=1), "^Linear has no option dim=; it has in_features, out"),
        (lambda: nn.Tanh(foo=1), "^Tanh has no option foo=; it has none$"),
        (lambda: Scaled(size=1), "^Scaled has no option size=; it has scale$"),
        (lambda: nn.DataLoader([1], 2, suffle=True), "^DataLoader has no option suffle=; it has "),
        (lambda: nn.Linear(2), "missing 1 required positional argument: 'out_features'"),
    ):
        with pytest.raises(TypeError, match=message):
            make()


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        (fg, "no_grad", "fg.stop_gradient"),
        (fg, "tensor", "np.array"),
        (fg, "manual_seed", "fg.random.key(0)"),
        (fg, "save", "funcgrad_nn.save(path, params)"),
        (nn, "optim", "nn.adam(1e-3)"),
        (nn, "SGD", "nn.sgd(learning_rate)"),
        (nn, "Adam", "nn.adam(learning_rate)"),
        (nn, "lr_scheduler", "nn.schedules."),
        (nn, "StepLR", "nn.schedules.step("),
        (nn, "TransformerBlock", "nn.TransformerEncoderLayer"),
        (nn, "MultiHeadAttention", "nn.MultiheadAttention"),
        (nn, "TensorDataset", "nn.ArrayDataset"),
        (nn, "SmoothL1Loss", "nn.smooth_l1"),
        (nn, "ToTensor", "nn.transforms.ToArray"),
        (nn.transforms, "ToTensor", "ToArray"),
    ],
)
def test_names_that_newcomers_look_for(module, name, part):
    with pytest.raises(AttributeError) as caught:
        getattr(module, name)
    assert f"no attribute {name!r}: " in str(caught.value) and part in str(caught.value)


def test_hints_of_the_core_name_what_there_is():
    for name, hint in fg._ELSEWHERE.items():
        assert name not in fg.__all__
        for found in re.findall(r"fg\.(\w+)", hint):
            assert hasattr(fg, found), (name, found)
        for found in re.findall(r"(?<!\w)(?:nn|funcgrad_nn)\.(\w+)", hint):
            assert hasattr(nn, found), (name, found)
    with pytest.raises(AttributeError, match=r"'funcgrad' has no attribute 'grda'$"):
        fg.grda  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("transform", [fg.grad, fg.jit], ids=["grad", "jit"])
def test_what_tensors_have_and_traced_arrays_have_not(transform):
    found = {}

    def function(x):
        for name in ("detach", "backward", "numpy", "view", "unsqueeze", "anything"):
            with pytest.raises(AttributeError) as caught:
                getattr(x, name)
            found[name] = str(caught.value)
        return np.sum(x)

    transform(function)(np.ones(2))
    assert found["detach"].endswith("has no attribute 'detach': write fg.stop_gradient(x)")
    assert "fg.grad(f)" in found["backward"] and "np.asarray" in found["numpy"]
    assert "x.reshape(" in found["view"] and "np.expand_dims" in found["unsqueeze"]
    assert found["anything"].endswith("has no attribute 'anything'")
