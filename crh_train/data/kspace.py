"""Cartesian undersampling of k-space: which columns are sampled, and the zero-filled image of them, from an image,
whose k-space is synthetic, or from the k-space of a scanner's coils.
"""

from collections.abc import Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from crh_train.errors import ConfigError
from crh_train.randomness import Purpose, derive, root_key


def sampling_mask(
    columns: int, acceleration: int, center_fraction: float, kind: str, seed: int, group: str = "task"
) -> np.ndarray:
    """Which columns of centred k-space (zero frequency at columns // 2) are sampled: float32 [columns], 1 or 0.

    As fastMRI's masks: round(columns · center_fraction) columns around zero frequency, and of the others as many as
    bring the whole to about columns / acceleration. `equispaced` takes them at even distance, which fastMRI begins at a
    drawn offset and this at half the distance; `random` draws exactly round(columns / acceleration) in all, once, from
    `seed`.

    Source: fastMRI, `fastmri/data/subsample.py`; Zbontar et al. 2018, arXiv:1811.08839, section 6.1.

    Args:
      group: of the configuration, that the fields belong to.

    Raises:
      ConfigError: the centre alone is as much as the acceleration allows, no column is left, or `kind` is unknown.
    """
    if acceleration == 1:
        return np.ones(columns, np.float32)
    center = round(columns * center_fraction)
    if center * acceleration >= columns:
        raise ConfigError(
            f"{group}.center_fraction={center_fraction} samples {center} of {columns} columns, no fewer than "
            f"{group}.acceleration={acceleration} allows in all; lower one of them"
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
        raise ConfigError(f"{group}.mask={kind!r} is unknown; known: equispaced, random")
    if not mask.any():
        raise ConfigError(f"{group}.acceleration={acceleration} leaves none of {columns} columns; lower it")
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


def input_and_target(kspace: Array, mask: Array | np.ndarray, shape: Sequence[int]) -> Array:
    """`magnitudes`, both divided by the second one's largest value in the volume."""
    pictures = magnitudes(kspace, mask, shape)
    return pictures / jnp.max(pictures[..., 1])


def magnitudes(kspace: Array, mask: Array | np.ndarray, shape: Sequence[int]) -> Array:
    """Images of the sampled and of all columns, from the k-space of one volume: float32 [S, coils, rows, columns, 2],
    real and imaginary parts -> float32 [S, rows', columns', 2], at most `shape`, the centre.

        √ Σ_coils | F⁻¹ (mask · kspace) |²,  F the centred orthonormal two-dimensional Fourier transform

    For one coil that is the magnitude. Rows are transformed first, for both images at once; and what is cropped away
    is not transformed further. One slice after another, so that memory holds the intermediates of one.

    Args:
      mask: float32 [columns], zero frequency at columns // 2.

    Source: fastMRI, `fastmri/fftc.py`, `fastmri/coil_combine.py`, `fastmri/data/transforms.py` (`center_crop`).
    """

    def of_slice(samples: Array) -> Array:
        rows = _inverse_transform(lax.complex(samples[..., 0], samples[..., 1]), -2, shape[0])
        return jnp.stack([magnitude(rows * jnp.asarray(mask)), magnitude(rows)], axis=-1)

    def magnitude(rows: Array) -> Array:
        coils = _inverse_transform(rows, -1, shape[1])
        return jnp.sqrt(jnp.sum(jnp.real(coils) ** 2 + jnp.imag(coils) ** 2, axis=0))

    pictures: Array = lax.map(of_slice, kspace)
    return pictures


def _inverse_transform(samples: Array, axis: int, size: int) -> Array:
    """The centred orthonormal inverse transform along `axis`, of which at most `size` values in the middle are kept."""
    shifted = jnp.fft.ifft(jnp.fft.ifftshift(samples, axes=axis), axis=axis, norm="ortho")
    values = jnp.fft.fftshift(shifted, axes=axis)
    first = max(values.shape[axis] - size, 0) // 2
    return lax.slice_in_dim(values, first, first + min(size, values.shape[axis]), axis=values.ndim + axis)
