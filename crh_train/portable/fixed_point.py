"""Exact sums: numbers as integers against a common power of two, so that the order of addition cannot matter.

A float32 array is scaled by the exponent of its largest magnitude, an order-free quantity, and rounded to integers of
so many bits that every partial sum stays below 2^53. Float64 then adds without rounding, in any order, by any
threads, devices or atomics; one rounding at the end gives the float32.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import CANONICAL_NAN, SMALLEST, flush, is_finite, narrow, settled, widen

EXACT_BITS = 53  # float64 holds every integer of so many bits
SUM_BITS = EXACT_BITS - 1
LARGEST_SUM = 2**30  # terms; 22 bits of the largest remain
_INFINITY = np.uint64(0x7FF0000000000000)
_ONE = np.int64(0x3FF0000000000000)
_EXPONENT = np.int32(0x7F800000)
_LEAST = SMALLEST.view(np.int32)


class Integers(NamedTuple):
    """float64 integers that are made of `array` where they are wanted: in a loop that is cheaper than to read them."""

    array: Array
    of: Callable[[Array], Array]  # of any part of the axes along which the scale is shared

    def all(self) -> Array:
        return self.of(self.array)

    def moved(self, move: Callable[[Array], Array]) -> "Integers":
        """Of a part of the array, or of one with zeros around it."""
        return Integers(move(self.array), self.of)


def scaled(x: Array, unit: Array) -> Integers:
    """`at_scale`, later."""
    return Integers(x, lambda part: at_scale(part, unit))


def made(x: Array) -> Integers:
    """What is made already."""
    return Integers(x, lambda part: part)


def unit_of(magnitude: Array, bits: int) -> Array:
    """What integers of so many bits count: float64 2^(e - bits) with the least e, -124 at least, for which
    magnitude < 2^e; infinity where the magnitude is not finite. Clean float32, not negative.
    """
    image = lax.bitcast_convert_type(magnitude, jnp.int32) & _EXPONENT
    below = lax.bitcast_convert_type(lax.max(image, lax.full_like(image, _LEAST)), jnp.float32)  # 2^(e - 1)
    return settled(lax.mul(widen(below), lax.full_like(below, 2.0 ** (1 - bits), jnp.float64)))


def at_scale(x: Array, unit: Array) -> Array:
    """Clean float32 x -> float64 integers round(x / unit), which are not finite where x or the unit is not.

    `unit` has the axes of x, or 1 where it is shared.
    """
    numbers = lax.mul(widen(x), lax.broadcast_in_dim(_inverse(unit), x.shape, range(x.ndim)))
    return lax.round(numbers, lax.RoundingMethod.TO_NEAREST_EVEN)


def _inverse(unit: Array) -> Array:
    """1 / unit of powers of two, exact; not finite of infinity."""
    image = lax.bitcast_convert_type(unit, jnp.int64)
    return lax.bitcast_convert_type(lax.sub(lax.full_like(image, 2 * _ONE), image), jnp.float64)


def shared_exponent(x: Array, axes: tuple[int, ...]) -> Array:
    """The least e with |x| < 2^e for all x along `axes`, which stay with size 1; int32, -126 of zeros, 129 where x is
    not finite.
    """
    return exponent_of(lax.expand_dims(largest(x, axes), axes))


def largest(x: Array, axes: tuple[int, ...]) -> Array:
    """max |x| along `axes` of clean float32, infinity where any x is not finite: so there is never a NaN to order."""
    if not axes:
        return lax.select(is_finite(x), lax.abs(x), lax.full_like(x, np.inf))
    # Machines differ in a maximum with NaN, and a select in front keeps XLA from its fast kernel. This sum, whatever
    # its order, is finite just where every x is: 2^39 of the largest float32 do not overflow it.
    finite = is_finite(lax.reduce_sum(lax.mul(x, lax.full_like(x, 2.0**-40)), axes))
    greatest = _peak_in_place(x, axes)
    return lax.select(finite, greatest, lax.full_like(greatest, np.inf))


def peak(x: Array, axes: Sequence[int], moved: Array, moved_axes: Sequence[int], order: Sequence[int]) -> Array:
    """max |x| along `axes`, of no use where an x is not finite; with x in the layout of its later use, `moved`.

    `order` are the other axes of x as they stand in `moved`, perhaps joined; the result is shaped like those.

    XLA's CPU computes what is not read by one of its libraries anew for each use, with all that led to it. A reduction
    of x and one of `moved`, as they are, are done by a library, so that both lie in memory; of |x| it would be a copy.
    """
    least = lax.reduce_min(moved, moved_axes)
    kept = sorted(order)
    greatest = lax.transpose(lax.reduce_max(x, axes), [kept.index(axis) for axis in order])
    return lax.abs(lax.max(lax.reshape(greatest, least.shape), lax.neg(least)))


def finite_largest(x: Array, axes: tuple[int, ...]) -> Array:
    """max |x| of the finite x along `axes`, which stay with size 1.

    The others pass `at_scale` as infinity or NaN, so that `from_fixed` makes NaN of just the sums that have one.
    """
    magnitude = lax.select(is_finite(x), lax.abs(x), lax.full_like(x, 0))
    return lax.expand_dims(lax.reduce_max(magnitude, axes), axes)


def exponent_of(magnitude: Array) -> Array:
    """The least e with magnitude < 2^e, int32; clean float32 magnitudes, no NaN. 129 says infinity."""
    field = lax.shift_right_logical(
        lax.bitcast_convert_type(magnitude, jnp.int32), jnp.full_like(magnitude, 23, jnp.int32)
    )
    return field - np.int32(126)


def power_of_two(exponents: Array) -> Array:
    """int32 in [-1022, 1023] -> float64 2^exponents, from the bits."""
    field = lax.convert_element_type(exponents + np.int32(1023), jnp.uint64)
    return lax.bitcast_convert_type(lax.shift_left(field, lax.full_like(field, 52)), jnp.float64)


def sum_bits(terms: int) -> int:
    """Bits that each of `terms` integers may have for all their partial sums to be exact in float64.

    Raises `NotImplementedError` for more than 2^30 terms.
    """
    if terms > LARGEST_SUM:
        raise NotImplementedError(f"a sum has at most {LARGEST_SUM} terms, not {terms}: add parts of it first")
    return SUM_BITS - math.ceil(math.log2(max(terms, 1)))


def from_fixed(sums: Array, *units: Array) -> Array:
    """float64 integers times each of the units -> float32, rounded once, flushed; NaN where that is not finite before.

    The units have the axes of `sums`, or 1 where they are shared.
    """
    for unit in units:
        sums = lax.mul(sums, lax.broadcast_in_dim(unit, sums.shape, range(sums.ndim)))
    value = narrow(sums)
    nan = lax.full_like(value, lax.bitcast_convert_type(CANONICAL_NAN, jnp.float32))
    return lax.select(is_finite_sum(sums), value, nan)


def is_finite_sum(sums: Array) -> Array:
    """float64 -> bool, from the bits: whether no term was infinite or NaN."""
    infinity = lax.full_like(sums, _INFINITY, jnp.uint64)
    return lax.lt(lax.bitcast_convert_type(sums, jnp.uint64) & infinity, infinity)


def exact_sum(x: Array, axes: tuple[int, ...]) -> Array:
    """The sum of clean float32 along `axes`, rounded once: of x rounded to 52 - ⌈log2 n⌉ bits below the largest |x|.

    Its error is at most half a unit in the last place and n · 2^-(52 - ⌈log2 n⌉) · max |x|; any x not finite gives NaN.
    """
    terms = math.prod(x.shape[axis] for axis in axes)
    if not axes:
        return flush(x)
    if terms == 0 or x.size == 0:
        return lax.full([size for axis, size in enumerate(x.shape) if axis not in axes], 0, jnp.float32)
    unit = unit_of(_peak_in_place(x, axes), sum_bits(terms))  # where x is not finite, the sum is not at any scale
    # First to 4 at most, in float32; what that makes a denormal is far below half a unit. What XLA's CPU gives to its
    # library cannot share a widened x with others, which it would write to memory for them.
    wide = lax.mul(_inverse(unit), lax.full_like(unit, 2.0 ** (2 - sum_bits(terms))))
    near = lax.convert_element_type(wide, jnp.float32)
    numbers = lax.mul(x, lax.broadcast_in_dim(lax.expand_dims(near, axes), x.shape, range(x.ndim)))
    total = lax.reduce_sum(at_scale(numbers, lax.expand_dims(lax.mul(unit, wide), axes)), axes)
    return settled(from_fixed(total, unit))


def _peak_in_place(x: Array, axes: Sequence[int]) -> Array:
    return peak(x, axes, x, axes, [axis for axis in range(x.ndim) if axis not in axes])
