"""From the axes of a file to RAS+ (x to the patient's right, y to the front, z to the top), and back.

Axes are permuted and flipped to the nearest such arrangement, which moves voxels and computes nothing; an oblique
volume keeps its obliqueness. An affine is float64 [4, 4], from array indices to millimetres in RAS+.
"""

from typing import Any

import numpy as np
from nibabel import orientations

_orientations: Any = orientations  # nibabel declares types but has none here
_RAS = ((0, 1), (1, 1), (2, 1))


def has_directions(affine: np.ndarray) -> bool:
    """Whether each axis of the array points somewhere of its own."""
    return bool(np.isfinite(affine).all() and not np.isnan(_orientations.io_orientation(affine)).any())


def codes(affine: np.ndarray) -> str:
    """Where the array's axes point to, such as "LAS"."""
    return "".join(_orientations.aff2axcodes(affine))


def order(affine: np.ndarray) -> tuple[int, int, int]:
    """Which of the array's axes is x, which y, which z."""
    x, y, z = (int(axis) for axis in np.argsort(_orientations.io_orientation(affine)[:, 0]))
    return x, y, z


def to_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """`array`, whose first three axes `affine` places, in RAS+."""
    turned = _orientations.apply_orientation(array, _orientations.io_orientation(affine))
    return np.ascontiguousarray(turned)


def from_ras(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """The inverse of `to_ras`: an array in RAS+ with the axes of the file that `affine` is of."""
    turn = _orientations.ornt_transform(np.array(_RAS), _orientations.io_orientation(affine))
    return np.ascontiguousarray(_orientations.apply_orientation(array, turn))
