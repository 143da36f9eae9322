import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from store_samples import fail_on, flip, make_checkpoint, record_calls

from crh_train import checkpoint
from crh_train.checkpoint import Checkpoint, checkpoint_hash, read, read_header, write
from crh_train.checkpoint_header import DTYPES, MAX_ARRAYS, MAX_HEADER_BYTES, PIECE_BYTES, dtype_named, parse_name
from crh_train.errors import CorruptCheckpoint, StorageFailed

PREFIX_BYTES = 52


def same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return list(left) == sorted(right) and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].tobytes() == right[name].tobytes()
        for name in right
    )


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return msgpack.unpackb(data[PREFIX_BYTES : PREFIX_BYTES + struct.unpack("<Q", data[12:20])[0]])


# --- what is written is what is read -------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    sample = make_checkpoint(previous="67" * 32)
    found = read(write(tmp_path, sample))
    assert same_bits(found.model_state, sample.model_state)
    assert same_bits(found.optimizer_state, sample.optimizer_state)
    assert found.rng_state.dtype == np.uint32
    assert found.rng_state.tolist() == [0, 7]
    for field in dataclasses.fields(sample):
        if not field.name.endswith("_state") or field.name == "dataset_state":
            assert getattr(found, field.name) == getattr(sample, field.name)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_every_dtype_and_shape_comes_back_bit_for_bit(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    dtype = dtype_named(name)
    pattern = np.arange(np.prod(shape, dtype=int) * dtype.itemsize, dtype=np.uint8) % (2 if name == "bool" else 255)
    array = pattern.view(dtype).reshape(shape)
    found = read(write(tmp_path, make_checkpoint(model_state={"x": array})))
    assert same_bits(dict(found.model_state), {"x": array})


def test_memory_layout_and_byte_order_do_not_change_the_file(tmp_path: Path) -> None:
    plain = np.arange(6, dtype="<f4").reshape(2, 3)
    names = {
        write(tmp_path, make_checkpoint(model_state={"x": x}))
        for x in (plain, np.asfortranarray(plain), plain.astype(">f4"))
    }
    assert len(names) == 1


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        folder.mkdir()
    backwards = dict(reversed(make_checkpoint().model_state.items()))
    first, second = write(folders[0], make_checkpoint()), write(folders[1], make_checkpoint(model_state=backwards))
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_saving_again_what_was_saved_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint())
    before = path.stat()
    assert write(tmp_path, make_checkpoint()) == path
    assert path.stat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == [path.name]


def test_golden_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint())
    data = path.read_bytes()
    assert path.name == "e00002-s00000004-6cd0e96149c3d79b67b879e6c179580edda24201a7607389397cf4d806ca6b33.chk"
    assert data[:12] == b"CRHCHK\r\n\x01\x00\x00\x00"
    assert hashlib.sha256(data).hexdigest() == "720877744b134eb03a680b2cf9b740361351b0200ce6d76162ac41549da6781a"


def test_the_layout_is_the_documented_one(tmp_path: Path) -> None:
    sample = make_checkpoint()
    data = write(tmp_path, sample).read_bytes()
    (length,) = struct.unpack("<Q", data[12:20])
    header = data[PREFIX_BYTES : PREFIX_BYTES + length]
    assert data[20:52] == hashlib.sha256(header).digest()
    payload = data[PREFIX_BYTES + length :]
    assert payload == b"".join(
        state[name].tobytes() for state in (sample.model_state, sample.optimizer_state) for name in sorted(state)
    )
    entries = msgpack.unpackb(header)["arrays"]
    assert [entry["name"] for entry in entries] == [
        *("dense/bias", "dense/kernel", "count", "mask", "mu/dense/kernel", "nothing")
    ]
    for entry in entries:
        piece = payload[entry["offset"] : entry["offset"] + entry["size"]]
        assert entry["sha256"] == (hashlib.sha256(piece).digest() if piece else b"")


def test_arrays_that_were_read_cannot_be_changed(tmp_path: Path) -> None:
    found = read(write(tmp_path, make_checkpoint()))
    with pytest.raises(ValueError, match="read-only"):
        found.model_state["dense/kernel"][0, 0] = 1


# --- the hash ------------------------------------------------------------------------------------------------------


