"""A checkpoint's header: what it says, its bytes, and reading it from bytes that nobody vouches for.

The format stands in `checkpoint.py`, points 2 to 6. Nothing here opens a file.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack
import numpy as np

from crh_train.bounded_msgpack import BoundedValues
from crh_train.chronicle import ChronicleOffset
from crh_train.digest import digest_json

SECTIONS = ("model", "optimizer")
PIECE_BYTES = 4 << 20
DIGEST_BYTES = 32
MAX_HEADER_BYTES = 16 << 20
MAX_ARRAYS = 16_384
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 32
MAX_INTEGER = 2**53 - 1  # what canonical JSON can hold
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
)

_MAX_ITEMS = 16 * MAX_ARRAYS  # list elements, map entries and containers in a header
_NAME = re.compile(r"e(\d{5,})-s(\d{8,})-([0-9a-f]{64})\.chk", re.ASCII)
_SHOWN_CHARACTERS = 80
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ArrayEntry:
    """Where an array stands in the payload, and what it is."""

    dtype: str
    name: str
    offset: int  # bytes from the payload's start
    section: str
    sha256: bytes
    shape: Sequence[int]
    size: int  # bytes


@dataclass(frozen=True, kw_only=True)
class CheckpointHeader:
    """A checkpoint without its arrays. The fields are the header's keys, in the order in which they are stored."""

    arrays: Sequence[ArrayEntry]
    chronicle_offset: ChronicleOffset
    config_hash: str
    dataset_state: str
    epoch_index: int
    previous: str | None
    rng_state: Sequence[int]
    run_hash: str
    seed: int
    step: int

    @functools.cached_property
    def hash(self) -> str:
        """The checkpoint's hash, as the module's docstring defines it."""
        listed: dict[str, list[list[Any]]] = {section: [] for section in SECTIONS}
        for entry in self.arrays:
            listed[entry.section].append([entry.name, entry.dtype, list(entry.shape), entry.sha256.hex()])
        rng = {"epoch_index": self.epoch_index, "rng_state": list(self.rng_state), "step": self.step}
        return digest_json({"config": self.config_hash, **listed, "rng": rng})

    @property
    def file_name(self) -> str:
        return CheckpointName(self.epoch_index, self.step, self.hash).text


class CheckpointName(NamedTuple):
    """What a checkpoint's file name says. Sorts by progress."""

    epoch_index: int
    step: int
    hash: str

    @property
    def text(self) -> str:
        return f"e{self.epoch_index:05d}-s{self.step:08d}-{self.hash}.chk"


def parse_name(name: str) -> CheckpointName | None:
    """What the file name `name` says, or None for a name that no checkpoint has."""
    if (match := _NAME.fullmatch(name)) is None:
        return None
    parsed = CheckpointName(int(match[1]), int(match[2]), match[3])
    return parsed if name == parsed.text else None


_HEADER_KEYS = tuple(field.name for field in dataclasses.fields(CheckpointHeader))
_ENTRY_KEYS = tuple(field.name for field in dataclasses.fields(ArrayEntry))
_OFFSET_KEYS = tuple(sorted(ChronicleOffset._fields))


# --- bytes ---------------------------------------------------------------------------------------------------------


