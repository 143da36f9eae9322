"""Exponentials, logarithms, hyperbolic functions and powers: one value for each float32, whatever the machine.

Each is computed in fenced float64 with a relative error below 2^-31 and rounded once. The largest errors in ulp, over
every 16th float32 (`power`: on the points of `tests/test_portable_exponential.py`):

=====  =====  =====  =====  ========  =====  =====  =====
exp    0.501  log    0.500  sinh      0.503  asinh  0.500
exp2   0.501  log1p  0.500  cosh      0.501  acosh  0.500
expm1  0.505  cbrt   0.500  tanh      0.503  atanh  0.500
power  0.500  ..     ..     logistic  0.501  ..     ..
=====  =====  =====  =====  ========  =====  =====  =====

Arguments are clean float32 (`fences`), of any shape. What is returned may be a denormal or -0: the caller flushes it.
Odd functions are odd bit for bit. Beyond a function's domain the result is NaN, at a pole an infinity, at ±inf the
limit; NaN gives NaN, of any payload.

Method: 2^t = 2^k · 2^f with k = round(t), and log u = k log 2 + 2 artanh((m - 1)/(m + 1)) with u = 2^k m and m next to
1, each with a polynomial that interpolates at Chebyshev nodes (J.-M. Muller, Elementary Functions, 3rd ed., chapters 3
and 11); Halley's iteration for the cube root.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import Fence, copy_sign, is_finite, is_nan, rounded, widen
from crh_train.portable.polynomial import horner

# fmt: off
# (2^f - 1)/f for |f| <= 1/2, to 2^-31.8; the last one is ln 2 itself, so that expm1 is sharp near 0
EXP2_COEFFICIENTS = (
    1.529732376893575e-05, 0.00015461444709267527, 0.0013333502386140596, 0.009618056678495827, 0.05550410883909624,
    0.24022650922288827, 0.6931471805599453,
)
# 2 artanh(√z)/√z for 0 <= z <= 0.03, to 2^-37.6
LOG_COEFFICIENTS = (
    0.23644142614556493, 0.285336073998998, 0.40000407628869333, 0.6666666513396787, 2.000000000009201,
)
# the same over ln 2, to 2^-44.9: `power` multiplies its error by up to 150
LOG2_COEFFICIENTS = (
    0.28329818387636435, 0.3198791970376232, 0.4122098616191924, 0.5770779367457927, 0.9617966941310698,
    2.8853900817778415,
)
# fmt: on
LOG2_E = 1.4426950408889634
LN2 = float.fromhex("0x1.62e42fefa38p-1")  # 42 bits: its product with an exponent is exact

_LARGE = 128.0  # exp overflows before it, and 1 + exp(-x) is 1
_HALF_POWER = np.uint64(0x3FE6A09E00000000)  # image of √½, cut off
_ONE = np.uint64(0x3FF0000000000000)
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)


def exp(fence: Fence, x: Array) -> Array:
    """e^x."""
    scale, fraction = _exp2(fence, _times_log2_e(fence, widen(x)))
    return _limits(x, rounded(scale * (np.float64(1) + fraction)), below=0, above=np.inf)


def exp2(fence: Fence, x: Array) -> Array:
    """2^x."""
    scale, fraction = _exp2(fence, widen(x))
    return _limits(x, rounded(scale * (np.float64(1) + fraction)), below=0, above=np.inf, large=256)


def expm1(fence: Fence, x: Array) -> Array:
    """e^x - 1, as sharp near 0 as elsewhere."""
    return _limits(x, rounded(_expm1(fence, widen(x))), below=-1, above=np.inf)


def logistic(fence: Fence, x: Array) -> Array:
    """1/(1 + e^-x)."""
    scale, fraction = _exp2(fence, _times_log2_e(fence, -widen(x)))
    return _limits(x, rounded(np.float64(1) / (np.float64(1) + scale * (np.float64(1) + fraction))), below=0, above=1)


def tanh(fence: Fence, x: Array) -> Array:
    """(e^2|x| - 1)/(e^2|x| + 1) with the sign of x."""
    magnitude = lax.abs(x)
    grown = _expm1(fence, widen(magnitude) * np.float64(2))
    return copy_sign(_limits(magnitude, rounded(grown / (grown + np.float64(2))), below=0, above=1), x)


def sinh(fence: Fence, x: Array) -> Array:
    """(e^|x| - e^-|x|)/2 with the sign of x."""
    magnitude = lax.abs(x)
    grown = _expm1(fence, widen(magnitude))
    value = (grown + grown / (grown + np.float64(1))) * np.float64(0.5)
    return copy_sign(_limits(magnitude, rounded(value), below=0, above=np.inf), x)


def cosh(fence: Fence, x: Array) -> Array:
    """(e^|x| + e^-|x|)/2."""
    magnitude = lax.abs(x)
    scale, fraction = _exp2(fence, _times_log2_e(fence, widen(magnitude)))
    grown = scale * (np.float64(1) + fraction)
    value = (grown + np.float64(1) / grown) * np.float64(0.5)
    return _limits(magnitude, rounded(value), below=1, above=np.inf)


def log(fence: Fence, x: Array) -> Array:
    """The natural logarithm; -inf at 0 of either sign, NaN below."""
    exponent, mantissa = _split(widen(x))
    value = rounded(_log(fence, exponent, mantissa - np.float64(1)))
    return _domain(x, value, pole=0, at_pole=-np.inf)


def log2(fence: Fence, x: Array) -> Array:
    """The logarithm to the base 2, exact of powers of two; -inf at 0 of either sign, NaN below."""
    exponent, mantissa = _split(widen(x))
    value = rounded(exponent + _artanh_series(fence, mantissa - np.float64(1), LOG2_COEFFICIENTS))
    return _domain(x, value, pole=0, at_pole=-np.inf)


def log1p(fence: Fence, x: Array) -> Array:
    """log(1 + x), as sharp near 0 as elsewhere; -inf at -1, NaN below."""
    return _domain(x, rounded(_log1p(fence, widen(x))), pole=-1, at_pole=-np.inf)


def asinh(fence: Fence, x: Array) -> Array:
    """log1p(a + a²/(1 + √(a² + 1))) of a = |x|, with the sign of x."""
    magnitude = widen(lax.abs(x))
    square = magnitude * magnitude  # exact
    root = lax.sqrt(square + np.float64(1))
    value = rounded(_log1p(fence, magnitude + square / (np.float64(1) + root)))
    return copy_sign(lax.select(is_finite(x), value, x), x)


def acosh(fence: Fence, x: Array) -> Array:
    """log1p(t + √(t(t + 2))) of t = x - 1; NaN below 1."""
    over = widen(x) - np.float64(1)
    value = rounded(_log1p(fence, over + lax.sqrt(over * (over + np.float64(2)))))
    return _domain(x, value, pole=1, at_pole=0)


def atanh(fence: Fence, x: Array) -> Array:
    """log1p(2a/(1 - a))/2 of a = |x|, with the sign of x; ±inf at ±1, NaN beyond."""
    magnitude = widen(lax.abs(x))
    value = _log1p(fence, fence((magnitude + magnitude) / (np.float64(1) - magnitude))) * np.float64(0.5)
    inside = _domain(-lax.abs(x), rounded(value), pole=-1, at_pole=np.inf)
    return copy_sign(inside, x)


def cbrt(fence: Fence, x: Array) -> Array:
    """The real cube root, with the sign of x."""
    image = lax.bitcast_convert_type(lax.abs(x), jnp.uint32)
    guess = lax.div(image, lax.full_like(image, 3)) + np.uint32(0x2A5137A0)  # a third of the exponent; 5 good bits
    root, cube = widen(lax.bitcast_convert_type(guess, jnp.float32)), widen(lax.abs(x))
    for _ in range(2):
        found = fence(root * root * root)
        root = root * ((cube + cube + found) / (cube + found + found))
    special = lax.bitwise_or(lax.eq(x, lax.full_like(x, 0)), lax.bitwise_not(is_finite(x)))
    return copy_sign(lax.select(special, lax.abs(x), rounded(root)), x)


def power(fence: Fence, x: Array, y: Array) -> Array:
    """x^y of float32 x and y, with the special cases of C's pow (ISO C, F.10.4.4), of which none signals:

    - x^±0 and 1^y are 1, even of NaN; any other NaN gives NaN
    - a negative base: y must be an integer, an odd one makes the result negative; else it is NaN. Infinities are even
    - (±0)^y for y < 0 is +inf, for an odd integer ±inf; for y > 0 it is +0, for an odd integer ±0
    - (±inf)^y is (±0)^-y
    - |x|^±inf is 0 or +inf, and (-1)^±inf is 1
    """
    magnitude, zero = lax.abs(x), lax.full_like(x, 0)
    exponent, mantissa = _split(widen(magnitude))
    log2 = exponent + _artanh_series(fence, mantissa - np.float64(1), LOG2_COEFFICIENTS)
    log2 = lax.select(is_finite(x), log2, lax.full_like(log2, np.inf))
    log2 = lax.select(lax.eq(x, zero), lax.full_like(log2, -np.inf), log2)
    power_of_two = fence(widen(y) * log2)
    # Beyond ±200 float32 overflows or vanishes. What 0 · inf makes of it is replaced by one at the end.
    bounded = lax.clamp(np.float64(-200), power_of_two, np.float64(200))
    scale, fraction = _exp2(fence, bounded)
    value = rounded(scale * (np.float64(1) + fraction))

    is_integer = lax.eq(lax.floor(y), y)
    half = y * np.float32(0.5)
    is_odd = lax.bitwise_and(is_integer, lax.ne(lax.floor(half), half))
    value = lax.select(is_odd, copy_sign(value, x), value)
    has_no_root = lax.bitwise_and(lax.lt(x, zero), lax.bitwise_and(is_finite(x), lax.bitwise_not(is_integer)))
    is_undefined = lax.bitwise_or(lax.bitwise_or(is_nan(x), is_nan(y)), has_no_root)
    value = lax.select(is_undefined, lax.full_like(x, np.nan), value)
    one = lax.full_like(x, 1)
    minus_one_to_infinity = lax.bitwise_and(lax.eq(x, -one), lax.eq(lax.abs(y), lax.full_like(y, np.inf)))
    is_one = lax.bitwise_or(lax.bitwise_or(lax.eq(y, zero), lax.eq(x, one)), minus_one_to_infinity)
    return lax.select(is_one, one, value)


def _exp2(fence: Fence, t: Array) -> tuple[Array, Array]:
    """float64 t -> 2^k and 2^f - 1 with t = k + f, |f| <= 1/2. Where |t| > 1000 they are some numbers or other."""
    nearest = lax.round(t, lax.RoundingMethod.TO_NEAREST_EVEN)
    fraction = t - nearest
    # The exponent's field stands at the end of the mantissa of a float64 that has no bits below 1.
    image = lax.bitcast_convert_type(nearest + np.float64(1.5 * 2**52 + 1023), jnp.uint64)
    scale = lax.bitcast_convert_type(lax.shift_left(image, lax.full_like(image, 52)), jnp.float64)
    return scale, fence(fraction * horner(fence, fraction, EXP2_COEFFICIENTS))


def _times_log2_e(fence: Fence, x: Array) -> Array:
    return fence(x * np.float64(LOG2_E))


def _expm1(fence: Fence, x: Array) -> Array:
    """float64 -> float64, for |x| < 500."""
    scale, fraction = _exp2(fence, _times_log2_e(fence, x))
    return scale * fraction + (scale - np.float64(1))  # the product is exact


def _split(u: Array) -> tuple[Array, Array]:
    """Positive float64 -> float64 k and m with u = 2^k m, k an integer, √½ <= m < √2."""
    image = lax.bitcast_convert_type(u, jnp.uint64) + (_ONE - _HALF_POWER)
    field = lax.convert_element_type(lax.shift_right_logical(image, lax.full_like(image, 52)), jnp.int32)
    exponent = lax.convert_element_type(field - np.int32(1023), jnp.float64)
    return exponent, lax.bitcast_convert_type((image & _MANTISSA) + _HALF_POWER, jnp.float64)


def _artanh_series(fence: Fence, f: Array, coefficients: tuple[float, ...]) -> Array:
    """log(1 + f) for 1 + f in [√½, √2), in the unit of the coefficients."""
    s = fence(f / (np.float64(2) + f))  # XLA fuses a division only into a single user, such as this fence
    return fence(s * horner(fence, s * s, coefficients))


def _log(fence: Fence, exponent: Array, f: Array) -> Array:
    return exponent * np.float64(LN2) + _artanh_series(fence, f, LOG_COEFFICIENTS)


def _log1p(fence: Fence, y: Array) -> Array:
    """float64 -> float64, for y > -1."""
    exponent, mantissa = _split(np.float64(1) + y)
    exact = lax.eq(exponent, lax.full_like(exponent, 0))  # the sum has lost bits of a small y
    return _log(fence, exponent, lax.select(exact, y, mantissa - np.float64(1)))


def _limits(x: Array, value: Array, *, below: float, above: float, large: float = _LARGE) -> Array:
    """`value` where |x| < `large`, the limits beyond, NaN for NaN."""
    limit = lax.select(lax.gt(x, lax.full_like(x, 0)), lax.full_like(x, above), lax.full_like(x, below))
    limited = lax.select(lax.lt(lax.abs(x), lax.full_like(x, large)), value, limit)
    return lax.select(is_nan(x), x, limited)


def _domain(x: Array, value: Array, *, pole: float, at_pole: float) -> Array:
    """`value` where x > `pole`, NaN below it and for NaN, x itself where it is +inf."""
    ends = lax.full_like(x, pole)
    outside = lax.select(lax.eq(x, ends), lax.full_like(x, at_pole), lax.full_like(x, np.nan))
    inside = lax.select(lax.gt(x, ends), value, outside)
    return lax.select(lax.eq(x, lax.full_like(x, np.inf)), x, inside)
