"""A checkpoint file as bytes that nobody vouches for: every one checked, none but the header's interpreted.

The format stands in `checkpoint.py`. Whatever is wrong is one `CorruptCheckpoint`, which names the file and the place
in it. Of the payload nothing is read, and no memory is taken for it, before the header has its hash and the file the
size that the header states.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from crh_train.checkpoint_header import (
    DIGEST_BYTES,
    MAX_HEADER_BYTES,
    PIECE_BYTES,
    CheckpointHeader,
    piece_count,
    unpack,
)
from crh_train.cores import thread_pool
from crh_train.errors import CorruptCheckpoint
from crh_train.regular_file import opened_regular

MAGIC = b"CRHCHK\r\n"
VERSION = 1
PREFIX = struct.Struct("<8sIQ32s")

_ADVICE = "do not use this file; `crh-train verify` on its run names the newest good checkpoint"


def with_prefix(packed: bytes) -> bytes:
    """What stands before the payload, for a header of these bytes."""
    return PREFIX.pack(MAGIC, VERSION, len(packed), sha256(packed)) + packed


def sha256(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def read_header(path: Path) -> CheckpointHeader:
    """The header at `path`, checked against its hash and the file's name; the payload is not read.

    Raises `CorruptCheckpoint`.
    """
    with opened_regular(path, CorruptCheckpoint) as (descriptor, size):
        return _read_header(path, descriptor, size)[0]


def check(path: Path) -> CheckpointHeader:
    """The header at `path`, every byte of the file checked, in 4 MiB of memory a core. Raises `CorruptCheckpoint`."""
    with opened_regular(path, CorruptCheckpoint) as (descriptor, size):
        header, start = _read_header(path, descriptor, size)
        _expect_memory(path, size)
        _check_payload(path, descriptor, header, start, lambda _, begin, end: np.empty(end - begin, np.uint8).data)
        return header


def read(path: Path) -> tuple[CheckpointHeader, Sequence[np.ndarray]]:
    """The header at `path` and the bytes of each array, every byte of the file checked. Raises `CorruptCheckpoint`.

    The bytes that are hashed are the bytes that are returned: they are read once, into memory of our own, and so the
    file can change meanwhile without harm.
    """
    with opened_regular(path, CorruptCheckpoint) as (descriptor, size):
        header, start = _read_header(path, descriptor, size)
        _expect_memory(path, size)
        payload = [np.empty(entry.size, np.uint8) for entry in header.arrays]
        _check_payload(path, descriptor, header, start, lambda index, begin, end: payload[index].data[begin:end])
        return header, payload


def _read_header(path: Path, descriptor: int, size: int) -> tuple[CheckpointHeader, int]:
    """The header and where the payload begins."""
    prefix = os.pread(descriptor, PREFIX.size, 0)
    if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
        raise CorruptCheckpoint(
            f"{path}: expected a checkpoint, found a file of {size} bytes that begins {prefix[:8]!r}"
        )
    _, version, length, digest = PREFIX.unpack(prefix)
    if version != VERSION:
        raise CorruptCheckpoint(
            f"{path}: expected format version {VERSION}, found {version}; use the crh-train that wrote it"
        )
    if length > min(MAX_HEADER_BYTES, size - PREFIX.size):
        raise CorruptCheckpoint(
            f"{path}: header: expected at most {MAX_HEADER_BYTES} bytes inside a file of {size}, "
            f"found {length}; {_ADVICE}"
        )
    packed = os.pread(descriptor, length, PREFIX.size)
    if hashlib.sha256(packed).digest() != digest:
        raise CorruptCheckpoint(f"{path}: header: does not have its SHA-256; {_ADVICE}")
    try:
        header = unpack(packed)
    except ValueError as error:
        raise CorruptCheckpoint(f"{path}: header: {error}; {_ADVICE}") from error
    start = PREFIX.size + length
    expected = start + sum(entry.size for entry in header.arrays)
    if size != expected:
        raise CorruptCheckpoint(f"{path}: expected {expected} bytes, found {size}; {_ADVICE}")
    if path.name != header.file_name:
        raise CorruptCheckpoint(
            f"{path}: the content belongs under the name {header.file_name}; if only the name "
            "was changed, change it back"
        )
    return header, start


def _expect_memory(path: Path, size: int) -> None:
    """Refuse what cannot be loaded on this machine: a sparse file of a terabyte, which takes no disk and whose hashes
    can all be right, would else be read for minutes and end in the death of whichever process is the largest."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > memory:
        raise CorruptCheckpoint(
            f"{path}: expected at most {memory} bytes, the memory of this machine, found {size}; "
            "if it is meant to be so large, use a machine with more memory"
        )


def _check_payload(
    path: Path,
    descriptor: int,
    header: CheckpointHeader,
    start: int,
    buffer: Callable[[int, int, int], memoryview],  # array, begin and end of the piece in it -> where to read it to
) -> None:
    pieces = [(i, begin) for i, entry in enumerate(header.arrays) for begin in range(0, entry.size, PIECE_BYTES)]

    def good(piece: tuple[int, int]) -> bool:
        index, begin = piece
        entry = header.arrays[index]
        view = buffer(index, begin, min(begin + PIECE_BYTES, entry.size))
        got = os.preadv(descriptor, [view], start + entry.offset + begin)
        expected = entry.sha256[begin // PIECE_BYTES * DIGEST_BYTES :][:DIGEST_BYTES]
        return got == len(view) and sha256(view) == expected

    with thread_pool() as pool:
        for (index, begin), is_good in zip(pieces, pool.map(good, pieces), strict=True):
            if not is_good:
                pool.shutdown(cancel_futures=True)
                entry = header.arrays[index]
                raise CorruptCheckpoint(
                    f"{path}: {entry.section} array {entry.name!r:.80}: piece {begin // PIECE_BYTES + 1} of "
                    f"{piece_count(entry.size)} does not have its SHA-256; {_ADVICE}"
                )
