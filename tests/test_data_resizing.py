"""Resizing is Pillow's antialiased linear one to rounding, its laws hold bit for bit, and cropping is preparation's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crh_train.data import preparation, resizing

PICTURES = np.random.default_rng(0).random((2, 13, 17), np.float32)


@pytest.mark.parametrize("shape", [(13, 17), (5, 17), (13, 40), (6, 9), (29, 31), (1, 1), (26, 8)])
def test_linear_is_the_antialiased_linear_resize_of_pillow(shape: tuple[int, int]) -> None:
    found = resizing.linear(PICTURES, shape)
    assert (found.dtype, found.shape) == (np.float32, (2, *shape))
    for picture, resized in zip(PICTURES, found, strict=True):
        expected = Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(resized, expected, rtol=0, atol=1e-6)


def test_an_axis_that_stays_keeps_its_bits() -> None:
    assert resizing.linear(PICTURES, (13, 17)).tobytes() == PICTURES.tobytes()


@given(rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_a_mirrored_or_even_picture_stays_so(rows: int, columns: int) -> None:
    found = resizing.linear(PICTURES, (rows, columns))
    mirrored = resizing.linear(PICTURES[:, ::-1, ::-1], (rows, columns))[:, ::-1, ::-1]
    np.testing.assert_allclose(mirrored, found, rtol=0, atol=1e-7)
    even = resizing.linear(np.full((1, 13, 17), 0.7, np.float32), (rows, columns))
    assert (even == np.float32(0.7)).all()


@given(rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_nearest_takes_the_pixel_at_the_place_of_each_centre(rows: int, columns: int) -> None:
    labels = np.arange(13 * 17, dtype=np.int32).reshape(1, 13, 17)
    found = resizing.nearest(labels, (rows, columns))
    y = np.floor((np.arange(rows) + 0.5) * 13 / rows + 1e-9).astype(int)
    x = np.floor((np.arange(columns) + 0.5) * 17 / columns + 1e-9).astype(int)
    np.testing.assert_array_equal(found[0], labels[0][np.ix_(y, x)])


@given(rows=st.integers(1, 500), columns=st.integers(1, 500), height=st.integers(1, 300), width=st.integers(1, 300))
def test_fitted_touches_the_frame_and_keeps_the_proportions(rows: int, columns: int, height: int, width: int) -> None:
    down, across = resizing.fitted(rows, columns, (height, width))
    assert down == height or across == width
    assert 1 <= down <= height
    assert 1 <= across <= width
    factor = min(height / rows, width / columns)
    assert abs(down - rows * factor) <= max(0.5, 1 - rows * factor) + 1e-9
    assert abs(across - columns * factor) <= max(0.5, 1 - columns * factor) + 1e-9


@pytest.mark.parametrize("shape", [(13, 17), (4, 5), (20, 30), (5, 18), (14, 4)])
def test_crop_or_pad_is_that_of_the_preparation(shape: tuple[int, int]) -> None:
    found = resizing.crop_or_pad(PICTURES, shape)
    assert found.tobytes() == np.asarray(preparation.crop_or_pad(PICTURES, shape)).tobytes()
    assert resizing.crop_or_pad(PICTURES[..., None], shape).shape == (2, *shape, 1)
