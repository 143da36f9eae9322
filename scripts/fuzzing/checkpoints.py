"""The reader of checkpoints. What it accepts, written again, must be the same bytes under the same name."""

import math
import random
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from crh_train import checkpoint, checkpoint_file
from crh_train.checkpoint_header import DTYPES, SECTIONS, dtype_named, unpack
from crh_train.chronicle import ChronicleOffset
from crh_train.errors import CorruptCheckpoint
from fuzzing.target import Change, Target, Violation, expect_line

_VALUES = (
    *(None, True, 0, 1, -1, 0.0, 1e308, float("nan"), 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**63, 2**64 - 1),
    *(
        "",
        "x" * 1024,
        "x" * 1025,
        "a\nb\x1b[2J",
        "\U0001f600",
        b"",
        bytes(32),
        "0" * 64,
        [],
        {},
        [0],
        [[]],
        [2**52] * 3,
    ),
    *("model", "optimizer", *DTYPES, msgpack.ExtType(1, b"x"), msgpack.Timestamp(0), [1] * 33, ["x"] * 5000),
)
_NAMES = ("a", "b", "dense/kernel", "\U0001f600", "'", "a\nb")


def _sample(random: random.Random) -> bytes:
    """A checkpoint of some small arrays, as bytes."""
    states: dict[str, dict[str, np.ndarray]] = {}
    for section in SECTIONS:
        states[section] = {}
        for name in random.sample(_NAMES, random.randrange(4)):
            dtype = dtype_named(random.choice(DTYPES))
            shape = [random.randrange(4) for _ in range(random.randrange(4))]
            size = math.prod(shape) * dtype.itemsize
            data = bytes(size) if dtype == np.bool_ else random.randbytes(size)
            states[section][name] = np.frombuffer(data, dtype).reshape(shape)
    entries, payload = [], b""
    for section in SECTIONS:
        for name, array in sorted(states[section].items()):
            entries.append(_entry(section, name, array.dtype.name, list(array.shape), array.tobytes(), len(payload)))
            payload += array.tobytes()
    header = {
        "arrays": entries,
        "chronicle_offset": {"bytes": random.randrange(2**20), "head": "4" * 64, "records": 4},
        "config_hash": "01" * 32,
        "dataset_state": "23" * 32,
        "epoch_index": random.randrange(3),
        "previous": random.choice((None, "67" * 32)),
        "rng_state": [0, random.randrange(2**32)],
        "run_hash": "ab" * 32,
        "seed": 7,
        "step": random.randrange(2**20),
    }
    return checkpoint_file.with_prefix(msgpack.packb(header)) + payload


def _entry(section: str, name: str, dtype: str, shape: list[int], data: bytes, offset: int) -> dict[str, Any]:
    digest = checkpoint_file.sha256(data) if data else b""
    return {
        "dtype": dtype,
        "name": name,
        "offset": offset,
        "section": section,
        "sha256": digest,
        "shape": shape,
        "size": len(data),
    }


def mutate(data: bytes, random: random.Random, plain: Change) -> bytes:
    kind = random.randrange(8)
    start = checkpoint_file.PREFIX.size
    length = int.from_bytes(data[12:20], "little")
    header, payload = data[start : start + length], data[start + length :]
    if kind == 0:
        return _sample(random)
    if kind == 1:
        return plain(data)
    if kind == 2:  # a header that is changed anyhow, with its hash put right
        return checkpoint_file.with_prefix(plain(header)) + payload
    try:
        document = msgpack.unpackb(header, strict_map_key=False)
        if kind == 3:
            payload = plain(payload)
        else:
            _change_value(document, random)
        if random.random() < 0.5:
            _put_right(document, payload)
        packed = msgpack.packb(document)
    except (ValueError, TypeError, OverflowError, RecursionError, LookupError, AttributeError):
        return plain(data)
    return checkpoint_file.with_prefix(packed) + payload


def _change_value(document: Any, random: random.Random) -> None:
    """Go down a random path and replace, remove, double or wrap what is there."""
    while True:
        keys = list(document) if isinstance(document, dict) else range(len(document))
        key = random.choice(keys)
        below = document[key]
        if not isinstance(below, dict | list) or not below or random.random() < 0.1:
            break
        document = below
    match random.randrange(6):
        case 0:
            del document[key]
        case 1 if isinstance(document, list):
            document[key:key] = [below] * random.choice((1, 2, 20_000))
        case 2:
            for _ in range(random.choice((1, 40, 600))):
                below = [below]
            document[key] = below
        case 3 if isinstance(document, dict):
            document[random.choice(_VALUES[15:18])] = document.pop(key)
        case _:
            document[key] = random.choice(_VALUES)


def _put_right(document: Any, payload: bytes) -> None:
    """Offsets, sizes and hashes as the shapes and dtypes have them."""
    offset = 0
    for entry in document["arrays"]:
        if entry["dtype"] not in DTYPES or any(type(axis) is not int for axis in entry["shape"]):
            return
        size = math.prod(entry["shape"]) * dtype_named(entry["dtype"]).itemsize
        if not 0 <= size <= len(payload) - offset:
            return
        data = payload[offset : offset + size]
        entry.update(_entry(entry["section"], entry["name"], entry["dtype"], entry["shape"], data, offset))
        offset += size


def run(data: bytes, folder: Path) -> str | None:
    path = folder / _name(data)
    path.write_bytes(data)
    again = folder / "again"
    again.mkdir()
    try:
        try:
            value = checkpoint.read(path)
        except CorruptCheckpoint as error:
            expect_line(str(error), path)
            _expect_refused(path)
            return str(error).replace(str(path), "")
        checkpoint_file.check(path)
        if not isinstance(value.chronicle_offset, ChronicleOffset):
            raise Violation(f"expected a chronicle offset, found {value.chronicle_offset!r}")
        written = checkpoint.write(again, value)
        if written.name != path.name or written.read_bytes() != data:
            raise Violation(f"accepted, but written again it is {written.name} with other bytes")
        return None
    finally:
        for file in again.iterdir():
            file.unlink()
        again.rmdir()
        path.unlink()


def _expect_refused(path: Path) -> None:
    try:
        checkpoint_file.check(path)
    except CorruptCheckpoint:
        return
    raise Violation("read refuses what check accepts")


def _name(data: bytes) -> str:
    """The name that the content belongs under, if it can be known: without it, nothing would ever be accepted."""
    start = checkpoint_file.PREFIX.size
    try:
        return unpack(data[start : start + int.from_bytes(data[12:20], "little")]).file_name
    except ValueError:
        return "unknown.chk"


TARGET = Target([_sample(random.Random(seed)) for seed in range(20)], mutate, run)
