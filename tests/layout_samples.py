"""Small data sets in the layouts of the field, written by the field's own libraries: the MNI152 template, thinned out,
as three patients, and what a test wants to be different about them."""

import dataclasses
import functools
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
from nibabel.testing import data_path
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from training_samples import configured

from crh_train.config import RunConfig
from crh_train.data import mni152
from crh_train.data.check import examine
from crh_train.data.sources import open_source
from crh_train.data.volume import Source

PATIENTS = ("ann", "bob", "cyd")
STEP = 6  # voxels of 1 mm
LAS = np.array([[-6.0, 0, 0, 90], [0, 6.0, 0, -126], [0, 0, 6.0, -72], [0, 0, 0, 1]])

TRAINED = (
    "conf=mri_step",
    "data.shape=[32,32]",
    "model.channels=4",
    "model.layers=2",
    "engine.epochs=1",
    "engine.batch_size=8",
    "determinism=native",
    "runtime.progress=false",
)
"""A run of one epoch on such data."""


@functools.cache
def heads() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Image int16 and tissue uint8 [33, 39, 32] of each patient, in RAS+: one template with noise of each one's own."""
    paths = {
        part: mni152._package_folder() / f"mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz"
        for part in ("t1", "gm", "wm")
    }
    t1, grey, white = (np.asarray(nibabel.load(path).dataobj)[::STEP, ::STEP, ::STEP] for path in paths.values())
    tissue = mni152.tissue(grey, white).astype(np.uint8)
    noise = [np.random.default_rng(number).integers(0, 9, t1.shape) for number in range(len(PATIENTS))]
    return tuple(((t1.astype(np.int16) * 4 + each).astype(np.int16), tissue) for each in noise)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray = LAS) -> Path:
    """An array in RAS+ as a NIfTI file whose first axis runs to the left, as `affine` says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(voxels[::-1]), affine), path)
    return path


def write_nnunet(folder: Path, channels: int = 1) -> Path:
    """nnU-Net version 2; a second channel is the first one's negative."""
    for name, (image, tissue) in zip(PATIENTS, heads(), strict=True):
        for channel in range(channels):
            save(folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image if channel == 0 else 2000 - image)
        save(folder / "labelsTr" / f"{name}.nii.gz", tissue)
    describe(folder, channel_names={str(c): f"T{c}" for c in range(channels)})
    return folder


def describe(folder: Path, **changes: Any) -> None:
    """`dataset.json`; a change to None leaves the key out."""
    document = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "grey": 1, "white": 2},
        "numTraining": len(PATIENTS),
        "file_ending": ".nii.gz",
        **changes,
    }
    kept = {key: value for key, value in document.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(kept))


def write_example4d(folder: Path) -> Path:
    """nibabel's acquisition of two volumes as two channels, twice; what is bright in the first is a class."""
    acquired = Path(data_path) / "example4d.nii.gz"
    image: Any = nibabel.load(acquired)
    labels = nibabel.Nifti1Image((np.asarray(image.dataobj)[..., 0] > 300).astype(np.uint8), image.affine)
    listed = []
    for name in ("a", "b"):
        for kind in ("imagesTr", "labelsTr"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(acquired, folder / "imagesTr" / f"{name}.nii.gz")
        nibabel.save(labels, folder / "labelsTr" / f"{name}.nii.gz")
        listed.append({"image": f"imagesTr/{name}.nii.gz", "label": f"labelsTr/{name}.nii.gz"})
    names = {"0": "first", "1": "second"}
    describe(folder, channel_names=names, labels={"background": 0, "bright": 1}, numTraining=2, training=listed)
    return folder


def write_decathlon(folder: Path) -> Path:
    """The Medical Segmentation Decathlon: two channels in one file, and the files listed."""
    for name, (image, tissue) in zip(PATIENTS, heads(), strict=True):
        save(folder / "imagesTr" / f"{name}.nii.gz", np.stack([image, 2000 - image], axis=-1))
        save(folder / "labelsTr" / f"{name}.nii.gz", tissue)
    listed = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in PATIENTS]
    labels = {"0": "background", "1": "grey", "2": "white"}
    describe(
        folder, channel_names=None, modality={"0": "T1", "1": "T2"}, labels=labels, file_ending=None, training=listed
    )
    return folder


