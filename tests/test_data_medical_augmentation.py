"""The field's augmentation: identities to the bit, labels that follow, draws that depend on the sample alone.

That every environment gives the same bytes, the bit matrix shows (`tissue_3d`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train.config import MedicalAugmentationConfig
from crh_train.data import deformation, intensity, medical_augmentation
from crh_train.data.augmentation import Augmentation
from crh_train.data.medical_draws import Draw
from crh_train.errors import ConfigError
from crh_train.portable import portable
from crh_train.randomness import Purpose, derive, root_key
from crh_train.types import Batch

SAMPLES, SHAPE = 6, (4, 12, 10)
OFF = MedicalAugmentationConfig(
    name="medical",
    patch=None,
    across_slices=False,
    padding="zero",
    **dict.fromkeys(("flip_slices", "flip_rows", "flip_columns", "rotation", "scale", "elastic"), 0.0),
    **dict.fromkeys(("noise", "blur", "brightness", "shift", "contrast", "gamma"), 0.0),
    rotation_degrees=30.0,
    scale_range=[0.7, 1.4],
    elastic_spacing=4.0,
    elastic_deviation=2.0,
    noise_range=[0.01, 0.1],
    blur_range=[0.5, 1.0],
    brightness_range=[0.75, 1.25],
    shift_range=[-0.1, 0.1],
    contrast_range=[0.75, 1.25],
    gamma_range=[0.7, 1.5],
)
GEOMETRY = {"rotation": 0.5, "scale": 0.5, "elastic": 0.5}
FLIPS = {"flip_slices": 0.5, "flip_rows": 0.5, "flip_columns": 0.5}
SHADES = dict.fromkeys(("noise", "blur", "brightness", "shift", "contrast", "gamma"), 0.5)
KEY = derive(root_key(3), Purpose.AUGMENT, 11)


def changed(**fields: Any) -> MedicalAugmentationConfig:
    return dataclasses.replace(OFF, **fields)


ALL = changed(**GEOMETRY, **FLIPS, **SHADES, patch=[2, 8, 8])
ALL_3D = dataclasses.replace(ALL, across_slices=True)


def make_batch(samples: int = SAMPLES, channels: int = 0) -> Batch:
    """Integers decide the intensities; a label is 1 to 3, so that what comes from outside is known by its 0."""
    words = (np.arange(samples * np.prod(SHAPE), dtype=np.uint32) * np.uint32(2654435761)) >> np.uint32(8)
    image = words.reshape(samples, *SHAPE).astype(np.float32) / np.float32(2**24)
    if channels:
        image = np.stack([image + channel for channel in range(channels)], axis=-1)
    label = (words.reshape(samples, *SHAPE) % 3 + 1).astype(np.int32)
    return Batch(jnp.asarray(image), jnp.asarray(label), jnp.arange(samples, dtype=jnp.int32))


@functools.lru_cache
def _compiled(fields: tuple[tuple[str, Any], ...]) -> Augmentation:
    """Portable where all is on in three dimensions, whose bits hold for any size of batch; else stock JAX, sooner."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in fields}
    made = medical_augmentation.make(MedicalAugmentationConfig(**given), SHAPE[1:])
    return jax.jit(portable(made) if given["noise"] and given["across_slices"] else made)


def run(config: MedicalAugmentationConfig, batch: Batch, key: jax.Array = KEY) -> Batch:
    fields = dataclasses.asdict(config).items()
    made = _compiled(tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in fields))
    return made(key, batch)


def bits(array: Any) -> bytes:
    return np.asarray(array).tobytes()


# --- identities ----------------------------------------------------------------------------------------------------


def test_all_off_is_the_identity() -> None:
    batch = make_batch()
    for before, after in zip(batch, run(OFF, batch), strict=True):
        assert bits(before) == bits(after)


