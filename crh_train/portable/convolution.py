"""Convolutions: the exact sums of `contraction`, over a window.

**Value.** As a contraction of K = (taps of the kernel) · (input features of a group) terms, with one scale for each
index of the left operand's batch and one for each output feature of the kernel; see `contraction` for B and the bound.
The gradient with respect to a kernel is in JAX a convolution whose batch is the input's features, so there the scale
is one a channel.

**Lowering.** `convolution_lowerings`.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.contraction import integer_product, operand_bits
from crh_train.portable.convolution_lowerings import Window, forward_sums, gradient_sums
from crh_train.portable.fixed_point import from_fixed, largest, scaled, unit_of
from crh_train.portable.scope import Scope


def conv_general_dilated(
    scope: Scope,
    lhs: Array,
    rhs: Array,
    *,
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    dimension_numbers: lax.ConvDimensionNumbers,
    feature_group_count: int,
    batch_group_count: int,
    **_: Any,
) -> Array:
    """`lax.conv_general_dilated` of clean float32 arrays; see above.

    What shares a scale with a number that is not finite is NaN.

    `precision` and `preferred_element_type` (of the rest of the parameters) choose roundings that are replaced here.
    """
    numbers = dimension_numbers
    if not window_strides:  # a product of matrices
        expanded = lax.ConvDimensionNumbers(*((*spec, 2) for spec in numbers))
        result = conv_general_dilated(
            scope,
            lax.expand_dims(lhs, (2,)),
            lax.expand_dims(rhs, (2,)),
            window_strides=(1,),
            padding=((0, 0),),
            lhs_dilation=(1,),
            rhs_dilation=(1,),
            dimension_numbers=expanded,
            feature_group_count=feature_group_count,
            batch_group_count=batch_group_count,
        )
        return lax.squeeze(result, (2,))
    spatial = [lhs.shape[axis] for axis in numbers.lhs_spec[2:]]
    taps = tuple(rhs.shape[axis] for axis in numbers.rhs_spec[2:])
    padded = [
        low + high + max((size - 1) * step + 1, 0)
        for (low, high), size, step in zip(padding, spatial, lhs_dilation, strict=True)
    ]
    output = tuple(
        max(0, (size - (tap - 1) * step - 1) // stride + 1)
        for size, tap, step, stride in zip(padded, taps, rhs_dilation, window_strides, strict=True)
    )
    if 0 in (*lhs.shape, *rhs.shape, *output):
        sizes = (lhs.shape[numbers.lhs_spec[0]] // batch_group_count, rhs.shape[numbers.rhs_spec[0]], *output)
        return lax.full([sizes[numbers.out_spec.index(axis)] for axis in range(len(sizes))], 0, jnp.float32)
    edges = tuple((*pair, step - 1) for pair, step in zip(padding, lhs_dilation, strict=True))
    window = Window(output, taps, tuple(window_strides), tuple(rhs_dilation), edges)
    # What is contracted comes first or last, so that the usual layouts (features last) need no transposition. One that
    # another takes back is not for free either: XLA's CPU has slow reductions for what it saw transposed.
    rows, columns = (_batch_last, _batch_last) if window.by_position else (_features_last, _kernel)
    left = _grouped(lhs, numbers.lhs_spec, batch_group_count, feature_group_count, rows)
    right = _grouped(rhs, numbers.rhs_spec, batch_group_count * feature_group_count, 1, columns)
    return _arranged(_convolve(scope, left, right, window), numbers.out_spec)


def _convolve(scope: Scope, left: Array, right: Array, window: Window) -> Array:
    """[G, N, *spatial, I] and [G, *taps, I, O] -> [G, N, *output, O]; by position, [G, I, *spatial, N] and
    [G, I, *taps, O].
    """
    rank = len(window.output)
    if window.by_position:
        batch_axis, inputs_axes, sums = rank + 2, (1, 1), gradient_sums
    else:
        batch_axis, inputs_axes, sums = 1, (rank + 2, rank + 1), forward_sums
    bits = operand_bits(scope.accuracy, right.shape[inputs_axes[1]] * math.prod(window.taps))
    left_unit = _unit(left, [axis for axis in range(1, left.ndim) if axis != batch_axis], bits.left)
    right_unit = _unit(right, range(1, right.ndim - 1), bits.right)
    total = integer_product(
        scaled(left, left_unit),
        scaled(right, right_unit),
        bits,
        inputs_axes,
        functools.partial(sums, window=window),
    )
    by_batch = lax.reshape(left_unit, (left.shape[0], left.shape[batch_axis], *(1,) * (rank + 1)))
    return from_fixed(total, by_batch, right_unit)


def _unit(x: Array, axes: Sequence[int], bits: int) -> Array:
    return unit_of(lax.expand_dims(largest(x, tuple(axes)), axes), bits)


def _grouped(
    x: Array, spec: Sequence[int], batch_groups: int, feature_groups: int, order: Callable[[int], Sequence[int]]
) -> Array:
    """The groups first, then batch, features and space, of which `spec` says where they are, in an order."""
    batch, features, *space = spec
    chosen = order(len(space))
    if batch_groups * feature_groups == 1:
        return lax.expand_dims(lax.transpose(x, [spec[at] for at in chosen]), (0,))
    moved = lax.transpose(x, (batch, features, *space))
    split_shape = (batch_groups, x.shape[batch] // batch_groups, feature_groups, x.shape[features] // feature_groups)
    parts = lax.reshape(moved, (*split_shape, *moved.shape[2:]))
    ordered = lax.transpose(parts, (0, 2, 1, 3, *range(4, parts.ndim)))
    joined = lax.reshape(ordered, (batch_groups * feature_groups, *ordered.shape[2:]))
    return lax.transpose(joined, (0, *(1 + at for at in chosen)))


def _arranged(x: Array, spec: Sequence[int]) -> Array:
    """[G, N, *spatial, O] -> as `spec` says, the groups side by side in the features."""
    groups, *sizes, features = x.shape
    if groups > 1:
        x = lax.transpose(x, (*range(1, x.ndim - 1), 0, x.ndim - 1))
    return lax.transpose(lax.reshape(x, (*sizes, groups * features)), np.argsort((spec[0], *spec[2:], spec[1])))


def _features_last(rank: int) -> Sequence[int]:
    return (0, *range(2, 2 + rank), 1)


def _batch_last(rank: int) -> Sequence[int]:
    return (1, *range(2, 2 + rank), 0)


def _kernel(rank: int) -> Sequence[int]:
    return (*range(2, 2 + rank), 1, 0)
