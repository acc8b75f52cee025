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
import threading
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from funcgrad.backends.llvm import cache as disk
from funcgrad.backends.llvm import host, loader
from funcgrad.backends.llvm.host import vector_bytes as vector_bytes

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

# LLVM is used by one thread at a time. A fork waits for it, as the child couldn't.
_lock = threading.RLock()
_symbols: dict[str, int] = {}
_later: dict[str, Callable[[], int]] = {}


class Code:
    """Machine code of one module. Its memory is freed with this object.

    A caller that runs the code must therefore hold a reference to it.

    Attributes:
        text: the IR that it was made of.
        level: the optimisation level.
    """

    __slots__ = ("__weakref__", "_image", "level", "text")

    def __init__(self, text: str, level: int, image: loader.Image):
        self.text = text
        self.level = level
        self._image = image

    def address(self, name: str) -> int:
        """Where a function of the module starts; KeyError where there is none of this name."""
        return self._image.address(name)

    @property
    def assembly(self) -> str:
        """The assembly text of the optimised module."""
        with _lock:
            return _machine(self.level).emit_assembly(_optimized(self.text, self.level))


def compile_ir(text: str, level: int = 1) -> Code:
    """Machine code for this host of a module's IR, from the disk cache where it has it.

    Args:
        text: the module. What it declares without defining must be one that `register_symbol`
            has named, or a symbol of the process: of Python's C API, libc or libm.
        level: how much to optimise: 0 to 3. More than 1 is for IR that isn't written
            with care.
    """
    name = disk.key(text, level)
    binary = disk.get(name)
    with _lock:
        # LLVM's loader would end the process over a symbol that it can't find.
        for symbol in declared(text):
            _resolve(symbol)
        found = binary is not None
        if binary is None:
            binary = bytes(_machine(level).emit_object(_optimized(text, level)))
        image = loader.load(binary, _resolve, _symbols)
    if not found:
        disk.put(name, binary)
    return Code(text, level, image)


def code_name(text: str, level: int = 1) -> str:
    """What the code of this IR is kept by in the cache."""
    return disk.key(text, level)


def declared(text: str) -> list[str]:
    """What IR takes from outside of its module."""
    return [name for name in _DECLARED.findall(text) if not name.startswith("llvm.")]


def load_code(name: str, symbols: Iterable[str]) -> Code | None:
    """Code that is in the cache by this name, and takes these symbols from outside."""
    binary = disk.get(name)
    if binary is None:
        return None
    with _lock:
        for symbol in symbols:
            _resolve(symbol)
        return Code("", 1, loader.load(binary, _resolve, _symbols))


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


@cache
def _machine(level: int) -> Any:
    llvm = host.binding()
    cpu, features = host.named()
    # On Windows, too, LLVM's loader takes ELF.
    triple = llvm.get_process_triple() + ("-elf" if os.name == "nt" else "")
    target = llvm.Target.from_triple(triple)
    # Small code that finds its constants relative to itself: each is an operand of the
    # instruction that needs it, where 64-bit addresses would take another and a register.
    return target.create_target_machine(
        cpu=cpu, features=features, opt=min(level, 2), reloc="pic", codemodel="small", jit=True
    )


def _optimized(text: str, level: int) -> Any:
    llvm = host.binding()
    machine = _machine(level)
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    inline = "alwaysinline" in text
    if level > 1 or inline:
        _run_passes(module, level, inline)
    return module


def _run_passes(module: Any, level: int, inline: bool) -> None:
    """The passes on IR that pay.

    Our kernels are vectorised straight-line code within loops, written once without
    redundancy. On such, the passes of level 2 take half as long as making the machine code and
    those of level 3 as long, and leave the time per element as it is: what is left to do,
    keeping constants in registers, say, is done on machine code, at any level. No level
    vectorises or unrolls loops.
    """
    llvm = host.binding()
    options = llvm.create_pipeline_tuning_options(speed_level=max(level - 1, 1))
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(_machine(level), options)
    if level > 2:
        builder.getModulePassManager().run(module, builder)
        return
    if inline:
        manager = llvm.create_new_module_pass_manager()
        manager.add_always_inliner_pass()
        manager.run(module, builder)
    if level > 1:
        manager = builder.getFunctionPassManager()
        for function in module.functions:
            if not function.is_declaration:
                manager.run(function, builder)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )
