"""Cartesian undersampling of k-space, for one coil: which columns are sampled, and the zero-filled image of them.

Knows nothing of real scanners' noise, coils or phase: the images are magnitudes, so their k-space is synthetic.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train.errors import ConfigError
from crh_train.randomness import Purpose, derive, root_key


def sampling_mask(columns: int, acceleration: int, center_fraction: float, kind: str, seed: int) -> np.ndarray:
    """Which columns of centred k-space (zero frequency at columns // 2) are sampled: float32 [columns], 1 or 0.

    As fastMRI's masks: round(columns · center_fraction) columns around zero frequency, and of the others as many as
    bring the whole to about columns / acceleration. `equispaced` takes them at even distance, which fastMRI begins at a
    drawn offset and this at half the distance; `random` draws exactly round(columns / acceleration) in all, once, from
    `seed`.

    Source: fastMRI, `fastmri/data/subsample.py`; Zbontar et al. 2018, arXiv:1811.08839, section 6.1.

    Raises:
      ConfigError: the centre alone is as much as the acceleration allows, no column is left, or `kind` is unknown.
    """
    if acceleration == 1:
        return np.ones(columns, np.float32)
    center = round(columns * center_fraction)
    if center * acceleration >= columns:
        raise ConfigError(
            f"task.center_fraction={center_fraction} samples {center} of {columns} columns, no fewer than "
            f"task.acceleration={acceleration} allows in all; lower one of them"
        )
    mask = np.zeros(columns, np.float32)
    first = (columns - center + 1) // 2
    mask[first : first + center] = 1
    if kind == "equispaced":
        # Exact fractions: a rounded distance could move a column from one machine to the next.
        distance = Fraction(acceleration * (columns - center), columns - acceleration * center)
        position = Fraction(round(distance) // 2)
        while position <= columns - 1:
            mask[round(position)] = 1
            position += distance
    elif kind == "random":
        others = np.flatnonzero(mask == 0)
        key = derive(root_key(seed), Purpose.SAMPLING_MASK, 0)
        drawn = np.asarray(jax.random.permutation(key, len(others)))[: round(columns / acceleration) - center]
        mask[others[drawn]] = 1
    else:
        raise ConfigError(f"task.mask={kind!r} is unknown; known: equispaced, random")
    if not mask.any():
        raise ConfigError(f"task.acceleration={acceleration} leaves none of {columns} columns; lower it")
    return mask


def undersample(image: Array, mask: Array | np.ndarray) -> Array:
    """The magnitude of the zero-filled reconstruction of `image`, float32 [..., H, W], from the columns in `mask`.

        | F⁻¹ (mask · F image) |,  F the centred orthonormal two-dimensional Fourier transform

    The mask keeps or drops whole columns, so the transform along H is undone untouched and is left out; and masking is
    a circular convolution, which commutes with the centring of the image, so only the mask is shifted.

    Args:
      mask: float32 [W], zero frequency at W // 2.
    """
    kspace = jnp.fft.fft(image, axis=-1) * jnp.fft.ifftshift(jnp.asarray(mask))
    return jnp.abs(jnp.fft.ifft(kspace, axis=-1))