@pytest.mark.parametrize(("across", "padding"), [(False, "edge"), (True, "zero")])
def test_moving_nothing_changes_no_bit(across: bool, padding: str) -> None:
    """Rotated by 0°, scaled by 1 and bent by 0, through the resampling itself."""
    nothing = changed(rotation=1.0, scale=1.0, elastic=1.0, across_slices=across, padding=padding)
    nothing = dataclasses.replace(nothing, rotation_degrees=0.0, scale_range=[1.0, 1.0], elastic_deviation=0.0)
    batch = make_batch()
    after = run(nothing, batch)
    assert bits(after.image) == bits(batch.image)
    assert bits(after.label) == bits(batch.label)


@pytest.mark.parametrize(("field", "axis"), [("flip_slices", 1), ("flip_rows", 2), ("flip_columns", 3)])
def test_a_flip_reverses_its_axis_and_twice_is_nothing(field: str, axis: int) -> None:
    batch = make_batch()
    once = run(changed(**{field: 1.0}), batch)
    assert bits(once.image) == bits(np.flip(batch.image, axis))
    assert bits(once.label) == bits(np.flip(batch.label, axis))
    assert bits(run(changed(**{field: 1.0}), once).image) == bits(batch.image)


def test_shades_by_nothing_change_nothing() -> None:
    """By a factor of 1, a sum of 0, no noise; a constant image stays under gamma and blur."""
    batch = make_batch()
    ones = {f"{name}_range": [1.0, 1.0] for name in ("brightness", "contrast")}
    nothing = changed(noise=1.0, brightness=1.0, shift=1.0, **ones, noise_range=[0.0, 0.0], shift_range=[0.0, 0.0])
    assert bits(run(nothing, batch).image) == bits(batch.image)
    even = batch._replace(image=jnp.full_like(batch.image, 0.5))
    assert bits(run(changed(gamma=1.0, contrast=1.0), even).image) == bits(even.image)
    np.testing.assert_allclose(run(changed(blur=1.0), even).image, 0.5, rtol=1e-6)


# --- what the transforms are -----------------------------------------------------------------------------------------


def test_a_quarter_turn_is_numpys() -> None:
    pictures = jnp.asarray(np.random.default_rng(0).random((9, 9, 2), np.float32))
    rotation = [[jnp.float32(v) for v in row] for row in ((0.0, -1.0), (1.0, 0.0))]
    place = deformation.affine((9, 9), jnp.zeros(2, jnp.int32), rotation, jnp.float32(1))
    assert bits(deformation.linear(pictures, place, "zero")) == bits(np.rot90(pictures, -1))


def test_rotations_are_orthonormal_and_each_about_its_own_axis() -> None:
    matrix = np.array(deformation.rotation_about_axes([jnp.float32(a) for a in (0.3, -0.7, 1.1)]), np.float64)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-6)
    for axis in range(3):
        alone = np.array(deformation.rotation_about_axes([jnp.float32(0.4 * (axis == at)) for at in range(3)]))
        np.testing.assert_array_equal(alone @ np.eye(3)[axis], np.eye(3)[axis])


@pytest.mark.parametrize("padding", ["zero", "edge"])
def test_linear_and_nearest_are_their_definitions(padding: str) -> None:
    generator = np.random.default_rng(0)
    pictures = jnp.asarray(generator.random((4, 5, 6, 1), np.float32))
    place = generator.uniform(-3, 8, (3, 40)).astype(np.float32)
    margin = 16
    mode: dict[str, Any] = {"mode": "edge"} if padding == "edge" else {}
    wide = np.pad(np.asarray(pictures[..., 0], np.float64), margin, **mode)
    low = np.floor(place).astype(int)
    part = place - low
    expected = np.zeros(40)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([part[a] if corner[a] else 1 - part[a] for a in range(3)], axis=0)
        expected += weight * wide[tuple(low[a] + corner[a] + margin for a in range(3))]
    np.testing.assert_allclose(deformation.linear(pictures, place, padding)[:, 0], expected, atol=1e-6)
    at = tuple(np.floor(place + np.float32(0.5)).astype(int) + margin)
    np.testing.assert_array_equal(np.asarray(deformation.nearest(pictures, place, padding)[:, 0], np.float64), wide[at])


