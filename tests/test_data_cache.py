"""The cache gives back the bits it was given, or nothing; it never stops a run."""

import io
import logging
import os
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from crh_train.data import cache
from crh_train.errors import DataError

ARRAYS = {
    "train_images": np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4),
    "train_labels": np.arange(24, dtype=np.int32).reshape(2, 1, 3, 4),
}
FORMS = {name: cache.Form(array.dtype.str, array.shape) for name, array in ARRAYS.items()}
KEY = cache.entry_key("state", "identity")


def samples() -> Iterator[tuple[str, np.ndarray]]:
    """Of both arrays, in turns."""
    for number in range(2):
        for name, array in ARRAYS.items():
            yield name, array[number]


def write(folder: Path) -> None:
    cache.write(folder, KEY, FORMS, samples())


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    assert cache.read(folder, KEY, ARRAYS) is None
    write(folder)
    found = cache.read(folder, KEY, ARRAYS)
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert [path.name for path in folder.iterdir()] == [KEY]


def test_the_key_depends_on_both_parts() -> None:
    assert len({cache.entry_key(*parts) for parts in (("a", "b"), ("a", "c"), ("c", "b"), ("ab", ""))}) == 4


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove"])
def test_a_damaged_entry_is_removed_and_never_read(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path)
    path = tmp_path / KEY / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(
            {"flip": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:], "cut": data[:-1], "empty": b""}[damage]
        )
    assert cache.read(tmp_path, KEY, ARRAYS) is None
    assert "damaged" in caplog.text
    assert list(tmp_path.iterdir()) == []
    write(tmp_path)
    assert cache.read(tmp_path, KEY, ARRAYS) is not None


@pytest.mark.parametrize("index", ["[]", "3", "null", '{"entry": 1}', "{}"])
def test_an_index_of_another_kind_is_damage(tmp_path: Path, index: str) -> None:
    write(tmp_path)
    (tmp_path / KEY / "entry.json").write_text(index)
    assert cache.read(tmp_path, KEY, ARRAYS) is None


@pytest.mark.parametrize("failing", range(4))
def test_an_entry_is_seen_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """Whichever file cannot be made durable, there is no entry, nothing is left behind, and the run goes on."""
    real, synced = os.fsync, []

    def fail_at(descriptor: int) -> None:
        if len(synced) == failing:
            raise OSError(28, "No space left on device")
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_at)
    write(tmp_path)
    assert len(synced) == failing
    assert list(tmp_path.iterdir()) == []


def test_samples_that_stop_short_leave_no_entry(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, np.ndarray]]:
        yield "train_images", ARRAYS["train_images"][0]
        raise DataError("the second volume is damaged")

    with pytest.raises(DataError, match="second volume"):
        cache.write(tmp_path, KEY, FORMS, broken())
    assert list(tmp_path.iterdir()) == []


def test_what_the_disk_has_no_room_for_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: namedtuple("Usage", "free")(100))
    cache.write(tmp_path, KEY, FORMS, iter(()))
    assert f"{tmp_path}: they take 192 bytes and 100 are free" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_what_numpy_writes(tmp_path: Path) -> None:
    write(tmp_path)
    for name, array in ARRAYS.items():
        expected = io.BytesIO()
        np.save(expected, array)
        assert (tmp_path / KEY / f"{name}.npy").read_bytes() == expected.getvalue()


def test_what_is_read_is_mapped_and_outlives_its_entry(tmp_path: Path) -> None:
    write(tmp_path)
    found = cache.read(tmp_path, KEY, ARRAYS)
    assert found is not None
    for array in found.values():
        assert isinstance(array.base, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    shutil.rmtree(tmp_path / KEY)
    assert {name: array.tobytes() for name, array in found.items()} == {n: a.tobytes() for n, a in ARRAYS.items()}


def test_two_that_write_at_once_leave_one_entry(tmp_path: Path) -> None:
    """The second one begins and ends while the first one writes."""

    def interrupted() -> Iterator[tuple[str, np.ndarray]]:
        for number, sample in enumerate(samples()):
            if number == 2:
                write(tmp_path)
            yield sample

    cache.write(tmp_path, KEY, FORMS, interrupted())
    assert [path.name for path in tmp_path.iterdir()] == [KEY]
    assert cache.read(tmp_path, KEY, ARRAYS) is not None


def test_a_cache_that_cannot_be_written_is_logged_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        write(tmp_path / "file")
    assert "not kept" in caplog.text
    assert cache.read(tmp_path / "file", KEY, ARRAYS) is None


def test_an_entry_of_another_process_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path)
    before = (tmp_path / KEY).stat().st_ino
    write(tmp_path)
    assert (tmp_path / KEY).stat().st_ino == before
    assert caplog.text == ""
