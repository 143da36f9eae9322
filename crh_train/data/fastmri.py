"""The source `fastmri`: a folder of fastMRI's HDF5 files (`*.h5`, `*.hdf5`) of k-space, of one coil or several.

    kspace                   complex64 [slices, rows, columns] or [slices, coils, rows, columns], centred
    reconstruction_rss, _esc are not read but for the number of slices: the target is computed from all of k-space
    ismrmrd_header           if there is one, the voxels' millimetres are taken from it
    attributes               patient_id, by which the data are split and which is recorded as a digest; acquisition, for
                             results by subgroup. `max` is not read: the target's own largest value is the scale.

What is prepared of it is in `kspace.input_and_target`. Source: Zbontar et al. 2018, arXiv:1811.08839.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from crh_train.config import DataConfig, FastmriConfig
from crh_train.data import folder, source_file, split
from crh_train.data.problems import Problems
from crh_train.data.volume import Source, Volume, Voxels, slice_count
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError

SUFFIXES = (".h5", ".hdf5")

_RECONSTRUCTIONS = ("reconstruction_rss", "reconstruction_esc")
_LARGEST_EXPANSION = 1032  # of deflate: a file that promises more lies, and would be given the memory
_ISMRMRD = "{http://www.ismrm.org/ISMRMRD}"


def open_source(config: FastmriConfig, root: Path | None) -> Source:
    """Every `*.h5` and `*.hdf5` below `root`, in the order of their paths; hashed, its k-space not yet read.

    Raises:
      ConfigError: no folder is given, or slices are to be cut otherwise than they are in the files.
      DataProblems: files that cannot be used, each with its reason, or fewer than two patients.
      DataError: no such folder.
    """
    check_as_stored(config)
    if root is None:
        raise ConfigError("data=fastmri needs the folder of the *.h5 files: add runtime.data_root=FOLDER")
    if not root.is_dir():
        raise DataError(f"runtime.data_root must be a folder of *.h5 files; {root} is none")
    problems = Problems()
    volumes: dict[str, Volume] = {}
    for path in folder.files(root, is_named, problems):
        with problems.collected():
            volume = _volume(path, root)
            if volume.id in volumes:
                raise DataError(f"{path}: another file of the folder has the same name but for its suffix")
            volumes[volume.id] = volume
    patients = {volume.id: volume.facts["patient"] for volume in volumes.values()}
    if not problems.found:
        with problems.collected():
            split.require_two_patients(root, "*.h5 files", patients)
    problems.refuse(tuple(volumes.values()))
    segments = split.by_patient({each.id: slice_count(each, config) for each in volumes.values()}, patients, config)
    return Source("fastmri", tuple(volumes.values()), segments, classes=0, channels=2)


def is_named(path: Path) -> bool:
    """Whether the name says that this is an HDF5 file, in capitals too."""
    return path.suffix.lower() in SUFFIXES


def check_as_stored(config: DataConfig) -> None:
    """Raise `ConfigError` unless slices are taken as the files have them."""
    for field, value, only in (("axis", config.axis, "axial"), ("downsample", config.downsample, 1)):
        if value != only:
            raise ConfigError(
                f"data={config.name} takes slices as the files have them: data.{field}={only}, not {value}"
            )


def _volume(path: Path, root: Path) -> Volume:
    name = source_file.relative_name(path, root)
    with _opened(path) as (stream, file):
        samples = _samples(file, path)
        slices, coils, rows, columns = _four(samples.shape)
        for reconstruction in _RECONSTRUCTIONS:
            if reconstruction in file and (found := _dataset(file, reconstruction, path).shape[:1]) != (slices,):
                raise DataError(
                    f"{path}: {reconstruction} has {found} slices, kspace has {slices}; the file is damaged"
                )
        patient = _text(file, "patient_id", path)
        if not patient:
            raise DataError(
                f"{path}: has no attribute patient_id, by which patients are kept out of two splits; write it with "
                "h5py: file.attrs['patient_id'] = '…'"
            )
        sha256 = _digest(stream)
        return Volume(
            id=name.removesuffix(path.suffix),
            files={name: sha256},
            shape=(columns, rows, slices),
            spacing=_spacing(file, path),
            orientation="unknown",
            read=partial(_read, path, sha256),
            facts={
                "patient": digest_bytes(b"fastmri patient " + patient.encode())[:16],
                "metadata": {"acquisition": _text(file, "acquisition", path)},
            },
            kspace=(coils, rows, columns),
        )


def read_kspace(path: Path) -> np.ndarray:
    """float32 [slices, coils, rows, columns, 2] of one file, whoever's it is. Raises `DataError` as reading does."""
    with _opened(path) as (stream, file):
        _samples(file, path)
        sha256 = _digest(stream)
    return _read(path, sha256).image