def test_a_scale_enlarges() -> None:
    pictures = jnp.zeros((9, 9, 1)).at[3:6, 3:6].set(1)
    identity = [[jnp.float32(1), jnp.float32(0)], [jnp.float32(0), jnp.float32(1)]]
    place = deformation.affine((9, 9), jnp.zeros(2, jnp.int32), identity, jnp.float32(2))
    assert float(jnp.sum(deformation.linear(pictures, place, "zero") > 0.5)) > 2 * pictures.sum()


def test_the_spline_keeps_a_constant_and_a_slope_and_stays_below_its_points() -> None:
    shape, spacing = (11, 8), 3.0
    points = deformation.control_points(shape, spacing)
    np.testing.assert_allclose(deformation.displacement(jnp.ones((2, *points)), shape, spacing), 1, rtol=1e-6)
    slope = np.broadcast_to((np.arange(points[0]) - 1) * spacing, (1, points[1], points[0])).swapaxes(1, 2)
    found = deformation.displacement(jnp.asarray(slope, jnp.float32), shape, spacing)
    np.testing.assert_allclose(found[0], np.broadcast_to(np.arange(11)[:, None], shape), atol=1e-5)
    drawn = jax.random.normal(jax.random.key(0), (2, *points))
    assert float(jnp.abs(deformation.displacement(drawn, shape, spacing)).max()) <= float(jnp.abs(drawn).max())


def test_shades_are_their_formulas_in_float64() -> None:
    image = np.asarray(make_batch(channels=2).image)[0]
    wide = image.astype(np.float64)
    low, high = (f(wide, axis=(0, 1, 2), keepdims=True) for f in (np.min, np.max))
    mean = wide.mean(axis=(0, 1, 2), keepdims=True)
    np.testing.assert_allclose(
        intensity.contrast(image, jnp.float32(1.25)), np.clip(mean + 1.25 * (wide - mean), low, high), atol=1e-6
    )
    unit = ((wide - low) / (high - low)) ** np.float32(0.7)
    np.testing.assert_allclose(intensity.gamma(image, jnp.float32(0.7)), unit * (high - low) + low, atol=1e-6)
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / (2 * np.float32(0.8) ** 2))
    expected = np.pad(wide, ((0, 0), (3, 3), (0, 0), (0, 0)), mode="edge")
    expected = sum(k * expected[:, i : i + SHAPE[1]] for i, k in enumerate(kernel / kernel.sum()))
    np.testing.assert_allclose(intensity.blur(image, jnp.float32(0.8), 1.0, (1,)), expected, atol=1e-6)


# --- labels, patches, channels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ALL, ALL_3D], ids=["2d", "3d"])
def test_labels_keep_to_their_set_and_follow_the_image(config: MedicalAugmentationConfig) -> None:
    """An image that is its own label stays within half a class of it, where only whole pixels move."""
    batch = make_batch()
    after = run(config, batch)
    assert after.image.shape == after.label.shape == (SAMPLES, *config.patch)
    assert set(np.unique(after.label)) <= {0, 1, 2, 3}
    assert (after.label.dtype, after.image.dtype) == (jnp.int32, jnp.float32)
    even = changed(**{**FLIPS, "patch": config.patch})
    moved = run(even, batch._replace(image=batch.label.astype(jnp.float32)))
    np.testing.assert_array_equal(moved.image, moved.label)
    bent = run(changed(**GEOMETRY, padding="edge"), batch)
    assert 0 not in np.unique(bent.label)


def test_patches_come_from_everywhere_within_the_sample() -> None:
    batch = make_batch()
    number = jnp.broadcast_to(jnp.arange(np.prod(SHAPE), dtype=jnp.int32).reshape(SHAPE), batch.label.shape)
    firsts = []
    for step in range(20):
        after = run(changed(patch=[2, 8, 8]), batch._replace(label=number), derive(root_key(3), Purpose.AUGMENT, step))
        for label in np.asarray(after.label):
            first = np.unravel_index(label[0, 0, 0], SHAPE)
            firsts.append(first)
            window = tuple(slice(at, at + size) for at, size in zip(first, (2, 8, 8), strict=True))
            np.testing.assert_array_equal(label, np.asarray(number[0])[window])
    assert {tuple(sorted(set(axis))) for axis in np.transpose(firsts)} == {(0, 1, 2), (0, 1, 2, 3, 4)}


