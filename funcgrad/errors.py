"""Every error that a user of funcgrad can meet.

Each class shows, in its docstring, code that fails and the same code mended.
"""

from __future__ import annotations


class FuncgradError(Exception):
    """Base of all errors raised by funcgrad: ``except fg.errors.FuncgradError`` catches them."""


class TreeMismatchError(FuncgradError, ValueError):
    """Two pytrees that must have the same structure do not.

    Fails::

        params = {"w": w, "b": b}
        grads = {"w": dw}
        fg.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    Mended: give each tree the same keys, lengths and node types::

        grads = {"w": dw, "b": db}
        fg.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    """


class TreeKeyError(FuncgradError, TypeError):
    """The keys of a dict in a pytree cannot be sorted, so its leaves have no stable order.

    Fails::

        fg.tree.leaves({"w": w, 0: b})

    Mended: use keys of one sortable type, or an ``OrderedDict``, which keeps its own order::

        fg.tree.leaves({"w": w, "b": b})
    """
