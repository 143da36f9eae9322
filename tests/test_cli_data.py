"""`crh-train data check`, and training on one's own data, in processes of their own."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from command_line import crh, document, refused, trains_and_replays
from layout_samples import TRAINED, WRITERS, describe, heads, save, write_example4d, write_nnunet
from pydicom.data import get_testdata_file

CASES = {"nnunet": "imagesTr/*_0000.nii.gz", "bids": "sub-*/anat/*_T1w.nii.gz", "dicom": "IM*"}


def seen_by_others(layout: str, path: Path) -> tuple[Any, str]:
    """Where the voxels of a case lie, and what it says of its making, as the field's own tools read it."""
    if layout == "dicom":
        slices = [pydicom.dcmread(file) for file in path.iterdir()]
        fields = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
        said = {str(each.DerivationDescription) if "DerivationDescription" in each else "" for each in slices}
        return sorted(str([each[name].value for name in fields]) for each in slices), said.pop()
    image: Any = nibabel.load(path)
    return (image.shape, image.affine.tobytes()), image.header["descrip"].item().decode()


@pytest.mark.parametrize("layout", WRITERS)
def test_a_layout_is_checked_trained_replayed_and_predicted(layout: str, env: dict[str, str], tmp_path: Path) -> None:
    folder = WRITERS[layout](tmp_path / "own")
    words = [*TRAINED, f"data={layout}", f"runtime.data_root={folder}", "data.spacing=[6,7,6]"]
    run = trains_and_replays(words, env, tmp_path)
    manifest = run.identity().manifest
    found = document(crh("data", "check", *words, "--json", env=env, cwd=tmp_path))
    assert sum(found["samples"].values()) == len(manifest["samples"])
    splits = {sample["volume"]: sample["split"] for sample in manifest["samples"]}
    assert {case["case"]: case["split"] for case in found["cases"]} == splits
    assert {case["patient"] for case in found["cases"]} == {volume["patient"] for volume in manifest["volumes"]}
    assert str(tmp_path) not in str(manifest)
    said = crh("report", run.name, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    case = min(folder.glob(CASES[layout]))
    made = tmp_path / f"made{'' if case.is_dir() else '.nii.gz'}"
    said = crh("predict", run.name, case, "-o", made, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    place, making = seen_by_others(layout, made)
    assert place == seen_by_others(layout, case)[0]
    assert run.checkpoints()[-1].name.hash in making
    if layout == "bids":
        with (folder / "participants.tsv").open("a") as table:
            table.write("sub-late\t7\tM\n")
        changed = refused(crh("replay", run.name, env=env, cwd=tmp_path), 3)
        assert changed.startswith(f"the data of run {run.name} changed: participants.tsv changed: SHA-256 was ")


def acquired_by_mr(folder: Path) -> list[str]:
    """nibabel's `example4d`, two volumes of one diffusion acquisition, as two channels of two cases."""
    write_example4d(folder)
    return ["conf=tissue_linear", "task=segmentation", "data=nnunet", "data.stride=4", "model=cnn"]


def acquired_by_mr_and_ct(folder: Path) -> list[str]:
    """pydicom's MR and CT, a slice each, as two patients."""
    folder.mkdir()
    for name in ("MR_small.dcm", "CT_small.dcm"):
        shutil.copy(str(get_testdata_file(name, download=False)), folder)
    return ["conf=mri_step", "data=dicom"]


@pytest.mark.parametrize(
    ("acquired", "case"), [(acquired_by_mr, "imagesTr/b.nii.gz"), (acquired_by_mr_and_ct, "CT_small.dcm")]
)
def test_what_scanners_wrote_is_trained_on_replayed_and_predicted(
    acquired: Callable[[Path], list[str]], case: str, env: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    words = [*acquired(folder), *TRAINED[1:], "engine.batch_size=1", f"runtime.data_root={folder}"]
    run = trains_and_replays(words, env, tmp_path)
    path = folder / case
    made = tmp_path / ("made.nii.gz" if path.suffix == ".gz" else "made")
    said = crh("predict", run.name, path, "-o", made, env=env, cwd=tmp_path)
    assert said.returncode == 0, said.stderr
    if path.suffix == ".gz":
        found, image = nibabel.load(made), nibabel.load(path)
        assert (found.shape, found.affine.tobytes()) == (image.shape[:3], image.affine.tobytes())
        assert set(np.unique(np.asarray(found.dataobj))) <= {0, 1}
        checked = crh("data", "check", *words, env=env, cwd=tmp_path)
        assert "\nclasses   2: background, bright\n" in checked.stdout
    else:
        dicom, source = pydicom.dcmread(made / "0000.dcm"), pydicom.dcmread(path)
        assert dicom.pixel_array.shape == source.pixel_array.shape
        assert (dicom.PatientID, dicom.ImagePositionPatient) == (source.PatientID, source.ImagePositionPatient)


def test_what_is_wrong_is_listed_and_training_does_not_begin(env: dict[str, str], tmp_path: Path) -> None:
    folder = write_nnunet(tmp_path / "own")
    (folder / "labelsTr" / "ann.nii.gz").unlink()
    image = folder / "imagesTr" / "bob_0000.nii.gz"
    image.write_bytes(image.read_bytes()[:-50])
    words = [*TRAINED, "data=nnunet", f"runtime.data_root={folder}"]
    checked = crh("data", "check", *words, env=env, cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (3, "")
    named = [line for line in checked.stdout.splitlines() if line.startswith("problem: ")]
    assert named[0] == f"problem: {folder}/labelsTr/ann.nii.gz: cannot be read: No such file or directory"
    assert named[1].startswith(f"problem: {image}: the voxels cannot be read")
    assert "\nverdict  2 problems\n" in checked.stdout
    assert checked.stdout.splitlines()[-1].startswith("next: mend what is named, then crh-train data check conf=")
    found = crh("data", "check", *words, "--json", env=env, cwd=tmp_path)
    assert found.returncode == 3
    assert [f"problem: {problem}" for problem in document(found)["problems"]] == named
    assert [case["case"] for case in document(found)["cases"]] == ["cyd"]
    describe(folder, numTraining=4)
    said = refused(crh("run", *words, env=env, cwd=tmp_path), 3)
    assert said.endswith(" (and more; `crh-train data check` lists each)")
    save(folder / "labelsTr" / "ann.nii.gz", heads()[0][1])
    describe(folder)
    said = refused(crh("run", *words, env=env, cwd=tmp_path), 3)
    assert said.startswith(f"{image}: the voxels cannot be read")
    assert not (tmp_path / "runs").exists()


def test_wrong_words_are_usage_and_nothing_needs_jax(env: dict[str, str], tmp_path: Path) -> None:
    for name in ("jax", "jaxlib", "optax"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')\n")
    bare = {**env, "PYTHONPATH": f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"}
    assert "exactly one conf=NAME" in refused(crh("data", "check", "data=nnunet", env=bare, cwd=tmp_path), 2)
    checked = crh("data", "check", "conf=mri_step", env=bare, cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "\nverdict   every file can be used\n" in checked.stdout
    assert "\npictures  data.shape=[112, 96]: 1 case cropped\n" in checked.stdout
    words = ("data", "check", "conf=mri_step", "data.shape=[120,64]")
    assert "[120, 64]: 1 case cropped, 1 case padded\n" in crh(*words, env=bare, cwd=tmp_path).stdout
    found = document(crh(*words, "--json", env=bare, cwd=tmp_path))
    assert (found["shape"], found["cases"][0]["pictures"]) == ([120, 64], [116, 98])
    assert checked.stdout.splitlines()[-1] == "next: crh-train run conf=mri_step"
    template = document(crh("data", "check", "conf=mri_step", "--json", env=bare, cwd=tmp_path))
    assert [(case["case"], case["labels"]) for case in template["cases"]] == [("mni152", [0, 1, 2])]
    assert template["problems"] == []
