"""A small program under portable arithmetic whose bits are known: whether this machine gives them.

It has products, sums, a root, a division and what exp, log and tanh give, which between them use most of the ways in
which machines differ; the tests of `portable` are what proves it, and this shows that nothing here is broken. It is
written in `lax`, whose functions are one primitive each, so that every version of JAX makes the same program of it.
"""

import jax
import numpy as np
from jax import Array, lax

from crh_train.digest import digest_arrays
from crh_train.portable import portable

GOLDEN = "9ca9323d3f9b5ac66ad3b98a3aa41c0ddda32fca76c4d7fb25f813000eb5c155"
"""SHA-256 of the results (`digest.digest_arrays`), the same on every machine."""


def found() -> str:
    """The digest that this machine gives; a second or two, most of it compilation."""
    words = np.arange(2 * 32 * 24, dtype=np.uint32) * np.uint32(2654435761)
    x, y = (words >> 8).astype(np.float32).reshape(2, 32, 24) / np.float32(1 << 23) - np.float32(1)
    results = jax.device_get(jax.jit(portable(_work))(x, y))
    return digest_arrays({name: np.asarray(array) for name, array in results.items()})


def _work(x: Array, y: Array) -> dict[str, Array]:
    product = lax.dot_general(x, y, (((1,), (1,)), ((), ())))  # [32, 32]
    back = lax.dot_general(product, lax.tanh(y), (((0,), (0,)), ((), ())))  # [32, 24], over another axis
    weights = lax.exp(lax.neg(lax.square(back)))
    total = lax.reduce(weights, np.float32(0), lax.add, (1,))
    share = lax.div(weights, lax.broadcast_in_dim(total, weights.shape, (0,)))
    # A product that meets a sum, a root and a division by it: what compilers contract and rewrite.
    moved = lax.div(lax.add(lax.mul(share, x), y), lax.add(lax.sqrt(share), lax.full_like(share, 1e-3)))
    return {
        "product": product,
        "share": share,
        "moved": moved,
        "entropy": lax.reduce(lax.log(total), np.float32(0), lax.add, (0,)),
    }
