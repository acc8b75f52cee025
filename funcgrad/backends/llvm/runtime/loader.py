"""Object code put into memory, to be run.

Two loaders: our own, for ELF objects of x86-64 as LLVM makes them of our IR, and LLVM's for all
others. Ours does without LLVM, whose loading takes longer than the rest of a program's first
call where its code comes from the disk cache. It knows the relocations of position-independent
code in the small code model [1]; an object with any other goes to LLVM's loader.

[1] System V Application Binary Interface, AMD64 Architecture Processor Supplement, section 4.4.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from funcgrad.backends.llvm.runtime import codegen, host
from funcgrad.records import NamedTuple

_X86_64, _RELOCATABLE = 62, 1
_NOBITS, _RELA, _SYMTAB = 8, 4, 2
_GLOBAL = 1
_WRITE, _ALLOC, _EXECUTE = 1, 2, 4
_UNWIND = 0x70000001

_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_PC64 = 1, 2, 4, 9, 24
_R_GOTPCRELX, _R_REX_GOTPCRELX = 41, 42
_SLOT_RELATIVE = (_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX)
_WIDE = (_R_64, _R_PC64)
_KNOWN = (*_WIDE, _R_PC32, _R_PLT32, *_SLOT_RELATIVE)

_SYMBOL = np.dtype(
    {
        "names": ["name", "info", "other", "section", "value", "size"],
        "formats": ["<u4", "u1", "u1", "<u2", "<u8", "<u8"],
    }
)
_RELOCATION = np.dtype([("offset", "<u8"), ("type", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

# A jump to the address in a slot (`jmp *offset(%rip)`), padded to 8 bytes.
_JUMP, _JUMP_BYTES, _SLOT_BYTES = b"\xff\x25", 8, 8

Resolve = Callable[[str], int]


class Image(Protocol):
    """Loaded code; its memory is freed with this object."""

    def address(self, name: str) -> int: ...


class UnknownObjectError(Exception):
    """An object that our own loader doesn't know how to load."""


def load(binaries: Sequence[bytes], resolve: Resolve, symbols: Mapping[str, int]) -> Image:
    """Loads the object files of one program.

    Args:
        binaries: the files' content.
        resolve: gives the address of a symbol that none of them defines.
        symbols: those among them that LLVM's loader wouldn't find by itself.
    """
    if sys.platform == "linux" and platform.machine() == "x86_64":
        try:
            return _OwnImage(binaries, resolve)
        except UnknownObjectError:
            pass
    return _LLVMImage(binaries, symbols)


class _LLVMImage:
    def __init__(self, binaries: Sequence[bytes], symbols: Mapping[str, int]):
        llvm = host.binding()
        with codegen.at_work():
            for name, address in symbols.items():
                llvm.add_symbol(name, address)
            cpu, features = host.named()
            target = llvm.Target.from_triple(llvm.get_process_triple())
            machine = target.create_target_machine(cpu=cpu, features=features, jit=True)
            self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
            for binary in binaries:
                self._engine.add_object_file(llvm.ObjectFileRef.from_data(binary))
            self._engine.finalize_object()

    def address(self, name: str) -> int:
        found = self._engine.get_function_address(name)
        if not found:
            raise KeyError(name)
        return found


class _Section(NamedTuple):
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


class _OwnImage:
    __slots__ = ("__weakref__", "_addresses", "_memory")

    def __init__(self, binaries: Sequence[bytes], resolve: Resolve):
        files = [_Object(binary) for binary in binaries]
        self._addresses = {name: at for file in files for name, at in file.defined.items()}

        def find(name: str) -> int:
            return self._addresses.get(name) or resolve(name)

        for file in files:
            file.link(find)
        self._memory = [file.memory for file in files]

    def address(self, name: str) -> int:
        return self._addresses[name]


