"""Opens and decodes every file of a source and says all that is wrong with it. Does not stop at the first error, does
not train, and needs no JAX.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from crh_train.config import DataConfig, RunConfig
from crh_train.data import manifest
from crh_train.data.frame import picture_size
from crh_train.data.problems import Problems
from crh_train.data.sources import open_source
from crh_train.data.volume import Source, Volume, Voxels
from crh_train.errors import DataProblems


class Examination(NamedTuple):
    cases: tuple[Mapping[str, Any], ...]  # one document a volume that was decoded; `_case` says of what
    shape: tuple[int, ...]  # rows and columns that pictures are cropped or padded to
    source: Source | None  # None where it could not be opened whole
    samples: Mapping[str, int]  # of each split; empty where the source could not be opened whole
    problems: tuple[str, ...]  # each "FILE: reason"


def examine(config: RunConfig) -> Examination:
    """Decode all that `config.data` names. Raises `ConfigError` for what no file can mend, and keeps `DataError`s."""
    problems = Problems()
    source: Source | None = None
    volumes: tuple[Volume, ...] = ()
    with problems.collected():
        try:
            source = open_source(config)
            volumes = source.volumes
        except DataProblems as error:
            volumes = error.usable
            raise
    splits = {} if source is None else {segment.volume: segment.split for segment in source.segments}
    cases = []
    for volume in volumes:
        with problems.collected():
            cases.append(_case(volume, volume.read(), splits, config.data))
    samples: dict[str, int] = {}
    if source is not None:
        with problems.collected():
            built = manifest.build(source, config.data)["samples"]
            samples = {split: sum(each["split"] == split for each in built) for split in manifest.SPLITS}
    return Examination(tuple(cases), tuple(config.data.shape), source, samples, tuple(problems.found))


def _case(volume: Volume, voxels: Voxels, splits: Mapping[str, str], config: DataConfig) -> dict[str, Any]:
    labels = voxels.labels
    return {
        "case": volume.id,
        "patient": volume.facts["patient"] if "patient" in volume.facts else volume.id,
        "split": splits[volume.id] if volume.id in splits else None,
        "shape": list(volume.shape),
        "spacing": list(volume.spacing),
        "orientation": volume.orientation,
        "pictures": list(picture_size({"shape": volume.shape, **volume.facts}, dataclasses.asdict(config))),
        "channels": [[float(channel.min()), float(channel.max())] for channel in _channels(volume, voxels.image)],
        "labels": None if labels is None else np.unique(labels).tolist(),
        "files": len(volume.files),
    }


def _channels(volume: Volume, image: np.ndarray) -> Iterator[np.ndarray]:
    """The image's channels; k-space counts as one."""
    if volume.kspace is not None or image.ndim == 3:
        return iter([image])
    return (image[..., channel] for channel in range(image.shape[-1]))
