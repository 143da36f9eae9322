"""DICOM series: sorted by position whatever the files are called, with DICOM's own geometry, and refused by name."""

import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layout_samples import PATIENTS, STEP, configuration, heads, opened, problems, write_dicom, write_series
from pydicom.data import get_testdata_file

from crh_train.data import dicom, dicom_series, manifest, orientation
from crh_train.data.check import examine
from crh_train.errors import DataError

SMALL = heads()[0][0][:6, :5, :4]
ONE_TURN = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)


def packaged(name: str) -> Path:
    return Path(get_testdata_file(name, download=False))


def image_of(paths: Sequence[Path]) -> np.ndarray:
    return dicom_series.read_series(paths).image


# --- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("axis", "codes"), [(0, "AIL"), (1, "RIA"), (2, "RPI")])
def test_a_series_of_any_plane_is_the_image_in_ras(tmp_path: Path, axis: int, codes: str) -> None:
    read = dicom_series.read_series(write_series(tmp_path, SMALL, "ann", axis=axis))
    assert read.image.dtype == np.float32
    np.testing.assert_array_equal(read.image, SMALL)
    assert dicom_series.ras_shape(read.series) == SMALL.shape
    assert dicom_series.ras_spacing(read.series) == (STEP, STEP, STEP)
    slices = orientation.from_ras(read.image, read.series.affine)
    for one, pixels in zip(read.series.slices, np.moveaxis(slices, 2, 0), strict=True):
        np.testing.assert_array_equal(pixels.T, pydicom.dcmread(one.path).pixel_array)
    assert orientation.codes(read.series.affine)[:2] == codes[:2]


@given(order=st.permutations(range(SMALL.shape[2])))
@ONE_TURN
def test_names_and_places_of_files_change_neither_the_bits_nor_the_dataset_state(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("series")
    names = [f"{place}.dcm" for place in order]
    first = write_series(folder / "a", SMALL, "ann", SeriesInstanceUID="1.2", StudyInstanceUID="1")
    other = write_series(folder / "b", SMALL, "ann", names=names, SeriesInstanceUID="1.2", StudyInstanceUID="1")
    assert image_of(first).tobytes() == image_of(sorted(other)).tobytes() == image_of(other[::-1]).tobytes()


def test_the_manifest_is_the_same_wherever_the_files_lie(tmp_path: Path) -> None:
    write_dicom(tmp_path / "one", count=5)
    (tmp_path / "two").mkdir()
    for number, path in enumerate(sorted((tmp_path / "one").rglob("0*"))):
        shutil.copy(path, tmp_path / "two" / f"{(number * 7) % 15:02d}.IMA")
    states = []
    for folder in ("one", "two"):
        config = configuration("dicom", tmp_path / folder).data
        states.append(manifest.dataset_state(manifest.build(opened("dicom", tmp_path / folder), config)))
    assert states[0] == states[1]


@given(angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3))
@ONE_TURN
def test_an_oblique_series_lies_where_dicom_says(
    tmp_path_factory: pytest.TempPathFactory, angles: tuple[float, float, float]
) -> None:
    from nibabel.eulerangles import euler2mat

    turn = euler2mat(*angles)
    along_row, along_column, normal = turn.T
    changes = {
        index: {"ImagePositionPatient": [round(float(v), 6) for v in np.array([1.0, 2, 3]) + 2.5 * index * normal]}
        for index in range(4)
    }
    cosines = [round(float(value), 8) for value in (*along_row, *along_column)]
    folder = tmp_path_factory.mktemp("oblique")
    paths = write_series(
        folder, SMALL, "ann", changes=changes, ImageOrientationPatient=cosines, PixelSpacing=[1.5, 0.75]
    )
    read = dicom_series.read_series(paths)
    # DICOM PS3.3 C.7.6.2.1.1: position + along_row * column spacing * column + along_column * row spacing * row.
    to_lps = np.diag([-1.0, -1, 1, 1]) @ read.series.affine
    for index in range(4):
        header = pydicom.dcmread(read.series.slices[index].path)
        expected = np.array(header.ImagePositionPatient) + 2 * 0.75 * along_row + 3 * 1.5 * along_column
        np.testing.assert_allclose(to_lps @ [2, 3, index, 1], [*expected, 1], atol=1e-4)
    assert read.series.spacing == pytest.approx((0.75, 1.5, 2.5), abs=1e-5)
    canonical = nibabel.as_closest_canonical(
        nibabel.Nifti1Image(orientation.from_ras(read.image, read.series.affine), read.series.affine)
    )
    np.testing.assert_array_equal(read.image, canonical.get_fdata(dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "spacing"), [("MR_small.dcm", (0.3125, 0.3125, 0.8)), ("CT_small.dcm", (0.661468, 0.661468, 5.0))]
)
def test_real_slices_are_rescaled_as_their_headers_say(name: str, spacing: tuple[float, ...]) -> None:
    header = pydicom.dcmread(packaged(name))
    slope, intercept = (1, -1024) if name.startswith("CT") else (1, 0)
    read = dicom_series.read_series([packaged(name)])
    expected = (header.pixel_array.astype(np.float64) * slope + intercept).T[::-1, ::-1, None]
    np.testing.assert_array_equal(read.image, expected)
    assert dicom_series.ras_spacing(read.series) == spacing
    assert orientation.codes(read.series.affine) == "LPS"


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_expb.dcm",
        "MR_small_padded.dcm",
        "MR_small_jp2klossless.dcm",
    ],
)
def test_every_way_to_store_the_same_slice_gives_the_same_bits(name: str) -> None:
    assert image_of([packaged(name)]).tobytes() == image_of([packaged("MR_small.dcm")]).tobytes()


