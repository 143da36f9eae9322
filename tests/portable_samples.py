"""What the programs of `portable_libraries` are given, and their derivatives."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


class Sample(NamedTuple):
    """What a program is given: made of integers, so the same on every machine."""

    key: Array
    rows: Array  # float32 [6, 8] in (-4, 4), no two equal
    unit: Array  # float32 [6, 8] in (0, 1)
    image: Array  # float32 [2, 8, 8] in (-2, 2)
    labels: Array  # int32 [6] in [0, 8)


Program = Callable[[Sample], Mapping[str, Any]]


def sample() -> Sample:
    generator = np.random.default_rng(0)
    rows = generator.permutation(np.arange(-24, 24)).reshape(6, 8) + 0.25
    return Sample(
        jax.random.key(7),
        (rows / 6).astype(np.float32),
        ((generator.permutation(48).reshape(6, 8) + 0.5) / 48).astype(np.float32),
        (generator.integers(-(2**20), 2**20, (2, 8, 8)) / 2**19).astype(np.float32),
        generator.integers(0, 8, 6).astype(np.int32),
    )


def with_gradient(function: Callable[[Any], Any], x: Any) -> tuple[Any, Any]:
    """The value, and the gradient with respect to all floats in x of a sum in which every element of it counts, with a
    weight of its own.
    """
    floats, rest = eqx.partition(x, eqx.is_inexact_array)
    value, pull_back = jax.vjp(lambda floats: function(eqx.combine(floats, rest)), floats)

    def weights(leaf: Array) -> Any:
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return (1 + np.arange(leaf.size) % 5).reshape(leaf.shape).astype(leaf.dtype)
        return np.zeros(leaf.shape, jax.dtypes.float0)

    return value, pull_back(jax.tree.map(weights, value))[0]