def piece_count(size: int) -> int:
    """Pieces of an array of `size` bytes."""
    return -(-size // PIECE_BYTES)


def pack(header: CheckpointHeader) -> bytes:
    """The header's canonical bytes."""
    fields = {name: getattr(header, name) for name in _HEADER_KEYS}
    fields["arrays"] = [{name: getattr(entry, name) for name in _ENTRY_KEYS} for entry in header.arrays]
    fields["chronicle_offset"] = {name: getattr(header.chronicle_offset, name) for name in _OFFSET_KEYS}
    packed: bytes = msgpack.packb(fields, use_bin_type=True)
    return packed


def unpack(packed: bytes) -> CheckpointHeader:
    """The header in `packed`; `ValueError` says what is wrong with it."""
    if len(packed) > MAX_HEADER_BYTES:
        raise ValueError(f"expected at most {MAX_HEADER_BYTES} bytes, found {len(packed)}")
    header = _header(
        BoundedValues(packed, max_items=_MAX_ITEMS, max_length=MAX_DIMENSIONS, max_text_bytes=MAX_NAME_BYTES)
    )
    if pack(header) != packed:
        raise ValueError("is not canonical msgpack")
    return header


def _header(values: BoundedValues) -> CheckpointHeader:
    if values.enter_map("the top level") != len(_HEADER_KEYS):
        raise ValueError(f"the top level: expected the keys {', '.join(_HEADER_KEYS)}")
    document: dict[str, Any] = {}
    for key in _HEADER_KEYS:
        if (found := values.next("a key")) != key:
            raise ValueError(f"the top level: expected the keys {', '.join(_HEADER_KEYS)}, found {_shown(found)}")
        document[key] = _arrays(values) if key == "arrays" else values.next(key)
    offset = document["chronicle_offset"]
    _expect_keys(offset, _OFFSET_KEYS, "chronicle_offset")
    return CheckpointHeader(
        arrays=document["arrays"],
        chronicle_offset=ChronicleOffset(
            _integer(offset["bytes"], "chronicle_offset.bytes"),
            _integer(offset["records"], "chronicle_offset.records"),
            _digest(offset["head"], "chronicle_offset.head"),
        ),
        config_hash=_digest(document["config_hash"], "config_hash"),
        dataset_state=_digest(document["dataset_state"], "dataset_state"),
        epoch_index=_integer(document["epoch_index"], "epoch_index"),
        previous=None if document["previous"] is None else _digest(document["previous"], "previous"),
        rng_state=_integers(document["rng_state"], "rng_state", 2**32 - 1),
        run_hash=_digest(document["run_hash"], "run_hash"),
        seed=_integer(document["seed"], "seed"),
        step=_integer(document["step"], "step"),
    )


def _arrays(values: BoundedValues) -> list[ArrayEntry]:
    if (length := values.enter_list("arrays")) > MAX_ARRAYS:
        raise ValueError(f"arrays: expected at most {MAX_ARRAYS}, found {length}")
    arrays: list[ArrayEntry] = []
    for number in range(length):
        where = f"arrays[{number}]"
        arrays.append(_array_entry(values.next(where), where, arrays[-1] if arrays else None))
    return arrays


def _array_entry(item: Any, where: str, before: ArrayEntry | None) -> ArrayEntry:
    _expect_keys(item, _ENTRY_KEYS, where)
    section, name, dtype, sha256 = (item[key] for key in ("section", "name", "dtype", "sha256"))
    if section not in SECTIONS or not isinstance(name, str) or not name:
        raise ValueError(f"{where}: expected a name in one of {SECTIONS}, found {_shown(section)}, {_shown(name)}")
    where = f"{where} {_shown(name)}"
    if dtype not in DTYPES:
        raise ValueError(f"{where}: dtype: expected one of {', '.join(DTYPES)}, found {_shown(dtype)}")
    if before is not None and (before.section, before.name) >= (section, name):
        raise ValueError(f"{where}: expected arrays in strictly increasing order, it comes after {_shown(before.name)}")
    shape = _integers(item["shape"], f"{where}: shape", MAX_INTEGER)
    size, offset = _integer(item["size"], f"{where}.size"), _integer(item["offset"], f"{where}.offset")
    if math.prod(max(axis, 1) for axis in shape) > MAX_INTEGER:
        raise ValueError(f"{where}: shape {shape} is larger than any array")
    if size != math.prod(shape) * dtype_named(dtype).itemsize:
        raise ValueError(f"{where}: {dtype}{shape} does not take {size} bytes")
    if offset != (0 if before is None else before.offset + before.size):
        raise ValueError(f"{where}: its offset {offset} is not where the array before it ends")
    if not isinstance(sha256, bytes) or len(sha256) != DIGEST_BYTES * piece_count(size):
        raise ValueError(f"{where}: sha256: expected {DIGEST_BYTES} bytes for each piece")
    return ArrayEntry(dtype=dtype, name=name, offset=offset, section=section, sha256=sha256, shape=shape, size=size)


def _expect_keys(document: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(document, dict) or tuple(document) != keys:
        raise ValueError(f"{where}: expected the keys {', '.join(keys)}, found {_shown(document)}")


def _integer(value: Any, where: str, maximum: int = MAX_INTEGER) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise ValueError(f"{where}: expected an integer from 0 to {maximum}, found {_shown(value)}")
    return value


def _integers(value: Any, where: str, maximum: int) -> list[int]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, found {_shown(value)}")
    return [_integer(element, where, maximum) for element in value]


def _digest(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ValueError(f"{where}: expected 64 hexadecimal digits, found {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    """`value` in few characters on one line, whatever it holds: a list may hold lists without end."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a map of {', '.join(map(_shown, value)):.80}"
    return f"{value[:_SHOWN_CHARACTERS] if isinstance(value, str | bytes) else value!r:.80}"


def dtype_named(name: str) -> np.dtype[Any]:
    """The little-endian dtype of one of `DTYPES`."""
    if name == "bfloat16":
        import ml_dtypes  # comes with JAX, and few checkpoints need it

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name).newbyteorder("<")
