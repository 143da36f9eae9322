"""The manifest: what a run's data are, file by file and sample by sample, as one JSON document. Its hash is the run's
dataset state.

    source         name of the source
    files          [{name, sha256}], names relative to the source
    volumes        [{id, files, shape, spacing, orientation}], shape and spacing (mm) along x, y, z in RAS+, and the
                   `facts` of the volume
    samples        [{id, volume, split, first_slice}], volume by volume, in the order of each split's sample indices
    preprocessing  every field of the data configuration, the version of `preparation.py`'s arithmetic, and
                   `class_names` where the source has names for its classes

No path of a machine is in it, so the same files anywhere give the same manifest.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from crh_train.config import DataConfig
from crh_train.data.volume import Source, slice_count
from crh_train.digest import digest_json
from crh_train.errors import ConfigError, DataError

PREPARATION_VERSION = 1
"""Raised whenever `preparation.py` gives other values for the same files and fields."""

SPLITS = ("train", "validation")

Manifest = dict[str, Any]


def build(source: Source, config: DataConfig) -> Manifest:
    """The manifest of `source` under `config`. A sample is `slices` consecutive slices of one segment.

    Raises:
      DataError: a volume is too short to hold a sample.
      ConfigError: a split holds no sample.
    """
    samples = [
        {
            "id": f"{segment.volume}/{config.axis}/{first:03d}",
            "volume": segment.volume,
            "split": segment.split,
            "first_slice": first,
        }
        for volume in source.volumes
        for segment in source.segments
        if segment.volume == volume.id
        for first in range(segment.first, segment.stop - config.slices + 1, config.stride)
    ]
    used = {sample["volume"] for sample in samples}
    for volume in source.volumes:
        if volume.id not in used:
            first, *rest = volume.files
            more = f" and {len(rest)} more" if rest else ""
            raise DataError(
                f"{first}{more}: {slice_count(volume, config)} {config.axis} slices at data.downsample="
                f"{config.downsample} hold no sample of data.slices={config.slices} within data.extent={config.extent}"
            )
    for split in SPLITS:
        if not any(sample["split"] == split for sample in samples):
            raise ConfigError(
                f"data={source.name}: the {split} split holds no sample of data.slices={config.slices}; "
                "ask for fewer slices, or give the split more of the axis"
            )
    all_files = (source.files, *(volume.files for volume in source.volumes))
    names = {"class_names": list(source.class_names)} if source.class_names else {}
    return {
        "source": source.name,
        "files": [{"name": n, "sha256": h} for files in all_files for n, h in files.items()],
        "volumes": [
            {
                "id": volume.id,
                "files": list(volume.files),
                "shape": list(volume.shape),
                "spacing": list(volume.spacing),
                "orientation": volume.orientation,
                **volume.facts,
            }
            for volume in source.volumes
        ],
        "samples": samples,
        "preprocessing": {**dataclasses.asdict(config), "version": PREPARATION_VERSION, **names},
    }


def dataset_state(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the manifest's canonical JSON."""
    return digest_json(manifest)


def changed_files(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """How the files of manifest `found` differ from those of `recorded`, one phrase a file, by name."""
    before = {file["name"]: file["sha256"] for file in recorded["files"]}
    now = {file["name"]: file["sha256"] for file in found["files"]}
    phrases = []
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            phrases.append(f"{name} is missing")
        elif name not in before:
            phrases.append(f"{name} is new")
        elif before[name] != now[name]:
            phrases.append(f"{name} changed: SHA-256 was {before[name]}, is {now[name]}")
    return phrases
