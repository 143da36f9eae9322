"""Sums and extremes over the devices of a `shard_map`, with the values that one device would give.

A collective over an axis of `vmap` comes here with that axis's number, and is a reduction of each device's part.
"""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from crh_train.portable.fences import flush
from crh_train.portable.fixed_point import at_scale, from_fixed, largest, sum_bits, unit_of
from crh_train.portable.ranks import rank, unrank
from crh_train.portable.scope import Scope
from crh_train.portable.sums import reduce_max, reduce_min, reduce_sum


def psum(scope: Scope, x: Array, *, axes: tuple[Any, ...], axis_index_groups: Any = None) -> Array:
    """An exact sum as `fixed_point.exact_sum`'s, with one scale for each element over the devices."""
    x, axes = _mapped(scope, x, axes, axis_index_groups, reduce_sum)
    if not axes:
        return x
    if jnp.issubdtype(x.dtype, jnp.floating):
        return _sum(x, axes)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        raise NotImplementedError(f"a sum over devices of {x.dtype}")
    return _total(x, axes)


def pmax(scope: Scope, x: Array, *, axes: tuple[Any, ...], axis_index_groups: Any = None) -> Array:
    """The largest over the devices; NaN wins."""
    x, axes = _mapped(scope, x, axes, axis_index_groups, reduce_max)
    if not axes:
        return x
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return _most(x, axes)
    return flush(unrank(_most(rank(x), axes)))


def pmin(scope: Scope, x: Array, *, axes: tuple[Any, ...], axis_index_groups: Any = None) -> Array:
    """The smallest over the devices; NaN wins."""
    x, axes = _mapped(scope, x, axes, axis_index_groups, reduce_min)
    if not axes:
        return x
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return lax.bitwise_not(_most(lax.bitwise_not(x), axes))
    return flush(lax.neg(unrank(_most(rank(lax.neg(x)), axes))))


def _mapped(
    scope: Scope, x: Array, axes: tuple[Any, ...], groups: Any, reduction: Callable[..., Array]
) -> tuple[Array, tuple[str, ...]]:
    """x reduced over the axes that are numbers, and the names of the others."""
    if groups is not None:
        raise NotImplementedError("it is over groups of devices; take all the devices of a named axis")
    numbers = tuple(axis for axis in axes if isinstance(axis, int))
    names = tuple(axis for axis in axes if not isinstance(axis, int))
    return reduction(scope, x, axes=numbers) if numbers else x, names


def _sum(x: Array, axes: tuple[str, ...]) -> Array:
    bits = sum_bits(math.prod(lax.axis_size(axis) for axis in axes))
    unit = unit_of(_most(largest(x, ()), axes), bits)
    return from_fixed(_total(at_scale(x, unit), axes), unit)


def _total(x: Array, axes: tuple[Any, ...]) -> Array:
    total: Array = lax.psum(x, axes)
    return total


def _most(x: Array, axes: tuple[Any, ...]) -> Array:
    most: Array = lax.pmax(x, axes)
    return most