def test_the_hash_is_the_documented_one() -> None:
    sample = make_checkpoint()
    document = {
        "config": sample.config_hash,
        "model": [
            ["dense/bias", "float32", [3], hashlib.sha256(sample.model_state["dense/bias"].tobytes()).hexdigest()],
            [
                "dense/kernel",
                "float32",
                [2, 3],
                hashlib.sha256(sample.model_state["dense/kernel"].tobytes()).hexdigest(),
            ],
        ],
        "optimizer": [
            ["count", "int32", [], hashlib.sha256(sample.optimizer_state["count"].tobytes()).hexdigest()],
            ["mask", "bool", [2], hashlib.sha256(b"\1\0").hexdigest()],
            ["mu/dense/kernel", "float32", [2, 3], hashlib.sha256(np.full(6, 1e-8, "<f4").tobytes()).hexdigest()],
            ["nothing", "uint8", [0, 5], ""],
        ],
        "rng": {"epoch_index": 2, "rng_state": [0, 7], "step": 4},
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert checkpoint_hash(sample) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_is_in_the_name_and_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint())
    name = parse_name(path.name)
    assert name == (2, 4, checkpoint_hash(make_checkpoint()))
    assert read_header(path).hash == name.hash
    assert checkpoint_hash(read(path)) == name.hash


def test_the_hash_does_not_depend_on_where_in_a_history_the_state_stands() -> None:
    moved = make_checkpoint(previous="67" * 32, chronicle_offset=make_checkpoint().chronicle_offset._replace(bytes=9))
    assert checkpoint_hash(moved) == checkpoint_hash(make_checkpoint())


KERNEL = make_checkpoint().model_state["dense/kernel"]


def test_every_part_of_the_state_changes_the_hash() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"model_state": {"x": KERNEL}},
        {"model_state": {"y": KERNEL}},
        {"model_state": {"x": KERNEL, "y": KERNEL}},
        {"model_state": {"x": np.nextafter(KERNEL, np.float32(9))}},
        {"model_state": {"x": KERNEL.reshape(3, 2)}},
        {"model_state": {"x": KERNEL.view(np.int32)}},
        {"model_state": {}, "optimizer_state": {"x": KERNEL}},
        {"model_state": {"x": KERNEL}, "optimizer_state": {}},
        {"rng_state": np.array([0, 8], np.uint32)},
        {"step": 5},
        {"epoch_index": 3},
        {"config_hash": "02" * 32},
    ]
    assert len({checkpoint_hash(make_checkpoint(**change)) for change in changes}) == len(changes)


def test_names_are_parsed_strictly() -> None:
    good = f"e00002-s00000004-{'0' * 64}.chk"
    assert parse_name(good) == (2, 4, "0" * 64)
    for bad in ("", good[1:], good + "x", good.upper(), good.replace("e00002", "e000002"), "../" + good, good + "\n"):
        assert parse_name(bad) is None
    many = sorted(parse_name(f"e{e}-s{s}-{'0' * 64}.chk") for e, s in (("100000", "99999999"), ("99999", "100000000")))
    assert [name.epoch_index for name in many] == [99999, 100000]


def small() -> Checkpoint:
    return make_checkpoint(model_state={"x": KERNEL}, optimizer_state={"count": np.array(4, np.int32)})


# --- damage --------------------------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, small())
    whole = path.read_bytes()
    for position in range(len(whole)):
        flip(path, position, bit=position % 8)
        with pytest.raises(CorruptCheckpoint, match=path.name):
            read(path)
        path.write_bytes(whole)
    read(path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, small())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptCheckpoint, match=path.name):
            read(path)


@pytest.mark.parametrize("more", [b"\0", b"x", b"\0" * 4096])
def test_appended_bytes_are_found(tmp_path: Path, more: bytes) -> None:
    path = write(tmp_path, make_checkpoint())
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(CorruptCheckpoint, match=r"expected \d+ bytes, found \d+"):
        read(path)


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_damage_is_located_by_array_and_piece(tmp_path: Path, size: int) -> None:
    large = np.arange(size, dtype=np.uint8)
    path = write(tmp_path, make_checkpoint(model_state={"large": large}, optimizer_state={}))
    assert read(path).model_state["large"].tobytes() == large.tobytes()
    pieces = -(-size // PIECE_BYTES)
    flip(path, path.stat().st_size - 1)
    with pytest.raises(CorruptCheckpoint, match=f"model array 'large': piece {pieces} of {pieces} does not have"):
        read(path)
    read_header(path)  # which does not look at the payload


def test_a_zeroed_page_is_found(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint(model_state={"x": np.ones(4096, np.float32)}, optimizer_state={}))
    data = bytearray(path.read_bytes())
    data[-8192:-4096] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(CorruptCheckpoint, match="'x'"):
        read(path)


def test_a_checkpoint_under_another_name_is_refused_with_its_right_name(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint())
    for name in ("best.chk", path.name.replace("e00002", "e00003"), path.name[:-5] + "0.chk"):
        with pytest.raises(CorruptCheckpoint, match=f"belongs under the name {path.name}"):
            read(path.rename(tmp_path / name))
        (tmp_path / name).rename(path)


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
        (["arrays"], {}, "arrays: expected a list"),
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
        (["arrays", 0, "shape"], [1] * 33, "larger than any array"),
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
    twice = bytes([honest[0] + 1]) + honest[1:] + step + b"\x04"
    swapped = honest.replace(seed + b"\x07" + step + b"\x04", step + b"\x04" + seed + b"\x07")
    assert len({honest, longer, twice, swapped}) == 4
    for header, message in (
        (longer, "not canonical"),
        (twice, "duplicate key"),
        (swapped, "the top level: expected the keys"),
        (honest + b"\0", "not the msgpack"),
        (honest[:-1], "not the msgpack"),
        (b"", "not the msgpack"),
        (b"\xc1", "not the msgpack"),
        (b"\x91" * 5000, "not the msgpack"),
        (b"\x81\xa1x" * 5000 + b"\x01", "not the msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not the msgpack"),
        (b"\xdf\xff\xff\xff\xff", "not the msgpack"),
        (b"\xa2\xff\xff", "not the msgpack"),
        (b"\x81\x01\x02", "not the msgpack"),
        (b"\x90", "the top level: expected the keys"),
    ):
        with pytest.raises(CorruptCheckpoint, match=message):
            read(forge(tmp_path, header))


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, MAX_HEADER_BYTES + 1, 10**6])
def test_a_header_length_past_the_limit_or_the_end_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(CorruptCheckpoint, match="header: expected at most"):
        read(forge(tmp_path, b"\x80", length=length))


