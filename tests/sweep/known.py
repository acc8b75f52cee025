"""Where the library differs from NumPy: every line with its reason."""

from __future__ import annotations

import re
from typing import NamedTuple

from sweep.cases import Case


class Known(NamedTuple):
    """A difference that is there on purpose, or not mended yet.

    Attributes:
        names: of functions, separated by spaces; `*` stands for any characters.
        kinds: of differences, as in `compare.difference`.
        where: a regular expression, found in `mode kind: what | call`.
        reason: why. What is to be mended begins with "open".
    """

    names: str
    kinds: str
    where: str
    reason: str


# On purpose, or beyond what is there.
KNOWN = [
    Known(
        "put place putmask copyto put_along_axis fill_diagonal ndarray.put ndarray.fill "
        "ndarray.sort ndarray.partition",
        "refuses",
        "InPlaceError",
        "traced arrays are not written to; the error names fg.at",
    ),
    Known(
        "pad",
        "refuses",
        "mode=|reflect_type|stat_length",
        "modes that compute new values are not there; the error lists those that are",
    ),
    Known(
        "linalg.norm linalg.matrix_norm",
        "refuses",
        "singular values",
        "norms by singular values need a decomposition",
    ),
    Known(
        "at.*",
        "refuses",
        "would lose part of them",
        "updates keep the dtype of x and refuse values of another kind, where NumPy would truncate "
        "or raise depending on the function",
    ),
    Known(
        "getitem at.*",
        "refuses",
        "a mask of one element",
        "x[True] adds an axis that may be empty; the error names x[None]",
    ),
    Known(
        "choose",
        "raw",
        "vmap|numpy|llvm",
        "what is out of range only when a program runs is NumPy's IndexError",
    ),
    Known(
        "*",
        "refuses",
        r"with order='F' is not available|order='[AK]' for more than one axis is not",
        "a traced array has no layout in memory; the error says so",
    ),
    Known(
        "logical_and.reduce logical_or.reduce",
        "refuses",
        r"initial=",
        "np.all and np.any have no initial=; the error lists their options",
    ),
    Known(
        "getitem",
        "refuses",
        "TracerArrayError",
        "what a plain array does with an unknown index is NumPy's affair; the error names np.take "
        "and fg.at",
    ),
    Known(
        "getitem at.*",
        "refuses raw",
        r"'empty mask'|1\.0, None",
        "a mask fits the axes that it indexes, also without elements; bounds are integers first",
    ),
    Known(
        "take",
        "refuses raw",
        r"'1\.0'|f64 \[1\.0\]",
        "a float is no index, as in x[1.0]; NumPy takes Python's here",
    ),
    Known(
        "insert",
        "raw",
        "OverflowError",
        "that the value does not fit is found before that the index does not",
    ),
    Known("einsum", "dtype", "dtype=", "where it returns a view, NumPy forgets dtype="),
    Known("einsum", "zero", "", "a product of zeros keeps its sign; NumPy adds it to a zero"),
    Known(
        "special.gammaln special.erfinv special.entr special.xlogy special.xlog1py",
        "zero value",
        "",
        "-0.0 stays what it is, and gammaln(-inf) is inf as at the poles before it",
    ),
    Known(
        "special.polygamma special.multigammaln",
        "dtype value raw answers refuses",
        "",
        "float32 stays float32; NaN where the sides of a pole differ; no error for single elements",
    ),
    Known(
        "special.*",
        "refuses",
        "is defined for real numbers only",
        "no formulas for complex numbers yet; the error says so",
    ),
    Known(
        "at.*",
        "refuses",
        "IntegerRangeError",
        "Python integers that the dtype cannot hold are refused where np.add.at wraps them",
    ),
    Known("reshape", "refuses", r"'-2'", "-1 alone stands for a length that is not known"),
    Known(
        "max min amax amin nanmax nanmin maximum minimum fmax fmin maximum.reduce "
        "minimum.reduce fmax.reduce fmin.reduce minimum.accumulate clip ndarray.clip sort median "
        "nanmedian percentile quantile nanpercentile nanquantile",
        "zero",
        "",
        "-0.0 and 0.0 are equal: which of them comes out differs by NumPy's own length of rows",
    ),
    Known(
        "argpartition",
        "answers",
        r"np\.\w+\(|argpartition\((float|int|bool|complex|\w+\[\])",
        "it answers as NumPy does; take_along_axis, which shows it, takes a number for one element",
    ),
    Known(
        "average",
        "answers",
        r"\[0,3\], axis=-1",
        "an average without elements is empty, where NumPy divides 0 by 0 to count its weights",
    ),
    Known(
        "digitize",
        "answers",
        r"(vmap|numpy|llvm) .*bins must be monotonically",
        "the order of traced edges is known only when the program runs",
    ),
    Known(
        "logaddexp.reduce",
        "refuses",
        r"np\.logsumexp with the options given",
        "initial= and where= are not there; the error lists the options that are",
    ),
]