class _Object:
    """One file in memory: jumps to other code, code | slots, constants | variables, each on
    pages of its own, which are protected accordingly.

    Attributes:
        memory: what it takes.
        defined: where what it defines for others lies.
    """

    def __init__(self, binary: bytes):
        sections = _sections(binary)
        symbols, names = _symbols(binary, sections)
        self._relocations = _relocations(binary, sections)
        self._outside = _outside(symbols, names, self._relocations)
        self._places, self._bounds = _layout(sections, len(self._outside))
        self.memory = mmap.mmap(-1, self._bounds[-1], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._content = np.frombuffer(self.memory, np.uint8)
        for number, place in self._places.items():
            section = sections[number]
            if section.kind != _NOBITS:
                data = np.frombuffer(binary, np.uint8, section.size, section.offset)
                self._content[place : place + section.size] = data
        self._addresses = _addresses(symbols, self._places, self._content.ctypes.data)
        public = (symbols["info"] >> 4 == _GLOBAL) & (symbols["section"] != 0)
        self.defined = {names[i]: int(self._addresses[i]) for i in np.flatnonzero(public)}

    def link(self, resolve: Resolve) -> None:
        """Write where it refers to, and make the code executable."""
        content, addresses, base = self._content, self._addresses, self._content.ctypes.data
        slots = np.zeros(len(addresses), np.int64)
        for count, (symbol, name) in enumerate(self._outside.items()):
            jump, slot = _JUMP_BYTES * count, self._bounds[1] + _SLOT_BYTES * count
            struct.pack_into("<2si", self.memory, jump, _JUMP, slot - (jump + 6))
            struct.pack_into("<q", self.memory, slot, addresses[symbol] or resolve(name))
            slots[symbol] = base + slot
            addresses[symbol] = addresses[symbol] or base + jump
        for target, table in self._relocations:
            _relocate(content, base, self._places[target], table, addresses, slots)
        _protect(base, self._bounds)


def _sections(binary: bytes) -> list[_Section]:
    if len(binary) < 64 or binary[:6] != b"\x7fELF\x02\x01":
        raise UnknownObjectError("no 64-bit little-endian ELF file")
    kind, machine = struct.unpack_from("<HH", binary, 16)
    if kind != _RELOCATABLE or machine != _X86_64:
        raise UnknownObjectError("no relocatable object of x86-64")
    (start,) = struct.unpack_from("<Q", binary, 40)
    size, count = struct.unpack_from("<HH", binary, 58)
    return [
        _Section(*struct.unpack_from("<IIQQQQIIQQ", binary, start + size * i)) for i in range(count)
    ]


def _symbols(binary: bytes, sections: list[_Section]) -> tuple[np.ndarray, list[str]]:
    table = next((s for s in sections if s.kind == _SYMTAB), None)
    if table is None:
        raise UnknownObjectError("no symbols")
    symbols = np.frombuffer(binary, _SYMBOL, table.size // _SYMBOL.itemsize, table.offset)
    start = sections[table.link].offset
    names = [
        binary[start + at : binary.index(b"\0", start + at)].decode() for at in symbols["name"]
    ]
    return symbols, names


def _relocations(binary: bytes, sections: list[_Section]) -> list[tuple[int, np.ndarray]]:
    """For each section that has them, its number and table."""
    found: list[tuple[int, np.ndarray]] = []
    for section in sections:
        # Unwind tables are left out: nothing unwinds through our code.
        if section.kind == _RELA and _loaded(sections[section.info]):
            count = section.size // _RELOCATION.itemsize
            table = np.frombuffer(binary, _RELOCATION, count, section.offset)
            if not _among(table["type"], _KNOWN).all():
                raise UnknownObjectError("an unknown relocation")
            found.append((section.info, table))
    return found


def _among(numbers: np.ndarray, few: Sequence[int]) -> np.ndarray:
    """`np.isin`, which takes longer than the rest of loading."""
    return np.any([numbers == n for n in few], axis=0)


def _loaded(section: _Section) -> bool:
    return bool(section.flags & _ALLOC) and section.size > 0 and section.kind != _UNWIND


def _outside(
    symbols: np.ndarray, names: list[str], relocations: list[tuple[int, np.ndarray]]
) -> dict[int, str]:
    """The symbols that need a slot: those defined elsewhere, and those asked for by slot."""
    found: dict[int, str] = {}
    for _, table in relocations:
        undefined = symbols["section"][table["symbol"]] == 0
        by_slot = _among(table["type"], _SLOT_RELATIVE)
        if np.any(undefined & (table["type"] == _R_PC32)):
            raise UnknownObjectError("data of another module addressed directly")
        for symbol in table["symbol"][undefined | by_slot]:
            found[int(symbol)] = names[symbol]
    return found


def _layout(
    sections: list[_Section], outside: int
) -> tuple[dict[int, int], tuple[int, int, int, int]]:
    """Each loaded section's offset in memory, and those that bound the kinds of pages."""
    places: dict[int, int] = {}
    bounds = [0]
    at = 0
    for flags, extra in ((_EXECUTE, _JUMP_BYTES), (0, _SLOT_BYTES), (_WRITE, 0)):
        at += extra * outside
        for number, section in enumerate(sections):
            if _loaded(section) and section.flags & (_EXECUTE | _WRITE) == flags:
                at = _up(at, max(section.align, 1))
                places[number] = at
                at += section.size
        at = _up(at, mmap.PAGESIZE)
        bounds.append(at)
    # Distances are written in 32 bits.
    if len(places) != sum(map(_loaded, sections)) or not 0 < at < 2**31:
        raise UnknownObjectError("sections of an unknown kind or size")
    return places, (bounds[0], bounds[1], bounds[2], bounds[3])


def _up(offset: int, align: int) -> int:
    return -(-offset // align) * align


def _addresses(symbols: np.ndarray, places: dict[int, int], base: int) -> np.ndarray:
    """Where the symbols are that lie in loaded sections; 0 for others."""
    found = np.zeros(len(symbols), np.int64)
    for number, place in places.items():
        here = symbols["section"] == number
        found[here] = symbols["value"][here].astype(np.int64) + (base + place)
    return found


def _relocate(
    content: np.ndarray,
    base: int,
    place: int,
    table: np.ndarray,
    addresses: np.ndarray,
    slots: np.ndarray,
) -> None:
    """Writes one section's references, as section 4.4.1 of [1] defines them."""
    kind, symbol = table["type"], table["symbol"]
    at = place + table["offset"].astype(np.int64)
    target = np.where(_among(kind, _SLOT_RELATIVE), slots[symbol], addresses[symbol])
    if not target.all():
        raise UnknownObjectError("a symbol of an unknown kind")
    value = target + table["addend"] - np.where(kind == _R_64, 0, base + at)
    wide = _among(kind, _WIDE)
    for rows, size in ((wide, 8), (~wide, 4)):
        data = value[rows].view(np.uint8).reshape(-1, 8)[:, :size]
        content[at[rows][:, None] + np.arange(size)] = data


@cache
def _mprotect() -> Any:
    function = ctypes.CDLL(None, use_errno=True).mprotect
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


def _protect(base: int, bounds: tuple[int, int, int, int]) -> None:
    executed, read = mmap.PROT_READ | mmap.PROT_EXEC, mmap.PROT_READ
    for start, end, rights in ((*bounds[:2], executed), (*bounds[1:3], read)):
        if end > start and _mprotect()(base + start, end - start, rights):
            error = ctypes.get_errno()
            raise OSError(error, f"memory can't be made executable: {os.strerror(error)}")