def test_channels_share_the_geometry_and_case_labels_stay() -> None:
    batch = make_batch(channels=2)
    cases = batch._replace(label=jnp.arange(SAMPLES, dtype=jnp.int32))
    after = run(dataclasses.replace(changed(**GEOMETRY, **FLIPS), padding="edge"), cases)
    np.testing.assert_allclose(after.image[..., 0] + 1, after.image[..., 1], atol=1e-6)
    assert bits(after.label) == bits(cases.label)
    alone = run(dataclasses.replace(changed(**GEOMETRY, **FLIPS), padding="edge"), make_batch())
    assert bits(after.image[..., 0]) == bits(alone.image)


# --- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [ALL, ALL_3D], ids=["2d", "3d"])
def test_a_sample_is_augmented_alike_wherever_it_stands_in_whatever_batch(config: MedicalAugmentationConfig) -> None:
    batch = make_batch()
    whole = run(config, batch)
    for chosen in ([5, 4, 1, 1, 0, 3], [3, 3, 3, 3, 3, 3], *([[4, 2]] if config.across_slices else [])):
        at = np.array(chosen)
        part = run(config, Batch(batch.image[at], batch.label[at], batch.sample[at]))
        assert bits(part.image) == bits(whole.image[at])
        assert bits(part.label) == bits(whole.label[at])


def test_another_step_draws_anew_and_the_same_step_the_same() -> None:
    batch = make_batch()
    first, again = run(ALL, batch), run(ALL, batch)
    other = run(ALL, batch, derive(root_key(3), Purpose.AUGMENT, 12))
    assert bits(first.image) == bits(again.image)
    assert len({bits(image) for image in (*first.image, *other.image)}) == 2 * SAMPLES


def test_one_transform_switched_on_leaves_the_draws_of_the_others() -> None:
    batch = make_batch()
    alone = run(changed(shift=0.5, patch=[4, 8, 8]), batch)
    both = run(changed(shift=0.5, patch=[4, 8, 8], flip_columns=0.5), batch)
    np.testing.assert_array_equal(np.sort(alone.image, axis=-1), np.sort(both.image, axis=-1))
    assert bits(alone.image) != bits(both.image)


def test_more_numbers_drawn_leave_the_first_ones() -> None:
    key = jax.random.fold_in(KEY, int(Draw.NUMBERS))
    assert bits(jax.random.uniform(key, (40,))[:25]) == bits(jax.random.uniform(key, (25,)))


def test_probability_and_magnitude_are_kept() -> None:
    """Of 400 samples 30 % are shifted, give or take four standard deviations, evenly from -0.1 to 0.1."""
    batch = make_batch(400)
    amounts = np.asarray(run(changed(shift=0.3), batch._replace(image=jnp.zeros_like(batch.image))).image)[:, 0, 0, 0]
    drawn = amounts[amounts != 0]
    assert abs(len(drawn) / 400 - 0.3) < 4 * (0.3 * 0.7 / 400) ** 0.5
    assert np.abs(drawn).max() <= np.float32(0.1)
    assert np.ptp(drawn) > 0.18


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"patch": [2, 8]}, r"augmentation.patch must be \[slices, rows, columns\]"),
        ({"patch": [2, 13, 8]}, r"not larger than the images of 12×10, got \[2, 13, 8\]"),
        ({"scale_range": [1.4, 0.7]}, r"augmentation.scale_range must be \[smallest, largest\], got \[1.4, 0.7\]"),
        ({"gamma_range": [1.0]}, r"augmentation.gamma_range must be"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        medical_augmentation.make(changed(**fields), SHAPE[1:])


def test_a_patch_of_more_slices_than_a_sample_is_refused_when_it_is_traced() -> None:
    with pytest.raises(ConfigError, match=r"patch=\[5, 8, 8\] has more slices than a sample, 4"):
        jax.eval_shape(medical_augmentation.make(changed(patch=[5, 8, 8]), SHAPE[1:]), KEY, make_batch())
