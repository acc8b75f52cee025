"""The matrix products of the BLAS that NumPy has loaded, for native code to call.

`register` gives IR the symbols `fg_sgemm`, `fg_dgemm`, `fg_sgemv` and `fg_dgemv`, CBLAS's own:

    void fg_sgemm(i32 order, i32 transa, i32 transb, i64 m, i64 n, i64 k, float alpha,
                  ptr a, i64 lda, ptr b, i64 ldb, float beta, ptr c, i64 ldc)
    void fg_sgemv(i32 order, i32 trans, i64 m, i64 n, float alpha, ptr a, i64 lda,
                  ptr x, i64 incx, float beta, ptr y, i64 incy)

with order 101 (row-major), trans 111 (as it is) or 112 (transposed), and double in place of
float for the other two. Sizes are always passed as i64: where the library's integers have 32
bits it looks at the lower half of the register or of the stack's slot, which all supported
calling conventions allow but for Apple's on AArch64, where arguments on the stack are packed. No
size may exceed `Blas.limit`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from funcgrad.backends.llvm.runtime import engine
from funcgrad.records import NamedTuple

ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112

# How builds spell CBLAS's names, and whether the spelling says that integers have 64 bits:
# NumPy's wheels, OpenBLAS and MKL with 64-bit integers, Accelerate's, then the common names.
_SPELLINGS = (
    ("scipy_cblas_{}64_", True),
    ("cblas_{}64_", True),
    ("cblas_{}_64", True),
    ("cblas_{}$NEWLAPACK$ILP64", True),
    ("scipy_cblas_{}", False),
    ("cblas_{}", False),
)
_ROUTINES = ("sgemm", "dgemm", "sgemv", "dgemv")
_SCALARS = {"s": (ctypes.c_float, np.float32), "d": (ctypes.c_double, np.float64)}
# What `openblas_get_parallel` says of a library with threads of its own; 2 is OpenMP.
_OWN_THREADS = 1
_INT, _SIZE, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p


class Blas(NamedTuple):
    """A library of matrix products that has passed the probe.

    Attributes:
        addresses: where its functions lie, by the names of `_ROUTINES`.
        limit: the largest size that its integers hold.
        spelling: how it spells the names of CBLAS's functions.
        threads: reads on how many threads it runs a product, where `set_threads` is there.
        set_threads: sets it, for the whole process. Only of an OpenBLAS with threads of its
            own, where it costs nothing; one of OpenMP's would allocate memory for each.
    """

    addresses: dict[str, int]
    limit: int
    spelling: str
    threads: Callable[[], int] | None
    set_threads: Callable[[int], None] | None


def register() -> None:
    """Name the functions for IR; the library is looked for when the first program calls one."""
    for name in _ROUTINES:
        engine.register_later(f"fg_{name}", partial(_address, name))


def _address(name: str) -> int:
    found = find()
    assert found is not None
    return found.addresses[name]


@cache
def find() -> Blas | None:
    """NumPy's BLAS; None where it has none that can be called."""
    for library in _libraries():
        for spelling, wide in _SPELLINGS:
            functions = _functions(library, spelling)
            packed = sys.platform == "darwin" and platform.machine() == "arm64" and not wide
            if functions is None or packed:
                continue
            if not all(_works(name, function) for name, function in functions.items()):
                return None
            places = {n: ctypes.cast(f, ctypes.c_void_p).value or 0 for n, f in functions.items()}
            limit = 2**63 - 1 if wide else 2**31 - 1
            return Blas(places, limit, spelling, *_threading(library, spelling))
    return None


def _libraries() -> Iterator[ctypes.CDLL]:
    """NumPy's extension module, through which its dependencies are seen, then its libraries."""
    from numpy.linalg import _umath_linalg  # pyright: ignore[reportAttributeAccessIssue]

    folder = os.path.dirname(np.__file__)
    paths = [_umath_linalg.__file__]
    for libraries in (folder + ".libs", os.path.join(folder, ".dylibs")):
        if os.path.isdir(libraries):
            names = sorted(os.listdir(libraries))
            paths += [os.path.join(libraries, name) for name in names if "blas" in name]
    for path in paths:
        try:
            yield ctypes.CDLL(path)
        except OSError:
            continue


