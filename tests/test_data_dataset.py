"""From a source to arrays: the right slices under the right ids, and a cache that changes no bit."""

import dataclasses
import logging
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from training_samples import outputs, start_python

from crh_train.config import Mni152Config
from crh_train.data import dataset, manifest, preparation
from crh_train.data.volume import Segment, Source, Volume, Voxels
from crh_train.errors import StorageFailed

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


def test_training_reads_from_the_cache_by_memory_map(tmp_path: Path) -> None:
    for _ in range(2):
        loaded = load(make_source([]), tmp_path)
        for array in (loaded.train.images, loaded.train.labels, loaded.validation.images, loaded.validation.labels):
            assert array is not None
            assert isinstance(array.base, np.memmap)


def test_an_entry_deleted_while_it_is_read_changes_nothing(tmp_path: Path) -> None:
    loaded, expected = load(make_source([]), tmp_path), load(make_source([]), None)
    shutil.rmtree(tmp_path)
    assert loaded.train.images[[4, 0]].tobytes() == expected.train.images[[4, 0]].tobytes()
    assert load(make_source([]), tmp_path).train.images.tobytes() == expected.train.images.tobytes()


def test_without_a_usable_cache_the_same_arrays_are_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    expected = load(make_source([]), tmp_path / "cache")
    with caplog.at_level(logging.INFO):
        found = [load(make_source([]), folder) for folder in (tmp_path / "file", None)]
    assert caplog.text.count("stay in memory") == 2
    for loaded in found:
        assert not isinstance(loaded.train.images.base, np.memmap)
        assert loaded.train.images.tobytes() == expected.train.images.tobytes()
        assert loaded.train.labels is not None
        assert expected.train.labels is not None
        assert loaded.train.labels.tobytes() == expected.train.labels.tobytes()


def test_data_that_fit_neither_on_disk_nor_in_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(dataset, "_memory", lambda: 1000)
    reads: list[str] = []
    for folder, where in ((None, "there is no cache folder"), (tmp_path / "file", "could not be kept in .*file")):
        with pytest.raises(
            StorageFailed, match=rf"take 1792 bytes, .* is 1000, and .*{where}: set runtime.cache=FOLDER"
        ):
            load(make_source(reads), folder)
    assert reads == []


def test_the_class_of_a_whole_volume_is_that_of_each_of_its_samples(tmp_path: Path) -> None:
    source = make_source([])
    volumes = []
    for number, volume in enumerate(source.volumes):
        image = volume.read().image
        volumes.append(volume._replace(read=lambda i=image, n=number: Voxels(i, np.asarray(n, np.int32))))
    source = source._replace(volumes=tuple(volumes), labelled="case", classes=2)
    for folder in (tmp_path, tmp_path, None):
        loaded = load(source, folder)
        assert loaded.train.labels is not None
        assert loaded.validation.labels is not None
        assert (loaded.train.labels.dtype, loaded.train.labels.tolist()) == (np.int32, [0, 0, 0, 1, 1])
        assert loaded.validation.labels.tolist() == [0, 0]


LARGER_THAN_MEMORY = """
import resource, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from crh_train.config import NiftiConfig
from crh_train.data import dataset, manifest
from crh_train.data.volume import Segment, Source, Volume, Voxels

COUNT, SLICES, SIDE, BATCH, ROOM = 97, 8, 256, 8, 96 << 20  # 2 MiB a volume, 194 MiB in all

def volume(number):
    def read():
        return Voxels(np.full((SIDE, SIDE, SLICES), number, np.float32), None)
    return Volume(f"{number:02d}", {f"{number:02d}": "00"}, (SIDE, SIDE, SLICES), (1., 1., 1.), "RAS", read)

volumes = tuple(map(volume, range(COUNT)))
segments = tuple(Segment(v.id, "train" if n else "validation", 0, SLICES) for n, v in enumerate(volumes))
source = Source("synthetic", volumes, segments, 0)
config = NiftiConfig(name="nifti", axis="axial", downsample=1, shape=[SIDE, SIDE], slices=1, stride=1,
                     extent=[0.0, 1.0], validation_fraction=0.1, split_seed=0)
prepare = jax.jit(lambda image, labels: (jnp.transpose(image, (2, 1, 0)), labels))
prepare(volumes[0].read().image, None)
status = Path("/proc/self/status").read_text().splitlines()
(used,) = [int(line.split()[1]) << 10 for line in status if line.startswith("VmData")]
resource.setrlimit(resource.RLIMIT_DATA, (used + ROOM, resource.RLIM_INFINITY))
folder = None if sys.argv[1] == "memory" else Path(sys.argv[1])
try:
    for attempt in range(2):
        loaded = dataset.load(source, config, manifest.build(source, config), prepare=prepare, cache_folder=folder,
                              identity="")
        order = np.random.default_rng(0).permutation(len(loaded.train.images))
        batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
        print(sum(float(loaded.train.images[batch].mean()) for batch in batches) / len(batches))
except MemoryError:
    print("no room")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's private memory")
def test_data_larger_than_memory_are_prepared_and_read(tmp_path: Path) -> None:
    """194 MiB of prepared data with 96 MiB of private memory to spare, which without the cache is too little."""
    one, other = outputs(*(start_python(LARGER_THAN_MEMORY, argv=[where]) for where in (str(tmp_path), "memory")))
    assert one.split() == ["48.5", "48.5"]
    assert other == "no room\n"
