"""Checkpoint files made to do harm: one clear `CorruptCheckpoint` each, little memory, nothing run, nothing written."""

import copy
import dataclasses
import functools
import hashlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from store_samples import make_checkpoint

from crh_train import checkpoint_file
from crh_train.checkpoint import read, write
from crh_train.checkpoint_file import check, read_header, with_prefix
from crh_train.checkpoint_header import MAX_ARRAYS, MAX_HEADER_BYTES, PIECE_BYTES, pack, unpack
from crh_train.errors import CorruptCheckpoint

PREFIX_BYTES = 52


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return msgpack.unpackb(data[PREFIX_BYTES : PREFIX_BYTES + struct.unpack("<Q", data[12:20])[0]])


# --- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "No such file"),
        ("link", "found a symbolic link"),
        ("folder", "found something else"),
        ("pipe", "found something else"),
        ("empty", "found a file of 0 bytes"),
    ],
)
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str, message: str) -> None:
    real = write(tmp_path, make_checkpoint())
    path = tmp_path / "there" / real.name
    path.parent.mkdir()
    match kind:
        case "link":
            path.symlink_to(real)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
    with pytest.raises(CorruptCheckpoint, match=f"{real.name}.*{message}"):
        read(path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/random"])
def test_a_device_is_not_read(device: str) -> None:
    with pytest.raises(CorruptCheckpoint, match="found something else; nothing was read"):
        read(Path(device))


def test_a_file_larger_than_the_memory_is_refused_before_its_payload_is_read(tmp_path: Path) -> None:
    """A terabyte of nothing: a sparse file with a header that is right, hash by hash."""
    size = 1 << 40
    honest = unpack(msgpack.packb(header_of(write(tmp_path, make_checkpoint(optimizer_state={})))))
    zeros = hashlib.sha256(bytes(PIECE_BYTES)).digest() * (size // PIECE_BYTES)
    entry = dataclasses.replace(honest.arrays[0], dtype="uint8", shape=[size], size=size, sha256=zeros)
    header = dataclasses.replace(honest, arrays=[entry])
    path = tmp_path / header.file_name
    with path.open("wb") as stream:
        stream.write(with_prefix(pack(header)))
        stream.truncate(stream.tell() + size)
    assert read_header(path) == header
    for reader in (read, check):
        with pytest.raises(CorruptCheckpoint, match=r"expected at most \d+ bytes, the memory of this"):
            reader(path)


@pytest.mark.parametrize("reader", [read, check])
@pytest.mark.parametrize("change", ["shrinks", "changes"])
def test_a_file_that_does_not_stay_the_same_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Callable[[Path], object], change: str
) -> None:
    path = write(tmp_path, make_checkpoint())
    size, whole = path.stat().st_size, checkpoint_file._expect_memory

    def meanwhile(*arguments: Any) -> None:
        whole(*arguments)
        if change == "shrinks":
            os.truncate(path, size - 30)
        else:
            path.write_bytes(path.read_bytes()[:-30] + bytes(30))

    monkeypatch.setattr(checkpoint_file, "_expect_memory", meanwhile)
    with pytest.raises(CorruptCheckpoint, match="does not have its SHA-256"):
        reader(path)


def test_what_memory_held_before_does_not_stand_in_for_what_a_file_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, preadv = write(tmp_path, make_checkpoint()), os.preadv
    monkeypatch.setattr(os, "preadv", lambda *arguments: preadv(*arguments) - 1)  # the last byte was there already
    with pytest.raises(CorruptCheckpoint, match="does not have its SHA-256"):
        read(path)


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    sample = make_checkpoint()
    path = write(tmp_path, sample)
    found = read(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert found.model_state["dense/kernel"].tobytes() == sample.model_state["dense/kernel"].tobytes()


def test_check_reads_every_byte_and_gives_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint())
    assert check(path) == read_header(path)
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(CorruptCheckpoint, match="does not have its SHA-256"):
        check(path)
    read_header(path)


# --- headers made to do harm ---------------------------------------------------------------------------------------


def forge(folder: Path, header: bytes, payload: bytes = b"", length: int | None = None) -> Path:
    path = folder / "forged.chk"
    prefix = struct.pack("<8sIQ32s", b"CRHCHK\r\n", 1, length or len(header), hashlib.sha256(header).digest())
    path.write_bytes(prefix + header + payload)
    return path


def altered(header: dict[str, Any], keys: list[Any], value: Any) -> bytes:
    """The header, with what `keys` lead to set to `value`."""
    place = header
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return msgpack.packb(header)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["extra"], 1, "the top level: expected the keys"),
        (["arrays"], {}, "arrays: is not the msgpack that the format allows"),
        (["arrays"], [1], r"arrays\[0\]: expected the keys"),
        (["arrays", 0, "extra"], 1, r"arrays\[0\]: expected the keys"),
        (["arrays", 0, "section"], "other", "expected a name in one of"),
        (["arrays", 0, "section"], [], "expected a name in one of"),
        (["arrays", 0, "name"], "", "expected a name in one of"),
        (["arrays", 0, "name"], 5, "expected a name in one of"),
        (["arrays", 0, "name"], "z", "strictly increasing order"),
        (["arrays", 1, "name"], "dense/bias", "strictly increasing order"),
        (["arrays", 1, "section"], "optimizer", "strictly increasing order"),
        (["arrays", 0, "dtype"], "object", "dtype: expected one of"),
        (["arrays", 0, "dtype"], [], "dtype: expected one of"),
        (["arrays", 0, "dtype"], "float64", "does not take 12 bytes"),
        (["arrays", 0, "shape"], [4], "does not take 12 bytes"),
        (["arrays", 0, "shape"], [-3], "expected an integer from 0"),
        (["arrays", 0, "shape"], [3.0], "expected an integer from 0"),
        (["arrays", 0, "shape"], [True], "expected an integer from 0"),
        (["arrays", 0, "shape"], 3, "expected a list"),
        (["arrays", 0, "shape"], [1] * 33, "not the msgpack that the format allows"),
        (["arrays", 0, "shape"], [2] * 32 + [], "does not take 12 bytes"),
        (["arrays", 0, "shape"], [2**52] * 32, "larger than any array"),
        (["arrays", 5, "shape"], [0, 2**52, 2**52], "larger than any array"),
        (["arrays", 0, "size"], 2**60, "expected an integer from 0"),
        (["arrays", 0, "offset"], 1, "is not where the array before it ends"),
        (["arrays", 1, "offset"], 0, "is not where the array before it ends"),
        (["arrays", 1, "offset"], 16, "is not where the array before it ends"),
        (["arrays", 0, "sha256"], b"", "32 bytes for each piece"),
        (["arrays", 0, "sha256"], "0" * 32, "32 bytes for each piece"),
        (["arrays", 5, "sha256"], bytes(32), "32 bytes for each piece"),
        (["chronicle_offset"], [1, 2, 3], "chronicle_offset: expected the keys"),
        (["chronicle_offset", "bytes"], -1, "chronicle_offset.bytes: expected an integer"),
        (["chronicle_offset", "records"], None, "chronicle_offset.records: expected an integer"),
        (["chronicle_offset", "head"], "45" * 31, "chronicle_offset.head: expected 64"),
        (["config_hash"], "AB" * 32, "config_hash: expected 64"),
        (["dataset_state"], b"1" * 64, "dataset_state: expected 64"),
        (["run_hash"], None, "run_hash: expected 64"),
        (["previous"], "", "previous: expected 64"),
        (["rng_state"], [2**32], "rng_state: expected an integer"),
        (["seed"], "7", "seed: expected an integer"),
        (["step"], 4.0, "step: expected an integer"),
        (["step"], 2**53, "step: expected an integer"),
        (["epoch_index"], False, "epoch_index: expected an integer"),
        (["step"], msgpack.ExtType(5, b"1"), "not the msgpack that the format allows"),
        (["step"], msgpack.ExtType(5, b""), "not the msgpack that the format allows|expected an integer"),
        (["step"], msgpack.Timestamp(0), "not the msgpack that the format allows"),
        (["step"], "x" * 1025, "not the msgpack that the format allows"),
        (["step"], list(range(MAX_ARRAYS + 1)), "not the msgpack that the format allows"),
    ],
)
def test_a_header_with_a_valid_hash_and_a_bad_value_is_refused(
    tmp_path: Path, keys: list[Any], value: Any, message: str
) -> None:
    header = header_of(write(tmp_path, make_checkpoint()))
    with pytest.raises(CorruptCheckpoint, match=message):
        read(forge(tmp_path, altered(header, keys, value)))