def _functions(library: ctypes.CDLL, spelling: str) -> dict[str, Any] | None:
    try:
        found = {name: getattr(library, spelling.format(name)) for name in _ROUTINES}
    except AttributeError:
        return None
    for name, function in found.items():
        scalar = _SCALARS[name[0]][0]
        function.restype = None
        if name.endswith("gemm"):
            head = [_INT, _INT, _INT, _SIZE, _SIZE, _SIZE]
        else:
            head = [_INT, _INT, _SIZE, _SIZE]
        operands = [scalar, _POINTER, _SIZE, _POINTER, _SIZE, scalar, _POINTER, _SIZE]
        function.argtypes = head + operands
    return found


def _threading(
    library: ctypes.CDLL, spelling: str
) -> tuple[Callable[[], int] | None, Callable[[int], None] | None]:
    for name in (spelling.replace("cblas_{}", "openblas_{}"), "openblas_{}"):
        try:
            kind = getattr(library, name.format("get_parallel"))
            get = getattr(library, name.format("get_num_threads"))
            put = getattr(library, name.format("set_num_threads"))
        except AttributeError:
            continue
        kind.argtypes, get.argtypes, put.argtypes = [], [], [ctypes.c_int]
        kind.restype, get.restype, put.restype = ctypes.c_int, ctypes.c_int, None
        return (get, put) if kind() == _OWN_THREADS else (None, None)
    return None, None


# -- the probe ----------------------------------------------------------------------------


def _works(name: str, function: Any) -> bool:
    """Whether products of small numbers, which are exact, come out right, flags and all."""
    check = _gemm_works if name.endswith("gemm") else _gemv_works
    dtype = _SCALARS[name[0]][1]
    flags = (PLAIN, TRANSPOSED)
    pairs = [(a, b) for a in flags for b in flags]
    return all(check(function, dtype, a, b) for a, b in pairs)


def _numbers(dtype: Any, *shape: int) -> np.ndarray:
    """Small whole numbers in which no row or column equals another."""
    count = int(np.prod(shape))
    return (np.arange(count) * 7 % 11 - 5).astype(dtype).reshape(shape)


def _turned(array: np.ndarray, flag: int) -> np.ndarray:
    return array.T if flag == TRANSPOSED else array


def _gemm_works(function: Any, dtype: Any, transa: int, transb: int) -> bool:
    m, n, k = 3, 5, 4
    a, b = _numbers(dtype, m, k), _numbers(dtype, k, n)
    left, right = (np.ascontiguousarray(_turned(x, f)) for x, f in ((a, transa), (b, transb)))
    c = _numbers(dtype, m, n + 1)
    expected = c.copy()
    expected[:, :n] = 2 * np.einsum("ik,kj->ij", a, b) - 3 * c[:, :n]
    function(
        *(ROW_MAJOR, transa, transb, m, n, k, 2.0, left.ctypes.data, left.shape[1]),
        *(right.ctypes.data, right.shape[1], -3.0, c.ctypes.data, n + 1),
    )
    return bool(np.array_equal(c, expected))


def _gemv_works(function: Any, dtype: Any, trans: int, strided: int) -> bool:
    a = _numbers(dtype, 3, 5)
    step = 2 if strided == TRANSPOSED else 1
    turned = _turned(a, trans)
    x, y = _numbers(dtype, turned.shape[1] * step), _numbers(dtype, turned.shape[0])
    expected = 2 * np.einsum("ij,j->i", turned, x[::step]) - 3 * y
    function(
        *(ROW_MAJOR, trans, 3, 5, 2.0, a.ctypes.data, 5),
        *(x.ctypes.data, step, -3.0, y.ctypes.data, 1),
    )
    return bool(np.array_equal(y, expected))
