"""Resampling keeps what needs no change bit for bit, a ramp a ramp, and each side of a mirror the other's image."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crh_train.data import resampling

GENERATOR = np.random.default_rng(0)
IMAGE = (GENERATOR.standard_normal((7, 6, 5)) * 100).astype(np.float32)
LABELS = GENERATOR.integers(0, 4, (7, 6, 5)).astype(np.int32)
OLD = (1.0, 2.0, 0.7)

spacings = st.tuples(*[st.floats(0.3, 4.0)] * 3)


def linear(image: np.ndarray, wanted: tuple[float, float, float]) -> np.ndarray:
    return resampling.linear(image, OLD, wanted, resampling.shape_at(image.shape[:3], OLD, wanted))


def test_the_same_spacing_changes_no_bit() -> None:
    odd = IMAGE.copy()
    odd[0, 0, :3] = [-0.0, np.float32(1e-45), np.float32(3.4e38)]
    assert linear(odd, OLD).tobytes() == odd.tobytes()
    stored = tuple(float(np.float32(step)) for step in OLD)  # as NIfTI stores it
    assert stored != OLD
    assert linear(odd, stored).tobytes() == odd.tobytes()
    assert resampling.nearest(LABELS, OLD, OLD, LABELS.shape).tobytes() == LABELS.tobytes()


@given(wanted=spacings)
def test_a_ramp_stays_a_ramp_at_the_stated_positions_and_edges_are_clamped(wanted: tuple[float, float, float]) -> None:
    shape = resampling.shape_at(IMAGE.shape, OLD, wanted)
    slopes, axes, expected = (3.0, -2.0, 0.5), [], np.zeros(shape)
    for axis, (size, count) in enumerate(zip(IMAGE.shape, shape, strict=True)):
        old, new = OLD[axis], wanted[axis]
        assert count == max(1, round(Fraction(size) * Fraction(old) / Fraction(new))) or new == pytest.approx(old)
        centres = (np.arange(count) - (count - 1) / 2) * new  # in mm from the common centre
        inside = np.clip(centres, -(size - 1) / 2 * old, (size - 1) / 2 * old)
        along = [-1 if axis == other else 1 for other in range(3)]
        expected = expected + (slopes[axis] * inside).reshape(along)
        axes.append((slopes[axis] * (np.arange(size) - (size - 1) / 2) * old).reshape(along))
    ramp = (axes[0] + axes[1] + axes[2]).astype(np.float32)
    np.testing.assert_allclose(linear(ramp, wanted), expected, atol=2e-4)


@given(wanted=spacings, axis=st.integers(0, 2))
def test_a_mirrored_volume_gives_the_mirrored_result_bit_for_bit(wanted: tuple[float, float, float], axis: int) -> None:
    assert np.flip(linear(IMAGE, wanted), axis).tobytes() == linear(np.flip(IMAGE, axis), wanted).tobytes()


@given(wanted=spacings, value=st.floats(-(2.0**90), 2.0**90, width=32))
def test_a_constant_stays_the_same_number(wanted: tuple[float, float, float], value: float) -> None:
    assert set(linear(np.full((4, 3, 2), value, np.float32), wanted).flat) == {np.float32(value)}


@given(wanted=spacings)
def test_channels_are_resampled_as_if_alone_and_labels_are_those_of_the_nearest_voxel(
    wanted: tuple[float, float, float],
) -> None:
    both = linear(np.stack([IMAGE, -IMAGE], axis=-1), wanted)
    assert both[..., 0].tobytes() == linear(IMAGE, wanted).tobytes()
    assert both[..., 1].tobytes() == linear(-IMAGE, wanted).tobytes()
    shape = resampling.shape_at(LABELS.shape, OLD, wanted)
    found = resampling.nearest(LABELS, OLD, wanted, shape)
    # The nearest voxel is the one whose indicator, interpolated, is at least a half along each axis.
    where = [
        [
            int(np.argmin([abs(Fraction(k) - p) for k in range(size)]))
            for p in resampling._positions(size, count, old, new)
        ]
        for size, count, old, new in zip(LABELS.shape, shape, OLD, wanted, strict=True)
    ]
    assert found.tobytes() == LABELS[np.ix_(*where)].tobytes()
    assert found.shape == shape


def test_the_way_back_has_the_shape_of_the_file() -> None:
    wanted = (1.6, 1.1, 2.0)
    there = linear(IMAGE, wanted)
    assert resampling.linear(there, wanted, OLD, IMAGE.shape).shape == IMAGE.shape


def test_the_bits_are_those_of_python_s_own_arithmetic() -> None:
    """Python's float operations round once each, on every machine."""
    wanted = (0.7, 1.7, 1.3)
    found = linear(IMAGE, wanted)
    values = {place: float(IMAGE[place]) for place in np.ndindex(IMAGE.shape)}
    shape = list(IMAGE.shape)
    for axis, count in enumerate(found.shape):
        step = Fraction(wanted[axis]) / Fraction(OLD[axis])
        size, shape[axis] = shape[axis], count
        moved = {}
        for place in np.ndindex(*shape):
            centre = (place[axis] + Fraction(1, 2)) * step - Fraction(1, 2) + (size - count * step) / 2
            centre = min(max(centre, Fraction(0)), Fraction(size - 1))
            below = int(centre)
            low, high = ((*place[:axis], k, *place[axis + 1 :]) for k in (below, min(below + 1, size - 1)))
            moved[place] = values[low] * float(1 - (centre - below)) + values[high] * float(centre - below)
        values = moved
    expected = np.array([values[place] for place in np.ndindex(*shape)]).astype(np.float32)
    assert found.tobytes() == expected.tobytes()
