"""LLVM IR as text to object code, several modules at a time.

Each module has a context and a machine of its own, which is what LLVM needs to work on several
threads [1]; llvmlite lets in one at a time, so that the call that takes long goes past its lock.

[1] *LLVM Programmer's Manual*, "Threads and LLVM".
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from funcgrad.backends.llvm import host
from funcgrad.config import threads


class Part(NamedTuple):
    """A module's text, and how much to optimise it: 0 to 3."""

    text: str
    level: int = 1


class Job:
    """A module that becomes an object file, on the first thread that is free."""

    def __init__(self, part: Part):
        self.part = part
        self._ended = threading.Event()
        self._result = b""
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._result = emit(self.part)
        except BaseException as error:
            self._error = error
        finally:
            self._ended.set()

    def help(self) -> None:
        """Make it here and now, unless some thread has begun."""
        with _lock:
            waits = self in _pending
            if waits:
                _pending.remove(self)
        if waits:
            self.run()

    def result(self) -> bytes:
        self.help()
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return self._result


_pending: deque[Job] = deque()
# The interpreter waits for them before it exits: LLVM must not lose its globals under them.
_workers: set[threading.Thread] = set()
_lock = threading.Lock()


def submit(part: Part) -> Job:
    """Has a module compiled beside what the caller goes on with, if threads may be had.

    LLVM must have been started.
    """
    job = Job(part)
    with _lock:
        _pending.append(job)
        if len(_workers) < threads() - 1:
            worker = threading.Thread(target=_work, name="funcgrad-compiler")
            _workers.add(worker)
            try:
                worker.start()
            except RuntimeError:
                # No more threads, or the interpreter is about to exit.
                _workers.discard(worker)
    return job


def _work() -> None:
    while True:
        with _lock:
            if not _pending:
                _workers.discard(threading.current_thread())
                return
            job = _pending.popleft()
        job.run()


def finish() -> None:
    """Wait until nothing is under way on other threads."""
    for worker in tuple(_workers):
        worker.join()


def objects(parts: Sequence[Part]) -> list[bytes]:
    """An object file for each of the modules."""
    start()
    # What takes longest comes first.
    longest = sorted(range(len(parts)), key=lambda k: -_cost(parts[k]))
    jobs = {k: submit(parts[k]) for k in longest}
    for job in jobs.values():
        job.help()
    return [jobs[k].result() for k in range(len(parts))]


def _cost(part: Part) -> int:
    """About how long a module takes, as measured on programs of kernels and glue."""
    return len(part.text) * (8 if part.level else 1)


def emit(part: Part) -> bytes:
    """The object file of a module."""
    with _machine(part.level) as machine:
        return _object_code(machine, _optimized(machine, part))


def assembly(part: Part) -> str:
    """The assembly text of a module."""
    with _machine(part.level) as machine:
        return machine.emit_assembly(_optimized(machine, part))


def start() -> None:
    """Load LLVM and make it ready: two threads that import at once hinder each other."""
    with _machine(1):
        pass


# Those that no thread uses, by their level.
_machines: dict[int, list[Any]] = {level: [] for level in range(4)}


@contextmanager
def _machine(level: int) -> Iterator[Any]:
    """What makes code of a level, for this thread alone."""
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
