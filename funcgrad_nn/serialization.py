"""Saving pytrees of arrays as safetensors files, and loading them with every check there is.

The arrays are the file's tensors, named by their paths (``0.weight``), so that any program that
reads safetensors can use them. The file's metadata holds the structure of the tree as JSON, and a
SHA-256 of structure and arrays.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from funcgrad import tree
from funcgrad.errors import FileFormatError, ParameterMismatchError
from funcgrad.files import atomic_write

from ._optional import require

Array = NDArray[Any]
# A node of a tree as JSON: {"value": 3}, {"array": name, "dtype": ..., "shape": ...}, or
# {"node": "dict", "keys": [...], "children": [...]}.
Node = dict[str, Any]

_METADATA_KEYS = {"funcgrad", "structure", "sha256"}
_FORMAT_VERSION = "1"
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
    file at ``path`` stays as it was. Needs the extra ``io`` (``pip install "funcgrad[io]"``).

    Args:
        path: where to write; the folder must exist.
        params: any pytree of arrays and Python numbers. Keys of dicts must be strings or
            integers. Static fields of dataclasses are not saved.

    Raises:
        MissingDependencyError: safetensors is not installed.
        TypeError: a leaf is no array or number, or of a dtype that safetensors lacks.
        OSError: the file cannot be written.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> save(path, {"weight": np.ones((2, 3), np.float32), "bias": None})
    >>> load(path)
    {'bias': None, 'weight': array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)}
    """
    safetensors = require("safetensors.numpy", "io")
    names = _tensor_names(params)
    structure = json.dumps(_encode(params, (), names))
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
    content = safetensors.save(tensors, metadata)
    with atomic_write(path) as file:
        file.write(content)


def load(path: str | os.PathLike[str], like: Any = None) -> Any:
    """Load what :func:`save` has saved.

    Needs the extra ``io`` (``pip install "funcgrad[io]"``).

    Args:
        path: the file. Of one that another program has made, the tensors come as a flat dict.
        like: a pytree with the structure, and arrays with the shapes and dtypes, that the file
            must have (anything with ``shape`` and ``dtype`` will do as a leaf). Needed if the
            tree has named tuples, dataclasses or registered nodes, which are rebuilt after it.

    Returns:
        The tree, with new NumPy arrays.

    Raises:
        MissingDependencyError: safetensors is not installed.
        FileFormatError: the file is truncated, corrupted or no safetensors file.
        ParameterMismatchError: the file differs from ``like``, or needs it; the message names
            the leaves.
        OSError: the file cannot be read.

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
    tensors, metadata = _read(path)
    if not metadata.keys() & _METADATA_KEYS:
        if like is None:
            return tensors
        raise ParameterMismatchError(
            f"{path} does not say what structure its tensors have: it was not written by "
            "funcgrad_nn.save. Load it without like, and build the tree from the dict."
        )
    node = _checked(path, tensors, metadata)
    if like is None:
        return _decode(path, node, "", tensors)
    _compare(path, node, _encode(like, (), _tensor_names(like)))
    return tree.structure(like).unflatten(_leaves(node, tensors))


# -- From tree to file ---------------------------------------------------------------------------


def _tensor_names(params: Any) -> dict[tree.Path, str]:
    """A name for each leaf: its path with dots, as in PyTorch's state dicts, if that is unique."""
    paths = [path for path, _ in tree.flatten_with_path(params)[0]]
    dotted = {path: ".".join(str(_plain(key)) for key in path) or "params" for path in paths}
    if len(set(dotted.values())) == len(paths):
        return dotted
    return {path: tree.keystr(path) for path in paths}


def _plain(key: tree.Key) -> Any:
    """The dict key, attribute name or index in a step of a path."""
    match key:
        case tree.DictKey():
            return key.key
        case tree.AttrKey():
            return key.name
        case tree.SequenceKey() | tree.ChildKey():
            return key.index


def _is_scalar(leaf: Any) -> bool:
    return type(leaf) in (bool, int, float)


