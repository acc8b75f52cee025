"""The table of a model's layers."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad_nn as nn
from funcgrad.errors import LayerShapeError


class Siamese(nn.Layer):
    """The same encoder on both halves of the input."""

    encoder: nn.Layer

    def init_params(self, key, input_shape, dtype):
        return self.encoder.init(key, input_shape[1:], dtype)

    def apply(self, params, x):
        return self.encoder(params, x[:, 0]) - self.encoder(params, x[:, 1])


PRINTED = """\
layer        kind        output shape  parameters
-------------------------------------------------
model        Sequential  (2,)                 279
0            Siamese     (7,)                 263
0.encoder    Sequential  (7,)                 263
0.encoder.0  Flatten     (24,)                  0
0.encoder.1  Linear      (8,)                 200
0.encoder.2  ReLU        (8,)                   0
0.encoder.3  Linear      (7,)                  63
0.encoder    Sequential  (7,)                 263
0.encoder.0  Flatten     (24,)                  0
0.encoder.1  Linear      (8,)                 200
0.encoder.2  ReLU        (8,)                   0
0.encoder.3  Linear      (7,)                  63
1            Linear      (2,)                  16
-------------------------------------------------
input shape (2, 4, 6); 279 parameters, 1.09 KiB"""


def test_table():
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 7))
    model = nn.Sequential(Siamese(encoder), nn.Linear(7, 2))
    table = nn.summary(model, (2, 4, 6))
    assert str(table) == repr(table) == PRINTED


def test_table_agrees_with_the_model():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    table = nn.summary(model, 3, np.float64)
    params = model.init(0, (3,), np.float64)
    assert table.parameters == 26 and table.nbytes == 26 * 8
    assert [row.path for row in table.rows] == ["", "0", "1", "2"]
    assert [row.output_shape for row in table.rows] == [(2,), (4,), (4,), (2,)]
    assert [row.parameters for row in table.rows] == [26, 16, 0, 10]
    assert model(params, np.ones((1, 3))).shape[1:] == table.rows[0].output_shape


def test_one_layer_at_two_places_has_two_rows():
    relu = nn.ReLU()
    model = nn.Sequential(relu, nn.Linear(2, 2), relu)
    assert [row.path for row in nn.summary(model, 2).rows] == ["", "0", "1", "2"]


def test_nothing_is_computed():
    model = nn.Sequential(nn.Linear(10**6, 10**6), nn.Linear(10**6, 1))
    assert nn.summary(model, 10**6).parameters == 10**12 + 2 * 10**6 + 1
    assert str(nn.summary(model, 10**6)).endswith("GiB")


def test_layers_that_do_not_fit_are_named():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2)))
    with pytest.raises(LayerShapeError, match=r"^layer 0\.1, "):
        nn.summary(model, 3)


def test_models_work_as_before_after_an_error():
    def broken(x):
        raise KeyError("broken")

    model = nn.Sequential(nn.ReLU())
    with pytest.raises(KeyError):
        nn.summary(nn.Sequential(model, broken), 3)
    np.testing.assert_array_equal(model(({},), np.ones((1, 3))), np.ones((1, 3)))
