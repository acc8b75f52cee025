"""How graph-carrying primitives are written: calls inline, loops and branches as Python's."""

from __future__ import annotations

from funcgrad.backends.numpy.emit import Body, emits
from funcgrad.core.graph import Eqn


@emits("call")
def _call(body: Body, eqn: Eqn, ins: list[str]) -> list[str]:
    return body.nested(eqn.params["graph"], ins, extra="")
