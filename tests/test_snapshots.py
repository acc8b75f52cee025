"""Printed graphs and generated programs, exactly.

`python tests/test_snapshots.py` writes what is printed now; the diff is to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import funcgrad as fg
from funcgrad.backends.common.prepare import prepare
from funcgrad.core.aval import Aval
from funcgrad.core.graph import Const, Eqn, Graph, Var
from funcgrad.errors import GraphError
from funcgrad.primitives.control_flow import scan
from funcgrad.primitives.elementwise import add, cos, sin
from funcgrad.transforms.simplify import simplify
from snapshot_cases import GRAPHS, SOURCES, X, f, texts

FOLDER = Path(__file__).parent / "snapshots"
TEXTS = texts()


def path_of(name: str) -> Path:
    return FOLDER / f"{name.replace(' ', '_')}.txt"


@pytest.mark.parametrize("name", TEXTS)
def test_printed_as_kept(name: str) -> None:
    path = path_of(name)
    assert path.exists(), "run `python tests/test_snapshots.py`, and read what it writes"
    for _ in range(2):
        assert TEXTS[name]() + "\n" == path.read_text(encoding="utf-8")


def test_nothing_is_kept_that_is_not_printed() -> None:
    assert {p.name for p in FOLDER.iterdir()} == {path_of(name).name for name in TEXTS}


def test_text_and_repr_are_the_same() -> None:
    graph = fg.make_graph(f)(X)
    assert repr(graph) == str(graph) == TEXTS["graph of function"]()


# --- the grammar -----------------------------------------------------------------------


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_pass_their_check_after_every_pass(name: str) -> None:
    function, args = GRAPHS[name]
    graph = fg.make_graph(function)(*args).check()
    for later in (simplify(graph), simplify(simplify(graph)), prepare(graph)):
        later.check()
        assert later.in_avals == graph.in_avals
        for now, then in zip(later.out_avals, graph.out_avals, strict=True):
            assert (now.shape, now.dtype) == (then.shape, then.dtype)


@pytest.mark.parametrize("name", GRAPHS)
def test_simplified_graphs_stay_as_they_are(name: str) -> None:
    function, args = GRAPHS[name]
    once = simplify(fg.make_graph(function)(*args))
    assert len(simplify(once).eqns) == len(once.eqns)


F3 = Aval((3,), np.dtype(float))


def eqn(prim: Any, ins: Sequence[Any], *outs: Any) -> Eqn:
    return Eqn(prim, tuple(ins), {}, outs)


x, y, z = Var(F3), Var(F3), Var(F3)
scalar, single = Var(Aval((), np.dtype(float))), Var(Aval((3,), np.dtype("f4")))
BROKEN = {
    "equation 0 (sin): reads a variable before it is assigned": ([x], [eqn(sin, [z], y)], [y]),
    "the outputs: reads a variable before it is assigned": ([x], [eqn(sin, [x], y)], [z]),
    "(cos): a variable is assigned twice": ([x], [eqn(sin, [x], y), eqn(cos, [x], y)], [y]),
    "an input: a variable is assigned twice": ([x, x], [], [x]),
    "equation 0 (sin): a variable is assigned twice": ([x], [eqn(sin, [x], x)], [x]),
    "result is f64[], the shape rule says f64[3]": ([x], [eqn(sin, [x], scalar)], []),
    "result is f32[3], the shape rule says f64[3]": ([x], [eqn(sin, [x], single)], []),
    "2 results, rule says 1": ([x], [eqn(add, [x, x], y, z)], [y]),
    "is neither a variable nor a constant": ([x], [eqn(sin, [X], y)], [y]),
    "the outputs: array": ([x], [], [X]),
    "is assigned, but is no variable": ([x], [eqn(sin, [x], Const(X))], [x]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_graphs_are_refused(kind: str) -> None:
    with pytest.raises(GraphError) as caught:
        Graph(*BROKEN[kind]).check()
    assert kind in str(caught.value)


def test_shape_rules_refuse_operands_that_do_not_fit() -> None:
    longer = Var(Aval((4,), np.dtype(float)))
    with pytest.raises(ValueError, match="shape mismatch"):
        Graph([x, longer], [eqn(add, [x, longer], y)], []).check()


def test_graphs_inside_equations_are_checked() -> None:
    graph = fg.make_graph(lambda xs: fg.scan(lambda c, x: (c + x, c), 0.0, xs))(X)
    (eqn,) = [e for e in graph.eqns if e.prim is scan]
    body = eqn.params["body"]
    wrong = Graph(body.inputs, [*body.eqns, *body.eqns], body.outputs)
    inner = Eqn(scan, eqn.ins, {**eqn.params, "body": wrong}, eqn.outs)
    with pytest.raises(GraphError, match="assigned twice"):
        Graph(graph.inputs, [inner], eqn.outs).check()


# --- sources ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_sources_are_compiled_programs(name: str) -> None:
    function, args = SOURCES[name]
    namespace: dict[str, Any] = {}
    exec(TEXTS[f"source of {name}"](), namespace)
    *_, generated = filter(callable, namespace.values())
    expected = fg.tree.leaves(function(*args))
    for found, value in zip(fg.tree.leaves(generated(*args)), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-12)


def write() -> None:
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.iterdir():
        old.unlink()
    for name, text in TEXTS.items():
        path_of(name).write_text(text() + "\n", encoding="utf-8")


if __name__ == "__main__":
    write()
