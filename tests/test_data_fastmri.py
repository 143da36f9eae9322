"""fastMRI's files become pairs of zero-filled and full images; what cannot be used is refused by name."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import image_samples
import jax
import numpy as np
import pytest
from command_line import trains_and_replays
from image_samples import fastmri_folder, write_fastmri
from training_samples import configured

from crh_train.assemble import layout, make_parts
from crh_train.compose import compose, packaged_conf
from crh_train.config import FastmriConfig
from crh_train.data import dataset, fastmri, kspace, manifest, preparation
from crh_train.data.volume import Source
from crh_train.digest import digest_bytes
from crh_train.errors import ConfigError, DataError, DataProblems

CONFIG: FastmriConfig = dataclasses.replace(configured(data="fastmri").data, shape=[20, 24])


def load(source: Source, config: FastmriConfig = CONFIG) -> dataset.Dataset:
    return dataset.load(
        source,
        config,
        manifest.build(source, config),
        prepare=jax.jit(preparation.make(config, 0)),
        cache_folder=None,
        identity="",
    )


def two(folder: Path, **changes: Any) -> Path:
    """A file to look at, `one.h5`, and another patient's."""
    write_fastmri(folder / "one.h5", "p1", **changes)
    write_fastmri(folder / "two.h5", "p2", count=1)
    return folder / "one.h5"


@pytest.mark.parametrize(("coils", "columns"), [(None, 27), (1, 32), (3, 27)])
def test_the_target_is_the_reconstruction_of_the_file(tmp_path: Path, coils: int | None, columns: int) -> None:
    path = two(tmp_path, coils=coils, columns=columns)
    with h5py.File(path) as file:
        expected = file["reconstruction_esc" if coils is None else "reconstruction_rss"][()]
        assert file.attrs["max"] == expected.max()
    source = fastmri.open_source(CONFIG, tmp_path)
    volume = source.volumes[0]
    samples, labels = volume.read()
    assert labels is None
    assert (samples.dtype, samples.shape) == (np.float32, (2, coils or 1, 32, columns, 2))
    assert volume.kspace == samples.shape[1:4]
    images, _ = jax.jit(preparation.make(CONFIG, 0))(samples, None)
    assert images.shape == (2, 20, 24, 2)
    np.testing.assert_allclose(images[..., 1], expected / expected.max(), rtol=0, atol=5e-7)


def test_the_input_is_the_zero_filled_image_at_the_scale_of_the_target(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, mask="random", mask_seed=3, acceleration=3)
    samples = image_samples.write_fastmri(tmp_path / "one.h5", "p1").astype(np.complex128)
    write_fastmri(tmp_path / "two.h5", "p2")
    volume = fastmri.open_source(config, tmp_path).volumes[0]
    images, _ = jax.jit(preparation.make(config, 0))(volume.read().image, None)
    mask = kspace.sampling_mask(27, 3, config.center_fraction, "random", 3)
    source, target = (
        image_samples.center_crop(image_samples.root_sum_of_squares(each), (20, 24))
        for each in (samples * mask, samples)
    )
    np.testing.assert_allclose(images[..., 0], source / target.max(), rtol=0, atol=5e-7)
    assert np.abs(source - target).max() > 0.05 * target.max()


def test_a_picture_smaller_than_the_shape_is_padded(tmp_path: Path) -> None:
    two(tmp_path)
    config = dataclasses.replace(CONFIG, shape=[40, 33])
    images = load(fastmri.open_source(config, tmp_path), config).train.images
    assert images.shape[1:] == (1, 40, 33, 2)
    border = np.ones((40, 33), bool)
    border[4:36, 3:30] = False
    assert (images[:, :, border] == 0).all()
    assert images[..., 1].max() == 1


def test_a_mask_that_cannot_be_names_the_fields_of_the_data() -> None:
    prepare = preparation.make(dataclasses.replace(CONFIG, center_fraction=0.5), 0)
    with pytest.raises(ConfigError, match=r"data\.center_fraction=0.5 samples 14 of 27 columns"):
        jax.eval_shape(lambda samples: prepare(samples, None), jax.ShapeDtypeStruct((1, 1, 32, 27, 2), np.float32))