def test_a_value_of_any_depth_is_told_on_one_short_line(tmp_path: Path) -> None:
    header = header_of(write(tmp_path, make_checkpoint()))
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    for keys in (["arrays", 0], ["arrays", 0, "name"], ["step"], ["chronicle_offset"], ["chronicle_offset", "head"]):
        with pytest.raises(CorruptCheckpoint, match=r"expected .*found .*a list of 1") as raised:
            read(forge(tmp_path, altered(copy.deepcopy(header), keys, deep)))
        assert len(str(raised.value).replace(str(tmp_path), "")) < 500


@pytest.mark.parametrize("key", ["arrays", "chronicle_offset", "previous", "step"])
def test_a_missing_key_is_refused(tmp_path: Path, key: str) -> None:
    header = header_of(write(tmp_path, make_checkpoint()))
    del header[key]
    with pytest.raises(CorruptCheckpoint, match="the top level: expected the keys"):
        read(forge(tmp_path, msgpack.packb(header)))


def test_bytes_that_are_not_canonical_are_refused(tmp_path: Path) -> None:
    honest = msgpack.packb(header_of(write(tmp_path, make_checkpoint())))
    seed, step = msgpack.packb("seed"), msgpack.packb("step")
    longer = honest.replace(seed + b"\x07", seed + b"\xcc\x07")
    longer_map = bytes([honest[0] + 1]) + honest[1:] + step + b"\x04"
    twice = honest.replace(b"\x87\xa5dtype", b"\x88\xa5dtype\xa1x\xa5dtype")
    swapped = honest.replace(seed + b"\x07" + step + b"\x04", step + b"\x04" + seed + b"\x07")
    assert len({honest, longer, longer_map, twice, swapped}) == 5
    for header, message in (
        (longer, "not canonical"),
        (longer_map, "the top level: expected the keys"),
        (twice, "duplicate key"),
        (swapped, "the top level: expected the keys"),
        (honest + b"\0", "not canonical"),
        (honest[:-1], "not the msgpack"),
        (b"", "not the msgpack"),
        (b"\xc1", "not the msgpack"),
        (b"\x91" * 5000, "not the msgpack"),
        (b"\x81\xa1x" * 5000 + b"\x01", "the top level: expected the keys"),
        (b"\xdd\xff\xff\xff\xff", "not the msgpack"),
        (b"\xdf\xff\xff\xff\xff", "the top level: expected the keys"),
        (b"\xa2\xff\xff", "not the msgpack"),
        (b"\x81\x01\x02", "the top level: expected the keys"),
        (b"\x90", "the top level: is not the msgpack"),
    ):
        with pytest.raises(CorruptCheckpoint, match=message):
            read(forge(tmp_path, header))


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, MAX_HEADER_BYTES + 1, 10**6])
def test_a_header_length_past_the_limit_or_the_end_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(CorruptCheckpoint, match="header: expected at most"):
        read(forge(tmp_path, b"\x80", length=length))


