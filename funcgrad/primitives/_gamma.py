"""Kernels of the logarithm of the gamma function and its derivatives.

The source of these kernels is copied into exported programs: they use NumPy alone.

Of x > 0: near 1 and 2 rational approximations, far off Stirling's series (Abramowitz and
Stegun, 6.1.41 and 6.3.18), its coefficients minimax too; between them, and near 0, recurrences.
Of x < 0: reflection (DLMF, 5.5.3, 5.5.4 and 5.15.6). Coefficients: minimax for the relative
error of the function (Remez exchange), which is given beside them.
"""

from __future__ import annotations

import numpy as np

from funcgrad.primitives._special import _horner, _widen

# log(gamma(y)) = (y - 1) (y - 2) (13/32 + p(t)/q(t)), t = y - 3/4: 2**-55.7 for 0.7 <= y <= 3.
NEAR_CONSTANT = 0.40625
NEAR = (
    (0.24424904458014518, 0.7837970138131973, 0.7714175308187117, 0.0491294165574941,
     -0.3483014212579472, -0.2072553452270224, -0.044999289555295405, -0.003627178776930519,
     -7.62558088221376e-05),
    (1.0, 4.651630949460706, 8.664836596604442, 8.283351370580524, 4.335167621792159,
     1.2296874532391027, 0.1759690542018868, 0.010795090550270853, 0.00019134561739506974),
)  # fmt: skip
# log(gamma(x)) = (x - 1/2) (log(x) - 1) + C + p(1/x**2)/x: 2**-56.6 for x >= 3.
FAR = (
    0.08333333333333333, -0.002777777776291524, 0.0007936504661442536, -0.000595208865513266,
    0.0008403212676654976, -0.0018740578961236676, 0.005526638797431262, -0.016819762835276114,
    0.03937192560554372, -0.047385440279959674,
)  # fmt: skip
# (log(2 pi) - 1)/2.
FAR_CONSTANT = 0.4189385332046727
# digamma(y) = (y - ROOT) (13/16 + p(t)/q(t)), t = y - 1: 2**-55.9 for 1 <= y <= 3.
SLOPE_CONSTANT = 0.8125
SLOPE = (
    (0.4378801375034054, 0.1124185853519042, -0.3783631746103588, -0.2597073996613402,
     -0.06068355797252568, -0.005497651884133247, -0.00015060733008856236,
     -1.7484095008821138e-08),
    (1.0, 2.2086225501520267, 1.7284720588273572, 0.6171289518113513, 0.10491295351652605,
     0.007822181438261992, 0.00018867438909358686),
)  # fmt: skip
# Where digamma is 0, in two parts.
ROOT = (1.4616321449683622, 9.549995429965697e-17)
# digamma(x) = log(x) - 1/(2 x) - p(1/x**2)/x**2: 2**-57.6 for x >= 3.
FAR_SLOPE = (
    0.0833333333333117, -0.008333333322854656, 0.003968252125243331, -0.004166499549279934,
    0.007566659647760168, -0.020768683701810113, 0.07532606030194097, -0.29905520871738084,
    1.0418276762465146, -2.5267132779794212, 3.000720178979953,
)  # fmt: skip
# The Bernoulli numbers B2, B4, ... over (2 j)!.
_BERNOULLI = (
    1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
    1 / 74724249600, -3617 / 10670622842880000,
)  # fmt: skip


