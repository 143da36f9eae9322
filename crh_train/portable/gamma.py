"""Gamma-distributed numbers: the rejection of Marsaglia and Tsang, over what `jax.random` draws from threefry keys.

`jax.random.gamma`, and with it the beta, Dirichlet, chi-squared and Student distributions, is one primitive, whose
program only the backend sees. `samples` is that program in public JAX, with the same draws and the same decisions; the
table has it read in the primitive's place.

Source: Marsaglia and Tsang 2000, "A simple method for generating gamma variables", ACM TOMS 26(3).
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax


def samples(keys: Array, shape: Array, *, log_space: bool) -> Array:
    """Keys and shape parameters α, floats whose leading axes are those of the keys -> samples or their logarithms, of
    α's type, though computed in float32. For float32 they are those of `jax.random` up to rounding.
    """
    each = math.prod(shape.shape[keys.ndim :])
    split = jax.vmap(functools.partial(jax.random.split, num=each))(keys.reshape(-1)).reshape(-1)
    drawn = jax.vmap(functools.partial(_sample, log_space=log_space))(split, shape.astype(jnp.float32).reshape(-1))
    return drawn.reshape(shape.shape).astype(shape.dtype)


def _sample(key: Array, shape: Array, *, log_space: bool) -> Array:
    # Gamma(α) = Gamma(α + 1) · U^(1/α), which serves below 1.
    large = shape >= 1
    d = jnp.where(large, shape, shape + 1) - jnp.float32(1 / 3)
    c = jnp.float32(1 / 3) / jnp.sqrt(d)

    def draw(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        key, drawn = jax.random.split(state[0])
        x = jax.random.normal(drawn, (), jnp.float32)
        return key, x, 1 + x * c

    def propose(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        key, normal, uniform = jax.random.split(state[0], 3)
        # Not "until v > 0": a NaN ends it.
        _, x, v = lax.while_loop(lambda drawn: drawn[2] <= 0, draw, (normal, jnp.float32(0), jnp.float32(-1)))
        return key, x * x, v * v * v, jax.random.uniform(uniform, (), jnp.float32)

    def rejected(state: tuple[Array, Array, Array, Array]) -> Array:
        _, square, cube, uniform = state
        outside = uniform >= 1 - jnp.float32(0.0331) * (square * square)
        return jnp.logical_and(outside, jnp.log(uniform) >= square * 0.5 + d * (1 - cube + jnp.log(cube)))

    key, last = jax.random.split(key)
    start = (key, jnp.float32(0), jnp.float32(1), jnp.float32(2))  # which is rejected
    _, _, cube, _ = lax.while_loop(rejected, propose, start)
    rest = 1 - jax.random.uniform(last, (), jnp.float32)
    if log_space:
        return jnp.log(d) + jnp.log(cube) + jnp.where(large | (rest == 1), 0, jnp.log(rest) / shape)
    return lax.mul(d * cube, jnp.where(large, jnp.float32(1), jnp.power(rest, 1 / shape)))
