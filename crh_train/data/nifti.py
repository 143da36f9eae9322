"""Reads NIfTI files, and the source `nifti`: a folder of a user's own volumes, each file wholly in one split.

A file is read as bytes, hashed, and decoded from those same bytes, so that what was hashed is what was decoded. Nothing
is repaired: a file that cannot be used stops the run and is named. The source reads no labels; `nifti_case.py` does.
"""

import gzip
import io
import math
import re
import zlib
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError

from crh_train.config import NiftiConfig
from crh_train.data import folder, orientation, source_file, split
from crh_train.data.problems import Problems
from crh_train.data.volume import Source, Volume, Voxels, slice_count
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError

_SUFFIX = re.compile(r"\.nii(\.gz)?\Z", re.IGNORECASE)

# Deflate cannot expand further, so a header that asks for more than this lies; without the limit it would be allocated.
_LARGEST_EXPANSION = 1032


_OTHER_UNITS = {1: "metre", 3: "micron"}  # of NIfTI's codes; most files that mean millimetres say so, or nothing
_SIZE_TOLERANCE = 0.01  # of the voxel's own; headers hold float32, and rotations as quaternions of float32


class Header(NamedTuple):
    sha256: str  # of the file's bytes, compressed as they lie on disk
    shape: tuple[int, int, int]  # in RAS+ orientation
    spacing: tuple[float, float, float]  # millimetres
    orientation: str  # of the axes in the file
    affine: np.ndarray  # float64 [4, 4], from indices of the file's own array to millimetres in RAS+


def is_named(path: Path) -> bool:
    """Whether the name says that this is a NIfTI file: *.nii or *.nii.gz, in capitals too."""
    return _SUFFIX.search(path.name) is not None


def stem(name: str) -> str:
    """A NIfTI file's name without its suffix."""
    return _SUFFIX.sub("", name)


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def open_source(config: NiftiConfig, root: Path | None) -> Source:
    """Every `*.nii` and `*.nii.gz` below `root`, links followed, in the order of their paths; hashed, not yet decoded.

    A volume's id is its path relative to `root` without the suffix. Files are the unit of the split: keep one file a
    patient, or a patient's files will be found in both splits.

    Raises:
      ConfigError: no folder is given.
      DataError: no such folder.
      DataProblems: two files with one id, a file that is no 3-D NIfTI volume, a link that leads nowhere (`folder.py`),
        or fewer than two volumes.
    """
    if root is None:
        raise ConfigError("data=nifti needs the folder of the volumes: add runtime.data_root=FOLDER")
    if not root.is_dir():
        raise DataError(f"runtime.data_root must be a folder of NIfTI volumes; {root} is none")
    problems = Problems()
    paths = {path.relative_to(root).as_posix(): path for path in folder.files(root, is_named, problems)}
    volumes: dict[str, Volume] = {}
    for name in sorted(paths):
        with problems.collected():
            volume = _volume(paths[name], root)
            if volume.id in volumes:
                raise DataError(f"{paths[name]}: another file of the folder has the same name but for its suffix")
            volumes[volume.id] = volume
    if not problems.found and len(volumes) < 2:
        problems.add(
            f"{root} must hold at least two *.nii or *.nii.gz files, one to train and one to validate on; "
            f"it holds {len(volumes)}"
        )
    problems.refuse(tuple(volumes.values()))
    segments = split.by_volume({volume.id: slice_count(volume, config) for volume in volumes.values()}, config)
    return Source("nifti", tuple(volumes.values()), segments, classes=0)


def _volume(path: Path, root: Path) -> Volume:
    name = source_file.relative_name(path, root)
    header = read_header(path)
    return Volume(
        id=stem(name),
        files={name: header.sha256},
        shape=header.shape,
        spacing=header.spacing,
        orientation=header.orientation,
        read=partial(_read_image, path, header.sha256),
    )


def _read_image(path: Path, sha256: str) -> Voxels:
    return Voxels(as_image(read_voxels(path, sha256), path), labels=None)


