"""Scatters: elements that indices name are added to, multiplied, bounded or overwritten by updates, in every mode.

Sums are exact and extremes compare ranks, so that it does not matter in which order the updates of one element arrive;
where they overwrite one another the last one stays. Overwriting moves bits; all else is arithmetic, so that denormals
count as zero also in elements that no index names. The promises `unique_indices` and `indices_are_sorted` are not
passed on: broken, they would give each machine its own bits.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend import core

from crh_train.portable.fences import CANONICAL_NAN, canonical, flush, narrow, widen
from crh_train.portable.fixed_point import at_scale, finite_largest, is_finite_sum, sum_bits, unit_of
from crh_train.portable.ranks import rank, unrank
from crh_train.portable.scope import Scope
from crh_train.portable.storage import from_image, to_image

_HALF_WORD = 32
_UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def scatter_add(
    scope: Scope,
    operand: Array,
    indices: Array,
    updates: Array,
    *,
    update_jaxpr: core.Jaxpr,
    update_consts: tuple[Any, ...],
    dimension_numbers: lax.ScatterDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: lax.GatherScatterMode,
) -> Array:
    """operand + the sum of an element's updates, which are rounded to 52 - ⌈log2 n⌉ bits below the largest of all
    finite ones, n updates an element at most, and added exactly; that sum is added in float64 and rounded to float32.

    An element whose updates are none, or cancel, stays what it is; one with an update that is not finite becomes NaN.
    `update_jaxpr` says no more than the primitive's name.
    """
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        parts = (_add(part(operand), indices, part(updates), dimension_numbers, mode) for part in (lax.real, lax.imag))
        return lax.complex(*parts)
    return _add(operand, indices, updates, dimension_numbers, mode)


def scatter_sub(scope: Scope, operand: Array, indices: Array, updates: Array, **params: Any) -> Array:
    """`scatter_add` of the negated updates."""
    return scatter_add(scope, operand, indices, lax.neg(updates), **params)


def scatter_mul(
    scope: Scope,
    operand: Array,
    indices: Array,
    updates: Array,
    *,
    update_jaxpr: core.Jaxpr,
    update_consts: tuple[Any, ...],
    dimension_numbers: lax.ScatterDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: lax.GatherScatterMode,
) -> Array:
    """operand · its update, rounded and flushed, where floats have one update an element at most.

    Raises `NotImplementedError` for floats when `unique_indices` is not promised: products have no order of their own.
    """
    if not jnp.issubdtype(operand.dtype, jnp.inexact):
        return lax.scatter_mul(operand, indices, updates, dimension_numbers, mode=mode)
    if not jnp.issubdtype(operand.dtype, jnp.floating) or not (unique_indices or _once(indices, dimension_numbers)):
        raise NotImplementedError(
            f"scatter-mul of {operand.dtype} whose indices may repeat: expected float32 with unique_indices=True; "
            "promise that, or add logarithms"
        )
    factors = _overwrite(lax.full_like(operand, 1), indices, updates, dimension_numbers, mode)
    return flush(lax.mul(operand, factors))


def scatter_max(
    scope: Scope,
    operand: Array,
    indices: Array,
    updates: Array,
    *,
    update_jaxpr: core.Jaxpr,
    update_consts: tuple[Any, ...],
    dimension_numbers: lax.ScatterDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: lax.GatherScatterMode,
) -> Array:
    """The greatest of operand and updates; NaN wins, and an element that nothing exceeds stays what it is."""
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        raise NotImplementedError(f"scatter-max of {operand.dtype}: work on the real and the imaginary part")
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        return lax.scatter_max(operand, indices, updates, dimension_numbers, mode=mode)
    before = rank(operand)
    after = lax.scatter_max(before, indices, rank(updates), dimension_numbers, mode=mode)
    return lax.select(lax.eq(before, after), operand, unrank(after))


def scatter_min(
    scope: Scope,
    operand: Array,
    indices: Array,
    updates: Array,
    *,
    update_jaxpr: core.Jaxpr,
    update_consts: tuple[Any, ...],
    dimension_numbers: lax.ScatterDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: lax.GatherScatterMode,
) -> Array:
    """The least of operand and updates; NaN wins, and an element that nothing undercuts stays what it is."""
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        raise NotImplementedError(f"scatter-min of {operand.dtype}: work on the real and the imaginary part")
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        return lax.scatter_min(operand, indices, updates, dimension_numbers, mode=mode)
    before = rank(lax.neg(operand))
    after = lax.scatter_max(before, indices, rank(lax.neg(updates)), dimension_numbers, mode=mode)
    return lax.select(lax.eq(before, after), operand, unrank(-after))


def scatter(
    scope: Scope,
    operand: Array,
    indices: Array,
    updates: Array,
    *,
    update_jaxpr: core.Jaxpr | None,
    update_consts: tuple[Any, ...],
    dimension_numbers: lax.ScatterDimensionNumbers,
    indices_are_sorted: bool,
    unique_indices: bool,
    mode: lax.GatherScatterMode,
) -> Array:
    """Of the updates of an element the last stays, in row-major order of the indices; XLA leaves open which. Every
    element has the bits of what it is, denormals and NaNs too.

    Raises `NotImplementedError` for `lax.scatter_apply`, which applies a function once for each time an index occurs.
    """
    if update_jaxpr is not None:
        raise NotImplementedError(
            f"scatter that applies {update_jaxpr} to elements: write x.at[indices].set(f(x[indices])) instead"
        )
    return _overwrite(operand, indices, updates, dimension_numbers, mode)


def _add(
    operand: Array,
    indices: Array,
    updates: Array,
    dimension_numbers: lax.ScatterDimensionNumbers,
    mode: lax.GatherScatterMode,
) -> Array:
    if not jnp.issubdtype(operand.dtype, jnp.floating) or updates.size == 0:
        return lax.scatter_add(operand, indices, updates, dimension_numbers, mode=mode)
    bits = sum_bits(_repetitions(indices, dimension_numbers))
    unit = unit_of(finite_largest(updates, tuple(range(updates.ndim))), bits)
    integers = at_scale(updates, unit)
    nothing = lax.full(operand.shape, 0, jnp.float64)
    sums = lax.scatter_add(nothing, indices, integers, dimension_numbers, mode=mode)
    unit = lax.broadcast(lax.reshape(unit, ()), operand.shape)
    # The product is exact, so contracting it with the addition changes nothing.
    total = canonical(narrow(lax.add(widen(operand), lax.mul(sums, unit))))
    nan = lax.full_like(total, lax.bitcast_convert_type(CANONICAL_NAN, jnp.float32))
    unchanged = lax.eq(sums, lax.full_like(sums, 0))
    return lax.select(unchanged, operand, lax.select(is_finite_sum(sums), total, nan))


def _overwrite(
    operand: Array,
    indices: Array,
    updates: Array,
    dimension_numbers: lax.ScatterDimensionNumbers,
    mode: lax.GatherScatterMode,
) -> Array:
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        parts = (
            _overwrite(part(operand), indices, part(updates), dimension_numbers, mode) for part in (lax.real, lax.imag)
        )
        return lax.complex(*parts)
    dtype, operand, updates = operand.dtype, to_image(operand), to_image(updates)
    if _once(indices, dimension_numbers) or updates.size == 0:
        return from_image(lax.scatter(operand, indices, updates, dimension_numbers, mode=mode), dtype)
    words = _to_words(updates)
    # The latest update is the greatest of words that have its position above its bits; 0 says that there is none.
    batch = indices.shape[:-1]
    positions = lax.reshape(lax.iota(jnp.uint64, math.prod(batch)), batch) + np.uint64(1)
    axes = [axis for axis in range(updates.ndim) if axis not in dimension_numbers.update_window_dims]
    positions = lax.broadcast_in_dim(positions, updates.shape, axes)
    dated = lax.shift_left(positions, lax.full_like(positions, _HALF_WORD)) | words
    nothing = lax.full(operand.shape, 0, jnp.uint64)
    latest = lax.scatter_max(nothing, indices, dated, dimension_numbers, mode=mode)
    return from_image(lax.select(lax.eq(latest, nothing), operand, _from_words(latest, operand.dtype)), dtype)


def _to_words(x: Array) -> Array:
    """At most 32 bits -> uint64, the lower half of which they are."""
    if x.dtype.itemsize > _HALF_WORD // 8 or jnp.issubdtype(x.dtype, jax.dtypes.extended):
        raise NotImplementedError(f"scatter of {x.dtype} whose indices may repeat: expected at most 32 bits an element")
    if x.dtype != jnp.bool_:
        x = lax.bitcast_convert_type(x, _UNSIGNED[x.dtype.itemsize])
    return lax.convert_element_type(x, jnp.uint64)


def _from_words(words: Array, dtype: np.dtype[Any]) -> Array:
    if dtype == jnp.bool_:
        return lax.ne(words & np.uint64(1), lax.full_like(words, 0))
    mask = np.uint64(2 ** (8 * dtype.itemsize) - 1)
    return lax.bitcast_convert_type(lax.convert_element_type(words & mask, _UNSIGNED[dtype.itemsize]), dtype)


def _once(indices: Array, dimension_numbers: lax.ScatterDimensionNumbers) -> bool:
    return _repetitions(indices, dimension_numbers) <= 1


def _repetitions(indices: Array, dimension_numbers: lax.ScatterDimensionNumbers) -> int:
    """How often an element may be updated: the number of indices for one place along the batching dimensions."""
    batching = dimension_numbers.scatter_indices_batching_dims
    return math.prod(size for axis, size in enumerate(indices.shape[:-1]) if axis not in batching)
