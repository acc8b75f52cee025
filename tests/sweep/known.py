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
    Known(
        "special.logsumexp",
        "answers value",
        r"f64\[0,3\]|\[2,0\]|u8\[0,3\]",
        "an empty sum has the sign 0 and the logarithm -inf; SciPy says -1, or raises IndexError",
    ),
    Known(
        "special.logsumexp",
        "shape refuses",
        r"f64\[\], (axis|keepdims)=",
        "an array of no axes has none to reduce; SciPy makes it one of one axis",
    ),
    Known(
        "special.softmax special.log_softmax",
        "refuses",
        r"AxisError.*f64\[\], axis=",
        "an array of no axes has none to reduce",
    ),
    Known(
        "special.logsumexp",
        "value",
        r"(nan|u64\[2,3\] odd), b=int64\[1, 0, -1\], return_sign=True",
        "a weight of 0 takes its element out, an infinity or NaN too; SciPy lets some through",
    ),
    Known(
        "special.expit",
        "value",
        r"-100\.0\]",
        "a subnormal result, which SciPy's float32 flushes to 0",
    ),
    Known(
        "special.betaln",
        "value",
        r"\[12,1\] odd",
        "between large numbers, where SciPy has inf for their limit or fewer digits",
    ),
    Known(
        "special.xlogy special.xlog1py",
        "dtype",
        r"np\.complex64.*f32\[3\]",
        "SciPy has no loop for complex64 with float32",
    ),
    Known(
        "concat concatenate hstack stack vstack",
        "answers",
        r"swapped bytes.*casting='no'",
        "a traced array has no byte order",
    ),
    Known("empty_like", "structure", r"swapped bytes", "results have the machine's byte order"),
    Known(
        "operator.*",
        "answers",
        r"NumPy raises (ZeroDivisionError|TypeError\(\"'[<>]=?' not supported)",
        "traced Python numbers divide by 0 and compare as arrays do",
    ),
    Known(
        "operator.*",
        "answers",
        r"f64\[2,3\] read-only",
        "a traced array is not written to: the name stands for a new one",
    ),
    Known(
        "operator.abs operator.invert operator.neg operator.pos operator.round real imag",
        "dtype refuses raw",
        r"bool\(True\)",
        "a traced bool is an array of bool, and no Python integer",
    ),
    Known(
        "operator.round",
        "answers",
        r"operator\.round\([iuf]\d+\[\]\)",
        "a number is rounded to a whole one, whether NumPy's or an array without axes",
    ),
    Known(
        "operator.complex operator.float",
        "refuses",
        "TracerArrayError",
        "a plain number would cut the derivative; the error says what to write",
    ),
    Known(
        "clip ndarray.clip",
        "zero",
        "odd",
        "of equal zeros the bound is taken, NumPy takes either",
    ),
    Known(
        "astype ndarray.astype",
        "value",
        r"(odd|nan).*'u\d'",
        "what a float beyond the range of an unsigned integer becomes depends on the machine",
    ),
    Known("ndarray.astype", "refuses", "cannot become object", "there are no traced objects"),
    Known(
        "cross",
        "refuses",
        "three components",
        "vectors of two components are deprecated in NumPy",
    ),
    Known(
        "array asanyarray asarray ascontiguousarray",
        "refuses",
        r"IntegerRangeError.*2\*\*63",
        "a traced Python integer is one of int64; the error says so",
    ),
    Known(
        "array asanyarray asarray ascontiguousarray",
        "answers",
        r"\[f2, 1e9\], dtype='u1'",
        "a traced float becomes an integer as in astype, which looks at no values",
    ),
    Known("ndarray.astype", "refuses", r"'S3'|'M8\[s\]'", "there are numbers only"),
    Known(
        "ndarray.argsort",
        "refuses",
        r"AxisError.*(u8\[\]|f64\[\]|np\.\w+\(|\w+\(\S+\))",
        "an array of no axes has none to sort along",
    ),
    Known(
        "operator.ipow",
        "value",
        r"c128\[12\] odd, int\(-1\)",
        "1 over a complex number with an infinite or subnormal part, rounded otherwise",
    ),
    Known(
        "take_along_axis",
        "raw",
        r"IndexError.*f64\[\]",
        "what is out of range only when a program runs is NumPy's IndexError",
    ),
    Known(
        "full",
        "refuses",
        "a Python complex number cannot become",
        "NumPy drops the imaginary part with a warning; the error names .real",
    ),
]

# What is to be mended: whoever mends takes the names out.
OPEN = [
    Known(
        "digitize",
        "answers",
        "^(vmap|numpy|llvm) .*bins must be monotonically",
        "open: whether bins are falling or rising is seen only where their values are known",
    ),
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
        quantile round
        """,
        "answers",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        ldexp
        """,
        "dtype",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        around ldexp nanpercentile nanquantile round
        """,
        "raw",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        allclose
        """,
        "refuses",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        add.reduce equal fmin.reduce greater_equal less_equal median minimum.accumulate
        nanpercentile percentile sign sinc sum
        """,
        "value",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        around
        """,
        "zero",
        r"",
        "open: found by the whole sweep, not yet looked into",
    ),
    Known(
        """
        bitwise_and bitwise_or gcd maximum power remainder
        """,
        "answers",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        fmin.reduce minimum.reduce multiply.reduce nanquantile
        """,
        "dtype",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        allclose isclose logaddexp.reduce logical_and.reduce logical_or.reduce
        """,
        "raw",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        around greater isclose less logical_xor nanquantile round
        """,
        "value",
        r"",
        "open: Python numbers that do not fit, dtypes",
    ),
    Known(
        """
        percentile
        """,
        "answers",
        r"",
        "open: compositions",
    ),
    Known(
        """
        amax amin max min nanmax nanmin nanprod nansum prod round sort_complex sum
        """,
        "dtype",
        r"",
        "open: compositions",
    ),
    Known(
        """
        argpartition nanmedian partition
        """,
        "raw",
        r"",
        "open: compositions",
    ),
    Known(
        """
        isclose median nanmedian
        """,
        "refuses",
        r"",
        "open: compositions",
    ),
    Known(
        """
        isclose nanmedian nanstd nanvar std var
        """,
        "value",
        r"",
        "open: compositions",
    ),
    Known(
        """
        round unique
        """,
        "zero",
        r"",
        "open: compositions",
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
        nancumsum nanprod nanstd nanvar std sum var
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
        float_power floor greater greater_equal invert isfinite ldexp less less_equal
        log2 logical_and logical_not logical_or maximum multiply negative not_equal
        positive radians reciprocal sign spacing tanh trunc
        """,
        "refuses",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        isinf mean nanmean nanstd nanvar
        """,
        "value",
        r"casting=|dtype=|order=",
        "open: options of ufuncs and reductions",
    ),
    Known(
        """
        isposinf logaddexp.reduce nanpercentile nanquantile
        """,
        "answers",
        r"",
        "open: structure, creation, choosing, products",
    ),
    Known(
        """
        logaddexp.reduce
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
        nanpercentile nanquantile
        """,
        "refuses",
        r"",
        "open: structure, creation, choosing, products",
    ),
    Known(
        """
        logaddexp.reduce logical_and logical_or
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
