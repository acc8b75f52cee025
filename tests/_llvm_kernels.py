"""Compiles one function of the LLVM backend to a loop over arrays, for tests."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import llvmlite.binding as llvm
import numpy as np

from funcgrad.backends.llvm.ir.functions import FUNCTIONS
from funcgrad.backends.llvm.ir.writer import Module, Value, Writer

KINDS = {"float32": "float", "float64": "double"}


def kernel_text(
    name: str, ty: str, lanes: int, arity: int, constants: tuple[float, ...] = ()
) -> str:
    """`kernel(result, x, y, n)` over n elements, a multiple of `lanes`.

    `constants` are further arguments of the function.
    """
    module = Module()
    w = Writer(module)
    entry = w.block
    w.branch("loop")
    w.label("loop")
    index = Value("%index", "i64")
    w.line(f"%index = phi i64 [0, %{entry}], [%next, %END]")
    pointers = [Value(f"%in{i}", "ptr") for i in range(arity)]
    loads = [w.load(w.offset(p, ty, index), ty, lanes) for p in pointers]
    loads += [w.const(c, ty, lanes) for c in constants]
    w.store(FUNCTIONS[name](w, *loads), w.offset(Value("%out", "ptr"), ty, index))
    w.line(f"%next = add i64 %index, {lanes}")
    w.line("%more = icmp slt i64 %next, %n")
    w.line("br i1 %more, label %loop, label %done")
    body = "\n".join(w.lines).replace("%END", f"%{w.block}")
    inputs = ", ".join(f"ptr noalias {p.ref}" for p in pointers)
    # Without it LLVM spills vectors of 64 bytes to addresses that straddle cache lines.
    head = f"define void @kernel(ptr noalias %out, {inputs}, i64 %n) alignstack(64) {{\nentry:\n"
    return f"{module}\n{head}{body}\ndone:\n  ret void\n}}\n"


@cache
def _machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=2,
        reloc="pic",
        codemodel="jitdefault",
    )


_engines = []


@cache
def _address(name: str, ty: str, lanes: int, arity: int, constants: tuple[float, ...] = ()) -> int:
    module = llvm.parse_assembly(kernel_text(name, ty, lanes, arity, constants))
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    builder = llvm.create_pass_builder(_machine(), options)
    builder.getModulePassManager().run(module, builder)
    engine = llvm.create_mcjit_compiler(module, _machine())
    engine.finalize_object()
    _engines.append(engine)
    return engine.get_function_address("kernel")


def compiled(
    name: str, dtype: str, lanes: int, arity: int, constants: tuple[float, ...] = ()
) -> Callable[..., np.ndarray]:
    """The function as a Python function of arrays, optionally with `out`."""
    address = _address(name, KINDS[dtype], lanes, arity, constants)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (1 + arity), ctypes.c_int64)(address)

    def run(*arrays: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        n = len(arrays[0])
        padded = [
            np.ascontiguousarray(np.resize(a, -(-n // lanes) * lanes)) if n % lanes else a
            for a in arrays
        ]
        if out is None:
            out = np.empty(len(padded[0]), dtype)
        call(out.ctypes.data, *(a.ctypes.data for a in padded), len(padded[0]))
        return out[:n]

    return run
