"""Pytrees: nested containers of leaves.

A *pytree* is a leaf (an array, a number, any object that is not a container) or a container of
pytrees. Containers are ``dict`` (keys sorted), ``OrderedDict`` and ``defaultdict``, ``list``,
``tuple``, named tuples, dataclasses (each field is a child, unless it is declared with
``field(metadata={"static": True})``), ``None`` (a container without children) and the classes
given to :func:`register_node` or :func:`register_dataclass`.

>>> from funcgrad import tree
>>> params = {"w": [1.0, 2.0], "b": 3.0}
>>> leaves, treedef = tree.flatten(params)
>>> leaves, treedef
([3.0, 1.0, 2.0], PyTreeDef({'b': *, 'w': [*, *]}))
>>> tree.unflatten(treedef, leaves) == params
True
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from ._nodes import (
    NODES,
    UNKNOWN,
    AttrKey,
    ChildKey,
    DictKey,
    Key,
    Node,
    Path,
    SequenceKey,
    classify,
    keystr,
    register_dataclass,
    register_leaf,
    register_node,
)
from .errors import TreeMismatchError

__all__ = [
    "AttrKey",
    "ChildKey",
    "DictKey",
    "Key",
    "Path",
    "SequenceKey",
    "TreeDef",
    "astype",
    "broadcast_prefix",
    "flatten",
    "flatten_with_path",
    "keystr",
    "leaves",
    "map",
    "map_with_path",
    "reduce",
    "register_dataclass",
    "register_leaf",
    "register_node",
    "structure",
    "unflatten",
]

IsLeaf = Callable[[Any], bool]

# The structure of a tree is plain nested tuples, (class, aux, child specs), and None for a leaf:
# they are cheap to build, and hash and compare in C.
Spec = tuple[type, Hashable, tuple[Any, ...]] | None


# -- Structures ----------------------------------------------------------------------------------


class TreeDef(tuple[Spec, int]):
    """The structure of a pytree: what is left of it when each leaf is replaced by ``*``.

    Hashable and comparable with ``==``. Made by :func:`flatten` and :func:`structure`.

    >>> structure({"a": 1, "b": [2, 3]})
    PyTreeDef({'a': *, 'b': [*, *]})
    """

    # A tuple, so that hashing and comparing (each call of a jitted function does both) run in C.
    __slots__ = ()

    @property
    def num_leaves(self) -> int:
        """How many leaves a tree of this structure has."""
        return self[1]

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """Build the tree that has this structure and the given leaves.

        Raises:
            TreeMismatchError: there are not :attr:`num_leaves` of them.

        >>> structure((0, [0, 0])).unflatten("xyz")
        ('x', ['y', 'z'])
        """
        leaves = leaves if isinstance(leaves, list) else list(leaves)
        if len(leaves) != self[1]:
            raise TreeMismatchError(
                f"the structure {self} has {self[1]} leaves, but {len(leaves)} were given; "
                "pass one leaf for each * in it."
            )
        return leaves[0] if self[0] is None else _unflatten(self[0], iter(leaves))

    def flatten_up_to(self, tree: Any) -> list[Any]:
        """The subtrees of a tree at the places where this structure has its leaves.

        Raises:
            TreeMismatchError: the tree does not begin with this structure.

        >>> structure({"a": 0, "b": 0}).flatten_up_to({"a": [1, 2], "b": 3})
        [[1, 2], 3]
        """
        return _flatten_up_to(self, tree, "the tree")

    def __repr__(self) -> str:
        return f"PyTreeDef({_show(self[0])})"


def _show(spec: Spec) -> str:
    if spec is None:
        return "*"
    cls, aux, specs = spec
    return _node(cls).show(aux, [_show(child) for child in specs])


def _node(cls: type) -> Node:
    node = NODES.get(cls)
    # A structure that came from another process may hold a class that this one has not met.
    node = classify(cls) if node is None else node
    assert node is not None, f"{cls} is in a tree structure but is no pytree class"
    return node


def _unflatten(spec: Any, leaves: Any) -> Any:
    cls, aux, specs = spec
    children = [next(leaves) if s is None else _unflatten(s, leaves) for s in specs]
    return _node(cls).unflatten(aux, children)


# -- Flattening ----------------------------------------------------------------------------------


def _flatten(obj: object, leaves: list[Any], is_leaf: IsLeaf | None) -> Spec:
    """Append the leaves of ``obj`` to ``leaves``, and return its structure."""
    cls = type(obj)
    node = NODES[cls] if cls in NODES else classify(cls)
    if node is None or (is_leaf is not None and is_leaf(obj)):
        leaves.append(obj)
        return None
    children, aux = node.flatten(obj)
    specs: list[Spec] = []
    for child in children:
        # A child of a class known to be a leaf is the usual case, and here needs no call.
        if NODES.get(type(child), UNKNOWN) is None:
            leaves.append(child)
            specs.append(None)
        else:
            specs.append(_flatten(child, leaves, is_leaf))
    return cls, aux, tuple(specs)


def flatten(tree: Any, is_leaf: IsLeaf | None = None) -> tuple[list[Any], TreeDef]:
    """Take a pytree apart into the list of its leaves and its structure.

    Args:
        tree: any pytree.
        is_leaf: called on each node from the root down; where it returns true, the node is taken
            as a leaf and not entered.

    Returns:
        The leaves, from left to right (dicts by sorted key), and the :class:`TreeDef`.

    Raises:
        TreeKeyError: a dict's keys cannot be sorted.

    >>> flatten({"b": (1, None), "a": 2})
    ([2, 1], PyTreeDef({'a': *, 'b': (*, None)}))
    >>> flatten([1, None], is_leaf=lambda x: x is None)
    ([1, None], PyTreeDef([*, *]))
    """
    leaves: list[Any] = []
    spec = _flatten(tree, leaves, is_leaf)
    return leaves, TreeDef((spec, len(leaves)))


def leaves(tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves of a pytree, in the order of :func:`flatten`.

    >>> leaves({"b": (1, None), "a": 2})
    [2, 1]
    """
    found: list[Any] = []
    _flatten(tree, found, is_leaf)
    return found