LIST = b"\xdd\x00\x00\x40\x00"  # of 16,384 elements
ARRAYS = b"\x8a\xa6arrays"
TREE = functools.reduce(lambda below, _: b"\xdc\x00\x20" + below * 32, range(4), b"\x90")  # a million empty lists


@pytest.mark.parametrize("before", [b"", ARRAYS, ARRAYS + LIST, ARRAYS + b"\x91\x87\xa5dtype"])
@pytest.mark.parametrize(
    "attack",
    [
        LIST * 3_000_000,
        (LIST + b"\x90" * 16_383) * 1000,
        (LIST + b"\xa2xy" * 16_383) * 340,  # unpacked at once, 400 MB
        (b"\xdc\x00\x20" + b"\xa2xy" * 31) * 160_000,
        (b"\x9f" + b"\x9f" + b"\x9f\x01") * 1_000_000,
        b"\x91" * (16 << 20),
        (b"\x87" + b"\xa0\x80") * 5_000_000,
        b"\xc6\x00\xff\xff\xff" * 3_000_000,
        b"\xdc\x00\x20" + TREE * 3,
    ],
    ids=["announced", "empty lists", "strings", "short lists", "wide", "deep", "maps", "binaries", "a tree"],
)
def test_a_hostile_header_gets_little_memory(tmp_path: Path, before: bytes, attack: bytes) -> None:
    path = forge(tmp_path, (before + attack)[:MAX_HEADER_BYTES])
    del attack
    tracemalloc.start()
    try:
        with pytest.raises(CorruptCheckpoint, match="header: ") as raised:
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(raised.value)) < 600
    assert peak < 4 * MAX_HEADER_BYTES


def test_a_million_arrays_are_refused_before_the_first_is_read(tmp_path: Path) -> None:
    empty = msgpack.packb(header_of(write(tmp_path, make_checkpoint()))["arrays"][5])
    with pytest.raises(CorruptCheckpoint, match=f"arrays: expected at most {MAX_ARRAYS}, found 131072"):
        read(forge(tmp_path, ARRAYS + b"\xdd\x00\x02\x00\x00" + empty * 131_072))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\u202e", "x" * 1024])
def test_a_hostile_name_is_told_on_one_short_line(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, make_checkpoint(model_state={name: np.ones(3, np.float32)}, optimizer_state={}))
    assert list(read(path).model_state) == [name]
    damaged = path.read_bytes()[:-1] + b"\xff"
    path.write_bytes(damaged)
    with pytest.raises(CorruptCheckpoint, match="piece 1 of 1 does not have its SHA-256") as payload:
        read(path)
    header = header_of(path)
    with pytest.raises(CorruptCheckpoint, match="dtype: expected one of") as entry:
        read(forge(tmp_path, altered(header, ["arrays", 0, "dtype"], name)))
    for raised in (payload, entry):
        message = str(raised.value).replace(str(tmp_path), "")
        assert message.isprintable()
        assert len(message) < 500
