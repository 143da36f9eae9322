"""From a case to the slices that the model sees, as in training, and from what it makes of them back to its grid.

Forth: resampled to `data.spacing`, intensities scaled, downsampled, cut across `data.axis`, cropped or padded; k-space
is undersampled by the run's mask. Back, each undone in turn: what was cropped away is black, or class 0; voxels between
those that were downsampled or resampled are interpolated linearly, classes are those of the nearest voxel; intensities
are at the volume's own scale again. All of the way back is NumPy on the host, one rounding at a time.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from crh_train.config import CasesConfig, DataConfig, FastmriConfig, ImagesConfig
from crh_train.data import kspace, pictures, preparation, resampling, resizing
from crh_train.data.images import as_volume, sized
from crh_train.data.volume import AXES
from crh_train.errors import DataError
from crh_train.inference.case import Case

Transform = Callable[[Callable[..., Any]], Callable[..., Any]]


class Prepared(NamedTuple):
    slices: np.ndarray  # float32 [S, H, W] or [S, H, W, M]
    back: Callable[[np.ndarray], np.ndarray]  # [S, H, W], float32 or int32 classes, on the case's grid
    black: float  # the intensity that became 0
    white: float  # and the one that became 1

    def intensities(self, scaled: np.ndarray) -> np.ndarray:
        """`scaled` at the file's own scale, float64."""
        return np.add(np.multiply(scaled.astype(np.float64), self.white - self.black), self.black)


def prepare(case: Case, config: DataConfig, transform: Transform) -> Prepared:
    """The slices of `case`. `transform` is what the run's level of determinism does to a function before `jit`.

    Raises:
      DataError: the case is not what the configuration can prepare.
    """
    if case.kspace != isinstance(config, FastmriConfig):
        raise DataError(
            f"{case.path}: the run was trained on {'images' if case.kspace else 'k-space'} (data={config.name}), this "
            f"is {'k-space' if case.kspace else 'an image'}; expected "
            f"{'an image' if case.kspace else 'a fastMRI *.h5 file'}"
        )
    if isinstance(config, FastmriConfig):
        return _from_kspace(case, config, transform)
    if isinstance(config, ImagesConfig):
        return _fitted(case, config)
    return _cut(case, config, transform)


def _from_kspace(case: Case, config: FastmriConfig, transform: Transform) -> Prepared:
    mask = kspace.sampling_mask(
        case.image.shape[3], config.acceleration, config.center_fraction, config.mask, config.mask_seed, group="data"
    )

    def scaled(samples: Array) -> tuple[Array, Array]:
        found = kspace.magnitudes(samples, mask, config.shape)
        largest = jnp.max(found[..., 1])
        return found[..., 0] / largest, largest

    zero_filled, largest = jax.device_get(jax.jit(transform(scaled))(case.image))
    size = zero_filled.shape[1:]
    given = resizing.crop_or_pad(zero_filled, config.shape)
    return Prepared(given, lambda made: resizing.crop_or_pad(made, size), 0.0, float(largest))


def _fitted(case: Case, config: ImagesConfig) -> Prepared:
    window = None if config.window is None else (config.window[0], config.window[1])
    black, white = window if window is not None else (0, pictures.value_range(case.image.dtype))
    scaled = pictures.intensities(case.image, window, case.path)
    assert white is not None  # or `intensities` would have refused it
    stack = np.swapaxes(scaled, 0, 2)[:, ::-1, ::-1]
    rows, columns = stack.shape[1:3]
    size = resizing.fitted(rows, columns, config.shape) if config.resize else (rows, columns)

    def back(made: np.ndarray) -> np.ndarray:
        resize = resizing.nearest if made.dtype == np.int32 else resizing.linear
        return as_volume(resize(resizing.crop_or_pad(made, size), (rows, columns)))

    return Prepared(np.ascontiguousarray(sized(stack, config)), back, float(black), float(white))


def _cut(case: Case, config: DataConfig, transform: Transform) -> Prepared:
    axis = config.axis if case.axis is None else case.axis
    spacing = config.spacing if isinstance(config, CasesConfig) else None
    image = case.image.astype(np.float32, copy=False)
    if spacing is not None:
        if case.spacing is None:
            raise DataError(f"{case.path}: the run resamples to data.spacing={spacing}, and pictures have none")
        shape = resampling.shape_at(image.shape[:3], case.spacing, spacing)
        image = resampling.linear(image, case.spacing, spacing, shape)
    black, white = _extremes(image, config, case.path)
    if min(image.shape[:3]) < config.downsample:
        raise DataError(
            f"{case.path}: {list(image.shape[:3])} voxels are too few for data.downsample={config.downsample}"
        )
    data = dataclasses.replace(config, axis=axis)
    prepared = jax.jit(transform(lambda given: preparation.make(data, 0)(given, None)[0]))
    coarse = tuple(size // config.downsample for size in image.shape[:3])

    def back(made: np.ndarray) -> np.ndarray:
        rows, columns = (coarse[other] for other in reversed(_others(axis)))
        volume = _enlarged(_uncut(resizing.crop_or_pad(made, (rows, columns)), axis), config.downsample, image.shape)
        if spacing is None or case.spacing is None:
            return volume
        resample = resampling.nearest if made.dtype == np.int32 else resampling.linear
        x, y, z = case.image.shape[:3]
        return resample(volume, spacing, case.spacing, (x, y, z))

    return Prepared(jax.device_get(prepared(image)), back, black, white)


def _extremes(image: np.ndarray, config: DataConfig, path: Path) -> tuple[float, float]:
    """Which intensities of the first channel `preparation.make` turns to 0 and 1."""
    if isinstance(config, CasesConfig) and config.window is not None:
        return config.window[0], config.window[1]
    channels = image.reshape(*image.shape[:3], -1)
    if (channels.min((0, 1, 2)) == channels.max((0, 1, 2))).any():
        raise DataError(f"{path}: every voxel of a channel is the same; there is nothing to predict from")
    first = channels[..., 0]
    return min(0.0, float(first.min())), float(first.max())


def _others(axis: str) -> tuple[int, int]:
    """The volume's axes that become columns and rows, as `preparation.cut` has them."""
    column_axis, row_axis = (other for other in range(3) if other != AXES[axis])
    return column_axis, row_axis


def _uncut(stack: np.ndarray, axis: str) -> np.ndarray:
    """The inverse of `preparation.cut`."""
    column_axis, row_axis = _others(axis)
    return np.transpose(stack[:, ::-1, ::-1], np.argsort((AXES[axis], row_axis, column_axis)))


def _enlarged(volume: np.ndarray, factor: int, shape: Sequence[int]) -> np.ndarray:
    """The way back from `preparation.block_mean`, to `shape`; a remainder at the high end repeats what is beside it."""
    if factor == 1:
        return volume
    x, y, z = (size * factor for size in volume.shape)
    if volume.dtype == np.int32:
        volume = volume.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)
    else:
        volume = resampling.linear(volume, [float(factor)] * 3, [1.0] * 3, (x, y, z))
    return np.pad(volume, [(0, size - now) for size, now in zip(shape, volume.shape, strict=False)], mode="edge")
