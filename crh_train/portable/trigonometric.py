"""Sines, cosines, tangents and their inverses: one value for each float32, whatever the machine.

Each is computed in fenced float64 with a relative error below 2^-37 and rounded once, so that it is within 0.501 ulp of
the truth, for arguments of every size; `tests/test_portable_trigonometric.py` measures it.

Arguments are clean float32 (`fences`), of any shape. What is returned may be below 2^-125 or -0: the caller flushes it.
Odd functions are odd bit for bit. Beyond a function's domain the result is NaN; NaN gives NaN, of any payload.

Method: x · 2/π modulo 4 in integers, from the 96 bits of 2/π that matter to the exponent of x (Payne and Hanek 1983,
"Radian reduction for trigonometric functions"); polynomials of the least largest relative error, found by Remez's
exchange with 50 digits. The nearest that a float32 comes to a multiple of π/2 is 2^-29, and the fraction has 62 bits.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import Fence, copy_sign, is_finite, is_nan, is_negative, rounded, widen
from crh_train.portable.polynomial import horner

# sin √z / √z for 0 <= z <= (π/4)², to 2^-47.6
SINE_COEFFICIENTS = (
    -2.475530798671792e-08,
    2.755525256489862e-06,
    -0.0001984126319378958,
    0.008333333323646896,
    -0.16666666666614893,
    0.9999999999999954,
)
# cos √z for the same, to 2^-43.8
COSINE_COEFFICIENTS = (
    -2.716797927689744e-07,
    2.4798844229515616e-05,
    -0.0013888879934267563,
    0.04166666653369089,
    -0.4999999999927125,
    0.9999999999999344,
)
# arctan √z / √z for 0 <= z <= tan² π/8, to 2^-40.3
ARCTANGENT_COEFFICIENTS = (
    -0.03771328957019971,
    0.06977699668728661,
    -0.0899338131898524,
    0.1110355413600195,
    -0.14285392415834722,
    0.19999993222036683,
    -0.3333333327874111,
    0.9999999999992769,
)
PI = 3.141592653589793
TANGENT_OF_EIGHTH = 0.41421356237309503  # of π/8

# 26 zeros, then the first 230 bits of 2/π
_TWO_OVER_PI = 0x00000028BE60DB9391054A7F09D5F47D4D377036D8A5664F10E4107F9458EAF7
_TABLE_BITS = 256
_SMALL_EXPONENT = 126  # the biased exponent of 1/2: below it there is nothing to reduce
_WORDS = 5  # where a window may start, in words of 32 bits
_HALF_PI_PER_UNIT = PI / 2 * 2.0**-64


def sin(fence: Fence, x: Array) -> Array:
    """sin x; NaN for ±inf."""
    quadrant, sine, cosine = _sine_and_cosine(fence, x)
    value = lax.select(_has_bit(quadrant, 1), cosine, sine)
    return _periodic(x, lax.select(_has_bit(quadrant, 2) ^ is_negative(x), -value, value))


def cos(fence: Fence, x: Array) -> Array:
    """cos x; NaN for ±inf."""
    quadrant, sine, cosine = _sine_and_cosine(fence, x)
    value = lax.select(_has_bit(quadrant, 1), sine, cosine)
    return _periodic(x, lax.select(_has_bit(quadrant + np.int32(1), 2), -value, value))


def tan(fence: Fence, x: Array) -> Array:
    """tan x; NaN for ±inf. No float32 is a pole."""
    quadrant, sine, cosine = _sine_and_cosine(fence, x)
    odd = _has_bit(quadrant, 1)
    value = lax.select(odd, cosine, sine) / fence(lax.select(odd, sine, cosine))
    return _periodic(x, lax.select(odd ^ is_negative(x), -value, value))


def asin(fence: Fence, x: Array) -> Array:
    """The angle in [-π/2, π/2] whose sine is x; NaN for |x| > 1."""
    magnitude, root = _leg(fence, x)
    return _within_one(x, copy_sign(rounded(_angle(fence, magnitude, root)), x))


def acos(fence: Fence, x: Array) -> Array:
    """The angle in [0, π] whose cosine is x; NaN for |x| > 1."""
    magnitude, root = _leg(fence, x)
    return _within_one(x, rounded(_reflected(_angle(fence, root, magnitude), x)))


def atan(fence: Fence, x: Array) -> Array:
    """The angle in [-π/2, π/2] whose tangent is x."""
    return atan2(fence, x, lax.full_like(x, 1))


def atan2(fence: Fence, y: Array, x: Array) -> Array:
    """The angle in [-π, π] of the point (x, y), float32 of one shape, with the special cases of C (ISO C, F.10.1.4):

    - it has the sign of y, also of y = ±0: ±0 for x = +0 or above, ±π for x = -0 or below
    - infinities are far away alike: (±inf, inf) is ±π/4, (±inf, -inf) is ±3π/4
    - NaN in either gives NaN
    """
    finite = is_finite(x) & is_finite(y)
    rise = lax.select(finite, widen(lax.abs(y)), _infinite_as_one(y))
    run = lax.select(finite, widen(lax.abs(x)), _infinite_as_one(x))
    at_origin = lax.eq(rise + run, lax.full_like(run, 0))
    angle = _angle(fence, rise, lax.select(at_origin, lax.full_like(run, 1), run))
    value = copy_sign(rounded(_reflected(angle, x)), y)
    return lax.select(is_nan(x) | is_nan(y), lax.full_like(x, np.nan), value)


def _sine_and_cosine(fence: Fence, x: Array) -> tuple[Array, Array, Array]:
    """float32 -> int32 q and float64 sin r, cos r, with |x| = r + q π/2 up to whole turns and |r| <= π/4."""
    quadrant, r = _reduce(fence, x)
    z = fence(r * r)
    return quadrant, fence(r * horner(fence, z, SINE_COEFFICIENTS)), horner(fence, z, COSINE_COEFFICIENTS)


def _reduce(fence: Fence, x: Array) -> tuple[Array, Array]:
    """Finite float32 -> int32 q and float64 r with |x| = r + q π/2 up to whole turns; of the others, some numbers."""
    image = lax.bitcast_convert_type(x, jnp.uint32)
    exponent = _right(image, 23) & np.uint32(0xFF)
    small = lax.lt(exponent, lax.full_like(exponent, _SMALL_EXPONENT))
    start = lax.select(small, lax.full_like(exponent, 0), exponent - np.uint32(_SMALL_EXPONENT))
    mantissa = lax.convert_element_type(image & np.uint32(0x7FFFFF) | np.uint32(0x800000), jnp.uint64)
    # The window starts at the bit that stands for 2 in the product: those before it are whole turns, and wrap away.
    high, low = _window(start)
    turns = mantissa * high + _right(mantissa * low, 32)
    quadrant = _right(turns + np.uint64(1 << 61), 62)
    fraction = lax.bitcast_convert_type(lax.shift_left(turns, lax.full_like(turns, 2)), jnp.int64)
    upper = lax.convert_element_type(lax.shift_right_arithmetic(fraction, lax.full_like(fraction, 32)), jnp.float64)
    lower = lax.convert_element_type(fraction & np.int64(0xFFFFFFFF), jnp.float64)
    r = fence(upper * np.float64(2**32) + lower) * np.float64(_HALF_PI_PER_UNIT)
    quadrant = lax.select(small, lax.full_like(quadrant, 0), quadrant)
    return lax.convert_element_type(quadrant, jnp.int32), fence(lax.select(small, widen(lax.abs(x)), r))


def _window(start: Array) -> tuple[Array, Array]:
    """uint32 in [0, 160) -> the 64 bits of the table from there, and the 32 bits after them; uint64."""
    word = _right(start, 5)
    shift = lax.convert_element_type(start & np.uint32(31), jnp.uint64)
    high, low = (_looked_up(word, offset) for offset in (0, 64))
    carried = lax.shift_right_logical(_right(low, 1), np.uint64(63) - shift)  # never by 64, which machines read as 0
    return lax.shift_left(high, shift) | carried, _right(lax.shift_left(low, shift), 32)


def _looked_up(word: Array, offset: int) -> Array:
    """The 64 bits of the table that start at bit 32 · `word` + `offset`; a gather would be slower than four selects."""
    value = lax.full_like(word, 0, jnp.uint64)
    for index in range(_WORDS):
        bits = np.uint64(_TWO_OVER_PI >> (_TABLE_BITS - 64 - offset - 32 * index) & 0xFFFFFFFFFFFFFFFF)
        value = lax.select(lax.eq(word, lax.full_like(word, index)), lax.full_like(value, bits), value)
    return value


def _angle(fence: Fence, y: Array, x: Array) -> Array:
    """Finite float64 y, x >= 0, not both 0 -> arctan(y / x) in [0, π/2], not denormal."""
    steep = lax.gt(y, x)
    short, long = lax.select(steep, x, y), lax.select(steep, y, x)
    turned = lax.gt(short, fence(long * np.float64(TANGENT_OF_EIGHTH)))  # by π/4
    # The outer fence keeps XLA from dividing once more for each use.
    tangent = fence(lax.select(turned, short - long, short) / fence(lax.select(turned, short + long, long)))
    series = horner(fence, fence(tangent * tangent), ARCTANGENT_COEFFICIENTS)
    turn = lax.select(turned, lax.full_like(tangent, PI / 4), lax.full_like(tangent, 0))
    angle = fence(fence(tangent * series) + turn)
    return fence(lax.select(steep, np.float64(PI / 2) - angle, angle))


def _leg(fence: Fence, x: Array) -> tuple[Array, Array]:
    """float32 -> |x| and √(1 - x²), float64; of 0 where |x| <= 1 is not so."""
    magnitude = widen(lax.select(_is_within_one(x), lax.abs(x), lax.full_like(x, 0)))
    return magnitude, fence(lax.sqrt(np.float64(1) - fence(magnitude * magnitude)))


def _reflected(angle: Array, x: Array) -> Array:
    """The float64 `angle`, or π less it where the sign bit of x is set."""
    return lax.select(is_negative(x), np.float64(PI) - angle, angle)


def _within_one(x: Array, value: Array) -> Array:
    return lax.select(_is_within_one(x), value, lax.full_like(x, np.nan))


def _periodic(x: Array, value: Array) -> Array:
    return lax.select(is_finite(x), rounded(value), lax.full_like(x, np.nan))


def _is_within_one(x: Array) -> Array:
    """Whether |x| <= 1, from the bits, which order NaN above."""
    image = lax.bitcast_convert_type(lax.abs(x), jnp.uint32)
    return lax.le(image, lax.full_like(image, np.uint32(0x3F800000)))


def _infinite_as_one(x: Array) -> Array:
    """float32 -> float64, 1 for ±inf, else 0."""
    return lax.convert_element_type(lax.bitwise_not(is_finite(x) | is_nan(x)), jnp.float64)


def _has_bit(quadrant: Array, bit: int) -> Array:
    return lax.ne(quadrant & np.int32(bit), lax.full_like(quadrant, 0))


def _right(x: Array, bits: int) -> Array:
    return lax.shift_right_logical(x, lax.full_like(x, bits))
