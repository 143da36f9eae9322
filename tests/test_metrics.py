"""Metrics: compensation survives compilation, averages keep their laws, values are those of scikit-image."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.metrics

from crh_train import metrics
from crh_train.errors import UsageError

VOLUME = (5, 24, 31)


@pytest.fixture(scope="module")
def volumes():
    """Prediction and target, float32 [5, 24, 31]: smooth, of slices of different brightness, with noise."""
    generator = np.random.default_rng(7)
    s, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in VOLUME), indexing="ij")
    target = (0.2 + 0.6 * s) * (1 + np.sin(9 * x + 4 * y)) / 2
    prediction = target + 0.05 * generator.standard_normal(VOLUME)
    return prediction.astype(np.float32), target.astype(np.float32)


# --- compensated sums and averages ---


def scan_sum(add, values):
    def body(carry, value):
        return add(*carry, value), None

    return jax.lax.scan(body, (jnp.float32(0), jnp.float32(0)), values)[0]


@pytest.mark.parametrize("unrolled", [False, True])
def test_kahan_compensation_survives_compilation(unrolled):
    values = np.full(201, 1e-8, np.float32)
    values[0] = 1

    def add_one_by_one(values):
        total = compensation = jnp.float32(0)
        for value in values:
            total, compensation = metrics.kahan_add(total, compensation, value)
        return total, compensation

    total = jax.jit(add_one_by_one if unrolled else lambda v: scan_sum(metrics.kahan_add, v))(values)[0]
    naive = jax.jit(lambda v: scan_sum(lambda t, c, x: (t + x, c), v))(values)[0]
    assert naive == 1  # each term is below half a unit in the last place
    assert total == np.float32(math.fsum(values.astype(np.float64)))


def test_accumulated_gradients_are_compensated_leaf_by_leaf():
    trees = [{"b": {"c": np.full(3, 1e-8, np.float32)}, "a": np.float32(2e-8)} for _ in range(300)]
    trees[0] = {"b": {"c": np.ones(3, np.float32)}, "a": np.float32(1)}
    zeros = jax.tree.map(np.zeros_like, trees[0])
    add = jax.jit(metrics.accumulate)
    totals, compensations = zeros, zeros
    for tree in trees:
        totals, compensations = add(totals, compensations, tree)
    assert jax.tree.structure(totals) == jax.tree.structure(compensations) == jax.tree.structure(zeros)
    assert totals["a"] == np.float32(1 + 299 * 2e-8)
    np.testing.assert_array_equal(totals["b"]["c"], np.full(3, 1 + 299 * 1e-8, np.float32))


def test_accumulation_is_the_same_compiled_as_a_scan():
    stacked = {"w": np.random.default_rng(3).standard_normal((16, 8, 5)).astype(np.float32)}
    zeros = {"w": jnp.zeros((8, 5))}
    scanned, _ = jax.jit(
        lambda trees: jax.lax.scan(lambda carry, tree: (metrics.accumulate(*carry, tree), None), (zeros, zeros), trees)
    )(stacked)
    carry = (zeros, zeros)
    for index in range(16):
        carry = metrics.accumulate(*carry, {"w": stacked["w"][index]})
    np.testing.assert_array_equal(scanned[0]["w"], carry[0]["w"])
    np.testing.assert_array_equal(scanned[1]["w"], carry[1]["w"])


# --- gradient norms, coherence ---


def test_norms_are_in_sorted_order_and_combine():
    tree = {"z": jnp.array([3.0, 4.0]), "a": jnp.array([[12.0]]), "m": jnp.zeros((2, 2)), "empty": jnp.zeros(0)}
    norms = jax.jit(metrics.leaf_norms)(tree)
    np.testing.assert_array_equal(norms, np.array([12, 0, 0, 5], np.float32))  # a, empty, m, z
    assert metrics.global_norm(norms) == 13


def test_norms_agree_with_float64():
    generator = np.random.default_rng(5)
    tree = {str(n): generator.standard_normal((n, 3)).astype(np.float32) for n in (1, 10, 1000)}
    every = np.concatenate([leaf.ravel() for leaf in tree.values()]).astype(np.float64)
    norms = jax.jit(metrics.leaf_norms)(tree)
    expected = [np.linalg.norm(tree[name].astype(np.float64)) for name in sorted(tree)]
    np.testing.assert_allclose(norms, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics.global_norm(norms), np.linalg.norm(every), rtol=1e-6)


def test_norms_of_huge_and_tiny_gradients():
    for size in (2.0**127, 2.0**-124):
        norms = metrics.leaf_norms({"w": jnp.array([0.75, 1.0], jnp.float32) * size, "x": jnp.array([0.0])})
        np.testing.assert_array_equal(norms, np.array([1.25 * size, 0], np.float32))
        assert metrics.global_norm(norms) == np.float32(1.25 * size)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_entry_gives_a_non_finite_norm(bad):
    norms = metrics.leaf_norms({"a": jnp.ones(3), "b": jnp.array([1.0, bad])})
    np.testing.assert_array_equal(np.isfinite(norms), [True, False])
    assert not np.isfinite(metrics.global_norm(norms))


def test_coherence_is_the_cosine(volumes):
    prediction, target = volumes
    p, t = prediction.astype(np.float64).ravel(), target.astype(np.float64).ravel()
    coherence = jax.jit(metrics.coherence_cosine)
    np.testing.assert_allclose(coherence(prediction, target), p @ t / np.linalg.norm(p) / np.linalg.norm(t), rtol=2e-6)
    np.testing.assert_allclose(coherence(-3 * target, target), -1, rtol=1e-6)
    np.testing.assert_array_equal(
        coherence(prediction * np.float32(2.0**100), target * np.float32(2.0**100)), coherence(prediction, target)
    )
    assert abs(coherence(target, target)) <= 1


def test_coherence_of_zeros():
    zero, one = jnp.zeros((2, 3)), jnp.ones((2, 3))
    assert metrics.coherence_cosine(zero, zero) == 1
    assert metrics.coherence_cosine(zero, one) == metrics.coherence_cosine(one, zero) == 0
    assert not np.isfinite(metrics.coherence_cosine(one.at[0, 0].set(jnp.nan), one))


# --- images, against scikit-image in float64 ---


def float64(volumes):
    return tuple(volume.astype(np.float64) for volume in volumes)


def test_mse(volumes):
    p, t = float64(volumes)
    np.testing.assert_allclose(metrics.mse(*volumes), skimage.metrics.mean_squared_error(t, p), rtol=1e-6)


def test_nmse(volumes):
    p, t = float64(volumes)
    expected = skimage.metrics.normalized_root_mse(t, p, normalization="euclidean") ** 2
    np.testing.assert_allclose(jax.jit(metrics.nmse)(*volumes), expected, rtol=3e-6)


def test_psnr_is_of_the_volume_with_its_maximum_as_range(volumes):
    p, t = float64(volumes)
    expected = skimage.metrics.peak_signal_noise_ratio(t, p, data_range=t.max())
    assert not np.isclose(t.max(), 1, atol=0.1)
    np.testing.assert_allclose(jax.jit(metrics.psnr)(*volumes), expected, rtol=1e-6)
    assert metrics.psnr(volumes[1], volumes[1]) == np.inf


def test_ssim_is_of_slices_with_the_volumes_maximum_as_range(volumes):
    p, t = float64(volumes)
    slices = zip(t, p, strict=True)
    expected = np.mean([skimage.metrics.structural_similarity(a, b, data_range=t.max()) for a, b in slices])
    np.testing.assert_allclose(jax.jit(metrics.ssim)(*volumes), expected, atol=2e-6)
    assert metrics.ssim(volumes[1], volumes[1]) == 1


@pytest.mark.parametrize("shape", [(2, 6, 30), (2, 30, 6), (30, 30)])
def test_ssim_refuses_what_is_no_volume_of_windows(shape):
    with pytest.raises(UsageError, match=r"volume \[slices, H, W\] with H and W at least 7, got"):
        metrics.ssim(jnp.ones(shape), jnp.ones(shape))


def test_psnr_and_ssim_of_a_slice_have_the_volumes_maximum_as_range(volumes):
    p, t = float64(volumes)
    psnr = [skimage.metrics.peak_signal_noise_ratio(a, b, data_range=t.max()) for a, b in zip(t, p, strict=True)]
    ssim = [skimage.metrics.structural_similarity(a, b, data_range=t.max()) for a, b in zip(t, p, strict=True)]
    np.testing.assert_allclose(jax.jit(metrics.psnr_by_slice)(*volumes), psnr, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(metrics.ssim_by_slice)(*volumes), ssim, atol=3e-6)


@pytest.mark.parametrize("name", ["mse", "nmse", "psnr", "ssim"])
def test_slices_that_only_pad_do_not_count(name, volumes):
    metric = jax.jit(getattr(metrics, name))
    padded = [np.concatenate([volume, volume[-1:], volume[-1:], volume[-1:]]) for volume in volumes]
    np.testing.assert_allclose(metric(*padded, np.arange(8) < 5), metric(*volumes), rtol=3e-6)
    assert abs(metric(*padded) / metric(*volumes) - 1) > 1e-4


@pytest.mark.parametrize("channels", [2, 3])
def test_channels_as_slices_are_what_scikit_image_makes_of_channels(channels, volumes):
    """SSIM of several channels is the mean of theirs, and the range that of all of them."""
    p, t = (np.moveaxis(volume[:channels], 0, -1) for volume in float64(volumes))
    maximum = t.max()
    ssim = skimage.metrics.structural_similarity(t, p, data_range=maximum, channel_axis=-1)
    psnr = skimage.metrics.peak_signal_noise_ratio(t, p, data_range=maximum)
    chosen = [volume[:channels] for volume in volumes]
    np.testing.assert_allclose(metrics.ssim(*chosen), ssim, atol=2e-6)
    np.testing.assert_allclose(metrics.psnr(*chosen), psnr, rtol=1e-6)


@pytest.mark.parametrize(
    "metric",
    [metrics.mse, metrics.nmse, metrics.psnr, metrics.psnr_by_slice, metrics.ssim, metrics.coherence_cosine],
    ids=lambda metric: metric.__name__,
)
def test_shapes_must_agree(metric):
    with pytest.raises(UsageError, match=r"one shape, got \[2, 8, 1\] and \[2, 8, 8\]"):
        metric(jnp.ones((2, 8, 1)), jnp.ones((2, 8, 8)))


def test_every_number_is_float32(volumes):
    numbers = [metric(*volumes) for metric in (metrics.mse, metrics.nmse, metrics.psnr, metrics.ssim)]
    numbers += [metrics.coherence_cosine(*volumes), metrics.global_norm(metrics.leaf_norms(list(volumes)))]
    assert [(number.dtype, number.shape) for number in numbers] == [(jnp.float32, ())] * len(numbers)