def test_what_the_manifest_says(tmp_path: Path) -> None:
    source = fastmri.open_source(CONFIG, fastmri_folder(tmp_path))
    assert [volume.id for volume in source.volumes] == ["a", "b", "c", "more/d"]
    assert [volume.kspace for volume in source.volumes] == [(3, 32, 27), (3, 32, 27), (1, 32, 27), (3, 32, 30)]
    assert source.volumes[3].shape == (30, 32, 2)
    assert {volume.spacing for volume in source.volumes} == {(10.0, 8.0, 4.5)}
    document = manifest.build(source, CONFIG)
    patients = [volume["patient"] for volume in document["volumes"]]
    assert patients[0] != patients[1] == patients[2] != patients[3]
    assert all(len(patient) == 16 for patient in patients)
    assert patients[0] == digest_bytes(b"fastmri patient p1")[:16]
    assert {volume["metadata"]["acquisition"] for volume in document["volumes"]} == {"AXT1"}
    assert document["files"][3] == {"name": "more/d.h5", "sha256": digest_bytes((tmp_path / "more/d.h5").read_bytes())}
    for seed in range(4):
        segments = fastmri.open_source(dataclasses.replace(CONFIG, split_seed=seed), tmp_path).segments
        splits = {segment.volume: segment.split for segment in segments}
        assert splits["b"] == splits["c"]
        assert set(splits.values()) == {"train", "validation"}
    assert all(patient not in str(document) for patient in ("p1", "p2", "p3"))


def test_a_file_without_millimetres_counts_in_pixels(tmp_path: Path) -> None:
    path = two(tmp_path)
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"], file.attrs["acquisition"], file["reconstruction_rss"]
    volume = fastmri.open_source(CONFIG, tmp_path).volumes[0]
    assert volume.spacing == (1.0, 1.0, 1.0)
    assert volume.facts["metadata"] == {"acquisition": ""}


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if name in file:
            del file[name]
        file[name] = value

    return change


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


def without_kspace(file: h5py.File) -> None:
    del file["kspace"]


def with_kspace_elsewhere(file: h5py.File) -> None:
    del file["kspace"]
    file["kspace"] = h5py.ExternalLink("two.h5", "/kspace")


