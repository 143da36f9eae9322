"""NIfTI files are read as nibabel reads them, and what cannot be used is refused by name."""

import gzip
import hashlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.testing import data_path

from crh_train.config import NiftiConfig
from crh_train.data import nifti
from crh_train.errors import ConfigError, DataError

CONFIG = NiftiConfig(
    name="nifti",
    axis="axial",
    downsample=1,
    shape=[8, 8],
    slices=1,
    stride=1,
    extent=[0.0, 1.0],
    validation_fraction=0.5,
    split_seed=0,
)
VOXELS = np.random.default_rng(0).integers(0, 1000, (3, 4, 5)).astype(np.int16)
LAS = np.diag([-2.0, 1.5, 3.0, 1.0])
OBLIQUE_PIR = np.array([[0.0, 0.1, 2.0, 4.0], [-1.0, 0.0, 0.1, 5.0], [0.0, -3.0, 0.0, 6.0], [0.0, 0.0, 0.0, 1.0]])
EXAMPLE = Path(data_path) / "example4d.nii.gz"


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = LAS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def read(path: Path) -> np.ndarray:
    return nifti.read_voxels(path, nifti.read_header(path).sha256)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("affine", [LAS, OBLIQUE_PIR, np.eye(4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, ">i2", ">f4"])
def test_voxels_and_geometry_are_those_of_nibabel_in_the_closest_ras_orientation(
    tmp_path: Path, name: str, affine: np.ndarray, dtype: str
) -> None:
    path = save(tmp_path / name, VOXELS.astype(dtype), affine)
    canonical = nibabel.as_closest_canonical(nibabel.load(path))
    header = nifti.read_header(path)
    np.testing.assert_array_equal(read(path), np.asarray(canonical.dataobj))
    assert header.shape == canonical.shape
    assert header.spacing == canonical.header.get_zooms()
    assert header.orientation == "".join(nibabel.aff2axcodes(affine))
    assert header.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_voxel_size_that_is_not_its_affines_or_not_in_millimetres_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, np.diag([2.0, 2.0, 4.0, 1.0]))
    image.header.set_zooms((2.015, 2.0, 4.0))  # as far as rounding and registration take it
    nibabel.save(image, tmp_path / "near.nii")
    assert nifti.read_header(tmp_path / "near.nii").spacing == image.header.get_zooms()
    image.set_qform(np.eye(4), 0)
    image.header.set_zooms((1, 1, 1))
    nibabel.save(image, tmp_path / "other.nii")
    with pytest.raises(DataError, match="voxel size is 1×1×1 mm, but voxels of its affine measure 2×2×4 mm"):
        nifti.read_header(tmp_path / "other.nii")
    image = nibabel.Nifti1Image(VOXELS, np.diag([50.0, 50.0, 100.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "small.nii")
    with pytest.raises(DataError, match="unit of length is the micron; write affine"):
        nifti.read_header(tmp_path / "small.nii")


def test_scaled_integers_are_scaled(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    image.header.set_slope_inter(0.5, 3.0)
    nibabel.save(image, tmp_path / "v.nii")
    scaled = nifti.as_image(read(tmp_path / "v.nii"), tmp_path)
    np.testing.assert_array_equal(scaled, nibabel.load(tmp_path / "v.nii").get_fdata(dtype=np.float32))
    assert scaled.dtype == np.float32


def test_nifti_2_is_read(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti2Image(VOXELS, np.eye(4)), tmp_path / "v.nii")
    np.testing.assert_array_equal(read(tmp_path / "v.nii"), VOXELS)


def test_a_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii.gz", VOXELS[..., None], np.eye(4))
    np.testing.assert_array_equal(read(path), VOXELS)


def test_a_real_four_dimensional_acquisition_is_refused_and_its_first_volume_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"example4d.nii.gz: expected a 3-D volume, found shape \(128, 96, 24, 2\)"):
        nifti.read_header(EXAMPLE)
    first = nibabel.load(EXAMPLE).slicer[..., 0]
    nibabel.save(first, tmp_path / "first.nii.gz")
    header = nifti.read_header(tmp_path / "first.nii.gz")
    assert (header.shape, header.orientation) == ((128, 96, 24), "LAS")
    canonical = nibabel.as_closest_canonical(first)
    np.testing.assert_array_equal(read(tmp_path / "first.nii.gz"), np.asarray(canonical.dataobj))


def test_a_folder_is_listed_by_path_and_split_by_file(tmp_path: Path) -> None:
    for name in ("b.nii", "a/t1.nii.gz", "a/t2.nii", "c.nii.gz"):
        save(tmp_path / name, VOXELS)
    (tmp_path / "notes.txt").write_text("not a volume")
    source = nifti.open_source(CONFIG, tmp_path)
    assert [volume.id for volume in source.volumes] == ["a/t1", "a/t2", "b", "c"]
    assert [list(volume.files) for volume in source.volumes] == [["a/t1.nii.gz"], ["a/t2.nii"], ["b.nii"], ["c.nii.gz"]]
    assert sorted(segment.split for segment in source.segments) == ["train", "train", "validation", "validation"]
    assert source.classes == 0
    voxels = source.volumes[2].read()
    assert voxels.labels is None
    assert voxels.image.dtype == np.float32
    np.testing.assert_array_equal(voxels.image, VOXELS[::-1])


def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.nii", VOXELS)
    save(tmp_path / "b.nii", VOXELS)
    source = nifti.open_source(CONFIG, tmp_path)
    save(tmp_path / "a.nii", VOXELS + 1)
    with pytest.raises(DataError, match=r"a\.nii: changed while it was in use"):
        source.volumes[0].read()


def read_folder(folder: Path) -> None:
    for volume in nifti.open_source(CONFIG, folder).volumes:
        volume.read()


def spoil(kind: str, folder: Path) -> None:
    path = folder / "bad.nii"
    data = save(path, VOXELS).read_bytes()
    if kind == "text":
        path.write_bytes(b"not an image at all" * 40)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "short":
        path.write_bytes(data[:-1])
    elif kind == "huge":
        path.write_bytes(data[:42] + (32000).to_bytes(2, "little") * 3 + data[48:])
    elif kind == "not gzip":
        path.rename(folder / "bad.nii.gz")
    elif kind == "cut gzip":
        (folder / "bad.nii.gz").write_bytes(gzip.compress(data)[:-20])
        path.unlink()
    elif kind == "damaged gzip":
        # More than is buffered ahead when the header is read, so that only reading to the end finds the checksum.
        packed = bytearray(gzip.compress(save(path, VOXELS.repeat(30, 0).repeat(30, 1).repeat(30, 2)).read_bytes()))
        packed[-5] ^= 1
        (folder / "bad.nii.gz").write_bytes(packed)
        path.unlink()
    elif kind == "two-dimensional":
        save(path, VOXELS[0])
    elif kind == "no axis":
        path.write_bytes(data[:296] + bytes(16) + data[312:])  # the affine's second row
    elif kind == "no voxels":
        path.write_bytes(data[:42] + bytes(2) + data[44:])
    elif kind == "infinite axis":
        path.write_bytes(data[:300] + np.float32(np.inf).tobytes() + data[304:])
    elif kind == "unknown type":
        path.write_bytes(data[:70] + (9999).to_bytes(2, "little") + data[72:])
    elif kind == "not finite":
        save(path, np.where(VOXELS > 500, np.nan, VOXELS).astype(np.float32))
    elif kind == "too large":
        save(path, VOXELS * 1e300)
    elif kind == "zero":
        save(path, VOXELS * 0)
    elif kind == "complex":
        save(path, VOXELS.astype(np.complex64))
    elif kind == "same name":
        save(folder / "bad.nii.gz", VOXELS)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("text", "expected a NIfTI-1 or NIfTI-2 file, found other bytes"),
        ("empty", "expected a NIfTI-1 or NIfTI-2 file, found other bytes"),
        ("short", r"the header promises 472 bytes, more than the file's 471 can hold"),
        ("huge", r"the header promises 65536000000352 bytes"),
        ("not gzip", "no readable NIfTI file"),
        ("cut gzip", "no readable NIfTI file|the voxels cannot be read"),
        ("damaged gzip", "the voxels cannot be read .*CRC"),
        ("two-dimensional", r"expected a 3-D volume, found shape \(4, 5\)"),
        ("no axis", "does not say where the axes point"),
        ("no voxels", r"expected a 3-D volume, found shape \(0, 4, 5\)"),
        ("infinite axis", "affine or voxel size is not finite"),
        ("unknown type", "no readable NIfTI file .*9999"),
        ("not finite", "voxels are not finite"),
        ("too large", "voxels are not finite"),
        ("zero", "every voxel is 0;"),
        ("complex", "expected one real number a voxel, found complex64"),
        ("same name", "another file of the folder has the same name but for its suffix"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, kind: str, says: str) -> None:
    save(tmp_path / "good.nii", VOXELS)
    spoil(kind, tmp_path)
    with pytest.raises(DataError, match=rf"bad\.nii(\.gz)?: .*({says})"):
        read_folder(tmp_path)


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")  # NumPy, on absurd scale factors
def test_a_damaged_header_is_refused_or_harmless_and_nothing_else(tmp_path: Path) -> None:
    path = save(tmp_path / "v.nii", VOXELS)
    data = path.read_bytes()
    refused = 0
    for place in range(352):
        for flip in (0x80, 0x7F):
            path.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
            try:
                voxels = nifti.as_image(read(path), path)
            except DataError:
                refused += 1
            else:
                assert voxels.ndim == 3
    assert refused > 20


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    save(tmp_path / "good.nii", VOXELS)
    (tmp_path / "bad.nii").mkdir()
    with pytest.raises(DataError, match=r"bad\.nii: cannot be read: Is a directory"):
        nifti.open_source(CONFIG, tmp_path)


def test_too_few_files_or_no_folder_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "only.nii", VOXELS)
    with pytest.raises(DataError, match=r"at least two .* it holds 1"):
        nifti.open_source(CONFIG, tmp_path)
    with pytest.raises(DataError, match=r"must be a folder"):
        nifti.open_source(CONFIG, tmp_path / "only.nii")
    with pytest.raises(ConfigError, match=r"runtime.data_root=FOLDER"):
        nifti.open_source(CONFIG, None)
