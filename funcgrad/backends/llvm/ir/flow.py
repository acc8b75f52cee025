"""Loops and branches of one function, with the values that they carry as phis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from funcgrad.backends.llvm.ir.writer import DRIVER, Value, Writer

Values = Sequence[Value]


def repeated(
    w: Writer,
    carry: Values,
    test: Callable[[list[Value]], Value],
    step: Callable[[list[Value]], Values],
) -> list[Value]:
    """Rounds of `carry = step(carry)` while `test(carry)`; the carried values behind them."""
    head, inside, after = w.new_label("head"), w.new_label("loop"), w.new_label("done")
    start = w.block
    w.branch(head)
    w.label(head)
    place = len(w.lines)
    phis = [Value(w.fresh(), c.ty, c.lanes) for c in carry]
    w.branch_if(test(phis), inside, after)
    w.label(inside)
    found = step(phis)
    back = w.block
    w.branch(head)
    # What comes back is known only now.
    w.lines[place:place] = [
        f"  {p.ref} = phi {p.type} [{first.ref}, %{start}], [{later.ref}, %{back}]"
        for p, first, later in zip(phis, carry, found, strict=True)
    ]
    w.label(after)
    return phis


def counted(
    w: Writer,
    begin: Value,
    end: Value,
    step: int,
    body: Callable[..., Values | None],
    carry: Values = (),
) -> list[Value]:
    """A counted loop, which runs while `begin + step <= end`; the carried values behind it.

    `body(i, *carry)` gives the carried values of the next round.
    """
    last = begin

    def fits(values: list[Value]) -> Value:
        nonlocal last
        last = w.op("add", values[0], w.const(step, "i64"))
        return w.compare("icmp sle", last, end)

    def round_(values: list[Value]) -> Values:
        return [last, *(body(*values) or ())]

    return repeated(w, [begin, *carry], fits, round_)[1:]


def parts(w: Writer, length: Value, part: Value) -> Value:
    """How many parts, the last one perhaps shorter, cover a length."""
    below = w.op("sub", part, w.const(1, "i64"))
    return w.op("udiv", w.op("add", length, below), part)


def in_blocks(
    w: Writer,
    begin: Value,
    end: Value,
    length: Callable[[Value], Value],
    body: Callable[..., Values | None],
    carry: Values = (),
) -> list[Value]:
    """A counted loop whose step varies; `body(i, stop, *carry)` gives the next round's values."""

    def more(values: list[Value]) -> Value:
        return w.compare("icmp slt", values[0], end)

    def round_(values: list[Value]) -> Values:
        i, *inner = values
        stop = w.intrinsic("smin", w.op("add", i, length(i)), end)
        return [stop, *(body(i, stop, *inner) or ())]

    return repeated(w, [begin, *carry], more, round_)[1:]


def guarded(w: Writer, test: Value, body: Callable[..., Values], carry: Values) -> list[Value]:
    """`body(*carry)` where `test` holds, else the carried values as they are."""
    then, after = w.new_label("tail"), w.new_label("after")
    before = w.block
    w.branch_if(test, then, after)
    w.label(then)
    found = body(*carry)
    back = w.block
    w.branch(after)
    w.label(after)
    return [w.phi(c.ty, c.lanes, (c, before), (f, back)) for c, f in zip(carry, found, strict=True)]


def branches(w: Writer, index: Value, count: int, write: Callable[[int], Values]) -> list[Value]:
    """The results of the branch that an index chooses; beyond the last, the last's."""
    labels, after = [w.new_label("branch") for _ in range(count)], w.new_label("after")
    if index.ty != "i64":
        index = w.cast("zext" if index.ty == "i1" else "sext", index, "i64")
    cases = " ".join(f"i64 {k}, label %{label}" for k, label in enumerate(labels[:-1]))
    w.line(f"switch i64 {index.ref}, label %{labels[-1]} [{cases}]")
    ends: list[tuple[Values, str]] = []
    for k, label in enumerate(labels):
        w.label(label)
        found = write(k)
        ends.append((found, w.block))
        w.branch(after)
    w.label(after)
    columns = zip(*(values for values, _ in ends), strict=True)
    blocks = [block for _, block in ends]
    return [w.phi(c[0].ty, c[0].lanes, *zip(c, blocks, strict=True)) for c in columns]


def pieces_text(w: Writer, name: str, write: Callable[[Value], None]) -> str:
    """`void name(ptr args, i64 begin, i64 end)`: what `write(number)` writes, for each number."""
    counted(w, Value("%begin", "i64"), Value("%end", "i64"), 1, write)
    w.line("ret void")
    head = f"define internal void @{name}(ptr %args, i64 %begin, i64 %end) {DRIVER} {{"
    return "\n".join([head, "entry:", *w.lines, "}"])
