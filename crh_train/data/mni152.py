"""The source `mni152`: the MNI152 T1 template (ICBM 2009a symmetric, 1 mm) with its tissue maps, from the installed
nilearn package. Does not import nilearn and downloads nothing.

The template is an average of many heads, exactly left-right symmetric: a stand-in for a patient's image, without
clinical meaning. One volume, so it is split by slab.
"""

from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from crh_train.config import Mni152Config
from crh_train.data import nifti, split
from crh_train.data.volume import Source, Volume, Voxels, slice_count
from crh_train.errors import DataError

_FOLDER = "datasets/data"
_SHA256 = {
    "t1": "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
    "gm": "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed",
    "wm": "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db",
}
_CERTAIN = 255  # the tissue maps hold probabilities in 255ths


def open_source(config: Mni152Config) -> Source:
    """The template as one volume with labels 0 other, 1 grey matter, 2 white matter; hashed, not yet decoded.

    Raises:
      DataError: nilearn is not installed, or its files are not those that this source was written for.
      ConfigError: the slab of `config` cannot be cut (`split.slab`).
    """
    folder = _package_folder()
    paths = {part: folder / f"mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz" for part in _SHA256}
    headers = {part: nifti.read_header(path) for part, path in paths.items()}
    for part, header in headers.items():
        if header.sha256 != _SHA256[part]:
            raise DataError(
                f"{paths[part]}: expected SHA-256 {_SHA256[part]}, found {header.sha256}; "
                "install the template again: pip install --force-reinstall 'nilearn>=0.12'"
            )
    volume = Volume(
        id="mni152",
        files={paths[part].name: header.sha256 for part, header in headers.items()},
        shape=headers["t1"].shape,
        spacing=headers["t1"].spacing,
        orientation=headers["t1"].orientation,
        read=partial(_read, paths),
    )
    return Source("mni152", (volume,), split.slab(volume.id, slice_count(volume, config), config), classes=3)


def tissue(grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """The likeliest class of each voxel, int32: 0 other, 1 grey matter, 2 white matter; the lowest wins a tie.

    Args:
      grey, white: uint8, probabilities in 255ths; the rest to 255 is other. Integers, so the rule is exact.
    """
    other = _CERTAIN - grey.astype(np.int32) - white.astype(np.int32)
    likelihoods = np.stack([other, grey.astype(np.int32), white.astype(np.int32)])
    classes: np.ndarray = np.argmax(likelihoods, axis=0).astype(np.int32)
    return classes


def _package_folder() -> Path:
    spec = find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "data=mni152 reads the template from the package nilearn; install it: pip install 'nilearn>=0.12'"
        )
    return Path(spec.submodule_search_locations[0]) / _FOLDER


def _read(paths: dict[str, Path]) -> Voxels:
    voxels = {part: nifti.read_voxels(path, _SHA256[part]) for part, path in paths.items()}
    return Voxels(nifti.as_image(voxels["t1"], paths["t1"]), tissue(voxels["gm"], voxels["wm"]))
