"""State dicts of PyTorch: layouts, names, the way back, and what does not fit.

What PyTorch itself computes of them is compared by `tests/against_torch.py`.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, ParameterMismatchError

RNG = np.random.default_rng(0)
from_torch, to_torch = nn.torch.from_state_dict, nn.torch.to_state_dict


def drawn(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name.replace("__", "."): RNG.normal(size=shape) for name, shape in shapes.items()}


class Block(nn.Layer):
    stem: nn.Linear
    parts: tuple[Any, ...]
    size: int
    scale = nn.Parameter("size", nn.init.ones())

    def apply(self, params, x):
        x = self.stem(params["stem"], x) * params["scale"]
        for part, own in zip(self.parts, params["parts"], strict=True):
            x = part(own, x)
        return x


BLOCK = Block(nn.Linear(4, 4), (nn.Linear(4, 4), nn.ReLU(), nn.LayerNorm(4)), 4)

# Layers, and the shapes of what PyTorch has of them, in its order.
LAYERS: list[tuple[Any, Any, dict[str, tuple[int, ...]]]] = [
    (nn.Linear(4, 3), 4, {"weight": (3, 4), "bias": (3,)}),
    (nn.Linear(None, 3, bias=False), 4, {"weight": (3, 4)}),
    (nn.Conv2d(4, 6, (3, 2), groups=2), (4, 5, 5), {"weight": (6, 2, 3, 2), "bias": (6,)}),
    (nn.Conv1d(4, 6, 3, layout="NWC"), (5, 4), {"weight": (6, 4, 3), "bias": (6,)}),
    (
        nn.ConvTranspose2d(4, 6, 3, groups=2, layout="NHWC"),
        (5, 5, 4),
        {"weight": (4, 3, 3, 3), "bias": (6,)},
    ),
    (
        nn.BatchNorm2d(4),
        (4, 2, 2),
        {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,)}
        | {"num_batches_tracked": ()},
    ),
    (nn.LayerNorm((3, 2), bias=False), (3, 2), {"weight": (3, 2)}),
    (nn.LayerNorm(2), 2, {"weight": (2,), "bias": (2,)}),
    (nn.RMSNorm(2, elementwise_affine=False), 2, {}),
    (nn.GroupNorm(2, 4), 4, {"weight": (4,), "bias": (4,)}),
    (nn.InstanceNorm(4), (4, 2), {}),
    (nn.Embedding(7, 3), 2, {"weight": (7, 3)}),
    (nn.PReLU(3), 3, {"weight": (3,)}),
    (
        nn.LSTM(4, 3, 2, bidirectional=True, bias=False),
        (5, 4),
        {"weight_ih_l0": (12, 4), "weight_hh_l0": (12, 3)}
        | {"weight_ih_l0_reverse": (12, 4), "weight_hh_l0_reverse": (12, 3)}
        | {"weight_ih_l1": (12, 6), "weight_hh_l1": (12, 3)}
        | {"weight_ih_l1_reverse": (12, 6), "weight_hh_l1_reverse": (12, 3)},
    ),
    (
        nn.GRU(4, 3),
        (5, 4),
        {"weight_ih_l0": (9, 4), "weight_hh_l0": (9, 3), "bias_ih_l0": (9,), "bias_hh_l0": (9,)},
    ),
    (
        nn.MultiheadAttention(4, 2),
        (5, 4),
        {"in_proj_weight": (12, 4), "in_proj_bias": (12,)}
        | {"out_proj.weight": (4, 4), "out_proj.bias": (4,)},
    ),
    (
        BLOCK,
        4,
        {"scale": (4,), "stem.weight": (4, 4), "stem.bias": (4,)}
        | {"parts.0.weight": (4, 4), "parts.0.bias": (4,)}
        | {"parts.2.weight": (4,), "parts.2.bias": (4,)},
    ),
    (
        nn.Residual(nn.Sequential(nn.Flatten(), nn.Linear(4, 4))),
        4,
        {"block.1.weight": (4, 4), "block.1.bias": (4,)},
    ),
]


@pytest.mark.parametrize(("layer", "shape", "names"), LAYERS, ids=lambda value: repr(value)[:30])
def test_there_and_back(layer, shape, names):
    state: dict[str, Any] = {name: RNG.normal(size=size) for name, size in names.items()}
    before = {name: array.copy() for name, array in state.items()}
    params = from_torch(layer, state)
    like = layer.init(0, shape)
    assert fg.tree.structure(params) == fg.tree.structure(like)
    assert fg.tree.map(np.shape, params) == fg.tree.map(np.shape, like)
    back = to_torch(layer, params)
    assert list(back) == list(names)
    for name, array in state.items():
        if name != "num_batches_tracked":
            np.testing.assert_array_equal(back[name], array)
            assert back[name].flags.c_contiguous and back[name].dtype == np.float64
    # Nothing is shared with what was given.
    for leaf in fg.tree.leaves(params):
        leaf += 1
    assert all(np.array_equal(state[name], before[name]) for name in state)
    # With a prefix, beside what belongs to others.
    placed = {f"encoder.{name}": array for name, array in state.items()} | {"head.weight": 1}
    again = from_torch(layer, placed, prefix="encoder.")
    assert list(to_torch(layer, again, prefix="encoder.")) == list(placed)[:-1]


def test_linear_layers_are_transposed():
    state = drawn(weight=(3, 4), bias=(3,))
    x = RNG.normal(size=(2, 4))
    layer = nn.Linear(4, 3)
    expected = x @ state["weight"].T + state["bias"]
    np.testing.assert_allclose(layer(from_torch(layer, state), x), expected)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_convolutions_of_both_layouts_compute_the_same(kind):
    first = kind(4, 6, (3, 2), groups=2)
    last = kind(4, 6, (3, 2), groups=2, layout="NHWC")
    state = to_torch(first, first.init(0, (4, 5, 5), np.float64))
    x = RNG.normal(size=(2, 4, 5, 5))
    y = last(from_torch(last, state), np.moveaxis(x, 1, -1))
    np.testing.assert_allclose(np.moveaxis(y, -1, 1), first(from_torch(first, state), x))


def test_batch_norms_take_running_statistics():
    layer = nn.BatchNorm(2)
    state = drawn(weight=(2,), bias=(2,), running_mean=(2,)) | {"running_var": np.array([4.0, 9.0])}
    x = RNG.normal(size=(5, 2))
    centred = (x - state["running_mean"]) / np.sqrt(state["running_var"] + 1e-5)
    expected = centred * state["weight"] + state["bias"]
    # PyTorch's counter of batches may be there or not.
    for more in ({}, {"num_batches_tracked": np.array(7)}):
        np.testing.assert_allclose(layer(from_torch(layer, state | more), x), expected)


def test_shared_layers_have_their_names_at_every_place():
    inner = nn.Linear(4, 4)
    model = nn.Sequential(inner, nn.Tanh(), inner)
    state = to_torch(model, model.init(0, 4))
    assert list(state) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    params = from_torch(model, state)
    assert [list(part) for part in params] == [["weight", "bias"], [], []]
    from_torch(model, {name: state[name] for name in ("0.weight", "0.bias")})
    with pytest.raises(ParameterMismatchError, match=r"2\.bias is another array than at 0"):
        from_torch(model, state | {"2.bias": state["2.bias"] + 1})
    # A model that shares nothing is another one.
    assert model != nn.Sequential(inner, nn.Tanh(), copy.copy(inner))


class Tensor:
    """What tensors have that are differentiated: no way to an array but through these."""

    def __init__(self, array: Any):
        self.array = array
        self.seen: list[str] = []

    def detach(self) -> Tensor:
        self.seen.append("detach")
        return self

    def cpu(self) -> Tensor:
        self.seen.append("cpu")
        return self

    def __array__(self, dtype=None, copy=None):
        assert self.seen == ["detach", "cpu"]
        return self.array


def test_tensors_are_detached_and_fetched():
    params = from_torch(nn.PReLU(), {"weight": Tensor(np.array([0.5], np.float16))})
    np.testing.assert_array_equal(params["weight"], np.array([0.5], np.float16))
    assert params["weight"].dtype == np.float16


class Own(nn.Layer):
    inner: nn.Linear

    def init_params(self, key, input_shape, dtype):
        inner = self.inner.init(key, input_shape, dtype)
        return {"inner": inner, "gains": {"a": np.ones(3, dtype), "b": np.ones((), dtype)}}

    def apply(self, params, x):
        return self.inner(params["inner"], x) * params["gains"]["a"] * params["gains"]["b"]


class Plain(nn.Layer):
    def init_params(self, key, input_shape, dtype):
        return [np.zeros((2, *input_shape), dtype)]

    def apply(self, params, x):
        return x


def test_layers_with_an_init_params_of_their_own():
    model = nn.Sequential(Own(nn.Linear(4, 3)), Plain())
    params = model.init(0, 4)
    state = to_torch(model, params)
    names = ["0.inner.weight", "0.inner.bias", "0.gains.a", "0.gains.b", "1.0"]
    assert list(state) == names and state["0.inner.weight"].shape == (3, 4)
    with pytest.raises(ArgumentError, match=r"Own.*like=model.init"):
        from_torch(model, state)
    again = from_torch(model, {n: a + 1 for n, a in state.items()}, like=params)
    assert all(
        fg.tree.leaves(fg.tree.map(np.array_equal, again, fg.tree.map(lambda a: a + 1, params)))
    )
    with pytest.raises(ParameterMismatchError, match=r"missing: 0\.gains\.b, of shape \(\)"):
        from_torch(model, {n: a for n, a in state.items() if n != "0.gains.b"}, like=params)


def test_safetensors_files_written_elsewhere(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    params = model.init(0, 4)
    safetensors.save_file(to_torch(model, params), tmp_path / "m.safetensors")
    read = from_torch(model, nn.load(tmp_path / "m.safetensors"))
    assert all(fg.tree.leaves(fg.tree.map(np.array_equal, read, params)))


def refused(call, *parts, error: type[Exception] = ParameterMismatchError):
    with pytest.raises(error) as caught:
        call()
    for part in parts:
        assert part in str(caught.value), caught.value


def test_what_does_not_fit_is_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(None, 2))
    state = to_torch(model, model.init(0, 4))
    refused(
        lambda: from_torch(model, {"0.weight": np.ones((4, 3)), "3.bias": 1, "0.bias": np.ones(3)}),
        "0.weight has shape (4, 3), not (3, 4)",
        "missing: 2.weight, of shape (2, ?)",
        "missing: 2.bias, of shape (2,)",
        "not expected: 3.bias",
        "to_state_dict",
    )
    wrapped = {f"module.{name}": array for name, array in state.items()}
    refused(lambda: from_torch(model, wrapped), "prefix='module.'")
    assert from_torch(model, wrapped, prefix="module.")[1] == {}
    refused(lambda: from_torch(nn.Linear(4, 3), {f"w{i}": 1 for i in range(30)}), "20 more")
    refused(lambda: from_torch(model, state | {"0.bias": "abc"}), "0.bias", error=ArgumentError)
    refused(
        lambda: from_torch(state, model), "a model and then its state dict", error=ArgumentError
    )  # type: ignore[arg-type]


def test_parameters_of_another_model_are_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm(3))
    params = nn.Sequential(nn.Linear(5, 3), nn.LayerNorm(3)).init(0, 5)
    refused(
        lambda: to_torch(model, params),
        "0.weight is of shape (3, 5), not (3, 4)",
        "1.running_mean is missing",
        "model.init",
    )
    refused(lambda: to_torch(model, None), "not None", error=ArgumentError)