def structure(tree: Any, is_leaf: IsLeaf | None = None) -> TreeDef:
    """The structure of a pytree, without its leaves.

    >>> structure({"b": (1, None), "a": 2})
    PyTreeDef({'a': *, 'b': (*, None)})
    """
    return flatten(tree, is_leaf)[1]


def unflatten(treedef: TreeDef, leaves: Iterable[Any]) -> Any:
    """Build the tree with the given structure and leaves: the inverse of :func:`flatten`.

    Raises:
        TreeMismatchError: the number of leaves is not ``treedef.num_leaves``.

    >>> unflatten(structure({"a": 0, "b": [0, 0]}), [1, 2, 3])
    {'a': 1, 'b': [2, 3]}
    """
    return treedef.unflatten(leaves)


def flatten_with_path(
    tree: Any, is_leaf: IsLeaf | None = None
) -> tuple[list[tuple[Path, Any]], TreeDef]:
    """Like :func:`flatten`, with each leaf in a pair ``(path, leaf)``.

    >>> pairs, _ = flatten_with_path({"w": [1, 2]})
    >>> [(keystr(path), leaf) for path, leaf in pairs]
    [("['w'][0]", 1), ("['w'][1]", 2)]
    """
    leaves, treedef = flatten(tree, is_leaf)
    return list(zip(_paths(treedef[0], ()), leaves, strict=True)), treedef


def _paths(spec: Spec, path: Path) -> list[Path]:
    if spec is None:
        return [path]
    cls, aux, specs = spec
    keys = _node(cls).keys(aux, len(specs))
    return [p for key, s in zip(keys, specs, strict=True) for p in _paths(s, (*path, key))]


# -- Several trees at once -----------------------------------------------------------------------


