"""Voxels at another spacing: images linearly, labels by the nearest voxel. NumPy, on the host, one result everywhere.

The old and the new grid have the same centre, and the new one exactly the spacing asked for: along an axis of n voxels
of s mm, asked for t mm, there are m = round(n s / t) new voxels (at least one, a half to the even number), and the
centre of voxel j lies at voxel (j + 1/2) t/s − 1/2 + (n − m t/s) / 2 of the old grid. Beyond the outermost centres the
outermost voxel counts. Positions are exact fractions; each product and each sum is one rounding in float64, by a ufunc
of its own, so that nothing can be contracted; the result is rounded once to float32. Nothing is low-pass filtered:
at a much coarser spacing than the file's, use `data.downsample`, which averages.
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

SAME = Fraction(1, 10**5)
"""Spacings that differ by no more than this part are the same; NIfTI stores them in float32."""


def shape_at(shape: Sequence[int], spacing: Sequence[float], wanted: Sequence[float]) -> tuple[int, int, int]:
    """Voxels along each axis after `shape` voxels of `spacing` mm are resampled to `wanted` mm."""
    x, y, z = (
        size if _same(old, new) else max(1, round(size * Fraction(old) / Fraction(new)))
        for size, old, new in zip(shape, spacing, wanted, strict=True)
    )
    return x, y, z


def linear(image: np.ndarray, spacing: Sequence[float], wanted: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """float32 [X, Y, Z] or [X, Y, Z, M] of `spacing` mm, at `wanted` mm: float32 [*shape] or [*shape, M].

    Axis after axis, x first. An axis whose spacing stays keeps its bits. `shape` is `shape_at`'s or, on the way back to
    a file's own grid, the file's.
    """
    values = image
    for axis in range(3):
        if image.shape[axis] != shape[axis] or not _same(spacing[axis], wanted[axis]):
            where = _positions(image.shape[axis], shape[axis], spacing[axis], wanted[axis])
            values = _interpolated(values, axis, where)
    return values.astype(np.float32, copy=False)


def nearest(labels: np.ndarray, spacing: Sequence[float], wanted: Sequence[float], shape: Sequence[int]) -> np.ndarray:
    """int32 [X, Y, Z] of `spacing` mm, at `wanted` mm: the nearest voxel's, the lower one's where two are as near."""
    for axis in range(3):
        where = _positions(labels.shape[axis], shape[axis], spacing[axis], wanted[axis])
        labels = np.take(labels, [math.ceil(position - Fraction(1, 2)) for position in where], axis)
    return labels


def _same(old: float, new: float) -> bool:
    return abs(Fraction(old) - Fraction(new)) <= SAME * Fraction(new)


def _positions(size: int, count: int, old: float, new: float) -> list[Fraction]:
    """Where the centres of `count` new voxels lie among those of `size` old ones, from 0 to size - 1."""
    step = Fraction(1) if _same(old, new) else Fraction(new) / Fraction(old)
    first = (step - 1 + size - count * step) / 2
    return [min(max(first + index * step, Fraction(0)), Fraction(size - 1)) for index in range(count)]


def _interpolated(values: np.ndarray, axis: int, positions: Sequence[Fraction]) -> np.ndarray:
    """float64, which the weights are."""
    below = [math.floor(position) for position in positions]
    above = [min(index + 1, values.shape[axis] - 1) for index in below]
    along = [-1 if dimension == axis else 1 for dimension in range(values.ndim)]
    # Both weights are rounded from the exact fraction, so that a mirrored volume gives the mirrored result.
    weights = [float(position - index) for position, index in zip(positions, below, strict=True)]
    others = [float(1 - (position - index)) for position, index in zip(positions, below, strict=True)]
    low = np.multiply(np.take(values, below, axis), np.reshape(others, along))
    high = np.multiply(np.take(values, above, axis), np.reshape(weights, along))
    total: np.ndarray = np.add(low, high, out=low)
    return total