def test_two_real_patients_are_a_source(tmp_path: Path) -> None:
    for name in ("MR_small.dcm", "CT_small.dcm"):
        shutil.copy(packaged(name), tmp_path)
    found = examine(configuration("dicom", tmp_path, pseudonym=False))
    assert found.problems == ()
    assert [(case["patient"], case["shape"], case["channels"]) for case in found.cases] == [
        ("1CT1", [128, 128, 1], [[-896.0, 1167.0]]),
        ("4MR1", [64, 64, 1], [[127.0, 2145.0]]),
    ]


def test_each_slice_is_rescaled_by_its_own_numbers_and_monochrome1_is_inverted(tmp_path: Path) -> None:
    changes = {index: {"RescaleSlope": 0.1 * (index + 1), "RescaleIntercept": -7.3} for index in range(4)}
    plain = image_of(write_series(tmp_path / "plain", SMALL, "ann", changes=changes))
    for index in range(4):
        expected = (SMALL[:, :, index].astype(np.float64) * float(f"{0.1 * (index + 1)}") - 7.3).astype(np.float32)
        np.testing.assert_array_equal(plain[:, :, index], expected)
    white = {"PhotometricInterpretation": "MONOCHROME1"}
    signed = image_of(write_series(tmp_path / "signed", SMALL, "ann", **white))
    np.testing.assert_array_equal(signed, -1 - SMALL)
    unsigned = image_of(write_series(tmp_path / "u", SMALL, "ann", **white, PixelRepresentation=0, BitsStored=12))
    np.testing.assert_array_equal(unsigned, 4095 - SMALL)


# --- whose they are ------------------------------------------------------------------------------------------------


def test_ids_are_recorded_by_digest_and_in_clear_only_if_asked_for(tmp_path: Path) -> None:
    write_dicom(tmp_path, count=4)
    (tmp_path / "patients.csv").write_text("patient_id,sex\nann,f\nbob,m\ncyd,f\n")
    for hide in (True, False):
        config = configuration("dicom", tmp_path, pseudonym=hide, metadata="patients.csv").data
        document = manifest.build(opened("dicom", tmp_path, pseudonym=hide, metadata="patients.csv"), config)
        assert sorted(volume["metadata"]["sex"] for volume in document["volumes"]) == ["f", "f", "m"]
        text = json.dumps(document)
        uids = {str(pydicom.dcmread(path).SeriesInstanceUID) for path in tmp_path.rglob("0000")}
        assert [name in text for name in (*PATIENTS, *uids)] == [not hide] * 6
        assert "IM0" not in text
    assert dicom.pseudonym("patient", "ann") == "patient-de6459eaaee9a2fd"


