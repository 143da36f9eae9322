"""From the files and folders that a user names to cases to be read, by what the files are. Reads no pixels."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from crh_train.data import fastmri, folder, nifti, pictures
from crh_train.data.problems import Problems
from crh_train.errors import DataError, UsageError
from crh_train.inference import dicom_files, kspace_files, nifti_files, picture_files
from crh_train.inference.case import Case

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_DICOM_AT = 128  # bytes before the mark
_TABLES = (".csv", ".tsv", ".json")
"""What lies beside the data in a folder that was trained on; nothing in it is to be predicted."""


class Input(NamedTuple):
    """A case that was found."""

    path: Path  # the first file, or the folder of a series
    name: str  # of its output in a folder, without ending
    endings: tuple[str, ...]  # that its output may have, its own first; none where that is a folder of files
    read: Callable[[], Case]


def find(paths: Sequence[Path], channels: int) -> tuple[Input, ...]:
    """Every case of `paths`: NIfTI, PNG, TIFF, NPY, NPZ or HDF5 files, or a DICOM file or series, or folders of them.

    Args:
      channels: that the model takes. Of more than one, NIfTI files CASE_0000.nii.gz, CASE_0001.nii.gz, … are one case
        as nnU-Net names them, and any other is a 4-D file.

    Raises:
      UsageError: no such path, two cases of one name.
      DataError: a file of unknown format, a folder without files or of several formats, a missing channel, a link
        that leads nowhere.
    """
    found: list[Input] = []
    volumes: list[Path] = []  # NIfTI files, of which several may be one case
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        inside = _inside(path)
        formats = [_format(each) for each in inside]
        if odd := [each for each, form in zip(inside, formats, strict=True) if form != formats[0]]:
            raise DataError(f"{path}: holds files of several formats, such as {inside[0].name} and {odd[0].name}")
        if formats[0] == "dicom":
            name = path.absolute().name.removesuffix(".dcm")
            found.append(Input(path, name, (), partial(dicom_files.read, inside)))
        elif formats[0] == "nifti":
            volumes += inside
        elif formats[0] == "picture":
            found += [Input(p, _stem(p), picture_files.endings(p), partial(picture_files.read, p)) for p in inside]
        else:
            found += [Input(p, _stem(p), kspace_files.endings(p), partial(kspace_files.read, p)) for p in inside]
    for name, group in _cases(volumes, channels):
        read = partial(nifti_files.read, group, channels)
        found.append(Input(group[0], name, nifti_files.endings(group[0]), read))
    names = [each.name for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two inputs are named {twice[0]}, and so would be their outputs; predict them one by one")
    return tuple(found)


def _inside(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    problems = Problems()
    inside = folder.files(path, _expected, problems)
    for problem in problems.found:
        raise DataError(problem)
    if not inside:
        raise DataError(f"{path}: a folder without files; there is nothing to predict")
    return inside


def _expected(path: Path) -> bool:
    """Whether `path` in a folder should be a file to predict."""
    passed_over = path.name.startswith(".") or path.name.upper() == "DICOMDIR" or path.suffix.lower() in _TABLES
    return not (passed_over or os.path.isdir(path))


def _format(path: Path) -> str:
    if nifti.is_named(path):
        return "nifti"
    if path.suffix.lower() in pictures.SUFFIXES:
        return "picture"
    if fastmri.is_named(path):
        return "h5"
    with path.open("rb") as stream:
        if stream.read(_DICOM_AT + 4)[_DICOM_AT:] == b"DICM":
            return "dicom"
    raise DataError(
        f"{path}: of unknown format; expected NIfTI (.nii, .nii.gz), DICOM, {', '.join(pictures.SUFFIXES)}, "
        f"{' or '.join(fastmri.SUFFIXES)}"
    )


def _stem(path: Path) -> str:
    return nifti.stem(path.name) if nifti.is_named(path) else path.name.rpartition(".")[0]


def _cases(files: Sequence[Path], channels: int) -> list[tuple[str, Sequence[Path]]]:
    """Name and files of each NIfTI case, the files in the order of its channels."""
    cases: list[tuple[str, Sequence[Path]]] = []
    parts: dict[str, dict[int, Path]] = {}
    for path in files:
        match = _CHANNEL.fullmatch(_stem(path))
        if channels == 1 or match is None:
            cases.append((_stem(path), [path]))
        else:
            parts.setdefault(match[1], {})[int(match[2])] = path
    for name, group in parts.items():
        if sorted(group) != list(range(channels)):
            raise DataError(
                f"{next(iter(group.values()))}: the model takes {channels} channels, {name}_0000 to "
                f"{name}_{channels - 1:04d}; found {', '.join(f'{number:04d}' for number in sorted(group))}"
            )
        cases.append((name, [group[number] for number in range(channels)]))
    return cases
