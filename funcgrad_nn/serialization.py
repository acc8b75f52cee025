"""Saving pytrees of arrays as safetensors files, and loading them with every check there is.

The arrays are the file's tensors, named by their paths (``0.weight``), so that any program that
reads safetensors can use them. The file's metadata holds the structure of the tree as JSON, and a
checksum: the SHA-256 of the structure and of sums over the arrays' bytes.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad import tree
from funcgrad.errors import ArgumentError, FileFormatError, ParameterMismatchError
from funcgrad.files import atomic_write, open_to_read

from . import _safetensors
from ._safetensors import Entry, Reader
from .parameters import expect_parameters, plain

Array = NDArray[Any]
# A node of a tree as JSON: {"value": 3}, {"real": 1.0, "imag": 2.0}, {"array": name, "dtype": ...,
# "shape": ...}, or {"node": "dict", "keys": [...], "children": [...]}.
Node = dict[str, Any]
_VALUES = ({"value": bool}, {"value": int}, {"value": float}, {"real": float, "imag": float})

_METADATA_KEYS = {"funcgrad", "structure", "sha256"}
_FORMAT_VERSION = "2"
_BLOCK = 4096
_SHOWN_PROBLEMS = 8
_REBUILD: dict[str, Callable[[list[Any], list[Any]], Any]] = {
    "NoneType": lambda keys, children: None,
    "dict": lambda keys, children: dict(zip(keys, children, strict=True)),
    "OrderedDict": lambda keys, children: OrderedDict(zip(keys, children, strict=True)),
    "list": lambda keys, children: children,
    "tuple": lambda keys, children: tuple(children),
}


def save(path: str | os.PathLike[str], params: Any) -> None:
    """Save a pytree of arrays, such as a model's parameters, in a safetensors file.

    The file appears whole or not at all: until the new one is complete and on disk, an earlier
    file at ``path`` stays as it was (see :func:`funcgrad.files.atomic_write`).

    Args:
        path: where to write; the folder must exist.
        params: any pytree of arrays and Python numbers. Keys of dicts must be strings or
            integers. Static fields of dataclasses are not saved.

    Raises:
        TypeError: a leaf is no array or number, or of a dtype that safetensors lacks.
        ArgumentError: it is a model, which holds no parameters; or the two stand the other way
            round.
        FileFormatError: the names of the leaves take more than a safetensors header may hold.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> save(path, {"weight": np.ones((2, 3), np.float32), "bias": None})
    >>> load(path)
    {'bias': None, 'weight': array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)}
    """
    first: Any = path
    if isinstance(params, (str, os.PathLike)) and not isinstance(first, (str, bytes, os.PathLike)):
        raise ArgumentError(
            "save takes the path first, then the parameters (torch.save has them the other way "
            f"round): nn.save({os.fspath(params)!r}, params)"
        )
    expect_parameters("save", params)
    names = _tensor_names(params)
    structure = _as_json(_encode(params, (), names))
    tensors = {
        names[at]: _stored(np.asarray(leaf))
        for at, leaf in tree.flatten_with_path(params)[0]
        if not _is_scalar(leaf)
    }
    metadata = {
        "funcgrad": _FORMAT_VERSION,
        "structure": structure,
        "sha256": _digest(structure, tensors),
    }
    entries = _safetensors.layout(tensors)
    header = _safetensors.header(entries, metadata)
    _check_readable(path, header)
    with atomic_write(path) as file:
        _safetensors.reserve(file, len(header) + sum(t.nbytes for t in tensors.values()))
        file.write(header)
        for name in entries:
            file.write(_safetensors.stored(tensors[name]))


def load(path: str | os.PathLike[str], like: Any = None) -> Any:
    """Load what :func:`save` has saved.

    Tensors of dtypes that NumPy lacks, such as bfloat16, need the package ml_dtypes, which the
    extra ``io`` installs (``pip install "funcgrad[io]"``).

    Args:
        path: the file. Of one that another program has made, the tensors come as a flat dict.
        like: a pytree with the structure, and arrays with the shapes and dtypes, that the file
            must have (anything with ``shape`` and ``dtype`` will do as a leaf). Needed if the
            tree has named tuples, dataclasses or registered nodes, which are rebuilt after it.

    Returns:
        The tree, with new NumPy arrays.

    Raises:
        MissingDependencyError: a tensor needs ml_dtypes, which is not installed.
        FileFormatError: the file is truncated, corrupted or no safetensors file.
        ParameterMismatchError: the file differs from ``like``, or needs it; the message names
            the leaves.
        OSError: the file cannot be read, or is a pipe that nobody writes to.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> save(path, {"w": np.zeros((2, 3))})
    >>> load(path, like={"w": np.zeros((3, 2))})
    Traceback (most recent call last):
    ...
    funcgrad.errors.ParameterMismatchError: ...
      at ['w']: the file has float64 of shape (2, 3), like has float64 of shape (3, 2)
    ...
    """
    with open_to_read(path) as file:
        reader = Reader(file, path)
        if not reader.metadata.keys() & _METADATA_KEYS:
            if like is None:
                return {name: reader.read(name) for name in reader.entries}
            raise ParameterMismatchError(
                f"{path} does not say what structure its tensors have: it was not written by "
                "funcgrad_nn.save. Load it without like, and build the tree from the dict."
            )
        node = _structure(path, reader.entries, reader.metadata)
        tensors = _read(path, reader)
    if like is None:
        return _decode(path, node, "", tensors)
    _compare(path, node, _encode(like, (), _tensor_names(like)))
    return tree.structure(like).unflatten(_leaves(node, tensors))


# -- From tree to file ---------------------------------------------------------------------------


def _tensor_names(params: Any) -> dict[tree.Path, str]:
    """A name for each leaf: its path with dots, as in PyTorch's state dicts, if that can be one."""
    paths = [path for path, _ in tree.flatten_with_path(params)[0]]
    dotted = {path: ".".join(str(plain(key)) for key in path) or "params" for path in paths}
    names = set(dotted.values())
    if len(names) == len(paths) and _safetensors.METADATA not in names and _is_text(names):
        return dotted
    return {path: tree.keystr(path) for path in paths}


