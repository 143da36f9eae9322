"""Sums and means in one fixed order, compensated: what losses and chromatic terms are reduced with.

It does not replace `jnp.sum` where speed counts and order does not matter to a promise (inside models).

The elements are added as a binary tree of explicit additions, which XLA may not reorder, so neither the machine nor the
number of threads chooses the order. Each addition's rounding error is kept by Knuth's TwoSum (The Art of Computer
Programming, vol. 2, 4.2.2) and added at the end, so the result is the exact sum rounded about once. That is what
holds a loss on a CPU to the one on a GPU: differences of elements in their last bit almost never reach the result.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def _tree_sum(values: Array) -> Array:
    """Compensated sum over the last axis: [..., n] -> [...]. Level k adds element i + n/2**k to element i."""
    count = values.shape[-1]
    width = 1 << max(count - 1, 0).bit_length()
    total = jnp.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, width - count)])
    error = jnp.zeros_like(total)
    while width > 1:
        width //= 2
        left, right = total[..., :width], total[..., width:]
        total = left + right
        seen = total - left
        error = error[..., :width] + error[..., width:] + ((left - (total - seen)) + (right - seen))
    # An overflow makes the error NaN; the plain sum then says which infinity it was.
    return jnp.where(jnp.isfinite(total), total + error, total)[..., 0]


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def fixed_axis_sum(values: Array, trailing: int) -> Array:
    """Sum over the last `trailing` axes, in row-major order: float32 [..., n1, …] -> float32 [...]."""
    kept = values.shape[: values.ndim - trailing]
    return _tree_sum(values.reshape(*kept, -1))


@fixed_axis_sum.defjvp
def _fixed_axis_sum_jvp(trailing: int, primals: Any, tangents: Any) -> tuple[Array, Array]:
    # The sum is linear, so its gradient is a broadcast; differentiating the tree would build the same from many pads.
    (values,), (tangent,) = primals, tangents
    axes = tuple(range(values.ndim - trailing, values.ndim))
    return fixed_axis_sum(values, trailing), jnp.sum(tangent, axes)


def fixed_axis_mean(values: Array) -> Array:
    """Mean of all elements: each sample's sum first, then over the batch. float32 [B, ...] -> float32 [].

    Multiplies by the reciprocal of the count, into which XLA turns a division by a constant anyway on some machines.
    """
    per_sample = fixed_axis_sum(values, values.ndim - 1)
    return fixed_axis_sum(per_sample, 1) * (1.0 / values.size)
