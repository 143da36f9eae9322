"""The law: a compensated sum in a fixed order is the exact sum rounded, whatever the shape; its gradient is exact."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train.reduction import fixed_axis_mean, fixed_axis_sum


@pytest.mark.parametrize("count", [1, 2, 3, 127, 128, 129, 5000])
def test_sum_is_the_exact_sum_rounded(count: int) -> None:
    generator = np.random.default_rng(count)
    values = (generator.normal(size=(3, count)) * np.exp(3 * generator.normal(size=(3, count)))).astype(np.float32)
    found = np.asarray(jax.jit(fixed_axis_sum, static_argnums=1)(values, 1))
    exact = np.array([math.fsum(row.astype(float)) for row in values])
    absolute = np.abs(values.astype(np.float64)).sum(axis=-1)
    assert np.all(np.abs(found - exact) <= 2.0**-24 * np.abs(exact) + 2.0**-40 * absolute)


def test_compensation_keeps_what_plain_addition_loses() -> None:
    values = jnp.array([1e8, 1.0, -1e8, 1.0], jnp.float32)
    assert float(fixed_axis_sum(values, 1)) == 2.0


def test_sum_over_trailing_axes_has_the_bits_of_the_sum_over_them_flattened() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)
    assert np.array_equal(fixed_axis_sum(values, 3), fixed_axis_sum(values.reshape(2, -1), 1))
    assert fixed_axis_sum(values, 2).shape == (2, 3)


def test_mean_takes_each_sample_by_itself_first() -> None:
    values = np.random.default_rng(1).normal(size=(4, 3, 5)).astype(np.float32)
    by_hand = fixed_axis_sum(fixed_axis_sum(values, 2), 1) * np.float32(1 / 60)
    assert np.array_equal(fixed_axis_mean(values), by_hand)
    assert fixed_axis_mean(values).shape == ()


def test_gradient_of_the_mean_is_the_reciprocal_of_the_count_everywhere() -> None:
    values = np.random.default_rng(2).normal(size=(2, 3, 5)).astype(np.float32)
    assert np.array_equal(jax.grad(fixed_axis_mean)(values), np.full((2, 3, 5), np.float32(1 / 30)))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    values = jnp.array([1.0, bad, 2.0], jnp.float32)
    assert np.array_equal(fixed_axis_sum(values, 1), np.float32(bad), equal_nan=True)
