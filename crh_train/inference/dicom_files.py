"""A DICOM series in, a derived series out: one file a slice, geometry and patient copied, pixels the prediction's.

UIDs of the new series and its instances are made from the checkpoint's hash and the source's UIDs (2.25, a name-based
UUID), so the same prediction has the same UIDs everywhere. Classes are integer pixels of a secondary image: this is no
DICOM-SEG object.
"""

import copy
import io
import uuid
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from crh_train.data import dicom_series, dicom_slice, orientation, source_file
from crh_train.data.dicom_series import Series
from crh_train.data.dicom_slice import Slice, require_pydicom
from crh_train.inference.case import Case, Encoded, Result, bounded

_EXTREMES = ("SmallestImagePixelValue", "LargestImagePixelValue")
_DISPLAY = (
    *("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTSequence", "VOILUTFunction"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleType"),
)
"""What is said of intensities and is not true of a map of classes."""


def read(files: Sequence[Path]) -> Case:
    """One series. Raises `DataError` for what training would refuse, and for several series."""
    require_pydicom()
    picture = dicom_series.read_series(files)
    spacing = dicom_series.ras_spacing(picture.series)
    return Case(files[0], picture.image, spacing, axis=None, encode=partial(_encode, picture.series))


def _encode(series: Series, result: Result, ending: str) -> Encoded:
    values = orientation.from_ras(result.values, series.affine)
    files, pixels = {}, []
    for index, one in enumerate(series.slices):
        written, data = _slice(one, values[:, :, index].T, result)
        files[f"{index:04d}.dcm"] = data
        pixels.append(written)
    return Encoded(files, np.stack(pixels))


def _slice(one: Slice, values: np.ndarray, result: Result) -> tuple[np.ndarray, bytes]:
    """Pixels [rows, columns] and the file that holds them."""
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that this copies and the reader accepted
        header = pydicom.dcmread(io.BytesIO(source_file.read_unchanged(one.path, one.sha256)))
        written = copy.deepcopy(header)
        _delete(written, _EXTREMES)
        pixels = _classes(written, values) if result.classes else _intensities(written, values)
        written.SOPInstanceUID = _uid(result.checkpoint, str(header.SOPInstanceUID))
        written.SeriesInstanceUID = _uid(result.checkpoint, str(header.SeriesInstanceUID))
        kind = dicom_slice.values_of(header, "ImageType")
        written.ImageType = ["DERIVED", "SECONDARY", *map(str, kind[2:])]
        written.DerivationDescription = f"crh-train {result.checkpoint}"
        written.SeriesDescription = "crh-train"
        source = pydicom.Dataset()
        source.ReferencedSOPClassUID = header.SOPClassUID
        source.ReferencedSOPInstanceUID = header.SOPInstanceUID
        written.SourceImageSequence = pydicom.Sequence([source])
        written.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        written["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
        written.file_meta = pydicom.dataset.FileMetaDataset()
        written.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
        written.file_meta.MediaStorageSOPInstanceUID = written.SOPInstanceUID
        written.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, written, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return pixels, stream.getvalue()


def _classes(header: Any, values: np.ndarray) -> np.ndarray:
    _delete(header, _DISPLAY)
    header.RescaleSlope, header.RescaleIntercept = "1", "0"
    header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, 16, 15
    return values.astype(np.uint16)


def _intensities(header: Any, values: np.ndarray) -> np.ndarray:
    """The inverse of `dicom_slice.read_pixels`: to the nearest value that the file's bits, slope and intercept have."""
    slope = float(header.RescaleSlope) if dicom_slice.given(header, "RescaleSlope") else 1.0
    intercept = float(header.RescaleIntercept) if dicom_slice.given(header, "RescaleIntercept") else 0.0
    bits, signed = int(header.BitsStored), bool(header.PixelRepresentation)
    raw = np.divide(np.subtract(values, intercept), slope)
    if header.PhotometricInterpretation == "MONOCHROME1":
        raw = np.subtract(-1.0 if signed else float(2**bits - 1), raw)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return bounded(raw, low, high).astype(np.dtype(f"{'i' if signed else 'u'}{header.BitsAllocated // 8}"))


def _delete(header: Any, keywords: Sequence[str]) -> None:
    for keyword in keywords:
        if keyword in header:
            delattr(header, keyword)


def _uid(checkpoint: str, source: str) -> str:
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'crh-train {checkpoint} {source}').int}"
