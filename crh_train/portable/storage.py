"""Conversions between types: every rounding written out, in integers where XLA would drop or bend it."""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import canonical, is_nan, widen

HALVES = (jnp.float16, jnp.bfloat16)
FLOATS = (jnp.float32, *HALVES, jnp.complex64)


def convert(x: Array, dtype: np.dtype) -> Array:
    """Between any two of float32, complex64, integers and bool; a half type comes and goes as float32.

    A float becomes an integer towards zero, the nearest end of the range beyond it, 0 for NaN, as on XLA's CPU.
    """
    if x.dtype == dtype:
        return x
    if x.dtype == jnp.complex64:
        if dtype != jnp.float32:
            raise NotImplementedError(f"complex64 to {dtype}; take the real part first")
        return lax.real(x)  # so it is in the derivative of the way there
    if jnp.issubdtype(x.dtype, jnp.floating):
        number = x
    elif jnp.issubdtype(dtype, jnp.inexact):
        number = from_integer(x)
    else:
        return lax.convert_element_type(x, dtype)
    if dtype == jnp.complex64:
        return lax.complex(number, lax.full_like(number, 0))
    return number if jnp.issubdtype(dtype, jnp.floating) else to_integer(number, dtype)


def from_storage(x: Array) -> Array:
    """A half type -> float32, exact; anything else as it is."""
    if x.dtype == jnp.bfloat16:
        return from_bfloat16(x)
    return from_float16(x) if x.dtype == jnp.float16 else x


def to_storage(x: Array, dtype: np.dtype) -> Array:
    """float32 -> a half type, if `dtype` is one, to nearest even; anything else as it is."""
    if x.dtype != jnp.float32 or dtype == jnp.float32:
        return x
    return to_bfloat16(x) if dtype == jnp.bfloat16 else to_float16(x)


def to_image(x: Array) -> Array:
    """The bits of a real float as an unsigned integer; anything else as it is. Moved like that, they stay the same."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return lax.bitcast_convert_type(x, jnp.uint16 if x.dtype in HALVES else jnp.uint32)


def from_image(image: Array, dtype: np.dtype) -> Array:
    """The inverse of `to_image` for what was of this type."""
    return lax.bitcast_convert_type(image, dtype) if jnp.issubdtype(dtype, jnp.floating) else image


def to_integer(x: Array, dtype: np.dtype) -> Array:
    """float32 -> an integer type: towards zero, the nearest end of the range beyond it, 0 for NaN. As XLA's CPU."""
    if dtype == np.bool_:
        return lax.ne(x, lax.full_like(x, 0))
    limits = jnp.iinfo(dtype)  # type: ignore[no-untyped-call]  # ml_dtypes has no types
    wide = widen(lax.select(is_nan(x), lax.full_like(x, 0), x))
    # A 64-bit range's end is no float64; the largest float32 below it is as far as a float32 can go.
    high = float(limits.max) if limits.bits < 64 else (1 - 2.0**-24) * 2.0 ** int(limits.max).bit_length()
    inside = lax.clamp(lax.full_like(wide, float(limits.min)), wide, lax.full_like(wide, high))
    if limits.bits < 32:
        inside = lax.convert_element_type(inside, jnp.int32)
    converted = lax.convert_element_type(inside, dtype)
    if limits.bits < 64:
        return converted
    over = lax.gt(wide, lax.full_like(wide, high))
    return lax.select(over, lax.full_like(converted, limits.max), converted)


def from_integer(x: Array) -> Array:
    """An integer or bool array -> float32, rounded once."""
    if x.dtype in (jnp.int64, jnp.uint64):
        return _from_long(x)
    return lax.convert_element_type(lax.convert_element_type(x, jnp.float64), jnp.float32)


