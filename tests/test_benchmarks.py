"""The benchmarks' own arithmetic; the peers they measure against are not installed here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
from benchmarks import harness, logistic, mlp, report, roofline
from benchmarks.harness import Bar, Contender, Plan, Result, Work, check_agreement, compare
from benchmarks.roofline import Roofline

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


def test_a_bar_for_several_peers_is_at_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0

    def work(nanoseconds: int) -> None:
        nonlocal now
        now += nanoseconds

    monkeypatch.setattr(harness, "perf_counter_ns", lambda: now)
    costs = {"ours": 1, "slow": 2_000_000, "fast": 1_000_000}
    contenders = [Contender(name, lambda n=n: work(n)) for name, n in costs.items()]
    results = compare("pauses", contenders, {("slow", "fast"): Bar(2.0)}, QUICK)
    assert [(r.peer, r.bar) for r in results] == [("slow", None), ("fast", Bar(2.0))]


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
    alone = Result("first call", "", (0.02,), (), (0.02,), Bar(0.03), figure_unit="s")
    assert report.table([alone]).splitlines()[2:] == [
        "| first call | 20 ms | none |  | 20 ms [20 ms … 20 ms] | ≤ 30 ms | yes |",
    ]


def test_page(tmp_path: Path) -> None:
    limits = Roofline({("copying", 1): 10e9, ("copying", 2): 20e9}, {"float32": 100e9})
    work = Work(moved=2_000_000, flops=100_000_000)
    rows = [Result("step", "NumPy", (2e-3,), (1e-3,), (2.0,), Bar(1.2), work=work)]
    report.write(rows, "a machine", limits, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "copying 10 GB/s with 1 thread, copying 20 GB/s with 2 threads" in text
    assert "| step | 2 MB | 0.1 GFLOP | 1 ms | 2 ms | 2 × |" in text
    assert limits.least_seconds(Work(moved=40_000_000)) == pytest.approx(2e-3)


def test_roofline_measures() -> None:
    for kind in roofline.KINDS:
        roofline.Moving(kind, 4096, threads=2)()


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
