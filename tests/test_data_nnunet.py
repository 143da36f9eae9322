"""nnU-Net's and the Decathlon's folders are read whole, and each file that does not fit is named."""

import gzip
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
from layout_samples import (
    LAS,
    PATIENTS,
    configuration,
    describe,
    heads,
    opened,
    problems,
    save,
    write_decathlon,
    write_example4d,
    write_nnunet,
)
from nibabel.testing import data_path

from crh_train.data import nnunet
from crh_train.data.check import examine
from crh_train.errors import ConfigError, DataError, DataProblems
from crh_train.run_folder import RunFolder


def test_channels_and_labels_come_in_ras(tmp_path: Path) -> None:
    source = opened("nnunet", write_nnunet(tmp_path, channels=2))
    assert (source.classes, source.channels, source.labelled) == (3, 2, "pixel")
    assert source.class_names == ("background", "grey", "white")
    assert [volume.id for volume in source.volumes] == list(PATIENTS)
    for volume, (image, tissue) in zip(source.volumes, heads(), strict=True):
        voxels = volume.read()
        assert voxels.labels is not None
        assert (voxels.image.dtype, voxels.labels.dtype) == (np.float32, np.int32)
        np.testing.assert_array_equal(voxels.image, np.stack([image, 2000 - image], axis=-1))
        np.testing.assert_array_equal(voxels.labels, tissue)
        assert (volume.shape, volume.spacing, volume.orientation) == (image.shape, (6, 6, 6), "LAS")
        assert list(volume.files) == [
            *(f"imagesTr/{volume.id}_000{channel}.nii.gz" for channel in range(2)),
            f"labelsTr/{volume.id}.nii.gz",
        ]
        assert volume.facts == {"patient": volume.id}


def test_a_class_s_own_metric_says_its_name(segmenting: RunFolder) -> None:
    measured = json.loads((segmenting.path / "reports" / "validation_metrics.json").read_bytes())["metrics"]
    assert measured["dice_2"]["convention"] == "dice of class 2 (white) alone"
    assert segmenting.manifest()["preprocessing"]["class_names"] == ["background", "grey", "white"]


def test_the_decathlon_has_its_channels_in_one_file(tmp_path: Path) -> None:
    two = opened("nnunet", write_nnunet(tmp_path / "two", channels=2))
    decathlon = opened("nnunet", write_decathlon(tmp_path / "decathlon"))
    (tmp_path / "decathlon" / "imagesTr" / "._ann.nii.gz").write_bytes(b"left behind by an archiver")
    assert (decathlon.class_names, decathlon.channels) == (two.class_names, 2)
    for one, other in zip(two.volumes, decathlon.volumes, strict=True):
        assert one.read().image.tobytes() == other.read().image.tobytes()
    save(tmp_path / "decathlon" / "labelsTr" / "dan.nii.gz", heads()[0][1])
    (found,) = problems("nnunet", tmp_path / "decathlon")
    assert "labelsTr/dan.nii.gz: dataset.json does not list it" in found


def test_version_1_lists_cases_whose_channels_are_files(tmp_path: Path) -> None:
    write_nnunet(tmp_path, channels=2)
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in PATIENTS]
    labels = {"0": "background", "1": "grey", "2": "white"}
    describe(tmp_path, channel_names=None, modality={"0": "T1", "1": "T2"}, labels=labels, training=listed)
    assert problems("nnunet", tmp_path) == ()
    assert [len(volume.files) for volume in opened("nnunet", tmp_path).volumes] == [3, 3, 3]


def test_a_real_acquisition_of_two_volumes_is_two_channels(tmp_path: Path) -> None:
    image = nibabel.load(Path(data_path) / "example4d.nii.gz")
    source = opened("nnunet", write_example4d(tmp_path))
    expected = np.asarray(nibabel.as_closest_canonical(image).dataobj).astype(np.float32)
    np.testing.assert_array_equal(source.volumes[0].read().image, expected)
    assert source.volumes[0].spacing == tuple(float(zoom) for zoom in image.header.get_zooms()[:3])
    assert problems("nnunet", tmp_path) == ()