def _is_text(names: set[str]) -> bool:
    """Whether there are no halves of characters in names, as in those of undecodable files."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_scalar(leaf: Any) -> bool:
    return type(leaf) in (bool, int, float, complex)


def _encode(obj: Any, path: tree.Path, names: dict[tree.Path, str]) -> Node:
    """A tree as JSON, with the arrays' names in their places."""
    children, _ = tree.flatten_with_path(obj, is_leaf=lambda x: x is not obj)
    if [at for at, _ in children] == [()]:
        return _encode_leaf(obj, path, names)
    keys = [plain(at[0]) for at, _ in children]
    for key in keys:
        if type(key) not in (str, int):
            raise TypeError(
                f"the key {key!r} at params{tree.keystr(path)} cannot be saved: keys of dicts "
                "must be strings or integers."
            )
    return {
        "node": _type_name(obj),
        "keys": keys,
        "children": [_encode(child, path + at, names) for at, child in children],
    }


def _encode_leaf(leaf: Any, path: tree.Path, names: dict[tree.Path, str]) -> Node:
    if type(leaf) is complex:
        return {"real": leaf.real, "imag": leaf.imag}
    if _is_scalar(leaf):
        return {"value": leaf}
    shape, dtype = getattr(leaf, "shape", None), _dtype_name(leaf)
    if shape is None or dtype is None or isinstance(leaf, np.ma.MaskedArray):
        raise TypeError(
            f"the leaf at params{tree.keystr(path)} is {leaf!r:.60} ({_described(leaf)}), but "
            f"only Python numbers and arrays of {', '.join(_safetensors.CODES)} and complex128 "
            "can be saved."
        )
    return {"array": names[path], "dtype": dtype, "shape": list(shape)}


def _dtype_name(leaf: Any) -> str | None:
    """The name of the leaf's dtype, if it is one that can be saved."""
    try:
        name = _safetensors.name_of(np.dtype(leaf.dtype))
    except (AttributeError, TypeError):
        return None
    return name if name in _safetensors.CODES or name == "complex128" else None


def _described(leaf: Any) -> str:
    dtype = getattr(leaf, "dtype", None)
    return type(leaf).__name__ if dtype is None else f"{type(leaf).__name__} of dtype {dtype}"


