"""What the same code is written for: equations with numbers in place of their variables."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from funcgrad._static import identity
from funcgrad.core.graph import Const, Eqn

# Constants of more bytes are told apart by identity.
_MOST_BYTES = 4096


class Form:
    """Variables, or buffers, by numbers: in the order in which they were met.

    Attributes:
        met: they themselves.
    """

    def __init__(self) -> None:
        self.met: list[Any] = []
        self._numbers: dict[int, int] = {}

    def number(self, x: Any) -> int:
        found = self._numbers.get(id(x))
        if found is None:
            found = self._numbers[id(x)] = len(self.met)
            self.met.append(x)
        return found

    def eqn(self, eqn: Eqn) -> Hashable:
        """The same for equations that compute the same of variables of the same numbers.

        Where a parameter has no hash, neither has this.
        """
        params = [(k, identity(v)) for k, v in eqn.params.items()]
        ins = tuple([_const(a) if type(a) is Const else self.number(a) for a in eqn.ins])
        outs = tuple([(self.number(o), o.aval) for o in eqn.outs])
        return eqn.prim, ins, tuple(params), outs


def _const(atom: Const) -> Hashable:
    value = atom.value
    if isinstance(value, np.ndarray) and value.nbytes > _MOST_BYTES:
        return None, id(value)
    return type(value), atom.aval, np.asarray(value, atom.aval.dtype).tobytes()
