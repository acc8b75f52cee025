"""LLVM IR as text to object code, several modules at a time.

Each module has a context and a machine of its own, which is what LLVM needs to work on several
threads [1]; llvmlite lets in one at a time, so that the call that takes long goes past its lock.

[1] *LLVM Programmer's Manual*, "Threads and LLVM".
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from funcgrad.backends.llvm.runtime import host
from funcgrad.config import threads
from funcgrad.records import NamedTuple

# How much longer text takes where its code is optimised, as measured on kernels and drivers.
_OPTIMIZED = 8


class Part(NamedTuple):
    """A module's text, and how much to optimise it: 0 to 3."""

    text: str
    level: int = 1


class _Worker(threading.Thread):
    """A thread that makes code. What goes wrong there goes wrong again for who needs the code.

    It is no daemon: the interpreter waits for it, as LLVM must not lose its globals under it.
    """

    def __init__(self, work: Callable[[], None]):
        super().__init__(name="funcgrad-compiler", daemon=False)
        self._work = work

    def run(self) -> None:
        with contextlib.suppress(Exception):
            self._work()


def _employ(work: Callable[[], None]) -> _Worker | None:
    worker = _Worker(work)
    try:
        worker.start()
    except RuntimeError:
        # No more threads, or the interpreter is about to exit.
        return None
    return worker


# Nothing here takes a lock that a signal handler, which may compile or fork, could wait for in
# vain. llvmlite's own lock is such: a thread that may have it doesn't wait for others.
_at_work = threading.local()


@contextmanager
def at_work() -> Iterator[None]:
    """While this thread uses llvmlite."""
    before = _is_at_work()
    _at_work.now = True
    try:
        yield
    finally:
        _at_work.now = before


def _is_at_work() -> bool:
    return getattr(_at_work, "now", False)


def objects(parts: Sequence[Part]) -> list[bytes]:
    """An object file for each of the modules."""
    start()
    # The last are taken first, so these are those that take longest.
    left = sorted(range(len(parts)), key=lambda k: _cost(parts[k]))
    found: dict[int, bytes] = {}

    def work() -> None:
        while left:
            try:
                k = left.pop()
            except IndexError:
                return
            found[k] = emit(parts[k])

    count = 1 if _is_at_work() else min(threads(), len(parts))
    workers = [_employ(work) for _ in range(count - 1)]
    try:
        work()
    finally:
        left.clear()
    for worker in workers:
        if worker:
            worker.join()
    return [found[k] if k in found else emit(parts[k]) for k in range(len(parts))]


class Job:
    """A module that becomes an object file on another thread, if one is free in time."""

    def __init__(self, part: Part):
        self._part = part
        self._claims = [part]
        self._ended = threading.Event()
        self._result: bytes | None = None

    def run(self) -> None:
        """Make it, unless another thread has begun."""
        try:
            part = self._claims.pop()
        except IndexError:
            return
        try:
            self._result = emit(part)
        finally:
            self._ended.set()

    def result(self) -> bytes:
        self.run()
        if not _is_at_work():
            self._ended.wait()
        return self._result or emit(self._part)


_jobs: deque[Job] = deque()
_worker: _Worker | None = None


def submit(part: Part) -> Job:
    """Has a module compiled beside what the caller goes on with, after those before it.

    LLVM must have been started.
    """
    global _worker
    job = Job(part)
    if threads() > 1:
        _jobs.append(job)
        # One that is about to end may not see the job; then who needs it makes it.
        if _worker is None or not _worker.is_alive():
            _worker = _employ(_work)
    return job


def _work() -> None:
    while _jobs:
        with contextlib.suppress(Exception):
            _jobs.popleft().run()


def before_fork() -> None:
    """Wait until no other thread makes code."""
    if not _is_at_work():
        for thread in threading.enumerate():
            if isinstance(thread, _Worker) and thread.is_alive():
                thread.join()


def in_child() -> None:
    """What no thread is there to do any more is forgotten."""
    _jobs.clear()


def _cost(part: Part) -> int:
    """About how long a module takes, by its text; most instructions of drivers are at level 0."""
    return len(part.text) * (_OPTIMIZED if part.level else 1)


def emit(part: Part) -> bytes:
    """The object file of a module."""
    with at_work(), _machine(part.level) as machine:
        return _object_code(machine, _optimized(machine, part))


def assembly(part: Part) -> str:
    """The assembly text of a module."""
    with at_work(), _machine(part.level) as machine:
        return machine.emit_assembly(_optimized(machine, part))


def start() -> None:
    """Load LLVM, so that no other thread has to: two that import at once hinder each other."""
    with at_work(), _machine(1):
        pass


# Those that no thread uses, by their level.
_machines: dict[int, list[Any]] = {level: [] for level in range(4)}


@contextmanager
def _machine(level: int) -> Iterator[Any]:
    """What makes code of a level, for this thread alone; none goes on after an error."""
    try:
        machine = _machines[level].pop()
    except IndexError:
        machine = _new_machine(level)
    yield machine
    _machines[level].append(machine)


def _new_machine(level: int) -> Any:
    llvm = host.binding()
    cpu, features = host.named()
    # Small code that finds its constants relative to itself: each is an operand of the
    # instruction that needs it, where 64-bit addresses would take another and a register.
    return llvm.Target.from_triple(_triple()).create_target_machine(
        cpu=cpu, features=features, opt=min(level, 2), reloc="pic", codemodel="small", jit=True
    )


@cache
def _triple() -> str:
    # On Windows, too, LLVM's loader takes ELF.
    return host.binding().get_process_triple() + ("-elf" if os.name == "nt" else "")


@cache
def _target() -> str:
    """The lines of a module that say what it is for."""
    layout = str(_new_machine(1).target_data)
    return f'target datalayout = "{layout}"\ntarget triple = "{_triple()}"\n'


def _object_code(machine: Any, module: Any) -> bytes:
    ffi = host.binding().ffi
    lib = ffi.lib
    unlocked = getattr(lib.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if unlocked is None:
        return bytes(machine.emit_object(module))
    with ffi.OutputString() as message:
        buffer = unlocked(machine, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        start, size = lib.LLVMPY_GetBufferStart(buffer), lib.LLVMPY_GetBufferSize(buffer)
        return ctypes.string_at(start, size)
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _optimized(machine: Any, part: Part) -> Any:
    llvm = host.binding()
    text, level = part
    module = llvm.parse_assembly(_target() + text, llvm.create_context())
    module.verify()
    inline = "alwaysinline" in text
    if level > 1 or inline:
        _run_passes(machine, module, level, inline)
    return module


def _run_passes(machine: Any, module: Any, level: int, inline: bool) -> None:
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
    builder = llvm.create_pass_builder(machine, options)
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
