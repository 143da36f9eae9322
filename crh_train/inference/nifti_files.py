"""NIfTI in, NIfTI out: the header is the input's, so that affine, qform and sform are the same bytes. Header
extensions, in which converters keep what is known of the patient, are left out.
"""

import gzip
import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from crh_train.data import nifti, nifti_case, orientation, source_file
from crh_train.digest import digest_bytes
from crh_train.inference.case import Case, Encoded, Result, label_type, stored

ENDINGS = (".nii.gz", ".nii")
_LABELS = 1002  # NIFTI_INTENT_LABEL
_NO_EXTENSIONS = bytes(4)


def endings(path: Path) -> tuple[str, ...]:
    """Of the output's name, the input's own first."""
    return ENDINGS if nifti.is_compressed(path) else ENDINGS[::-1]


def read(files: Sequence[Path], channels: int) -> Case:
    """One case, of one file a channel, or of one 4-D file. Raises `DataError` for what training would refuse."""
    path = files[0]
    data = source_file.read(path)
    if channels > 1 and len(files) == 1:
        header = nifti.read_header(path, channels)
        voxels = nifti.read_voxels(path, header.sha256, channels)
        image = np.stack([nifti.as_image(voxels[..., channel], path) for channel in range(channels)], axis=-1)
    else:
        image, header = nifti_case.read_picture(files)
    source_file.read_unchanged(path, digest_bytes(data))
    source = gzip.decompress(data) if nifti.is_compressed(path) else data
    return Case(path, image, header.spacing, axis=None, encode=partial(_encode, source, header))


def _encode(source: bytes, geometry: nifti.Header, result: Result, ending: str) -> Encoded:
    image = _parsed(source)
    header, number, slope, intercept = image.header.copy(), image.get_data_dtype(), 1.0, 0.0
    values = orientation.from_ras(result.values, geometry.affine)
    if result.classes:
        array = values.astype(label_type(values))
        header["intent_code"] = _LABELS
    else:
        if number.kind != "f":
            slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
        array = stored(values, number, slope, intercept)
    shape = (*array.shape, *[1] * (len(image.shape) - 3)) if np.prod(image.shape[3:]) == 1 else array.shape
    header.set_data_shape(shape)
    header.set_data_dtype(array.dtype)
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["cal_min"] = header["cal_max"] = 0  # how bright to show the input is no longer known
    header["descrip"] = f"crh-train {result.checkpoint}".encode()
    block = header.binaryblock
    header["vox_offset"] = len(block) + len(_NO_EXTENSIONS)
    ordered = array.astype(array.dtype.newbyteorder(header.endianness))
    data = header.binaryblock + _NO_EXTENSIONS + ordered.tobytes(order="F")
    return Encoded({"": _compressed(data) if ending == ".nii.gz" else data}, array.reshape(shape))


def _parsed(source: bytes) -> Any:
    """As `nifti.read_header` accepted it."""
    start, stream = source[: nibabel.Nifti2Header.sizeof_hdr], io.BytesIO(source)
    kind: Any = nibabel.Nifti1Image
    return (kind if kind.header_class.may_contain_header(start) else nibabel.Nifti2Image).from_stream(stream)


def _compressed(data: bytes) -> bytes:
    stream = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as file:  # no name, no time: the same bytes
        file.write(data)
    return stream.getvalue()
