"""Einstein summation, composed of diagonals, sums, and one `matmul` for each pair of operands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from funcgrad.core.aval import Shape
from funcgrad.core.binding import bind
from funcgrad.core.primitive import shape_of, total
from funcgrad.errors import ShapeError, at_line
from funcgrad.numpy.contraction import composition, permute, reshape
from funcgrad.numpy.convert import check_casting, check_order, check_out, promote
from funcgrad.numpy.protocol import implements
from funcgrad.primitives import structural as st
from funcgrad.primitives.contraction import matmul
from funcgrad.primitives.elementwise import cast
from funcgrad.records import NamedTuple

# An axis' label: a letter, or a negative number for an axis that the ellipsis stands for,
# counted from the last.
Label = str | int
Labels = tuple[Label, ...]
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Spec(NamedTuple):
    """What an einsum computes: labels of each operand and the result, and the order of pairs."""

    inputs: tuple[Labels, ...]
    output: Labels
    path: tuple[tuple[int, ...], ...]


@implements(np.einsum)
def einsum(
    subscripts: Any,
    /,
    *operands: Any,
    out: Any = None,
    dtype: Any = None,
    order: str = "K",
    casting: str = "safe",
    optimize: Any = "greedy",
) -> Any:
    """Products and sums in Einstein's notation; all of NumPy's forms.

    Args:
        subscripts: such as ``"ij,jk->ik"``, with ``...`` for axes that broadcast; without
            ``->`` the result has the labels that occur once, in alphabetical order. Or the
            interleaved form ``einsum(a, [0, 1], b, [1, 2], [0, 2])``.
        operands: an array for each part.
        dtype: the dtype to compute in.
        casting: which conversions to it are allowed.
        optimize: the order of products of more than two operands, as for `numpy.einsum_path`;
            False goes from left to right.

    Raises:
        ShapeError: the subscripts do not fit the operands' shapes, or each other.
        OperandTypeError: `casting` forbids a conversion.

    >>> import numpy as np, funcgrad as fg
    >>> fg.grad(lambda a: np.einsum("ij,j->", a, np.array([1.0, 2.0])))(np.ones((2, 2)))
    array([[1., 2.],
           [1., 2.]])
    """
    if not isinstance(subscripts, str):
        subscripts, operands = _from_interleaved((subscripts, *operands))
    check_out(out, "einsum")
    check_order(order, "einsum")
    arrays = promote(operands)
    if dtype is not None:
        check_casting(arrays, dtype, casting, "einsum")
        arrays = promote(arrays, np.dtype(dtype))
    strategy = optimize if isinstance(optimize, str) else "greedy" if optimize else "none"
    return _einsum(arrays, (subscripts, strategy))


@composition
def _einsum(arrays: Sequence[Any], settings: tuple[str, str]) -> Any:
    subscripts, strategy = settings
    spec = _parse(subscripts.replace(" ", ""), [shape_of(x) for x in arrays], strategy)
    return _contract(list(zip(arrays, spec.inputs, strict=True)), spec, arrays[0].dtype)


def _from_interleaved(operands: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]]:
    """`(a, [0, 1], b, [1], [0])` as subscripts and operands."""

    def text(labels: Sequence[Any]) -> str:
        return "".join("..." if i is Ellipsis else _LETTERS[i] for i in labels)

    arrays, labels = operands[0 : len(operands) - 1 : 2], operands[1::2]
    subscripts = ",".join(map(text, labels))
    if len(operands) % 2:
        subscripts += "->" + text(operands[-1])
    return subscripts, arrays


# --- reading the subscripts -----------------------------------------------------------


def _refuse(subscripts: str, shapes: Sequence[Shape], why: str) -> ShapeError:
    operands = ", ".join(map(str, shapes))
    return at_line(ShapeError, f"einsum {subscripts!r} of shapes {operands}: {why}")


def _parse(subscripts: str, shapes: Sequence[Shape], optimize: str) -> _Spec:
    left, arrow, right = subscripts.partition("->")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise _refuse(subscripts, shapes, f"{len(parts)} parts for {len(shapes)} operands")
    inputs = []
    for part, shape in zip(parts, shapes, strict=True):
        letters = part.replace("...", "", 1)
        rest = len(shape) - len(letters)
        if rest < 0 or (rest and letters == part) or not all(c in _LETTERS for c in letters):
            raise _refuse(subscripts, shapes, f"{part!r} does not label the axes of shape {shape}")
        inputs.append(_labels(part, rest))
    sizes = _sizes(subscripts, shapes, inputs)
    wide = max(sum(type(i) is int for i in labels) for labels in inputs)
    if arrow:
        output = _labels(right, wide)
    else:
        counts = Counter(c for c in left if c in _LETTERS)
        output = (*range(-wide, 0), *sorted(c for c, n in counts.items() if n == 1))
    if len(set(output)) != len(output) or not set(output) <= sizes.keys():
        why = f"the result's {right!r} must name labels of the operands, each once"
        raise _refuse(subscripts, shapes, why)
    return _Spec(tuple(inputs), output, _path(inputs, output, sizes, optimize))


def _labels(part: str, rest: int) -> Labels:
    before, dots, after = part.partition("...")
    return (*before, *(range(-rest, 0) if dots else ()), *after)


def _sizes(subscripts: str, shapes: Sequence[Shape], inputs: Sequence[Labels]) -> dict[Label, int]:
    sizes: dict[Label, int] = {}
    for labels, shape in zip(inputs, shapes, strict=True):
        own: dict[Label, int] = {}
        for label, n in zip(labels, shape, strict=True):
            if own.setdefault(label, n) != n:
                raise _refuse(subscripts, shapes, f"{label!r} is {own[label]} long and {n} long")
            have = sizes.get(label, 1)
            if have != 1 and n not in (1, have):
                name = "..." if type(label) is int else label
                raise _refuse(subscripts, shapes, f"{name!r} is {have} long and {n} long")
            sizes[label] = n if have == 1 else have
    return sizes


def _path(
    inputs: Sequence[Labels], output: Labels, sizes: dict[Label, int], optimize: str
) -> tuple[tuple[int, ...], ...]:
    """Which operands to take together, in turn; the result of each goes to the end."""
    n = len(inputs)
    if n <= 2:
        return ((0, 1),) * (n - 1)
    if optimize == "none":
        return ((0, 1), *((0, k) for k in range(n - 2, 0, -1)))
    letter = dict(zip(sizes, _LETTERS, strict=False))
    text = [
        "".join(letter[label] for label in dict.fromkeys(labels)) for labels in (*inputs, output)
    ]
    letter_sizes = {letter[label]: size for label, size in sizes.items()}
    dummies = [
        np.broadcast_to(np.float64(0), [letter_sizes[c] for c in part]) for part in text[:-1]
    ]
    steps, _ = np.einsum_path(",".join(text[:-1]) + "->" + text[-1], *dummies, optimize=optimize)
    return tuple(tuple(step) for step in steps[1:])


# --- computing ------------------------------------------------------------------------

Term = tuple[Any, Labels]


def _contract(terms: list[Term], spec: _Spec, dtype: np.dtype) -> Any:
    sizes = _sizes("", [shape_of(x) for x, _ in terms], spec.inputs)
    terms = [_squeeze_broadcast(_diagonals(term), sizes) for term in terms]
    for step in spec.path:
        chosen = [terms.pop(i) for i in sorted(step, reverse=True)][::-1]
        while len(chosen) > 1:
            pair = (chosen.pop(0), chosen.pop(0))
            others = {label for _, labels in (*terms, *chosen) for label in labels}
            chosen.insert(0, _product(*pair, spec.output, others, dtype))
        terms.append(chosen[0])
    (last,) = terms
    x, labels = _sum_out(last, set(spec.output), dtype)
    return _expand(x, labels, spec.output, sizes)


def _diagonals(term: Term) -> Term:
    """Take the diagonal where a label is repeated."""
    x, labels = term
    for label, count in Counter(labels).items():
        for _ in range(count - 1):
            i = labels.index(label)
            j = labels.index(label, i + 1)
            rest = [k for k in range(len(labels)) if k not in (i, j)]
            shape = shape_of(x)
            n = shape[i]
            x = reshape(permute(x, (*rest, i, j)), (*(shape[k] for k in rest), n * n))
            # Every (n + 1)-th element of the flattened square lies on its diagonal.
            x = st.slice_axis(x, len(rest), 0, None, n + 1)
            labels = (*(labels[k] for k in rest), label)
    return x, labels


def _squeeze_broadcast(term: Term, sizes: dict[Label, int]) -> Term:
    """Drop axes of length one that stand for longer ones: their label is another's matter."""
    x, labels = term
    shape = shape_of(x)
    keep = [i for i, label in enumerate(labels) if shape[i] == sizes[label]]
    if len(keep) == len(labels):
        return term
    return reshape(x, tuple(shape[i] for i in keep)), tuple(labels[i] for i in keep)


