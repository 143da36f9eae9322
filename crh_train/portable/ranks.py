"""Floats as integers in the same order, so that maxima, sorts and selections are exact and NaN has a place in them.

A rank is the number's bits read as a magnitude, with its sign: rank(-x) = -rank(x), and -0 is 0. Every NaN has one
rank, above that of infinity, whatever its sign: in a maximum NaN wins, in a sort it comes last. For a minimum negate
before and after.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import CANONICAL_NAN, canonical

LOWEST = np.int32(-0x7F800000)  # of minus infinity
OUTSIDE = np.int32(-(2**31))  # below every rank
_NAN = np.int32(CANONICAL_NAN)
_MAGNITUDE = np.int32(0x7FFFFFFF)


def rank(x: Array) -> Array:
    """float32 -> int32."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    magnitude = bits & _MAGNITUDE
    signed = lax.select(lax.lt(bits, lax.full_like(bits, 0)), -magnitude, magnitude)
    return lax.select(lax.gt(magnitude, lax.full_like(bits, -LOWEST)), lax.full_like(bits, _NAN), signed)


def unrank(ranks: Array) -> Array:
    """int32 -> float32, the inverse: zero is +0, and NaN the canonical one."""
    bits = lax.select(lax.lt(ranks, lax.full_like(ranks, 0)), -ranks | OUTSIDE, ranks)
    return canonical(lax.bitcast_convert_type(bits, jnp.float32))
