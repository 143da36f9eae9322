"""Inference: an output is read back by its field's own tool, on its input's grid, with the checkpoint's hash inside."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import h5py
import jax
import nibabel
import numpy as np
import pydicom
import pytest
from command_line import contents, crh, document, refused
from image_samples import center_crop, fastmri_folder, images_folder, inverse_fourier, write_fastmri
from layout_samples import LAS, heads, save, write_series
from PIL import Image
from predict_samples import changed, predict, train
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian

from crh_train import checkpoint, session
from crh_train.checkpoint_reference import find
from crh_train.data import dicom_series, kspace
from crh_train.errors import DataError, UsageError
from crh_train.inference import dicom_files, model, picture_files, prediction
from crh_train.inference.case import Result
from crh_train.run_folder import RunFolder
from crh_train.stored import stored_config

# --- NIfTI ---------------------------------------------------------------------------------------------------------

TURNS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "LAS": ((0, 1, 2), (-1, 1, 1)),
    "PIR": ((1, 2, 0), (-1, -1, 1)),
}
"""Which axis of RAS+ each axis of the file is, and whether it runs the other way."""


def turned(path: Path, image: np.ndarray, name: str, **header: Any) -> Path:
    """`image`, RAS+ of 6 × 7 × 5 mm, with the axes of `name` in a file."""
    order, signs = TURNS[name]
    array, affine = np.transpose(image, order), np.zeros((4, 4))
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * (6.0, 7.0, 5.0)[world]
        if sign < 0:
            array = np.flip(array, axis)
            affine[world, 3] += (array.shape[axis] - 1) * (6.0, 7.0, 5.0)[world]
    affine[:3, 3] += (-90.5, -126.25, 1 / 3)
    affine[3, 3] = 1
    file = nibabel.Nifti1Image(np.ascontiguousarray(array), affine)
    file.set_qform(affine, 1)
    file.set_sform(affine, 4)
    for key, value in header.items():
        file.header[key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(file, path)
    return path


GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
    *("srow_x", "srow_y", "srow_z", "pixdim", "xyzt_units", "dim"),
)


def test_a_map_of_classes_lies_where_its_image_does_whatever_the_files_axes(
    segmenting: RunFolder, tmp_path: Path
) -> None:
    in_ras, rng = {}, np.random.default_rng(3)
    drawn = changed(segmenting, tmp_path, lambda array: rng.normal(0, 1, array.shape).astype(np.float32))
    for name in TURNS:
        image, _ = heads()[0]
        files = [
            turned(tmp_path / name / f"head_{channel:04d}.nii.gz", each, name)
            for channel, each in enumerate((image, 2000 - image))
        ]
        (written,) = predict(drawn, files, tmp_path / f"{name}.nii.gz")
        given, found = nibabel.load(files[0]), nibabel.load(tmp_path / f"{name}.nii.gz")
        for field in GEOMETRY:
            assert given.header[field].tobytes() == found.header[field].tobytes(), field
        assert given.affine.tobytes() == found.affine.tobytes()
        assert found.header["descrip"].item() == f"crh-train {drawn.stem.rpartition('-')[2]}".encode()
        labels = np.asarray(found.dataobj)
        assert (labels.shape, labels.dtype, written.shape) == (given.shape, np.uint8, given.shape)
        assert set(np.unique(labels)) <= {0, 1, 2}
        assert len(np.unique(labels)) > 1
        in_ras[name] = np.asarray(nibabel.as_closest_canonical(found).dataobj)
    assert in_ras["LAS"].tobytes() == in_ras["PIR"].tobytes()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_model_that_changes_nothing_gives_the_files_own_numbers(unchanged: Path, ending: str, tmp_path: Path) -> None:
    image, _ = heads()[1]
    given = turned(tmp_path / f"head{ending}", image, "PIR", cal_max=300)
    (written,) = predict(unchanged, [given], tmp_path / f"out{ending}")
    found = nibabel.load(tmp_path / f"out{ending}")
    assert np.asarray(found.dataobj).tobytes() == np.asarray(nibabel.load(given).dataobj).tobytes()
    assert found.get_data_dtype() == np.int16
    assert (written.output, written.shape) == (str(tmp_path / f"out{ending}"), found.shape)


def test_scaled_and_wide_and_big_endian_numbers_are_kept(unchanged: Path, tmp_path: Path) -> None:
    image, _ = heads()[1]
    big = nibabel.Nifti2Header(endianness=">")
    scaled = nibabel.Nifti2Image(np.ascontiguousarray(image[::-1]).astype(">i2"), LAS, big)
    scaled.header.set_data_dtype(np.dtype(">i2"))
    scaled.header.set_slope_inter(0.5, -100)
    nibabel.save(scaled, tmp_path / "scaled.nii")
    given, out = tmp_path / "scaled.nii", tmp_path / "out.nii"
    predict(unchanged, [given], out)
    before, after = nibabel.load(given), nibabel.load(out)
    assert type(after) is nibabel.Nifti2Image
    assert (after.header.endianness, after.dataobj.slope, after.dataobj.inter) == (
        before.header.endianness, before.dataobj.slope, before.dataobj.inter)  # fmt: skip
    assert np.array_equal(np.asarray(after.dataobj), np.asarray(before.dataobj))
    floats = save(tmp_path / "floats.nii", (image / np.float32(7)).astype(np.float32))
    predict(unchanged, [floats], tmp_path / "out7.nii")
    one, other = (np.asarray(nibabel.load(path).dataobj) for path in (floats, tmp_path / "out7.nii"))
    assert other.dtype == np.float32
    assert np.abs(one.view(np.int32) - other.view(np.int32)).max() <= 1  # ulp: the scale is divided by and multiplied


def test_what_was_cropped_away_is_black_and_the_rest_is_there(tmp_path: Path, denoising: RunFolder) -> None:
    config = dataclasses.replace(stored_config(denoising, []).data, shape=[20, 40], axis="sagittal")
    from crh_train.inference import nifti_files
    from crh_train.inference.preparation import prepare

    image, _ = heads()[2]
    given = image.astype(np.int16) - 50
    case = nifti_files.read([save(tmp_path / "head.nii", given)], 1)
    prepared = prepare(case, config, lambda function: function)
    back = prepared.intensities(prepared.back(prepared.slices))
    # Rows are z, reversed, of 32: 6 are cut off at the head's end, and 6 at its foot.
    assert np.array_equal(np.rint(back[:, :, 6:26]), given[:, :, 6:26])
    assert (back[:, :, :6] == given.min()).all()
    assert (back[:, :, 26:] == given.min()).all()


@pytest.mark.parametrize("axis", ["axial", "coronal", "sagittal"])
def test_the_way_back_undoes_cutting_and_downsampling(axis: str, denoising: RunFolder, tmp_path: Path) -> None:
    from crh_train.inference import nifti_files
    from crh_train.inference.preparation import prepare

    coarse = np.arange(3 * 4 * 5).reshape(3, 4, 5).astype(np.int16)
    blocks = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2)
    fine = np.pad(blocks, [(0, 1), (0, 2), (0, 0)], mode="edge")
    config = dataclasses.replace(stored_config(denoising, []).data, shape=[16, 16], axis=axis, downsample=3)
    prepared = prepare(nifti_files.read([save(tmp_path / "a.nii", fine)], 1), config, lambda function: function)
    assert len(prepared.slices) == coarse.shape[{"sagittal": 0, "coronal": 1, "axial": 2}[axis]]
    classes = np.rint(prepared.slices * 59).astype(np.int32)
    assert np.array_equal(prepared.back(classes), fine)
    back = prepared.intensities(prepared.back(prepared.slices))
    assert back.shape == fine.shape
    assert np.allclose(back[1::3, 1::3, 1::3][:3, :4, :5], coarse, atol=1e-4)  # the centres of the blocks
    assert np.allclose(back[9], back[8])


def test_digits_are_names_of_classes_like_any_other(segmenting: RunFolder, tmp_path: Path) -> None:
    given = [save(tmp_path / f"a_{channel:04d}.nii.gz", heads()[0][0]) for channel in (0, 1)]
    known = model.load(find(str(segmenting.path), None, tmp_path), stored_config(segmenting, []))
    named = known._replace(names=("0", "1", "4"))
    prediction.run(named, given, tmp_path / "out.nii.gz", force=False)
    prediction.run(known, given, tmp_path / "before.nii.gz", force=False)
    assert (tmp_path / "out.nii.gz").read_bytes() == (tmp_path / "before.nii.gz").read_bytes()


# --- DICOM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_a_series_becomes_a_derived_one_in_the_same_place(unchanged: Path, photometric: str, tmp_path: Path) -> None:
    image, _ = heads()[0]
    write_series(tmp_path / "study", image, "ann", axis=1, count=9, RescaleSlope="0.5", RescaleIntercept="-20",
                 PhotometricInterpretation=photometric, SmallestImagePixelValue=3)  # fmt: skip
    (written,) = predict(unchanged, [tmp_path / "study"], tmp_path / "out")
    assert written.shape == (9, 32, 33)
    before = {(d := pydicom.dcmread(p)).SOPInstanceUID: d for p in (tmp_path / "study").iterdir()}
    hash = unchanged.stem.rpartition("-")[2]
    derived = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len({each.SeriesInstanceUID for each in derived}) == 1
    for each in derived:
        source = before.pop(each.SourceImageSequence[0].ReferencedSOPInstanceUID)
        assert each.SOPInstanceUID.startswith("2.25.")
        assert each.SOPInstanceUID.is_valid
        assert each.SeriesInstanceUID != source.SeriesInstanceUID
        assert list(each.ImageType[:2]) == ["DERIVED", "SECONDARY"]
        assert each.DerivationDescription == f"crh-train {hash}"
        assert "SmallestImagePixelValue" not in each
        for keyword in ("PatientID", "StudyInstanceUID", "ImagePositionPatient", "ImageOrientationPatient",
                        "PixelSpacing", "Rows", "Columns", "RescaleSlope", "RescaleIntercept"):  # fmt: skip
            assert each[keyword].value == source[keyword].value
        assert np.array_equal(each.pixel_array, source.pixel_array)
    assert not before
    one, other = (dicom_series.read_series(sorted((tmp_path / name).iterdir())) for name in ("study", "out"))
    assert one.series.affine.tobytes() == other.series.affine.tobytes()
    predict(unchanged, [tmp_path / "study"], tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm"])
def test_a_scanners_own_file_comes_back_uncompressed(unchanged: Path, name: str, tmp_path: Path) -> None:
    path = Path(str(get_testdata_file(name, download=False)))
    predict(unchanged, [path], tmp_path / "out")
    source, found = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "out" / "0000.dcm")
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    pixels = np.zeros((64, 64), np.int16)
    pixels[12:52, 12:52] = source.pixel_array[12:52, 12:52]  # data.shape=[40,40] crops the rest away
    assert np.array_equal(found.pixel_array, pixels)


def test_a_series_with_empty_elements_and_a_single_type_comes_back(unchanged: Path, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "study", heads()[0][0], "ann", ImageType="ORIGINAL")
    for path in paths:
        header = pydicom.dcmread(path)
        header.RescaleSlope = header.RescaleIntercept = None
        header.save_as(path)
    predict(unchanged, [tmp_path / "study"], tmp_path / "out")
    for source, found in zip(paths, sorted((tmp_path / "out").iterdir()), strict=True):
        assert list(pydicom.dcmread(found).ImageType) == ["DERIVED", "SECONDARY"]
        assert pydicom.dcmread(found).RescaleSlope is None
        assert "RescaleSlope" in pydicom.dcmread(source)


def test_classes_in_dicom_are_pixels(segmenting: RunFolder, tmp_path: Path) -> None:
    paths = write_series(tmp_path / "study", heads()[0][0], "ann", RescaleSlope="2", WindowCenter="40")
    with pytest.raises(DataError, match="has 1 channel, the model takes 2"):
        predict(segmenting, [tmp_path / "study"], tmp_path / "out")
    case = dicom_files.read(paths)
    classes = np.arange(case.image.size, dtype=np.int32).reshape(case.image.shape) % 3
    encoded = case.encode(Result(classes, True, "ab" * 32), "")
    (tmp_path / "one.dcm").write_bytes(encoded.files["0000.dcm"])
    found = pydicom.dcmread(tmp_path / "one.dcm")
    assert (found.RescaleSlope, found.RescaleIntercept, found.BitsStored, "WindowCenter" in found) == (1, 0, 16, False)
    assert np.array_equal(found.pixel_array, encoded.array[0])
    assert np.array_equal(found.pixel_array, classes[:, ::-1, -1].T)  # from the head on; rows run to the back


# --- pictures ------------------------------------------------------------------------------------------------------


def test_pictures_stay_what_they_are(unchanged: Path, tmp_path: Path) -> None:
    root = images_folder(tmp_path / "own", "none") / "pictures"
    Image.fromarray(np.asarray(Image.open(root / "0.png"))[:20]).save(root / "0.png")
    np.save(root / "stack.npy", np.load(root / "2.npy")[None])
    found = predict(unchanged, [root], tmp_path / "out")
    hash = unchanged.stem.rpartition("-")[2]
    assert [Path(each.output).name for each in found] == [
        *("0.png", "1.tif", "2.npz", "3.npz", "4.png", "5.tif", "6.npz", "7.npz", "stack.npz")
    ]
    for name in ("0.png", "4.png", "1.tif", "5.tif"):
        with Image.open(root / name) as one, Image.open(tmp_path / "out" / name) as other:
            assert (one.size, one.mode, one.format) == (other.size, other.mode, other.format)
            assert np.array_equal(np.asarray(one), np.asarray(other))
            said = other.text["Software"] if name.endswith("png") else other.tag_v2[270]
            assert said == f"crh-train {hash}"
    for name, given in (("2.npz", np.load(root / "2.npy")), ("3.npz", np.load(root / "3.npz")["pixels"]),
                        ("stack.npz", np.load(root / "stack.npy"))):  # fmt: skip
        archive = np.load(tmp_path / "out" / name)
        assert str(archive["checkpoint"]) == hash
        assert archive["prediction"].dtype == given.dtype
        assert np.array_equal(archive["prediction"], given)


def test_classes_of_large_numbers_are_kept_or_refused(tmp_path: Path) -> None:
    root = images_folder(tmp_path / "own", "none") / "pictures"
    case = picture_files.read(root / "2.npy")
    classes = np.full(case.image.shape, 70_000)
    encoded = case.encode(Result(classes, True, "ab" * 32), ".npz")
    assert (encoded.array.dtype, encoded.array.min()) == (np.uint32, 70_000)
    with pytest.raises(DataError, match=r"the class 70000 is more than a \.png file's 16 bits hold"):
        picture_files.read(root / "0.png").encode(Result(classes, True, "ab" * 32), ".png")


@pytest.fixture(scope="module")
def classifying(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("classifying")
    root = images_folder(folder / "own", "label")
    return train(folder, "tissue_linear", "task=classification", "loss=cross_entropy", "data=images",
                 f"runtime.data_root={root}", "data.shape=[16,16]", "data.resize=true",
                 "engine.batch_size=2")  # fmt: skip


def test_a_class_for_each_case_is_a_table(classifying: RunFolder, tmp_path: Path) -> None:
    root = images_folder(tmp_path / "own", "none") / "pictures"
    found = predict(classifying, [root], tmp_path / "out.csv")
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert [row["file"] for row in rows] == [str(path) for path in sorted(root.iterdir())]
    for row, each in zip(rows, found, strict=True):
        probabilities = {name: np.float32(row[f"probability_{name}"]) for name in ("high", "low")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert row["class"] == each.label == max(probabilities, key=lambda name: probabilities[name])
        assert row["checkpoint"] == classifying.checkpoints()[-1].name.hash
    with pytest.raises(UsageError, match=r"expected a name that ends in \.csv"):
        predict(classifying, [root], tmp_path / "out")


# --- k-space -------------------------------------------------------------------------------------------------------


def test_kspace_becomes_a_reconstruction_at_its_own_scale(tmp_path: Path) -> None:
    root = fastmri_folder(tmp_path / "own")
    words = ("data=fastmri", "task=paired", "data.shape=[24,20]", "data.center_fraction=0.2", "engine.batch_size=2")
    run = train(tmp_path, "mri_denoise", *words, f"runtime.data_root={root}")
    samples = write_fastmri(tmp_path / "new.h5", None, seed=2)
    predict(changed(run, tmp_path, np.zeros_like), [tmp_path / "new.h5"], tmp_path / "out.h5")
    data = stored_config(run, []).data
    mask = kspace.sampling_mask(27, data.acceleration, data.center_fraction, data.mask, data.mask_seed)
    coils = inverse_fourier(samples.astype(np.complex128) * mask)
    expected = center_crop(np.sqrt((np.abs(coils) ** 2).sum(axis=1)), (24, 20))
    with h5py.File(tmp_path / "out.h5") as file:
        found = file["reconstruction"][()]
        assert len(file.attrs["crh_train_checkpoint"]) == 64
        assert list(file) == ["reconstruction"]
    assert (found.shape, found.dtype) == ((2, 24, 20), np.float32)
    assert np.abs(found - expected).max() <= 1e-5 * expected.max()
    with pytest.raises(DataError, match=r"trained on k-space \(data=fastmri\), this is an image"):
        predict(run, [save(tmp_path / "head.nii", heads()[0][0])], tmp_path / "out.nii")


# --- bits ----------------------------------------------------------------------------------------------------------


def test_a_prediction_is_what_validation_makes_of_the_same_slices(denoising: RunFolder, tmp_path: Path) -> None:
    from crh_train.assemble import determinism, layout, make_parts
    from crh_train.engine import make_predict
    from crh_train.inference.samples import predicted

    config = stored_config(denoising, [])
    opened = session.open_stored(denoising, config)
    parts = make_parts(config, 1, layout(config, opened.source))
    params = checkpoint.read(denoising.checkpoints()[-1].path).model_state
    direct = jax.jit(determinism(config).transform(make_predict(parts)))
    pictures = np.random.default_rng(0).random((4, 40, 40), np.float32)
    loaded = model.load(find(str(denoising.path), None, Path("runs")), config)
    found = predicted(pictures, loaded.predict, 1, 1, False)
    assert found.tobytes() == b"".join(np.asarray(direct(params, each[None])).tobytes() for each in pictures)
    assert found.tobytes() != pictures.tobytes()


def test_the_bytes_are_the_same_on_any_processor_with_any_number_of_threads(
    finished: RunFolder, env: dict[str, str], tmp_path: Path
) -> None:
    image, _ = heads()[0]
    given = turned(tmp_path / "head.nii.gz", image, "PIR")
    before, made = contents(finished.path), {}
    settings = {"one": ("1", {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}), "four": ("4", {})}
    for name, (threads, changes) in settings.items():
        out = tmp_path / f"{name}.nii.gz"
        words = ["predict", finished.name, given, "-o", out, f"runtime.threads={threads}", "--json"]
        said = crh(*words, env={**env, **changes}, cwd=finished.path.parents[1])
        assert (said.returncode, said.stderr) == (0, "")
        (told,) = document(said)["predictions"]
        array = np.asarray(nibabel.load(out).dataobj)
        assert (told["input"], told["output"], told["shape"]) == (str(given), str(out), list(array.shape))
        made[name] = (out.read_bytes(), told["sha256"])
    assert made["one"] == made["four"]
    assert contents(finished.path) == before
    words = ["predict", str(finished.checkpoints()[-1].path), given, "-o", tmp_path / "one.nii.gz"]
    assert "is there already" in refused(crh(*words, env=env, cwd=tmp_path), 2)
    said = crh(*words, "--force", env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert (tmp_path / "one.nii.gz").read_bytes() == made["four"][0]
    assert made["four"][1] in said.stdout
    assert said.stdout.splitlines()[-1] == f"next: crh-train verify {finished.checkpoints()[-1].path}"