def _encode(obj: Any, path: tree.Path, names: dict[tree.Path, str]) -> Node:
    """A tree as JSON, with the arrays' names in their places."""
    children, _ = tree.flatten_with_path(obj, is_leaf=lambda x: x is not obj)
    if [at for at, _ in children] == [()]:
        return _encode_leaf(obj, path, names)
    keys = [_plain(at[0]) for at, _ in children]
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
    if _is_scalar(leaf):
        return {"value": leaf}
    shape, dtype = getattr(leaf, "shape", None), getattr(leaf, "dtype", None)
    if shape is None or dtype is None or np.dtype(dtype).kind not in "biufc":
        raise TypeError(
            f"the leaf at params{tree.keystr(path)} is {leaf!r:.60} ({type(leaf).__name__}), but "
            "only arrays of numbers and Python numbers can be saved."
        )
    return {"array": names[path], "dtype": np.dtype(dtype).name, "shape": list(shape)}


def _type_name(obj: object) -> str:
    cls = type(obj)
    builtin = cls.__name__ in _REBUILD and cls in (type(None), dict, OrderedDict, list, tuple)
    return cls.__name__ if builtin else f"{cls.__module__}.{cls.__qualname__}"


def _stored(array: Array) -> Array:
    """As safetensors takes it: contiguous, little-endian, and complex128 as pairs of float64."""
    array = np.array(array, array.dtype.newbyteorder("<"), order="C", copy=None)
    return array[..., np.newaxis].view(np.float64) if array.dtype == np.complex128 else array


def _stored_form(leaf: Node) -> tuple[str, list[int]]:
    """The dtype and shape that :func:`_stored` gives the array that a node describes."""
    if leaf["dtype"] == "complex128":
        return "float64", [*leaf["shape"], 2]
    return leaf["dtype"], leaf["shape"]


def _digest(structure: str, tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(structure.encode())
    for name in sorted(tensors):
        digest.update(tensors[name].tobytes())
    return digest.hexdigest()


# -- From file to tree ---------------------------------------------------------------------------


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors and the metadata of a safetensors file."""
    safetensors = require("safetensors.numpy", "io")
    error_class = require("safetensors", "io").SafetensorError
    content = Path(path).read_bytes()
    try:
        # Copied, because safetensors gives read-only views of the file's content.
        tensors = {name: np.array(t) for name, t in safetensors.load(content).items()}
    except (error_class, KeyError) as error:
        raise FileFormatError(
            f"{path} is truncated, corrupted or no safetensors file ({error})."
        ) from error
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return tensors, header.get("__metadata__", {})


def _checked(
    path: str | os.PathLike[str], tensors: dict[str, Array], metadata: dict[str, str]
) -> Node:
    """The structure in the metadata, if it and the tensors are as they were written."""
    if not metadata.keys() >= _METADATA_KEYS:
        raise FileFormatError(f"{path} is corrupted: a part of its metadata is missing.")
    if metadata["funcgrad"] != _FORMAT_VERSION:
        raise FileFormatError(
            f"{path} has version {metadata['funcgrad']} of the format, this release of "
            f"funcgrad_nn reads version {_FORMAT_VERSION}; or the file is corrupted."
        )
    structure = metadata["structure"]
    if metadata["sha256"] != _digest(structure, tensors):
        raise FileFormatError(
            f"{path} is corrupted: its content has not the checksum that was saved with it."
        )
    node = json.loads(structure)
    described = {leaf["array"]: leaf for leaf in _arrays(node)}
    if described.keys() != tensors.keys():
        raise FileFormatError(f"{path} is corrupted: its tensors have not the names they had.")
    for name, tensor in tensors.items():
        if (tensor.dtype.name, list(tensor.shape)) != _stored_form(described[name]):
            raise FileFormatError(
                f"{path} is corrupted: the tensor {name} has not the dtype and shape it had."
            )
    return node


def _arrays(node: Node) -> Iterator[Node]:
    if "array" in node:
        yield node
    for child in node.get("children", ()):
        yield from _arrays(child)


def _leaves(node: Node, tensors: dict[str, Array]) -> list[Any]:
    if "value" in node:
        return [node["value"]]
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
    if "array" in node:
        return f"{node['dtype']} of shape {tuple(node['shape'])}"
    keys = f" with {', '.join(map(repr, node['keys']))}" if node["keys"] else ""
    return f"{node['node']}{keys}"
