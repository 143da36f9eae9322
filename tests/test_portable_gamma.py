"""Laws of the portable gamma distribution: the samples are those of `jax.random`, and what is not a number ends.

That the bits are the same everywhere is asserted in `test_portable_libraries`, with its beta and its Dirichlet.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from crh_train.errors import NotPortable
from crh_train.portable import portable

SMALLEST = 2.0**-125
KEY = jax.random.key(3)
SHAPES = np.array([0.01, 0.3, 0.999, 1.0, 2.5, 100.0, 1e10, 1e38], np.float32)


GAMMA = jax.jit(portable(jax.random.gamma))


def both(function: Callable[..., Array], *arguments: Any) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(jax.jit(portable(function))(*arguments)), np.asarray(jax.jit(function)(*arguments))


def test_samples_are_those_of_jax_up_to_rounding() -> None:
    """A decision that rounding turns would give another sample altogether."""
    shapes = np.repeat(SHAPES, 500)
    found, stock = both(jax.random.gamma, KEY, shapes)
    assert np.all(np.abs(found - stock) <= 1e-4 * stock + SMALLEST)
    found, stock = both(jax.random.loggamma, KEY, shapes)
    assert np.all(np.abs(found - stock) <= 1e-5 * np.maximum(1, np.abs(stock)))


def test_mean_and_variance_are_the_shape() -> None:
    for shape in (0.3, 2.5, 100.0):
        found = np.asarray(GAMMA(KEY, np.full(20_000, shape, np.float32)), np.float64)
        assert abs(found.mean() - shape) < 5 * np.sqrt(shape / found.size)
        assert abs(found.var() / shape - 1) < 0.2


def test_no_shape_loops_for_ever() -> None:
    shapes = np.array([0, -0.0, 1e-30, -0.5, -2 / 3, -1, -3, np.inf, -np.inf, np.nan], np.float32)
    found, stock = both(jax.random.gamma, KEY, shapes)
    assert np.array_equal(np.isnan(found), np.isnan(stock))
    assert np.all(found[:3] == 0)


def test_keys_and_shapes_are_matched_under_vmap() -> None:
    keys = jax.random.split(KEY, 3)
    shapes = SHAPES[:4]
    found = np.asarray(jax.jit(portable(jax.vmap(jax.random.gamma, (0, None))))(keys, shapes))
    alone = np.stack([np.asarray(GAMMA(key, shapes)) for key in keys])
    assert np.array_equal(found.view(np.uint32), alone.view(np.uint32))


def test_a_half_type_is_rounded_from_float32() -> None:
    def draw(key: Array, shape: Array, dtype: Any) -> Array:
        return jax.random.gamma(key, shape, dtype=dtype)

    half = jax.jit(portable(lambda key, shape: draw(key, shape, jnp.bfloat16)))(KEY, SHAPES[1:5])
    stored = SHAPES[1:5].astype(jnp.bfloat16).astype(np.float32)
    whole = jax.jit(portable(lambda key, shape: draw(key, shape, jnp.float32)))(KEY, stored)
    assert half.dtype == jnp.bfloat16
    assert np.array_equal(half, np.asarray(whole).astype(jnp.bfloat16))


def test_the_derivative_is_that_of_jax() -> None:
    gradient = jax.grad(lambda shape: jnp.sum(jax.random.gamma(KEY, shape)))
    found, stock = both(gradient, SHAPES[2:6])
    assert np.all(np.abs(found - stock) <= 1e-4 * np.abs(stock))


def test_other_keys_are_refused() -> None:
    with pytest.raises(
        NotPortable, match=r"random keys of key<rbg>; use jax\.random\.key\(seed, impl='threefry2x32'\)"
    ):
        jax.jit(portable(jax.random.gamma))(jax.random.key(3, impl="rbg"), SHAPES)
