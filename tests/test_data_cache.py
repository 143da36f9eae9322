"""The cache gives back the bits it was given, or nothing; it never stops a run."""

import logging
from pathlib import Path

import numpy as np
import pytest

from crh_train.data import cache

ARRAYS = {
    "train_images": np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4),
    "train_labels": np.arange(24, dtype=np.int32).reshape(2, 1, 3, 4),
}
KEY = cache.entry_key("state", "identity")


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    assert cache.read(folder, KEY, ARRAYS) is None
    cache.write(folder, KEY, ARRAYS)
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
    cache.write(tmp_path, KEY, ARRAYS)
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
    cache.write(tmp_path, KEY, ARRAYS)
    assert cache.read(tmp_path, KEY, ARRAYS) is not None


@pytest.mark.parametrize("index", ["[]", "3", "null", '{"entry": 1}', "{}"])
def test_an_index_of_another_kind_is_damage(tmp_path: Path, index: str) -> None:
    cache.write(tmp_path, KEY, ARRAYS)
    (tmp_path / KEY / "entry.json").write_text(index)
    assert cache.read(tmp_path, KEY, ARRAYS) is None


def test_an_entry_is_seen_only_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write fails, there is no entry afterwards, nothing is left behind, and the run goes on."""
    real = cache._write_synced
    for failing in range(len(ARRAYS) + 1):
        written: list[Path] = []

        def fail_at(path: Path, data: bytes, failing: int = failing, written: list[Path] = written) -> None:
            if len(written) == failing:
                raise OSError(28, "No space left on device")
            written.append(path)
            real(path, data)

        monkeypatch.setattr(cache, "_write_synced", fail_at)
        cache.write(tmp_path, KEY, ARRAYS)
        assert len(written) == failing
        assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_logged_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        cache.write(tmp_path / "file", KEY, ARRAYS)
    assert "not kept" in caplog.text
    assert cache.read(tmp_path / "file", KEY, ARRAYS) is None


def test_an_entry_of_another_process_is_left_alone(tmp_path: Path) -> None:
    cache.write(tmp_path, KEY, ARRAYS)
    before = (tmp_path / KEY).stat().st_ino
    cache.write(tmp_path, KEY, ARRAYS)
    assert (tmp_path / KEY).stat().st_ino == before
