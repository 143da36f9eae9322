"""Masks keep fastMRI's rules; the zero-filled image is the two-dimensional textbook one."""

import image_samples
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crh_train.data import kspace
from crh_train.errors import ConfigError
from crh_train.portable import portable

CENTER_OF_112 = slice(52, 61)  # round(112 * 0.08) = 9 columns, zero frequency at 56


def images(rows: int, columns: int) -> np.ndarray:
    integers = np.random.default_rng(0).integers(0, 256, (2, 3, rows, columns))
    return (integers / 255).astype(np.float32)


def fourier(image: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    shifted = np.fft.ifftshift(image.astype(np.float64), axes=axes)
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)


def inverse_fourier(samples: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(samples, axes=axes), norm="ortho"), axes=axes)


@pytest.mark.parametrize("kind", ["equispaced", "random"])
@given(
    columns=st.integers(32, 400), acceleration=st.integers(2, 8), fraction=st.floats(0.0, 0.1), seed=st.integers(0, 99)
)
@settings(max_examples=12, deadline=None)
def test_a_mask_holds_the_centre_and_about_its_share_of_columns(
    kind: str, columns: int, acceleration: int, fraction: float, seed: int
) -> None:
    mask = kspace.sampling_mask(columns, acceleration, fraction, kind, seed)
    center = round(columns * fraction)
    first = (columns - center + 1) // 2
    assert mask.shape == (columns,)
    assert mask.dtype == np.float32
    assert set(mask.tolist()) <= {0.0, 1.0}
    assert mask[first : first + center].all()
    assert center == 0 or abs((columns // 2 - first) - (first + center - 1 - columns // 2)) <= 1
    if kind == "random":
        assert mask.sum() == round(columns / acceleration)
    else:
        assert abs(mask.sum() - columns / acceleration) <= 2  # the centre and the grid share a column, more or less


def test_the_equispaced_mask_outside_the_centre_is_even() -> None:
    mask = kspace.sampling_mask(112, 4, 0.08, "equispaced", seed=0)
    assert mask[CENTER_OF_112].all()
    distances = np.diff(np.flatnonzero(mask[:52]))
    # Exactly 4 * (112 - 9) / (112 - 4 * 9) = 103 / 19 columns apart, to the nearest whole column.
    assert set(distances.tolist()) == {5, 6}
    assert np.flatnonzero(mask[:52]).tolist() == [2, 7, 13, 18, 24, 29, 35, 40, 45, 51]


def test_only_the_random_mask_depends_on_the_seed() -> None:
    def masks(kind: str) -> list[bytes]:
        return [kspace.sampling_mask(112, 4, 0.08, kind, seed).tobytes() for seed in (0, 0, 1)]

    first, again, other = masks("random")
    assert first == again != other
    assert len(set(masks("equispaced"))) == 1


def test_acceleration_one_samples_everything() -> None:
    for fraction in (0.08, 1.0):
        assert kspace.sampling_mask(64, 1, fraction, "equispaced", 0).all()


@pytest.mark.parametrize(
    ("columns", "acceleration", "fraction", "kind", "says"),
    [
        (100, 4, 0.25, "equispaced", r"center_fraction=0.25 samples 25 of 100"),
        (100, 4, 0.08, "spiral", "'spiral' is unknown"),
        (20, 300, 0.0, "random", "leaves none of 20 columns"),
        (20, 300, 0.0, "equispaced", "leaves none of 20 columns"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(
    columns: int, acceleration: int, fraction: float, kind: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        kspace.sampling_mask(columns, acceleration, fraction, kind, 0)


@pytest.mark.parametrize(("rows", "columns"), [(16, 112), (7, 33)])
def test_undersampling_is_masking_of_the_centred_two_dimensional_transform(rows: int, columns: int) -> None:
    image = images(rows, columns)
    for kind in ("equispaced", "random"):
        mask = kspace.sampling_mask(columns, 4, 0.08, kind, seed=0)
        expected = np.abs(inverse_fourier(fourier(image) * mask))
        zero_filled = np.asarray(jax.jit(kspace.undersample)(image, mask))
        assert zero_filled.dtype == np.float32
        np.testing.assert_allclose(zero_filled, expected, rtol=0, atol=1e-6)


def test_the_energy_is_that_of_the_sampled_columns() -> None:
    image = images(16, 112)
    mask = kspace.sampling_mask(112, 4, 0.08, "random", seed=0)
    kept = np.sum(np.abs(fourier(image) * mask) ** 2)
    zero_filled = np.asarray(kspace.undersample(image, mask)).astype(np.float64)
    np.testing.assert_allclose(np.sum(zero_filled**2), kept, rtol=1e-6)
    assert kept < np.sum(image.astype(np.float64) ** 2)


def test_the_full_mask_gives_the_image_back() -> None:
    image = images(16, 112)
    np.testing.assert_allclose(kspace.undersample(image, np.ones(112, np.float32)), image, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("coils", "rows", "columns", "shape"), [(1, 10, 21, (10, 21)), (4, 15, 32, (9, 20)), (3, 8, 24, (20, 7))]
)
def test_input_and_target_are_those_of_fastmri(coils: int, rows: int, columns: int, shape: tuple[int, int]) -> None:
    """Mask, inverse transform, root of the sum of squares, crop: in float64, in fastMRI's order. At most `shape`."""
    rng = np.random.default_rng(0)
    samples = (rng.standard_normal((3, coils, rows, columns, 2)) * 1e-4).astype(np.float32)
    mask = kspace.sampling_mask(columns, 4, 0.08, "random", 0)
    exact = samples[..., 0].astype(np.complex128) + 1j * samples[..., 1]
    size = (min(shape[0], rows), min(shape[1], columns))
    source, target = (
        image_samples.center_crop(image_samples.root_sum_of_squares(each), size) for each in (exact * mask, exact)
    )
    for transform in (jax.jit, lambda function: jax.jit(portable(function))):
        found = np.asarray(transform(lambda given: kspace.input_and_target(given, mask, shape))(samples))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found[..., 0], source / target.max(), rtol=0, atol=5e-7)
        np.testing.assert_allclose(found[..., 1], target / target.max(), rtol=0, atol=5e-7)


def test_the_mask_of_a_volume_names_its_own_fields() -> None:
    with pytest.raises(ConfigError, match=r"data\.center_fraction=0.25 .* data\.acceleration=4"):
        kspace.sampling_mask(100, 4, 0.25, "equispaced", 0, group="data")
