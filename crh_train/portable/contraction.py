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

**Lowering.** Float64 products of the integers, in blocks of at most so many terms that none rounds (2^9 of 22 bits);
with 4 digits, of their upper and lower halves. Any exact lowering gives the same bits. The shape chooses:

=================  =====================================================================================================
blocks up to 4     products written out; the left operand with the contraction last, which XLA's CPU multiplies at twice
                   the speed, the right one as it comes
more               one product of all blocks, each operand as it comes, and one reduction of both halves of their sums
=================  =====================================================================================================
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.fixed_point import (
    EXACT_BITS,
    Integers,
    from_fixed,
    made,
    peak,
    scaled,
    unit_of,
)
from crh_train.portable.scope import Accuracy, Scope

_LEAST_BITS, _MOST_BITS = 22, 24
HALF_BITS = 15  # of each half of 30
_LOW_BITS = 30  # of the lower part of a sum: 2^22 such parts add up exactly, and as many of the upper
WRITTEN_OUT = 4  # blocks of a contraction that are products of their own; more are one batched product


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
    left_free = [axis for axis in range(left.ndim) if axis not in (*left_batch, *left_contract)]
    right_free = [axis for axis in range(right.ndim) if axis not in (*right_batch, *right_contract)]
    shape = [left.shape[axis] for axis in (*left_batch, *left_free)] + [right.shape[axis] for axis in right_free]
    if 0 in (*left.shape, *right.shape):
        return lax.full(shape, 0, jnp.float32)
    terms = math.prod(left.shape[axis] for axis in left_contract)
    bits = operand_bits(scope.accuracy, terms)
    # What needs no transposition. XLA takes the right operand either way; the left one, in a single product, at half
    # the speed.
    long = terms > WRITTEN_OUT * block_terms(bits.product if bits.product < EXACT_BITS else 2 * HALF_BITS)
    left_axis = 1 if long and _in_order(left, left_batch, left_contract, left_free) else 2
    right_axis = 1 if _in_order(right, right_batch, right_contract, right_free) else 2
    rows = _matrix(left, left_batch, left_free, left_contract, left_axis, bits.left)
    columns = _matrix(right, right_batch, right_free, right_contract, right_axis, bits.right)
    total = integer_product(
        scaled(rows.array, rows.unit),
        scaled(columns.array, columns.unit),
        bits,
        (left_axis, right_axis),
        lambda one, other, product_bits: block_product(one.all(), other.all(), product_bits, (left_axis, right_axis)),
    )
    by_row = lax.reshape(rows.unit, (*total.shape[:2], 1))
    by_column = lax.reshape(columns.unit, (total.shape[0], 1, total.shape[2]))
    return lax.reshape(from_fixed(total, by_row, by_column), shape)


class _Matrix(NamedTuple):
    array: Array  # float32 [B, M, K], or [B, K, M]
    unit: Array  # of its integers, float64 with 1 for K


def _in_order(x: Array, *groups: Sequence[int]) -> bool:
    return [axis for group in groups for axis in group] == list(range(x.ndim))


def _matrix(
    x: Array, batch: Sequence[int], free: Sequence[int], contract: Sequence[int], axis: int, bits: int
) -> _Matrix:
    """With the contraction K as axis 1 or 2."""
    groups = (batch, contract, free) if axis == 1 else (batch, free, contract)
    order = [at for group in groups for at in group]
    array = lax.reshape(lax.transpose(x, order), [math.prod(x.shape[at] for at in group) for group in groups])
    greatest = peak(x, contract, array, (axis,), [*batch, *free])
    return _Matrix(array, unit_of(lax.expand_dims(greatest, (axis,)), bits))


