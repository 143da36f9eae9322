"""BIDS folders: which images are cases, whose they are, and which labels belong to them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from layout_samples import configuration, heads, opened, problems, save, write_bids

from crh_train.data.check import examine
from crh_train.errors import ConfigError, DataError

LABELLED = {"labels": "derivatives/manual", "classes": 3}


def test_images_are_cases_and_subjects_patients(tmp_path: Path) -> None:
    source = opened("bids", write_bids(tmp_path))
    assert [volume.id for volume in source.volumes] == ["sub-ann_ses-1", "sub-ann_ses-2", "sub-bob", "sub-cyd"]
    assert list(source.volumes[0].files) == ["sub-ann/ses-1/anat/sub-ann_ses-1_T1w.nii.gz"]
    assert source.volumes[0].facts == {"patient": "sub-ann", "metadata": {"age": "43", "sex": "n/a"}}
    assert (source.classes, source.channels) == (0, 1)
    np.testing.assert_array_equal(source.volumes[2].read().image, heads()[1][0])
    for seed in range(6):
        segments = opened("bids", tmp_path, split_seed=seed).segments
        assert len({segment.split for segment in segments if segment.volume.startswith("sub-ann")}) == 1


def test_several_suffixes_are_channels_and_derivatives_the_labels(tmp_path: Path) -> None:
    source = opened("bids", write_bids(tmp_path), suffixes=["T1w", "FLAIR"], **LABELLED)
    assert (source.classes, source.channels) == (3, 2)
    image, tissue = heads()[2]
    voxels = source.volumes[3].read()
    np.testing.assert_array_equal(voxels.image, np.stack([image, 2000 - image], axis=-1))
    np.testing.assert_array_equal(voxels.labels, tissue)
    assert list(source.volumes[3].files)[-1] == "derivatives/manual/sub-cyd/anat/sub-cyd_space-T1w_dseg.nii.gz"


def spoil(kind: str, folder: Path) -> None:
    anat = folder / "sub-bob" / "anat"
    image, tissue = heads()[1]
    if kind == "no FLAIR":
        (anat / "sub-bob_FLAIR.nii.gz").unlink()
    elif kind == "no T1w":
        (anat / "sub-bob_T1w.nii.gz").unlink()
    elif kind == "another's name":
        save(anat / "sub-cyd_run-2_T1w.nii.gz", image)
    elif kind == "no name":
        save(anat / "sub-bob_run_T1w.nii.gz", image)
    elif kind == "twice":
        save(anat / "sub-bob_T1w.nii", image)
    elif kind == "no label":
        (folder / "derivatives/manual/sub-bob/anat/sub-bob_space-T1w_dseg.nii.gz").unlink()
    elif kind == "two labels":
        save(folder / "derivatives/manual/sub-bob/anat/sub-bob_desc-mine_dseg.nii.gz", tissue)
    elif kind == "unknown label":
        save(folder / "derivatives/manual/sub-bob/anat/sub-bob_space-T1w_dseg.nii.gz", tissue + 1)
    elif kind == "no row":
        table = folder / "participants.tsv"
        table.write_text(table.read_text().replace("sub-bob", "sub-rob"))


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no FLAIR", "sub-bob_T1w.nii.gz: no sub-bob_FLAIR.nii.gz goes with it, asked for by data.suffixes"),
        ("no T1w", "sub-bob_FLAIR.nii.gz: no T1w goes with this FLAIR"),
        ("another's name", "sub-cyd_run-2_T1w.nii.gz: expected a BIDS name, sub-bob[_KEY-VALUE…]_T1w.nii.gz"),
        ("no name", "sub-bob_run_T1w.nii.gz: expected a BIDS name"),
        ("twice", "sub-bob_T1w.nii.gz: another file has the same name but for its ending"),
        ("no label", "sub-bob_T1w.nii.gz: expected one *_dseg.nii.gz of the same entities in data.labels, found none"),
        ("two labels", "found sub-bob_desc-mine_dseg.nii.gz, sub-bob_space-T1w_dseg.nii.gz"),
        ("unknown label", "sub-bob_space-T1w_dseg.nii.gz: expected labels from 0 to 2, found 3"),
        ("no row", "participants.tsv: no row has participant_id sub-bob"),
    ],
)
def test_what_does_not_belong_together_is_the_one_problem(tmp_path: Path, kind: str, says: str) -> None:
    spoil(kind, write_bids(tmp_path))
    (found,) = problems("bids", tmp_path, suffixes=["T1w", "FLAIR"], **LABELLED)
    assert says in found


def test_a_folder_that_is_not_bids_is_told(tmp_path: Path) -> None:
    write_bids(tmp_path)
    (tmp_path / "dataset_description.json").write_text('{"Name": "heads"}')
    with pytest.raises(DataError, match="expected a JSON object with BIDSVersion"):
        opened("bids", tmp_path)
    (tmp_path / "dataset_description.json").write_text("[")
    with pytest.raises(DataError, match="no readable JSON"):
        opened("bids", tmp_path)
    (tmp_path / "dataset_description.json").unlink()
    with pytest.raises(DataError, match=r"dataset_description\.json: there is none, so this is no BIDS folder"):
        opened("bids", tmp_path)


def test_a_folder_without_participants_is_told_how_to_do_without(tmp_path: Path) -> None:
    write_bids(tmp_path)
    (tmp_path / "participants.tsv").unlink()
    with pytest.raises(DataError, match=r"participants\.tsv: .*; put the table there, or set data\.metadata=null"):
        opened("bids", tmp_path)
    assert len(opened("bids", tmp_path, metadata=None).volumes) == 4


def test_one_patient_is_counted_where_it_is_refused(tmp_path: Path) -> None:
    write_bids(tmp_path)
    for name in ("sub-bob", "sub-cyd"):
        shutil.rmtree(tmp_path / name)
    found = examine(configuration("bids", tmp_path))
    assert [(case["case"], case["patient"]) for case in found.cases] == [
        ("sub-ann_ses-1", "sub-ann"),
        ("sub-ann_ses-2", "sub-ann"),
    ]
    assert [problem.split("; ")[1] for problem in found.problems] == ["it holds 2 cases of 1"]


def test_choices_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    write_bids(tmp_path)
    with pytest.raises(ConfigError, match="each kind of image once"):
        opened("bids", tmp_path, suffixes=[])
    with pytest.raises(ConfigError, match="belong together"):
        opened("bids", tmp_path, classes=3)
    with pytest.raises(ConfigError, match="must lie in the folder of the data"):
        opened("bids", tmp_path, labels="../elsewhere", classes=3)
    with pytest.raises(DataError, match=r"derivatives/none: expected the folder of the labels"):
        opened("bids", tmp_path, labels="derivatives/none", classes=3)
    with pytest.raises(DataError, match=r"no sub-\*/\[ses-\*/\]anat/\*_T2w\.nii\.gz"):
        opened("bids", tmp_path, suffixes=["T2w"])
