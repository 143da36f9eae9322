"""The table of `data=images`: which pictures there are, and what each of them is.

A CSV (TSV where its name ends so) with a line for each picture; file names are relative to the folder.

    file      the picture
    label     its class, one for the whole picture; or
    mask      a file of the same size, each pixel's value its class; or
    target    a file of the same size, the picture that is to be made of it (task=paired); or none of the three
    patient   who is never in two splits; without this column, each file is a patient of its own
    others    metadata, for results by subgroup

Every picture of the folder must be in the table and every file of the table in the folder. Without a table, all
pictures of the folder are taken, unlabelled.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crh_train.config import ImagesConfig
from crh_train.data import folder, metadata, pictures, source_file
from crh_train.data.problems import Problems
from crh_train.digest import digest_bytes
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
    files: Mapping[str, str]  # the table's own name -> SHA-256 of its bytes; empty where there is none


def read(config: ImagesConfig, root: Path, problems: Problems) -> Table:
    """The table's rows that name files of `root`; what is wrong with others is added to `problems`."""
    found = _pictures(root, config.table is None, problems)
    if config.table is None:
        return Table(None, tuple(Row(name, None, None, name, None) for name in sorted(found)), {})
    table = metadata.read(root, config.table, ["file"], field="data.table")
    columns = list(next(iter(table.rows.values()), {}))
    kinds = [kind for kind in _KINDS if kind in columns]
    if len(kinds) > 1:
        raise DataError(f"{table.path}: has columns {' and '.join(kinds)}; a table has one of them")
    kind = kinds[0] if kinds else None
    rows, named = [], set()
    for file in sorted(table.rows):
        row = table.rows[file]
        files = [file, *([row[kind]] if kind in ("mask", "target") else [])]
        named.update(files)
        missing = [name for name in files if name not in found]
        for name in missing:
            problems.add(f"{table.path}: {file}: no {', '.join(pictures.SUFFIXES)} file {name!r} in {root}; add it")
        empty = [column for column in ("label", "patient") if column in row and not row[column]]
        for column in empty:
            problems.add(f"{table.path}: {file}: the {column} is empty; fill it in")
        if not missing and not empty:
            rows.append(
                Row(
                    file,
                    partner=files[1] if len(files) > 1 else None,
                    label=row["label"] if kind == "label" else None,
                    patient=row["patient"] if "patient" in row else file,
                    metadata={name: text for name, text in row.items() if name not in (*_KINDS, "patient")},
                )
            )
    for name in sorted(found.keys() - named):
        problems.add(f"{found[name]}: no row of {config.table} names it; add one, or move the file away")
    return Table(kind, tuple(rows), {config.table: digest_bytes(source_file.read(table.path))})


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


def class_names(config: ImagesConfig, table: Table, root: Path, problems: Problems) -> tuple[str, ...]:
    """In the order of the classes; empty where nothing has a class."""
    if table.kind not in ("label", "mask"):
        if config.classes is not None:
            raise ConfigError(
                "data.classes is given, but the table has neither a column label nor mask: data.classes=null"
            )
        return ()
    if config.classes is None and table.kind == "mask":
        raise ConfigError(
            f"data.classes must list the values of the masks' pixels, such as [0,1]; {_values(table, root)}"
        )
    labels = {row.label for row in table.rows if row.label is not None}
    names = tuple(_sorted(labels) if config.classes is None else config.classes)
    if len(set(names)) < max(2, len(names)):
        raise ConfigError(f"data={config.name} needs at least two different classes, got {', '.join(names) or 'none'}")
    if table.kind == "mask" and not all(name.isdecimal() and str(int(name)) == name for name in names):
        raise ConfigError(f"data.classes must list the values of the masks' pixels, such as [0,255], got {list(names)}")
    for row in table.rows:
        if row.label is not None and row.label not in names:
            problems.add(f"{config.table}: {row.file}: the label {row.label!r} is none of data.classes={list(names)}")
    return names


def _sorted(labels: set[str]) -> list[str]:
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