def test_patients_may_be_named_by_the_table_and_are_whole_in_one_split(tmp_path: Path) -> None:
    write_nnunet(tmp_path)
    (tmp_path / "cases.csv").write_text("case,patient,sex\nann,p1,f\nbob,p2,m\ncyd,p1,f\n")
    for seed in range(4):
        source = opened("nnunet", tmp_path, metadata="cases.csv", split_seed=seed)
        splits = {segment.volume: segment.split for segment in source.segments}
        assert splits["ann"] == splits["cyd"] != splits["bob"]
    assert source.volumes[0].facts == {"patient": "p1", "metadata": {"patient": "p1", "sex": "f"}}


def test_spacing_is_that_of_the_configuration_and_the_file_s_is_kept_in_mind(tmp_path: Path) -> None:
    plain = opened("nnunet", write_nnunet(tmp_path)).volumes[0]
    same = opened("nnunet", tmp_path, spacing=[6.0, 6.0, 6.0]).volumes[0]
    assert same.read().image.tobytes() == plain.read().image.tobytes()
    assert same.facts["original"] == {"shape": [33, 39, 32], "spacing": [6.0, 6.0, 6.0]}
    finer = opened("nnunet", tmp_path, spacing=[6.0, 4.0, 8.0]).volumes[0]
    voxels = finer.read()
    assert voxels.labels is not None
    assert finer.shape == voxels.image.shape == voxels.labels.shape == (33, 58, 24)
    assert finer.spacing == (6.0, 4.0, 8.0)


def spoil(kind: str, folder: Path) -> None:
    image, tissue = heads()[1]
    path, labels = folder / "imagesTr" / "bob_0000.nii.gz", folder / "labelsTr" / "bob.nii.gz"
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "damaged":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif kind == "no header":
        path.write_bytes(gzip.compress(b"no image" * 100))
    elif kind == "another shape":
        save(path, image[:-1])
    elif kind == "another orientation":
        save(path, image, np.diag([6.0, 6, 6, 1]))
    elif kind == "moved":
        save(path, image, LAS + np.array([[0, 0, 0, 0.4], [0] * 4, [0] * 4, [0] * 4]))
    elif kind == "not finite":
        save(path, np.where(image > 800, np.nan, image).astype(np.float32))
    elif kind == "even":
        save(path, image * 0)
    elif kind == "unknown label":
        save(labels, tissue + (tissue == 2))
    elif kind == "broken label":
        save(labels, tissue * np.float32(0.5))
    elif kind == "no channel":
        path.unlink()
        save(folder / "imagesTr" / "bob_0001.nii.gz", image)
    elif kind == "no label":
        labels.unlink()
    elif kind == "label of nobody":
        save(folder / "labelsTr" / "dan.nii.gz", tissue)
    elif kind == "a picture":
        (folder / "imagesTr" / "bob.png").write_bytes(b"")
    elif kind == "no suffix":
        save(folder / "imagesTr" / "bob.nii.gz", image)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("cut", r"bob_0000\.nii\.gz: the voxels cannot be read"),
        ("damaged", r"bob_0000\.nii\.gz: the voxels cannot be read"),
        ("no header", r"bob_0000\.nii\.gz: expected a NIfTI-1 or NIfTI-2 file, found other bytes"),
        ("another shape", r"bob\.nii\.gz: expected the grid of bob_0000\.nii\.gz, 32×39×32 LAS, found 33×39×32 LAS"),
        ("another orientation", r"bob\.nii\.gz: expected the grid of bob_0000\.nii\.gz, 33×39×32 RAS"),
        ("moved", r"bob\.nii\.gz: its corners lie up to 0\.4 mm from those of bob_0000"),
        ("not finite", r"bob_0000\.nii\.gz: \d+ voxels are not finite"),
        ("even", r"bob_0000\.nii\.gz: every voxel is 0;"),
        ("unknown label", r"bob\.nii\.gz: expected labels from 0 to 2, found 3$"),
        ("broken label", r"bob\.nii\.gz: expected labels from 0 to 2, found 0\.5$"),
        ("no label", r"labelsTr/bob\.nii\.gz: cannot be read: No such file"),
        ("label of nobody", r"labelsTr/dan\.nii\.gz: labels of no case"),
        ("a picture", r"imagesTr/bob\.png: expected CASE_0000\.nii\.gz; it belongs to no case"),
        ("no suffix", r"imagesTr/bob\.nii\.gz: expected CASE_0000\.nii\.gz"),
    ],
)
def test_a_file_that_cannot_be_used_is_the_one_problem(tmp_path: Path, kind: str, says: str) -> None:
    spoil(kind, write_nnunet(tmp_path))
    (found,) = problems("nnunet", tmp_path)
    assert re.search(says, found), found