def test_a_patient_with_two_series_is_whole_in_one_split(tmp_path: Path) -> None:
    write_dicom(tmp_path, count=4)
    write_series(tmp_path / "again", SMALL, "ann")
    for seed in range(6):
        source = opened("dicom", tmp_path, split_seed=seed, pseudonym=False)
        of_ann = {segment.split for segment in source.segments if segment.volume.startswith("ann/")}
        assert len(source.volumes) == 4
        assert len(of_ann) == 1


def test_a_description_selects_series_and_the_rest_is_not_looked_at(tmp_path: Path) -> None:
    write_dicom(tmp_path, count=4)
    write_series(tmp_path / "scout", SMALL, "ann", SeriesDescription="scout", ImageType=["ORIGINAL", "LOCALIZER"])
    (tmp_path / "DICOMDIR").write_bytes(b"an index")
    assert len(problems("dicom", tmp_path)) == 4
    assert problems("dicom", tmp_path, series="t1_*") == ()
    assert len(opened("dicom", tmp_path, series="t1_*").volumes) == 3
    with pytest.raises(DataError, match=r"described as data\.series=flair; it holds none"):
        opened("dicom", tmp_path, series="flair")


# --- what is refused -----------------------------------------------------------------------------------------------


def position(x: float, y: float, z: float) -> dict[str, Any]:
    return {"ImagePositionPatient": [x, y, z]}


