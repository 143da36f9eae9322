"""The chromatic terms against the specification's formulas in float64, their limits, and their gradients."""

import colorsys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train import chromatic
from crh_train.chromatic import ChromaticTensor

EPSILON = 1e-6
COLOURS = np.random.default_rng(0).uniform(size=(2, 5, 6, 3, 3)).astype(np.float32)
CERTAINTY = np.random.default_rng(1).uniform(size=(2, 5, 6, 3)).astype(np.float32)
RTOL = 2e-6


ENERGY = jax.jit(chromatic.energy)
COHERENCE = jax.jit(chromatic.coherence)


@jax.jit
@partial(jax.grad, argnums=(0, 1))
def energy_gradients(colours: jax.Array, certainty: jax.Array, epsilon: jax.Array) -> jax.Array:
    return jnp.sum(chromatic.energy(ChromaticTensor(colours, certainty), 1.0, 0.1, epsilon))


def energy(colours: np.ndarray, certainty: np.ndarray) -> jax.Array:
    return ENERGY(ChromaticTensor(jnp.asarray(colours), jnp.asarray(certainty)), 1.0, 0.1, EPSILON)


def reference_energy(colours: np.ndarray, certainty: np.ndarray) -> np.ndarray:
    field, weight = colours.astype(np.float64), certainty.astype(np.float64)
    total = np.zeros(len(field))
    for sample, (f, c) in enumerate(zip(field, weight, strict=True)):
        rows, cols, layers, _ = f.shape
        for i, j, k in np.ndindex(rows, cols, layers):
            for a, b in ((i + 1, j), (i, j + 1)):
                if a < rows and b < cols:
                    total[sample] += c[i, j, k] * c[a, b, k] * np.linalg.norm(f[i, j, k] - f[a, b, k])
        saturation = (f.max(-1) - f.min(-1)) / f.max(-1)
        total[sample] += 0.1 * np.mean(c * (saturation - 0.5) ** 2)
    return total


def test_energy_is_the_specifications_weighted_by_certainty() -> None:
    assert np.allclose(energy(COLOURS, CERTAINTY), reference_energy(COLOURS, CERTAINTY), rtol=RTOL)
    ones = np.ones_like(CERTAINTY)
    assert np.allclose(energy(COLOURS, ones), reference_energy(COLOURS, ones), rtol=RTOL)


def test_an_even_field_of_half_saturation_has_no_energy_and_uncertain_cells_none_either() -> None:
    even = np.broadcast_to(np.float32([0.5, 0.25, 0.25]), COLOURS.shape)
    assert np.max(energy(even, CERTAINTY)) < 1e-9
    assert np.array_equal(energy(COLOURS, np.zeros_like(CERTAINTY)), np.zeros(2))


def test_a_jump_between_layers_costs_nothing() -> None:
    colours = np.full((1, 2, 2, 2, 3), [0.5, 0.25, 0.25], np.float32)
    colours[..., 1, :] = [0.25, 0.5, 0.25]
    assert float(energy(colours, np.ones((1, 2, 2, 2)))[0]) < 1e-9


def test_hue_and_saturation_are_those_of_hsv() -> None:
    colours = COLOURS.reshape(-1, 3)
    expected = np.array([colorsys.rgb_to_hsv(*map(float, colour)) for colour in colours])
    assert np.allclose(chromatic.hue(colours), 360 * expected[:, 0], atol=1e-3)
    assert np.allclose(chromatic.saturation(colours, EPSILON), expected[:, 1], rtol=RTOL)


def test_primaries_secondaries_and_grey_have_their_hues() -> None:
    colours = jnp.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [0.5, 0.5, 0.5], [0, 0, 0]])
    assert chromatic.hue(colours * 1.0).tolist() == [0, 60, 120, 180, 240, 300, 0, 0]


def test_saturation_of_black_and_of_values_out_of_range_stays_in_range() -> None:
    colours = jnp.array([[0.0, 0.0, 0.0], [-1.0, -2.0, -3.0], [1e-7, -5.0, 0.0], [5.0, -5.0, 0.0], [2.0, 2.0, 2.0]])
    found = np.asarray(chromatic.saturation(colours, EPSILON))
    assert found[[0, 1, 4]].tolist() == [0, 0, 0]
    assert np.all((found >= 0) & (found <= 1))


@pytest.mark.parametrize("epsilon", [1e-8, 1e-3])
@pytest.mark.parametrize("level", [0.0, 1.0, 0.5, 1e-30, -1.0, 1e-9])
def test_energy_has_finite_gradients_at_even_fields(level: float, epsilon: float) -> None:
    for gradient in energy_gradients(jnp.full((1, 3, 3, 2, 3), level), jnp.ones((1, 3, 3, 2)), epsilon):
        assert np.all(np.isfinite(gradient))


def test_a_jump_counts_as_a_discontinuity_only_above_the_threshold() -> None:
    colours = np.zeros((2, 3, 4, 1, 3), np.float32)
    colours[0, 1, 1, 0] = [0.31, 0.0, 0.0]  # four neighbours
    colours[0, 2, 3, 0] = [0.0, 0.2, 0.2]  # Euclidean 0.283: none
    colours[1, 0, 0, 0] = [0.0, 0.25, 0.25]  # Euclidean 0.354, a corner: two
    found = chromatic.discontinuities(jnp.asarray(colours))
    assert found.dtype == jnp.int32
    assert found.tolist() == [4, 2]


def test_coherence_is_the_specifications() -> None:
    expected = []
    for field in COLOURS.astype(np.float64):
        hues = [360 * colorsys.rgb_to_hsv(*colour)[0] for colour in field.reshape(-1, 3)]
        imbalance = np.abs(field.mean(axis=(0, 1, 2)) - 0.5).sum()
        expected.append(0.6 * (1 - imbalance / 1.5) + 0.4 * (1 - min(np.std(hues) / 180, 1)))
    assert np.allclose(COHERENCE(COLOURS), expected, rtol=RTOL)


def test_coherence_is_one_for_even_grey_and_never_leaves_its_range() -> None:
    shape = (1, 7, 9, 3, 3)
    assert float(COHERENCE(jnp.full(shape, 0.5))[0]) == 1
    extremes = [jnp.full(shape, value) for value in (0.0, 1.0, -4.0, 4.0)]
    beyond = 100 * jnp.asarray(COLOURS) - 50
    assert np.array_equal(COHERENCE(beyond), COHERENCE(jnp.clip(beyond, 0, 1)))
    for field in [*extremes, beyond]:
        found = np.asarray(COHERENCE(field))
        assert np.all((found >= 0) & (found <= 1))
    assert float(COHERENCE(extremes[1])[0]) == pytest.approx(0.4, abs=1e-6)  # one hue, no balance


def test_central_difference_replicates_the_border() -> None:
    values = jnp.array([[1.0, 2.0, 4.0, 8.0]])
    assert chromatic.central_difference(values, 1).tolist() == [[0.5, 1.5, 3.0, 2.0]]
    assert chromatic.central_difference(values, 0).tolist() == [[0.0] * 4]
