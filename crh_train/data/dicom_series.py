"""A series of DICOM slices as a volume: sorted by position along the normal of the slices, never by name or number."""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crh_train.data import nifti, orientation
from crh_train.data.dicom_slice import Placement, Slice, Vector, dot, read_pixels, read_slice
from crh_train.errors import DataError

_COSINE_TOLERANCE = Fraction(1, 10**4)
_SPACING_TOLERANCE = Fraction(1, 10**3)  # a part of the pixel spacing
_EVENNESS = Fraction(1, 10)  # how far a slice may lie from its even place, as a part of the distance between slices
_SHEAR = Fraction(1, 5)  # how far its first pixel may lie aside of the normal, as a part of the pixel spacing


class Series(NamedTuple):
    slices: tuple[Slice, ...]  # in ascending order along the normal
    shape: tuple[int, int, int]  # columns, rows, slices: the axes of `affine`
    spacing: tuple[float, float, float]  # along them, millimetres
    affine: np.ndarray  # float64 [4, 4], from column, row and slice to millimetres in RAS+


class Picture(NamedTuple):
    """What a model is shown of a series, and what it takes to write a result beside it."""

    image: np.ndarray  # float32 [X, Y, Z] in RAS+ orientation, at the series' own spacing
    series: Series  # `orientation.from_ras(result, series.affine)` is [columns, rows, slices], as `series.slices`


def read_series(paths: Sequence[Path]) -> Picture:
    """The image of one series. Raises `DataError` for files of several, and as `arrange` and `read_image` do."""
    slices = [one for path in paths if (one := read_slice(path)) is not None]  # it is, where nothing is selected
    for one in slices:
        if (one.patient, one.study, one.series) != (slices[0].patient, slices[0].study, slices[0].series):
            raise DataError(f"{one.path}: of another series than {slices[0].path}; give the files of one")
    series = arrange(slices)
    return Picture(read_image(series), series)


def arrange(slices: Sequence[Slice]) -> Series:
    """Sort slices and find the volume's geometry, exactly but for one square root and the last rounding.

    Raises:
      DataError: slices of several shapes, spacings or orientations, at one position, unevenly spaced, or sheared.
    """
    placed = sorted(slices, key=lambda one: one.path)
    first = placed[0].placement
    for one in placed:
        _check_alike(one.path, one.placement, placed[0].path, first)
    normal = _cross(first.along_row, first.along_column)
    placed.sort(key=lambda one: dot(one.placement.position, normal))
    length = Fraction(math.sqrt(float(dot(normal, normal))))
    unit = (normal[0] / length, normal[1] / length, normal[2] / length)
    heights = [dot(one.placement.position, normal) / length for one in placed]
    _check_even(heights, [one.path for one in placed])
    _check_straight(placed, unit, heights)
    first = placed[0].placement
    step = (heights[-1] - heights[0]) / (len(heights) - 1) if len(heights) > 1 else first.thickness
    if step is None or step <= 0:
        raise DataError(f"{placed[0].path}: a single slice without SliceThickness; its volume's spacing is not known")
    spacing = (float(first.column_spacing), float(first.row_spacing), float(step))
    return Series(
        slices=tuple(placed),
        shape=(first.columns, first.rows, len(placed)),
        spacing=spacing,
        affine=_affine(first, unit, step),
    )


def read_image(series: Series) -> np.ndarray:
    """float32 [X, Y, Z], RAS+. Raises `DataError` where a file changed, cannot be decoded, or the image is useless."""
    image = np.stack([read_pixels(one) for one in series.slices], axis=-1)
    if image.shape != series.shape:
        raise DataError(f"{series.slices[0].path}: expected pixels {series.shape}, found {image.shape}")
    return orientation.to_ras(nifti.as_image(image, series.slices[0].path), series.affine)


def ras_shape(series: Series) -> tuple[int, int, int]:
    x, y, z = orientation.order(series.affine)
    return series.shape[x], series.shape[y], series.shape[z]


def ras_spacing(series: Series) -> tuple[float, float, float]:
    x, y, z = orientation.order(series.affine)
    return series.spacing[x], series.spacing[y], series.spacing[z]


def _affine(first: Placement, normal: Vector, step: Fraction) -> np.ndarray:
    columns = (
        [part * first.column_spacing for part in first.along_row],
        [part * first.row_spacing for part in first.along_column],
        [part * step for part in normal],
        first.position,
    )
    affine = np.eye(4)
    for column, values in enumerate(columns):
        left, back, head = values
        affine[:3, column] = [float(-left), float(-back), float(head)]  # DICOM counts to the left and to the back
    return affine


def _cross(one: Vector, other: Vector) -> Vector:
    return (
        one[1] * other[2] - one[2] * other[1],
        one[2] * other[0] - one[0] * other[2],
        one[0] * other[1] - one[1] * other[0],
    )


def _check_alike(path: Path, found: Placement, first_path: Path, first: Placement) -> None:
    cosines = zip((*found.along_row, *found.along_column), (*first.along_row, *first.along_column), strict=True)
    if any(abs(one - other) > _COSINE_TOLERANCE for one, other in cosines):
        raise DataError(
            f"{path}: lies in another orientation than {first_path} of the same series, as in a localizer; "
            "move one away, or select images by data.series"
        )
    if (found.rows, found.columns) != (first.rows, first.columns):
        raise DataError(
            f"{path}: expected {first.rows} rows of {first.columns} columns as in {first_path} of the same series, "
            f"found {found.rows} of {found.columns}"
        )
    for one, other in ((found.row_spacing, first.row_spacing), (found.column_spacing, first.column_spacing)):
        if abs(one - other) > _SPACING_TOLERANCE * other:
            raise DataError(
                f"{path}: pixels {float(one):g} mm apart, in {first_path} of the same series {float(other):g} mm"
            )


def _check_even(heights: Sequence[Fraction], paths: Sequence[Path]) -> None:
    gaps = [high - low for low, high in pairwise(heights)]
    if not gaps:
        return
    usual = sorted(gaps)[(len(gaps) - 1) // 2]
    for index, gap in enumerate(gaps):
        if gap <= usual * _EVENNESS:
            raise DataError(
                f"{paths[index + 1]}: at the same position as {paths[index]} of the same series; "
                "separate its echoes or times, or remove the copy"
            )
    mean = (heights[-1] - heights[0]) / len(gaps)
    if any(abs(heights[0] + index * mean - height) > _EVENNESS * mean for index, height in enumerate(heights)):
        widest = max(range(len(gaps)), key=lambda index: gaps[index])
        missing = round(gaps[widest] / usual) - 1
        raise DataError(
            f"{paths[widest + 1]}: {float(gaps[widest]):g} mm from {paths[widest]}, where slices of the series lie "
            f"{float(usual):g} mm apart; "
            + (f"{missing} may be missing between them" if missing else "unevenly spaced slices are not supported")
        )


def _check_straight(placed: Sequence[Slice], normal: Vector, heights: Sequence[Fraction]) -> None:
    first = placed[0].placement
    limit = _SHEAR * min(first.row_spacing, first.column_spacing)
    for one, height in zip(placed, heights, strict=True):
        aside = max(
            abs(now - start - part * (height - heights[0]))
            for now, start, part in zip(one.placement.position, first.position, normal, strict=True)
        )
        if aside > limit:
            raise DataError(
                f"{one.path}: shifted aside by {float(aside):.3g} mm from {placed[0].path}, as by a tilted gantry; "
                "resample the series to upright slices"
            )
