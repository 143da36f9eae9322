"""The source `images`: a folder of pictures and arrays (`pictures.py`) and a table about them (`picture_table.py`).

Rows and columns stay those of the file. Intensities are scaled by the type's range or a window, the same for all.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crh_train.config import ImagesConfig
from crh_train.data import picture_table, pictures, resizing, source_file, split
from crh_train.data.fastmri import check_as_stored
from crh_train.data.picture_table import Row
from crh_train.data.pictures import Form
from crh_train.data.problems import Problems
from crh_train.data.volume import Source, Volume, Voxels, slice_count
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError


def open_source(config: ImagesConfig, root: Path | None) -> Source:
    """The pictures of `root`; hashed, their pixels not yet decoded.

    Raises:
      ConfigError: no folder is given, or a field does not fit.
      DataProblems: files and rows that cannot be used, each with its reason, or fewer than two patients.
      DataError: no such folder, or no readable table.
    """
    check_as_stored(config)
    if root is None:
        raise ConfigError("data=images needs the folder of the pictures: add runtime.data_root=FOLDER")
    if not root.is_dir():
        raise DataError(f"runtime.data_root must be a folder of pictures; {root} is none")
    window = None if config.window is None else (config.window[0], config.window[1])
    problems = Problems()
    table = picture_table.read(config, root, problems)
    names = picture_table.class_names(config, table, root, problems)
    volumes: list[Volume] = []
    forms: dict[str, Form] = {}
    for row in table.rows:
        with problems.collected():
            volume, forms[row.file] = _volume(row, table.kind, root, config, window, names)
            volumes.append(volume)
    channels = _channels(forms, table.kind, problems)
    patients = {volume.id: volume.facts["patient"] for volume in volumes}
    if not problems.found:
        with problems.collected():
            split.require_two_patients(root, "pictures", patients)
    problems.refuse(volumes)
    return Source(
        name="images",
        volumes=tuple(volumes),
        segments=split.by_patient({each.id: slice_count(each, config) for each in volumes}, patients, config),
        classes=len(names),
        channels=channels,
        labelled="case" if table.kind == "label" else "pixel",
        class_names=names,
        files=table.files,
    )


def _volume(
    row: Row,
    kind: str | None,
    root: Path,
    config: ImagesConfig,
    window: tuple[float, float] | None,
    names: Sequence[str],
) -> tuple[Volume, Form]:
    files, forms = {}, []
    for name in (row.file, *([row.partner] if row.partner is not None else [])):
        data = source_file.read(root / name)
        files[name] = digest_bytes(data)
        forms.append(pictures.read_form(data, root / name))
    form = forms[0]
    if forms[-1][:3] != form[:3]:
        raise DataError(f"{root / row.file}: is {list(form[:3])}, its {kind} {row.partner} is {list(forms[-1][:3])}")
    if form.indexed or (kind == "target" and forms[-1].indexed):
        raise DataError(
            f"{root / row.file}: has a palette or 1 bit a pixel, fit for masks only; save it as grey or RGB"
        )
    if forms[-1].channels > 1 and kind in ("mask", "target"):
        raise DataError(f"{root / list(files)[-1]}: is in colour; save a {kind} as grey")
    white = window if window is not None else (0, pictures.value_range(form.dtype))
    volume = Volume(
        id=row.file,
        files=files,
        shape=(config.shape[1], config.shape[0], form.slices),
        spacing=(1.0, 1.0, 1.0),
        orientation="unknown",
        read=partial(_read, row, kind, root, files, config, window, names),
        facts={
            "patient": row.patient,
            "original": {"shape": [form.columns, form.rows, form.slices], "spacing": [1.0, 1.0, 1.0]},
            "intensities": list(white),
            **({"label": row.label} if row.label is not None else {}),
            **({"metadata": dict(row.metadata)} if row.metadata is not None else {}),
        },
    )
    return volume, form


def _channels(forms: Mapping[str, Form], kind: str | None, problems: Problems) -> int:
    """Of every prepared image."""
    colour = [name for name, form in forms.items() if form.channels == 3]
    if colour and len(colour) < len(forms):
        grey = next(name for name, form in forms.items() if form.channels == 1)
        problems.add(f"{colour[0]}: is in colour, {grey} is grey; save all pictures alike")
    if colour and kind == "target":
        problems.add(f"{colour[0]}: is in colour; pictures with a target must be grey")
    return 2 if kind == "target" else 3 if colour else 1


def _read(
    row: Row,
    kind: str | None,
    root: Path,
    files: Mapping[str, str],
    config: ImagesConfig,
    window: tuple[float, float] | None,
    names: Sequence[str],
) -> Voxels:
    def pixels(name: str) -> np.ndarray:
        return pictures.read_pixels(source_file.read_unchanged(root / name, files[name]), root / name)

    def image(name: str) -> np.ndarray:
        return sized(pictures.intensities(pixels(name), window, root / name), config)

    if kind == "target" and row.partner is not None:
        return Voxels(as_volume(np.stack([image(row.file), image(row.partner)], axis=-1)), None)
    if kind == "mask" and row.partner is not None:
        classes = sized(_classes(pixels(row.partner), names, root / row.partner), config)
        return Voxels(as_volume(image(row.file)), as_volume(classes))
    label = None if row.label is None else np.asarray(names.index(row.label), np.int32)
    return Voxels(as_volume(image(row.file)), label)


def _classes(values: np.ndarray, names: Sequence[str], path: Path) -> np.ndarray:
    """The number of each pixel's class, int32."""
    classes = np.full(values.shape, -1, np.int32)
    for number, name in enumerate(names):
        classes[values == int(name)] = number
    if (classes < 0).any():
        unknown = ", ".join(f"{value:g}" for value in np.unique(values[classes < 0])[:10])
        raise DataError(f"{path}: pixels have the values {unknown}, which are none of data.classes={list(names)}")
    return classes


def sized(stack: np.ndarray, config: ImagesConfig) -> np.ndarray:
    """[S, rows, columns, …] at `config.shape`: fitted into it or not, then cropped or padded. int32 are classes."""
    if config.resize:
        size = resizing.fitted(stack.shape[1], stack.shape[2], config.shape)
        stack = resizing.nearest(stack, size) if stack.dtype == np.int32 else resizing.linear(stack, size)
    return resizing.crop_or_pad(stack, config.shape)


def as_volume(stack: np.ndarray) -> np.ndarray:
    """[S, rows, columns, …] as the volume [X, Y, Z, …] whose axial slices (`preparation.cut`) are these pictures."""
    return np.ascontiguousarray(np.swapaxes(stack[:, ::-1, ::-1], 0, 2))
