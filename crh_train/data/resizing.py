"""Pictures at another size: fitted into rows and columns with their proportions, or cropped and padded. NumPy, on the
host, the same bits everywhere: every product and every sum is a ufunc of its own, in float64, in a fixed order.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np


def fitted(rows: int, columns: int, shape: Sequence[int]) -> tuple[int, int]:
    """The largest size of the same proportions, to the nearest pixel, that lies within `shape`."""
    if rows * shape[1] >= columns * shape[0]:
        return shape[0], max(1, _rounded(columns * shape[0], rows))
    return max(1, _rounded(rows * shape[1], columns)), shape[1]


def linear(pictures: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """float32 [S, rows, columns, …] at `shape`: linear interpolation between the centres of pixels where an axis grows;
    where it shrinks, a mean weighted by a triangle as wide as two of the new pixels, so that nothing is skipped.

    Both are one kernel (torchvision's and Pillow's antialiased bilinear resize), its weights exact fractions rounded
    once; those of pixels beyond the border are shared out among the rest. An axis whose size stays keeps its bits.
    """
    for axis in (1, 2):
        size, count = pictures.shape[axis], shape[axis - 1]
        if size != count:
            pictures = _weighted(pictures, axis, _taps(size, count))
    return pictures.astype(np.float32, copy=False)


def nearest(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """[S, rows, columns] at `shape`, each pixel that of the place where its centre lies."""
    for axis in (1, 2):
        size, count = labels.shape[axis], shape[axis - 1]
        labels = np.take(labels, [(2 * index + 1) * size // (2 * count) for index in range(count)], axis)
    return labels


def crop_or_pad(pictures: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The centre of [S, rows, columns, …], with zeros where it is smaller, as `preparation.crop_or_pad`."""
    for axis, size in ((1, shape[0]), (2, shape[1])):
        excess = pictures.shape[axis] - size
        first, before = max(excess, 0) // 2, max(-excess, 0) // 2
        pictures = np.take(pictures, range(first, min(first + size, pictures.shape[axis])), axis)
        padding = [(0, 0)] * pictures.ndim
        padding[axis] = (before, max(-excess, 0) - before)
        pictures = np.pad(pictures, padding)
    return pictures


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _taps(size: int, count: int) -> list[list[tuple[int, float]]]:
    """Of each of `count` new pixels, the old ones that it is made of and their weights."""
    step = Fraction(size, count)
    width = max(step, Fraction(1))
    taps = []
    for index in range(count):
        centre = (index + Fraction(1, 2)) * step - Fraction(1, 2)
        near = range(max(0, int(centre - width)), min(size, int(centre + width) + 2))
        weights = {old: weight for old in near if (weight := 1 - abs(old - centre) / width) > 0}
        total = sum(weights.values())
        taps.append([(old, float(weight / total)) for old, weight in weights.items()])
    return taps


def _weighted(pictures: np.ndarray, axis: int, taps: list[list[tuple[int, float]]]) -> np.ndarray:
    along = [-1 if dimension == axis else 1 for dimension in range(pictures.ndim)]
    total = np.zeros([len(taps) if d == axis else size for d, size in enumerate(pictures.shape)])
    for place in range(max(map(len, taps))):
        # Where a pixel has no more to add, it adds the last once more with weight 0.
        old = [each[min(place, len(each) - 1)][0] for each in taps]
        weights = [each[place][1] if place < len(each) else 0.0 for each in taps]
        total = np.add(total, np.multiply(np.take(pictures, old, axis), np.reshape(weights, along)))
    return total