def _from_long(x: Array) -> Array:
    """64 bits -> float32: the bits below float64's last are gathered into it first, so that there is one rounding."""
    low = lax.bitwise_and(x, lax.full_like(x, 0xFFF))
    gathered = lax.select(lax.eq(low, lax.full_like(x, 0)), x, lax.bitwise_or(x - low, lax.full_like(x, 0x800)))
    long = lax.ge(x, lax.full_like(x, 2**53))
    if x.dtype == jnp.int64:
        long = lax.bitwise_or(long, lax.le(x, lax.full_like(x, -(2**53))))
    return lax.convert_element_type(lax.convert_element_type(lax.select(long, gathered, x), jnp.float64), jnp.float32)


def to_bfloat16(x: Array) -> Array:
    """float32 -> bfloat16, to nearest even, in integers: XLA drops a narrowing that is followed by a widening."""
    word = lax.bitcast_convert_type(canonical(x), jnp.uint32)
    rounded = word + np.uint32(0x7FFF) + (lax.shift_right_logical(word, jnp.full_like(word, 16)) & np.uint32(1))
    chosen = lax.select(is_nan(x), word, rounded)
    half = lax.shift_right_logical(chosen, jnp.full_like(word, 16))
    return lax.bitcast_convert_type(lax.convert_element_type(half, jnp.uint16), jnp.bfloat16)


def from_bfloat16(x: Array) -> Array:
    """bfloat16 -> float32, exact."""
    word = lax.convert_element_type(lax.bitcast_convert_type(x, jnp.uint16), jnp.uint32)
    return lax.bitcast_convert_type(lax.shift_left(word, jnp.full_like(word, 16)), jnp.float32)


def to_float16(x: Array) -> Array:
    """float32 -> float16, to nearest even, with its denormals, in integers: without F16C, XLA's CPU cannot narrow."""
    word = lax.bitcast_convert_type(x, jnp.int32)
    magnitude = word & np.int32(0x7FFFFFFF)
    odd = lax.shift_right_logical(magnitude, jnp.full_like(word, 13)) & np.int32(1)
    rounded = magnitude + np.int32(0xFFF) + odd - np.int32(112 << 23)
    normal = lax.min(lax.shift_right_arithmetic(rounded, jnp.full_like(word, 13)), lax.full_like(word, 0x7C00))
    small = lax.lt(magnitude, lax.full_like(word, 113 << 23))  # a denormal: a multiple of 2^-24
    scaled = lax.mul(lax.select(small, lax.abs(x), lax.full_like(x, 0)), lax.full_like(x, 2.0**24))
    tiny = lax.convert_element_type(lax.round(scaled, lax.RoundingMethod.TO_NEAREST_EVEN), jnp.int32)
    half = lax.select(small, tiny, normal) | lax.shift_right_logical(word, jnp.full_like(word, 16)) & np.int32(0x8000)
    half = lax.select(is_nan(x), lax.full_like(half, 0x7E00), half)
    return lax.bitcast_convert_type(lax.convert_element_type(half, jnp.uint16), jnp.float16)


def from_float16(x: Array) -> Array:
    """float16 -> float32, exact, denormals too: through integers, because machines widen them differently."""
    word = lax.convert_element_type(lax.bitcast_convert_type(x, jnp.uint16), jnp.int32)
    exponent = lax.shift_right_logical(word, jnp.full_like(word, 10)) & np.int32(0x1F)
    fraction = word & np.int32(0x3FF)
    mantissa = lax.shift_left(fraction, jnp.full_like(word, 13))
    normal = lax.shift_left(exponent + np.int32(112), jnp.full_like(word, 23)) | mantissa
    tiny = lax.mul(lax.convert_element_type(fraction, jnp.float32), lax.full_like(word, 2.0**-24, jnp.float32))
    tiny = lax.bitcast_convert_type(tiny, jnp.int32)
    magnitude = lax.select(lax.eq(exponent, jnp.full_like(word, 31)), np.int32(0x7F800000) | mantissa, normal)
    magnitude = lax.select(lax.eq(exponent, jnp.full_like(word, 0)), tiny, magnitude)
    sign_bit = lax.shift_left(lax.shift_right_logical(word, jnp.full_like(word, 15)), jnp.full_like(word, 31))
    return lax.bitcast_convert_type(magnitude | sign_bit, jnp.float32)
