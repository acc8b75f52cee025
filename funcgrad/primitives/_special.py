"""Kernels of the special functions that NumPy lacks: erf, erfc, erfinv, fma.

The source of these kernels is copied into exported programs: they use NumPy alone.
"""

from __future__ import annotations

import numpy as np

# Rational approximations p(t)/q(t), lowest order first, of Sun Microsystems' fdlibm (s_erf.c,
# 1993). In turn: (erf(x)/x - 1) in t = x^2; erf(x) - _ERX in t = |x| - 1; and, twice,
# log(x exp(x^2) erfc(x)) + 0.5625 in t = 1/x^2.
_SMALL = (
    (0.12837916709551256, -0.3250421072470015, -0.02848174957559851, -0.005770270296489442,
     -2.3763016656650163e-05),
    (1.0, 0.39791722395915535, 0.0650222499887673, 0.005081306281875766, 0.00013249473800432164,
     -3.960228278775368e-06),
)  # fmt: skip
_MIDDLE = (
    (-0.0023621185607526594, 0.41485611868374833, -0.3722078760357013, 0.31834661990116175,
     -0.11089469428239668, 0.035478304325618236, -0.002166375594868791),
    (1.0, 0.10642088040084423, 0.540397917702171, 0.07182865441419627, 0.12617121980876164,
     0.01363708391202905, 0.011984499846799107),
)  # fmt: skip
_TAIL = (
    (-0.009864944034847148, -0.6938585727071818, -10.558626225323291, -62.375332450326006,
     -162.39666946257347, -184.60509290671104, -81.2874355063066, -9.814329344169145),
    (1.0, 19.651271667439257, 137.65775414351904, 434.56587747522923, 645.3872717332679,
     429.00814002756783, 108.63500554177944, 6.570249770319282, -0.0604244152148581),
)  # fmt: skip
_FAR_TAIL = (
    (-0.0098649429247001, -0.799283237680523, -17.757954917754752, -160.63638485582192,
     -637.5664433683896, -1025.0951316110772, -483.5191916086514),
    (1.0, 30.33806074348246, 325.7925129965739, 1536.729586084437, 3199.8582195085955,
     2553.0504064331644, 474.52854120695537, -22.44095244658582),
)  # fmt: skip
_ERX = 0.8450629115104675
_HALF_ROOT_PI = 0.8862269254527580

# Polynomials in w = -log(1 - x^2), highest order first, of M. Giles, "Approximating the erfinv
# function", GPU Computing Gems 2 (2011), for float32 (w < 5, then beyond) and for float64
# (w < 6.25, w < 16, beyond). Beyond the first they are in sqrt(w). Each starts with its centre.
_ERFINV32 = (
    (2.5, 2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
     -0.00125372503, -0.00417768164, 0.246640727, 1.50140941),
    (3.0, -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773,
     -0.0076224613, 0.00943887047, 1.00167406, 2.83297682),
)  # fmt: skip
_ERFINV64 = (
    (3.125, -3.64441206401782e-21, -1.6850591381820166e-19, 1.28584807152564e-18,
     1.1157877678025181e-17, -1.3331716628546209e-16, 2.0972767875968562e-17,
     6.637638134358324e-15, -4.054566272975207e-14, -8.151934197605472e-14,
     2.6335093153082323e-12, -1.2975133253453532e-11, -5.415412054294628e-11,
     1.0512122733215323e-09, -4.112633980346984e-09, -2.9070369957882005e-08,
     4.2347877827932404e-07, -1.3654692000834679e-06, -1.3882523362786469e-05,
     0.00018673420803405714, -0.000740702534166267, -0.006033670871430149,
     0.24015818242558962, 1.6536545626831027),
    (3.25, 2.2137376921775787e-09, 9.075656193888539e-08, -2.7517406297064545e-07,
     1.8239629214389228e-08, 1.5027403968909828e-06, -4.013867526981546e-06,
     2.9234449089955446e-06, 1.2475304481671779e-05, -4.7318229009055734e-05,
     6.828485145957318e-05, 2.4031110387097894e-05, -0.0003550375203628475,
     0.0009532893797373805, -0.0016882755560235047, 0.002491442096107851,
     -0.003751208507569241, 0.005370914553590064, 1.0052589676941592, 3.0838856104922208),
    (5.0, -2.7109920616438573e-11, -2.5556418169965252e-10, 1.5076572693500548e-09,
     -3.789465440126737e-09, 7.61570120807834e-09, -1.496002662714924e-08,
     2.914795345090108e-08, -6.771199775845234e-08, 2.2900482228026655e-07,
     -9.9298272942317e-07, 4.526062597223154e-06, -1.968177810553167e-05,
     7.599527703001776e-05, -0.00021503011930044477, -0.00013871931833623122,
     1.0103004648645344, 4.849906401408584),
)  # fmt: skip


