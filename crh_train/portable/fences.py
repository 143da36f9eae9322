"""Walls that no compiler sees through, and what becomes of denormals and NaN. Every float rule is built from these.

XLA and LLVM contract `a * b + c` to one rounding where the machine has an FMA, turn `x / constant` into a product,
and drop a narrowing that is followed by a widening. A `Fence` between two operations stops all of that and changes no
bit. `flush` stops it as well, and takes away the other difference between machines: what becomes of denormals.

All of this package is traced with 64-bit types enabled; see `transform`.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.witness import unknown

SMALLEST = np.float32(2.0**-125)  # one binade above the smallest normal: machines differ in when they call one tiny
CANONICAL_NAN = np.uint32(0x7FC00000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)
_SCRAMBLE = np.uint32(0x5BD1E995)


class Fence(NamedTuple):
    """Call it on a float32 or float64 array to get the same bits, from which no compiler can look back."""

    zero: Array  # uint32 []: zero at run time, which no compiler can prove

    def __call__(self, x: Array) -> Array:
        word = jnp.uint32 if x.dtype == jnp.float32 else jnp.uint64
        zero = lax.convert_element_type(self.zero, word)
        image = lax.bitcast_convert_type(x, word)
        return lax.bitcast_convert_type(lax.bitwise_xor(image, lax.broadcast(zero, x.shape)), x.dtype)


def make_fence(*witnesses: Array) -> Fence:
    """A fence whose zero is computed from `witnesses`, arrays with one element or more.

    The zero is whether the second of some sorted words is below the first. A compiler that folds it would have to know
    what a sort does: a zero that follows from the bits of the data alone is folded by LLVM (tried). XLA folds a sort of
    constants, so what is sorted is kept `unknown` to it; not where a program that was exported, with parameters then,
    is called with constants.
    """
    firsts = [lax.reshape(lax.slice(x, (0,) * x.ndim, (1,) * x.ndim), (1,)) for x in witnesses]
    words = [_word(first) for first in firsts]
    ordered = lax.sort(unknown(lax.concatenate([words[0] ^ _SCRAMBLE, *words], 0)))
    return Fence(lax.convert_element_type(lax.gt(ordered[0], ordered[1]), jnp.uint32))


def flush(x: Array) -> Array:
    """float32 -> float32: magnitudes below 2^-125 become +0, and so does -0. It fences as well."""
    return lax.select(lax.lt(lax.abs(x), lax.full_like(x, SMALLEST)), lax.full_like(x, 0), x)


def widen(x: Array) -> Array:
    """float32 without denormals -> float64, exact."""
    return lax.convert_element_type(x, jnp.float64)


def narrow(x: Array) -> Array:
    """float64 -> float32, rounded to nearest even, flushed."""
    return flush(lax.convert_element_type(x, jnp.float32))


def rounded(x: Array) -> Array:
    """float64 -> float32, rounded to nearest even; whoever calls a rule flushes it."""
    return lax.convert_element_type(x, jnp.float32)


def settled(x: Array) -> Array:
    """x, without -0, lying in memory: what a large array is broadcast against, and would compute for each element anew.

    As a sum over windows that hold one number each, which XLA's CPU gives a loop of its own.
    """
    if x.size <= 1:
        return x
    summed: Array = lax.reduce_window_sum_p.bind(
        lax.expand_dims(x, (0,)),
        window_dimensions=(2, *(1,) * x.ndim),
        window_strides=(1,) * (1 + x.ndim),
        padding=((0, 1), *((0, 0),) * x.ndim),
        base_dilation=(1,) * (1 + x.ndim),
        window_dilation=(1,) * (1 + x.ndim),
    )
    return lax.squeeze(summed, (0,))


def is_negative(x: Array) -> Array:
    """float32 -> bool: whether the sign bit is set, also of zero."""
    return lax.lt(lax.bitcast_convert_type(x, jnp.int32), jnp.full_like(x, 0, jnp.int32))


def copy_sign(x: Array, y: Array) -> Array:
    """|x| with the sign bit of y."""
    word = lax.bitcast_convert_type(x, jnp.uint32) & _MAGNITUDE | lax.bitcast_convert_type(y, jnp.uint32) & ~_MAGNITUDE
    return lax.bitcast_convert_type(word, jnp.float32)


def is_nan(x: Array) -> Array:
    """float32 -> bool, from the bits: a comparison of floats may be optimised away."""
    return lax.gt(lax.bitcast_convert_type(x, jnp.uint32) & _MAGNITUDE, jnp.full_like(x, _INFINITY, jnp.uint32))


def is_finite(x: Array) -> Array:
    """float32 -> bool, from the bits."""
    return lax.lt(lax.bitcast_convert_type(x, jnp.uint32) & _MAGNITUDE, jnp.full_like(x, _INFINITY, jnp.uint32))


def canonical(x: Array) -> Array:
    """float32 -> float32 with the one pattern 0x7fc00000 for every NaN."""
    nan = lax.full_like(x, lax.bitcast_convert_type(CANONICAL_NAN, jnp.float32))
    return lax.select(is_nan(x), nan, x)


def _word(x: Array) -> Array:
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = lax.real(x)
    if x.dtype == jnp.float32:
        return lax.bitcast_convert_type(x, jnp.uint32)
    return lax.convert_element_type(x, jnp.uint32)
