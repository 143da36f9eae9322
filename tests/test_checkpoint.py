import dataclasses
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import msgpack
import numpy as np
import pytest
from store_samples import fail_on, flip, make_checkpoint, record_calls

from crh_train import checkpoint_file
from crh_train.checkpoint import Checkpoint, checkpoint_hash, read, write
from crh_train.checkpoint_file import read_header
from crh_train.checkpoint_header import DTYPES, PIECE_BYTES, dtype_named, parse_name
from crh_train.errors import CorruptCheckpoint, StorageFailed

PREFIX_BYTES = 52


def same_bits(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    return list(left) == sorted(right) and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].tobytes() == right[name].tobytes()
        for name in right
    )


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
        ({"model_state": {"\ud800": KERNEL}}, "cannot be stored"),
        ({"step": -1}, "step: expected an integer"),
        ({"step": 2**64}, "cannot be stored"),
        ({"config_hash": "short"}, "config_hash: expected 64"),
    ],
)
def test_nothing_is_written_that_could_not_be_read(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=message):
        write(tmp_path, make_checkpoint(**change))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["other bytes", "link", "pipe", "folder", "damaged payload"])
def test_what_is_in_the_way_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, make_checkpoint())
    whole = path.read_bytes()
    path.rename(tmp_path / "elsewhere")
    match kind:
        case "other bytes":
            path.write_bytes(b"other")
        case "link":
            path.symlink_to(tmp_path / "elsewhere")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "damaged payload":
            path.write_bytes(whole[:-1] + b"\xff")
    before = path.lstat()
    with pytest.raises(CorruptCheckpoint, match="is there already, with other bytes"):
        write(tmp_path, make_checkpoint())
    assert path.lstat() == before
    assert sorted(os.listdir(tmp_path)) == sorted([path.name, "elsewhere"])


@pytest.mark.parametrize("cores", [1, 3])
def test_the_cores_that_a_process_may_use_do_not_change_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    sample = make_checkpoint(model_state={"x": np.arange(PIECE_BYTES + 1, dtype=np.uint8)})
    whole = write(tmp_path, sample).read_bytes()
    (tmp_path / "few").mkdir()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert checkpoint_file.thread_pool()._max_workers == cores
    path = write(tmp_path / "few", sample)
    assert path.read_bytes() == whole
    assert read(path).model_state["x"].tobytes() == sample.model_state["x"].tobytes()


@pytest.mark.parametrize("operation", ["write", "write_at", "fsync", "rename_new"])
def test_a_refusing_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    fail_on(monkeypatch, operation)
    with pytest.raises(StorageFailed):
        write(tmp_path, make_checkpoint())
    assert os.listdir(tmp_path) == []


def test_order_of_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = ("create_exclusive", "write", "write_at", "fsync", "rename_new", "fsync_folder")
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
    assert (checkpoint_file.MAGIC, checkpoint_file.VERSION, PIECE_BYTES) == (b"CRHCHK\r\n", 1, 4 * 1024 * 1024)