# log(1 + x) = x - x^2/2 + x^3 p(x)/q(x), highest order first, of S. Moshier's Cephes (log1p).
_LOG1P = (
    (4.5270000862445199e-05, 0.49854102823193375, 6.5787325942061045, 29.911919328553073,
     60.949667980987788, 57.112963590585539, 20.039553499201281),
    (1.0, 15.062909083469192, 83.047565967967219, 221.76239823732857, 309.09872225312058,
     216.42788614495947, 60.118660497603844),
)  # fmt: skip

# Elements handled together: the temporaries stay in a core's second-level cache.
_PIECE = 1 << 13


def erf(x: np.ndarray) -> np.ndarray:
    """The error function; computed in float64, rounded to the dtype of `x`."""
    wide, dtype = _widen(x)
    size = np.abs(wide)
    out = size + 0.0
    for where, piece in (
        (size < 0.84375, lambda a: a + _small(a)),
        ((size >= 0.84375) & (size < 1.25), lambda a: _ERX + _middle(a)),
        (size >= 1.25, lambda a: 1.0 - _tail(a)),
    ):
        out[where] = piece(size[where])
    return np.copysign(out, wide).astype(dtype).reshape(np.shape(x))


def erfc(x: np.ndarray) -> np.ndarray:
    """1 - erf(x) without cancellation; computed in float64, rounded to the dtype of `x`."""
    wide, dtype = _widen(x)
    out = wide + 0.0
    for where, piece in (
        ((wide > -0.84375) & (wide < 0.25), lambda a: 1.0 - (a + _small(a))),
        ((wide >= 0.25) & (wide < 0.84375), lambda a: 0.5 - (_small(a) + (a - 0.5))),
        ((wide >= 0.84375) & (wide < 1.25), lambda a: (1.0 - _ERX) - _middle(a)),
        ((wide <= -0.84375) & (wide > -1.25), lambda a: 1.0 + (_ERX + _middle(-a))),
        (wide >= 1.25, lambda a: _tail(a)),
        (wide <= -1.25, lambda a: 2.0 - _tail(-a)),
    ):
        out[where] = piece(wide[where])
    return out.astype(dtype).reshape(np.shape(x))


def erfinv(x: np.ndarray) -> np.ndarray:
    """The inverse of erf; computed in float64, rounded to the dtype of `x`."""
    wide, dtype = _widen(x)
    wide = wide.reshape(-1)
    out = np.empty_like(wide)
    with np.errstate(divide="ignore", invalid="ignore"):
        for some in _pieces(wide.size):
            out[some] = _erfinv_accurate(wide[some])
    return _infinite_at_ends(out, wide).astype(dtype).reshape(np.shape(x))


def erfinv_of_draws(x: np.ndarray) -> np.ndarray:
    """The inverse of erf as generators of normal numbers compute it.

    x^2 is rounded before log(1 - x^2) is taken, and all arithmetic is in the dtype of `x`. That
    loses digits where |x| is near 1: the price of the same numbers as other libraries give.
    """
    x = x if hasattr(x, "dtype") else np.asarray(x)
    wide = (x if x.dtype == np.float32 else x.astype(np.float64)).reshape(-1)
    out = np.empty_like(wide)
    with np.errstate(divide="ignore", invalid="ignore"):
        for some in _pieces(wide.size):
            draws = wide[some]
            if x.dtype == np.float32:
                out[some] = _erfinv_single(draws)
            else:
                out[some] = _erfinv_double(draws, _log_of_draws(draws * draws))
    return _infinite_at_ends(out, wide).astype(x.dtype).reshape(x.shape)


