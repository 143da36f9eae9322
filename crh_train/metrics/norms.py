"""Norms of gradients, and the cosine of two arrays. Pure float32; the coherence of colour fields is in
`chromatic.py`."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from crh_train.metrics.shapes import require_same_shape


def leaf_norms(tree: Any) -> Array:
    """Euclidean norm of each leaf, float32 [leaves], in JAX's order of leaves: by sorted key.

    Finite wherever the norm is a float32, however large or small the entries; a non-finite entry gives a non-finite
    norm.
    """
    return jnp.stack([_norm(leaf) for leaf in jax.tree.leaves(tree)])


def global_norm(leaf_norms: Array) -> Array:
    """Norm over all leaves from `leaf_norms` [leaves], their squares added from the first to the last; float32 []."""
    factor = _moderate(leaf_norms)
    total = jnp.zeros([], jnp.float32)
    for norm in leaf_norms * factor:
        total = total + norm * norm
    return jnp.sqrt(total) / factor


def coherence_cosine(prediction: Array, target: Array) -> Array:
    """Cosine similarity over all elements, ⟨p, t⟩ / (‖p‖ ‖t‖), float32 [] in [−1, 1].

    1 where both are zero everywhere, 0 where just one is. For class targets, of probabilities and one-hot targets.
    """
    require_same_shape(prediction, target)
    prediction, target = prediction * _moderate(prediction), target * _moderate(target)
    squares = jnp.sum(prediction * prediction), jnp.sum(target * target)
    norms = jnp.sqrt(squares[0]) * jnp.sqrt(squares[1])
    cosine = jnp.clip(jnp.sum(prediction * target) / jnp.where(norms == 0, 1.0, norms), -1.0, 1.0)
    return jnp.where((squares[0] == 0) & (squares[1] == 0), 1.0, cosine)


def _moderate(x: Array) -> Array:
    """A power of two that brings the largest magnitude in `x` between 2^-48 and 2^48, float32 [].

    Squares of what is multiplied by it, and sums of them, neither overflow nor vanish; being a power of two it rounds
    nothing, and for ordinary values it is 1. (Dividing by the largest magnitude would round, and XLA may multiply by
    its reciprocal, which is flushed to zero for the largest numbers.)
    """
    largest = jnp.max(jnp.abs(x), initial=0.0)
    return jnp.where(largest > 2.0**48, 2.0**-96, jnp.where(largest < 2.0**-48, 2.0**96, 1.0))


def _norm(x: Array) -> Array:
    factor = _moderate(x)
    return jnp.sqrt(jnp.sum(jnp.square(x * factor))) / factor
