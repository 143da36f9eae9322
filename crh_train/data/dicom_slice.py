"""One DICOM file as a slice: what its header says of where it lies, and its pixels.

Header numbers are decimal strings; they are kept as the float64 nearest to each, and computed with as exact fractions.
pydicom is imported when a file is read, because it is an extra (`crh-train[mri]`).
"""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from crh_train.data import source_file
from crh_train.digest import digest_bytes
from crh_train.errors import DataError

Vector = tuple[Fraction, Fraction, Fraction]

_LOSSY = {
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"),  # JPEG baseline and extended
    *("1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.4.203"),  # JPEG 2000 and its high-throughput form
}
"""Decoders of these do not agree in the last bits."""


class Placement(NamedTuple):
    """Where a slice lies, in DICOM's patient coordinates: millimetres to the left, to the back, to the head."""

    rows: int
    columns: int
    row_spacing: Fraction  # millimetres from row to row
    column_spacing: Fraction
    along_row: Vector  # unit vector towards higher columns
    along_column: Vector  # unit vector towards higher rows
    position: Vector  # of the centre of the first pixel
    thickness: Fraction | None


class Slice(NamedTuple):
    path: Path
    sha256: str  # of the file's bytes
    patient: str
    study: str
    series: str
    placement: Placement


def require_pydicom() -> ModuleType:
    """The package. Raises `DataError` where it is not installed."""
    try:
        import pydicom
    except ImportError as error:
        raise DataError(
            "data=dicom reads its files with the package pydicom; install it: pip install 'crh-train[mri]'"
        ) from error
    return pydicom


def read_slice(path: Path, series: str | None = None) -> Slice | None:
    """Hash a file and read its header; None where its SeriesDescription is not one that `series` stands for.

    Args:
      series: with * and ? as in file names; None selects every file.

    Raises:
      DataError: the file is no DICOM file, no image that can be a part of a volume, or does not say of whom it is.
    """
    data = source_file.read(path)
    header = _parsed(path, data, stop_before_pixels=True)
    with _parsing(path):
        description = str(header["SeriesDescription"].value) if given(header, "SeriesDescription") else ""
        if series is not None and not fnmatchcase(description, series):
            return None
        _check_kind(path, header)
        return Slice(
            path=path,
            sha256=digest_bytes(data),
            patient=_text(path, header, "PatientID"),
            study=_text(path, header, "StudyInstanceUID"),
            series=_text(path, header, "SeriesInstanceUID"),
            placement=_placement(path, header),
        )


def read_pixels(one: Slice) -> np.ndarray:
    """float32 [columns, rows]: stored value × RescaleSlope + RescaleIntercept, in float64, then rounded to float32.

    MONOCHROME1, in which the lowest value is white, is inverted first: the range of the stored bits is mirrored.

    Raises:
      DataError: the file changed since it was read, or its pixels cannot be decoded.
    """
    header = _parsed(one.path, source_file.read_unchanged(one.path, one.sha256), stop_before_pixels=False)
    if "PixelData" not in header:
        raise DataError(f"{one.path}: no PixelData; the file may be cut short")
    with _parsing(one.path):
        stored = np.asarray(header.pixel_array)
        bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
        slope = _numbers(one.path, header, "RescaleSlope", 1)[0] if given(header, "RescaleSlope") else 1
        intercept = _numbers(one.path, header, "RescaleIntercept", 1)[0] if given(header, "RescaleIntercept") else 0
    values = stored.astype(np.float64)
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = np.subtract(-1.0 if signed else float(2**bits - 1), values)  # lowest + highest - value
    values = np.add(np.multiply(values, float(slope)), float(intercept))
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused with the volume
        return np.ascontiguousarray(values.T.astype(np.float32))


def dot(one: Vector, other: Vector) -> Fraction:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _placement(path: Path, header: Any) -> Placement:
    rows, columns = int(header.Rows), int(header.Columns)
    row_spacing, column_spacing = _numbers(path, header, "PixelSpacing", 2)
    cosines = _numbers(path, header, "ImageOrientationPatient", 6)
    x, y, z = _numbers(path, header, "ImagePositionPatient", 3)
    thickness = _numbers(path, header, "SliceThickness", 1)[0] if given(header, "SliceThickness") else None
    if min(rows, columns) < 1 or min(row_spacing, column_spacing) <= 0:
        raise DataError(
            f"{path}: expected rows, columns and PixelSpacing above 0, found {rows}, {columns}, {header.PixelSpacing}"
        )
    along_row, along_column = (cosines[0], cosines[1], cosines[2]), (cosines[3], cosines[4], cosines[5])
    lengths = dot(along_row, along_row), dot(along_column, along_column)
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(dot(along_row, along_column))) > Fraction(1, 1000):
        raise DataError(
            f"{path}: ImageOrientationPatient is not two unit vectors at a right angle: {[float(c) for c in cosines]}"
        )
    return Placement(rows, columns, row_spacing, column_spacing, along_row, along_column, (x, y, z), thickness)


