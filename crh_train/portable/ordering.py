"""Sorting and the k greatest, by ranks (`ranks`): NaN after infinity, the zeros equal, equals in their first order.

A float that is a key leaves as its rank says, so that of zeros it is +0 and of NaN the canonical one; the other
operands of a sort are moved as they are, denormals and NaNs too. `argsort` and `searchsorted` of `jax.numpy` come down
to these. `approx_top_k` has no rule: what it finds depends on the machine.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.portable.ranks import rank, unrank
from crh_train.portable.scope import Scope
from crh_train.portable.storage import from_image, to_image

_POSITION_BITS = 32


def sort(scope: Scope, *operands: Array, dimension: int, is_stable: bool, num_keys: int) -> list[Array]:
    """Along one dimension by the first `num_keys` operands; always stable, whatever `is_stable` asks for, because an
    unstable order is each machine's own.
    """
    keys = [_to_key("sort", operand) for operand in operands[:num_keys]]
    images = [to_image(operand) for operand in operands[num_keys:]]
    in_order = lax.sort((*keys, *images), dimension, is_stable=True, num_keys=num_keys)
    keys = [_from_key(key, operand) for key, operand in zip(in_order, operands[:num_keys], strict=False)]
    moved = zip(in_order[num_keys:], operands[num_keys:], strict=True)
    return [*keys, *(from_image(image, operand.dtype) for image, operand in moved)]


def top_k(scope: Scope, operand: Array, *, k: int, axis: int, is_stable: bool = True) -> list[Array]:
    """The k greatest, NaN first, and their int32 positions, of equals the first; whatever `is_stable` asks for.

    By sorting integers that have the position below the rank, because XLA leaves open which equals its own finds.
    """
    lowest = np.int64(2**31 if operand.dtype == jnp.uint32 else 0)
    keys = lax.convert_element_type(_to_key("top_k", operand), jnp.int64) - lowest
    reversed_positions = lax.sub(np.int64(operand.shape[axis] - 1), lax.broadcasted_iota(np.int64, operand.shape, axis))
    words = lax.shift_left(keys, lax.full_like(keys, _POSITION_BITS)) | reversed_positions
    greatest = lax.slice_in_dim(lax.bitwise_not(lax.sort(lax.bitwise_not(words), axis)), 0, k, axis=axis)
    keys = lax.shift_right_arithmetic(greatest, lax.full_like(greatest, _POSITION_BITS)) + lowest
    positions = lax.sub(np.int64(operand.shape[axis] - 1), greatest & np.int64(2**_POSITION_BITS - 1))
    values = lax.convert_element_type(keys, jnp.int32 if jnp.issubdtype(operand.dtype, jnp.floating) else operand.dtype)
    return [_from_key(values, operand), lax.convert_element_type(positions, jnp.int32)]


def _to_key(primitive: str, operand: Array) -> Array:
    if jnp.issubdtype(operand.dtype, jnp.complexfloating) or jnp.issubdtype(operand.dtype, jax.dtypes.extended):
        raise NotImplementedError(f"{primitive} by {operand.dtype}: expected a float32, integer or boolean key")
    return rank(operand) if jnp.issubdtype(operand.dtype, jnp.floating) else operand


def _from_key(key: Array, operand: Array) -> Array:
    return unrank(key) if jnp.issubdtype(operand.dtype, jnp.floating) else key
