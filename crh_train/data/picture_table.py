"""The table of `data=images`: which pictures there are, and what each of them is.

A CSV (TSV where its name ends so) with a line for each picture; file names are relative to the folder.

    file      the picture
    label     its class, one for the whole picture; or
    mask      a file of the same size, each pixel's value its class; or
    target    a file of the same size, the picture that is to be made of it (task=paired); or none of the three
    patient   who is never in two splits; without this column, each file is a patient of its own
    others    metadata, for results by subgroup

Every picture of the folder must be in the table and every file of the table in the folder. Without a table, all
pictures of the folder are taken, unlabelled, and those in a format that is not read are named.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from crh_train.config import ImagesConfig
from crh_train.data import folder, metadata, pictures, source_file
from crh_train.data.metadata import PATIENT
from crh_train.data.problems import Problems
from crh_train.errors import ConfigError, DataError

_KINDS = ("label", "mask", "target")
_NOT_READ = (".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".jp2", ".dcm", ".nii", ".nii.gz")  # and yet pictures


class Row(NamedTuple):
    file: str
    partner: str | None  # the file of the mask or of the target
    label: str | None
    patient: str
    metadata: Mapping[str, str] | None


class Table(NamedTuple):
    kind: str | None  # of `_KINDS`
    rows: tuple[Row, ...]  # in the order of their files
    labels: frozenset[str]  # of every row, of those without their file too
    files: Mapping[str, str]  # the table's own name -> SHA-256 of its bytes; empty where there is none


def read(config: ImagesConfig, root: Path, problems: Problems) -> Table:
    """The table's rows that name files of `root`; what is wrong with others is added to `problems`."""
    found = _pictures(root, config.table is None, problems)
    if config.table is None:
        return Table(None, tuple(Row(name, None, None, name, None) for name in sorted(found)), frozenset(), {})
    table = metadata.read(root, config.table, ["file"], [*_KINDS, PATIENT], field="data.table")
    columns = list(next(iter(table.rows.values()), {}))
    kinds = [kind for kind in _KINDS if kind in columns]
    if len(kinds) > 1:
        raise DataError(f"{table.path}: has columns {' and '.join(kinds)}; a table has one of them")
    kind = kinds[0] if kinds else None
    rows, named = [], set()
    by_file = _by_file(table, problems)
    for file in sorted(by_file):
        row = by_file[file]
        files = [file, *([_normal(row[kind])] if kind in ("mask", "target") else [])]
        named.update(files)
        missing = [name for name in files if name not in found]
        for name in missing:
            problems.add(
                f"{table.path}: {file}: no {', '.join(pictures.SUFFIXES)} file {name!r} in {root}; "
                + ("name it from that folder on" if name.startswith("/") else "add it")
            )
        empty = [column for column in ("label", PATIENT) if column in row and not row[column]]
        for column in empty:
            problems.add(f"{table.path}: {file}: the {column} is empty; fill it in")
        if not missing and not empty:
            rows.append(
                Row(
                    file,
                    partner=files[1] if len(files) > 1 else None,
                    label=row["label"] if kind == "label" else None,
                    patient=row[PATIENT] if PATIENT in row else file,
                    metadata={name: text for name, text in row.items() if name not in (*_KINDS, PATIENT)},
                )
            )
    for name in sorted(found.keys() - named):
        problems.add(f"{found[name]}: no row of {config.table} names it; add one, or move the file away")
    labels = frozenset(row["label"] for row in by_file.values() if kind == "label" and row["label"])
    return Table(kind, tuple(rows), labels, {config.table: table.sha256})


def _pictures(root: Path, alone: bool, problems: Problems) -> dict[str, Path]:
    """Every picture below `root` by its name in the manifest. Where no table says what is there (`alone`), one in a
    format that is not read is added to `problems`."""
    found = {}
    suffixes = (*pictures.SUFFIXES, *(_NOT_READ if alone else ()))

    def wanted(path: Path) -> bool:
        return path.name.lower().endswith(suffixes) and not os.path.isdir(path)

    for path in folder.files(root, wanted, problems):
        with problems.collected():
            for suffix in _NOT_READ:
                if path.name.lower().endswith(suffix):
                    raise DataError(
                        f"{path}: {suffix} is not read; expected PNG, TIFF, NPY or NPZ; convert it losslessly, or "
                        "move it away"
                    )
            found[source_file.relative_name(path, root)] = path
    return found


def _by_file(table: metadata.Table, problems: Problems) -> Mapping[str, Mapping[str, str]]:
    """The rows by their files' names in the manifest."""
    rows: dict[str, Mapping[str, str]] = {}
    for name, row in table.rows.items():
        if _normal(name) in rows:
            problems.add(f"{table.path}: {name}: a second row of {_normal(name)}; remove one")
        rows[_normal(name)] = row
    return rows


def _normal(name: str) -> str:
    """A file's name as the manifest has it, which ./ does not begin."""
    return PurePosixPath(name).as_posix() if name else name


def class_names(config: ImagesConfig, table: Table, root: Path, problems: Problems) -> tuple[str, ...]:
    """In the order of the classes; empty where nothing has a class."""
    if table.kind not in ("label", "mask"):
        if config.classes is not None:
            raise ConfigError(
                "data.classes is given, but the table has neither a column label nor mask: data.classes=null"
            )
        return ()
    if config.classes is None and table.kind == "mask":
        problems.refuse()  # first: the masks to look at may be missing
        raise ConfigError(
            f"data.classes must list the values of the masks' pixels, such as [0,1]; {_values(table, root)}"
        )
    names = tuple(_sorted(table.labels) if config.classes is None else config.classes)
    if len(set(names)) < max(2, len(names)):
        few = f"data={config.name} needs at least two different classes, got {', '.join(names) or 'none'}"
        if config.classes is not None:
            raise ConfigError(few)
        problems.add(f"{root / str(config.table)}: {few}")
    if table.kind == "mask" and not all(name.isdecimal() and str(int(name)) == name for name in names):
        raise ConfigError(f"data.classes must list the values of the masks' pixels, such as [0,255], got {list(names)}")
    for row in table.rows:
        if row.label is not None and row.label not in names:
            problems.add(f"{config.table}: {row.file}: the label {row.label!r} is none of data.classes={list(names)}")
    return names


def _sorted(labels: Collection[str]) -> list[str]:
    """By value where all are integers, else as text."""
    integers = all(label.removeprefix("-").isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label), label)) if integers else sorted(labels)


def _values(table: Table, root: Path) -> str:
    """The values in the first mask, for whoever has to list those of all."""
    for row in table.rows:
        assert row.partner is not None
        path = root / row.partner
        values = np.unique(pictures.read_pixels(source_file.read(path), path))
        return f"{path} has {', '.join(f'{value:g}' for value in values[:20])}{', …' if len(values) > 20 else ''}"
    return "there is no mask to look at"
