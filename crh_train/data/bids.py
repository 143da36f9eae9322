"""The source `bids`: images of one kind of a BIDS folder (bids-specification.readthedocs.io), with labels from its
derivatives if wanted.

    dataset_description.json
    participants.tsv
    sub-01/[ses-1/]anat/sub-01[_ses-1][_KEY-VALUE…]_T1w.nii.gz
    derivatives/NAME/sub-01/[ses-1/]anat/sub-01[_ses-1][_KEY-VALUE…]_dseg.nii.gz

Each image is a case, and each subject a patient. Labels belong to the image of the same subject, session and entities;
space, resolution, description and atlas, which derivatives add, are not compared.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from crh_train.config import BidsConfig
from crh_train.data import cases, folder, nifti, nifti_case, source_file
from crh_train.data.problems import Problems
from crh_train.data.volume import Source
from crh_train.errors import ConfigError, DataError

_NAME = re.compile(r"sub-[0-9A-Za-z]+(_[0-9A-Za-z]+-[0-9A-Za-z+]+)*")
_OF_DERIVATIVES = frozenset({"space", "res", "den", "desc", "label", "atlas", "seg"})


def open_source(config: BidsConfig, root: Path | None) -> Source:
    """Every image `*_SUFFIX.nii[.gz]` of the first suffix, in the order of their names; hashed, not yet decoded.

    Raises:
      ConfigError: no folder is given, no suffix, or labels without their number of classes.
      DataError: no BIDS folder, or images of fewer than two subjects.
      DataProblems: a channel or a label is missing, a name is not BIDS's, or a file cannot be used.
    """
    if not config.suffixes or len(set(config.suffixes)) != len(config.suffixes):
        raise ConfigError(f"data.suffixes must name each kind of image once, such as [T1w], got {config.suffixes}")
    if (config.labels is None) != (config.classes is None):
        raise ConfigError("data.labels and data.classes belong together: give both, or neither")
    root = cases.data_root(root, config)
    _check_description(root / "dataset_description.json")
    problems = Problems()
    places = _places(root, config.datatype, problems)
    kinds = [_files(root, places, suffix, problems) for suffix in config.suffixes]
    labels = None
    if config.labels is not None:
        if not (root / config.labels).resolve().is_relative_to(root.resolve()):
            raise ConfigError(f"data.labels={config.labels} must lie in the folder of the data, {root}")
        if not (root / config.labels).is_dir():
            raise DataError(f"{root / config.labels}: expected the folder of the labels (data.labels); there is none")
        labels = _labels(root / config.labels, config.datatype, problems)
    for suffix, kind in zip(config.suffixes, kinds, strict=True):
        for name in sorted(kind.keys() - kinds[0].keys()):
            problems.add(f"{kind[name]}: no {config.suffixes[0]} goes with this {suffix}; add it, or move this away")
    opened = []
    for name, path in sorted(kinds[0].items()):
        with problems.collected():
            channels = tuple(
                _channel(kind, name, suffix, path) for kind, suffix in zip(kinds, config.suffixes, strict=True)
            )
            label = None if labels is None else _label(labels, name, path)
            files = nifti_case.Files(channels, 1, label, config.classes or 0)
            subject = name.split("_")[0]
            opened.append(nifti_case.open_case(name, subject, {"case": name, "participant_id": subject}, files, root))
    if not kinds[0]:
        problems.add(f"{root}: no sub-*/[ses-*/]{config.datatype}/*_{config.suffixes[0]}.nii.gz, nor .nii, is there")
    classes, channels_each = config.classes or 0, len(config.suffixes)
    return cases.make_source(config, root, opened, problems, classes=classes, channels=channels_each)


def _check_description(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path}: there is none, so this is no BIDS folder; give its top folder, or write one")
    try:
        document = json.loads(source_file.read(path))
    except ValueError as error:
        raise DataError(f"{path}: no readable JSON ({error})") from error
    if not isinstance(document, dict) or "BIDSVersion" not in document:
        raise DataError(f"{path}: expected a JSON object with BIDSVersion")


def _places(root: Path, datatype: str, problems: Problems) -> list[Path]:
    """The folders of subjects, or of their sessions, that hold images."""
    subjects = folder.subfolders(root, "sub-*", problems)
    parents = [each for subject in subjects for each in (subject, *folder.subfolders(subject, "ses-*", problems))]
    return [place for parent in parents for place in folder.subfolders(parent, datatype, problems)]


def _files(root: Path, places: Sequence[Path], suffix: str, problems: Problems) -> dict[str, Path]:
    """Files by their entities: "sub-01_ses-1_run-2" -> path."""
    found: dict[str, Path] = {}
    paths: list[Path] = []
    for place in places:
        with problems.collected():
            paths += folder.listed(place)
    named = [path for path in paths if nifti.is_named(path) and not path.name.startswith(".")]
    for path in sorted(path for path in named if nifti.stem(path.name).endswith(f"_{suffix}")):
        name = nifti.stem(path.name).removesuffix(f"_{suffix}")
        folders = "_".join(path.parent.parent.relative_to(root).parts)
        if not _NAME.fullmatch(name) or not f"{name}_".startswith(f"{folders}_"):
            problems.add(f"{path}: expected a BIDS name, {folders}[_KEY-VALUE…]_{suffix}.nii.gz; rename it")
        elif name in found:
            problems.add(f"{path}: another file has the same name but for its ending; move one away")
        else:
            found[name] = path
    return found


def _labels(root: Path, datatype: str, problems: Problems) -> Mapping[str, list[Path]]:
    """Files of labels by the entities of the image that they belong to."""
    found: dict[str, list[Path]] = {}
    for name, path in _files(root, _places(root, datatype, problems), "dseg", problems).items():
        found.setdefault(_entities(name), []).append(path)
    return found


def _entities(name: str) -> str:
    return "_".join(part for part in name.split("_") if part.split("-")[0] not in _OF_DERIVATIVES)


def _channel(kind: Mapping[str, Path], name: str, suffix: str, path: Path) -> Path:
    if name not in kind:
        raise DataError(f"{path}: no {name}_{suffix}.nii.gz goes with it, asked for by data.suffixes")
    return kind[name]


def _label(labels: Mapping[str, list[Path]], name: str, path: Path) -> Path:
    belonging = labels[_entities(name)] if _entities(name) in labels else []
    if len(belonging) != 1:
        found = ", ".join(each.name for each in belonging) or "none"
        raise DataError(f"{path}: expected one *_dseg.nii.gz of the same entities in data.labels, found {found}")
    return belonging[0]
