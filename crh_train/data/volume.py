"""What a data source gives: volumes known by the hashes of their files, and the split of their slices.

Holds no file format and no JAX. A volume is decoded only when its `read` is called, so that hashing a source, to see
whether it changed, costs no decoding, and one volume at a time is in memory.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crh_train.config import DataConfig

AXES: Mapping[str, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The array axis that slices are cut across, in RAS+ orientation (x to the right, y to the front, z to the top)."""


class Voxels(NamedTuple):
    image: np.ndarray  # float32 [X, Y, Z], or [X, Y, Z, M] of M > 1 channels; RAS+, finite, no channel constant
    labels: np.ndarray | None  # int32 [X, Y, Z], a class per voxel; or int32 [], the class of the whole volume


class Volume(NamedTuple):
    id: str
    files: Mapping[str, str]  # file name, relative to its source -> SHA-256 of the file's bytes
    shape: tuple[int, int, int]  # of what `read` gives: voxels along x, y, z, in RAS+ orientation
    spacing: tuple[float, float, float]  # of what `read` gives: millimetres from voxel to voxel along x, y, z
    orientation: str  # of the file's own axes, such as "LAS"
    read: Callable[[], Voxels]  # raises DataError where the files' bytes are no longer those hashed
    facts: Mapping[str, Any] = MappingProxyType({})
    """What else the manifest records of it, as JSON. `patient`, who is never in two splits; `metadata`, columns of a
    table, name to text; `original`, shape and spacing before resampling."""
    kspace: tuple[int, int, int] | None = None
    """Coils, rows and columns where `read` gives k-space float32 [Z, coils, rows, columns, 2] instead of an image; the
    last axis is the real and the imaginary part."""


class Segment(NamedTuple):
    """Consecutive slices of one volume that belong to one split. Every sample lies wholly in one segment."""

    volume: str  # its id
    split: str  # "train" or "validation"
    first: int
    stop: int  # one past the last


class Source(NamedTuple):
    name: str
    volumes: tuple[Volume, ...]
    segments: tuple[Segment, ...]
    classes: int  # of the labels; 0 where there are none
    channels: int = 1  # of every prepared image
    labelled: str = "pixel"  # what has a class, where there are labels: each "pixel", or the whole "case"
    class_names: tuple[str, ...] = ()  # in the order of the classes, where the source has names for them
    files: Mapping[str, str] = MappingProxyType({})  # beside the volumes', such as a table; as in `Volume.files`


def image_shape(source: Source, volume: Volume) -> tuple[int, ...]:
    """Of the image that `volume.read` gives."""
    if volume.kspace is not None:
        return (volume.shape[2], *volume.kspace, 2)
    return volume.shape if source.channels == 1 else (*volume.shape, source.channels)


def slice_count(volume: Volume, config: DataConfig) -> int:
    """Slices of `volume` across the configured axis, after downsampling (a remainder at the high end is dropped)."""
    return volume.shape[AXES[config.axis]] // config.downsample
