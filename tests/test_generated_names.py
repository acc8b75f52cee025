"""Names in generated source: the user's own win, helpers make way."""

from __future__ import annotations

import numpy as np

import funcgrad as fg
from funcgrad.core.tracer import bind
from funcgrad.primitives.elementwise import logistic as logistic_p


def _run(source: str, name: str, *args):
    namespace: dict[str, object] = {}
    exec(source, namespace)
    return namespace[name](*args)


def test_a_function_named_like_a_helper():
    def logistic(x):
        return bind(logistic_p, x)

    x = np.array([-1.0, 0.0, 2.0])
    source = fg.jit(logistic).lower(x).text
    np.testing.assert_array_equal(_run(source, "logistic", x), logistic(x))


def test_a_parameter_named_like_a_helper():
    def f(logistic):
        return bind(logistic_p, logistic) + logistic

    x = np.array([-1.0, 0.0, 2.0])
    source = fg.jit(f).lower(x).text
    np.testing.assert_array_equal(_run(source, "f", x), f(x))