def gammaln(x: np.ndarray) -> np.ndarray:
    """log(abs(gamma(x))); computed in float64, rounded to the dtype of `x`."""
    wide, dtype = _widen(x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        out = _gammaln_of_positive(np.abs(wide))
        below = wide < 0
        out[below] = _gammaln_of_negative(-wide[below], out[below])
        return out.astype(dtype).reshape(np.shape(x))


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log(gamma(x)); computed in float64, rounded to the dtype of `x`."""
    wide, dtype = _widen(x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        out = _digamma_of_positive(np.abs(wide))
        below = np.signbit(wide)
        out[below] = _digamma_of_negative(-wide[below], out[below])
        return out.astype(dtype).reshape(np.shape(x))


def polygamma(x: np.ndarray, n: int) -> np.ndarray:
    """The derivative of order `n` >= 1 of digamma; in float64, rounded to the dtype of `x`."""
    wide, dtype = _widen(x)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        out = (-1.0) ** (n + 1) * _factorial_zeta(n, np.abs(wide))
        below = np.signbit(wide)
        out[below] = _polygamma_of_negative(n, wide[below])
        return out.astype(dtype).reshape(np.shape(x))


def _gammaln_of_positive(a: np.ndarray) -> np.ndarray:
    out = a + 0.0
    for where, piece in (
        (a < 0.7, lambda v: _near(v, v - 1.0, v + 0.25) - np.log(v)),
        ((a >= 0.7) & (a < 3.0), lambda v: _near(v - 1.0, v - 2.0, v - 0.75)),
        ((a >= 3.0) & (a < 8.0), _between),
        (a >= 8.0, _far),
    ):
        out[where] = piece(a[where])
    return out


def _near(first: np.ndarray, second: np.ndarray, t: np.ndarray) -> np.ndarray:
    """log(gamma(y)) of y - 1, y - 2 and y - 3/4; never -0."""
    numerator, denominator = NEAR
    ratio = _horner(numerator[::-1], t) / _horner(denominator[::-1], t)
    return first * second * (NEAR_CONSTANT + ratio) + 0.0


def _between(a: np.ndarray) -> np.ndarray:
    """By gamma(a) = (a - 1) (a - 2) ... gamma(y), where 2 <= y < 3."""
    product = np.ones_like(a)
    for _ in range(5):
        above = a >= 3.0
        a = np.where(above, a - 1.0, a)
        product = np.where(above, product * a, product)
    return _near(a - 1.0, a - 2.0, a - 0.75) + np.log(product)


def _far(a: np.ndarray) -> np.ndarray:
    inverse = 1.0 / a
    correction = inverse * _horner(FAR[::-1], inverse * inverse)
    return (a - 0.5) * (np.log(a) - 1.0) + (FAR_CONSTANT + correction)


def _gammaln_of_negative(a: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """log|gamma(-a)| of log(gamma(a)): gamma(-a) gamma(1 + a) = -pi / sin(pi a)."""
    small = a < 0.5
    other = np.where(small, _near(a, a - 1.0, a + 0.25), positive)
    sine = np.sin(np.pi * np.abs(a - np.rint(a))) / np.pi
    out = -np.log(np.where(small, sine, a * sine)) - other
    return np.where((sine == 0) | (a == np.inf), np.inf, out)


def _digamma_of_positive(a: np.ndarray) -> np.ndarray:
    out = a + 0.0
    for where, piece in (
        # 1/a as 1 + (1 - a)/a, whose rounding near a = 1 is small.
        (a < 1.0, lambda v: _slope(v, (v - (ROOT[0] - 1.0)) - ROOT[1]) - 1.0 - (1.0 - v) / v),
        ((a >= 1.0) & (a < 3.0), lambda v: _slope(v - 1.0, (v - ROOT[0]) - ROOT[1])),
        (a >= 3.0, _far_slope),
    ):
        out[where] = piece(a[where])
    return out


def _slope(t: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """digamma(y) of y - 1 and y - ROOT."""
    numerator, denominator = SLOPE
    ratio = _horner(numerator[::-1], t) / _horner(denominator[::-1], t)
    return distance * (SLOPE_CONSTANT + ratio)


def _far_slope(a: np.ndarray) -> np.ndarray:
    inverse = 1.0 / a
    t = inverse * inverse
    return np.log(a) - (0.5 * inverse + t * _horner(FAR_SLOPE[::-1], t))


def _digamma_of_negative(a: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """digamma(-a) = digamma(1 + a) + pi cot(pi a), of digamma(a)."""
    nearest = np.rint(2.0 * a)
    rest = a - 0.5 * nearest
    tangent = np.tan(np.pi * rest)
    cotangent = np.where(nearest % 2.0 == 0, 1.0 / tangent, -tangent)
    near = _slope(np.minimum(a, 1.0), (np.minimum(a, 1.0) - (ROOT[0] - 1.0)) - ROOT[1])
    out = np.where(a < 1.0, near, positive + 1.0 / a) + np.pi * cotangent
    return np.where((a > 0) & (a == np.rint(a)), np.nan, out)


def _factorial_zeta(n: int, a: np.ndarray) -> np.ndarray:
    """n! times the sum of (a + k)**-(n + 1) over k >= 0, of a >= 0.

    Its terms up to where Euler's and Maclaurin's formula is exact (Abramowitz and Stegun,
    6.4.11), the smallest first.
    """
    steps = np.maximum(np.ceil(2.0 * n + 10.0 - a), 0.0)
    b = a + steps
    t = 1.0 / (b * b)
    series, rising = 1.0 / n + 0.5 / b, 1.0
    power = t
    for j, bernoulli in enumerate(_BERNOULLI):
        rising *= n + 1.0 if j == 0 else (n + 2.0 * j) * (n + 2.0 * j + 1.0)
        series = series + bernoulli * rising * power
        power = power * t
    total = series * b ** -float(n)
    # NaN have no number of steps.
    known = steps[steps == steps]
    most = int(known.max()) if known.size else 0
    for k in range(most - 1, -1, -1):
        total = total + np.where(k < steps, (a + k) ** -(n + 1.0), 0.0)
    factorial = 1
    for k in range(2, n + 1):
        factorial *= k
    return total * float(factorial)


def _polygamma_of_negative(n: int, x: np.ndarray) -> np.ndarray:
    """By the derivatives of pi cot(pi x), polynomials in the cotangent c.

    The first is -pi**2 (1 + c**2), and each derivative of a polynomial in c brings that factor.
    """
    coefficients = [0, 1]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(coefficients)][1:]
        padded = zip([*slope, 0, 0], [0, 0, *slope], strict=True)
        coefficients = [-(a + b) for a, b in padded]
    rest = x - np.rint(x)
    cotangent = 1.0 / np.tan(np.pi * rest)
    # All its powers are even, or all odd, and all its coefficients have one sign.
    polynomial = _horner([float(c) for c in coefficients[n + 1 :: -2]], cotangent * cotangent)
    if n % 2 == 0:
        polynomial = polynomial * cotangent
    out = -_factorial_zeta(n, 1.0 - x) - np.pi ** (n + 1.0) * polynomial
    # The sides of a pole are alike where n is odd.
    pole = np.where(x == 0, np.inf, np.nan) if n % 2 == 0 else np.inf
    return np.where(rest == 0, pole, out)