def _read(path: Path, sha256: str) -> Voxels:
    with _opened(path) as (stream, file):
        _check_unchanged(stream, sha256, path)
        samples = np.ascontiguousarray(_samples(file, path)[()], np.complex64)
        _check_unchanged(stream, sha256, path)
    samples = samples.reshape(_four(samples.shape))
    for number, each in enumerate(samples):
        if not np.isfinite(each).all():
            raise DataError(f"{path}: k-space of slice {number} is not finite; mend or remove the file")
    if not samples.any():
        raise DataError(f"{path}: all of k-space is zero; there is nothing to learn from; remove the file")
    return Voxels(samples.view(np.float32).reshape(*samples.shape, 2), None)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[BufferedReader, Any]]:
    """The file's bytes, and what HDF5 reads from the same descriptor. Whatever HDF5 stumbles over is a `DataError`."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            "data=fastmri reads HDF5 with the package h5py; install it: pip install 'crh-train[mri]'"
        ) from error
    try:
        with path.open("rb") as stream, h5py.File(stream, "r") as file:
            yield stream, file
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: cannot be read as HDF5 ({error}); it may be cut short or damaged") from error


def _dataset(file: Any, name: str, path: Path) -> Any:
    import h5py

    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(file[name], h5py.Dataset):
        raise DataError(f"{path}: {name} must be a dataset of the file itself")
    if file[name].is_virtual or file[name].external:
        raise DataError(f"{path}: {name} lies in other files, which are not hashed; write it into this one")
    return file[name]


def _samples(file: Any, path: Path) -> Any:
    """The dataset `kspace`, not yet read."""
    if "kspace" not in file:
        raise DataError(f"{path}: expected a dataset kspace, found {', '.join(file) or 'nothing'}; is it fastMRI's?")
    samples = _dataset(file, "kspace", path)
    if samples.dtype.kind != "c" or samples.dtype.itemsize != 8:
        raise DataError(f"{path}: kspace must be complex64, found {samples.dtype}")
    if samples.ndim not in (3, 4) or 0 in samples.shape:
        raise DataError(f"{path}: kspace must be [slices, (coils,) rows, columns], found {list(samples.shape)}")
    if samples.nbytes > _LARGEST_EXPANSION * path.stat().st_size:
        raise DataError(f"{path}: kspace promises {samples.nbytes} bytes, more than the file can hold")
    return samples


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Slices, coils, rows, columns."""
    slices, coils, rows, columns = shape if len(shape) == 4 else (shape[0], 1, *shape[1:])
    return slices, coils, rows, columns


def _text(file: Any, attribute: str, path: Path) -> str:
    """Empty where there is none."""
    if attribute not in file.attrs:
        return ""
    value = file.attrs[attribute]
    text = value.decode() if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise DataError(f"{path}: the attribute {attribute} must be text, found {value!r:.80}")
    return str(text)


def _spacing(file: Any, path: Path) -> tuple[float, float, float]:
    """Millimetres along columns, rows and slices; 1 each where the file does not say."""
    if "ismrmrd_header" not in file:
        return (1.0, 1.0, 1.0)
    try:
        header = ElementTree.fromstring(_dataset(file, "ismrmrd_header", path)[()])
        steps = []
        for axis in "yxz":  # the readout, ISMRMRD's x, goes along the rows' own axis, from row to row
            space = f"{_ISMRMRD}encoding/{_ISMRMRD}reconSpace/{_ISMRMRD}"
            extent, count = (
                header.findtext(f"{space}{of}/{_ISMRMRD}{axis}") for of in ("fieldOfView_mm", "matrixSize")
            )
            steps.append(float(extent or "nan") / int(count or "0"))
    except (ElementTree.ParseError, ArithmeticError, ValueError, TypeError) as error:
        raise DataError(f"{path}: ismrmrd_header does not say the voxels' size ({error}); mend or remove it") from error
    if not all(0 < step < np.inf for step in steps):
        raise DataError(f"{path}: ismrmrd_header gives voxels of {steps} mm; mend or remove it")
    return steps[0], steps[1], steps[2]


def _digest(stream: BufferedReader) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_unchanged(stream: BufferedReader, sha256: str, path: Path) -> None:
    if (found := _digest(stream)) != sha256:
        raise DataError(f"{path}: changed while it was in use: SHA-256 was {sha256}, is {found}; start again")
