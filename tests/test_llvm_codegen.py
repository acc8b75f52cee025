"""Programs in several modules, which are compiled side by side."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import funcgrad as fg
from _processes import run_python

pytest.importorskip("llvmlite")

from funcgrad.backends.llvm.ir.writer import Module
from funcgrad.backends.llvm.program import parts
from funcgrad.backends.llvm.runtime import codegen, engine


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUNCGRAD_CACHE_DIR", str(tmp_path / "code"))


@pytest.fixture(params=[1, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    fg.config.num_threads = request.param
    yield request.param
    fg.config.num_threads = None


def summed(name: str, number: int, steps: int) -> str:
    """A function that adds a number so many times, and takes long to compile with it."""
    lines = [f"define i64 @{name}(i64 %a0) {{"]
    lines += [f"  %a{k + 1} = xor i64 %a{k}, {number + k}" for k in range(steps)]
    return "\n".join([*lines, f"  ret i64 %a{steps}", "}", ""])


def expected(value: int, number: int, steps: int) -> int:
    for k in range(steps):
        value ^= number + k
    return value


def call(code: engine.Code, name: str, value: int) -> int:
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(code.address(name))(value)


# -- codegen ------------------------------------------------------------------------------


def test_modules_of_all_sizes_and_levels_at_once(threads: int) -> None:
    sizes = [1, 300, 5, 1000, 40, 2, 700]
    modules = [codegen.Part(summed(f"f{n}", n, n), k % 4) for k, n in enumerate(sizes)]
    for _ in range(3):
        code = engine.compile_source(engine.source(modules))
        for n in sizes:
            assert call(code, f"f{n}", 12345) == expected(12345, n, n)
    assert all(not isinstance(t, codegen._Worker) for t in threading.enumerate())


def test_modules_call_each_other(threads: int) -> None:
    caller = (
        "declare i64 @f(i64)\ndeclare i64 @g(i64)\n"
        "define i64 @both(i64 %a) {\n  %b = call i64 @f(i64 %a)\n  %c = call i64 @g(i64 %b)\n"
        "  ret i64 %c\n}\n"
    )
    back = (
        "declare i64 @f(i64)\ndefine i64 @g(i64 %a) {\n  %b = call i64 @f(i64 %a)\n"
        "  ret i64 %b\n}\n"
    )
    modules = [codegen.Part(text) for text in (caller, back, summed("f", 3, 4))]
    twice = expected(expected(99, 3, 4), 3, 4)
    for _ in range(2):  # the second from the cache
        assert call(engine.compile_source(engine.source(modules)), "both", 99) == twice


def test_what_is_wrong_with_a_module_is_told_by_who_asked_for_it(threads: int) -> None:
    good, bad = codegen.Part(summed("f", 1, 50)), codegen.Part("define i64 @g() { no }")
    for modules in ([good, bad], [bad, good], [good, good._replace(text="nothing"), good]):
        with pytest.raises(RuntimeError, match="parsing error"):
            engine.compile_source(engine.source(modules))
    assert call(engine.compile_source(engine.source([good])), "f", 5) == expected(5, 1, 50)


def test_code_that_is_soon_asked_for(threads: int) -> None:
    given = engine.source([codegen.Part(summed("f", 7, 800))])
    assert engine.compile_soon(given)
    assert engine.compile_soon(given)
    assert call(engine.compile_source(given), "f", 1) == expected(1, 7, 800)
    assert not engine.compile_soon(given), "it is in the cache now"
    assert call(engine.compile_source(given), "f", 2) == expected(2, 7, 800)
    wrong = engine.source([codegen.Part("define i64 @g() { no }")])
    assert engine.compile_soon(wrong)
    with pytest.raises(RuntimeError, match="parsing error"):
        engine.compile_source(wrong)


def test_several_threads_compile_at_once() -> None:
    wrong: list[int] = []

    def work(start: int) -> None:
        for n in range(start, start + 10):
            modules = [codegen.Part(summed(f"f{k}", n + k, 100)) for k in range(3)]
            code = engine.compile_source(engine.source(modules))
            for k in range(3):
                if call(code, f"f{k}", n) != expected(n, n + k, 100):
                    wrong.append(n)

    helpers = [threading.Thread(target=work, args=(100 * k,)) for k in range(4)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    assert not wrong


def test_llvmlite_may_keep_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    from llvmlite.binding import ffi

    class Locked:
        """A release whose functions don't show what they wrap."""

        def __getattr__(self, name: str) -> object:
            return (lambda *args: None) if name.endswith("EmitToMemory") else getattr(lib, name)

    lib = ffi.lib
    part = codegen.Part(summed("f", 2, 30))
    unlocked = codegen.emit(part)
    with codegen._machine(1) as machine:
        assert machine.emit_object(codegen._optimized(machine, part)) == unlocked
        module = codegen._optimized(machine, part)
        monkeypatch.setattr(type(machine), "emit_object", lambda *args: b"as llvmlite makes it")
        monkeypatch.setattr(ffi, "lib", Locked())
        assert codegen._object_code(machine, module) == b"as llvmlite makes it"
        monkeypatch.undo()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_fork_while_code_is_made() -> None:
    run_python(
        """
import os, sys
import funcgrad as fg
from funcgrad.backends.llvm.runtime import codegen
from funcgrad.backends.llvm.runtime import engine
sys.path.insert(0, "tests")
fg.config.num_threads = 3
def text(n):
    lines = [f"  %a{k + 1} = xor i64 %a{k}, {n + k}" for k in range(2000)]
    return "define i64 @f(i64 %a0) {\\n" + "\\n".join(lines) + "\\n  ret i64 %a2000\\n}\\n"
sources = [engine.source([codegen.Part(text(n))]) for n in range(6)]
for given in sources:
    engine.compile_soon(given)
child = os.fork()
for given in sources:
    engine.compile_source(given).address("f")
engine.compile_ir(text(100 if child else 101)).address("f")
if not child:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
        FUNCGRAD_CACHE_DIR="off",
    )


HANDLER = """
import os, signal, sys
import numpy as np
import funcgrad as fg
fg.config.num_threads = 2
def program(n, c):
    def f(x):
        for i in range(n):
            x = np.tanh(x * (c + i)) + np.exp(np.sin(x) + i)
            x = x - np.sum(x, axis=i % 2, keepdims=True)
        return x
    return f
count, busy = 0, False
def again(seconds=0.05):
    # By the processor's time, and from one response to the next signal: on a busy machine, too,
    # the program gets on in between.
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
def handle(*args):
    global count, busy
    if not busy:
        busy = True
        count += 1
        respond()
        busy = False
        again()
def compile():
    fg.jit(program(1, 100.5 + count), backend="llvm")(np.ones((20, 20)))
def fork():
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
x = np.ones((600, 600))
fg.jit(program(1, 99.5), backend="llvm")(x)
signal.signal(signal.SIGVTALRM, handle)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
@pytest.mark.parametrize("response", ["compile", "fork"])
def test_a_signal_handler_while_code_is_made(response: str) -> None:
    said = run_python(
        HANDLER
        + f"""
respond = {response}
again()
for n in range(8):
    fg.jit(program(6, n + 0.25), backend="llvm")(x)
busy = True
again(0)
print(count)
""",
        FUNCGRAD_CACHE_DIR="off",
    )
    assert int(said) > 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_an_interrupt_ends_compilation_at_once() -> None:
    said = run_python(
        HANDLER
        + """
from funcgrad.backends.llvm.runtime import codegen
emit, made = codegen.emit, []
def counted(part):
    made.append(part)
    if len(made) == 2:
        signal.raise_signal(signal.SIGINT)
    return emit(part)
codegen.emit = counted
fg.config.num_threads = 1
try:
    fg.jit(program(40, 0.25), backend="llvm")(x)
except KeyboardInterrupt:
    print(len(made))
codegen.emit = emit
print(np.isfinite(fg.jit(program(3, 0.75), backend="llvm")(x)).all())
""",
        FUNCGRAD_CACHE_DIR="off",
    )
    assert said.split() == ["2", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
def test_a_fork_while_assembly_is_made() -> None:
    run_python(
        HANDLER
        + """
import threading
lowered, stop = fg.jit(program(6, 0.25), backend="llvm").lower(x), False
def look():
    while not stop:
        lowered.assembly
thread = threading.Thread(target=look)
thread.start()
for n in range(10):
    child = os.fork()
    if not child:
        signal.alarm(250)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        fg.jit(lambda x: x * (n + 2.5), backend="llvm")(np.ones(3))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop = True
""",
        FUNCGRAD_CACHE_DIR="off",
    )


def test_the_interpreter_waits_for_the_threads_that_compile() -> None:
    codegen.start()
    found: list[bool] = []

    def work() -> None:
        before = codegen.threads
        try:
            codegen.threads = lambda: 2
            codegen.submit(codegen.Part(summed("f", 3, 2000)))
            found.extend(t.daemon for t in threading.enumerate() if type(t) is codegen._Worker)
        finally:
            codegen.threads = before

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble, np.complex64])
def test_products_that_native_code_does_not_make(dtype: type) -> None:
    x = np.ones((256, 256), dtype)

    def f(x, y):
        return y.sum(), (y * 2).sum(), (y + 1).sum(), (y - 1).max(), x @ x

    assert fg.jit(f, backend="llvm")(x, np.ones(9))[-1][0, 0] == 256