def _as_json(node: Node) -> str:
    try:
        return json.dumps(node)
    except ValueError as error:
        raise TypeError(f"an integer among the params cannot be saved: {error}") from error


def _type_name(obj: object) -> str:
    cls = type(obj)
    builtin = cls.__name__ in _REBUILD and cls in (type(None), dict, OrderedDict, list, tuple)
    return cls.__name__ if builtin else f"{cls.__module__}.{cls.__qualname__}"


def _stored(array: Array) -> Array:
    """As safetensors takes it: complex128 as pairs of float64."""
    if _safetensors.name_of(array.dtype) != "complex128":
        return array
    if array.ndim == _safetensors.MAX_AXES:
        raise TypeError(f"complex128 arrays of {array.ndim} axes cannot be saved: reshape them.")
    array = np.ascontiguousarray(array, np.complex128).reshape(array.shape)
    return array[..., np.newaxis].view(np.float64)


def _stored_form(leaf: Node) -> tuple[str, list[int]]:
    """The dtype and shape that :func:`_stored` gives the array that a node describes."""
    if leaf["dtype"] == "complex128":
        return "float64", [*leaf["shape"], 2]
    return leaf["dtype"], leaf["shape"]


def _digest(structure: str, tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        _add_sums(digest, _safetensors.stored(tensors[name]))
    return digest.hexdigest()


def _add_sums(digest: Any, content: memoryview) -> None:
    """Adds to a checksum the sums of the words in each block, which any changed word changes.

    The SHA-256 of the whole would take longer than writing it.
    """
    whole = len(content) // _BLOCK * _BLOCK
    words = np.asarray(content[:whole]).view("<u8").reshape(-1, _BLOCK // 8)
    digest.update(np.add.reduce(words, axis=1).astype("<u8").data)
    digest.update(content[whole:])


def _add_all(digest: Any, content: memoryview) -> None:
    digest.update(content)


# How each version of the format that can be read makes its checksum.
_CHECKSUMS = {"1": _add_all, "2": _add_sums}


def _check_readable(path: str | os.PathLike[str], header: bytes) -> None:
    """Refuses what :func:`load` would refuse, before an earlier file is touched."""
    if len(header) - 8 > _safetensors.HEADER_LIMIT:
        raise FileFormatError(
            f"{path} cannot be written: the names and shapes of these params take "
            f"{len(header):,} bytes, and a safetensors header holds {_safetensors.HEADER_LIMIT:,}. "
            "Stack small arrays to larger ones, or save parts of the tree in files of their own."
        )
    try:
        entries, metadata = _safetensors.parsed(header[8:])
    except ValueError as error:
        raise FileFormatError(f"{path} cannot be written: {error}.") from error
    _structure(path, entries, metadata)


# -- From file to tree ---------------------------------------------------------------------------


def _structure(
    path: str | os.PathLike[str], entries: dict[str, Entry], metadata: dict[str, str]
) -> Node:
    """The structure in the metadata, if it is one, of these tensors."""
    if not metadata.keys() >= _METADATA_KEYS:
        raise FileFormatError(f"{path} is corrupted: a part of its metadata is missing.")
    if metadata["funcgrad"] not in _CHECKSUMS:
        raise FileFormatError(
            f"{path} has version {metadata['funcgrad']} of the format, this release of "
            f"funcgrad_nn reads versions {' and '.join(_CHECKSUMS)}; or the file is corrupted."
        )
    try:
        node = json.loads(metadata["structure"])
        arrays = list(_arrays(node))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"{path} is corrupted: its structure cannot be read ({error})."
        ) from error
    described = {leaf["array"]: leaf for leaf in arrays}
    if described.keys() != entries.keys() or len(arrays) > len(described):
        raise FileFormatError(f"{path} is corrupted: its tensors have not the names they had.")
    for name, entry in entries.items():
        if (entry.dtype, list(entry.shape)) != _stored_form(described[name]):
            raise FileFormatError(
                f"{path} is corrupted: the tensor {name} has not the dtype and shape it had."
            )
    return node


def _arrays(node: Any) -> Iterator[Node]:
    """The arrays in a node.

    Raises:
        ValueError: it is none that :func:`_encode` makes.
    """
    kinds = _safetensors.kinds(node)
    if kinds == {"array": str, "dtype": str, "shape": list}:
        yield node
    elif kinds == {"node": str, "keys": list, "children": list} and _are_keys(node):
        for child in node["children"]:
            yield from _arrays(child)
    elif kinds not in _VALUES:
        raise ValueError(f"{node!r:.60} is no part of one")


def _are_keys(node: Node) -> bool:
    """Whether the keys are some that the children of such a node have."""
    kind, keys, count = node["node"], node["keys"], len(node["children"])
    if kind in ("list", "tuple", "NoneType"):
        return keys == list(range(count)) and (kind != "NoneType" or count == 0)
    unique = len(keys) == count and all(type(key) in (str, int) for key in keys)
    return unique and len(set(keys)) == count


def _read(path: str | os.PathLike[str], reader: Reader) -> dict[str, Array]:
    """The tensors, if they and the structure are as they were written."""
    digest = hashlib.sha256(reader.metadata["structure"].encode())
    seen = functools.partial(_CHECKSUMS[reader.metadata["funcgrad"]], digest)
    tensors = {name: reader.read(name, seen) for name in sorted(reader.entries)}
    if digest.hexdigest() != reader.metadata["sha256"]:
        raise FileFormatError(
            f"{path} is corrupted: its content has not the checksum that was saved with it."
        )
    return tensors


def _leaves(node: Node, tensors: dict[str, Array]) -> list[Any]:
    if "value" in node:
        return [node["value"]]
    if "real" in node:
        return [complex(node["real"], node["imag"])]
    if "array" in node:
        return [_restored(tensors[node["array"]], node["dtype"])]
    return [leaf for child in node["children"] for leaf in _leaves(child, tensors)]


def _restored(tensor: Array, dtype: str) -> Array:
    return tensor.view(dtype)[..., 0] if dtype == "complex128" else tensor


def _decode(path: str | os.PathLike[str], node: Node, at: str, tensors: dict[str, Array]) -> Any:
    """Build the tree; ``at`` is where in it this node is."""
    if "node" not in node:
        return _leaves(node, tensors)[0]
    rebuild = _REBUILD.get(node["node"])
    if rebuild is None:
        raise ParameterMismatchError(
            f"{path} has a {node['node']} at {at or 'its root'}, which cannot be rebuilt from the "
            "file alone: pass like=, parameters of the same structure."
        )
    pairs = zip(node["keys"], node["children"], strict=True)
    children = [_decode(path, child, at + _step(node, key), tensors) for key, child in pairs]
    return rebuild(node["keys"], children)


def _step(node: Node, key: str | int) -> str:
    """One step of a path, spelled as :func:`funcgrad.tree.keystr` does."""
    if node["node"] in _REBUILD:
        return f"[{key!r}]"
    return f".{key}" if isinstance(key, str) else f"<{key}>"


# -- The file against `like` ---------------------------------------------------------------------


def _compare(path: str | os.PathLike[str], saved: Node, like: Node) -> None:
    problems = list(_problems(saved, like, ""))
    if not problems:
        return
    shown = "\n".join(f"  {problem}" for problem in problems[:_SHOWN_PROBLEMS])
    more = len(problems) - _SHOWN_PROBLEMS
    raise ParameterMismatchError(
        f"the parameters in {path} are not like those asked for:\n{shown}\n"
        + (f"  and {more} more\n" if more > 0 else "")
        + "Pass as like= parameters of the model that was saved, of the same shapes and dtypes."
    )


def _problems(saved: Node, like: Node, at: str) -> Iterator[str]:
    if "node" in saved and all(saved[k] == like.get(k) for k in ("node", "keys")):
        for key, a, b in zip(saved["keys"], saved["children"], like["children"], strict=True):
            yield from _problems(a, b, at + _step(saved, key))
    elif _text(saved) != _text(like):
        where = f"at {at}" if at else "at its root"
        yield f"{where}: the file has {_text(saved)}, like has {_text(like)}"


def _text(node: Node) -> str:
    if "value" in node:
        return f"a Python {type(node['value']).__name__}"
    if "real" in node:
        return "a Python complex"
    if "array" in node:
        return f"{node['dtype']} of shape {tuple(node['shape'])}"
    keys = f" with {', '.join(map(repr, node['keys']))}" if node["keys"] else ""
    return f"{node['node']}{keys}"
