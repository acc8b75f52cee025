"""The processor that runs this process, and what LLVM calls it.

LLVM takes tens of milliseconds to load, which a program that lies in the disk cache shouldn't
have to wait for. On Linux the kernel's description of the processor therefore stands for LLVM's
where only equality with an earlier one matters, or the width of the vectors.
"""

from __future__ import annotations

import platform
import sys
from functools import cache
from typing import Any

# What LLVM looks at to name a processor and its features.
_TELLING = ("vendor_id", "cpu family", "model", "stepping", "flags")


def description() -> tuple[str, ...]:
    """What tells this processor from all that need other code."""
    known = _kernel_description()
    return (platform.machine(), *(known.values() if known else named()))


@cache
def vector_bytes() -> int:
    """The bytes of the widest vectors that this host computes on at full rate."""
    known = _kernel_description()
    if known:
        flags = set(known["flags"].split())
    else:
        flags = {text[1:] for text in named()[1].split(",") if text.startswith("+")}
    # The bit and byte instructions that masks and conversions need come with these.
    if {"avx512f", "avx512vl", "avx512dq", "avx512bw"} <= flags:
        return 64
    return 32 if {"avx2", "fma"} <= flags else 16


@cache
def named() -> tuple[str, str]:
    """LLVM's name of the host's processor, and its features."""
    llvm = binding()
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


@cache
def binding() -> Any:
    """llvmlite's binding, set up to make code for this host."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    return llvm


@cache
def _kernel_description() -> dict[str, str] | None:
    """The telling lines on the first processor, where Linux describes an x86 one."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    try:
        with open("/proc/cpuinfo", "rb") as file:
            first = file.read(8192).decode(errors="replace").partition("\n\n")[0]
    except OSError:
        return None
    pairs = [line.partition(":") for line in first.splitlines()]
    found = {name.strip(): value.strip() for name, _, value in pairs}
    return {name: found[name] for name in _TELLING} if found.keys() >= set(_TELLING) else None
