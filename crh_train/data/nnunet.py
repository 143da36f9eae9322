"""The source `nnunet`: the training part of a data set as nnU-Net (version 1 and 2) and the Medical Segmentation
Decathlon lay it out.

    dataset.json                              channels, labels
    imagesTr/CASE_0000.nii.gz, _0001, …       one file a channel (the Decathlon: CASE.nii.gz, with the channels last)
    labelsTr/CASE.nii.gz                      a class for each voxel

A file's ending may be in capitals. Files whose names begin with a dot are no one's. `imagesTs` is not read.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from crh_train.config import NnunetConfig
from crh_train.data import cases, folder, nifti_case, source_file
from crh_train.data.problems import Problems
from crh_train.data.volume import Source
from crh_train.errors import DataError

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_ENDINGS = (".nii.gz", ".nii")

NAME_CHARACTERS = 80
"""At most so long is a label's name, which stands in tables."""


class _Description(NamedTuple):
    channels: int
    classes: tuple[str, ...]  # their names
    ending: str
    listed: tuple[tuple[str, str], ...]  # image and label of each case, where the file lists them
    stated: int | None  # numTraining


def open_source(config: NnunetConfig, root: Path | None) -> Source:
    """Every case of `imagesTr`, in the order of their names; hashed, not yet decoded. A case is a patient of its own,
    unless the metadata table has a column `patient`.

    Raises:
      ConfigError: no folder is given.
      DataError: no usable dataset.json, or fewer than two patients.
      DataProblems: a channel or a label is missing, a file belongs to no case, or cannot be used.
    """
    root = cases.data_root(root, config)
    description = _read_description(root / "dataset.json")
    problems = Problems()
    found = _listed(root, description, problems) if description.listed else _in_folders(root, description, problems)
    opened = []
    for name in sorted(found):
        with problems.collected():
            opened.append(nifti_case.open_case(name, None, {"case": name}, found[name], root))
    if description.stated is not None and description.stated != len(found):
        problems.add(f"{root / 'dataset.json'}: numTraining is {description.stated}, but there are {len(found)} cases")
    names, channels = description.classes, description.channels
    return cases.make_source(config, root, opened, problems, classes=len(names), channels=channels, class_names=names)


def _in_folders(root: Path, description: _Description, problems: Problems) -> dict[str, nifti_case.Files]:
    """Version 2, which lists no files: what is there."""
    images: dict[str, dict[int, Path]] = {}
    for path in _files(root / "imagesTr", problems):
        stem = _stem(path, description.ending)
        match = None if stem is None else _CHANNEL.fullmatch(stem)
        if match is None:
            problems.add(f"{path}: expected CASE_0000{description.ending}; it belongs to no case, so move it away")
        elif int(match[2]) >= description.channels:
            problems.add(
                f"{path}: dataset.json names {description.channels} channels, from 0000; add it, or move it away"
            )
        elif int(match[2]) in images.setdefault(match[1], {}):
            problems.add(f"{path}: another file has the same name but for its ending; move one away")
        else:
            images[match[1]][int(match[2])] = path
    labelled = set()
    for path in _files(root / "labelsTr", problems):
        stem = _stem(path, description.ending)
        if stem not in images:
            problems.add(f"{path}: labels of no case of imagesTr; add its images, or move it away")
        elif stem in labelled:
            problems.add(f"{path}: another file has the same name but for its ending; move one away")
        labelled.add(stem)
    return {name: _case(root, name, description) for name in images}


def _listed(root: Path, description: _Description, problems: Problems) -> dict[str, nifti_case.Files]:
    """The Decathlon and version 1, which list the files of each case."""
    found: dict[str, nifti_case.Files] = {}
    for image, label in description.listed:
        path, ending = root / image, description.ending
        name = _stem(path, ending) or path.name
        if name in found:
            problems.add(f"{root / 'dataset.json'}: the case {name} is listed twice")
        whole = nifti_case.Files((path,), description.channels, root / label, len(description.classes))
        found[name] = whole if path.exists() or path.is_symlink() else _case(root, name, description)
    known = {path for files in found.values() for path in (*files.channels, files.labels)}
    for part in ("imagesTr", "labelsTr"):
        for path in _files(root / part, problems):
            if path not in known:
                problems.add(f"{path}: dataset.json does not list it; list it, or move it away")
    return found


