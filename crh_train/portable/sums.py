"""Reductions and running reductions over axes: sums, products, extremes and their positions.

Sums are exact before one rounding (`fixed_point`). Products have a fixed order. Extremes compare ranks (`ranks`), and
NaN wins. Of zeros only +0 leaves. `cumlogsumexp` has no rule: write it from `exp`, `cumsum` and `log`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.extend import core

from crh_train.portable.fences import CANONICAL_NAN, flush, is_nan
from crh_train.portable.fixed_point import at_scale, exact_sum, finite_largest, from_fixed, sum_bits, unit_of
from crh_train.portable.ranks import rank, unrank
from crh_train.portable.scope import Scope

_EXPONENT_BIAS = 127
_FRACTION_BITS = 23


def reduce_sum(scope: Scope, operand: Array, *, axes: tuple[int, ...], out_sharding: object = None) -> Array:
    """`exact_sum`: any term that is not finite makes the sum NaN."""
    _automatic(out_sharding)
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        return lax.complex(exact_sum(lax.real(operand), axes), exact_sum(lax.imag(operand), axes))
    if jnp.issubdtype(operand.dtype, jnp.floating):
        return exact_sum(operand, axes)
    return lax.reduce_sum(operand, axes)


def cumsum(scope: Scope, operand: Array, *, axis: int, reverse: bool) -> Array:
    """Each prefix as `reduce_sum` of it, at the scale of the whole axis; NaN from the first that is not finite on."""
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        real, imaginary = (cumsum(scope, part(operand), axis=axis, reverse=reverse) for part in (lax.real, lax.imag))
        return lax.complex(real, imaginary)
    if not jnp.issubdtype(operand.dtype, jnp.floating) or operand.size == 0:
        return lax.cumsum(operand, axis, reverse)
    unit = unit_of(finite_largest(operand, (axis,)), sum_bits(operand.shape[axis]))
    return from_fixed(lax.cumsum(at_scale(operand, unit), axis, reverse), unit)


def reduce_prod(scope: Scope, operand: Array, *, axes: tuple[int, ...], out_sharding: object = None) -> Array:
    """Product along `axes` in row-major order as a binary tree: element i by element i + 2^k, k from the highest down.

    The axis is first lengthened by ones to a power of two. Each product is rounded and flushed.
    """
    _automatic(out_sharding)
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        _no_complex("reduce_prod", operand)
        return lax.reduce_prod(operand, axes)
    kept = [axis for axis in range(operand.ndim) if axis not in axes]
    shape = [operand.shape[axis] for axis in kept]
    count = math.prod(operand.shape[axis] for axis in axes)
    width = 1 << max(count - 1, 0).bit_length()
    factors = lax.reshape(lax.transpose(operand, (*kept, *sorted(axes))), (*shape, count))
    product = _extend(factors, len(shape), 0, width - count)
    while width > 1:
        width //= 2
        low, high = (lax.slice_in_dim(product, start, start + width, axis=-1) for start in (0, width))
        product = flush(lax.mul(low, high))
    return flush(lax.squeeze(product, (len(shape),)))


def cumprod(scope: Scope, operand: Array, *, axis: int, reverse: bool) -> Array:
    """Running product in steps: in step k = 1, 2, 4, … element i is multiplied by element i - k (Hillis and Steele).

    Each product is rounded and flushed.
    """
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        _no_complex("cumprod", operand)
        return lax.cumprod(operand, axis, reverse)
    product = flush(lax.rev(operand, (axis,)) if reverse else operand)
    step = 1
    while step < operand.shape[axis]:
        product = flush(lax.mul(product, _extend(product, axis, step, -step)))
        step *= 2
    return lax.rev(product, (axis,)) if reverse else product


def reduce_max(scope: Scope, operand: Array, *, axes: tuple[int, ...], out_sharding: object = None) -> Array:
    _automatic(out_sharding)
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        _no_complex("reduce_max", operand)
        return lax.reduce_max(operand, axes)
    # Ranks would do, but XLA's CPU has a fast kernel for floats alone. Where the operand has a NaN its maximum differs
    # between machines; this sum is NaN just there, in any order: terms are not negative and do not overflow.
    has_nan = is_nan(lax.reduce_sum(lax.mul(lax.abs(operand), lax.full_like(operand, 2.0**-40)), axes))
    greatest = flush(lax.reduce_max(operand, axes))
    return lax.select(has_nan, lax.full_like(greatest, lax.bitcast_convert_type(CANONICAL_NAN, jnp.float32)), greatest)


def reduce_min(scope: Scope, operand: Array, *, axes: tuple[int, ...], out_sharding: object = None) -> Array:
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        _automatic(out_sharding)
        _no_complex("reduce_min", operand)
        return lax.reduce_min(operand, axes)
    return negated(reduce_max(scope, lax.neg(operand), axes=axes, out_sharding=out_sharding))


def cummax(scope: Scope, operand: Array, *, axis: int, reverse: bool) -> Array:
    """NaN from the first NaN on."""
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        _no_complex("cummax", operand)
        return lax.cummax(operand, axis, reverse)
    return unrank(lax.cummax(rank(operand), axis, reverse))


def cummin(scope: Scope, operand: Array, *, axis: int, reverse: bool) -> Array:
    """NaN from the first NaN on."""
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        _no_complex("cummin", operand)
        return lax.cummin(operand, axis, reverse)
    return negated(cummax(scope, lax.neg(operand), axis=axis, reverse=reverse))


def argmax(scope: Scope, operand: Array, *, axes: tuple[int, ...], index_dtype: Any) -> Array:
    """The first NaN, or the first of the greatest; the zeros are equal."""
    (axis,) = axes
    return lax.argmax(_comparable("argmax", operand), axis, index_dtype)


def argmin(scope: Scope, operand: Array, *, axes: tuple[int, ...], index_dtype: Any) -> Array:
    """The first NaN, or the first of the least; the zeros are equal."""
    (axis,) = axes
    if jnp.issubdtype(operand.dtype, jnp.floating):
        return lax.argmax(rank(lax.neg(operand)), axis, index_dtype)
    return lax.argmin(_comparable("argmin", operand), axis, index_dtype)


def reduce_precision(scope: Scope, operand: Array, *, exponent_bits: int, mantissa_bits: int) -> Array:
    """Rounded to nearest even to a float of so many bits, by integers.

    What that format cannot hold becomes infinity, or +0 below its smallest normal number.
    """
    bits = lax.bitcast_convert_type(operand, jnp.int32)

    def constant(value: int) -> Array:
        return lax.full_like(bits, value)

    dropped = _FRACTION_BITS - mantissa_bits
    magnitude = bits & constant(0x7FFFFFFF)
    if dropped > 0:
        odd = lax.shift_right_logical(magnitude, constant(dropped)) & constant(1)
        magnitude = (magnitude + odd + constant((1 << (dropped - 1)) - 1)) & constant(-1 << dropped)
    field = lax.shift_right_logical(magnitude, constant(_FRACTION_BITS))
    largest_field = (1 << (exponent_bits - 1)) - 1
    magnitude = lax.select(lax.gt(field, constant(_EXPONENT_BIAS + largest_field)), constant(0x7F800000), magnitude)
    magnitude = lax.select(lax.le(field, constant(_EXPONENT_BIAS - largest_field)), constant(0), magnitude)
    rounded = lax.bitcast_convert_type(magnitude | (bits & constant(-(2**31))), jnp.float32)
    return lax.select(is_nan(operand), operand, flush(rounded))


def reduce(
    scope: Scope,
    *operands: Array,
    computation: Callable[..., Any],
    jaxpr: core.ClosedJaxpr,
    dimensions: tuple[int, ...],
) -> list[Array]:
    """`lax.reduce` of one array by one addition, multiplication, maximum or minimum; and, or and xor of integers.

    The reduction as its own primitive defines it, then once more with the initial value. `computation` is `jaxpr`
    before it was traced. Another computation has no order of its own and raises `NotImplementedError`.
    """
    combination = monoid("reduce", jaxpr.jaxpr, len(operands))
    operand, initial = operands
    initial = lax.broadcast(initial, [size for axis, size in enumerate(operand.shape) if axis not in dimensions])
    if combination in _BITWISE:
        reduced = _BITWISE[combination](operand, dimensions)
    else:
        reduced = _REDUCTIONS[combination](scope, operand, axes=dimensions, out_sharding=None)
    return [combine(combination, reduced, initial)]


def monoid(primitive: str, jaxpr: core.Jaxpr, operands: int) -> str:
    """The name of the one primitive that a reduction's computation consists of; else raises `NotImplementedError`."""
    names = [equation.primitive.name for equation in jaxpr.eqns]
    if operands == 2 and len(names) == 1 and names[0] in (*_REDUCTIONS, *_BITWISE):
        (equation,) = jaxpr.eqns
        if equation.invars in (jaxpr.invars, jaxpr.invars[::-1]) and jaxpr.outvars == equation.outvars:
            return names[0]
    raise NotImplementedError(
        f"{primitive} of {operands // 2} arrays by {names}: expected one array and one of "
        f"{[*_REDUCTIONS, *_BITWISE]}; reduce with those, or in an order of your own with lax.scan"
    )