def integer_product(
    left: Integers,
    right: Integers,
    bits: Bits,
    axes: tuple[int, int],
    product: Callable[[Integers, Integers, int], Array],
) -> Array:
    """Integers of so many bits -> the sums of their products that `product` (left, right, bits of one) makes.

    A sum of 53 bits is exact; a larger one is rounded once, one of 30-bit operands in a fixed order of its three parts.
    `axes` are an axis of the contraction in each.
    """
    if bits.product < EXACT_BITS:
        return product(left, right, bits.product)
    left_high, left_low = halves(left.all())
    right_high, right_low = halves(right.all())

    def exact(one: Array, other: Array) -> Array:
        return product(made(one), made(other), 2 * HALF_BITS)

    high, low = exact(left_high, right_high), exact(left_low, right_low)
    cross = lax.concatenate([left_high, left_low], axes[0]), lax.concatenate([right_low, right_high], axes[1])
    middle = exact(*cross)
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
    highs, lows = zip(*(halves_of_sums(part) for part in parts), strict=True)
    return join_of_sums(functools.reduce(lax.add, highs), functools.reduce(lax.add, lows))


def added_along(sums: Array, axis: int) -> Array:
    """Exact sums along an axis -> their sum, rounded once."""
    # Both halves in one reduction: XLA's CPU would fill whole arrays with 2^30 to give each to a kernel of its own.
    zeros = (np.float64(0), np.float64(0))
    high, low = lax.reduce(halves_of_sums(sums), zeros, lambda x, y: (x[0] + y[0], x[1] + y[1]), (axis,))
    return join_of_sums(high, low)


def halves_of_sums(sums: Array) -> tuple[Array, Array]:
    """Exact sums -> two parts of each that add up, for 2^22 of them, without rounding; see `join_of_sums`."""
    return halves(sums, _LOW_BITS)


def join_of_sums(high: Array, low: Array) -> Array:
    """What `halves_of_sums` parted, added up, rounded once."""
    return join(high, low, _LOW_BITS)


def block_product(left: Array, right: Array, product_bits: int, axes: tuple[int, int]) -> Array:
    """float64 integers [B, M, K] and [B, K, N] -> their products' sums over K, rounded once; float64 [B, M, N].

    `axes` say where K is in each, 1 or 2.
    """
    terms = left.shape[axes[0]]
    blocks = -(-terms // block_terms(product_bits))
    block = -(-terms // blocks)

    def product(one: Array, other: Array) -> Array:
        return lax.dot_general(one, other, (((axes[0],), (axes[1],)), ((0,), (0,))))

    def part(x: Array, axis: int, start: int) -> Array:
        return lax.slice_in_dim(x, start, min(start + block, terms), axis=axis)

    if blocks <= WRITTEN_OUT:
        starts = range(0, terms, block)
        return added([product(part(left, axes[0], at), part(right, axes[1], at)) for at in starts], block, product_bits)
    partial = product(_in_blocks(left, axes[0], blocks, block), _in_blocks(right, axes[1], blocks, block))
    return added_along(lax.reshape(partial, (left.shape[0], blocks, *partial.shape[1:])), 1)


def _in_blocks(x: Array, axis: int, blocks: int, block: int) -> Array:
    """[B, .., K, ..] -> [B · blocks, .., block, ..], filled up with zeros."""
    edges = [(0, blocks * block - x.shape[axis] if at == axis else 0, 0) for at in range(3)]
    padded = lax.pad(x, jnp.zeros((), x.dtype), edges)
    split = lax.reshape(padded, (*x.shape[:axis], blocks, block, *x.shape[axis + 1 :]))
    moved = lax.transpose(split, (0, axis, *(at for at in range(1, 4) if at != axis)))
    return lax.reshape(moved, (x.shape[0] * blocks, *moved.shape[2:]))


def _joined(x: Array, *groups: Sequence[int]) -> Array:
    """The axes of each group as one, in this order."""
    shape = [math.prod(x.shape[axis] for axis in group) for group in groups]
    return lax.reshape(lax.transpose(x, [axis for group in groups for axis in group]), shape)