def test_a_missing_channel_and_one_too_many_are_named(tmp_path: Path) -> None:
    spoil("no channel", write_nnunet(tmp_path))
    extra, missing = problems("nnunet", tmp_path)[:2]
    assert extra.startswith(f"{tmp_path}/imagesTr/bob_0001.nii.gz: dataset.json names 1 channels")
    assert missing.startswith(f"{tmp_path}/labelsTr/bob.nii.gz: labels of no case")
    describe(tmp_path, channel_names={"0": "T1", "1": "T2"})
    assert [each.split(": ")[0].split("/")[-1] for each in problems("nnunet", tmp_path)] == [
        "ann_0001.nii.gz",
        "bob_0000.nii.gz",
        "cyd_0001.nii.gz",
    ]


def test_every_problem_is_found_at_once_and_a_run_names_the_first(tmp_path: Path) -> None:
    spoil("not finite", write_nnunet(tmp_path))
    spoil("label of nobody", tmp_path)
    (tmp_path / "labelsTr" / "ann.nii.gz").unlink()
    found = examine(configuration("nnunet", tmp_path))
    assert [each.split(": ")[0].split("/")[-1] for each in found.problems] == [
        "dan.nii.gz",
        "ann.nii.gz",
        "bob_0000.nii.gz",
    ]
    assert [case["case"] for case in found.cases] == ["cyd"]
    with pytest.raises(DataProblems, match=r"dan\.nii\.gz: .* \(and more; `crh-train data check` lists each\)$"):
        opened("nnunet", tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "regions of several values are not supported"),
        ({"labels": {"background": 0, "grey": 1, "ignore": 2}}, "'ignore' is not supported"),
        ({"labels": {"background": 0, "white": 2}}, "labels counted from 0"),
        ({"labels": {"background": 0, "": 1}}, "expected a name of 1 to 80 characters a label, found ''"),
        ({"labels": {"background": 0, "grey\nmatter": 1}}, "expected a name of 1 to 80 characters a label"),
        ({"labels": {"background": 0, "g" * 81: 1}}, "expected a name of 1 to 80 characters a label"),
        ({"labels": None}, "expected labels such as"),
        ({"channel_names": {"1": "T1"}}, "counted from 0"),
        ({"channel_names": None}, "expected channel_names"),
        ({"file_ending": ".png"}, r"file_ending '\.png' is not read here"),
        ({"dataset": {}}, "'dataset' places files by hand"),
        ({"numTraining": 4}, "numTraining is 4, but there are 3 cases"),
        ({"training": [{"image": "../../etc/passwd", "label": "x"}]}, "leads out of the folder"),
        ({"training": ["ann"]}, r"expected \{image, label\}"),
    ],
)
def test_a_description_that_is_not_supported_says_what_is(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    describe(write_nnunet(tmp_path), **changes)
    with pytest.raises(DataError, match=rf"dataset\.json: .*{says}"):
        opened("nnunet", tmp_path)


def test_a_folder_of_another_kind_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json: cannot be read: No such file"):
        opened("nnunet", tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="no readable JSON"):
        opened("nnunet", tmp_path)
    with pytest.raises(DataError, match="must be a folder laid out for data=nnunet"):
        opened("nnunet", tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"runtime\.data_root=FOLDER"):
        nnunet.open_source(configuration("nnunet", tmp_path).data, None)
    write_nnunet(tmp_path)
    for name in PATIENTS[1:]:
        for path in (tmp_path / "imagesTr" / f"{name}_0000.nii.gz", tmp_path / "labelsTr" / f"{name}.nii.gz"):
            path.unlink()
    describe(tmp_path, numTraining=1)
    with pytest.raises(DataError, match=r"at least two patients, .* it holds 1 case of 1$"):
        opened("nnunet", tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("training", None, "training must list {image, label} for each case, or be left out, found None"),
        ("training", 5, "training must list {image, label} for each case, or be left out, found 5"),
        ("numTraining", "3", "numTraining must be a whole number, found '3'"),
        ("numTraining", True, "numTraining must be a whole number, found True"),
    ],
)
def test_what_dataset_json_says_of_the_training_part_is_checked(
    tmp_path: Path, key: str, value: object, says: str
) -> None:
    write_nnunet(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: value}))
    assert problems("nnunet", tmp_path) == (f"{path}: {says}",)
