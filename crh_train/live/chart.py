"""Curves as rows of characters: values in, text out. A curve is a line; beside it, values may stand as points.

Where there are more values than dots in a row, the line covers all values that share a dot, and of the points the
smallest and the largest are drawn: an extreme never disappears. Values that are not finite are left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crh_train.live.signs import Signs

SPAN_OF_LOG = 100.0
"""A scale is logarithmic where the largest value is so many times the smallest."""

Values = NDArray[np.floating]
Dots = NDArray[np.bool_]


class Scale(NamedTuple):
    """What the first and the last row stand for."""

    low: float
    high: float
    logarithmic: bool

    def heights(self, values: Values) -> Values:
        """0 at the last row, 1 at the first; ½ where there is one value only."""
        low, high, values = np.float64(self.low), np.float64(self.high), values.astype(np.float64)
        if self.logarithmic:
            low, high, values = np.log(low), np.log(high), np.log(values)
        return (values - low) / (high - low) if high > low else np.full(values.shape, 0.5)


def scale(values: Values) -> Scale | None:
    """The scale on which all finite `values` [n] lie; None where there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    return Scale(low, high, low > 0 and high >= SPAN_OF_LOG * low)


def draw(points: Values | None, line: Values, on: Scale, width: int, height: int, signs: Signs) -> list[str]:
    """`height` rows of `width` characters: `line` [n] over the whole width, `points` [n] on the same steps. All finite
    values lie on `on`."""
    rows, columns = height * signs.dots[0], width * signs.dots[1]
    solid = _solid(*_placed(line, on, rows, columns), rows, columns)
    loose = np.zeros_like(solid)
    if points is not None:
        for row, column in _extremes(*_placed(points, on, rows, columns)):
            loose[row, column] = True
    return signs.characters(solid, loose)


def _placed(values: Values, on: Scale, rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of each finite value, in order."""
    steps = np.arange(len(values))
    if len(values) > columns:
        column = steps * columns // len(values)
    else:
        column = steps * (columns - 1) // max(len(values) - 1, 1)
    finite = np.isfinite(values)
    row = np.rint((1 - on.heights(values[finite])) * (rows - 1)).astype(np.int64)
    return row, column[finite]


def _groups(column: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each run of equal columns begins."""
    return np.flatnonzero(np.diff(column, prepend=-1))


def _extremes(row: NDArray[np.int64], column: NDArray[np.int64]) -> list[tuple[int, int]]:
    if not row.size:
        return []
    begins = _groups(column)
    highest, lowest = np.minimum.reduceat(row, begins), np.maximum.reduceat(row, begins)
    return [*zip(highest, column[begins], strict=True), *zip(lowest, column[begins], strict=True)]


def _solid(row: NDArray[np.int64], column: NDArray[np.int64], rows: int, columns: int) -> Dots:
    dots = np.zeros((rows, columns), np.bool_)
    if not row.size:
        return dots
    begins = _groups(column)
    ends = np.append(begins[1:], len(row)) - 1
    for highest, lowest, at in zip(
        np.minimum.reduceat(row, begins), np.maximum.reduceat(row, begins), column[begins], strict=True
    ):
        dots[highest : lowest + 1, at] = True
    for end, begin in zip(ends[:-1], begins[1:], strict=True):  # what joins a column's last value to the next's first
        _join(dots, (row[end], column[end]), (row[begin], column[begin]))
    return dots


def _join(dots: Dots, here: tuple[np.int64, np.int64], there: tuple[np.int64, np.int64]) -> None:
    """A line between two dots that goes up or down only, at least one dot in every column."""
    steps = np.arange(here[1], there[1] + 1)
    path = np.rint(np.interp(steps, [here[1], there[1]], [here[0], there[0]])).astype(np.int64)
    for at, before, row in zip(steps[1:], path, path[1:], strict=False):
        gap = np.sign(row - before)
        dots[min(before + gap, row) : max(before + gap, row) + 1, at] = True
