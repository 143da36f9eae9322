"""What `medical_augmentation` draws for each sample, all from the sample's own key."""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import jax
from jax import Array


class Draw(IntEnum):
    """The sub-keys of a sample's key. A number released is never given to another draw; 0 to 4 are `augmentation`'s."""

    NUMBERS = 5
    ELASTIC = 6
    NOISE = 7


class Number(IntEnum):
    """What each of the numbers of `Draw.NUMBERS` decides: whether, or how much. One draw for all, because each would be
    compiled by itself. New ones come at the end, and leave the others as they are: threefry gives each place its number
    by itself (JAX_THREEFRY_PARTITIONABLE)."""

    FIRST_SLICE = 0
    FIRST_ROW = 1
    FIRST_COLUMN = 2
    FLIP_SLICES = 3
    FLIP_ROWS = 4
    FLIP_COLUMNS = 5
    ROTATION = 6
    ANGLE_SLICES = 7  # about the axis of the slices: within rows and columns
    ANGLE_ROWS = 8
    ANGLE_COLUMNS = 9
    SCALE = 10
    SCALE_FACTOR = 11
    ELASTIC = 12
    NOISE = 13
    NOISE_DEVIATION = 14
    BLUR = 15
    BLUR_DEVIATION = 16
    BRIGHTNESS = 17
    BRIGHTNESS_FACTOR = 18
    SHIFT = 19
    SHIFT_AMOUNT = 20
    CONTRAST = 21
    CONTRAST_FACTOR = 22
    GAMMA = 23
    GAMMA_EXPONENT = 24


class Drawn(NamedTuple):
    """Of one sample, or of a batch along a first axis, of which each sample is drawn apart."""

    key: Array
    numbers: Array  # float32 [..., Number], uniform in [0, 1)

    def chance(self, number: Number, probability: float) -> Array:
        """bool [...]: never where `probability` is 0, always where it is 1."""
        return self.numbers[..., number] < probability

    def within(self, number: Number, bounds: tuple[float, float]) -> Array:
        """float32 [...], uniform."""
        low, high = bounds
        return low + (high - low) * self.numbers[..., number]

    def normal(self, draw: Draw, shape: Sequence[int]) -> Array:
        """Standard normal float32 [*shape], of one sample."""
        return jax.random.normal(jax.random.fold_in(self.key, int(draw)), shape)


def draw(key: Array) -> Drawn:
    """Of the sample whose key this is."""
    return Drawn(key, jax.random.uniform(jax.random.fold_in(key, int(Draw.NUMBERS)), (len(Number),)))
