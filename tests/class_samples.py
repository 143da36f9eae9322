"""Predicted and true classes for the tests of overlap and surface metrics, made from whole numbers. Needs NumPy alone:
`scripts/monai_values.py` reads it in an environment of MONAI's.
"""

from typing import NamedTuple

import numpy as np

CLASSES = 3


class Sample(NamedTuple):
    predicted: np.ndarray  # int64 [slices, H, W]
    target: np.ndarray
    spacing: tuple[float, float, float]


def _balls(shape: tuple[int, int, int], *balls: tuple[int, int, int, int, int]) -> np.ndarray:
    """Classes 0 but for (slice, row, column, radius, class), later ones over earlier ones."""
    s, r, c = np.indices(shape)
    classes = np.zeros(shape, np.int64)
    for at_slice, row, column, radius, label in balls:
        classes[(s - at_slice) ** 2 + (r - row) ** 2 + (c - column) ** 2 <= radius**2] = label
    return classes


def _noise(shape: tuple[int, int, int], first: int) -> np.ndarray:
    """Classes that look random."""
    words = np.arange(first, first + int(np.prod(shape)), dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    return (words >> np.uint64(28)).astype(np.int64).reshape(shape) % CLASSES


_SHAPE = (9, 20, 24)
_TARGET = _balls(_SHAPE, (4, 9, 9, 6, 1), (4, 9, 9, 3, 2))

SAMPLES = {
    "equal": Sample(_TARGET, _TARGET, (1.0, 1.0, 1.0)),
    "moved": Sample(_balls(_SHAPE, (4, 10, 12, 6, 1), (5, 9, 9, 2, 2)), _TARGET, (1.0, 1.0, 1.0)),
    "unlike spacing": Sample(_balls(_SHAPE, (3, 8, 9, 5, 1), (4, 12, 9, 3, 2)), _TARGET, (3.3, 0.9375, 0.6)),
    "an island far away": Sample(
        _balls(_SHAPE, (4, 9, 9, 6, 1), (4, 9, 9, 3, 2), (1, 18, 22, 1, 2)), _TARGET, (2.0, 0.5, 0.5)
    ),
    "at the border": Sample(_balls(_SHAPE, (0, 0, 0, 7, 1)), _balls(_SHAPE, (0, 2, 3, 7, 1)), (1.5, 1.0, 1.0)),
    "one slice": Sample(
        _balls((1, 30, 30), (0, 14, 14, 9, 1)), _balls((1, 30, 30), (0, 12, 15, 8, 1)), (5.0, 0.7, 0.7)
    ),
    "noise": Sample(_noise((4, 12, 10), 0), _noise((4, 12, 10), 10000), (2.5, 1.25, 0.8)),
    "nothing predicted": Sample(np.zeros(_SHAPE, np.int64), _TARGET, (1.0, 1.0, 1.0)),
    "class 2 not in the target": Sample(_TARGET, _balls(_SHAPE, (4, 9, 9, 5, 1)), (1.0, 1.0, 1.0)),
    "neither": Sample(np.zeros(_SHAPE, np.int64), np.zeros(_SHAPE, np.int64), (1.0, 1.0, 1.0)),
}
