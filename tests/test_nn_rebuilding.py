"""Parameters drawn anew, and layers replaced."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
import funcgrad_nn as nn
from funcgrad.errors import ArgumentError, LayerShapeError


class Net(nn.Layer):
    def __init__(self, hidden: int):
        self.stem = nn.Linear(4, hidden)
        self.parts = [nn.LayerNorm(hidden), nn.Linear(hidden, hidden)]
        self.attention = nn.MultiheadAttention(hidden, 2)
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(hidden, 2))

    def apply(self, params, x):
        x = self.stem(params["stem"], x)
        for part, own in zip(self.parts, params["parts"], strict=True):
            x = part(own, x)
        x = self.attention(params["attention"], x[:, None])[:, 0]
        return self.last(params["last"], x)


def test_all_layers_of_a_kind_are_drawn_anew():
    model = Net(6)
    params = model.init(0, 4, np.float64)
    half = nn.init.constant(0.5)
    new = nn.reinitialize(model, params, 1, of=nn.Linear, weight=half)
    assert fg.tree.structure(new) == fg.tree.structure(params)
    before, after = nn.named_parameters(params), nn.named_parameters(new)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {
        "stem.weight", "parts.1.weight", "attention.out_proj.weight", "last.1.weight"
    }  # fmt: skip
    assert all(np.all(after[name] == 0.5) and after[name].dtype == np.float64 for name in changed)


def test_layers_are_chosen_by_paths_and_by_functions():
    model = Net(6)
    params = model.init(0, 4)
    ones = nn.init.constant(7.0)
    for where in ("last.*", lambda path, layer: isinstance(layer, nn.Linear) and path == "last.1"):
        new = nn.named_parameters(nn.reinitialize(model, params, 1, where=where, weight=ones))
        assert [name for name, array in new.items() if np.all(array == 7)] == ["last.1.weight"]


def test_each_array_is_drawn_with_a_key_of_its_own():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    normal = nn.init.normal()
    new = nn.reinitialize(model, model.init(0, 3), 1, weight=normal)
    again = nn.reinitialize(model, model.init(5, 3), fg.random.key(1), weight=normal)
    assert not np.array_equal(new[0]["weight"], new[1]["weight"])
    np.testing.assert_array_equal(new[0]["weight"], again[0]["weight"])


def test_a_shared_layer_is_drawn_once():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    new = nn.reinitialize(model, model.init(0, 3), 1, where="0", weight=nn.init.ones())
    assert new[2] == {} and np.all(new[0]["weight"] == 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda draw: nn.Conv2d(4, 6, (2, 3), groups=2, weight_init=draw),
        lambda draw: nn.Conv1d(4, 6, 3, layout="NWC", weight_init=draw),
        lambda draw: nn.ConvTranspose2d(4, 6, (2, 3), groups=2, weight_init=draw),
        lambda draw: nn.Linear(3, 5, weight_init=draw),
        lambda draw: nn.Embedding(3, 5, weight_init=draw),
    ],
)
def test_initialisers_are_given_what_init_gives_them(make):
    shapes, plain = [], nn.init.glorot_normal()

    def draw(key, shape, dtype):
        shapes.append(tuple(shape))
        return plain(key, shape, dtype)

    layer = make(draw)
    rank = getattr(layer, "rank", 0)
    params = layer.init(0, {0: 3, 1: (8, 4), 2: (4, 8, 8)}[rank])
    new = nn.reinitialize(layer, params, 1, weight=draw)
    assert shapes[0] == shapes[-1] and len(shapes) > 1
    assert new["weight"].shape == params["weight"].shape


class Wrapped(nn.Layer):
    inner: nn.Linear

    def init_params(self, key, input_shape, dtype):
        return self.inner.init(key, input_shape, dtype)

    def apply(self, params, x):
        return self.inner(params, x)


def test_what_cannot_be_drawn():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    params = model.init(0, 3)
    with pytest.raises(ArgumentError, match=r"model\.init\(key, input_shape\)"):
        nn.reinitialize(model, params, 1)
    with pytest.raises(ArgumentError, match="no layer that is chosen has a parameter weigth"):
        nn.reinitialize(model, params, 1, weigth=nn.init.ones(), bias=nn.init.zeros())
    with pytest.raises(ArgumentError, match="no layer that is chosen has a parameter weight"):
        nn.reinitialize(model, params, 1, of=nn.Conv2d, weight=nn.init.ones())
    wrapped = Wrapped(nn.Linear(3, 3))
    with pytest.raises(ArgumentError, match="'inner' are not found under its name: Wrapped makes"):
        nn.reinitialize(wrapped, wrapped.init(0, 3), 1, of=nn.Linear, weight=nn.init.ones())


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("stem", nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 6))),
        ("parts.0", nn.RMSNorm(6)),
        ("last.1", nn.Linear(6, 5)),
        ("last.0", nn.PReLU()),
    ],
)
def test_one_layer_is_replaced(path, layer):
    model = Net(6)
    params = model.init(0, 4)
    new_model, new = nn.replace_layer(model, params, path, layer, 1, 4)
    assert model == model and new_model != model and hash(new_model) != hash(model)
    y = new_model(new, np.ones((3, 4), np.float32))
    assert y.shape == (3, 5 if path == "last.1" else 2)
    before, after = nn.named_parameters(params), nn.named_parameters(new)
    for name in before.keys() & after.keys():
        if not name.startswith(path):
            assert before[name] is after[name]
    assert fg.tree.structure(new) == fg.tree.structure(new_model.init(0, 4))


def test_a_shared_layer_is_replaced_at_all_places():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    model, params = nn.replace_layer(model, model.init(0, 3), "0", nn.Identity(), 1, 3)
    assert isinstance(model, nn.Sequential) and model[0] is model[2]
    np.testing.assert_array_equal(model(params, -np.ones((1, 3))), np.zeros((1, 3)))


def test_what_cannot_be_replaced():
    model = Net(6)
    params = model.init(0, 4)
    with pytest.raises(ArgumentError, match=r"Sequential has no layer '7'.* '0', '1'"):
        nn.replace_layer(model, params, "last.7", nn.ReLU(), 1, 4)
    with pytest.raises(ArgumentError, match=r"Net has no layer 'head'.* 'stem', 'parts\.0'"):
        nn.replace_layer(model, params, "head", nn.ReLU(), 1, 4)
    with pytest.raises(LayerShapeError):
        nn.replace_layer(model, params, "stem", nn.Linear(4, 5), 1, 4)
    lazy = nn.Sequential(nn.Linear(4, 6), nn.Linear(None, 2))
    with pytest.raises(LayerShapeError):
        nn.replace_layer(lazy, lazy.init(0, 4), "0", nn.Linear(4, 5), 1, 4)
    wrapped = Wrapped(nn.Linear(3, 3))
    with pytest.raises(ArgumentError, match="Wrapped makes them"):
        nn.replace_layer(wrapped, wrapped.init(0, 3), "inner", nn.Linear(3, 3), 1, 3)
