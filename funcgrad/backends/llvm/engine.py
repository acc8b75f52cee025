"""From LLVM IR as text to machine code that can be called.

`compile_ir` is the way in; `Code.address` is what the callers of native code need. llvmlite is
imported when code must be compiled: not before, and not where all code comes from the disk
cache.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from itertools import accumulate, pairwise

from funcgrad.backends.llvm import cache as disk
from funcgrad.backends.llvm import codegen, loader
from funcgrad.backends.llvm.codegen import Job, Part
from funcgrad.backends.llvm.host import vector_bytes as vector_bytes
from funcgrad.config import threads

_DECLARED = re.compile(r"^declare\b.*?@([\w.$]+)\(", re.MULTILINE)
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


class Code:
    """Machine code of one program. Its memory is freed with this object.

    A caller that runs the code must therefore hold a reference to it.

    Attributes:
        parts: the modules that it was made of.
    """

    __slots__ = ("__weakref__", "_image", "parts")

    def __init__(self, parts: Sequence[Part], image: loader.Image):
        self.parts = parts
        self._image = image

    def address(self, name: str) -> int:
        """Where a function of the program starts; KeyError where there is none of this name."""
        return self._image.address(name)

    @property
    def assembly(self) -> str:
        """The assembly text of the optimised modules."""
        return "\n".join(map(codegen.assembly, self.parts))


def compile_ir(text: str, level: int = 1) -> Code:
    """Machine code for this host of a module's IR, from the disk cache where it has it.

    Args:
        text: the module. What it declares without defining must be one that `register_symbol`
            has named, or a symbol of the process: of Python's C API, libc or libm.
        level: how much to optimise: 0 to 3. More than 1 is for IR that isn't written
            with care.
    """
    return compile_parts([Part(text, level)], declared(text))


def compile_parts(parts: Sequence[Part], outside: Iterable[str]) -> Code:
    """The same for modules that refer to each other's functions.

    Args:
        outside: what they take from elsewhere.
    """
    name = code_name(parts)
    job = _jobs.pop(name, None)
    kept = None if job else disk.get(name)
    with _lock:
        if kept is None:
            binaries = job.result() if job else codegen.objects(parts)
        else:
            binaries = _unpacked(kept)
        # LLVM's loader would end the process over a symbol that it can't find.
        for symbol in outside:
            _resolve(symbol)
        image = loader.load(binaries, _resolve, _symbols)
    if kept is None:
        disk.put(name, _packed(binaries))
    return Code(parts, image)


def compile_soon(text: str, level: int = 1) -> bool:
    """Starts making code that `compile_ir` is going to be asked for; False if that is known.

    One is made after the other, beside what the caller goes on with.
    """
    part = Part(text, level)
    name = code_name([part])
    with _lock:
        if name in _jobs:
            return True
        if disk.get(name) is not None:
            return False
        if threads() > 1:
            # Imports by two threads at once take longer than one after the other.
            codegen.start()
            before = next(reversed(_jobs.values()), None)
            _jobs[name] = Job(lambda: _after(before, part))
    return True


def _after(before: Job | None, part: Part) -> list[bytes]:
    if before is not None:
        before.finish()
    return [codegen.emit(part)]


def begin() -> bool:
    """Starts loading LLVM, unless a process before this one has left what this one needs."""
    return compile_soon(_PROBE)


def code_name(parts: Sequence[Part]) -> str:
    """What the code of these modules is kept by in the cache."""
    return disk.key(*(text for part in parts for text in (str(part.level), part.text)))


def declared(text: str) -> list[str]:
    """What IR takes from outside of its module."""
    return [name for name in _DECLARED.findall(text) if not name.startswith("llvm.")]


def load_code(name: str, outside: Iterable[str]) -> Code | None:
    """Code that is in the cache by this name, and takes these symbols from elsewhere."""
    kept = disk.get(name)
    if kept is None:
        return None
    with _lock:
        for symbol in outside:
            _resolve(symbol)
        return Code((), loader.load(_unpacked(kept), _resolve, _symbols))


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
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed"
    try:
        address = (code := compile_ir(_PROBE)).address("probe")
        answer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(address)(1)
        del code
    except ImportError as error:
        return f"llvmlite cannot be imported ({error})"
    except (OSError, RuntimeError, AttributeError, KeyError) as error:
        return f"machine code cannot be made here ({error})"
    return None if answer == 43 else "a compiled function gave a wrong answer"


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


def _finish() -> None:
    """What is under way comes to its end: in a forked child it couldn't."""
    _lock.acquire()
    for job in tuple(Job.running):
        job.finish()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_finish, after_in_parent=_lock.release, after_in_child=_lock.release
    )
