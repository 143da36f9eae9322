"""One thing to predict, whatever its format, and what comes of it. Holds no format and no JAX."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crh_train.digest import digest_bytes, little_endian


class Result(NamedTuple):
    values: np.ndarray  # [X, Y, Z] on the grid of `Case.image`: float64 in the file's intensities, or int32 classes
    classes: bool
    checkpoint: str  # the hash


class Encoded(NamedTuple):
    files: Mapping[str, bytes]  # name in a folder -> its bytes; a single file has the empty name
    array: np.ndarray  # what stands in them, in the file's own axes and number type

    @property
    def sha256(self) -> str:
        """Of the array's bytes, little-endian, in C order."""
        return digest_bytes(np.ascontiguousarray(little_endian(self.array)).tobytes())


class Case(NamedTuple):
    """An image that was read, and how a result is written beside it."""

    path: Path  # the first file, for messages
    image: np.ndarray  # [X, Y, Z] or [X, Y, Z, M] in RAS+; or k-space float32 [S, coils, rows, columns, 2]
    spacing: tuple[float, float, float] | None  # millimetres along x, y, z; None where the format knows none
    axis: str | None  # that slices lie across, where the format decides it
    encode: Callable[[Result, str], Encoded]  # result, ending
    kspace: bool = False


def stored(values: np.ndarray, dtype: np.dtype, slope: float = 1.0, intercept: float = 0.0) -> np.ndarray:
    """`values` float64 as a file of numbers `dtype` holds them: (v - intercept) / slope, of whole numbers the nearest
    that there is; of numbers with a fraction, float32."""
    raw = np.divide(np.subtract(values, intercept), slope)
    if dtype.kind == "f":
        single: np.ndarray = raw.astype(np.float32)
        return single
    limits = np.iinfo(dtype)
    return bounded(raw, int(limits.min), int(limits.max)).astype(dtype.newbyteorder("="))


def bounded(raw: np.ndarray, low: int, high: int) -> np.ndarray:
    """The nearest whole numbers from `low` to `high`, of the two that are as near the even one; float64."""
    # 2^63 - 1 is no float64: the largest one below it is the most that fits.
    top = float(high) if int(float(high)) <= high else float(np.nextafter(float(high), 0.0))
    whole: np.ndarray = np.clip(np.rint(raw), float(low), top)
    return whole


def label_type(classes: np.ndarray) -> np.dtype:
    """The smallest type that holds these classes; an atlas may number its structures with any int32."""
    return np.dtype(np.min_scalar_type(max(1, int(classes.max(initial=0)))))
