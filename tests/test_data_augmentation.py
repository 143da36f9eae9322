"""Augmentation is a pure function of (step key, sample index): bit for bit, whatever the rest of the batch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crh_train.config import AugmentationConfig
from crh_train.data import augmentation
from crh_train.errors import ConfigError
from crh_train.randomness import Purpose, derive, root_key
from crh_train.types import Batch

OFF = AugmentationConfig(
    name="standard", flip_rows=False, flip_columns=False, rotate_90=False, intensity_scale=0.0, noise=0.0
)
ALL = dataclasses.replace(OFF, flip_rows=True, flip_columns=True, rotate_90=True, intensity_scale=0.1, noise=0.005)
GEOMETRY = dataclasses.replace(ALL, intensity_scale=0.0, noise=0.0)
KEY = derive(root_key(3), Purpose.AUGMENT, 11)
SAMPLES, SLICES, SIDE = 16, 2, 12


def make_batch(rows: int = SIDE, columns: int = SIDE) -> Batch:
    """Every pixel has a value of its own within its slice, and its label is that value."""
    values = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    label = np.broadcast_to(values, (SAMPLES, SLICES, rows, columns))
    return Batch(jnp.asarray(label / 256, jnp.float32), jnp.asarray(label), jnp.arange(SAMPLES, dtype=jnp.int32))


@functools.lru_cache  # compiling threefry is what takes time here
def compiled(config: AugmentationConfig, shape: tuple[int, int]) -> augmentation.Augmentation:
    return jax.jit(augmentation.make(config, shape))


def run(config: AugmentationConfig, batch: Batch, key: jax.Array = KEY) -> Batch:
    return compiled(config, batch.image.shape[-2:])(key, batch)


def bits(array: Any) -> bytes:
    return np.asarray(array).tobytes()


def test_all_off_is_the_identity() -> None:
    batch = make_batch()
    for before, after in zip(batch, run(OFF, batch), strict=True):
        assert bits(before) == bits(after)


@pytest.mark.parametrize("chosen", [[5], [1, 2, 5, 7, 8, 14, 15], list(range(SAMPLES))[::-1]])
def test_a_sample_is_augmented_alike_wherever_it_stands_in_whatever_batch(chosen: list[int]) -> None:
    batch = make_batch()
    whole = run(ALL, batch)
    part = run(ALL, Batch(batch.image[np.array(chosen)], batch.label[np.array(chosen)], batch.sample[np.array(chosen)]))
    for place, sample in enumerate(chosen):
        assert bits(part.image[place]) == bits(whole.image[sample])
        assert bits(part.label[place]) == bits(whole.label[sample])


def test_another_step_draws_anew_and_the_same_step_the_same() -> None:
    batch = make_batch()
    again, other = run(ALL, batch), run(ALL, batch, derive(root_key(3), Purpose.AUGMENT, 12))
    assert bits(again.image) == bits(run(ALL, batch).image)
    assert not (np.asarray(again.image) == np.asarray(other.image)).all(axis=(1, 2, 3)).any()


def test_samples_are_drawn_apart() -> None:
    batch = make_batch()
    assert len({bits(image) for image in run(ALL, batch).image}) == SAMPLES


def test_labels_follow_the_geometry_and_all_slices_share_it() -> None:
    batch = make_batch()
    after = run(GEOMETRY, batch)
    np.testing.assert_array_equal(np.asarray(after.image) * 256, np.asarray(after.label))
    np.testing.assert_array_equal(after.label[:, 0], after.label[:, 1])
    symmetries = {bits(np.rot90(s, k)) for s in (batch.label[0, 0], batch.label[0, 0, ::-1]) for k in range(4)}
    drawn = {bits(label[0]) for label in after.label}
    assert drawn <= symmetries
    assert len(drawn) > 4


@pytest.mark.parametrize(("field", "axis"), [("flip_rows", -2), ("flip_columns", -1)])
def test_a_flip_reverses_its_own_axis_in_some_samples(field: str, axis: int) -> None:
    batch = make_batch(rows=8)
    after = run(dataclasses.replace(OFF, **{field: True}), batch)
    flipped = np.array([bits(a) == bits(np.flip(b, axis)) for a, b in zip(after.image, batch.image, strict=True)])
    kept = np.array([bits(a) == bits(b) for a, b in zip(after.image, batch.image, strict=True)])
    assert (flipped ^ kept).all()
    assert flipped.any()
    assert kept.any()


def test_quarter_turns_alone_come_in_all_four() -> None:
    batch = make_batch()
    turned = {bits(label[0]) for label in run(dataclasses.replace(OFF, rotate_90=True), batch).label}
    assert turned == {bits(np.rot90(batch.label[0, 0], k)) for k in range(4)}


def test_intensity_and_noise_leave_labels_alone() -> None:
    batch = make_batch()
    shaded = run(dataclasses.replace(OFF, intensity_scale=0.5, noise=0.1), batch)
    assert bits(shaded.label) == bits(batch.label)
    assert bits(shaded.image) != bits(batch.image)


def test_the_scale_is_one_factor_a_sample_within_its_bounds() -> None:
    batch = make_batch()
    ones = batch._replace(image=jnp.ones_like(batch.image))
    factors = np.asarray(run(dataclasses.replace(OFF, intensity_scale=0.2), ones).image).reshape(SAMPLES, -1)
    assert (factors == factors[:, :1]).all()
    assert (np.abs(factors - 1) <= np.float32(0.2) + 1e-7).all()
    assert np.ptp(factors) > 0.2


def test_noise_has_its_deviation_and_differs_from_pixel_to_pixel() -> None:
    batch = make_batch()
    zeros = batch._replace(image=jnp.zeros_like(batch.image))
    noise = np.asarray(run(dataclasses.replace(OFF, noise=0.25), zeros).image)
    assert len(np.unique(noise)) > 0.99 * noise.size
    # 4,608 draws: the standard error of a deviation is 1 %, that of the mean 0.004.
    assert abs(noise.std() - 0.25) < 0.0125
    assert abs(noise.mean()) < 0.02


def test_one_augmentation_switched_on_leaves_the_draws_of_the_others() -> None:
    batch = make_batch()
    alone = run(dataclasses.replace(OFF, flip_columns=True), batch)
    both = run(dataclasses.replace(OFF, flip_columns=True, flip_rows=True), batch)
    unflipped = np.sort(np.asarray(both.label), axis=-2)  # rows ascend again; columns as they are
    np.testing.assert_array_equal(unflipped, alone.label)


def test_a_batch_without_labels_stays_without() -> None:
    assert run(GEOMETRY, make_batch()._replace(label=None)).label is None


def test_quarter_turns_of_oblong_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs square images, data.shape is \[96, 112\]"):
        augmentation.make(ALL, [96, 112])