class _Mismatch(Exception):
    """A difference of structure; collects the path to it while it is raised to the root."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path: Path = ()


def _subtrees(spec: Spec, obj: Any, found: list[Any]) -> None:
    """Append to ``found`` what ``obj`` has at each leaf of ``spec``."""
    if spec is None:
        found.append(obj)
        return
    cls, aux, specs = spec
    node = _node(cls)
    if type(obj) is not cls:
        raise _Mismatch(f"there is {_describe(obj)} where {_describe_spec(spec)} is expected")
    children, other_aux = node.flatten(obj)
    if other_aux != aux or len(children) != len(specs):
        raise _Mismatch(_difference(spec, _flatten(obj, [], None)))
    for i, (child_spec, child) in enumerate(zip(specs, children, strict=True)):
        try:
            _subtrees(child_spec, child, found)
        except _Mismatch as mismatch:
            mismatch.path = (node.keys(aux, len(specs))[i], *mismatch.path)
            raise


def _describe(obj: Any) -> str:
    if obj is None:
        return "None"
    shape = getattr(obj, "shape", None)
    of_shape = f" of shape {shape}" if isinstance(shape, tuple) else ""
    return _with_article(type(obj).__name__) + of_shape


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiouAEIOU" or noun == "ndarray" else f"a {noun}"


def _describe_spec(spec: Any) -> str:
    cls, _, specs = spec
    if cls is type(None):
        return "None"
    return f"{_with_article(cls.__name__)} of length {len(specs)}"


def _difference(expected: Any, found: Any) -> str:
    """Why two nodes of one class differ, in words."""
    cls, aux, specs = expected
    node = _node(cls)
    want, have = node.keys(aux, len(specs)), node.keys(found[1], len(found[2]))
    missing = [str(key) for key in want if key not in have]
    extra = [str(key) for key in have if key not in want]
    if missing or extra:
        parts = [f"lacks {', '.join(missing)}"] if missing else []
        parts += [f"has an unexpected {', '.join(extra)}"] if extra else []
        return f"the {cls.__name__} there {' and '.join(parts)}"
    if want != have:
        return f"the {cls.__name__} there has its keys in the order {keystr(have)}"
    return f"the {cls.__name__} there has the static part {found[1]!r} instead of {aux!r}"


def _flatten_up_to(treedef: TreeDef, tree: Any, name: str, first: str = "expected") -> list[Any]:
    found: list[Any] = []
    try:
        _subtrees(treedef[0], tree, found)
    except _Mismatch as mismatch:
        where = f"at {keystr(mismatch.path)}" if mismatch.path else "at its root"
        width = max(len(first), len(name))
        raise TreeMismatchError(
            f"{name} differs in structure {where}: {mismatch.reason}.\n"
            f"  {first:<{width}}  {treedef}\n"
            f"  {name:<{width}}  {structure(tree)}\n"
            "Give both the same containers, keys and lengths (tree.structure shows them)."
        ) from None
    return found


def map(f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None) -> Any:
    """Apply a function to each leaf, or to the leaves of several trees side by side.

    Args:
        f: takes a leaf of ``tree`` and what each further tree has in its place.
        tree: the tree whose structure the result has.
        *rest: trees that begin with the structure of ``tree`` (where it has a leaf, they may
            have a whole subtree).
        is_leaf: as in :func:`flatten`, for ``tree``.

    Raises:
        TreeMismatchError: a further tree does not begin with the structure of ``tree``.

    >>> map(lambda p, g: p - g, {"w": 3, "b": [1, 2]}, {"w": 1, "b": [1, 1]})
    {'b': [0, 1], 'w': 2}
    """
    columns, treedef = _columns(tree, rest, is_leaf)
    return treedef.unflatten([f(*row) for row in zip(*columns, strict=True)])


def astype(tree: Any, dtype: Any) -> Any:
    """The tree with its arrays of floats in another dtype.

    Integers and booleans (labels, counts, random keys) stay as they are, and so do Python's
    numbers, which promote nothing.

    Args:
        tree: a pytree of arrays and numbers.
        dtype: a float dtype, such as ``np.float32``.

    >>> import numpy as np
    >>> found = astype({"w": np.ones(2), "count": np.array(3)}, np.float32)
    >>> found["w"].dtype, found["count"].dtype
    (dtype('float32'), dtype('int64'))
    """

    def cast(leaf: Any) -> Any:
        return leaf.astype(dtype) if hasattr(leaf, "astype") and leaf.dtype.kind == "f" else leaf

    return map(cast, tree)


def _columns(
    tree: Any, rest: tuple[Any, ...], is_leaf: IsLeaf | None
) -> tuple[list[list[Any]], TreeDef]:
    """The leaves of the first tree and what the others have in their places, tree by tree."""
    leaves, treedef = flatten(tree, is_leaf)
    others = [
        _flatten_up_to(treedef, other, f"tree {i}", "tree 1") for i, other in enumerate(rest, 2)
    ]
    return [leaves, *others], treedef


def map_with_path(
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf | None = None
) -> Any:
    """Like :func:`map`, with the leaf's path as the function's first argument.

    >>> map_with_path(lambda path, x: f"{keystr(path)} = {x}", {"w": [1, 2]})
    {'w': ["['w'][0] = 1", "['w'][1] = 2"]}
    """
    columns, treedef = _columns(tree, rest, is_leaf)
    rows = zip(_paths(treedef[0], ()), *columns, strict=True)
    return treedef.unflatten([f(*row) for row in rows])


_MISSING = object()


def reduce(
    f: Callable[[Any, Any], Any],
    tree: Any,
    initializer: Any = _MISSING,
    is_leaf: IsLeaf | None = None,
) -> Any:
    """Combine the leaves from left to right: ``f(... f(f(initializer, leaf 0), leaf 1) ...)``.

    Without ``initializer`` it starts with the first leaf.

    Raises:
        TypeError: the tree has no leaves and there is no ``initializer``.

    >>> reduce(lambda total, x: total + x, {"a": 1, "b": [2, 3]}, 0)
    6
    """
    found = leaves(tree, is_leaf)
    if initializer is not _MISSING:
        return functools.reduce(f, found, initializer)
    if not found:
        raise TypeError("tree.reduce of a tree without leaves needs an initializer")
    return functools.reduce(f, found)


def broadcast_prefix(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf | None = None) -> list[Any]:
    """The leaves of a prefix of a tree, each repeated for all the leaves it stands for.

    A prefix is what ``in_axes`` of ``vmap`` is: a tree that may have a leaf where the full tree
    has a whole subtree.

    Args:
        prefix_tree: a tree with which the structure of ``full_tree`` begins.
        full_tree: the tree to match.
        is_leaf: as in :func:`flatten`, for ``prefix_tree``; ``lambda x: x is None`` lets None
            stand for a value.

    Returns:
        A list as long as ``leaves(full_tree)``.

    Raises:
        TreeMismatchError: ``prefix_tree`` is not a prefix of ``full_tree``.

    >>> broadcast_prefix((0, None), ({"w": 1, "b": 2}, 3), is_leaf=lambda x: x is None)
    [0, 0, None]
    """
    prefix_leaves, treedef = flatten(prefix_tree, is_leaf)
    subtrees = _flatten_up_to(treedef, full_tree, "the tree", "its prefix")
    return [
        leaf for leaf, subtree in zip(prefix_leaves, subtrees, strict=True) for _ in leaves(subtree)
    ]
