"""The source `dicom`: a folder of DICOM files in any arrangement. Each series is a case, each PatientID a patient.

What the run records of a file does not depend on its name or place: slices are named CASE/0000, CASE/0001, … in the
order of their positions. Files named DICOMDIR, and those whose names begin with a dot, are not read.
"""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from crh_train.config import DicomConfig
from crh_train.data import cases, dicom_series, folder, orientation
from crh_train.data.cases import Case
from crh_train.data.dicom_series import Series
from crh_train.data.dicom_slice import Slice, read_slice, require_pydicom
from crh_train.data.problems import Problems
from crh_train.data.volume import Source, Voxels
from crh_train.digest import digest_bytes
from crh_train.errors import DataError

_DIGITS = 16  # of a pseudonym


def open_source(config: DicomConfig, root: Path | None) -> Source:
    """Every series below `root` that `config.series` selects, by patient and series; hashed, not yet decoded.

    Raises:
      ConfigError: no folder is given.
      DataError: pydicom is not installed, or fewer than two patients.
      DataProblems: a file is no DICOM file, holds no image, or the slices of a series are no volume.
    """
    root = cases.data_root(root, config)
    require_pydicom()
    problems = Problems()
    groups: dict[tuple[str, str, str], list[Slice]] = {}
    table = None if config.metadata is None else root / config.metadata
    for path in folder.files(root, lambda path: _expected(path) and path != table, problems):
        with problems.collected():
            if (one := read_slice(path, config.series)) is not None:
                groups.setdefault((one.patient, one.study, one.series), []).append(one)
    opened = []
    for slices in groups.values():
        with problems.collected():
            opened.append(_case(dicom_series.arrange(slices), config.pseudonym))
    if not groups and not problems.found:
        selected = "" if config.series is None else f" of a series described as data.series={config.series}"
        raise DataError(f"{root} must hold DICOM files{selected}; it holds none")
    return cases.make_source(config, root, sorted(opened, key=lambda case: case.id), problems, classes=0, channels=1)


def pseudonym(kind: str, identity: str) -> str:
    """What stands for a patient's or a series' id in what a run records: the same for the same id, everywhere.

    It keeps names out of sight of those whom a run is handed to. It is no secret: whoever can guess an id can check the
    guess.
    """
    return f"{kind}-{digest_bytes(f'crh-train {kind}:{identity}'.encode())[:_DIGITS]}"


def _expected(path: Path) -> bool:
    """Whether `path` should be a DICOM file."""
    return not (path.name.startswith(".") or path.name.upper() == "DICOMDIR" or os.path.isdir(path))


def _case(series: Series, hide: bool) -> Case:
    one = series.slices[0]
    patient = pseudonym("patient", one.patient) if hide else one.patient
    name = f"{patient}/{pseudonym('series', f'{one.study} {one.series}') if hide else one.series}"
    files: Mapping[str, str] = {f"{name}/{index:04d}": each.sha256 for index, each in enumerate(series.slices)}
    return Case(
        id=name,
        patient=patient,
        row={"case": name, "patient_id": one.patient},
        files=files,
        shape=dicom_series.ras_shape(series),
        spacing=dicom_series.ras_spacing(series),
        orientation=orientation.codes(series.affine),
        read=partial(_read, series),
    )


def _read(series: Series) -> Voxels:
    return Voxels(dicom_series.read_image(series), labels=None)