def _case(root: Path, name: str, description: _Description) -> nifti_case.Files:
    stems = [f"{name}_{channel:04d}" for channel in range(description.channels)]
    channels = tuple(_placed(root / "imagesTr", stem, description.ending) for stem in stems)
    labels = _placed(root / "labelsTr", name, description.ending)
    return nifti_case.Files(channels, 1, labels, len(description.classes))


def _placed(parent: Path, stem: str, ending: str) -> Path:
    """Where the file of this name is, or should be."""
    capitals = parent / f"{stem}{ending.upper()}"
    return capitals if capitals.exists() else parent / f"{stem}{ending}"


def _stem(path: Path, ending: str) -> str | None:
    """The name without its ending, which may be in capitals; None where it has another."""
    for each in (ending, ending.upper()):
        if path.name.endswith(each):
            return path.name.removesuffix(each)
    return None


def _files(parent: Path, problems: Problems) -> list[Path]:
    if not parent.is_dir():
        problems.add(f"{parent}: expected a folder; there is none")
        return []
    with problems.collected():
        return [path for path in folder.listed(parent) if not path.name.startswith(".")]
    return []


def _read_description(path: Path) -> _Description:
    """`dataset.json`. Raises `DataError` where it is none, or asks for what is not supported."""
    try:
        document = json.loads(source_file.read(path))
    except ValueError as error:
        raise DataError(f"{path}: no readable JSON ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a JSON object with channel_names and labels")
    if "dataset" in document:
        raise DataError(
            f"{path}: its key 'dataset' places files by hand, which is not supported; use imagesTr, labelsTr"
        )
    names = next((document[key] for key in ("channel_names", "modality") if key in document), None)
    if (
        not isinstance(names, dict)
        or sorted(names) != sorted(str(channel) for channel in range(len(names)))
        or not names
    ):
        raise DataError(f'{path}: expected channel_names such as {{"0": "T1"}}, counted from 0, found {names!r:.80}')
    ending = document["file_ending"] if "file_ending" in document else _ENDINGS[0]
    if ending not in _ENDINGS:
        raise DataError(f"{path}: file_ending {ending!r:.20} is not read here; convert to {' or '.join(_ENDINGS)}")
    entries = document["training"] if "training" in document else []
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: training must list {{image, label}} for each case, or be left out, found {entries!r:.80}"
        )
    listed = tuple(_entry(entry, path) for entry in entries)
    return _Description(len(names), _classes(document, path), ending, listed, _stated(document, path))


def _stated(document: Mapping[str, Any], path: Path) -> int | None:
    """How many cases there should be, where the file says it."""
    count = document["numTraining"] if "numTraining" in document else None
    if count is not None and (not isinstance(count, int) or isinstance(count, bool)):
        raise DataError(f"{path}: numTraining must be a whole number, found {count!r:.40}")
    return count


def _classes(document: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """The names of the classes, in their order."""
    labels = document["labels"] if "labels" in document else None
    if not isinstance(labels, dict):
        raise DataError(f'{path}: expected labels such as {{"background": 0, "tumour": 1}}, found {labels!r:.80}')
    if "regions_class_order" in document or any(isinstance(value, list) for value in labels.values()):
        raise DataError(
            f"{path}: labels that are regions of several values are not supported; give one value to each label"
        )
    if "ignore" in labels:
        raise DataError(f"{path}: the label 'ignore' is not supported; label those voxels, or leave their cases out")
    # Version 2 maps names to values, the Decathlon and version 1 values to names.
    pairs = labels.items() if "channel_names" in document else [(name, value) for value, name in labels.items()]
    names = {str(value): name for name, value in pairs}
    if names.keys() != {str(value) for value in range(len(pairs))} or len(names) < 2:
        raise DataError(f"{path}: expected labels counted from 0, the background, found {labels!r:.120}")
    for name in names.values():
        if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= NAME_CHARACTERS:
            raise DataError(f"{path}: expected a name of 1 to {NAME_CHARACTERS} characters a label, found {name!r:.80}")
    return tuple(names[str(value)] for value in range(len(names)))


def _entry(entry: Any, path: Path) -> tuple[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
        raise DataError(f"{path}: expected {{image, label}} for each case of training, found {entry!r:.80}")
    image, label = (Path(entry[key]) for key in ("image", "label"))
    if any(part.is_absolute() or ".." in part.parts for part in (image, label)):
        raise DataError(f"{path}: {entry!r:.120} leads out of the folder")
    return str(image), str(label)
