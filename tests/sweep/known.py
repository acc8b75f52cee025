"""Where the library differs from NumPy: every line with its reason."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from sweep.cases import Case


class Known(NamedTuple):
    """A difference that is there on purpose.

    Attributes:
        names: of functions, separated by spaces; `*` stands for any characters.
        kinds: of differences, as in `compare.difference`.
        where: a regular expression, found in `mode kind: what | call`.
        reason: why.
    """

    names: str
    kinds: str
    where: str
    reason: str


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
        "choose ndarray.choose",
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
    Known("einsum", "dtype", "dtype=", "where it returns a view, NumPy forgets dtype="),
    Known("einsum", "zero", "", "a product of zeros keeps its sign; NumPy adds it to a zero"),
    Known(
        "special.gammaln",
        "value",
        r"f\d+\[(3,4|8)\] odd",
        "gammaln(-inf) is inf as at the poles before it",
    ),
    Known(
        "special.erfinv special.xlogy special.xlog1py",
        "zero",
        r"odd|float\(-0\.0\)",
        "-0.0 stays what it is",
    ),
    Known("special.entr", "zero", r"NumPy has .*-0\.", "the entropy of 1 is 0.0, SciPy's -0.0"),
    Known("special.polygamma", "dtype", r"\bf32\b", "float32 stays float32"),
    Known(
        "special.polygamma",
        "value",
        r"polygamma\('2'",
        "NaN where the sides of a pole differ, at 0 the limit from its side; SciPy has -inf",
    ),
    Known("special.polygamma", "refuses", r"'(-1|101)'", "orders are from 0 to 100"),
    Known(
        "special.polygamma special.multigammaln",
        "raw",
        r"TypeError.*'1\.5'",
        "a float is no whole number, says Python",
    ),
    Known("special.multigammaln", "refuses", r"'(0|-1)'", "dimensions are from 1"),
    Known(
        "special.multigammaln",
        "answers",
        "condition a",
        "inf or the formula's value where it is not defined; values may not be known",
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
        "max min amax amin nanmax nanmin fmax.reduce fmin.reduce",
        "zero",
        r"f(16|32|64)\[2,3\] odd, (axis=\(?-1|where=.*initial=0, axis=0)",
        "-0.0 and 0.0 are equal: which of them comes out differs by NumPy's own length of rows",
    ),
    Known(
        "sort",
        "zero",
        r"f(32|64)\[2,3\] odd, axis=None, kind='stable'",
        "-0.0 and 0.0 are equal: the order is that of NumPy's sort for values, which is unstable",
    ),
    Known(
        "quantile percentile nanquantile nanpercentile",
        "zero",
        r"float\(-0\.0\)|f64\[2,3\] odd, '(0\.5|50\.0)'",
        "-0.0 and 0.0 are equal: what is between them follows from how NumPy partitions, and how "
        "many steps of 0 it adds",
    ),
    Known(
        "argpartition",
        "answers",
        r"np\.\w+[(,]|argpartition\((float|int|bool|complex|\w+\[\])",
        "it answers as NumPy does; take_along_axis, which shows it, takes a number for one element",
    ),
    Known(
        "partition argpartition",
        "zero",
        r"f16\[3,4\] odd, '1'",
        "-0.0 and 0.0 are equal: which of them NumPy has in a place follows from its swaps",
    ),
    Known(
        "interp",
        "value",
        r"^vmap .*f64 \[1\.0, 2\.0, 2\.0, 3\.0\]",
        "the second xp is 3, 1, 2, 2, which does not rise: results are meaningless, says NumPy",
    ),
    Known(
        "median",
        "answers",
        r"f64\[0,3\], axis=\(\)",
        "medians of no axes are x, also without elements, which NumPy fails to reshape",
    ),
    Known(
        "nanmean nanvar nanstd",
        "refuses",
        r"AxisError.*f64\[\], axis=(0|-1)",
        "an array of no axes has none to average along, as in np.mean",
    ),
    Known(
        "repeat",
        "refuses",
        r"f64\[0,3\], '-1'",
        "nothing is repeated a negative number of times, also where there is nothing",
    ),
    Known(
        "quantile percentile nanquantile nanpercentile",
        "refuses",
        r"with weights= or interpolation= is not available",
        "not there; the error says so",
    ),
    Known(
        "maximum minimum fmax fmin",
        "zero",
        r"^llvm .*(odd|float\(-0\.0\))",
        "-0.0 and 0.0 are equal: machine code takes the first, NumPy's vector loops the second",
    ),
    Known(
        "sinc",
        "value",
        r"^llvm .*sinc\(([iu]\d|f32\[2,3\] nan|f64)",
        "of whole numbers it is 0; NumPy's is the sine of a product with a rounded pi",
    ),
    Known(
        "sum median",
        "zero",
        r"^llvm .*odd, axis=(\(\)|\(0, 1\))",
        "a sum of -0.0 alone is -0.0 in machine code, where NumPy adds it to 0.0",
    ),
    Known(
        "maximum.accumulate",
        "zero",
        "^llvm .*odd",
        "-0.0 and 0.0 are equal: of these NumPy's running maximum has the later one",
    ),
    Known(
        "multiply.reduce",
        "value",
        r"c128\[2,3\] odd, where=.*initial=1",
        "what infinite complex numbers multiply to depends on the order; 1 times one is NaN",
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
        r"(f\d\d)\[12,1\] odd, \1|f64\[6,1\] nan, f64",
        "at -inf beside positive whole numbers and between infinities ours is the limit, -inf; "
        "SciPy has inf and NaN",
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
        r"(f(32|64)\[\S+\] odd, '0'|c(64|128)\[\S+\] odd, '-?[01]'), '|^llvm .*odd, min=0",
        "-0.0 and 0.0 are equal: np.maximum and np.minimum, of which it consists, have another "
        "one than np.clip",
    ),
    Known(
        "around round",
        "value",
        r"u32\[12\] odd, decimals=-",
        "what a float beyond uint32 becomes differs by NumPy's own length of rows",
    ),
    Known(
        "nanmedian",
        "value",
        r"c128\[\d,\d\] (odd|nan)",
        "an infinite number is the median of itself; NumPy divides it by 1, which gives NaN",
    ),
    Known(
        "nanmedian",
        "value zero",
        r"odd, axis=(-1|\(\))|float\(-0\.0\)|c128\[(2,3|3,4)\], axis=(0|\(\))",
        "a number is the median of itself; NumPy averages it, alone or twice, by which -0.0 "
        "becomes 0.0 and the largest overflow",
    ),
    Known(
        "nanvar nanstd",
        "value",
        r"f(16|32)\[2,3\], dtype=",
        "the deviations are of the dtype asked for; NumPy rounds them to the array's",
    ),
    Known(
        "unique",
        "zero",
        "odd",
        "-0.0 and 0.0 are equal: the first is taken, NumPy's follows from its sort",
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
        "operator.ipow",
        "value",
        r"c128\[12\] odd, int\(-1\)",
        "an exponent that is traced makes np.power, which is NaN at infinities; of the number -1 "
        "NumPy's operator makes 1 / x",
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

# What older versions of NumPy do otherwise; ours does as the newest.
OLDER = [
    Known(
        "clip ndarray.clip",
        "answers",
        "NumPy raises (OverflowError|TypeError)",
        "since 2.1 bounds beyond the dtype bind nothing, and each may be left out",
    ),
    Known("nonzero ndarray.nonzero", "refuses", "needs axes", "since 2.1 NumPy refuses them too"),
    Known("insert", "raw", "shape mismatch", "since 2.2 a mask tells where, as in indexing"),
    Known("remainder", "refuses", "casting rule", "since 2.4 NumPy refuses the float too"),
    Known("roll", "answers", "NumPy raises", "shifts were not turned into integers"),
    Known("take", "answers", "u64", "unsigned indices were refused"),
    Known("take_along_axis", "answers", "argument: 'axis'", "since 2.3 the axis may be left out"),
]


def _compiled(line: Known) -> tuple[re.Pattern[str], set[str], re.Pattern[str]]:
    names = "|".join(re.escape(n).replace(r"\*", ".*") for n in line.names.split())
    return re.compile(names), set(line.kinds.split()), re.compile(line.where)


_OLD = np.lib.NumpyVersion(np.__version__) < "2.4.0"
_LINES = [(line, *_compiled(line)) for line in (*KNOWN, *(OLDER if _OLD else ()))]


def explain(case: Case, mode: str, difference: str) -> Known | None:
    """The line that explains a difference."""
    kind = difference.partition(":")[0]
    text = f"{mode} {difference} | {case.text}"
    for line, names, kinds, where in _LINES:
        if kind in kinds and names.fullmatch(case.name) and where.search(text):
            return line
    return None