# What is to be mended: whoever mends takes the names out.
OPEN = [
    Known(
        "operator.abs operator.pos",
        "dtype refuses",
        r"bool\(True\)",
        "open: Python's True is an integer to its operators; traced it is a boolean",
    ),
    Known(
        "special.logsumexp",
        "value",
        r"u64.* b=.*-1.*return_sign",
        "open: the sign of sums of exponentials beyond float64",
    ),
    Known(
        """
        add bitwise_xor divmod floor_divide isneginf left_shift minimum multiply
        ndarray.round operator.and_ operator.ilshift operator.irshift operator.le
        operator.lshift operator.mod operator.pos operator.round operator.truediv
        quantile round stack
        """,
        "answers",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        ldexp ndarray.conj ndarray.round select special.rel_entr
        """,
        "dtype",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        around digitize ldexp nanpercentile nanquantile operator.round round
        special.logsumexp
        """,
        "raw",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        allclose ndarray.astype operator.float special.log_softmax special.softmax
        """,
        "refuses",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        empty_like
        """,
        "structure",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        add.reduce astype clip equal fmin.reduce greater_equal less_equal median
        minimum.accumulate nanpercentile ndarray.flatten ndarray.ravel ndarray.reshape
        operator.ipow operator.lt percentile sign sinc special.expit sum
        """,
        "value",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        around ndarray.round
        """,
        "zero",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        "array asarray asanyarray ascontiguousarray at.max at.min at.set at.power full",
        "answers dtype value raw",
        r"\[2\*\*63, 1\]|300|-1|'1j'|\[1j, f4\]",
        "open: traced Python integers beyond int64 or a narrow dtype",
    ),
    Known("insert", "refuses", "ShapeError", "open: values of more axes than the array has"),
    Known(
        """
        bitwise_and bitwise_or ediff1d full gcd maximum power remainder
        """,
        "answers",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        angle fmin.reduce minimum.reduce multiply.reduce nanquantile
        """,
        "dtype",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        allclose clip isclose logaddexp.reduce logical_and.reduce logical_or.reduce
        """,
        "raw",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        around greater interp isclose less logical_xor nanquantile round
        """,
        "value",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        array percentile
        """,
        "answers",
        r"",
        "open: compositions",
    ),
    Known(
        """
        amax amin array interp max min nanmax nanmin nanprod nansum prod round
        sort_complex sum
        """,
        "dtype",
        r"",
        "open: compositions",
    ),
    Known(
        """
        argpartition interp nanmedian partition
        """,
        "raw",
        r"",
        "open: compositions",
    ),
    Known(
        """
        interp isclose median nanmedian
        """,
        "refuses",
        r"",
        "open: compositions",
    ),
    Known(
        """
        digitize interp isclose nanmedian nanstd nanvar std var
        """,
        "value",
        r"",
        "open: compositions",
    ),
    Known(
        """
        nan_to_num round unique
        """,
        "zero",
        r"",
        "open: compositions",
    ),
    Known(
        """
        operator.divmod operator.iadd operator.iand operator.ifloordiv operator.imod
        operator.imul operator.ior operator.ipow operator.isub operator.itruediv
        operator.sub
        """,
        "answers",
        r"",
        "open: operators and methods",
    ),
    Known(
        """
        operator.iadd operator.invert
        """,
        "dtype",
        r"",
        "open: operators and methods",
    ),
    Known(
        """
        ndarray.astype ndarray.round
        """,
        "value",
        r"",
        "open: operators and methods",
    ),
    Known(
        """
        absolute add arccos arctan2 arctanh bitwise_count bitwise_or conjugate degrees
        divmod equal expm1 float_power floor fmin fmod frexp gcd greater greater_equal
        heaviside hypot isfinite isnan lcm left_shift less log logaddexp
        logaddexp.reduce logaddexp2 logical_and logical_and.reduce logical_not
        logical_or logical_or.reduce logical_xor maximum minimum modf multiply nextafter
        not_equal rad2deg radians reciprocal remainder right_shift rint signbit sinh
        spacing sqrt subtract tanh trunc
        """,
        "answers",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        add.accumulate add.reduce cumsum cumulative_sum multiply.reduce nancumprod
        nancumsum nanprod nanstd nanvar ndarray.cumsum std sum var
        """,
        "dtype",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        add divide divmod fmax fmin fmod hypot left_shift less logaddexp logaddexp2
        logical_xor multiply nextafter power remainder right_shift subtract
        """,
        "raw",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        absolute add arcsinh bitwise_xor cbrt ceil conjugate degrees exp2 fabs
        float_power floor greater greater_equal insert invert isfinite ldexp less
        less_equal log2 logical_and logical_not logical_or maximum multiply negative
        not_equal positive radians reciprocal sign spacing tanh trunc
        """,
        "refuses",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        isinf mean nanmean nanstd nanvar ravel reshape
        """,
        "value",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        special.betaln special.entr special.erfinv special.expit special.gammaln
        special.logit special.logsumexp special.polygamma special.rel_entr
        """,
        "answers",
        r"",
        "open: special functions",
    ),
    Known(
        """
        special.digamma special.logsumexp special.ndtr special.polygamma special.psi
        """,
        "dtype",
        r"",
        "open: special functions",
    ),
    Known(
        """
        special.polygamma
        """,
        "raw",
        r"",
        "open: special functions",
    ),
    Known(
        """
        special.digamma special.logsumexp special.ndtr special.psi
        """,
        "refuses",
        r"",
        "open: special functions",
    ),
    Known(
        """
        special.logsumexp
        """,
        "shape",
        r"",
        "open: special functions",
    ),
    Known(
        """
        special.betaln special.log_ndtr special.ndtri special.polygamma
        """,
        "value",
        r"",
        "open: special functions",
    ),
    Known(
        """
        special.entr
        """,
        "zero",
        r"",
        "open: special functions",
    ),
    Known(
        """
        asanyarray asarray ascontiguousarray clip isposinf logaddexp.reduce
        nanpercentile nanquantile select
        """,
        "answers",
        r"",
        "open: structure, creation, choosing, products",
    ),
    Known(
        """
        ascontiguousarray logaddexp.reduce
        """,
        "dtype",
        r"",
        "open: structure, creation, choosing, products",
    ),
    Known(
        """
        logaddexp.accumulate logaddexp.reduce logical_or
        """,
        "raw",
        r"",
        "open: structure, creation, choosing, products",
    ),
    Known(
        """
        nanpercentile nanquantile vecdot
        """,
        "refuses",
        r"",
        "open: structure, creation, choosing, products",
    ),
    Known(
        """
        asanyarray asarray logaddexp.reduce logical_and logical_or
        """,
        "value",
        r"",
        "open: structure, creation, choosing, products",
    ),
]


def _compiled(line: Known) -> tuple[re.Pattern[str], set[str], re.Pattern[str]]:
    names = "|".join(re.escape(n).replace(r"\*", ".*") for n in line.names.split())
    return re.compile(names), set(line.kinds.split()), re.compile(line.where)


_LINES = [(line, *_compiled(line)) for line in [*KNOWN, *OPEN]]


def explain(case: Case, mode: str, difference: str) -> Known | None:
    """The line that explains a difference."""
    kind = difference.partition(":")[0]
    text = f"{mode} {difference} | {case.text}"
    for line, names, kinds, where in _LINES:
        if kind in kinds and names.fullmatch(case.name) and where.search(text):
            return line
    return None
