"""From LLVM IR as text to machine code that can be called.

`compile_ir` is the way in; `Code.address` is what the callers of native code need. llvmlite is
imported at the first use, so that funcgrad works, and starts fast, without it.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from typing import Any

_lock = threading.RLock()
_symbols: dict[str, int] = {}


class Code:
    """Machine code of one module. Its memory is freed with this object.

    A caller that runs the code must therefore hold a reference to it.

    Attributes:
        text: the IR that it was made of.
        level: the optimisation level.
    """

    __slots__ = ("__weakref__", "_engine", "level", "text")

    def __init__(self, text: str, level: int, engine: Any):
        self.text = text
        self.level = level
        self._engine = engine

    def address(self, name: str) -> int:
        """Where a function of the module starts."""
        with _lock:
            address = self._engine.get_function_address(name)
        if not address:
            raise KeyError(name)
        return address

    @property
    def assembly(self) -> str:
        """The assembly text of the optimised module."""
        with _lock:
            return _machine(self.level).emit_assembly(_optimized(self.text, self.level))


def compile_ir(text: str, level: int = 2) -> Code:
    """Machine code for this host of a module's IR.

    Args:
        text: the module. What it declares without defining must be a symbol of the process or
            one that `register_symbol` has named.
        level: how much to optimise, 0 to 3.
    """
    with _lock:
        binary = bytes(_machine(level).emit_object(_optimized(text, level)))
        return Code(text, level, _loaded(binary, level))


def register_symbol(name: str, address: int) -> None:
    """Lets IR call what lies at this address by this name."""
    with _lock:
        _symbols[name] = address
        _binding().add_symbol(name, address)


@cache
def available() -> str | None:
    """None where native code can be made and run; else the reason why not."""
    try:
        code = compile_ir("define i32 @probe(i32 %a) {\n  %b = add i32 %a, 41\n  ret i32 %b\n}\n")
        answer = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(code.address("probe"))(1)
    except ImportError as error:
        return f"llvmlite cannot be imported ({error})"
    except (OSError, RuntimeError, AttributeError) as error:
        return f"machine code cannot be made here ({error})"
    return None if answer == 42 else "a compiled function gave a wrong answer"


def vector_bytes() -> int:
    """The bytes of the widest vectors that this host computes on at full rate."""
    features = _host()[1]
    if "+avx512f" in features and "+avx512vl" in features:
        return 64
    return 32 if "+avx2" in features else 16


@cache
def _binding() -> Any:
    import llvmlite.binding as binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    binding.check_jit_execution()
    return binding


@cache
def _host() -> tuple[str, tuple[str, ...]]:
    """The host's CPU and its features, as LLVM names them."""
    binding = _binding()
    features = binding.get_host_cpu_features().flatten()
    return binding.get_host_cpu_name(), tuple(features.split(","))


def _new_machine(level: int) -> Any:
    binding = _binding()
    cpu, features = _host()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(
        cpu=cpu, features=",".join(features), opt=level, reloc="pic", codemodel="small", jit=True
    )


@cache
def _machine(level: int) -> Any:
    return _new_machine(level)


def _optimized(text: str, level: int) -> Any:
    binding = _binding()
    machine = _machine(level)
    module = binding.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    if level:
        _passes(module, level)
    return module


def _passes(module: Any, level: int) -> None:
    binding = _binding()
    options = binding.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = binding.create_pass_builder(_machine(level), options)
    builder.getModulePassManager().run(module, builder)


def _loaded(binary: bytes, level: int) -> Any:
    binding = _binding()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _new_machine(level))
    engine.add_object_file(binding.ObjectFileRef.from_data(binary))
    engine.finalize_object()
    return engine
