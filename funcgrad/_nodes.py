"""The container classes of pytrees: how each is taken apart, and a path's steps into it."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from ._static import Static, dataclass_fields
from .errors import TreeKeyError
from .records import NamedTuple, Value

T = TypeVar("T", bound=type)


# -- Paths ---------------------------------------------------------------------------------------


class DictKey(Value):
    """A step of a path into a dict; prints as ``['key']``.

    >>> str(DictKey("w"))
    "['w']"
    """

    key: Any

    def __str__(self) -> str:
        return f"[{self.key!r}]"


class SequenceKey(Value):
    """A step of a path into a list or tuple; prints as ``[0]``.

    >>> str(SequenceKey(0))
    '[0]'
    """

    index: int

    def __str__(self) -> str:
        return f"[{self.index}]"


class AttrKey(Value):
    """A step of a path into a named tuple or dataclass; prints as ``.name``.

    >>> str(AttrKey("bias"))
    '.bias'
    """

    name: str

    def __str__(self) -> str:
        return f".{self.name}"


class ChildKey(Value):
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

    >>> (path, leaf), *_ = fg.tree.flatten_with_path({"layers": [(1.0, 2.0)]})[0]
    >>> keystr(path)
    "['layers'][0][0]"
    """
    return "".join(str(key) for key in path)


# -- The registry of node classes ----------------------------------------------------------------


class Node(NamedTuple):
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


def _exact(keys: tuple[Any, ...]) -> Any:
    """A dict's keys as a part of the structure; those of a dict may be equal and yet differ."""
    return keys if all(type(key) is str for key in keys) else Static(keys)


def _sorted_keys(mapping: dict[Any, Any]) -> Any:
    try:
        keys = tuple(sorted(mapping))
    except TypeError:
        kinds = ", ".join(sorted({type(key).__name__ for key in mapping}))
        raise TreeKeyError(
            f"the keys of a dict in a pytree must be sortable, so that its leaves have one order; "
            f"these are of the types {kinds}: {list(mapping)!r}. "
            "Use keys of one type, or an OrderedDict, which keeps its own order."
        ) from None
    # What can be sorted among strings are strings.
    return keys if not keys or type(keys[0]) is str else Static(keys)


def _flatten_dict(mapping: dict[Any, Any]) -> tuple[list[Any], Any]:
    keys = _sorted_keys(mapping)
    return [mapping[key] for key in keys], keys


def _flatten_defaultdict(mapping: defaultdict[Any, Any]) -> tuple[list[Any], Any]:
    children, keys = _flatten_dict(mapping)
    return children, (mapping.default_factory, keys)


_DICT = Node(
    flatten=_flatten_dict,
    unflatten=lambda keys, children: dict(zip(keys, children, strict=True)),
    keys=lambda keys, _: [DictKey(key) for key in keys],
    show=_show_items,
)

# Class -> how to take it apart; a class that is no container maps to None once it has been met.
NODES: dict[type, Node | None] = {
    dict: _DICT,
    OrderedDict: Node(
        flatten=lambda mapping: (list(mapping.values()), _exact(tuple(mapping))),
        unflatten=lambda keys, children: OrderedDict(zip(keys, children, strict=True)),
        keys=_DICT.keys,
        show=lambda keys, parts: f"OrderedDict({_show_items(keys, parts)})",
    ),
    defaultdict: Node(
        flatten=_flatten_defaultdict,
        unflatten=lambda aux, children: defaultdict(aux[0], zip(aux[1], children, strict=True)),
        keys=lambda aux, _: [DictKey(key) for key in aux[1]],
        show=lambda aux, parts: f"defaultdict({aux[0]!r}, {_show_items(aux[1], parts)})",
    ),
    list: Node(
        flatten=lambda seq: (seq, None),
        unflatten=lambda _, children: children,
        keys=_sequence_keys,
        show=lambda _, parts: f"[{', '.join(parts)}]",
    ),
    tuple: Node(
        flatten=lambda seq: (seq, None),
        unflatten=lambda _, children: tuple(children),
        keys=_sequence_keys,
        show=_show_tuple,
    ),
    type(None): Node(
        flatten=lambda _: ((), None),
        unflatten=lambda _aux, _children: None,
        keys=_sequence_keys,
        show=lambda _aux, _parts: "None",
    ),
}
UNKNOWN = object()
_registered: set[type] = set(NODES)


