"""A stand-in for CuPy on NumPy's arrays: it answers what CuPy 14 answers, and refuses the rest.

Arrays wrap host memory, of which nothing but `get` and `asnumpy` lets out. What CuPy has not, or
does not take, raises as it does there: other ufuncs and functions, options, methods of ufuncs,
host arrays as operands, implicit conversion to NumPy. `data/cupy_names.json` has its names.

`installed()` puts it where funcgrad looks for CuPy.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

NAMES = json.loads((Path(__file__).parent / "data" / "cupy_names.json").read_text("utf-8"))
# Of each ufunc the dtypes of operands that it has a loop for; matmul has its own rules.
UFUNCS: dict[str, str] = NAMES["ufuncs"]
# What CuPy adds and compares atomically. Of floats it compares singles and drops NaN: refused here.
ATOMIC = {"add": "efdilqILQ", "maximum": "ilqILQ", "minimum": "ilqILQ", "subtract": "iI"}
FUNCTIONS: dict[str, str] = NAMES["functions"]
# Modules whose functions are named with them.
PREFIXED = frozenset(["linalg", "fft", "lib.stride_tricks"])
COMPARISONS = frozenset("equal not_equal less less_equal greater greater_equal".split())
METHODS = {
    "reduce": {"add", "multiply"},
    "accumulate": {"add", "multiply"},
    "reduceat": {"add"},
    "at": {
        "add",
        "subtract",
        "maximum",
        "minimum",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
    },
}
OPTIONS = {
    "__call__": {"out", "dtype", "casting"},
    "reduce": {"axis", "dtype", "out", "keepdims"},
    "accumulate": {"axis", "dtype", "out"},
    "reduceat": {"axis", "dtype", "out"},
    "outer": {"out", "dtype", "casting"},
    "at": set[str](),
}
SCALARS = (bool, int, float, complex, np.generic)


class Device:
    """One of several devices; as a context, the one where arrays are made."""

    current = 0

    def __init__(self, number: int = 0):
        self.id = number

    def __enter__(self) -> Device:
        self.before, Device.current = Device.current, self.id
        return self

    def __exit__(self, *error: object) -> None:
        Device.current = self.before


class Event:
    """A place in what a stream has been given to do."""

    def __init__(self, stream: Stream, place: int):
        self._stream, self._place = stream, place

    def synchronize(self) -> None:
        self._stream.advance(self._place)


class Stream:
    """Does what it is given as late as may be: when somebody waits for it."""

    current: Stream

    def __init__(self, null: bool = False, non_blocking: bool = False):
        self._work: list[Callable[[], None]] = []
        self._done = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def give(self, work: Callable[[], None]) -> None:
        self._work.append(work)

    def advance(self, place: int) -> None:
        while self._done < place:
            self._done += 1
            self._work[self._done - 1]()

    def record(self) -> Event:
        return Event(self, len(self._work))

    def wait_event(self, event: Event) -> None:
        if self is Stream.current:
            event.synchronize()
        else:
            self.give(event.synchronize)

    def synchronize(self) -> None:
        self.advance(len(self._work))


# Operations of arrays are done at once, as if this were waited for after each.
Stream.current = Stream(null=True)


class PinnedMemory(bytearray):
    """Page-locked memory."""

    taken = 0


def alloc_pinned_memory(size: int) -> PinnedMemory:
    PinnedMemory.taken += 1
    # As CuPy's pool does, more than was asked for.
    return PinnedMemory(max(512, size))


class Flags:
    """CuPy's arrays cannot be made read-only."""

    def __init__(self, flags: Any):
        self.c_contiguous = flags.c_contiguous
        self.f_contiguous = flags.f_contiguous
        self.owndata = flags.owndata