def combine(combination: str, left: Array, right: Array) -> Array:
    """One more application of a reduction's computation, elementwise and flushed."""
    if not jnp.issubdtype(left.dtype, jnp.floating):
        return _ELEMENTWISE[combination](left, right)
    if combination == "max":
        return unrank(lax.max(rank(left), rank(right)))
    if combination == "min":
        return negated(unrank(lax.max(rank(lax.neg(left)), rank(lax.neg(right)))))
    return flush(_ELEMENTWISE[combination](left, right))


def negated(x: Array) -> Array:
    """float32 -> -x with +0 for zero and the canonical NaN, as a maximum of negated numbers becomes a minimum."""
    return unrank(-rank(x))


def _extend(x: Array, axis: int, before: int, after: int) -> Array:
    """x with so many ones at both ends of `axis`, or fewer elements where negative."""
    edges = [(before, after, 0) if other == axis else (0, 0, 0) for other in range(x.ndim)]
    return lax.pad(x, lax.full((), 1, x.dtype), edges)


def _comparable(primitive: str, x: Array) -> Array:
    _no_complex(primitive, x)
    return rank(x) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _no_complex(primitive: str, x: Array) -> None:
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise NotImplementedError(f"{primitive} of {x.dtype}: work on the real and the imaginary part")


def _automatic(out_sharding: object) -> None:
    if out_sharding is not None:
        raise NotImplementedError(f"out_sharding={out_sharding} of a reduction: use automatic sharding")


_REDUCTIONS = {"add": reduce_sum, "mul": reduce_prod, "max": reduce_max, "min": reduce_min}
_BITWISE = {"and": lax.reduce_and, "or": lax.reduce_or, "xor": lax.reduce_xor}
_ELEMENTWISE = {
    "add": lax.add,
    "mul": lax.mul,
    "max": lax.max,
    "min": lax.min,
    "and": lax.bitwise_and,
    "or": lax.bitwise_or,
    "xor": lax.bitwise_xor,
}