def spoil(kind: str, folder: Path) -> None:
    """A third patient's series `bad`, damaged; slice k lies at -6k mm."""
    changes: dict[int, dict[str, Any]] = {}
    everywhere: dict[str, Any] = {}
    if kind == "missing slice":
        changes = {3: position(0, 0, 24.0)}
    elif kind == "uneven":
        changes = {3: position(0, 0, 15.0)}
    elif kind == "twice":
        changes = {2: position(0, 0, 6.0)}
    elif kind == "two orientations":
        changes = {2: {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}}
    elif kind == "tilted":
        changes = {index: position(0, 2.0 * index, 6.0 * index) for index in range(4)}
    elif kind == "other pixels":
        changes = {2: {"PixelSpacing": [5, 5]}}
    elif kind == "other shape":
        changes = {2: {"Rows": 4, "PixelData": bytes(48)}}
    elif kind == "localizer":
        changes = {2: {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}}
    elif kind == "nobody":
        everywhere = {"PatientID": ""}
    elif kind == "nowhere":
        changes = {2: {"ImagePositionPatient": None}}
    elif kind == "skewed":
        everywhere = {"ImageOrientationPatient": [1, 0, 0, 0.5, 0.5, 0]}
    elif kind == "no spacing":
        everywhere = {"PixelSpacing": [0, 6]}
    elif kind == "cut":
        changes = {2: {"PixelData": bytes(50)}}
    elif kind == "no pixels":
        changes = {2: {"PixelData": None}}
    elif kind == "even":
        everywhere = {"RescaleSlope": 0}
    elif kind == "not finite":
        everywhere = {"RescaleSlope": 1e38}
    write_series(folder / "bad", SMALL, "dan", changes=changes, **everywhere)
    if kind.endswith(".dcm"):
        shutil.rmtree(folder / "bad")
        shutil.copy(packaged(kind), folder / "bad")
    elif kind == "text":
        shutil.rmtree(folder / "bad")
        (folder / "bad").write_text("Dear colleague, these are the images.")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing slice", r"bad/0001: 12 mm from \S+bad/0000, where .* lie 6 mm apart; 1 may be missing between them"),
        ("uneven", r"bad/000\d: \d mm from \S+, where .* unevenly spaced slices are not supported"),
        ("twice", r"bad/000[12]: at the same position as \S+bad/000[12] of the same series"),
        ("two orientations", r"bad/0001: lies in another orientation than \S+bad/0000 of the same series"),
        ("tilted", r"bad/000\d: shifted aside by \S+ mm from \S+, as by a tilted gantry"),
        ("other pixels", r"bad/0001: pixels 5 mm apart, in \S+bad/0000 of the same series 6 mm"),
        ("other shape", r"bad/0001: expected 5 rows of 6 columns as in \S+bad/0000 of the same series, found 4 of 6"),
        ("nobody", r"bad/0000: no PatientID, so nobody knows what it belongs to"),
        ("skewed", r"bad/0000: ImageOrientationPatient is not two unit vectors at a right angle"),
        ("no spacing", r"bad/0000: expected rows, columns and PixelSpacing above 0"),
        ("nowhere", r"bad/0001: expected 3 numbers as ImagePositionPatient, found none"),
        ("localizer", r"bad/0001: a localizer; move it away"),
        ("cut", r"bad/0001: pydicom cannot read it \(The number of bytes of pixel data is less than expected"),
        ("no pixels", r"bad/0001: no PixelData"),
        ("even", r"bad/0000: every voxel is 0;"),
        ("not finite", r"bad/0000: \d+ voxels are not finite"),
        ("text", r"bad: no DICOM file"),
        ("MR_truncated.dcm", r"bad: pydicom cannot read it \(The number of bytes of pixel data is less than expected"),
        ("rtplan.dcm", r"bad: holds no image \(RT Plan Storage\)"),
        ("rtdose.dcm", r"bad: 15 frames in one file \(RT Dose Storage\) are not supported"),
        ("SC_rgb_small_odd.dcm", r"bad: expected PhotometricInterpretation MONOCHROME1 or MONOCHROME2, found RGB"),
        ("JPEG2000.dcm", r"bad: compressed as JPEG 2000 Image Compression, which decoders do not give the same bits"),
        ("MR_small_jpeg_ls_lossless.dcm", r"bad: compressed as JPEG-LS Lossless .*; to decode it, install .*pyjpegls"),
    ],
)
def test_what_is_no_slice_of_a_volume_is_named(tmp_path: Path, kind: str, says: str) -> None:
    write_dicom(tmp_path, count=4)
    spoil(kind, tmp_path)
    found = problems("dicom", tmp_path)
    assert all(str(tmp_path / "bad") in each for each in found)
    assert re.search(says, found[0]), found
    assert [case["patient"] for case in examine(configuration("dicom", tmp_path, pseudonym=False)).cases] == [*PATIENTS]


def test_files_of_two_series_are_not_read_as_one(tmp_path: Path) -> None:
    paths = [*write_series(tmp_path / "a", SMALL, "ann"), *write_series(tmp_path / "b", SMALL, "bob")]
    with pytest.raises(DataError, match=r"b/0000: of another series than .*a/0000"):
        dicom_series.read_series(paths)


def test_a_single_slice_needs_its_thickness(tmp_path: Path) -> None:
    paths = write_series(tmp_path, SMALL, "ann", count=1, SliceThickness=None)
    with pytest.raises(DataError, match="0000: a single slice without SliceThickness"):
        dicom_series.read_series(paths)


def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path, count=4)
    volume = opened("dicom", tmp_path).volumes[0]
    for path in tmp_path.rglob("0003"):
        path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(DataError, match=r"0003: changed while it was in use"):
        volume.read()


def test_a_damaged_header_is_refused_or_harmless_and_nothing_else(tmp_path: Path) -> None:
    data = packaged("MR_small.dcm").read_bytes()
    path = tmp_path / "slice"
    refused = 0
    for place in range(128, len(data) - 8192, 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :])
        try:
            assert image_of([path]).shape
        except DataError:
            refused += 1
    assert refused > 20


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(DataError, match=r"pip install 'crh-train\[mri\]'"):
        opened("dicom", tmp_path)