def _namedtuple_node(cls: Any) -> Node:
    names: tuple[str, ...] = cls._fields
    return Node(
        flatten=lambda obj: (obj, None),
        unflatten=lambda _, children: cls._make(children),
        keys=lambda _aux, _count: [AttrKey(name) for name in names],
        show=lambda _, parts: _show_fields(cls, names, parts),
    )


def _show_fields(cls: type, names: Iterable[str], parts: Iterable[str]) -> str:
    text = ", ".join(f"{name}={part}" for name, part in zip(names, parts, strict=True))
    return f"{cls.__name__}({text})"


def _fields_node(cls: type[object], data: tuple[str, ...], meta: tuple[str, ...]) -> Node:
    # The object is rebuilt field by field, not through __init__, because its leaves may just now
    # be anything (tracers, axes, strings) and a __post_init__ that validates would reject them.
    def unflatten(aux: Iterable[Any], children: list[Any]) -> Any:
        obj = object.__new__(cls)
        for name, value in zip(data + meta, [*children, *aux], strict=True):
            object.__setattr__(obj, name, value)
        return obj

    return Node(
        flatten=lambda obj: (
            [getattr(obj, name) for name in data],
            Static(tuple([getattr(obj, name) for name in meta])) if meta else (),
        ),
        unflatten=unflatten,
        keys=lambda _aux, _count: [AttrKey(name) for name in data],
        show=lambda aux, parts: _show_fields(cls, data + meta, [*parts, *[repr(a) for a in aux]]),
    )


def classify(cls: type) -> Node | None:
    """Decide what a class met for the first time is, and remember it."""
    node = None
    if tuple in cls.__mro__ and hasattr(cls, "_fields"):
        node = _namedtuple_node(cls)
    elif (fields := dataclass_fields(cls)) is not None:
        static = [f.name for f in fields if f.metadata.get("static", False)]
        data = [f.name for f in fields if f.name not in static]
        node = _fields_node(cls, tuple(data), tuple(static))
    NODES[cls] = node
    return node


def _field_names(cls: Any) -> list[str]:
    return [f.name for f in dataclass_fields(cls) or ()]


def _register(cls: type, node: Node | None) -> None:
    if cls in _registered:
        raise ValueError(f"{cls.__name__} is already registered as a pytree class")
    _registered.add(cls)
    NODES[cls] = node


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
    >>> fg.tree.flatten(Interval(1, 2))
    ([1, 2], PyTreeDef(Interval(*, *)))
    """

    def flatten_to_tuple(obj: Any) -> tuple[tuple[Any, ...], Hashable]:
        children, aux = flatten(obj)
        return tuple(children), None if aux is None else Static(aux)

    def show(aux: Any, parts: list[str]) -> str:
        static = "" if aux is None else f"[{aux!r}]"
        return f"{cls.__name__}{static}({', '.join(parts)})"

    def unflatten_value(aux: Any, children: list[Any]) -> Any:
        return unflatten(aux if aux is None else aux.value, children)

    _register(cls, Node(flatten_to_tuple, unflatten_value, _child_keys, show))
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

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Scaled:
    ...     value: float
    ...     unit: str
    >>> _ = register_dataclass(Scaled, data_fields=["value"], meta_fields=["unit"])
    >>> fg.tree.flatten(Scaled(2.0, "m"))
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

    >>> from dataclasses import dataclass
    >>> @register_leaf
    ... @dataclass
    ... class Shape:
    ...     height: int
    ...     width: int
    >>> fg.tree.leaves([Shape(2, 3)])
    [Shape(height=2, width=3)]
    """
    _register(cls, None)
    return cls
