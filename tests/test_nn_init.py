"""Initialisers: their distributions, fans, dtypes and options."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import funcgrad as fg
from funcgrad.errors import ArgumentError
from funcgrad_nn import init

KEY = fg.random.key(0)
SHAPE = (120, 80)
FAN_IN, FAN_OUT = SHAPE


def uniform(bound):
    return stats.uniform(-bound, 2 * bound)


# Initialiser -> the distribution its formula in the literature gives for SHAPE.
DISTRIBUTIONS = {
    init.uniform(-0.5, 2.0): stats.uniform(-0.5, 2.5),
    init.normal(0.1, mean=3.0): stats.norm(3.0, 0.1),
    init.truncated_normal(0.5): stats.truncnorm(-2, 2, 0.0, 0.5),
    init.fan_in_uniform(): uniform(FAN_IN**-0.5),
    init.glorot_uniform(): uniform((6 / (FAN_IN + FAN_OUT)) ** 0.5),
    init.glorot_uniform(2.0): uniform(2 * (6 / (FAN_IN + FAN_OUT)) ** 0.5),
    init.glorot_normal(): stats.norm(0, (2 / (FAN_IN + FAN_OUT)) ** 0.5),
    init.he_uniform(): uniform((6 / FAN_IN) ** 0.5),
    init.he_normal("fan_out"): stats.norm(0, (2 / FAN_OUT) ** 0.5),
    init.lecun_uniform(): uniform((3 / FAN_IN) ** 0.5),
    init.lecun_normal(): stats.norm(0, (1 / FAN_IN) ** 0.5),
}


@pytest.mark.parametrize("initializer", DISTRIBUTIONS, ids=repr)
def test_distribution(initializer):
    values = initializer(KEY, SHAPE, np.float64)
    assert values.shape == SHAPE
    test = stats.kstest(values.ravel(), DISTRIBUTIONS[initializer].cdf)
    assert test.pvalue > 1e-3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    "initializer",
    [*DISTRIBUTIONS, init.zeros(), init.ones(), init.constant(2.0), init.orthogonal()],
    ids=repr,
)
def test_dtype(initializer, dtype):
    values = initializer(KEY, (4, 3), dtype)
    assert values.dtype == dtype and values.shape == (4, 3)


def test_truncated_variance_scaling_has_the_variance():
    values = init.variance_scaling(1.0, "fan_in", "truncated_normal")(KEY, (400, 300), np.float64)
    assert values.std() == pytest.approx(400**-0.5, rel=0.01)


def test_constants():
    np.testing.assert_array_equal(init.zeros()(KEY, (2, 3)), np.zeros((2, 3)))
    np.testing.assert_array_equal(init.ones()(KEY, (3,)), np.ones(3))
    np.testing.assert_array_equal(init.constant(-2.5)(KEY, ()), -2.5)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (2, 3, 4)])
def test_orthogonal(shape):
    q = init.orthogonal(2.0)(KEY, shape, np.float64).reshape(-1, shape[-1])
    small = q.T @ q if q.shape[0] >= q.shape[1] else q @ q.T
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_fans():
    assert init.fans((3, 5, 7, 11)) == (105, 165)
    with pytest.raises(ArgumentError, match=r"\(7,\).*zeros"):
        init.glorot_normal()(KEY, (7,))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((1.0, "fan", "normal"), "mode must be"),
        ((1.0, "fan_in", "gauss"), "distribution must be"),
        ((-1.0, "fan_in", "normal"), "scale must not be negative"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ArgumentError, match=message):
        init.variance_scaling(*options)


def test_initialisers_compare_and_print_by_their_settings():
    assert init.he_normal() == init.he_normal() != init.he_normal("fan_out")
    assert init.zeros() == init.zeros() != init.ones()
    printed = {
        init.zeros(): "zeros()",
        init.constant(0.5): "constant(0.5)",
        init.uniform(-1, 1): "uniform(-1, 1)",
        init.normal(0.1): "normal(0.1, 0.0)",
        init.truncated_normal(): "truncated_normal(1.0, 0.0)",
        init.glorot_uniform(): "glorot_uniform()",
        init.glorot_normal(2.0): "glorot_normal(2.0)",
        init.he_uniform("fan_avg"): "he_uniform('fan_avg')",
        init.lecun_normal(): "lecun_normal()",
        init.orthogonal(): "orthogonal()",
        init.variance_scaling(
            0.5, "fan_in", "uniform"
        ): "variance_scaling(0.5, 'fan_in', 'uniform')",
    }
    assert [repr(initializer) for initializer in printed] == list(printed.values())


def test_pytorch_and_keras_names():
    assert init.xavier_uniform is init.glorot_uniform and init.xavier_normal is init.glorot_normal
    assert init.kaiming_uniform is init.he_uniform and init.kaiming_normal is init.he_normal