def test_a_process_may_end_while_code_is_made() -> None:
    run_python(
        """
import funcgrad as fg
from funcgrad.backends.llvm.runtime import codegen
from funcgrad.backends.llvm.runtime import engine
fg.config.num_threads = 2
lines = "\\n".join(f"  %a{k + 1} = xor i64 %a{k}, {k}" for k in range(5000))
engine.compile_soon(engine.source([codegen.Part(
    "define i64 @f(i64 %a0) {\\n" + lines + "\\n  ret i64 %a5000\\n}\\n")]))
""",
        FUNCGRAD_CACHE_DIR="off",
    )


def test_code_is_made_at_exit_too() -> None:
    said = run_python(
        """
import atexit
import numpy as np
import funcgrad as fg
fg.config.num_threads = 4
gradient = fg.jit(fg.grad(lambda x: (x @ x).sum()))
atexit.register(lambda: print(gradient(np.eye(90))[0, 0]))
""",
        FUNCGRAD_CACHE_DIR="off",
    )
    assert said.strip() == "2.0"


# -- parts --------------------------------------------------------------------------------


def program() -> Module:
    module = Module()
    module.declare("llvm.smin.i64", "declare i64 @llvm.smin.i64(i64, i64)")
    module.declare("table", "@table = private constant [2 x i64] [i64 10, i64 20]")
    module.declare("unused", "@unused = private constant [2 x i64] [i64 10, i64 20]")
    module.define(
        "shared",
        "define internal i64 @shared(i64 %n) cold {\n"
        "  %p = getelementptr i64, ptr @table, i64 %n\n  %v = load i64, ptr %p\n  ret i64 %v\n}",
    )
    for k in range(3):
        module.define(
            f"kernel{k}",
            f"define internal i64 @kernel{k}(ptr noalias %args, i64 %n) #0 {{\n"
            f"  %m = call i64 @llvm.smin.i64(i64 %n, i64 1)\n"
            f"  %s = call i64 @shared(i64 %m)\n  %r = add i64 %s, {k}\n  ret i64 %r\n}}",
        )
    calls = "".join(f"  %r{k} = call i64 @kernel{k}(ptr null, i64 %n)\n" for k in range(3))
    module.define(
        "twice",
        "@two = private constant i64 2\n"
        "define internal i64 @twice(<2 x i64> %n) {\n  %t = load i64, ptr @two\n"
        "  %x = extractelement <2 x i64> %n, i64 1\n  %r = mul i64 %x, %t\n  ret i64 %r\n}",
    )
    module.define(
        "main",
        f"define internal i64 @main(i64 %n) #1 {{\n{calls}  %a = add i64 %r0, %r1\n"
        "  %b = add i64 %a, %r2\n  %c = call i64 @twice(<2 x i64> splat (i64 1))\n"
        "  %d = mul i64 %b, %c\n  ret i64 %d\n}",
    )
    module.define(
        "entry",
        "define i64 @entry(i64 %n) #1 {\n  %r = call i64 @main(i64 %n)\n  ret i64 %r\n}",
    )
    return module


