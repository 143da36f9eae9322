"""A case in NIfTI files: one file a channel, or one with all of them, and perhaps one with the labels."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crh_train.data import nifti, orientation, source_file
from crh_train.data.cases import Case
from crh_train.data.nifti import Header
from crh_train.data.volume import Voxels
from crh_train.errors import DataError

TOLERANCE = 0.05
"""How far a corner voxel of one file may lie from the same one of another, as a part of the smallest voxel side."""


class Picture(NamedTuple):
    """What a model is shown of a case, and what it takes to write a result beside it."""

    image: np.ndarray  # float32 [X, Y, Z] or [X, Y, Z, M] in RAS+ orientation, at the files' own spacing
    header: Header  # of the first file; `orientation.from_ras(result, header.affine)` has that file's axes


class Files(NamedTuple):
    channels: tuple[Path, ...]
    stacked: int  # volumes in each of these files; more than one only in a single file
    labels: Path | None
    values: int  # labels are 0 to values - 1


def open_case(name: str, patient: str | None, row: Mapping[str, str], files: Files, root: Path) -> Case:
    """The case, hashed, not yet decoded. Raises `DataError` for a file that cannot be used, or does not lie where the
    first one does (`TOLERANCE`).
    """
    headers = {path: nifti.read_header(path, files.stacked) for path in files.channels}
    if files.labels is not None:
        headers[files.labels] = nifti.read_header(files.labels)
    first = headers[files.channels[0]]
    for path, header in headers.items():
        _check_geometry(path, header, files.channels[0], first)
    hashes = {path: header.sha256 for path, header in headers.items()}
    named = {source_file.relative_name(path, root): sha256 for path, sha256 in hashes.items()}
    read = partial(_read, files, hashes)
    return Case(name, patient, row, named, first.shape, first.spacing, first.orientation, read)


def read_picture(channels: Sequence[Path]) -> Picture:
    """The image of one case, of one file a channel. Raises `DataError` as `open_case` and reading its case do."""
    files = Files(tuple(channels), 1, None, 0)
    headers = [nifti.read_header(path) for path in channels]
    for path, header in zip(channels, headers, strict=True):
        _check_geometry(path, header, channels[0], headers[0])
    hashes = {path: header.sha256 for path, header in zip(channels, headers, strict=True)}
    return Picture(_image(files, hashes), headers[0])


def _check_geometry(path: Path, header: Header, first_path: Path, first: Header) -> None:
    if header.shape != first.shape or header.orientation != first.orientation:
        raise DataError(
            f"{path}: expected the grid of {first_path.name}, {_grid(first)}, found {_grid(header)}; "
            "resample one to the other"
        )
    # Shapes of equal orientation are permuted equally, so in either file's own order the corners are the same.
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * [*_own(header), 1]
    apart = np.abs(corners @ (header.affine - first.affine).T).max()
    if apart > TOLERANCE * min(first.spacing):
        raise DataError(
            f"{path}: its corners lie up to {apart:.3g} mm from those of {first_path.name}, of voxels of "
            f"{min(first.spacing):.3g} mm; register and resample one to the other"
        )


def _own(header: Header) -> tuple[int, int, int]:
    """The largest indices along the file's own axes."""
    own = [0, 0, 0]
    for axis, size in zip(orientation.order(header.affine), header.shape, strict=True):
        own[axis] = size - 1
    return own[0], own[1], own[2]


def _grid(header: Header) -> str:
    return f"{'×'.join(map(str, header.shape))} {header.orientation}"


def _read(files: Files, hashes: Mapping[Path, str]) -> Voxels:
    labels = None if files.labels is None else _labels(files.labels, hashes[files.labels], files.values)
    return Voxels(_image(files, hashes), labels)


def _image(files: Files, hashes: Mapping[Path, str]) -> np.ndarray:
    if files.stacked == 1:
        images = [nifti.as_image(nifti.read_voxels(path, hashes[path]), path) for path in files.channels]
        return images[0] if len(images) == 1 else np.stack(images, axis=-1)
    (path,) = files.channels
    voxels = nifti.read_voxels(path, hashes[path], files.stacked)
    return np.stack([nifti.as_image(voxels[..., channel], path) for channel in range(files.stacked)], axis=-1)


def _labels(path: Path, sha256: str, values: int) -> np.ndarray:
    voxels = nifti.read_voxels(path, sha256)
    found = np.unique(voxels)
    odd = [value for value in found.tolist() if value not in range(values)]
    if odd:
        some = ", ".join(f"{value:g}" for value in odd[:5])
        raise DataError(f"{path}: expected labels from 0 to {values - 1}, found {some}{', …' if odd[5:] else ''}")
    return voxels.astype(np.int32)