def fma(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """x * y + z rounded once, as a processor's fused multiply-add gives it.

    For float32 the product is exact in float64. For float64 both the product and the sum are
    kept as pairs of numbers (Dekker's and Knuth's error-free transformations), which holds
    while nothing overflows or underflows; float16 is rounded twice.
    """
    dtype = np.result_type(x, y, z)
    x, y, z = (a.astype(dtype) if hasattr(a, "dtype") else dtype.type(a) for a in (x, y, z))
    if dtype == np.float32:
        return _fma_single(x, y, z)
    if dtype != np.float64:
        return x * y + z
    product, low = _two_product(x, y)
    total, error = _two_sum(product, z)
    return total + (error + low)


def _fma_single(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    x, y, z = (a.astype(np.float64) for a in (x, y, z))
    product = x * y
    sums = product + z
    total = sums.reshape(-1)
    # Rounding twice errs only where the first rounding lands midway between two float32.
    midway = np.flatnonzero(total.view(np.int64) & 0x1FFFFFFF == 0x10000000)
    if midway.size:
        # Not broadcast_to: a number would be spread on the host, beside a device's indices.
        parts = ((a + np.zeros_like(sums)).reshape(-1)[midway] for a in (product, z))
        _, error = _two_sum(*parts)
        nudge = np.where(error == 0, 0.0, np.copysign(np.inf, error))
        kept = total[midway]
        total[midway] = np.where(nudge == 0, kept, np.nextafter(kept, nudge))
    return total.astype(np.float32).reshape(sums.shape)


def _two_sum(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x + y, and the error of that sum."""
    total = x + y
    shift = total - x
    return total, (x - (total - shift)) + (y - shift)


def _two_product(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x * y, and the error of that product."""
    (x_high, x_low), (y_high, y_low) = _halves(x), _halves(y)
    product = x * y
    error = x_high * y_high - product
    return product, error + x_high * y_low + x_low * y_high + x_low * y_low


def _halves(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x = high + low, of 26 bits each."""
    scaled = 134217729.0 * x  # 2^27 + 1
    high = scaled - (scaled - x)
    return high, x - high


def _widen(x: np.ndarray) -> tuple[np.ndarray, np.dtype]:
    """`x` as float64 with an axis at least, and the dtype of the result."""
    x = x if hasattr(x, "dtype") else np.asarray(x)
    dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
    return np.atleast_1d(x).astype(np.float64), dtype


def _small(a: np.ndarray) -> np.ndarray:
    """erf(a) - a for |a| < 0.84375."""
    return a * _rational(_SMALL, a * a)


def _middle(a: np.ndarray) -> np.ndarray:
    """erf(a) - _ERX for a near 1."""
    return _rational(_MIDDLE, a - 1.0)


def _tail(a: np.ndarray) -> np.ndarray:
    """erfc(a) for a >= 1.25."""
    a = np.minimum(a, 30.0)  # where it is 0 already
    t = 1.0 / (a * a)
    ratio = np.where(a < 1 / 0.35, _rational(_TAIL, t), _rational(_FAR_TAIL, t))
    # exp(-a^2) needs a^2 to more bits than a float64 has: `head` squares exactly.
    head = a.astype(np.float32).astype(np.float64)
    return np.exp(-head * head - 0.5625) * np.exp((head - a) * (head + a) + ratio) / a


def _pieces(size: int) -> list[slice]:
    return [slice(i, i + _PIECE) for i in range(0, size, _PIECE)]


def _infinite_at_ends(out: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`out`, the inverse of erf at `x`, with what the formulas do not give at -1 and 1."""
    ends = np.abs(x) == 1
    out[ends] = x[ends] * np.inf
    return out


def _erfinv_accurate(x: np.ndarray) -> np.ndarray:
    out = _erfinv_double(x, -np.log((1.0 - x) * (1.0 + x)))
    # A step of Newton's method, on 1 - erf where that is the smaller, halves the error.
    size, target = np.abs(out), np.abs(x)
    excess = np.where(target < 0.5, erf(size) - target, (1.0 - target) - erfc(size))
    return np.copysign(size - excess * _HALF_ROOT_PI * np.exp(size * size), x)


def _erfinv_single(x: np.ndarray) -> np.ndarray:
    near, far = _ERFINV32
    w = -np.log(1 - x * x)
    out = _horner(near[1:], w - np.float32(near[0]))
    beyond = np.flatnonzero(w >= 5)
    out[beyond] = _horner(far[1:], np.sqrt(w[beyond]) - np.float32(far[0]))
    return out * x


def _erfinv_double(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    near, far, farther = _ERFINV64
    out = _horner(near[1:], w - near[0])
    for reach, (centre, *coefficients) in ((6.25, far), (16.0, farther)):
        beyond = np.flatnonzero(w >= reach)
        out[beyond] = _horner(coefficients, np.sqrt(w[beyond]) - centre)
    return out * x


def _log_of_draws(square: np.ndarray) -> np.ndarray:
    """-log(1 - square), with the errors of Cephes's formula used beyond where it is good.

    It is meant for 1 - square above sqrt(1/2); XLA uses it down to 2 - sqrt(2) and is 130 ulp
    off there, which `normal` would show in its last digits.
    """
    out = -np.log(1.0 - square)
    middle = np.flatnonzero((square > 0.25) & (square < 0.41421356237309503))
    t = -square[middle]
    out[middle] = -(t - 0.5 * t * t + t * t * t * _quotient(_LOG1P, t))
    return out


def _rational(coefficients: tuple[tuple[float, ...], ...], t: np.ndarray) -> np.ndarray:
    numerator, denominator = coefficients
    return _horner(numerator[::-1], t) / _horner(denominator[::-1], t)


def _quotient(coefficients: tuple[tuple[float, ...], ...], t: np.ndarray) -> np.ndarray:
    numerator, denominator = coefficients
    return _horner(numerator, t) / _horner(denominator, t)


def _horner(coefficients, t: np.ndarray) -> np.ndarray:
    """The polynomial in `t`, highest order first."""
    total = np.full_like(t, coefficients[0])
    for c in coefficients[1:]:
        total *= t
        total += c
    return total
