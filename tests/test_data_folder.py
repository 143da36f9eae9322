"""Nothing of a folder is skipped in silence: links are followed or named, suffixes in capitals are the same."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_samples import write_fastmri, write_picture
from layout_samples import configuration, heads, opened, problems, save, write_bids, write_dicom, write_nnunet

from crh_train.data import folder, manifest
from crh_train.data.problems import Problems
from crh_train.errors import DataError
from crh_train.inference import inputs

WITHOUT_TABLE = {"images": {"table": None}}


def write(layout: str, at: Path) -> Path:
    """Three patients, each in a folder of its own."""
    if layout == "nifti":
        for number, (image, _) in enumerate(heads()):
            save(at / f"p{number}" / "deep" / "head.nii.gz", image)
    elif layout == "dicom":
        write_dicom(at)
    elif layout == "bids":
        write_bids(at)
    elif layout == "nnunet":
        write_nnunet(at)
    elif layout == "fastmri":
        for number in range(3):
            write_fastmri(at / f"p{number}" / "a.h5", f"p{number}", seed=number)
    else:
        for number in range(3):
            pixels = np.random.default_rng(number).integers(0, 256, (24, 24), np.uint8)
            write_picture(at / f"p{number}" / "a.png", pixels)
    return at


LAST = {"nifti": "p2", "dicom": "IM2", "bids": "sub-cyd", "fastmri": "p2", "images": "p2"}
"""The folder of the third patient."""


def document(layout: str, at: Path) -> manifest.Manifest:
    fields = WITHOUT_TABLE[layout] if layout in WITHOUT_TABLE else {}
    return manifest.build(opened(layout, at, **fields), configuration(layout, at, **fields).data)


def named(layout: str, at: Path) -> tuple[str, ...]:
    return problems(layout, at, **(WITHOUT_TABLE[layout] if layout in WITHOUT_TABLE else {}))


@pytest.mark.parametrize("layout", LAST)
def test_a_link_to_a_folder_is_the_folder(layout: str, tmp_path: Path) -> None:
    own = write(layout, tmp_path / "own")
    expected = document(layout, own)
    (own / LAST[layout]).rename(tmp_path / "moved")
    (own / LAST[layout]).symlink_to(Path("..") / "moved")
    assert document(layout, own) == expected


@pytest.mark.parametrize("layout", LAST)
def test_a_link_that_leads_nowhere_is_named(layout: str, tmp_path: Path) -> None:
    """Where a folder was meant, and where a file was."""
    own = write(layout, tmp_path / "own")
    (own / LAST[layout]).rename(tmp_path / "moved")
    (own / LAST[layout]).symlink_to(Path("..") / "gone")
    (found,) = named(layout, own)
    assert found == f"{own / LAST[layout]}: a link that leads nowhere, to ../gone; mend it, or remove it"
    (own / LAST[layout]).unlink()
    (tmp_path / "moved").rename(own / LAST[layout])
    file = max(path for path in (own / LAST[layout]).rglob("*") if path.is_file() and path.suffix != ".json")
    file.rename(tmp_path / "file")
    file.symlink_to(tmp_path / "gone")
    assert [problem for problem in named(layout, own) if problem.startswith(f"{file}: ")]


def test_what_leads_nowhere_and_is_not_read_is_passed_over(tmp_path: Path) -> None:
    own = write("images", tmp_path / "own")
    expected = document("images", own)
    for name in ("notes.txt", "README.md", ".#lock"):
        (own / name).symlink_to(tmp_path / "gone")
    assert document("images", own) == expected


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("p0", "own/p9: the same folder as {own}/p0, whose files would count twice; remove the link"),
        (".", "own/p9: the same folder as {own}, whose files would count twice; remove the link"),
        ("..", "own/p9: a link to a folder that holds it, {own.parent}; remove the link"),
        ("/", "own/p9: a link to a folder that holds it, /; remove the link"),
    ],
)
def test_a_folder_met_twice_is_named_and_read_once(tmp_path: Path, target: str, says: str) -> None:
    own = write("nifti", tmp_path / "own")
    (own / "p9").symlink_to(target)
    assert named("nifti", own) == (f"{tmp_path}/{says.format(own=own)}",)
    with pytest.raises(DataError, match="own/p9: "):
        inputs.find([own], channels=1)


def test_links_that_lead_to_one_another_are_named(tmp_path: Path) -> None:
    own = write("nifti", tmp_path / "own")
    (own / "x.nii").symlink_to("y.nii")
    (own / "y.nii").symlink_to("x.nii")
    assert [problem.split(",")[0] for problem in named("nifti", own)] == [
        f"{own}/{name}.nii: a link that leads nowhere" for name in "xy"
    ]


def test_a_pipe_is_named_and_not_waited_for(tmp_path: Path) -> None:
    own = write("nifti", tmp_path / "own")
    os.mkfifo(own / "pipe.nii")
    assert named("nifti", own) == (f"{own}/pipe.nii: expected a file, found a pipe or a device; move it away",)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    """Here because its path is too long; who runs the tests may be refused nothing else."""
    deep = tmp_path
    above = os.open(tmp_path, os.O_RDONLY)
    while len(str(deep)) < 4200:
        deep = deep / ("x" * 200)
        os.mkdir(deep.name, dir_fd=above)
        below = os.open(deep.name, os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    found = Problems()
    assert folder.files(tmp_path, lambda path: path.suffix == ".nii", found) == []
    (problem,) = found.found
    assert problem.endswith(": cannot be reached; see to its permissions, and to the length of its path")
    shutil.rmtree(tmp_path / ("x" * 200))


def test_files_come_in_the_order_of_the_names_of_their_folders(tmp_path: Path) -> None:
    for name in ("b/a.x", "b.x", "a/z.x", "a-b/c.x", "a.x", "B/ü.x", "a/b/c.x", "a/y.y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = folder.files(tmp_path, lambda path: path.suffix == ".x", Problems())
    assert found == sorted(tmp_path.rglob("*.x"))


CAPITALS = {
    "nifti": [("p0/deep/head.nii.gz", "p0/deep/head.NII.GZ")],
    "bids": [("sub-bob/anat/sub-bob_T1w.nii.gz", "sub-bob/anat/sub-bob_T1w.NII.GZ")],
    "nnunet": [
        ("imagesTr/bob_0000.nii.gz", "imagesTr/bob_0000.NII.GZ"),
        ("labelsTr/cyd.nii.gz", "labelsTr/cyd.NII.GZ"),
    ],
    "fastmri": [("p0/a.h5", "p0/a.H5"), ("p1/a.h5", "p1/a.hdf5"), ("p2/a.h5", "p2/a.HDF5")],
}  # fmt: skip


@pytest.mark.parametrize("layout", CAPITALS)
def test_a_suffix_in_capitals_is_the_same_suffix(layout: str, tmp_path: Path) -> None:
    own = write(layout, tmp_path)
    expected = document(layout, own)
    for before, after in CAPITALS[layout]:
        (own / before).rename(own / after)
    found = document(layout, own)
    assert [each["sha256"] for each in found["files"]] == [each["sha256"] for each in expected["files"]]
    assert [each["id"] for each in found["volumes"]] == [each["id"] for each in expected["volumes"]]
    assert named(layout, own) == ()


@pytest.mark.parametrize("layout", ["nifti", "nnunet", "bids", "fastmri"])
def test_two_files_of_one_name_but_for_the_suffix_are_named(layout: str, tmp_path: Path) -> None:
    own = write(layout, tmp_path)
    before, after = CAPITALS[layout][-1]
    (own / after).write_bytes((own / before).read_bytes())
    (found,) = named(layout, own)
    assert "has the same name but for its" in found


@pytest.mark.parametrize(
    ("layout", "case", "name", "endings"),
    [
        ("nifti", "head.NII", "head", (".nii", ".nii.gz")),
        ("nifti", "head.NII.GZ", "head", (".nii.gz", ".nii")),
        ("fastmri", "a.H5", "a", (".h5", ".hdf5")),
        ("fastmri", "a.HDF5", "a", (".hdf5", ".h5")),
    ],
)
def test_inputs_of_predict_are_told_by_their_suffix_in_capitals_too(
    layout: str, case: str, name: str, endings: tuple[str, ...], tmp_path: Path
) -> None:
    if layout == "nifti":
        save(tmp_path / case.lower(), heads()[0][0]).rename(tmp_path / case)
    else:
        write_fastmri(tmp_path / case, "p")
    (found,) = inputs.find([tmp_path / case], channels=1)
    assert (found.name, found.endings) == (name, endings)
    assert found.read().image.size > 0


def test_predict_finds_what_training_finds_and_passes_over_its_tables(tmp_path: Path) -> None:
    own = write("images", tmp_path / "own")
    (own / "p2").rename(tmp_path / "moved")
    (own / "z").symlink_to(tmp_path / "moved")
    for name in ("labels.csv", "participants.TSV", "dataset.json"):
        (own / name).write_text("file,label\n")
    for number, folder_of_one in enumerate(("p0", "p1", "z")):
        (own / folder_of_one / "a.png").rename(own / folder_of_one / f"{number}.png")
    assert [each.path for each in inputs.find([own], 1)] == [own / "p0/0.png", own / "p1/1.png", own / "z/2.png"]
    with pytest.raises(DataError, match=r"labels\.csv: of unknown format"):
        inputs.find([own / "labels.csv"], 1)
    (own / "notes.txt").touch()
    with pytest.raises(DataError, match=r"notes\.txt: of unknown format"):
        inputs.find([own], 1)
    (own / "notes.txt").unlink()
    (own / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"gone\.png: a link that leads nowhere"):
        inputs.find([own], 1)
