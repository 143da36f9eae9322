"""Convolutions: the exact sums of `contraction`, over a window.

**Value.** As a contraction of K = (taps of the kernel) · (input features of a group) terms, with one scale for each
index of the left operand's batch and one for each output feature of the kernel; see `contraction` for B and the bound.
The gradient with respect to a kernel is in JAX a convolution whose batch is the input's features, so there the scale
is one a channel.

**Lowering.** `convolution_lowerings`.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.contraction import integer_product, operand_bits, to_units, unit
from crh_train.portable.convolution_lowerings import Window, forward_sums, gradient_sums
from crh_train.portable.fixed_point import scaled, shared_exponent
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
    numbers, groups = dimension_numbers, batch_group_count * feature_group_count
    left = _grouped(lhs, numbers.lhs_spec, batch_group_count, feature_group_count)
    right = _grouped(rhs, numbers.rhs_spec, groups, 1)
    taps, spatial = right.shape[3:], left.shape[3:]
    padded = [
        low + high + max((size - 1) * step + 1, 0)
        for (low, high), size, step in zip(padding, spatial, lhs_dilation, strict=True)
    ]
    output = tuple(
        max(0, (size - (tap - 1) * step - 1) // stride + 1)
        for size, tap, step, stride in zip(padded, taps, rhs_dilation, window_strides, strict=True)
    )
    edges = tuple((*pair, step - 1) for pair, step in zip(padding, lhs_dilation, strict=True))
    window = Window(output, taps, tuple(window_strides), tuple(rhs_dilation), edges)
    if 0 in (*left.shape, *right.shape, *output):
        result = lax.full((groups, left.shape[1], right.shape[1], *output), 0, jnp.float32)
    elif output:
        result = _convolve(scope, left, right, window)
    else:
        left, right = lax.expand_dims(left, (3,)), lax.expand_dims(right, (3,))
        result = lax.squeeze(_convolve(scope, left, right, Window((1,), (1,), (1,), (1,), ((0, 0, 0),))), (3,))
    return _arranged(result, numbers.out_spec)


def _convolve(scope: Scope, left: Array, right: Array, window: Window) -> Array:
    """[G, N, I, *spatial] and [G, O, I, *taps] -> [G, N, O, *output]."""
    rank = len(window.output)
    space = tuple(range(3, 3 + rank))
    by_position = math.prod(window.output) < math.prod(window.taps)
    bits = operand_bits(scope.accuracy, right.shape[2] * math.prod(window.taps))
    # What is contracted comes first or last, so that the usual layouts (features last) need no transposition.
    if by_position:
        left, right = lax.transpose(left, (0, 2, *space, 1)), lax.transpose(right, (0, 2, *space, 1))
        batch_axis, inputs_axes, sums = rank + 2, (1, 1), gradient_sums
    else:
        left, right = lax.transpose(left, (0, 1, *space, 2)), lax.transpose(right, (0, *space, 2, 1))
        batch_axis, inputs_axes, sums = 1, (rank + 2, rank + 1), forward_sums
    left_exponents = shared_exponent(left, tuple(axis for axis in range(1, left.ndim) if axis != batch_axis))
    right_exponents = shared_exponent(right, tuple(range(1, right.ndim - 1)))
    total = integer_product(
        scaled(left, left_exponents, bits.left),
        scaled(right, right_exponents, bits.right),
        bits,
        inputs_axes,
        functools.partial(sums, window=window),
    )
    by_batch = lax.reshape(unit(left_exponents, bits.left), (left.shape[0], left.shape[batch_axis], 1, *(1,) * rank))
    by_feature = lax.reshape(unit(right_exponents, bits.right), (left.shape[0], 1, right.shape[-1], *(1,) * rank))
    return to_units(total, [by_batch, by_feature])


def _grouped(x: Array, spec: Sequence[int], batch_groups: int, feature_groups: int) -> Array:
    """-> [G, batch of a group, features of a group, *spatial]; `spec` says where batch, features and space are."""
    batch, features, *space = spec
    moved = lax.transpose(x, (batch, features, *space))
    split_shape = (batch_groups, x.shape[batch] // batch_groups, feature_groups, x.shape[features] // feature_groups)
    parts = lax.reshape(moved, (*split_shape, *moved.shape[2:]))
    ordered = lax.transpose(parts, (0, 2, 1, 3, *range(4, parts.ndim)))
    return lax.reshape(ordered, (batch_groups * feature_groups, *ordered.shape[2:]))


def _arranged(x: Array, spec: Sequence[int]) -> Array:
    """[G, N, O, *spatial] -> as `spec` says, the groups side by side in the features."""
    moved = lax.transpose(x, (1, 0, 2, *range(3, x.ndim)))
    joined = lax.reshape(moved, (moved.shape[0], moved.shape[1] * moved.shape[2], *moved.shape[3:]))
    return lax.transpose(joined, np.argsort(spec))
