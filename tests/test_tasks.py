"""A task's input and target, and the refusals."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train import config as c
from crh_train.config import ReconstructionConfig, TissueConfig
from crh_train.data import kspace
from crh_train.errors import ConfigError
from crh_train.tasks import denoising, labels, paired, reconstruction, super_resolution
from crh_train.types import Layout

RECONSTRUCTION = ReconstructionConfig(
    name="reconstruction", acceleration=4, center_fraction=0.08, mask="equispaced", mask_seed=0
)
TISSUE = TissueConfig(name="tissue", classes=3)
LAYOUT = Layout(slices=1, rows=8, columns=32, channels=1, classes=3, labelled="pixel")
IMAGE = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 32)).astype(np.float32)
LABEL = np.random.default_rng(1).integers(0, 3, (2, 1, 8, 32)).astype(np.int32)


def test_reconstruction_learns_the_image_from_its_sampled_columns() -> None:
    made = reconstruction.make(RECONSTRUCTION, LAYOUT)
    source, target = made.pair(jnp.asarray(IMAGE), None)
    assert made.classes == 0
    assert np.asarray(target).tobytes() == IMAGE.tobytes()
    mask = kspace.sampling_mask(32, 4, 0.08, "equispaced", 0)
    assert np.asarray(source).tobytes() == np.asarray(kspace.undersample(jnp.asarray(IMAGE), mask)).tobytes()


def test_every_field_of_the_reconstruction_configuration_matters() -> None:
    fields = ({}, {"acceleration": 3}, {"center_fraction": 0.2}, {"mask": "random"}, {"mask": "random", "mask_seed": 1})
    made = [reconstruction.make(dataclasses.replace(RECONSTRUCTION, **field), LAYOUT) for field in fields]
    assert len({np.asarray(one.pair(jnp.asarray(IMAGE), None)[0]).tobytes() for one in made}) == len(fields)


def test_tissue_learns_the_label_from_the_image() -> None:
    made = labels.make_tissue(TISSUE, LAYOUT)
    source, target = made.pair(jnp.asarray(IMAGE), jnp.asarray(LABEL))
    assert made.classes == 3
    assert np.asarray(source).tobytes() == IMAGE.tobytes()
    assert np.asarray(target).tobytes() == LABEL.tobytes()


def test_tissue_without_labels_is_refused_when_it_is_traced() -> None:
    made = labels.make_tissue(TISSUE, LAYOUT)
    with pytest.raises(ConfigError, match="needs a source with labels"):
        jax.eval_shape(lambda image: made.pair(image, None), IMAGE)


@pytest.mark.parametrize(
    ("given", "says"), [(None, "needs a source with labels"), (LABEL + 1, "labels go from 1 to 3")]
)
def test_labels_that_are_no_targets_are_refused(given: np.ndarray | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        labels.check_labels(labels.make_tissue(TISSUE, LAYOUT), given)


@pytest.mark.parametrize("given", [None, LABEL + 1])
def test_a_task_on_images_takes_any_labels(given: np.ndarray | None) -> None:
    labels.check_labels(reconstruction.make(RECONSTRUCTION, LAYOUT), given)


def test_labels_within_the_classes_pass() -> None:
    labels.check_labels(labels.make_tissue(TISSUE, LAYOUT), LABEL)


# --- images from worse ones ------------------------------------------------------------------------------------------

DENOISING = c.DenoisingConfig(name="denoising", noise="gaussian", sigma=[0.05, 0.2])
SUPER_RESOLUTION = c.SuperResolutionConfig(name="super_resolution", factor=2, method="kspace")
LARGE = np.full((40, 1, 32, 32), 0.5, np.float32)
KEYS = jax.random.split(jax.random.key(0, impl="threefry2x32"), len(LARGE))


def noisy(noise: str, image: np.ndarray = LARGE, keys: jax.Array = KEYS) -> np.ndarray:
    made = denoising.make(dataclasses.replace(DENOISING, noise=noise), LAYOUT)
    assert made.draw is not None
    source, target = made.pair(jnp.asarray(image), None)
    assert np.asarray(source).tobytes() == np.asarray(target).tobytes() == image.tobytes()
    return np.asarray(jax.jit(made.draw)(keys, source))


def test_gaussian_noise_has_a_deviation_within_the_range_of_each_sample() -> None:
    deviations = (noisy("gaussian") - 0.5).std(axis=(1, 2, 3))
    assert 0.05 * 0.9 < deviations.min() < 0.08
    assert 0.17 < deviations.max() < 0.2 * 1.1
    assert abs(noisy("gaussian").mean() - 0.5) < 0.01


def test_rician_noise_is_the_magnitude_of_both_parts() -> None:
    """Of nothing it is Rayleigh's, of mean σ √(π/2); it has the same real part as the Gaussian one."""
    real = noisy("gaussian", np.zeros_like(LARGE))
    magnitude = noisy("rician", np.zeros_like(LARGE))
    assert (magnitude >= np.abs(real) * (1 - 1e-6)).all()
    sigma = real.std(axis=(1, 2, 3))
    np.testing.assert_allclose(magnitude.mean(axis=(1, 2, 3)), sigma * np.sqrt(np.pi / 2), rtol=0.12)


