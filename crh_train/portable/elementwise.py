"""IEEE arithmetic without the traps: each result flushed and fenced, division and square roots correctly rounded.

Every function takes a fence and clean float32 arrays of one shape and gives float32 (or bool); see `fences`. Sources:
IEEE 754-2019; for double rounding through float64, Figueroa 1995, "When is double rounding innocuous?".
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import Fence, canonical, copy_sign, flush, is_finite, is_nan, narrow, widen
from crh_train.portable.storage import from_storage, to_storage

_QUOTIENT_BITS = 28  # of float64's 53, beside a float32 divisor's 24
_EXPONENT_RANGE = 277  # the largest exponent of a float32 minus the smallest of a denormal's unit


def add(fence: Fence, x: Array, y: Array) -> Array:
    """x + y, correctly rounded."""
    return flush(lax.add(x, y))


def subtract(fence: Fence, x: Array, y: Array) -> Array:
    """x - y, correctly rounded."""
    return flush(lax.sub(x, y))


def multiply(fence: Fence, x: Array, y: Array) -> Array:
    """x · y, correctly rounded."""
    return flush(lax.mul(x, y))


def square(fence: Fence, x: Array) -> Array:
    """x², correctly rounded."""
    return flush(lax.mul(x, x))


def divide(fence: Fence, x: Array, y: Array) -> Array:
    """x / y, correctly rounded: in float64, whose double rounding is innocuous; behind a fence, because a division by a
    constant becomes a product.
    """
    return narrow(lax.div(widen(fence(x)), fence(widen(y))))


def remainder(fence: Fence, x: Array, y: Array) -> Array:
    """C's fmod, exact: x - y · trunc(x / y), with the sign of x; NaN for y = 0 or infinite x.

    By long division, 28 bits of the quotient at a time, each step exact in float64.
    """
    dividend, divisor = widen(lax.abs(x)), widen(lax.abs(y))
    for shift in range(_EXPONENT_RANGE // _QUOTIENT_BITS * _QUOTIENT_BITS, -1, -_QUOTIENT_BITS):
        scaled = lax.mul(divisor, lax.full_like(divisor, 2.0**shift))
        quotient = lax.floor(lax.div(dividend, fence(scaled)))
        # The rounded quotient may be one too large; the product is exact, so the sign of the difference tells.
        rest = lax.sub(dividend, fence(lax.mul(quotient, scaled)))
        rest = lax.select(lax.lt(rest, lax.full_like(rest, 0)), lax.add(rest, scaled), rest)
        dividend = lax.select(lax.lt(dividend, scaled), dividend, rest)
    result = copy_sign(narrow(dividend), x)
    valid = lax.bitwise_and(is_finite(x), lax.ne(y, lax.full_like(y, 0)))
    return lax.select(lax.bitwise_or(is_nan(y), lax.bitwise_not(valid)), lax.full_like(x, np.nan), result)


def integer_power(fence: Fence, x: Array, *, y: int) -> Array:
    """x^y for an integer y, by squaring in float64; for |y| ≤ 3 it is correctly rounded."""
    if y == 2:
        return square(fence, x)
    base, power, left = widen(x), None, abs(y)
    while left:
        if left & 1:
            power = base if power is None else fence(lax.mul(power, base))
        left >>= 1
        if left:
            base = fence(lax.mul(base, base))
    one = lax.full_like(base, 1)
    if power is None:
        return narrow(one)
    return narrow(power if y > 0 else lax.div(one, fence(power)))


def one_minus_square(fence: Fence, x: Array) -> Array:
    """1 - x², rounded once from float64, where x² is exact."""
    wide = widen(x)
    return narrow(lax.sub(lax.full_like(wide, 1), lax.mul(wide, wide)))


def polynomial(fence: Fence, x: Array, *coefficients: Array) -> Array:
    """c0 + x · (c1 + x · (c2 + …)), each product and each sum correctly rounded."""
    total = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = add(fence, multiply(fence, total, x), coefficient)
    return total


def square_root(fence: Fence, x: Array) -> Array:
    """√x, correctly rounded; NaN below zero."""
    return narrow(lax.sqrt(widen(x)))


def reciprocal_square_root(fence: Fence, x: Array) -> Array:
    """1 / √x within 0.5000001 ulp; infinity at zero, of its sign, NaN below."""
    root = fence(lax.sqrt(widen(x)))
    return narrow(lax.div(lax.full_like(root, 1), root))


def maximum(fence: Fence, x: Array, y: Array) -> Array:
    """The larger; y of two equal ones, so of two zeros; NaN if either is."""
    return lax.select(lax.gt(x, y), x, lax.select(lax.ge(y, x), y, lax.full_like(x, np.nan)))


def minimum(fence: Fence, x: Array, y: Array) -> Array:
    """The smaller; y of two equal ones, so of two zeros; NaN if either is."""
    return lax.select(lax.lt(x, y), x, lax.select(lax.le(y, x), y, lax.full_like(x, np.nan)))


def clamp(fence: Fence, low: Array, x: Array, high: Array) -> Array:
    """min(max(x, low), high)."""
    return minimum(fence, maximum(fence, x, low), high)


def absolute(fence: Fence, x: Array) -> Array:
    """|x|."""
    return lax.abs(x)


def negative(fence: Fence, x: Array) -> Array:
    """-x: the sign bit alone, also of zero."""
    return lax.neg(x)


def sign(fence: Fence, x: Array) -> Array:
    """-1, 0, 1, or NaN."""
    zero, one = lax.full_like(x, 0), lax.full_like(x, 1)
    signed = lax.select(lax.gt(x, zero), one, lax.select(lax.lt(x, zero), lax.neg(one), zero))
    return lax.select(is_nan(x), lax.full_like(x, np.nan), signed)


def floor(fence: Fence, x: Array) -> Array:
    """⌊x⌋."""
    return flush(lax.floor(x))


def ceil(fence: Fence, x: Array) -> Array:
    """⌈x⌉."""
    return flush(lax.ceil(x))


def round(fence: Fence, x: Array, *, rounding_method: lax.RoundingMethod) -> Array:
    """To the nearest integer; halves away from zero or to even."""
    return flush(lax.round(x, rounding_method))


def finite(fence: Fence, x: Array) -> Array:
    """Whether neither infinite nor NaN, bool."""
    return is_finite(x)


def next_after(fence: Fence, x: Array, y: Array, *, dtype: np.dtype) -> Array:
    """The number of a float type after x in the direction of y; what counts as zero is passed over."""
    kept = to_storage(x, dtype)
    word = lax.bitcast_convert_type(kept, jnp.int32 if dtype == jnp.float32 else jnp.int16)
    away = lax.ne(lax.lt(x, y), lax.lt(x, lax.full_like(x, 0)))  # from zero
    one = lax.full_like(word, 1)
    moved = from_storage(lax.bitcast_convert_type(lax.select(away, word + one, word - one), dtype))
    first = copy_sign(lax.full_like(x, 2.0**-24 if dtype == jnp.float16 else 2.0**-125), y)
    moved = lax.select(lax.eq(x, lax.full_like(x, 0)), first, flush(moved))
    moved = lax.select(lax.eq(x, y), y, moved)
    return lax.select(lax.bitwise_or(is_nan(x), is_nan(y)), lax.full_like(x, np.nan), moved)


def total_order_key(x: Array) -> Array:
    """float32 -> int32 in IEEE's total order, every NaN the same and last."""
    word = lax.bitcast_convert_type(canonical(x), jnp.int32)
    flipped = word ^ np.int32(0x7FFFFFFF)
    return lax.select(lax.lt(word, lax.full_like(word, 0)), flipped, word)