@pytest.mark.parametrize("size", [1, 400, 10**6])
def test_a_program_in_parts_is_the_same_program(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_PART_TEXT", size)
    found = parts.parts(program(), "entry")
    assert [p.level for p in found] == [0, *[1] * (len(found) - 1)]
    assert len(found) == {1: 4, 400: 3, 10**6: 2}[size]
    code = engine.compile_source(engine.source(found))
    whole = engine.compile_ir(parts.whole(program()))
    for n in (0, 1, 5):
        assert call(code, "entry", n) == call(whole, "entry", n) == 6 * (10, 20)[min(n, 1)] + 6


def test_a_part_has_what_it_needs_and_no_more() -> None:
    glue, kernels = parts.parts(program(), "entry")
    assert set(re.findall(r"^define.*@(\w+)\(", glue.text, re.M)) == {"twice", "main", "entry"}
    assert set(re.findall(r"^declare.*@(\w+)\(", glue.text, re.M)) == {
        f"kernel{k}" for k in range(3)
    }
    assert "@table" not in glue.text and "@table" in kernels.text
    assert "@unused" not in kernels.text
    assert "define internal i64 @shared" in kernels.text and "define i64 @kernel2" in kernels.text


def test_a_program_whose_entry_is_no_glue_is_one_part() -> None:
    module = program()
    module.functions["entry"] = module.functions["entry"].replace(" #1", " #0")
    assert parts.parts(module, "entry") == [codegen.Part(parts.whole(module))]


def test_long_glue_is_a_part_of_its_own_though_the_entry_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = program()
    module.functions["entry"] = module.functions["entry"].replace(" #1", "")
    monkeypatch.setattr(parts, "_LONG_TEXT", len(module.functions["main"]))
    monkeypatch.setattr(parts, "_PART_TEXT", 1)
    glue, kernels = parts.parts(module, "entry")
    assert glue.level == 0 and kernels.level == 1
    assert set(re.findall(r"^define.*@(\w+)\(", glue.text, re.M)) == {"twice", "main", "entry"}
    code = engine.compile_source(engine.source([glue, kernels]))
    assert call(code, "entry", 5) == call(engine.compile_ir(parts.whole(module)), "entry", 5)


def test_large_programs_give_equal_bits_however_they_are_cut(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 300)).astype(np.float32)
    w = rng.normal(size=(300, 40)).astype(np.float32)

    def f(x, w):
        y = np.tanh(x @ w)
        z = np.exp(-np.abs(x)).sum(1, keepdims=True)
        return (np.log1p(y * y) / z).sum() + np.sin(x).std()

    results = []
    for size in (1, 10_000, 10**7):
        monkeypatch.setattr(parts, "_PART_TEXT", size)
        monkeypatch.setenv("FUNCGRAD_CACHE_DIR", "off")
        lowered = fg.jit(fg.value_and_grad(f, argnums=(0, 1)), backend="llvm")
        value, (gx, gw) = lowered(x, w)
        results.append((value, gx, gw))
    for value, gx, gw in results:
        assert value == results[0][0]
        assert np.array_equal(gx, results[0][1])
        assert np.array_equal(gw, results[0][2])
