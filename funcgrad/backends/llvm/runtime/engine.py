"""From LLVM IR as text to machine code that can be called.

`compile_ir` is the way in; `Code.address` is what the callers of native code need. llvmlite is
imported when code must be compiled: not before, and not where all code comes from the disk
cache.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate, pairwise

from funcgrad.backends.llvm.runtime import cache as disk
from funcgrad.backends.llvm.runtime import codegen, loader
from funcgrad.backends.llvm.runtime.codegen import Job, Part
from funcgrad.backends.llvm.runtime.host import vector_bytes as vector_bytes
from funcgrad.records import NamedTuple

_DECLARED = r"^declare\b.*?@([\w.$]+)\("
# With a constant as only the releases of LLVM know it that our IR is written for.
_PROBE = """
define i32 @probe(i32 %a) {
  %b = insertelement <4 x i32> splat (i32 40), i32 %a, i64 0
  %c = add <4 x i32> %b, splat (i32 1)
  %d = extractelement <4 x i32> %c, i64 0
  %e = extractelement <4 x i32> %c, i64 3
  %f = add i32 %d, %e
  ret i32 %f
}
"""

_lock = threading.RLock()
_symbols: dict[str, int] = {}
_jobs: dict[str, Job] = {}
_later: dict[str, Callable[[], int]] = {}


class Source(NamedTuple):
    """What code is made of: modules that refer to each other's functions.

    Attributes:
        name: what their code is kept by in the cache.
        parts: gives them; not called where their code is known.
        outside: the symbols that they take from elsewhere.
    """

    name: str
    parts: Callable[[], Sequence[Part]]
    outside: Iterable[str] = ()


class Code:
    """Machine code of one program. Its memory is freed with this object.

    A caller that runs the code must therefore hold a reference to it.
    """

    __slots__ = ("__weakref__", "_image")

    def __init__(self, image: loader.Image):
        self._image = image

    def address(self, name: str) -> int:
        """Where a function of the program starts; KeyError where there is none of this name."""
        return self._image.address(name)


def compile_ir(text: str, level: int = 1) -> Code:
    """Machine code for this host of a module's IR, from the disk cache where it has it.

    Args:
        text: the module. What it declares without defining must be one that `register_symbol`
            has named, or a symbol of the process: of Python's C API, libc or libm.
        level: how much to optimise: 0 to 3. More than 1 is for IR that isn't written
            with care.
    """
    return compile_source(source([Part(text, level)], declared(text)))


def compile_source(given: Source) -> Code:
    """Machine code of several modules, from the disk cache where it has it."""
    with _lock:
        job = _jobs.pop(given.name, None)
        kept = None if job else disk.get(given.name)
        if job:
            binaries = [job.result()]
        elif kept is None:
            binaries = codegen.objects(given.parts())
        else:
            binaries = _unpacked(kept)
        image = _load(binaries, given.outside)
    if kept is None:
        disk.put(given.name, _packed(binaries))
    return Code(image)


def lasting(code: Code) -> Code:
    """The same, which stays until the process ends: other code, or a thread, runs into it."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
    return code


def assembly(given: Source) -> str:
    """The assembly text of modules."""
    with _lock:
        return "\n".join(map(codegen.assembly, given.parts()))


def compile_soon(given: Source) -> bool:
    """Starts making code of one module that is going to be asked for; False if it is known."""
    with _lock:
        if given.name in _jobs:
            return True
        if disk.get(given.name) is not None:
            return False
        codegen.start()
        (part,) = given.parts()
        _jobs[given.name] = codegen.submit(part)
    return True


def begin() -> bool:
    """Starts LLVM, unless an earlier process has left what `available` needs; whether it did.

    Where it can't be started, `available` says why.
    """
    try:
        return compile_soon(source([Part(_PROBE)]))
    except (ImportError, OSError, RuntimeError, AttributeError):
        return False


def source(parts: Sequence[Part], outside: Iterable[str] = ()) -> Source:
    """Modules as a source that goes by their text."""
    texts = (text for part in parts for text in (str(part.level), part.text))
    return Source(disk.key(*texts), lambda: parts, outside)


def declared(text: str) -> list[str]:
    """What IR takes from outside of its module."""
    names = re.findall(_DECLARED, text, re.MULTILINE)
    return [name for name in names if not name.startswith("llvm.")]


def load_code(name: str, outside: Iterable[str]) -> Code | None:
    """Code that is in the cache by this name, and takes these symbols from elsewhere."""
    kept = disk.get(name)
    if kept is None:
        return None
    with _lock:
        return Code(_load(_unpacked(kept), outside))


def register_symbol(name: str, address: int) -> None:
    """Lets IR call what lies at this address by this name."""
    with _lock:
        _symbols[name] = address


def register_later(name: str, find: Callable[[], int]) -> None:
    """Lets IR call what `find` gives the address of, once some IR does."""
    with _lock:
        _later[name] = find


@cache
def available() -> str | None:
    """None where native code can be made and run; else the reason why not."""
    try:
        address = (code := compile_ir(_PROBE)).address("probe")
        answer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)(1)
        del code
    except ImportError as error:
        if error.name == "llvmlite":
            return "llvmlite is not installed"
        return f"llvmlite cannot be imported ({error})"
    except (OSError, RuntimeError, AttributeError, KeyError) as error:
        return f"machine code cannot be made here ({error})"
    return None if answer == 43 else "a compiled function gave a wrong answer"


def _load(binaries: Sequence[bytes], outside: Iterable[str]) -> loader.Image:
    # LLVM's loader would end the process over a symbol that it can't find.
    for symbol in outside:
        _resolve(symbol)
    return loader.load(binaries, _resolve, _symbols)


def _packed(binaries: Sequence[bytes]) -> bytes:
    """Files as one: how many there are, their lengths, and they themselves."""
    count = len(binaries)
    return struct.pack(f"<{count + 1}Q", count, *map(len, binaries)) + b"".join(binaries)


def _unpacked(data: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("<Q", data)
    ends = list(accumulate(struct.unpack_from(f"<{count}Q", data, 8), initial=8 * count + 8))
    return [data[start:end] for start, end in pairwise(ends)]


def _resolve(name: str) -> int:
    """A symbol's address, found in the process if need be."""
    if name not in _symbols:
        find = _later.get(name)
        _symbols[name] = find() if find else _process_symbol(name)
    return _symbols[name]


def _process_symbol(name: str) -> int:
    for library in (ctypes.pythonapi, *_libraries()):
        try:
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        except AttributeError:
            continue
        if address:
            return address
    raise RuntimeError(f"IR refers to {name!r}, which isn't a symbol of this process")


@cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    if os.name == "nt":
        return (ctypes.CDLL("ucrtbase"), ctypes.CDLL("vcruntime140"))
    import math

    # The math module depends on libm, unless Python itself contains both.
    own = getattr(math, "__file__", None)
    return (ctypes.CDLL(None), *((ctypes.CDLL(own),) if own else ()))


def _before_fork() -> None:
    # The child has neither the threads that compile nor what they would leave behind.
    _lock.acquire()
    codegen.before_fork()


def _in_child() -> None:
    codegen.in_child()
    _jobs.clear()
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_lock.release, after_in_child=_in_child
    )