def _sum_out(term: Term, keep: set[Label], dtype: np.dtype) -> Term:
    x, labels = term
    axes = tuple(i for i, label in enumerate(labels) if label not in keep)
    if not axes:
        return term
    # A sum widens small integers; einsum does not.
    x = cast(total(x, axes), dtype)
    return x, tuple(label for label in labels if label in keep)


def _expand(x: Any, labels: Labels, order: Labels, sizes: dict[Label, int]) -> Any:
    """Axes in this order; those that `x` lacks are repeated."""
    x = permute(x, [labels.index(label) for label in order if label in labels])
    if len(labels) == len(order):
        return x
    x = reshape(x, tuple(sizes[label] if label in labels else 1 for label in order))
    return bind(st.broadcast_to, x, shape=tuple(sizes[label] for label in order))


def _product(a: Term, b: Term, output: Labels, others: set[Label], dtype: np.dtype) -> Term:
    """The product of two operands, summed over what neither the result nor others need."""
    kept = {*output, *others}
    a, b = _sum_out(a, kept | set(b[1]), dtype), _sum_out(b, kept | set(a[1]), dtype)
    (x, la), (y, lb) = a, b
    summed = [label for label in la if label in lb and label not in kept]
    if not summed:
        return _outer(a, b, output)
    batch = [label for label in la if label in lb and label in kept]
    # The order of the batch is free: the result's own saves a transposition.
    batch.sort(key=lambda label: output.index(label) if label in output else len(output))
    rows = [label for label in la if label not in lb]
    columns = [label for label in lb if label not in la]
    sizes = {**dict(zip(la, shape_of(x), strict=True)), **dict(zip(lb, shape_of(y), strict=True))}

    def arrange(x: Any, labels: Labels, groups: Sequence[Sequence[Label]]) -> Any:
        x = permute(x, [labels.index(label) for group in groups for label in group])
        lead = [sizes[label] for label in batch]
        return reshape(x, (*lead, *(prod(sizes[label] for label in g) for g in groups[1:])))

    # With a batch, a vector must become a matrix: matmul would take its batch for rows.
    left = [batch, rows, summed] if rows or batch else [batch, summed]
    right = [batch, summed, columns] if columns or batch else [batch, summed]
    z = bind(matmul, arrange(x, la, left), arrange(y, lb, right))
    labels = (*batch, *rows, *columns)
    return reshape(z, tuple(sizes[label] for label in labels)), labels


def _outer(a: Term, b: Term, output: Labels) -> Term:
    """The product with nothing to sum, laid out like the result as far as it goes."""
    names = dict.fromkeys((*a[1], *b[1]))
    order = [label for label in output if label in names]
    order += [label for label in names if label not in order]

    def align(term: Term) -> Any:
        x, labels = term
        shape = dict(zip(labels, shape_of(x), strict=True))
        x = permute(x, [labels.index(label) for label in order if label in shape])
        return reshape(x, tuple(shape.get(label, 1) for label in order))

    return np.multiply(align(a), align(b)), tuple(order)