@pytest.mark.parametrize(
    "header",
    [
        b"\xdc\x40\x00" * 500,  # lists in lists, each of which announces 16,384 elements
        b"\xdd\x00\x00\x10\x00" + (b"\xdd\x00\x00\x10\x00" + b"\x90" * 4096) * 4000,
        b"\xdd\x00\x00\x10\x00" + (b"\xdd\x00\x00\x10\x00" + b"\xa2xy" * 4096) * 1200,
        b"\xdd\x00\x00\x10\x00" + (b"\xdd\x00\x00\x10\x00" + b"\x81\xa0\x80" * 4096) * 1200,
    ],
    ids=["announced", "empty lists", "strings", "maps"],
)
def test_a_hostile_header_gets_little_memory(tmp_path: Path, header: bytes) -> None:
    path = forge(tmp_path, header[:MAX_HEADER_BYTES])
    tracemalloc.start()
    try:
        with pytest.raises(CorruptCheckpoint, match="not the msgpack that the format allows"):
            read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(header) + (100 << 20)


# --- refusing to write ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_state": {"x": np.array([None])}}, "expected one of bool"),
        ({"model_state": {"x": np.zeros(1, np.complex64)}}, "expected one of bool"),
        ({"model_state": {"x": np.array(["a"])}}, "expected one of bool"),
        ({"model_state": {"": KERNEL}}, "expected a name"),
        ({"model_state": {"x" * 1025: KERNEL}}, "cannot be stored"),
        ({"rng_state": np.zeros(2, np.int32)}, "expected uint32"),
        ({"rng_state": np.zeros((1, 2), np.uint32)}, "expected uint32"),
        ({"step": -1}, "step: expected an integer"),
        ({"config_hash": "short"}, "config_hash: expected 64"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=message):
        write(tmp_path, make_checkpoint(**change))
    assert os.listdir(tmp_path) == []


def test_a_file_in_the_way_is_never_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, make_checkpoint())
    path.write_bytes(b"other")
    with pytest.raises(CorruptCheckpoint, match="is there already, with other bytes"):
        write(tmp_path, make_checkpoint())
    assert path.read_bytes() == b"other"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("operation", ["write", "write_at_start", "fsync", "rename_new"])
def test_a_refusing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    fail_on(monkeypatch, operation)
    with pytest.raises(StorageFailed):
        write(tmp_path, make_checkpoint())
    assert os.listdir(tmp_path) == []


def test_order_of_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ("create_exclusive", "write", "write_at_start", "fsync", "rename_new", "fsync_folder")
    calls = record_calls(monkeypatch, order)
    write(tmp_path, make_checkpoint())
    assert tuple(dict.fromkeys(calls)) == order
    assert calls == sorted(calls, key=order.index)


def test_bfloat16_is_ml_dtypes_own(tmp_path: Path) -> None:
    array = np.array([1.5, -2], ml_dtypes.bfloat16)
    found = read(write(tmp_path, make_checkpoint(model_state={"x": array}))).model_state["x"]
    assert found.dtype == ml_dtypes.bfloat16
    assert (found == array).all()


def test_the_store_is_imported_without_anything_heavy() -> None:
    heavy = ("jax", "rich", "hydra", "omegaconf", "nibabel", "typer", "ml_dtypes", "matplotlib", "scipy")
    command = (
        f"import sys, crh_train.verification, crh_train.run_store; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_format_constants() -> None:
    """They are part of the format and of every hash: changing one is a new format version."""
    assert (checkpoint.MAGIC, checkpoint.VERSION, PIECE_BYTES) == (b"CRHCHK\r\n", 1, 4 * 1024 * 1024)
