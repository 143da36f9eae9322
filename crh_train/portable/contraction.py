"""Products of arrays (`dot_general`): exact sums of fixed-point numbers, so that no order, blocking or device matters.

**Value.** Each operand is rounded to integers of B bits against the least power of two above its largest magnitude
along the contraction (one scale a row of the left, a column of the right). The sum of their products is exact, and is
rounded to float64 (with 4 digits twice, in a fixed order) and once more to float32. B depends on `Accuracy.digits` and
on the number of terms K alone:

| digits | B of the left, of the right | for |
|---|---|---|
| 2 | 15, 15 | speed where there are int8 units |
| 3 | the most up to 24 for which K products sum exactly in float64, 22 at least | training; the default |
| 4 | 30, 30 | data of wide range: nothing within 2^-6 of a row's largest magnitude is rounded |

**Error bound.** |error| ≤ K · max|row| · max|column| · (2^-B + 2^-B') + half a unit in the last place. A number far
below its row's largest keeps few bits; stock float32 keeps all of them, so data of a wide range want 4 digits.

**Lowering.** Float64 products of the integers, of at most so many terms at a time that none rounds; with 4 digits, of
their upper and lower halves. Any exact lowering (int8 digits, float64 tensor cores) gives the same bits.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fences import narrow
from crh_train.portable.fixed_point import EXACT_BITS, at_scale, is_bad, power_of_two, shared_exponent
from crh_train.portable.scope import Accuracy, Scope

_LEAST_BITS, _MOST_BITS = 22, 24
HALF_BITS = 15  # of each half of 30
_LOW_BITS = 30  # of the lower part of a sum: 2^22 such parts add up exactly, and as many of the upper


class Bits(NamedTuple):
    """How many bits each operand keeps."""

    left: int
    right: int

    @property
    def product(self) -> int:
        return self.left + self.right


def operand_bits(accuracy: Accuracy, terms: int) -> Bits:
    """The value's B and B' for sums of `terms` products."""
    if accuracy.digits == 2:
        return Bits(15, 15)
    if accuracy.digits == 4:
        return Bits(2 * HALF_BITS, 2 * HALF_BITS)
    available = EXACT_BITS - math.ceil(math.log2(max(terms, 1)))
    left = min(max(available // 2, _LEAST_BITS), _MOST_BITS)
    return Bits(left, min(max(available - left, _LEAST_BITS), _MOST_BITS))


def block_terms(product_bits: int) -> int:
    """How many products of so many bits sum exactly in float64."""
    return 1 << (EXACT_BITS - product_bits)


def dot_general(
    scope: Scope, left: Array, right: Array, *, dimension_numbers: Any, out_sharding: Any = None, **_: Any
) -> Array:
    """`lax.dot_general` of clean float32 arrays; see above. A row or a column that is not finite gives NaN.

    `precision` and `preferred_element_type` (of the rest of the parameters) choose roundings that are replaced here.
    """
    if out_sharding is not None:
        raise NotImplementedError("dot_general with out_sharding; use automatic sharding")
    (left_contract, right_contract), (left_batch, right_batch) = dimension_numbers
    batch = tuple(left.shape[axis] for axis in left_batch)
    rows, left_free = _matrices(left, left_batch, left_contract)
    columns, right_free = _matrices(right, right_batch, right_contract)
    return lax.reshape(matrix_product(scope.accuracy, rows, columns), (*batch, *left_free, *right_free))


def matrix_product(accuracy: Accuracy, left: Array, right: Array) -> Array:
    """Clean float32 [B, K, M] and [B, K, N] -> float32 [B, M, N]: the sum over K of their products."""
    batch, terms, rows = left.shape
    if 0 in (*left.shape, *right.shape):
        return lax.full((batch, rows, right.shape[2]), 0, jnp.float32)
    bits = operand_bits(accuracy, terms)
    left_exponents, right_exponents = shared_exponent(left, (1,)), shared_exponent(right, (1,))
    integers = at_scale(left, left_exponents, bits.left), at_scale(right, right_exponents, bits.right)
    total = integer_product(*integers, bits, (1, 1), block_product)
    return to_units(
        total, [lax.transpose(unit(left_exponents, bits.left), (0, 2, 1)), unit(right_exponents, bits.right)]
    )


def to_units(total: Array, units: Sequence[Array]) -> Array:
    """float64 sums of integers · each of `units` (powers of two, broadcast) -> float32, rounded once."""
    for factor in units:
        total = lax.mul(total, lax.broadcast_in_dim(factor, total.shape, range(total.ndim)))
    return narrow(total)


def unit(exponents: Array, bits: int) -> Array:
    """What the integers of a scale count: float64 2^(exponents - bits), NaN where the scale is that of infinity."""
    value = power_of_two(exponents - np.int32(bits))
    return lax.select(is_bad(exponents), lax.full_like(value, np.nan), value)


def integer_product(
    left: Array, right: Array, bits: Bits, axes: tuple[int, int], product: Callable[[Array, Array, int], Array]
) -> Array:
    """float64 integers of so many bits -> the sums of their products that `product` (left, right, bits of one) makes.

    A sum of 53 bits is exact; a larger one is rounded once, one of 30-bit operands in a fixed order of its three parts.
    `axes` are an axis of the contraction in each.
    """
    if bits.product < EXACT_BITS:
        return product(left, right, bits.product)
    left_high, left_low = halves(left)
    right_high, right_low = halves(right)
    high = product(left_high, right_high, 2 * HALF_BITS)
    cross = lax.concatenate([left_high, left_low], axes[0]), lax.concatenate([right_low, right_high], axes[1])
    middle, low = product(*cross, 2 * HALF_BITS), product(left_low, right_low, 2 * HALF_BITS)
    return join(join(high, middle, HALF_BITS), low, HALF_BITS)


def halves(x: Array, bits: int = HALF_BITS) -> tuple[Array, Array]:
    """Integers -> (h, l) with x = h · 2^bits + l and |l| ≤ 2^(bits - 1)."""
    high = lax.round(lax.mul(x, lax.full_like(x, 2.0**-bits)), lax.RoundingMethod.TO_NEAREST_EVEN)
    return high, lax.sub(x, lax.mul(high, lax.full_like(x, 2.0**bits)))


def join(high: Array, low: Array, bits: int) -> Array:
    """h · 2^bits + l, rounded once: the product is exact, so an FMA changes nothing."""
    return lax.add(lax.mul(high, lax.full_like(high, 2.0**bits)), low)


def added(sums: Sequence[Array], terms: int, product_bits: int) -> Array:
    """Exact sums of so many terms each -> their sum, rounded once."""
    together = max(1, block_terms(product_bits) // terms)
    parts = [functools.reduce(lax.add, sums[at : at + together]) for at in range(0, len(sums), together)]
    if len(parts) == 1:
        return parts[0]
    highs, lows = zip(*(halves(part, _LOW_BITS) for part in parts), strict=True)
    return join(functools.reduce(lax.add, highs), functools.reduce(lax.add, lows), _LOW_BITS)


def block_product(left: Array, right: Array, product_bits: int) -> Array:
    """float64 integers [B, K, M] and [B, K, N] -> their products' sums over K, rounded once; float64 [B, M, N]."""
    terms, limit = left.shape[1], block_terms(product_bits)
    if terms <= limit:
        return lax.dot_general(left, right, (((1,), (1,)), ((0,), (0,))))
    # Whole blocks need no padded copy; the sum is the same however it is cut.
    block = next((size for size in range(limit, limit // 2, -1) if terms % size == 0), limit)
    left, right = (_in_blocks(x, -(-terms // block), block) for x in (left, right))
    partial = lax.dot_general(left, right, (((2,), (2,)), ((0, 1), (0, 1))))
    high, low = (lax.reduce_sum(part, (1,)) for part in halves(partial, _LOW_BITS))
    return join(high, low, _LOW_BITS)


def _in_blocks(x: Array, blocks: int, block: int) -> Array:
    missing = blocks * block - x.shape[1]
    padded = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (0, missing, 0), (0, 0, 0)))
    return lax.reshape(padded, (x.shape[0], blocks, block, x.shape[2]))


def _matrices(x: Array, batch: Sequence[int], contract: Sequence[int]) -> tuple[Array, tuple[int, ...]]:
    """x -> [batch, contraction, free] and the shape of its free axes."""
    free = [axis for axis in range(x.ndim) if axis not in batch and axis not in contract]
    shape = [math.prod(x.shape[axis] for axis in group) for group in (batch, contract, free)]
    moved = lax.reshape(lax.transpose(x, (*batch, *contract, *free)), shape)
    return moved, tuple(x.shape[axis] for axis in free)
