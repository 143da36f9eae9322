"""The packaged template: pinned bytes, its labels, its slab."""

import importlib.machinery
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crh_train.config import Mni152Config
from crh_train.data import manifest, mni152
from crh_train.errors import DataError

CONFIG = Mni152Config(
    name="mni152",
    axis="axial",
    downsample=2,
    shape=[112, 96],
    slices=1,
    stride=1,
    extent=[0.1, 0.9],
    validation=[0.45, 0.6],
    gap=3,
)


def test_the_template_is_one_volume_with_three_classes() -> None:
    source = mni152.open_source(CONFIG)
    (volume,) = source.volumes
    assert volume.shape == (197, 233, 189)
    assert volume.spacing == (1.0, 1.0, 1.0)
    assert volume.orientation == "RAS"
    assert len(volume.files) == 3
    voxels = volume.read()
    assert voxels.labels is not None
    assert voxels.image.shape == voxels.labels.shape == volume.shape
    assert (voxels.image.dtype, voxels.labels.dtype) == (np.float32, np.int32)
    assert (voxels.image.min(), voxels.image.max()) == (0, 255)
    assert np.bincount(voxels.labels.ravel()).shape == (source.classes,)
    # In T1 weighting white matter is brighter than grey matter, which is brighter than the rest.
    means = [voxels.image[voxels.labels == label].mean() for label in range(3)]
    assert means[0] < means[1] < means[2]


def test_the_shipped_split_of_half_resolution() -> None:
    samples = manifest.build(mni152.open_source(CONFIG), CONFIG)["samples"]
    by_split = {name: [s["first_slice"] for s in samples if s["split"] == name] for name in manifest.SPLITS}
    assert by_split == {"train": [*range(9, 39), *range(59, 85)], "validation": list(range(42, 56))}


def test_tissue_is_the_likeliest_class_and_the_lowest_at_a_tie() -> None:
    grey = np.array([0, 85, 100, 128, 127, 0, 128], np.uint8)
    white = np.array([0, 85, 100, 127, 128, 255, 0], np.uint8)
    # Of 255: other 255, 85, 55, 0, 0, 0, 127.
    assert mni152.tissue(grey, white).tolist() == [0, 0, 1, 1, 2, 2, 1]


def test_nilearn_is_found_but_not_imported() -> None:
    program = (
        "import sys; from crh_train.data import mni152; mni152._package_folder(); sys.exit('nilearn' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mni152, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'nilearn>=0.12'"):
        mni152.open_source(CONFIG)


def test_other_bytes_are_refused_by_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    installed = mni152._package_folder()
    copy = tmp_path / "datasets" / "data"
    copy.mkdir(parents=True)
    for path in installed.glob("mni_icbm152_*_tal_nlin_sym_09a_converted.nii.gz"):
        shutil.copy(path, copy)
    spec = importlib.machinery.ModuleSpec("nilearn", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(mni152, "find_spec", lambda name: spec)
    assert mni152.open_source(CONFIG).volumes[0].shape == (197, 233, 189)
    changed = copy / "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"
    data = bytearray(changed.read_bytes())
    data[4] ^= 1  # gzip's time stamp: the voxels are the same, the bytes are not
    changed.write_bytes(data)
    with pytest.raises(DataError, match=r"gm_tal.*expected SHA-256 97a5ca69.*install the template again"):
        mni152.open_source(CONFIG)
    changed.unlink()
    with pytest.raises(DataError, match=r"gm_tal.*cannot be read"):
        mni152.open_source(CONFIG)
