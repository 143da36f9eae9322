"""Folders of k-space and of pictures, made from slices of the MNI152 template: synthetic, without clinical meaning."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from crh_train.config import PARTS
from crh_train.data import mni152

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><reconSpace>
<matrixSize><x>20</x><y>24</y><z>1</z></matrixSize>
<fieldOfView_mm><x>160.0</x><y>240.0</y><z>4.5</z></fieldOfView_mm>
</reconSpace></encoding></ismrmrdHeader>"""


@functools.cache
def _template() -> tuple[np.ndarray, np.ndarray]:
    from training_samples import written

    (volume,) = mni152.open_source(PARTS["data"]["mni152"](**written("data", "mni152"))).volumes
    voxels = volume.read()
    assert voxels.labels is not None
    return voxels.image, voxels.labels


def slices(first: int, count: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Axial slices of the template as pictures float64 [count, rows, columns] in [0, 1], and their tissues."""
    image, tissue = (np.transpose(each, (2, 1, 0))[first : first + 4 * count : 4, ::-1, ::-1] for each in _template())
    step = max(-(-image.shape[1] // rows), -(-image.shape[2] // columns))
    pictures, labels = np.zeros((count, rows, columns)), np.zeros((count, rows, columns), np.int32)
    thin, classes = image[:, ::step, ::step], tissue[:, ::step, ::step]
    up, left = (rows - thin.shape[1]) // 2, (columns - thin.shape[2]) // 2
    inside = (slice(None), slice(up, up + thin.shape[1]), slice(left, left + thin.shape[2]))
    pictures[inside], labels[inside] = thin / image.max(), classes
    return pictures, labels


def fourier(image: np.ndarray) -> np.ndarray:
    """fastMRI's `fft2c`, in complex128."""
    shifted = np.fft.ifftshift(image, axes=(-2, -1))
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=(-2, -1))


def inverse_fourier(kspace: np.ndarray) -> np.ndarray:
    """fastMRI's `ifft2c`, in complex128."""
    shifted = np.fft.ifftshift(kspace, axes=(-2, -1))
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=(-2, -1))


def root_sum_of_squares(kspace: np.ndarray) -> np.ndarray:
    """[slices, coils, rows, columns] -> [slices, rows, columns], as fastMRI's reconstruction_rss."""
    return np.sqrt(np.sum(np.abs(inverse_fourier(kspace)) ** 2, axis=1))


def center_crop(pictures: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """fastMRI's `center_crop` of the last two axes."""
    first, left = (pictures.shape[-2] - shape[0]) // 2, (pictures.shape[-1] - shape[1]) // 2
    return pictures[..., first : first + shape[0], left : left + shape[1]]


def coil_images(pictures: np.ndarray, coils: int, seed: int) -> np.ndarray:
    """What each coil sees: smooth sensitivities around the head, and a smooth phase. [slices, coils, rows, columns]."""
    rng = np.random.default_rng(seed)
    rows, columns = pictures.shape[1:]
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    angles = 2 * np.pi * np.arange(coils) / coils
    far = (y[None] - np.sin(angles)[:, None, None]) ** 2 + (x[None] - np.cos(angles)[:, None, None]) ** 2
    phase = rng.uniform(-2, 2, (coils, 3))
    bend = phase[:, :1, None] * y + phase[:, 1:2, None] * x + phase[:, 2:, None] * x * y
    return pictures[:, None] * (np.exp(-far) * np.exp(1j * bend))[None]


def write_fastmri(
    path: Path,
    patient: str | None,
    *,
    rows: int = 32,
    columns: int = 27,
    crop: tuple[int, int] = (20, 24),
    count: int = 2,
    coils: int | None = 3,
    seed: int = 0,
) -> np.ndarray:
    """A file as fastMRI's: its complex64 k-space, which is returned. `coils` None: singlecoil."""
    import h5py

    pictures, _ = slices(60 + 5 * seed, count, rows, columns)
    kspace = (1e-4 * fourier(coil_images(pictures, coils or 1, seed))).astype(np.complex64)
    reconstruction = center_crop(root_sum_of_squares(kspace.astype(np.complex128)), crop).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace if coils is not None else kspace[:, 0]
        file["reconstruction_esc" if coils is None else "reconstruction_rss"] = reconstruction
        file["ismrmrd_header"] = HEADER
        file.attrs["acquisition"] = "AXT1"
        file.attrs["max"] = reconstruction.max()
        if patient is not None:
            file.attrs["patient_id"] = patient
    return kspace


def fastmri_folder(folder: Path) -> Path:
    """Four files of three patients, of one coil and of three, of two sizes."""
    write_fastmri(folder / "a.h5", "p1")
    write_fastmri(folder / "b.h5", "p2", seed=1)
    write_fastmri(folder / "c.h5", "p2", seed=2, coils=None)
    write_fastmri(folder / "more" / "d.h5", "p3", seed=3, columns=30)
    return folder


def write_picture(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".npz":
        np.savez_compressed(path, pixels=pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def write_table(folder: Path, *lines: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text("".join(f"{line}\n" for line in lines))


def images_folder(folder: Path, kind: str, size: int = 24) -> Path:
    """Eight pictures in all formats with a table: `kind` is label, mask, target, or none, which has no table."""
    pictures, tissue = slices(40, 8, size, size)
    pixels = np.rint(pictures * 255).astype(np.uint8)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 30, pixels.shape), 0, 255).astype(np.uint8)
    lines = [f"file,{kind},patient,site"]
    for number, picture in enumerate(noisy if kind == "target" else pixels):
        name = f"{number}{('.png', '.tif', '.npy', '.npz')[number % 4]}"
        deep = picture.astype(np.uint16) * 257 if number % 2 else picture
        write_picture(folder / "pictures" / name, deep)
        value = ("low", "high")[number // 4]
        if kind in ("mask", "target"):
            value = f"{kind}s/{number}.png"
            other = tissue[number].astype(np.uint8) * 100 if kind == "mask" else pixels[number]
            write_picture(folder / value, other)
        lines.append(f"pictures/{name},{value},p{number // 2},{'north' if number % 3 else 'south'}")
    if kind != "none":
        write_table(folder, *lines)
    return folder
