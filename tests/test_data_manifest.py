"""The manifest says what the data are, the same on every machine, and which file is another one."""

import dataclasses
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from crh_train.config import Mni152Config, NiftiConfig
from crh_train.data import manifest, nifti
from crh_train.data.volume import Segment, Source, Volume, Voxels
from crh_train.errors import ConfigError, DataError

CONFIG = Mni152Config(
    name="mni152",
    axis="axial",
    downsample=2,
    shape=[8, 8],
    slices=1,
    stride=1,
    extent=[0.0, 1.0],
    validation=[0.4, 0.6],
    gap=1,
)


def unread() -> Voxels:
    raise AssertionError("building a manifest must not decode")


def make_source(*segments: Segment, sha256: str = "aa") -> Source:
    names = dict.fromkeys(segment.volume for segment in segments)
    volumes = (
        Volume(name, {f"{name}.nii": sha256}, (20, 20, 40), (1.0, 1.0, 0.5), "LAS", unread) for name in sorted(names)
    )
    return Source("synthetic", tuple(volumes), segments, classes=0)


TWO = (Segment("one", "train", 2, 9), Segment("one", "validation", 12, 15), Segment("one", "train", 17, 19))


def samples(config: Mni152Config, *segments: Segment) -> list[tuple[str, str, int]]:
    document = manifest.build(make_source(*segments), config)
    return [(sample["id"], sample["split"], sample["first_slice"]) for sample in document["samples"]]


def test_the_whole_document() -> None:
    config = dataclasses.replace(CONFIG, slices=3, stride=2)
    document = manifest.build(make_source(*TWO), config)
    assert document == {
        "source": "synthetic",
        "files": [{"name": "one.nii", "sha256": "aa"}],
        "volumes": [
            {
                "id": "one",
                "files": ["one.nii"],
                "shape": [20, 20, 40],
                "spacing": [1.0, 1.0, 0.5],
                "orientation": "LAS",
            }
        ],
        "samples": [
            {"id": "one/axial/002", "volume": "one", "split": "train", "first_slice": 2},
            {"id": "one/axial/004", "volume": "one", "split": "train", "first_slice": 4},
            {"id": "one/axial/006", "volume": "one", "split": "train", "first_slice": 6},
            {"id": "one/axial/012", "volume": "one", "split": "validation", "first_slice": 12},
        ],
        "preprocessing": {**dataclasses.asdict(config), "version": 1},
    }
    assert json.loads(json.dumps(document)) == document


@pytest.mark.parametrize("slices", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_a_sample_lies_wholly_in_one_segment(slices: int, stride: int) -> None:
    config = dataclasses.replace(CONFIG, slices=slices, stride=stride)
    for _, split, first in samples(config, *TWO):
        homes = [s for s in TWO if s.first <= first and first + slices <= s.stop]
        assert [home.split for home in homes] == [split]


def test_samples_are_listed_volume_by_volume_whatever_the_order_of_the_segments() -> None:
    segments = (Segment("b", "train", 0, 1), Segment("a", "validation", 3, 4), Segment("b", "train", 5, 6))
    assert [name for name, _, _ in samples(CONFIG, *segments)] == ["a/axial/003", "b/axial/000", "b/axial/005"]


def test_a_volume_too_short_for_one_sample_is_named() -> None:
    config = dataclasses.replace(CONFIG, slices=3)
    with pytest.raises(DataError, match=r"two.nii: 20 axial slices .* hold no sample of data.slices=3"):
        samples(config, *TWO, Segment("two", "train", 0, 2))


def test_a_split_without_samples_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the validation split holds no sample of data.slices=4"):
        samples(dataclasses.replace(CONFIG, slices=4), *TWO)


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(Mni152Config) if f.name not in ("name", "slices", "stride", "axis")]
)
def test_every_field_of_the_configuration_is_in_the_dataset_state(field: str) -> None:
    value = getattr(CONFIG, field)
    changed = [entry / 2 for entry in value] if isinstance(value, list) else value + 1
    states = {
        manifest.dataset_state(manifest.build(make_source(*TWO), config))
        for config in (CONFIG, dataclasses.replace(CONFIG, **{field: changed}))
    }
    assert len(states) == 2


def test_the_dataset_state_is_that_of_the_files_wherever_they_lie(tmp_path: Path) -> None:
    config = NiftiConfig(
        name="nifti",
        axis="axial",
        downsample=1,
        shape=[4, 4],
        slices=1,
        stride=1,
        extent=[0.0, 1.0],
        validation_fraction=0.5,
        split_seed=0,
    )
    for folder in ("here", "there/deeper"):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(3):
            image = nibabel.Nifti1Image(np.arange(number, number + 27, dtype=np.uint8).reshape(3, 3, 3), np.eye(4))
            nibabel.save(image, tmp_path / folder / f"{number}.nii")
    documents = [manifest.build(nifti.open_source(config, tmp_path / f), config) for f in ("here", "there/deeper")]
    assert documents[0] == documents[1]
    assert manifest.dataset_state(documents[0]) == manifest.dataset_state(documents[1])
    assert str(tmp_path) not in json.dumps(documents[0])


def test_the_dataset_state_survives_the_disk() -> None:
    document = manifest.build(make_source(*TWO), CONFIG)
    assert manifest.dataset_state(json.loads(json.dumps(document, sort_keys=True))) == manifest.dataset_state(document)


def test_changed_missing_and_new_files_are_told_apart() -> None:
    def files(**hashes: str) -> dict[str, list[dict[str, str]]]:
        return {"files": [{"name": name, "sha256": sha256} for name, sha256 in hashes.items()]}

    before = files(same="1", gone="2", other="3")
    after = files(other="4", fresh="5", same="1")
    assert manifest.changed_files(before, after) == [
        "fresh is new",
        "gone is missing",
        "other changed: SHA-256 was 3, is 4",
    ]
    assert manifest.changed_files(before, before) == []
