"""Copying functions into generated modules: their source, under names free there.

A primitive's implementation is copied with what it refers to: other functions, constants,
modules. So it must be a plain `def` without closure or decorators.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from funcgrad.records import NamedTuple

Position = tuple[int, int]


class Copied(NamedTuple):
    """A function's source, and where it refers to what.

    Attributes:
        name: the function's own, in the source.
        source: the text of the `def`.
        uses: the global names it refers to, its own aside, with line and column (in bytes).
        builtins: names of Python's own that it refers to.
        own: where its own name stands besides in the `def`.
        local: names that it assigns.
        annotated: it has annotations, which must not be evaluated.
    """

    name: str
    source: str
    uses: dict[str, list[Position]]
    builtins: frozenset[str]
    own: list[Position]
    local: frozenset[str]
    annotated: bool

    def renamed(self, names: Mapping[str, str], own: str) -> str:
        """The source with global names replaced as `names` says, and the function's by `own`.

        Raises:
            ValueError: a new name is one of the function's local names.
        """
        edits = [(at, self.name, own) for at in self.own]
        for name, positions in self.uses.items():
            new = names[name]
            if new != name and new in self.local:
                raise ValueError(f"{self.name} has a local name {new!r}, which stands for {name!r}")
            edits += [(at, name, new) for at in positions]
        lines = [line.encode() for line in self.source.splitlines()]
        for (line, column), old, new in sorted(edits, reverse=True):
            text = lines[line]
            lines[line] = text[:column] + new.encode() + text[column + len(old.encode()) :]
        text = "\n".join(line.decode() for line in lines)
        return text.replace(f"def {self.name}(", f"def {own}(", 1)


@lru_cache(maxsize=512)
def copied(function: FunctionType) -> Copied:
    """A function's source, ready to be copied.

    Raises:
        ValueError: it is no plain `def`: a lambda, a closure, decorated, or without source.
    """
    name = function.__name__
    where = f"{function.__module__}.{function.__qualname__}"
    if function.__closure__ or hasattr(function, "__wrapped__"):
        raise ValueError(f"{where} is a closure or decorated; generated code cannot hold a copy")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except OSError:
        raise ValueError(f"the source of {where} is not available") from None
    definition = _definition(source)
    if definition is None or definition.name != name or definition.decorator_list:
        raise ValueError(f"{where} is no plain def, so that generated code cannot hold a copy")
    local = frozenset(_local_names(function.__code__))
    found: dict[str, list[Position]] = {}
    for node in _runtime_nodes(definition):
        if isinstance(node, ast.Name) and node.id not in local:
            found.setdefault(node.id, []).append((node.lineno - 1, node.col_offset))
    mixed = local & set(_global_loads(function.__code__))
    if mixed:
        raise ValueError(f"{where} uses {sorted(mixed)} both as local and as global names")
    own = found.pop(name, [])
    uses = {n: at for n, at in found.items() if n in function.__globals__}
    python = frozenset(n for n in found if n not in uses)
    unknown = [n for n in python if not hasattr(builtins, n)]
    if unknown:
        raise ValueError(f"{where} refers to unknown names {unknown}")
    annotated = "->" in source or any(
        isinstance(node, ast.arg) and node.annotation for node in ast.walk(definition)
    )
    return Copied(name, source.rstrip(), uses, python, own, local, annotated)


def _definition(source: str) -> ast.FunctionDef | None:
    try:
        (statement,) = ast.parse(source).body
    except (SyntaxError, ValueError):
        return None
    return statement if isinstance(statement, ast.FunctionDef) else None


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but annotations, which are not evaluated."""
    yield node
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _runtime_nodes(child)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _local_names(code: CodeType) -> Iterator[str]:
    for inner in _codes(code):
        yield from (*inner.co_varnames, *inner.co_cellvars, *inner.co_freevars)


def _global_loads(code: CodeType) -> Iterator[Any]:
    for inner in _codes(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opname == "LOAD_GLOBAL":
                yield instruction.argval
