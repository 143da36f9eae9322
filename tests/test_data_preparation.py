"""Preparation keeps its definitions, against plain NumPy, and puts pictures the right way up."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from training_samples import configured

from crh_train.config import Mni152Config
from crh_train.data import preparation
from crh_train.errors import ConfigError

CONFIG = Mni152Config(
    name="mni152",
    axis="axial",
    downsample=2,
    shape=[8, 8],
    slices=1,
    stride=1,
    extent=[0.0, 1.0],
    validation=[0.4, 0.6],
    gap=1,
)
GENERATOR = np.random.default_rng(0)
IMAGE = GENERATOR.integers(0, 256, (9, 7, 11)).astype(np.float32)
LABELS = GENERATOR.integers(0, 4, (9, 7, 11)).astype(np.int32)


def cubes(array: np.ndarray, factor: int) -> Any:
    """Each cube and where it goes, one by one."""
    for place in np.ndindex(*(size // factor for size in array.shape)):
        x, y, z = (index * factor for index in place)
        yield place, array[x : x + factor, y : y + factor, z : z + factor]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_downsampling_is_the_mean_and_the_commonest_label_of_each_cube(factor: int) -> None:
    means = np.asarray(preparation.block_mean(IMAGE, factor))
    commonest = np.asarray(preparation.block_majority(LABELS, factor, classes=4))
    assert means.shape == commonest.shape == tuple(size // factor for size in IMAGE.shape)
    assert (means.dtype, commonest.dtype) == (np.float32, np.int32)
    for place, cube in cubes(IMAGE, factor):
        np.testing.assert_allclose(means[place], cube.astype(np.float64).mean(), rtol=1e-6)
    for place, cube in cubes(LABELS, factor):
        assert commonest[place] == np.argmax(np.bincount(cube.ravel(), minlength=4))  # the first of equals


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (3.0, 255.0), (-1024.0, 3071.0)])
def test_intensity_is_scaled_by_the_volume_to_zero_and_one(low: float, high: float) -> None:
    image = np.array([[[low, (low + high) / 2, high]]], np.float32)
    floor = min(low, 0.0)
    expected = (image.astype(np.float64) - floor) / (high - floor)
    scaled = np.asarray(preparation.scale_intensity(image))
    np.testing.assert_allclose(scaled, expected, rtol=1e-6)
    assert (scaled.max(), scaled.dtype) == (1.0, np.float32)
    assert scaled.min() >= 0.0


@pytest.mark.parametrize(
    ("axis", "slices_go", "rows_go", "columns_go"),
    [
        ("axial", "z", "-y", "-x"),  # feet to head, front to back, patient's right to left
        ("coronal", "y", "-z", "-x"),
        ("sagittal", "x", "-z", "-y"),
    ],
)
def test_pictures_stand_upright(axis: str, slices_go: str, rows_go: str, columns_go: str) -> None:
    position = dict(zip("xyz", np.meshgrid(np.arange(3), np.arange(4), np.arange(5), indexing="ij"), strict=True))
    for grows, along in ((slices_go, 0), (rows_go, 1), (columns_go, 2)):
        pictures = np.asarray(preparation.cut(position[grows[-1]], axis))
        assert (np.diff(pictures, axis=along) == (-1 if grows.startswith("-") else 1)).all()


@pytest.mark.parametrize("height", [4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("width", [4, 7])
def test_cropping_and_padding_keep_the_centre(height: int, width: int) -> None:
    pictures = np.arange(1, 2 * 6 * 5 + 1, dtype=np.float32).reshape(2, 6, 5)
    fitted = np.asarray(preparation.crop_or_pad(pictures, [height, width]))
    assert fitted.shape == (2, height, width)
    kept = fitted[:, max(0, (height - 6) // 2) :, max(0, (width - 5) // 2) :][:, : min(6, height), : min(5, width)]
    top, left = max(0, (6 - height) // 2), max(0, (5 - width) // 2)
    np.testing.assert_array_equal(kept, pictures[:, top : top + height, left : left + width])
    assert np.count_nonzero(fitted) == kept.size


def test_labels_stay_on_their_pixels() -> None:
    """An image that is its own label comes out as its own label."""
    coarse = GENERATOR.integers(0, 3, (5, 6, 4))
    coarse[0, 0, 0] = 2
    volume = coarse.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    for axis in ("axial", "coronal", "sagittal"):
        prepare = jax.jit(preparation.make(dataclasses.replace(CONFIG, axis=axis), classes=3))
        pictures, labels = prepare(volume.astype(np.float32), volume.astype(np.int32))
        assert labels is not None
        assert pictures.shape == labels.shape == (coarse.shape[{"axial": 2, "coronal": 1, "sagittal": 0}[axis]], 8, 8)
        np.testing.assert_array_equal(np.asarray(pictures) * 2, np.asarray(labels))
        assert prepare(volume.astype(np.float32), None)[1] is None


def test_a_shape_that_is_no_pair_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data.shape must be \[rows, columns\]"):
        preparation.make(dataclasses.replace(CONFIG, shape=[8]), classes=0)


def test_a_window_is_clipped_and_mapped_to_zero_and_one_in_every_volume() -> None:
    config = dataclasses.replace(configured(data="dicom").data, shape=[7, 9], window=[-160.0, 240.0])
    image = IMAGE * 3 - 300
    pictures, _ = jax.jit(preparation.make(config, 0))(image, None)
    expected = (np.clip(image, -160, 240) + np.float32(160)) / np.float32(400)
    plain = dataclasses.replace(config, window=None)
    np.testing.assert_allclose(
        pictures, np.asarray(preparation.crop_or_pad(preparation.cut(expected, "axial"), [7, 9])), rtol=1e-6
    )
    brighter, _ = jax.jit(preparation.make(config, 0))(np.where(image > 250, image + 500, image), None)
    np.testing.assert_array_equal(brighter, pictures)
    assert not np.array_equal(jax.jit(preparation.make(plain, 0))(image, None)[0], pictures)