def write_bids(folder: Path) -> Path:
    """Two sessions of the first subject, T1w and FLAIR, and tissue in derivatives/manual."""
    (folder / "derivatives").mkdir(parents=True)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "heads", "BIDSVersion": "1.10.0"}))
    rows = [
        "participant_id\tage\tsex",
        *(f"sub-{name}\t{40 + len(name)}\tn/a" for name in PATIENTS),
        "sub-unseen\t9\tF",
    ]
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    for name, (image, tissue) in zip(PATIENTS, heads(), strict=True):
        for session in ("ses-1", "ses-2") if name == PATIENTS[0] else ("",):
            parts = [f"sub-{name}", *([session] if session else [])]
            place, stem = Path(*parts, "anat"), "_".join(parts)
            save(folder / place / f"{stem}_T1w.nii.gz", image)
            save(folder / place / f"{stem}_FLAIR.nii.gz", 2000 - image)
            save(folder / "derivatives/manual" / place / f"{stem}_space-T1w_dseg.nii.gz", tissue)
            (folder / place / f"{stem}_T1w.json").write_text("{}")
    return folder


def write_dicom(folder: Path, count: int = 13) -> Path:
    """A series of `count` slices for each patient: sagittal, coronal, axial."""
    for axis, (name, (image, _)) in enumerate(zip(PATIENTS, heads(), strict=True)):
        write_series(folder / f"IM{axis}", image[:, :, 8:] if axis == 2 else image, name, axis=axis, count=count)
    return folder


def write_series(
    folder: Path,
    image: np.ndarray,
    patient: str,
    *,
    axis: int = 2,
    count: int | None = None,
    names: Sequence[str] | None = None,
    changes: Mapping[int, Mapping[str, Any]] | None = None,
    **everywhere: Any,
) -> list[Path]:
    """A RAS+ image int16 of `STEP` mm as one series of slices across `axis`, written from the far end on.

    Args:
      count: slices, from the first on.
      names: of the files, in the order in which they are written.
      changes: DICOM keywords of single slices, by their index along the axis; `everywhere` those of all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    size = image.shape[axis] if count is None else count
    rows, columns = (a for a in (2, 1, 0) if a != axis)
    unit = np.eye(3) * [-1, -1, 1]  # DICOM counts to the left and to the back
    series = generate_uid(entropy_srcs=[patient, str(folder)])
    paths = []
    for written, index in enumerate(reversed(range(size))):
        header = _header(series, index)
        header.PatientID = patient
        pixels = np.moveaxis(image, (rows, columns, axis), (0, 1, 2))[
            ::-1, :, index
        ]  # rows run down: feet or back last
        header.Rows, header.Columns = pixels.shape
        header.ImageOrientationPatient = [*unit[columns], *-unit[rows]]
        far = np.zeros(3)
        far[rows], far[axis] = (image.shape[rows] - 1) * STEP, index * STEP
        header.ImagePositionPatient = [float(value) for value in far * [-1, -1, 1]]
        header.PixelData = np.ascontiguousarray(pixels).astype("<i2").tobytes()
        for keyword, value in {**everywhere, **(changes[index] if changes and index in changes else {})}.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        paths.append(folder / (f"{written:04d}" if names is None else names[written]))
        header.save_as(paths[-1], enforce_file_format=True)
    return paths


def _header(series: str, index: int) -> pydicom.Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header = pydicom.Dataset()
    header.file_meta = meta
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    header.StudyInstanceUID, header.SeriesInstanceUID = generate_uid(entropy_srcs=["study", series]), series
    header.SeriesDescription, header.Modality = "t1_mprage", "MR"
    header.InstanceNumber = 1  # of every slice: nobody may sort by it
    header.PixelSpacing, header.SliceThickness = [STEP, STEP], STEP
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 1
    return header


def configuration(layout: str, folder: Path, **changes: Any) -> RunConfig:
    """What `conf/` says of a layout, with fields of its `data` changed."""
    config = configured(data=layout)
    runtime = dataclasses.replace(config.runtime, data_root=str(folder))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes), runtime=runtime)


def opened(layout: str, folder: Path, **changes: Any) -> Source:
    return open_source(configuration(layout, folder, **changes))


def problems(layout: str, folder: Path, **changes: Any) -> tuple[str, ...]:
    """What `crh-train data check` names."""
    return examine(configuration(layout, folder, **changes)).problems


WRITERS = {"nnunet": write_nnunet, "bids": write_bids, "dicom": write_dicom}
