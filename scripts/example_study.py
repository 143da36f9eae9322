"""Writes two folders of DICOM files to try crh-train with: python scripts/example_study.py STUDY NOISY

STUDY has six made-up patients, each the MNI152 template stretched and shaded a little otherwise, 2 mm, in axial slices
whose file names say nothing; NOISY has a seventh, with Rician noise. Without clinical meaning. Needs pydicom:
pip install 'crh-train[mri]'.
"""

import argparse
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from crh_train.data import mni152
from crh_train.data.volume import Volume

PATIENTS = 6
SLICES = 30
STEP = 2  # voxels of 1 mm from one to the next that is taken, along each axis
FIRST = 25  # of the taken slices, from below
NOISE = 0.06  # standard deviation of both parts of the signal, of its maximum


def template() -> np.ndarray:
    """The T1 template, every second voxel: float32 [x, y, z] in RAS+, from 0 to 1."""
    from crh_train.compose import compose, packaged_conf

    config = compose("mri_cosine", [], [packaged_conf()]).data
    volume: Volume = mni152.open_source(config).volumes[0]
    image = volume.read().image[::STEP, ::STEP, FIRST * STEP : (FIRST + SLICES) * STEP : STEP]
    return image / image.max()


def patient(image: np.ndarray, number: int) -> np.ndarray:
    """Stretched by up to 6 % along x and y, and with another contrast: uint16."""
    for axis, stretch in ((0, 0.94 + 0.024 * number), (1, 1.06 - 0.024 * number)):
        size = image.shape[axis]
        centre = (size - 1) / 2
        taken = np.rint(centre + (np.arange(size) - centre) / stretch).clip(0, size - 1).astype(int)
        image = np.take(image, taken, axis=axis)
    return np.rint(1000 * image ** (0.8 + 0.08 * number)).astype(np.uint16)


def noisy(voxels: np.ndarray) -> np.ndarray:
    """The magnitude of a complex signal with normal noise in both parts."""
    real, imaginary = np.random.default_rng(0).normal(scale=1000 * NOISE, size=(2, *voxels.shape))
    return np.rint(np.hypot(voxels + real, imaginary)).astype(np.uint16)


def write(folder: Path, number: int, voxels: np.ndarray) -> None:
    """One series, axial: rows go to the back, columns to the patient's left, as DICOM counts."""
    folder.mkdir(parents=True)
    series = generate_uid(entropy_srcs=["crh-train example", str(number)])
    for index in range(voxels.shape[2]):
        header = pydicom.Dataset()
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = MRImageStorage
        uid = generate_uid(entropy_srcs=[series, str(index)])
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = uid
        header.StudyInstanceUID = generate_uid(entropy_srcs=[series, "study"])
        header.SeriesInstanceUID, header.FrameOfReferenceUID = series, series
        header.Modality, header.SeriesDescription = "MR", "t1_mprage"
        header.PatientID, header.PatientName = f"EXAMPLE-{number}", f"Example^{number}"
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [0, 0, float(STEP * index)]
        header.PixelSpacing, header.SliceThickness = [STEP, STEP], STEP
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
        pixels = np.ascontiguousarray(voxels[::-1, ::-1, index].T)
        header.Rows, header.Columns = pixels.shape
        header.PixelData = pixels.tobytes()
        header.save_as(folder / f"IM{uid.rpartition('.')[2][-8:]}", enforce_file_format=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("noisy", type=Path)
    given = parser.parse_args()
    image = template()
    for number in range(PATIENTS):
        write(given.study / f"exam{number}", number, patient(image, number))
    write(given.noisy, PATIENTS, noisy(patient(image, PATIENTS)))
    print(f"{PATIENTS} series of {SLICES} slices in {given.study}, one in {given.noisy}")


if __name__ == "__main__":
    main()
