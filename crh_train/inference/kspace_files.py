"""fastMRI's HDF5 files of k-space in; out, as fastMRI's own submissions, the dataset `reconstruction` [slices, rows,
columns] at the scale of `reconstruction_rss`, with the checkpoint's hash as an attribute.
"""

import io
from pathlib import Path

import numpy as np

from crh_train.data import fastmri
from crh_train.inference.case import Case, Encoded, Result


def endings(path: Path) -> tuple[str, ...]:
    """Of the output's name, the input's own first."""
    return fastmri.SUFFIXES if path.suffix.lower() == fastmri.SUFFIXES[0] else fastmri.SUFFIXES[::-1]


def read(path: Path) -> Case:
    """The k-space of one volume. Raises `DataError` for what training would refuse."""
    return Case(path, fastmri.read_kspace(path), spacing=None, axis="axial", encode=_encode, kspace=True)


def _encode(result: Result, ending: str) -> Encoded:
    import h5py

    array = result.values.astype(np.float32)
    stream = io.BytesIO()
    with h5py.File(stream, "w", libver=("v108", "v108"), track_order=False) as file:
        file.create_dataset("reconstruction", data=array, track_times=False)
        file.attrs["crh_train_checkpoint"] = result.checkpoint
    return Encoded({"": stream.getvalue()}, array)
