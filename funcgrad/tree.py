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
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from .errors import TreeKeyError, TreeMismatchError

__all__ = [
    "AttrKey",
    "ChildKey",
    "DictKey",
    "Key",
    "Path",
    "SequenceKey",
    "TreeDef",
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

T = TypeVar("T", bound=type)
IsLeaf = Callable[[Any], bool]

# The structure of a tree is plain nested tuples, (class, aux, child specs), and None for a leaf:
# they are cheap to build, and hash and compare in C.
Spec = tuple[type, Hashable, tuple[Any, ...]] | None


# -- Paths ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DictKey:
    """A step of a path into a dict; prints as ``['key']``.

    >>> str(DictKey("w"))
    "['w']"
    """

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """A step of a path into a list or tuple; prints as ``[0]``.

    >>> str(SequenceKey(0))
    '[0]'
    """

    index: int

    def __str__(self) -> str:
        return f"[{self.index}]"


@dataclass(frozen=True, slots=True)
class AttrKey:
    """A step of a path into a named tuple or dataclass; prints as ``.name``.

    >>> str(AttrKey("bias"))
    '.bias'
    """

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


@dataclass(frozen=True, slots=True)
class ChildKey:
    """A step of a path into a node of a registered class; prints as ``<0>``.

    >>> str(ChildKey(0))
    '<0>'
    """

    index: int

    def __str__(self) -> str:
        return f"<{self.index}>"


Key = DictKey | SequenceKey | AttrKey | ChildKey
Path = tuple[Key, ...]


def keystr(path: Iterable[Key]) -> str:
    """The path to a leaf as Python code would spell it, to be put behind the tree's name.

    >>> (path, leaf), *_ = flatten_with_path({"layers": [(1.0, 2.0)]})[0]
    >>> keystr(path)
    "['layers'][0][0]"
    """
    return "".join(str(key) for key in path)


# -- The registry of node classes ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Node:
    """What the walks below must know of a container class."""

    flatten: Callable[[Any], tuple[Sequence[object], Any]]  # object -> children, aux
    unflatten: Callable[[Any, list[Any]], Any]  # aux, children -> object
    keys: Callable[[Any, int], list[Key]]  # aux, number of children -> a key for each
    show: Callable[[Any, list[str]], str]  # aux, children's text -> text


def _sequence_keys(_aux: Any, count: int) -> list[Key]:
    return [SequenceKey(i) for i in range(count)]


def _child_keys(_aux: Any, count: int) -> list[Key]:
    return [ChildKey(i) for i in range(count)]


def _show_tuple(_aux: Any, parts: list[str]) -> str:
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def _show_items(keys: Iterable[Any], parts: list[str]) -> str:
    return "{" + ", ".join(f"{k!r}: {p}" for k, p in zip(keys, parts, strict=True)) + "}"


def _sorted_keys(mapping: dict[Any, Any]) -> tuple[Any, ...]:
    try:
        return tuple(sorted(mapping))
    except TypeError:
        kinds = ", ".join(sorted({type(key).__name__ for key in mapping}))
        raise TreeKeyError(
            f"the keys of a dict in a pytree must be sortable, so that its leaves have one order; "
            f"these are of the types {kinds}: {list(mapping)!r}. "
            "Use keys of one type, or an OrderedDict, which keeps its own order."
        ) from None


def _flatten_dict(mapping: dict[Any, Any]) -> tuple[list[Any], tuple[Any, ...]]:
    keys = _sorted_keys(mapping)
    return [mapping[key] for key in keys], keys


def _flatten_defaultdict(mapping: defaultdict[Any, Any]) -> tuple[list[Any], Any]:
    children, keys = _flatten_dict(mapping)
    return children, (mapping.default_factory, keys)


_DICT = _Node(
    flatten=_flatten_dict,
    unflatten=lambda keys, children: dict(zip(keys, children, strict=True)),
    keys=lambda keys, _: [DictKey(key) for key in keys],
    show=_show_items,
)

# Class -> how to take it apart; a class that is no container maps to None once it has been met.
_NODES: dict[type, _Node | None] = {
    dict: _DICT,
    OrderedDict: _Node(
        flatten=lambda mapping: (list(mapping.values()), tuple(mapping)),
        unflatten=lambda keys, children: OrderedDict(zip(keys, children, strict=True)),
        keys=_DICT.keys,
        show=lambda keys, parts: f"OrderedDict({_show_items(keys, parts)})",
    ),
    defaultdict: _Node(
        flatten=_flatten_defaultdict,
        unflatten=lambda aux, children: defaultdict(aux[0], zip(aux[1], children, strict=True)),
        keys=lambda aux, _: [DictKey(key) for key in aux[1]],
        show=lambda aux, parts: f"defaultdict({aux[0]!r}, {_show_items(aux[1], parts)})",
    ),
    list: _Node(
        flatten=lambda seq: (seq, None),
        unflatten=lambda _, children: children,
        keys=_sequence_keys,
        show=lambda _, parts: f"[{', '.join(parts)}]",
    ),
    tuple: _Node(
        flatten=lambda seq: (seq, None),
        unflatten=lambda _, children: tuple(children),
        keys=_sequence_keys,
        show=_show_tuple,
    ),
    type(None): _Node(
        flatten=lambda _: ((), None),
        unflatten=lambda _aux, _children: None,
        keys=_sequence_keys,
        show=lambda _aux, _parts: "None",
    ),
}
_UNKNOWN = object()
_registered: set[type] = set(_NODES)


def _namedtuple_node(cls: Any) -> _Node:
    names: tuple[str, ...] = cls._fields
    return _Node(
        flatten=lambda obj: (obj, None),
        unflatten=lambda _, children: cls._make(children),
        keys=lambda _aux, _count: [AttrKey(name) for name in names],
        show=lambda _, parts: _show_fields(cls, names, parts),
    )


def _show_fields(cls: type, names: Iterable[str], parts: Iterable[str]) -> str:
    text = ", ".join(f"{name}={part}" for name, part in zip(names, parts, strict=True))
    return f"{cls.__name__}({text})"


def _fields_node(cls: type[object], data: tuple[str, ...], meta: tuple[str, ...]) -> _Node:
    # The object is rebuilt field by field, not through __init__, because its leaves may just now
    # be anything (tracers, axes, strings) and a __post_init__ that validates would reject them.
    def unflatten(aux: tuple[Any, ...], children: list[Any]) -> Any:
        obj = object.__new__(cls)
        for name, value in zip(data + meta, [*children, *aux], strict=True):
            object.__setattr__(obj, name, value)
        return obj

    return _Node(
        flatten=lambda obj: (
            [getattr(obj, name) for name in data],
            tuple([getattr(obj, name) for name in meta]),
        ),
        unflatten=unflatten,
        keys=lambda _aux, _count: [AttrKey(name) for name in data],
        show=lambda aux, parts: _show_fields(cls, data + meta, [*parts, *[repr(a) for a in aux]]),
    )


def _classify(cls: type) -> _Node | None:
    """Decide what a class met for the first time is, and remember it."""
    node = None
    if tuple in cls.__mro__ and hasattr(cls, "_fields"):
        node = _namedtuple_node(cls)
    elif is_dataclass(cls):
        static = [f.name for f in fields(cls) if f.metadata.get("static", False)]
        data = [name for name in _field_names(cls) if name not in static]
        node = _fields_node(cls, tuple(data), tuple(static))
    _NODES[cls] = node
    return node


def _field_names(cls: Any) -> list[str]:
    return [f.name for f in fields(cls)] if is_dataclass(cls) else []


def _register(cls: type, node: _Node | None) -> None:
    if cls in _registered:
        raise ValueError(f"{cls.__name__} is already registered as a pytree class")
    _registered.add(cls)
    _NODES[cls] = node


def register_node(
    cls: T,
    flatten: Callable[[Any], tuple[Iterable[Any], Hashable]],
    unflatten: Callable[[Any, list[Any]], Any],
) -> T:
    """Make a class of containers known, so that its objects are nodes and no longer leaves.

    Args:
        cls: the class; exactly this one, subclasses are registered on their own.
        flatten: takes an object to ``(children, aux)``; aux, which must be hashable and
            comparable with ``==``, is all that a child is not.
        unflatten: takes ``(aux, children)`` back to an object. The children may be anything.

    Returns:
        The class.

    Raises:
        ValueError: the class is already registered.

    >>> class Interval:
    ...     def __init__(self, low, high):
    ...         self.low, self.high = low, high
    >>> _ = register_node(Interval, lambda i: ((i.low, i.high), None), lambda _, c: Interval(*c))
    >>> flatten(Interval(1, 2))
    ([1, 2], PyTreeDef(Interval(*, *)))
    """

    def flatten_to_tuple(obj: Any) -> tuple[tuple[Any, ...], Hashable]:
        children, aux = flatten(obj)
        return tuple(children), aux

    def show(aux: Any, parts: list[str]) -> str:
        static = "" if aux is None else f"[{aux!r}]"
        return f"{cls.__name__}{static}({', '.join(parts)})"

    _register(cls, _Node(flatten_to_tuple, unflatten, _child_keys, show))
    return cls


def register_dataclass(
    cls: T, data_fields: Sequence[str] = (), meta_fields: Sequence[str] = ()
) -> T:
    """Say which attributes of a class are children and which belong to the structure.

    A dataclass needs this only where ``field(metadata={"static": True})`` will not do; the class
    need not be a dataclass. Its objects are rebuilt attribute by attribute, without calling
    ``__init__`` or ``__post_init__``.

    Args:
        cls: the class.
        data_fields: names of the attributes that are pytrees.
        meta_fields: names of the attributes that are hashable and comparable with ``==``.

    Returns:
        The class.

    Raises:
        ValueError: the class is already registered, or the two lists do not name each field of
            the dataclass once.

    >>> @dataclass
    ... class Scaled:
    ...     value: float
    ...     unit: str
    >>> _ = register_dataclass(Scaled, data_fields=["value"], meta_fields=["unit"])
    >>> flatten(Scaled(2.0, "m"))
    ([2.0], PyTreeDef(Scaled(value=*, unit='m')))
    """
    named = sorted([*data_fields, *meta_fields])
    known = sorted(_field_names(cls) or named)
    if named != known:
        raise ValueError(
            f"data_fields and meta_fields must name each field of {cls.__name__} once: "
            f"its fields are {known}, named were {named}"
        )
    _register(cls, _fields_node(cls, tuple(data_fields), tuple(meta_fields)))
    return cls


def register_leaf(cls: T) -> T:
    """Make the objects of a dataclass or named tuple leaves; usable as a decorator.

    Raises:
        ValueError: the class is already registered.

    >>> @register_leaf
    ... @dataclass
    ... class Shape:
    ...     height: int
    ...     width: int
    >>> leaves([Shape(2, 3)])
    [Shape(height=2, width=3)]
    """
    _register(cls, None)
    return cls


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


def _node(cls: type) -> _Node:
    node = _NODES.get(cls)
    # A structure that came from another process may hold a class that this one has not met.
    node = _classify(cls) if node is None else node
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
    node = _NODES[cls] if cls in _NODES else _classify(cls)
    if node is None or (is_leaf is not None and is_leaf(obj)):
        leaves.append(obj)
        return None
    children, aux = node.flatten(obj)
    specs: list[Spec] = []
    for child in children:
        # A child of a class known to be a leaf is the usual case, and here needs no call.
        if _NODES.get(type(child), _UNKNOWN) is None:
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