def read_header(path: Path, channels: int = 1) -> Header:
    """Hash `path` and read its header.

    Args:
      channels: with more than one, the file is 4-D and has so many volumes.

    Raises:
      DataError: the file cannot be read, is no NIfTI-1 or NIfTI-2 file, is not of that shape, is shorter than its
        header says, or does not say where its axes point.
    """
    data = source_file.read(path)
    image = _parse(_decompressed(data, path), path)
    if len(image.shape) < 3 or math.prod(image.shape[3:]) != channels or min(image.shape) < 1:
        if channels == 1:
            raise DataError(
                f"{path}: expected a 3-D volume, found shape {image.shape}; split it into one file a volume"
            )
        raise DataError(f"{path}: expected {channels} volumes, a 4-D shape with {channels} last, found {image.shape}")
    # Spacing is what the header says: computed from the affine, its last bit would be the machine's.
    zooms = image.header.get_zooms()
    if not (np.isfinite(image.affine).all() and np.isfinite(zooms).all()):
        raise DataError(f"{path}: the header's affine or voxel size is not finite")
    if not orientation.has_directions(image.affine):
        raise DataError(f"{path}: the header's affine does not say where the axes point: {image.affine.tolist()}")
    _check_sizes(path, image)
    promised = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    if promised > len(data) * (_LARGEST_EXPANSION if is_compressed(path) else 1):
        raise DataError(f"{path}: the header promises {promised} bytes, more than the file's {len(data)} can hold")
    x, y, z = orientation.order(image.affine)
    return Header(
        sha256=digest_bytes(data),
        shape=(image.shape[x], image.shape[y], image.shape[z]),
        spacing=(float(zooms[x]), float(zooms[y]), float(zooms[z])),
        orientation=orientation.codes(image.affine),
        affine=np.asarray(image.affine, np.float64),
    )


def _check_sizes(path: Path, image: Any) -> None:
    """Raises `DataError` where the header's voxel size is not in millimetres, or not the one that its affine has: one
    of them is wrong, and distances would be.
    """
    unit = int(image.header["xyzt_units"]) & 7
    if unit in _OTHER_UNITS:
        raise DataError(
            f"{path}: its unit of length is the {_OTHER_UNITS[unit]}; write affine and voxel size in millimetres"
        )
    zooms = np.asarray(image.header.get_zooms()[:3], np.float64)
    sizes = np.sqrt(np.sum(np.square(np.asarray(image.affine, np.float64)[:3, :3]), axis=0))
    if (np.abs(sizes - zooms) > _SIZE_TOLERANCE * sizes).any():
        said, found = ("×".join(f"{size:.4g}" for size in each) for each in (zooms, sizes))
        raise DataError(
            f"{path}: the header's voxel size is {said} mm, but voxels of its affine measure {found} mm; write the "
            "right one into both (nibabel: header.set_zooms, or set_sform and set_qform)"
        )


def read_voxels(path: Path, sha256: str, channels: int = 1) -> np.ndarray:
    """The voxels of a file that `read_header` accepted: [X, Y, Z], or [X, Y, Z, channels] of more than one, in RAS+
    orientation, in the file's own number type, or float64 where the header scales it.

    Raises:
      DataError: the file's bytes are not those of `sha256`, or end too early.
    """
    stream = _decompressed(source_file.read_unchanged(path, sha256), path)
    image = _parse(stream, path)
    try:
        voxels = np.asanyarray(image.dataobj).reshape(*image.shape[:3], *([channels] if channels > 1 else []))
        while stream.read(2**20):  # to the end, where gzip compares its checksum
            pass
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: the voxels cannot be read ({error}); the file may be cut short or damaged") from error
    return orientation.to_ras(voxels, image.affine)


def as_image(voxels: np.ndarray, path: Path) -> np.ndarray:
    """`voxels` as float32. Raises DataError, naming `path`, unless they are real, finite and not all the same."""
    if voxels.dtype.kind not in "iuf":
        raise DataError(f"{path}: expected one real number a voxel, found {voxels.dtype}")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused below
        image = voxels.astype(np.float32)
    if not np.isfinite(image).all():
        raise DataError(
            f"{path}: {np.count_nonzero(~np.isfinite(image))} voxels are not finite; mend or remove the file"
        )
    if image.min() == image.max():
        raise DataError(f"{path}: every voxel is {image.flat[0]:g}; there is nothing to learn from; remove the file")
    return image


def _decompressed(data: bytes, path: Path) -> BinaryIO:
    stream = io.BytesIO(data)
    return cast(BinaryIO, gzip.GzipFile(fileobj=stream)) if is_compressed(path) else stream


def _parse(stream: BinaryIO, path: Path) -> Any:
    """A nibabel image over `stream`, its voxels not yet decoded."""
    try:
        start = stream.read(nibabel.Nifti2Header.sizeof_hdr)
        stream.seek(0)
        image_class: Any
        for image_class in (nibabel.Nifti1Image, nibabel.Nifti2Image):
            if image_class.header_class.may_contain_header(start):
                return image_class.from_stream(stream)
    except (OSError, EOFError, ValueError, zlib.error, HeaderDataError) as error:
        raise DataError(f"{path}: no readable NIfTI file ({error})") from error
    raise DataError(f"{path}: expected a NIfTI-1 or NIfTI-2 file, found other bytes")