def _check_kind(path: Path, header: Any) -> None:
    kind = header.SOPClassUID.name if given(header, "SOPClassUID") else "unknown"
    if "Rows" not in header or "Columns" not in header:
        raise DataError(f"{path}: holds no image ({kind}); move it away, or select images by data.series")
    if "NumberOfFrames" in header and str(header.NumberOfFrames) not in ("", "1"):
        raise DataError(
            f"{path}: {header.NumberOfFrames} frames in one file ({kind}) are not supported; convert it to one file a "
            "slice, or to NIfTI (dcm2niix) for data=nifti"
        )
    if "LOCALIZER" in [str(value).upper() for value in values_of(header, "ImageType")]:
        raise DataError(f"{path}: a localizer; move it away, or select images by data.series")
    if "ModalityLUTSequence" in header:
        raise DataError(f"{path}: its values are to be read through a ModalityLUTSequence, which is not supported")
    colours = str(header.PhotometricInterpretation) if given(header, "PhotometricInterpretation") else "nothing"
    if colours not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"{path}: expected PhotometricInterpretation MONOCHROME1 or MONOCHROME2, found {colours}")
    _check_compression(path, header)


def _check_compression(path: Path, header: Any) -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = header.file_meta.TransferSyntaxUID if "TransferSyntaxUID" in header.file_meta else None
    if syntax is None:
        raise DataError(f"{path}: its header names no transfer syntax, so its pixels cannot be decoded")
    if syntax in _LOSSY:
        raise DataError(
            f"{path}: compressed as {syntax.name}, which decoders do not give the same bits for; decompress it "
            "once for all, such as with gdcmconv --raw or dcmdjpeg"
        )
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise DataError(f"{path}: compressed as {syntax.name}, which pydicom cannot decode; convert it") from error
    if not decoder.is_available:
        needed = "; or ".join(text.partition(" - requires ")[2] for text in decoder.missing_dependencies)
        raise DataError(f"{path}: compressed as {syntax.name}; to decode it, install {needed}")


def _parsed(path: Path, data: bytes, *, stop_before_pixels: bool) -> Any:
    pydicom = require_pydicom()
    try:
        with _parsing(path):
            return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=stop_before_pixels)
    except pydicom.errors.InvalidDicomError as error:
        raise DataError(f"{path}: no DICOM file; move it away, or mend it") from error


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """What pydicom says of a file's bytes becomes a `DataError`; its warnings, about values that are not used or that
    it corrects, do not come between."""
    pydicom = require_pydicom()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (DataError, pydicom.errors.InvalidDicomError):
        raise
    except Exception as error:  # hostile bytes reach every corner of the library, which promises no types of errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: pydicom cannot read it ({reason:.200}); the file may be cut short or damaged"
        ) from error


def given(header: Any, keyword: str) -> bool:
    """Whether it has a value: writers leave elements empty."""
    return keyword in header and header[keyword].value not in (None, "") and str(header[keyword].value).strip() != ""


def _text(path: Path, header: Any, keyword: str) -> str:
    if not given(header, keyword):
        raise DataError(
            f"{path}: no {keyword}, so nobody knows what it belongs to; write one, the same for all that does"
        )
    return str(header[keyword].value).strip()


def values_of(header: Any, keyword: str) -> list[Any]:
    """All values of an element, which may be none; pydicom gives a single one without a list."""
    if not given(header, keyword):
        return []
    value = header[keyword].value
    return [value] if isinstance(value, str | int | float) else list(value)


def _numbers(path: Path, header: Any, keyword: str, count: int) -> list[Fraction]:
    values = [float(value) for value in values_of(header, keyword)]
    if len(values) != count or not np.isfinite(values).all():
        found = header[keyword].value if keyword in header else "none"
        raise DataError(f"{path}: expected {count} numbers as {keyword}, found {found}")
    return [Fraction(value) for value in values]
