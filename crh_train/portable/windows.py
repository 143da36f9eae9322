"""Reductions over sliding windows, and both derivatives of max-pooling.

Sums are exact before one rounding. Their scale is shared along the axes on which windows do anything, so a pooling
keeps one for each sample and channel. Extremes compare ranks (`ranks`): NaN wins, and of zeros only +0 leaves.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend import core

from crh_train.portable.fences import flush
from crh_train.portable.fixed_point import at_scale, finite_largest, from_fixed, sum_bits, unit_of
from crh_train.portable.ranks import LOWEST, OUTSIDE, rank, unrank
from crh_train.portable.scope import Scope
from crh_train.portable.sums import combine, monoid, negated

Shape = tuple[int, ...]
Padding = tuple[tuple[int, int], ...]


class Window(NamedTuple):
    """What jax's window primitives have for each axis."""

    dimensions: Shape
    strides: Shape
    padding: Padding
    base_dilation: Shape
    dilation: Shape


def reduce_window_sum(
    scope: Scope,
    operand: Array,
    *,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Array:
    """Each window's sum, exact for operand rounded to 52 - ⌈log2 n⌉ bits below the largest that shares its scale, n
    elements a window; NaN where a window has something not finite.
    """
    window = Window(window_dimensions, window_strides, padding, base_dilation, window_dilation)
    if jnp.issubdtype(operand.dtype, jnp.complexfloating):
        return lax.complex(*(_window_sum(part, window) for part in (lax.real(operand), lax.imag(operand))))
    return _window_sum(operand, window)


def reduce_window_max(
    scope: Scope,
    operand: Array,
    *,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Array:
    """Minus infinity, or the least integer, where a window lies outside."""
    window = Window(window_dimensions, window_strides, padding, base_dilation, window_dilation)
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        return _bind(lax.reduce_window_max_p, operand, window)
    greatest = _bind(lax.reduce_window_max_p, rank(operand), window)
    return unrank(lax.max(greatest, lax.full_like(greatest, LOWEST)))


def reduce_window_min(
    scope: Scope,
    operand: Array,
    *,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Array:
    """Infinity, or the greatest integer, where a window lies outside."""
    window = Window(window_dimensions, window_strides, padding, base_dilation, window_dilation)
    if not jnp.issubdtype(operand.dtype, jnp.floating):
        return _bind(lax.reduce_window_min_p, operand, window)
    greatest = _bind(lax.reduce_window_max_p, rank(lax.neg(operand)), window)
    return negated(unrank(lax.max(greatest, lax.full_like(greatest, LOWEST))))


def reduce_window(
    scope: Scope,
    *operands: Array,
    jaxpr: core.Jaxpr,
    consts: Sequence[Any],
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> list[Array]:
    """`lax.reduce_window` of one array by one addition, maximum or minimum.

    Each window's result, then once more with the initial value; as in XLA's CPU, padding adds nothing. Any other
    computation raises `NotImplementedError`; `consts` belong to those.
    """
    combination = monoid("reduce_window", jaxpr, len(operands))
    rules = {"add": reduce_window_sum, "max": reduce_window_max, "min": reduce_window_min}
    if combination not in rules:
        raise NotImplementedError(f"reduce_window by {combination}: expected one of {list(rules)}; use lax.scan")
    operand, initial = operands
    reduced = rules[combination](
        scope,
        operand,
        window_dimensions=window_dimensions,
        window_strides=window_strides,
        padding=padding,
        base_dilation=base_dilation,
        window_dilation=window_dilation,
    )
    return [combine(combination, reduced, lax.broadcast(initial, reduced.shape))]


def select_and_scatter_add(
    scope: Scope,
    source: Array,
    operand: Array,
    *,
    select_prim: core.Primitive,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
) -> Array:
    """The transpose of max-pooling ('ge') or min-pooling ('le'): each element of the source goes to the first extreme
    of its window (the first NaN, if there is one); it is dropped where the window lies outside.

    What meets in one place is summed exactly, source rounded to 52 - ⌈log2 n⌉ bits, with n windows over a place at
    most. Windows that do not overlap move it unchanged.
    """
    once = (1,) * operand.ndim
    window = Window(window_dimensions, window_strides, padding, once, once)
    overlap = math.prod(-(-size // stride) for size, stride in zip(window_dimensions, window_strides, strict=True))
    if source.size == 0 or overlap == 1:
        return flush(_scatter_selected(source, operand, select_prim, window))
    unit = unit_of(finite_largest(source, _shared_axes(window)), sum_bits(overlap))
    return from_fixed(_scatter_selected(at_scale(source, unit), operand, select_prim, window), unit)


def select_and_gather_add(
    scope: Scope,
    tangents: Array,
    operand: Array,
    *,
    select_prim: core.Primitive,
    window_dimensions: Shape,
    window_strides: Shape,
    padding: Padding,
    base_dilation: Shape,
    window_dilation: Shape,
) -> Array:
    """The tangent at the element that `select_and_scatter_add` selects; 0 where the window lies outside."""
    window = Window(window_dimensions, window_strides, padding, base_dilation, window_dilation)
    padded = _with_edges(tangents, np.float32(0), window)
    selected = lax.full(_output_shape(operand.shape, window), 0, jnp.float32)
    for chosen, offset in _selections(operand, select_prim, window):
        selected = lax.select(chosen, _at_offset(padded, offset, window, selected.shape), selected)
    return flush(selected)


def _window_sum(operand: Array, window: Window) -> Array:
    if not jnp.issubdtype(operand.dtype, jnp.floating) or operand.size == 0:
        return _bind(lax.reduce_window_sum_p, operand, window)
    unit = unit_of(finite_largest(operand, _shared_axes(window)), sum_bits(math.prod(window.dimensions)))
    return from_fixed(_bind(lax.reduce_window_sum_p, at_scale(operand, unit), window), unit)


def _bind(primitive: core.Primitive, operand: Array, window: Window) -> Array:
    reduced: Array = primitive.bind(
        operand,
        window_dimensions=window.dimensions,
        window_strides=window.strides,
        padding=window.padding,
        base_dilation=window.base_dilation,
        window_dilation=window.dilation,
    )
    return reduced


def _shared_axes(window: Window) -> Shape:
    """The axes along which an element of the output is not one of the operand at the same place."""
    axes = zip(*window, strict=True)
    return tuple(number for number, axis in enumerate(axes) if axis[:4] != (1, 1, (0, 0), 1))


def _scatter_selected(terms: Array, operand: Array, select_prim: core.Primitive, window: Window) -> Array:
    total = lax.full(operand.shape, 0, terms.dtype)
    for chosen, offset in _selections(operand, select_prim, window):
        here = lax.select(chosen, terms, lax.full_like(terms, 0))
        edges = []
        for axis, (low, _) in enumerate(window.padding):
            reach = (terms.shape[axis] - 1) * window.strides[axis] + 1
            before = offset[axis] - low
            edges.append((before, operand.shape[axis] - before - reach, window.strides[axis] - 1))
        total = lax.add(total, lax.pad(here, lax.full((), 0, here.dtype), edges))
    return total


def _selections(operand: Array, select_prim: core.Primitive, window: Window) -> Iterator[tuple[Array, Shape]]:
    """For each offset in a window, in row-major order: the windows whose first extreme is there, as bool; and it."""
    shape = _output_shape(operand.shape, window)
    ranks = _with_edges(rank(operand if select_prim.name == "ge" else lax.neg(operand)), OUTSIDE, window)
    greatest, chosen = lax.full(shape, OUTSIDE), lax.full(shape, np.int32(-1))
    offsets = list(itertools.product(*(range(size) for size in window.dimensions)))
    offsets = [tuple(np.multiply(place, window.dilation).tolist()) for place in offsets]
    for number, offset in enumerate(offsets):
        here = _at_offset(ranks, offset, window, shape)
        chosen = lax.select(lax.gt(here, greatest), lax.full_like(chosen, number), chosen)
        greatest = lax.max(here, greatest)
    for number, offset in enumerate(offsets):
        yield lax.eq(chosen, lax.full_like(chosen, number)), offset


def _with_edges(x: Array, value: np.number[Any], window: Window) -> Array:
    """x with its padding and its dilation filled by a value."""
    edges = [(low, high, hole - 1) for (low, high), hole in zip(window.padding, window.base_dilation, strict=True)]
    return lax.pad(x, lax.full((), value, x.dtype), edges)


def _at_offset(padded: Array, offset: Shape, window: Window, shape: Shape) -> Array:
    """Of each window the element at this offset."""
    stops = [start + (size - 1) * stride + 1 for start, size, stride in zip(offset, shape, window.strides, strict=True)]
    return lax.slice(padded, offset, stops, window.strides)


def _output_shape(shape: Shape, window: Window) -> Shape:
    sizes = []
    for size, (width, stride, (low, high), hole, dilation) in zip(shape, zip(*window, strict=True), strict=True):
        padded = low + max((size - 1) * hole + 1, 0) + high
        sizes.append(max((padded - (width - 1) * dilation - 1) // stride + 1, 0))
    return tuple(sizes)