class ndarray:
    """An array of a device."""

    __array_priority__ = 100
    __hash__ = None  # pyright: ignore[reportAssignmentType]
    # Told by its name alone: nothing reads the memory.
    __cuda_array_interface__ = property(lambda self: {"shape": self.shape, "version": 3})

    def __init__(self, host: np.ndarray, device: int, base: ndarray | None = None):
        if host.dtype.kind not in "biufc":
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self._host: Any = host
        self._number = device
        self.base = base

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host.flags))
    device = property(lambda self: Device(self._number))

    def get(self) -> np.ndarray:
        return self._host.copy()

    def set(self, arr: np.ndarray, stream: Stream | None = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if arr.dtype != self.dtype or arr.shape != self.shape:
            raise ValueError("Shape or dtype mismatch")
        if stream is None:
            self._host[...] = arr
            return
        memory = weakref.ref(arr)

        def copy() -> None:
            source = memory()
            assert source is not None, "host memory was released before it was copied"
            self._host[...] = source

        stream.give(copy)

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
            "construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        if name not in UFUNCS:
            return NotImplemented
        if method != "outer" and name not in METHODS.get(method, UFUNCS):
            raise NotImplementedError(f"`cupy.{name}.{method}` is not supported yet")
        extra = set(options) - OPTIONS[method]
        if extra:
            raise TypeError(f"cupy.{name}.{method} got unexpected arguments {sorted(extra)}")
        operands = (inputs[0], *inputs[2:]) if method == "at" else inputs
        if not all(isinstance(x, (ndarray, np.ndarray, *SCALARS)) for x in operands):
            return NotImplemented
        if UFUNCS[name] and method == "__call__":
            _check_loop(name, inputs)
        if name in COMPARISONS:
            inputs = tuple([x.item() if _is_host_number(x) else x for x in inputs])
        out = options.get("out")
        if out is not None:
            if len(out) != 1:
                raise ValueError("The 'out' parameter must have exactly one array value")
            options["out"] = tuple(map(_host, out))
        if method == "at":
            target, index, *updates = inputs
            if target.dtype.char not in ATOMIC.get(name, ""):
                raise TypeError(f"cupy.{name}.at has no atomic operation on {target.dtype}")
            index = _wrapped(_index(index), target.shape)
            return ufunc.at(_host(target), index, *map(_host, updates))
        result = getattr(ufunc, method)(*map(_host, inputs), **options)
        if out is not None:
            return out[0]
        return _wrap(result, _place(inputs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        module = func.__module__.removeprefix("numpy").strip(".")
        name = f"{module}.{func.__name__}" if module in PREFIXED else func.__name__
        known = name in FUNCTIONS or name in UFUNCS
        if not known or not all(issubclass(t, (ndarray, np.ndarray)) for t in types):
            return NotImplemented
        return _call(name, func, args, kwargs)

    # -- elements ---------------------------------------------------------------------

    def __getitem__(self, index: Any) -> ndarray:
        result = self._host[_wrapped(_index(index), self.shape)]
        view = isinstance(result, np.ndarray) and np.may_share_memory(result, self._host)
        if not isinstance(result, np.ndarray):
            # One element is a view, too.
            parts = index if isinstance(index, tuple) else (index,)
            if all(isinstance(_plain(p), (int, np.integer)) for p in parts):
                whole = tuple([slice(i, i + 1 or None) for i in map(int, map(_plain, parts))])
                return ndarray(self._host[whole].reshape(()), self._number, self)
            result = np.asarray(result)
        return ndarray(result, self._number, _root(self) if view else None)

    def __setitem__(self, index: Any, value: Any) -> None:
        index, value = _wrapped(_index(index), self.shape), _host(value)
        parts = index if isinstance(index, tuple) else (index,)
        if not any(isinstance(p, np.ndarray) and p.dtype != bool for p in parts):
            self._host[index] = value
            return
        # Of values for one place any may stay: here it is the first.
        places = np.arange(self.size).reshape(self.shape)[index]
        values = np.broadcast_to(value, places.shape)
        for place, element in zip(places.ravel()[::-1], values.ravel()[::-1], strict=True):
            self._host.flat[place] = element

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[k] for k in range(len(self)))

    def __bool__(self) -> bool:
        if not self.size:
            warnings.warn("The truth value of an empty array", DeprecationWarning, stacklevel=2)
            return False
        return bool(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __complex__(self) -> complex:
        return complex(self._host)

    def __repr__(self) -> str:
        return repr(self._host)

    def __copy__(self) -> ndarray:
        return ndarray(self._host.copy(), self._number)

    # -- parts that may be written to -------------------------------------------------

    def _view(self, host: np.ndarray) -> ndarray:
        view = np.may_share_memory(host, self._host)
        return ndarray(host, self._number, _root(self) if view else None)

    T = property(lambda self: self._view(self._host.T))
    mT = property(lambda self: self._view(self._host.mT))

    @property
    def real(self) -> ndarray:
        return self._view(self._host.real)

    @real.setter
    def real(self, value: Any) -> None:
        self._host.real = _host(value)

    @property
    def imag(self) -> ndarray:
        return self._view(self._host.imag)

    @imag.setter
    def imag(self, value: Any) -> None:
        self._host.imag = _host(value)

    def astype(
        self,
        dtype: Any,
        order: str = "K",
        casting: Any = None,
        subok: None = None,
        copy: Any = True,
    ) -> ndarray:
        host = self._host.astype(dtype, order, casting or "unsafe", copy=copy)
        return self._view(host)

    def item(self, *index: int) -> Any:
        return self._host.item(*index)

    def tolist(self) -> Any:
        return self._host.tolist()

    def fill(self, value: Any) -> None:
        self._host.fill(_host(value))


_METHOD_OPTIONS = {
    "all": "axis out keepdims",
    "any": "axis out keepdims",
    "argmax": "axis out dtype keepdims",
    "argmin": "axis out dtype keepdims",
    "argsort": "axis",
    "clip": "min max out",
    "conj": "",
    "conjugate": "",
    "copy": "order",
    "cumprod": "axis dtype out",
    "cumsum": "axis dtype out",
    "dot": "b out",
    "flatten": "order",
    "max": "axis out keepdims",
    "mean": "axis dtype out keepdims",
    "min": "axis out keepdims",
    "prod": "axis dtype out keepdims",
    "ravel": "order",
    "repeat": "repeats axis",
    "reshape": "order",
    "sort": "axis",
    "squeeze": "axis",
    "std": "axis dtype out ddof keepdims",
    "sum": "axis dtype out keepdims",
    "swapaxes": "",
    "take": "indices axis out",
    "transpose": "",
    "var": "axis dtype out ddof keepdims",
    "view": "dtype",
}


def _add_methods() -> None:
    for name, text in _METHOD_OPTIONS.items():

        def method(
            self: ndarray,
            *args: Any,
            _name: str = name,
            _known: frozenset[str] = frozenset(text.split()),
            **options: Any,
        ) -> Any:
            if not _known.issuperset(options):
                raise TypeError(f"cupy.ndarray.{_name} got {sorted(set(options) - _known)}")
            # Lists and host arrays of indices are copied to the device.
            open_to_host = _name in ("take", "repeat")
            plain = _plain if open_to_host else _host
            out = options.pop("out", None)
            if out is not None:
                options["out"] = out._host
            if _name == "take":
                options["mode"] = "wrap"
            host = getattr(self._host, _name)(*map(plain, args), **options)
            if out is not None or host is None:
                return out
            return self._view(np.asarray(host))

        setattr(ndarray, name, method)


def _add_operators() -> None:
    binary = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "truediv": np.true_divide,
        "floordiv": np.floor_divide,
        "mod": np.remainder,
        "pow": np.power,
        "matmul": np.matmul,
        "lshift": np.left_shift,
        "rshift": np.right_shift,
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "divmod": np.divmod,
    }
    compare = {
        "lt": np.less,
        "le": np.less_equal,
        "gt": np.greater,
        "ge": np.greater_equal,
        "eq": np.equal,
        "ne": np.not_equal,
    }
    unary = {
        "neg": np.negative,
        "pos": np.positive,
        "abs": np.absolute,
        "invert": np.invert,
    }

    def forwards(ufunc: np.ufunc) -> Callable[[Any, Any], Any]:
        return lambda self, other: NotImplemented if _defers(other) else ufunc(self, other)

    def in_place(ufunc: np.ufunc) -> Callable[[Any, Any], Any]:
        return lambda self, other: ufunc(self, other, out=self)

    for name, ufunc in binary.items():
        setattr(ndarray, f"__{name}__", forwards(ufunc))
        setattr(ndarray, f"__r{name}__", lambda self, other, ufunc=ufunc: ufunc(other, self))
        if name not in ("matmul", "divmod"):
            setattr(ndarray, f"__i{name}__", in_place(ufunc))
    for name, ufunc in compare.items():
        setattr(ndarray, f"__{name}__", forwards(ufunc))
    for name, ufunc in unary.items():
        setattr(ndarray, f"__{name}__", lambda self, ufunc=ufunc: ufunc(self))


def _defers(other: Any) -> bool:
    """Whether CuPy leaves an operator to the other operand.

    Priorities decide only where the other has no word on ufuncs.
    """
    if hasattr(other, "__array_ufunc__"):
        return other.__array_ufunc__ is None
    return getattr(other, "__array_priority__", 0) > ndarray.__array_priority__


_add_methods()
_add_operators()


# --- in and out -----------------------------------------------------------------------


def _check_loop(name: str, inputs: Any) -> None:
    """Refuse dtypes that CuPy has no loop for, as NumPy may."""
    given = [x.dtype if isinstance(x, (ndarray, np.generic)) else None for x in inputs]
    for loop in UFUNCS[name].split():
        if all(d is None or np.can_cast(d, c) for d, c in zip(given, loop, strict=False)):
            return
    raise TypeError(f"Wrong type {given} of arguments for cupy_{name}")


def _is_host_number(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.ndim == 0


def _host(x: Any) -> Any:
    """What an operand wraps; host arrays are refused, as CuPy refuses them."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, (list, tuple)):
        return type(x)(map(_host, x))
    return x


def _plain(x: Any) -> Any:
    """What an index wraps; CuPy copies host arrays among them to the device."""
    return x._host if isinstance(x, ndarray) else x


def _index(index: Any) -> Any:
    return tuple(map(_plain, index)) if isinstance(index, tuple) else _plain(index)


def _wrapped(index: Any, shape: tuple[int, ...]) -> Any:
    """The index, arrays of integers in it taken modulo their axis: CuPy checks no range."""
    parts, axis, found = index if isinstance(index, tuple) else (index,), 0, list[Any]()
    for part in parts:
        if part is Ellipsis:
            taken = sum(p.ndim if _is_mask(p) else p is not None for p in parts) - 1
            axis += len(shape) - taken
        elif isinstance(part, np.ndarray) and not _is_mask(part):
            part = part % shape[axis] if shape[axis] else part
            axis += 1
        elif part is not None:
            axis += part.ndim if _is_mask(part) else 1
        found.append(part)
    return tuple(found) if isinstance(index, tuple) else found[0]


def _is_mask(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype == bool


def _root(x: ndarray) -> ndarray:
    """What owns the memory that x shows."""
    return x if x.base is None else x.base


def _arrays(x: Any) -> Iterator[ndarray]:
    if isinstance(x, ndarray):
        yield x
    elif isinstance(x, (list, tuple)):
        for item in x:
            yield from _arrays(item)


def _place(operands: Any) -> int:
    """The device that operands share."""
    found = {x._number for x in _arrays(list(operands))}
    if len(found) > 1:
        raise ValueError(f"Array device must be same as the current device: {sorted(found)}")
    return found.pop() if found else Device.current


def _wrap(x: Any, device: int, sources: Any = ()) -> Any:
    if isinstance(x, (np.ndarray, np.generic)):
        host = np.asarray(x)
        shared = (s for s in _arrays(list(sources)) if np.may_share_memory(s._host, host))
        base = next(shared, None)
        return ndarray(host, device, None if base is None else _root(base))
    if isinstance(x, (list, tuple)) and any(isinstance(y, (np.ndarray, np.generic)) for y in x):
        items = [_wrap(y, device, sources) for y in x]
        return items if isinstance(x, list) else tuple(items)
    return x


def _call(name: str, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    known = FUNCTIONS.get(name, "*args out dtype casting").split()
    names = {k.lstrip("*") for k in known}
    if "**kwargs" not in known and not names.issuperset(kwargs):
        raise TypeError(f"cupy.{name} got unexpected arguments {sorted(set(kwargs) - names)}")
    if not any(k.startswith("*") for k in known) and len(args) > len(known):
        raise TypeError(f"cupy.{name} takes at most {len(known)} arguments")
    operands = [*args, *kwargs.values()]
    plain = _plain if name in ("take", "repeat", "asarray", "array") else _host
    out = kwargs.get("out")
    if name == "where" and type(args[0]) is bool:
        raise AttributeError("'bool' object has no attribute 'astype'")
    if name in ("sort", "argsort") and [*args[2:], kwargs.get("kind")][0] not in (None, "stable"):
        raise ValueError("kind can only be None or 'stable'")
    if name.endswith("_like") and not kwargs.get("shape", True):
        kwargs = {**kwargs, "shape": None}
    if name == "take":
        kwargs = {**kwargs, "mode": "wrap"}
    if name.endswith("sliding_window_view") and len(args) > 2 and not isinstance(args[2], int):
        if isinstance(args[2], list):
            raise TypeError("'list' object cannot be interpreted as an integer")
        # The axes are put in order, the windows not.
        args = (*args[:2], sorted(args[2]), *args[3:])
    if name == "take_along_axis" and len(args) == 3 and isinstance(args[2], int):
        args = (args[0], ndarray(_host(args[1]) % max(1, args[0].shape[args[2]]), 0), args[2])
    result = func(*map(plain, args), **{k: plain(v) for k, v in kwargs.items()})
    return out if out is not None else _wrap(result, _place(operands), operands)


# --- the module -----------------------------------------------------------------------


def asnumpy(x: Any) -> np.ndarray:
    return x.get() if isinstance(x, ndarray) else np.asarray(x)


def asarray(a: Any, dtype: Any = None, order: Any = None) -> ndarray:
    if isinstance(a, ndarray) and a._number == Device.current:
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return array(a, dtype)


def array(obj: Any, dtype: Any = None, copy: bool = True, order: Any = "K") -> ndarray:
    if isinstance(obj, (list, tuple)) and any(True for _ in _arrays(obj)):
        return ndarray(np.array(_host(obj), dtype), Device.current)
    return ndarray(np.array(_plain(obj), dtype, order=order), Device.current)


def _function(name: str) -> Callable[..., Any]:
    def function(*args: Any, **kwargs: Any) -> Any:
        return _call(name, getattr(np, name), args, kwargs)

    return function


def _module() -> ModuleType:
    module = ModuleType("cupy")
    for name in FUNCTIONS:
        if "." not in name:
            setattr(module, name, _function(name))
    for name in UFUNCS:
        setattr(module, name, getattr(np, name, None))
    for kind in set(np.sctypeDict.values()):
        setattr(module, kind.__name__, kind)
    module.__dict__.update(
        ndarray=ndarray,
        array=array,
        asarray=asarray,
        asnumpy=asnumpy,
        dtype=np.dtype,
        inf=np.inf,
        nan=np.nan,
        cuda=ModuleType("cupy.cuda"),
    )
    module.__dict__["cuda"].__dict__.update(
        Device=Device,
        Stream=Stream,
        alloc_pinned_memory=alloc_pinned_memory,
        get_current_stream=lambda: Stream.current,
    )
    return module


ndarray.__module__ = "cupy"
cupy = _module()


@contextlib.contextmanager
def installed() -> Iterator[ModuleType]:
    """While it lasts, funcgrad takes this for CuPy."""
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    try:
        yield cupy
    finally:
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before


__all__ = ["Device", "asarray", "asnumpy", "cupy", "installed", "ndarray"]
