"""From a volume to the pictures of its slices: pure JAX functions. No files, no splits.

Pictures stand as radiologists look at them: row 0 on top, columns from left to right.

    axis      slices go       rows go            columns go
    axial     feet to head    front to back      patient's right to left
    coronal   back to front   head to feet       patient's right to left
    sagittal  left to right   head to feet       front to back
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array

from crh_train.config import CasesConfig, DataConfig, FastmriConfig, ImagesConfig
from crh_train.data import kspace
from crh_train.data.dataset import Preparation
from crh_train.data.volume import AXES
from crh_train.errors import ConfigError


def make(config: DataConfig, classes: int) -> Preparation:
    """The preparation of one volume: intensity scaled, downsampled, cut into pictures, these cropped or padded. Each
    channel of an image [X, Y, Z, M] is prepared as if it were alone. The intensities of data=images are scaled where
    they are read, by a range that is the same for all; k-space becomes input and target (`kspace.input_and_target`).

    Args:
      classes: labels are 0 to classes - 1.

    Raises:
      ConfigError: `shape` is not a pair of rows and columns.
    """
    if len(config.shape) != 2:
        raise ConfigError(f"data.shape must be [rows, columns], got {config.shape}")
    if isinstance(config, FastmriConfig):
        return _from_kspace(config)
    scale = _scale(config)

    def pictures(image: Array) -> Array:
        image = block_mean(scale(image), config.downsample)
        return crop_or_pad(cut(image, config.axis), config.shape)

    def prepare(image: Array, labels: Array | None) -> tuple[Array, Array | None]:
        if labels is not None:
            labels = block_majority(labels, config.downsample, classes)
            labels = crop_or_pad(cut(labels, config.axis), config.shape)
        if image.ndim == 3:
            return pictures(image), labels
        return jnp.stack([pictures(image[..., channel]) for channel in range(image.shape[-1])], axis=-1), labels

    return prepare


def _from_kspace(config: FastmriConfig) -> Preparation:
    def prepare(samples: Array, labels: Array | None) -> tuple[Array, Array | None]:
        with jax.ensure_compile_time_eval():  # the mask is data, and not part of what is traced
            mask = kspace.sampling_mask(
                samples.shape[3],
                config.acceleration,
                config.center_fraction,
                config.mask,
                config.mask_seed,
                group="data",
            )
        images = kspace.input_and_target(samples, mask, config.shape)
        return jnp.stack([crop_or_pad(images[..., channel], config.shape) for channel in (0, 1)], axis=-1), labels

    return prepare


def _scale(config: DataConfig) -> Callable[[Array], Array]:
    if isinstance(config, ImagesConfig):
        return lambda image: image
    if isinstance(config, CasesConfig) and config.window is not None:
        low, high = config.window
        return lambda image: scale_window(image, low, high)
    return scale_intensity


def scale_intensity(image: Array) -> Array:
    """`image` with [min(0, minimum), maximum] mapped to [0, 1]: (v - low) / (high - low). float32.

    For magnitude images, which are not negative, that is division by the maximum; the scale is the whole volume's, not
    each slice's, so slices stay comparable. The image must not be constant.
    """
    low = jnp.minimum(jnp.min(image), jnp.float32(0.0))
    return (image - low) / (jnp.max(image) - low)


def scale_window(image: Array, low: float, high: float) -> Array:
    """`image` clipped to [low, high], which is mapped to [0, 1]: (v - low) / (high - low). float32.

    For images whose intensities mean something, such as Hounsfield units: volumes stay comparable with one another.
    """
    bottom, top = jnp.float32(low), jnp.float32(high)
    scaled: Array = (jnp.clip(image, bottom, top) - bottom) / (top - bottom)
    return scaled


def block_mean(image: Array, factor: int) -> Array:
    """The mean of each cube of factor³ voxels; a remainder at the high end of an axis is dropped."""
    return jnp.mean(_blocks(image, factor), axis=(1, 3, 5)) if factor > 1 else image


def block_majority(labels: Array, factor: int, classes: int) -> Array:
    """The commonest class of each cube of factor³ voxels, int32; the lowest wins a tie."""
    blocks = _blocks(labels, factor)
    counts = [jnp.sum((blocks == label).astype(jnp.int32), axis=(1, 3, 5)) for label in range(classes)]
    return jnp.argmax(jnp.stack(counts), axis=0).astype(jnp.int32)


def _blocks(array: Array, factor: int) -> Array:
    """[X, Y, Z] -> [X', factor, Y', factor, Z', factor]."""
    x, y, z = (size // factor for size in array.shape)
    return array[: x * factor, : y * factor, : z * factor].reshape(x, factor, y, factor, z, factor)


def cut(volume: Array, axis: str) -> Array:
    """The slices of a RAS+ volume across `axis`: [X, Y, Z] -> [S, rows, columns], as the module's table has them.

    Of the two axes that are left, the later one is the rows and the earlier one the columns. RAS+ counts towards the
    patient's right, front and head; pictures begin there, so both are reversed.
    """
    across = AXES[axis]
    column_axis, row_axis = (other for other in range(3) if other != across)
    return jnp.transpose(volume, (across, row_axis, column_axis))[:, ::-1, ::-1]


def crop_or_pad(pictures: Array, shape: Sequence[int]) -> Array:
    """The centre of each picture, [S, h, w] -> [S, *shape], with zeros where a picture is smaller.

    An odd pixel too many is cut off at the high end; an odd pixel too few is added there.
    """
    for axis, size in ((1, shape[0]), (2, shape[1])):
        excess = pictures.shape[axis] - size
        keep = [slice(None)] * 3
        keep[axis] = slice(max(excess, 0) // 2, max(excess, 0) // 2 + size)
        before = max(-excess, 0) // 2
        padding = [(0, 0)] * 3
        padding[axis] = (before, max(-excess, 0) - before)
        pictures = jnp.pad(pictures[tuple(keep)], padding)
    return pictures
