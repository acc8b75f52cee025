"""The benchmarks' own arithmetic; the peers they measure against are not installed here."""

from __future__ import annotations

import numpy as np
import pytest

import funcgrad as fg
from benchmarks import logistic, mlp, report
from benchmarks.harness import Bar, Contender, Plan, Result, check_agreement, compare

QUICK = Plan(rounds=3, repeats=1, loop_s=0.0)


def contender(name: str, numbers: list[float]) -> Contender:
    return Contender(name, lambda: None, outcome=lambda: numbers)


def test_contenders_that_agree_pass() -> None:
    check_agreement([contender("a", [1.0, 2.0]), contender("b", [1.0, 2.0 + 1e-9])])


def test_contenders_that_differ_are_named() -> None:
    with pytest.raises(AssertionError, match="b differs from a in output 1"):
        check_agreement([contender("a", [1.0, 2.0]), contender("b", [1.0, 2.1])])


def test_every_round_measures_every_contender_once_in_alternating_order() -> None:
    calls: list[str] = []
    contenders = [Contender(name, lambda name=name: calls.append(name)) for name in "abc"]
    results = compare("letters", contenders, {"b": Bar(2.0)}, QUICK)
    warm_up, measured = calls[:6], calls[6:]
    assert warm_up == list("aabbcc")
    assert measured == list("abccbaabc")
    assert [(r.peer, r.bar) for r in results] == [("b", Bar(2.0)), ("c", None)]
    for result in results:
        ratios = np.array(result.ours) / np.array(result.peers)
        assert result.figures == pytest.approx(tuple(ratios))


def test_the_median_of_the_ratios_decides() -> None:
    result = Result("w", "p", (1.0,), (1.0,), (0.1, 1.0, 9.0), Bar(1.0))
    assert result.figure == 1.0 and result.met
    assert not Bar(20.0, at_least=True).met(19.0)
    assert Bar(20.0, at_least=True).met(20.0)


def test_table() -> None:
    ratio = Result("step", "NumPy", (2e-6,), (1e-6,), (1.5, 2.0, 2.5), Bar(1.2))
    extra = Result("import", "NumPy", (0.2,), (0.15,), (0.05,), Bar(0.06), figure_unit="s")
    assert report.table([ratio, extra]).splitlines()[2:] == [
        "| step | 2 µs | NumPy | 1 µs | 2 × [1.5 … 2.5] | ≤ 1.2 × | **no** |",
        "| import | 200 ms | NumPy | 150 ms | +50 ms [50 ms … 50 ms] | ≤ 60 ms | yes |",
    ]


@pytest.mark.parametrize(
    "by_hand", [logistic.value_and_grad_by_hand, logistic.value_and_grad_simplified]
)
def test_logistic_gradient_by_hand(by_hand) -> None:
    loss = logistic.make_loss(np)
    expected, grads = fg.value_and_grad(loss)(logistic.START, logistic.X, logistic.Y)
    value, by_rule = by_hand(logistic.START, logistic.X, logistic.Y)
    assert value == pytest.approx(expected)
    for name, grad in grads.items():
        np.testing.assert_allclose(by_rule[name], grad, rtol=1e-12)


def test_mlp_step_by_hand() -> None:
    check_agreement(
        [mlp.funcgrad_contender(), mlp.numpy_contender()], calls=2, rtol=1e-4, atol=1e-6
    )
