"""From a source to arrays: the right slices under the right ids, and a cache that changes no bit."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from crh_train.config import Mni152Config
from crh_train.data import dataset, manifest, preparation
from crh_train.data.volume import Segment, Source, Volume, Voxels

CONFIG = Mni152Config(
    name="mni152",
    axis="axial",
    downsample=1,
    shape=[4, 4],
    slices=2,
    stride=1,
    extent=[0.0, 1.0],
    validation=[0.4, 0.6],
    gap=1,
)
SEGMENTS = (Segment("b", "train", 6, 9), Segment("a", "train", 0, 4), Segment("a", "validation", 5, 8))


def make_source(reads: list[str], classes: int = 10) -> Source:
    """Volumes whose every voxel is the number of its axial slice, in the image and in the labels."""

    def volume(name: str) -> Volume:
        def read() -> Voxels:
            reads.append(name)
            slices = np.broadcast_to(np.arange(10, dtype=np.int32), (4, 4, 10))
            return Voxels(slices.astype(np.float32), slices if classes else None)

        return Volume(name, {f"{name}.nii": "00"}, (4, 4, 10), (1.0, 1.0, 1.0), "RAS", read)

    return Source("synthetic", (volume("a"), volume("b")), SEGMENTS, classes)


def load(source: Source, cache_folder: Path | None, identity: str = "machine") -> dataset.Dataset:
    document = manifest.build(source, CONFIG)
    prepare = jax.jit(preparation.make(CONFIG, source.classes))
    return dataset.load(source, CONFIG, document, prepare=prepare, cache_folder=cache_folder, identity=identity)


def test_each_sample_holds_the_slices_that_its_id_says() -> None:
    reads: list[str] = []
    loaded = load(make_source(reads), cache_folder=None)
    assert loaded.train.ids == ("a/axial/000", "a/axial/001", "a/axial/002", "b/axial/006", "b/axial/007")
    assert loaded.validation.ids == ("a/axial/005", "a/axial/006")
    for split in (loaded.train, loaded.validation):
        assert split.labels is not None
        assert (split.images.dtype, split.labels.dtype) == (np.float32, np.int32)
        assert split.images.shape == split.labels.shape == (len(split.ids), 2, 4, 4)
        first = np.array([int(name[-3:]) for name in split.ids])
        expected = np.broadcast_to(np.stack([first, first + 1], axis=1)[..., None, None], split.labels.shape)
        np.testing.assert_array_equal(split.labels, expected)
        np.testing.assert_array_equal(split.images, expected.astype(np.float32) / np.float32(9))
    assert reads == ["a", "b"]
    assert load(make_source(reads, classes=0), cache_folder=None).train.labels is None


def test_the_cache_gives_the_same_bits_without_decoding(tmp_path: Path) -> None:
    reads: list[str] = []
    for classes in (10, 0):
        source = make_source(reads, classes)
        made, cached = load(source, tmp_path / str(classes)), load(source, tmp_path / str(classes))
        for one, other in zip((made.train, made.validation), (cached.train, cached.validation), strict=True):
            assert one.ids == other.ids
            assert one.images.tobytes() == other.images.tobytes()
            assert (one.labels is None) == (other.labels is None) == (classes == 0)
            if one.labels is not None and other.labels is not None:
                assert one.labels.tobytes() == other.labels.tobytes()
    assert reads == ["a", "b"] * 2


def test_another_machine_or_other_data_prepare_anew(tmp_path: Path) -> None:
    reads: list[str] = []
    source = make_source(reads)
    load(source, tmp_path)
    load(source, tmp_path, identity="another machine")
    changed = source.volumes[0]._replace(files={"a.nii": "01"})
    load(source._replace(volumes=(changed, source.volumes[1])), tmp_path)
    assert len(reads) == 6


def test_the_manifest_of_the_dataset_is_the_one_given() -> None:
    source = make_source([])
    document = manifest.build(source, dataclasses.replace(CONFIG, slices=1))
    loaded = dataset.load(
        source,
        dataclasses.replace(CONFIG, slices=1),
        document,
        prepare=jax.jit(preparation.make(CONFIG, source.classes)),
        cache_folder=None,
        identity="machine",
    )
    assert loaded.manifest == document
