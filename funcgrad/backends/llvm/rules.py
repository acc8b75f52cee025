"""Which steps an equation becomes that is part of no loop nest, by its primitive's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from funcgrad.core.graph import Eqn

# Of a body (`program.Body`) and an equation.
Rule = Callable[[Any, Eqn], None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register