def test_noise_depends_on_the_samples_key_alone() -> None:
    at = np.array([7, 2])
    assert noisy("rician", LARGE[at], KEYS[at]).tobytes() == noisy("rician")[at].tobytes()
    assert len({one.tobytes() for one in noisy("rician")}) == len(LARGE)


def test_super_resolution_keeps_the_low_frequencies_of_the_centred_transform() -> None:
    made = super_resolution.make(SUPER_RESOLUTION, LAYOUT)
    source, target = made.pair(jnp.asarray(IMAGE), None)
    assert np.asarray(target).tobytes() == IMAGE.tobytes()
    kspace = np.fft.fftshift(np.fft.fft2(IMAGE.astype(np.float64)), axes=(-2, -1))
    mask = np.zeros((8, 32))
    mask[2:6, 8:24] = 1
    expected = np.abs(np.fft.ifft2(np.fft.ifftshift(kspace * mask, axes=(-2, -1))))
    np.testing.assert_allclose(source, expected, atol=1e-4)


def test_block_means_fill_their_blocks() -> None:
    made = super_resolution.make(dataclasses.replace(SUPER_RESOLUTION, method="block_mean", factor=4), LAYOUT)
    source = np.asarray(made.pair(jnp.asarray(IMAGE), None)[0])
    blocks = IMAGE.reshape(2, 1, 2, 4, 8, 4).mean(axis=(3, 5))
    np.testing.assert_array_equal(source, np.repeat(np.repeat(blocks, 4, axis=2), 4, axis=3))


def test_paired_takes_the_halves_of_the_channels() -> None:
    channels = np.random.default_rng(0).random((2, 1, 8, 32, 4)).astype(np.float32)
    two = paired.make(c.PairedConfig(name="paired"), LAYOUT._replace(channels=2))
    four = paired.make(c.PairedConfig(name="paired"), LAYOUT._replace(channels=4))
    assert (two.channels, four.channels) == (1, 2)
    for each, found in zip(np.moveaxis(channels[..., :2], -1, 0), two.pair(channels[..., :2], None), strict=True):
        np.testing.assert_array_equal(found, each)
    np.testing.assert_array_equal(np.concatenate(four.pair(channels, None), axis=-1), channels)


# --- classes ---------------------------------------------------------------------------------------------------------

SEGMENTATION = c.SegmentationConfig(name="segmentation", classes=None)
CLASSIFICATION = c.ClassificationConfig(name="classification", classes=None)
CASES = LAYOUT._replace(labelled="case", channels=2)


def test_segmentation_and_classification_take_the_sources_classes() -> None:
    segmentation = labels.make_segmentation(SEGMENTATION, LAYOUT)
    classification = labels.make_classification(CLASSIFICATION, CASES)
    assert (segmentation.classes, segmentation.channels, segmentation.whole) == (3, 1, False)
    assert (classification.classes, classification.channels, classification.whole) == (3, 2, True)
    labels.check_labels(segmentation, LABEL)
    labels.check_labels(classification, LABEL[:, 0, 0, 0])
    with pytest.raises(ConfigError, match="one for each case, choose task=classification"):
        labels.check_labels(segmentation, LABEL[:, 0, 0, 0])
    with pytest.raises(ConfigError, match="one for each pixel, choose task=segmentation"):
        labels.check_labels(classification, LABEL)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: labels.make_segmentation(SEGMENTATION, CASES), "has one for each case; choose task=classification"),
        (lambda: labels.make_classification(CLASSIFICATION, LAYOUT), "one for each pixel; choose task=segmentation"),
        (lambda: labels.make_segmentation(SEGMENTATION, LAYOUT._replace(classes=0)), "needs a source with labels"),
        (
            lambda: labels.make_segmentation(dataclasses.replace(SEGMENTATION, classes=2), LAYOUT),
            r"labels are of 3 classes; set task.classes=3",
        ),
        (lambda: denoising.make(DENOISING, LAYOUT._replace(channels=2)), "one channel, .* choose task=paired"),
        (lambda: denoising.make(dataclasses.replace(DENOISING, sigma=[1.0]), LAYOUT), r"task.sigma must be \["),
        (lambda: super_resolution.make(SUPER_RESOLUTION, LAYOUT._replace(channels=2)), "choose task=paired"),
        (
            lambda: super_resolution.make(dataclasses.replace(SUPER_RESOLUTION, factor=3), LAYOUT),
            "task.factor=3 must divide rows and columns of the images, got 8×32",
        ),
        (lambda: paired.make(c.PairedConfig(name="paired"), LAYOUT), "this one has 1: choose task=reconstruction"),
        (
            lambda: reconstruction.make(RECONSTRUCTION, LAYOUT).pair(IMAGE[..., :16], None),
            "whole images of 32 columns, got 16: set augmentation.patch=null",
        ),
    ],
)
def test_a_layout_that_does_not_fit_is_refused_with_what_does(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()
