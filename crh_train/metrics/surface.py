"""How far the surface of a predicted structure is from the true one, in millimetres. NumPy on the host.

Convention, MONAI's (`compute_hausdorff_distance(percentile=95)`): the surface of a mask are its voxels of which a face
neighbour is not in the mask or is beyond the image (of a single slice, which is an image of two dimensions, within it);
each surface voxel of one mask has a distance, centre to centre, to the nearest of the other's; of each of the two
directions the 95th percentile is taken, with linear interpolation, and the larger of the two is the result.

Squared distances are sums of products in float64 in one order, compared, and rounded to a root only in the end: no sum
depends on an order, so the bits are the same on every machine.
"""

import math
from fractions import Fraction

import numpy as np

from crh_train.metrics.shapes import require_same_shape

PERCENT = 95


def hausdorff95(
    predicted: np.ndarray, target: np.ndarray, spacing: tuple[float, float, float], positions: np.ndarray
) -> np.float32 | None:
    """The 95th percentile Hausdorff distance of two masks, bool [slices, H, W], in mm.

    None where the target is empty; infinite where only the prediction is.

    Args:
      spacing: mm from slice to slice, row to row, column to column.
      positions: int [slices], where each slice lies, in slices. Neighbours in the array are neighbours of the surface.

    Raises:
      UsageError: the shapes differ.
    """
    require_same_shape(predicted, target)
    if not target.any():
        return None
    if not predicted.any():
        return np.float32(np.inf)
    box, axes = _bounding_box(predicted | target), (1, 2) if len(target) == 1 else (0, 1, 2)
    ours, theirs = surface(predicted[box], axes), surface(target[box], axes)
    placed = positions[box[0]]
    directed = (_squared_distances(a, b, spacing, placed) for a, b in ((ours, theirs), (theirs, ours)))
    return np.float32(max(map(_percentile_root, directed)))


def surface(mask: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The voxels of a mask, bool [slices, H, W], of which a neighbour along one of `axes` is not in it; beyond the
    array nothing is."""
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in axes:
        for step in (-1, 1):
            inside &= np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
    edge: np.ndarray = mask & ~inside
    return edge


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """What is beyond the box is outside of both masks, so their surfaces within it are the same."""
    where = np.nonzero(mask)
    return tuple(slice(int(indices.min()), int(indices.max()) + 1) for indices in where)


def _squared_distances(
    points: np.ndarray, others: np.ndarray, spacing: tuple[float, float, float], positions: np.ndarray
) -> np.ndarray:
    """For each point of mask `points` the squared distance to the nearest of mask `others`: float64 [points], mm².

    First along the slices, to the nearest of the others at the same row and column; then along the rows, then along the
    columns. Rounding keeps order, so a minimum of sums is the sum's of the minimum, and each of them the least of all.
    """
    along = _nearest_along_slices(others, spacing[0], positions)
    down, across = (np.square(np.arange(others.shape[axis]) * spacing[axis]) for axis in (1, 2))
    found = []
    for index, rows in enumerate(points):
        for row in np.flatnonzero(rows.any(axis=1)):
            nearest = np.min(along[index] + down[np.abs(np.arange(len(down)) - row)][:, None], axis=0)
            columns = np.flatnonzero(rows[row])
            offsets = np.abs(columns[:, None] - np.arange(len(across)))
            found.append(np.min(nearest + across[offsets], axis=1))
    return np.concatenate(found)


def _nearest_along_slices(mask: np.ndarray, spacing: float, positions: np.ndarray) -> np.ndarray:
    """The squared distance along the first axis to the nearest voxel of `mask`: float64, infinite where there is
    none."""
    beyond = np.iinfo(np.int64).max // 2
    steps = np.where(mask, np.int64(0), np.int64(beyond))
    forth, back = range(1, len(mask)), range(len(mask) - 2, -1, -1)
    for sweep, before in ((forth, -1), (back, 1)):
        for index in sweep:
            gap = abs(int(positions[index]) - int(positions[index + before]))
            np.minimum(steps[index], steps[index + before] + gap, out=steps[index])
    return np.where(steps < beyond, np.square(steps * spacing), np.inf)


def _percentile_root(squared: np.ndarray) -> float:
    """The 95th percentile of the roots of what is given, with linear interpolation between two neighbours."""
    ordered = np.sort(squared)
    whole, rest = divmod(PERCENT * (len(ordered) - 1), 100)
    low, high = (math.sqrt(ordered[min(whole + step, len(ordered) - 1)]) for step in (0, 1))
    return float(Fraction(low) + Fraction(rest, 100) * (Fraction(high) - Fraction(low)))