def with_kspace_outside(file: h5py.File) -> None:
    del file["kspace"]
    file.create_dataset("kspace", (2, 4, 4), np.complex64, external=[("raw", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without_kspace, "expected a dataset kspace, found ismrmrd_header, reconstruction_rss"),
        (with_kspace_elsewhere, "kspace must be a dataset of the file itself"),
        (with_kspace_outside, "kspace lies in other files"),
        (replaced("kspace/x", np.zeros(3)), "kspace must be a dataset of the file itself"),
        (replaced("kspace", np.zeros((2, 4, 4))), "kspace must be complex64, found float64"),
        (replaced("kspace", np.zeros((2, 4, 4), np.complex128)), "kspace must be complex64, found complex128"),
        (replaced("kspace", np.zeros((4, 4), np.complex64)), r"kspace must be \[slices, .*found \[4, 4\]"),
        (replaced("kspace", np.zeros((0, 4, 4), np.complex64)), r"found \[0, 4, 4\]"),
        (
            replaced("reconstruction_rss", np.zeros((3, 2, 2))),
            r"reconstruction_rss has \(3,\) slices, kspace has 2;",
        ),
        (replaced("ismrmrd_header", "<a"), "ismrmrd_header does not say the voxels' size"),
        (replaced("ismrmrd_header", "<a/>"), "ismrmrd_header does not say the voxels' size"),
        (replaced("ismrmrd_header", image_samples.HEADER.replace("160.0", "-1")), "gives voxels of"),
        (attribute("patient_id", None), "has no attribute patient_id"),
        (attribute("patient_id", ""), "has no attribute patient_id"),
        (attribute("patient_id", 7), "the attribute patient_id must be text, found"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, change: Any, says: str) -> None:
    path = two(tmp_path)
    with h5py.File(path, "a") as file:
        if says.startswith("kspace must be a dataset") and change is not with_kspace_elsewhere:
            del file["kspace"]
        change(file)
    with pytest.raises(DataProblems, match=f"one.h5: .*{says}"):
        fastmri.open_source(CONFIG, tmp_path)


@pytest.mark.parametrize("cut", [0, 7, 100, 1000, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, cut: int) -> None:
    path = two(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataProblems, match=r"one.h5: cannot be read as HDF5"):
        fastmri.open_source(CONFIG, tmp_path)


def test_every_file_that_cannot_be_used_is_found_at_once(tmp_path: Path) -> None:
    fastmri_folder(tmp_path)
    for name in ("a", "c"):
        (tmp_path / f"{name}.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataProblems) as refused:
        fastmri.open_source(CONFIG, tmp_path)
    assert [os.path.basename(problem.split(":")[0]) for problem in refused.value.problems] == ["a.h5", "c.h5"]
    assert [volume.id for volume in refused.value.usable] == ["b", "more/d"]


@pytest.mark.parametrize(
    ("value", "says"), [(np.nan, "k-space of slice 1 is not finite"), (None, "all of k-space is zero")]
)
def test_kspace_to_learn_nothing_from_is_named(tmp_path: Path, value: float | None, says: str) -> None:
    path = two(tmp_path)
    with h5py.File(path, "a") as file:
        file["kspace"][1, 0, 0, 0] = 0 if value is None else value
        if value is None:
            file["kspace"][:] = 0
    with pytest.raises(DataError, match=f"one.h5: {says}"):
        fastmri.open_source(CONFIG, tmp_path).volumes[0].read()


def test_a_file_that_changes_while_it_is_in_use_is_named(tmp_path: Path) -> None:
    path = two(tmp_path)
    volume = fastmri.open_source(CONFIG, tmp_path).volumes[0]
    with h5py.File(path, "a") as file:
        file["kspace"][0, 0, 0, 0] = 1
    with pytest.raises(DataError, match=r"one.h5: changed while it was in use"):
        volume.read()


def test_compressed_kspace_is_read(tmp_path: Path) -> None:
    path = two(tmp_path)
    before = fastmri.open_source(CONFIG, tmp_path).volumes[0].read().image
    with h5py.File(path, "a") as file:
        samples = file["kspace"][()]
        del file["kspace"]
        file.create_dataset("kspace", data=samples.astype(">c8"), compression="gzip", chunks=(1, 1, 32, 27))
    after = fastmri.open_source(CONFIG, tmp_path).volumes[0].read().image
    assert (after.dtype, after.tobytes()) == (before.dtype, before.tobytes())


def test_a_folder_or_choice_that_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"add runtime.data_root=FOLDER"):
        fastmri.open_source(CONFIG, None)
    with pytest.raises(DataError, match="must be a folder"):
        fastmri.open_source(CONFIG, tmp_path / "none")
    write_fastmri(tmp_path / "a.h5", "p1")
    write_fastmri(tmp_path / "b.h5", "p1")
    with pytest.raises(DataError, match="it holds 2 of 1"):
        fastmri.open_source(CONFIG, tmp_path)
    for field, value in (("axis", "coronal"), ("downsample", 2)):
        with pytest.raises(ConfigError, match=f"data.{field}=.*, not {value}"):
            fastmri.open_source(dataclasses.replace(CONFIG, **{field: value}), tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install 'crh-train\[mri\]'"):
        fastmri.open_source(CONFIG, tmp_path)


@pytest.mark.slow
def test_it_trains_and_replays_to_the_same_bits(tmp_path: Path, env: dict[str, str]) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        write_fastmri(tmp_path / "data" / f"{name}.h5", name, seed=seed)
    small = ("data.shape=[16,16]", "augmentation=none", "model.channels=4", "model.layers=2", "engine.batch_size=2")
    rest = ("engine.epochs=1", "runtime.progress=false", f"runtime.data_root={tmp_path / 'data'}")
    words = ("conf=mri_step", "data=fastmri", "task=paired", "scheduler.milestones=[1]", *small, *rest)
    run = trains_and_replays(words, env, tmp_path)
    prepared = {path.stem for path in run.path.rglob("prepare_*")}
    assert prepared == {"prepare_2_3_32_27_2"}


def test_the_configuration_for_fastmri_fits_its_data(tmp_path: Path) -> None:
    """fastMRI's U-Net, 320 x 320, traced and not run."""
    two(tmp_path)
    config = compose("fastmri_unet", [f"runtime.data_root={tmp_path}"], [packaged_conf()])
    source = fastmri.open_source(config.data, tmp_path)
    parts = make_parts(config, 10, layout(config, source))
    start = jax.eval_shape(parts.model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in start.values()) == 7756097
    shape = jax.ShapeDtypeStruct((4, 1, 320, 320, 2), np.float32)
    image, target = jax.eval_shape(lambda image: parts.task.pair(image, None), shape)
    assert image.shape == target.shape == (4, 1, 320, 320)
    given = jax.eval_shape(parts.tokenizer.encode, image)
    assert jax.eval_shape(parts.model.apply, start, given).shape == given.shape
