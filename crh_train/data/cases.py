"""From the cases that a layout found to a source: resampled, with rows of the metadata table, split by patient."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.config import CasesConfig
from crh_train.data import metadata, resampling, split
from crh_train.data.problems import Problems
from crh_train.data.volume import Source, Volume, Voxels, slice_count
from crh_train.errors import ConfigError, DataError


class Case(NamedTuple):
    id: str
    patient: str | None  # None: the layout does not say; the table's column `patient` may, else each case is one
    row: Mapping[str, str]  # by what the metadata table may name it: column -> this case's value there
    files: Mapping[str, str]  # file name, relative to its source -> SHA-256 of the file's bytes
    shape: tuple[int, int, int]  # in RAS+ orientation
    spacing: tuple[float, float, float]  # millimetres
    orientation: str  # of the axes in the files
    read: Callable[[], Voxels]  # at that shape and spacing


def data_root(root: Path | None, config: CasesConfig) -> Path:
    """`root`, checked. Raises `ConfigError` where none is given, `DataError` where it is no folder."""
    if root is None:
        raise ConfigError(f"data={config.name} needs the folder of the data: add runtime.data_root=FOLDER")
    if not root.is_dir():
        raise DataError(f"runtime.data_root must be a folder laid out for data={config.name}; {root} is none")
    return root


def make_source(
    config: CasesConfig,
    root: Path,
    cases: Sequence[Case],
    problems: Problems,
    *,
    classes: int,
    channels: int,
    class_names: tuple[str, ...] = (),
) -> Source:
    """The source of `cases`.

    Raises:
      DataProblems: `problems`, and what is found here: a case twice, or without its row; a row without its case; fewer
        than two patients, one to train and one to validate on.
    """
    table, rows = _rows(config, root, cases, problems)
    volumes: dict[str, Volume] = {}
    for case in cases:
        if case.id in volumes:
            problems.add(f"{next(iter(case.files))}: a second case {case.id}; rename one")
        else:
            volumes[case.id] = _volume(case, rows, config)
    patients = {name: volume.facts["patient"] for name, volume in volumes.items()}
    if not problems.found:
        with problems.collected():
            split.require_two_patients(root, "the images", patients, " case" if len(volumes) == 1 else " cases")
    problems.refuse(tuple(volumes.values()))
    slices = {name: slice_count(volume, config) for name, volume in volumes.items()}
    segments = split.by_patient(slices, patients, config)
    return Source(
        config.name, tuple(volumes.values()), segments, classes, channels, class_names=class_names, files=table
    )


def _rows(
    config: CasesConfig, root: Path, cases: Sequence[Case], problems: Problems
) -> tuple[Mapping[str, str], Mapping[str, Mapping[str, str]] | None]:
    """The table's own name with its SHA-256, and its row of each case that has one, by the case's id; nothing and None
    without a table."""
    if config.metadata is None or not cases:
        return {}, None
    files: dict[str, str] = {}
    rows: dict[str, Mapping[str, str]] = {}
    with problems.collected():
        patient = ["patient"] if cases[0].patient is None else []
        table = metadata.read(root, config.metadata, list(cases[0].row), patient)
        files[config.metadata] = table.sha256
        for case in cases:
            with problems.collected():
                rows[case.id] = table.row(case.row[table.column])
        # A table of patients may list some that have no such image; one of cases names a file each.
        if table.column == "case":
            for key in sorted(table.rows.keys() - {case.id for case in cases}):
                problems.add(f"{table.path}: no images of case {key}; remove the row, or put them there")
    return files, rows


def _volume(case: Case, rows: Mapping[str, Mapping[str, str]] | None, config: CasesConfig) -> Volume:
    row = rows[case.id] if rows is not None and case.id in rows else None
    facts: dict[str, Any] = {"patient": case.patient}
    if case.patient is None:
        facts["patient"] = row["patient"] if row is not None and "patient" in row else case.id
    if row is not None:
        facts["metadata"] = dict(row)
    if config.spacing is None:
        return Volume(case.id, case.files, case.shape, case.spacing, case.orientation, case.read, facts)
    x, y, z = config.spacing
    shape = resampling.shape_at(case.shape, case.spacing, config.spacing)
    facts["original"] = {"shape": list(case.shape), "spacing": list(case.spacing)}
    read = partial(_resampled, case, config.spacing, shape)
    return Volume(case.id, case.files, shape, (x, y, z), case.orientation, read, facts)


def _resampled(case: Case, spacing: Sequence[float], shape: tuple[int, int, int]) -> Voxels:
    voxels = case.read()
    image = resampling.linear(voxels.image, case.spacing, spacing, shape)
    channels = image.reshape(*shape, -1)
    if (channels.min((0, 1, 2)) == channels.max((0, 1, 2))).any():
        raise DataError(
            f"{next(iter(case.files))}: every voxel is the same at data.spacing={list(spacing)}; ask for less"
        )
    labels = voxels.labels
    if labels is not None and labels.ndim:
        labels = resampling.nearest(labels, case.spacing, spacing, shape)
    return Voxels(image, labels)
