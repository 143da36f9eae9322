"""Bytes that change after they were written: bits flipped, files cut, pages zeroed, bytes appended. Each such change of
a checkpoint must be refused by its reader with one error, each of a chronicle told by `verify` as damage of that file.
"""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from crh_train import checkpoint, checkpoint_file
from crh_train.checkpoint import Checkpoint
from crh_train.checkpoint_header import PIECE_BYTES
from crh_train.chronicle import CHAIN_NAME, CHAIN_RECORD, LINES_NAME, SUM_BYTES, SUMS_NAME, genesis
from crh_train.errors import CorruptCheckpoint
from crh_train.run_folder import RunFolder
from crh_train.verification import verify_run
from faults.row import Row, row
from faults.session import NAME, Way, go_on

_PAGE = 4096
_WINDOW = 64  # bytes; a chronicle of a few lines has no whole page

Find = Callable[[], str | None]
"""What the reader says is wrong with the damaged file, or None."""


def damage(folder: Path, flips: int) -> list[Row]:
    """All kinds, in a new folder; `flips` random flips of one bit in a checkpoint and in each file of a chronicle."""
    folder.mkdir(parents=True)
    return [*_of_a_checkpoint(folder, flips), *_of_a_chronicle(folder, flips)]


# --- checkpoints ---------------------------------------------------------------------------------------------------


def _of_a_checkpoint(folder: Path, flips: int) -> list[Row]:
    path = checkpoint.write(folder, _state())
    size, start = path.stat().st_size, _payload_start(path)
    header = checkpoint_file.read_header(path)
    boundaries = {0, checkpoint_file.PREFIX.size, start, size}
    for entry in header.arrays:
        boundaries |= {start + entry.offset + begin for begin in range(0, entry.size, PIECE_BYTES)}
    find = partial(_refused, path)
    bits, pages = random.Random(0), range(start, size, _PAGE)
    return [
        _flips("checkpoint: random bits flipped", path, (bits.randrange(8 * size) for _ in range(flips)), find),
        _flips("checkpoint: every bit of prefix and header flipped", path, range(8 * start), find),
        _cuts("checkpoint: cut at every boundary ± 1", path, boundaries, find),
        _zeros(
            "checkpoint: pages zeroed", path, [(begin, _PAGE) for begin in pages[:: max(1, len(pages) // 100)]], find
        ),
        _appends("checkpoint: bytes appended", path, find),
    ]


def _state() -> Checkpoint:
    """Two small arrays and one of two pieces, nowhere zero for a page."""
    numbers = np.arange(PIECE_BYTES // 4 + 1000, dtype=np.uint32) | np.uint32(1)
    return Checkpoint(
        model_state={"bias": np.arange(1, 6, dtype=np.float32), "kernel": numbers},
        optimizer_state={"count": np.array(4, np.int32), "empty": np.zeros((0, 3), np.float32)},
        rng_state=np.array([0, 7], np.uint32),
        step=4,
        epoch_index=2,
        config_hash="01" * 32,
        dataset_state="23" * 32,
        run_hash="ab" * 32,
        seed=7,
        chronicle_offset=genesis("ab" * 32),
        previous=None,
    )


def _payload_start(path: Path) -> int:
    with path.open("rb") as stream:
        length: int = checkpoint_file.PREFIX.unpack(stream.read(checkpoint_file.PREFIX.size))[2]
    return checkpoint_file.PREFIX.size + length


def _refused(path: Path) -> str | None:
    try:
        checkpoint.read(path)
    except CorruptCheckpoint as error:
        return str(error)
    return None


# --- chronicles ----------------------------------------------------------------------------------------------------


def _of_a_chronicle(folder: Path, flips: int) -> list[Row]:
    """In a finished run, where there is no crash to blame for anything."""
    go_on(folder, Way(), lambda _: None)
    run = RunFolder(folder / NAME)
    rows: list[Row] = []
    for name, record in ((LINES_NAME, None), (CHAIN_NAME, CHAIN_RECORD.size), (SUMS_NAME, SUM_BYTES)):
        path = run.path / name
        data, find, bits = path.read_bytes(), partial(_told, run, name), random.Random(0)
        if record is None:
            boundaries = {0, *(at + 1 for at, byte in enumerate(data) if byte == ord("\n"))}
        else:
            boundaries = set(range(0, len(data) + 1, record))
        windows = [(begin, _WINDOW) for begin in range(0, len(data), _WINDOW)]
        rows += [
            _flips(f"{name}: random bits flipped", path, (bits.randrange(8 * len(data)) for _ in range(flips)), find),
            _cuts(f"{name}: cut at every boundary ± 1", path, boundaries, find),
            _zeros(f"{name}: {_WINDOW} bytes zeroed", path, windows, find),
            _appends(f"{name}: bytes appended", path, find),
        ]
    return rows


def _told(run: RunFolder, name: str) -> str | None:
    """A line and its record contradict one another, and which of the two was changed cannot be known from them."""
    places = {LINES_NAME: (LINES_NAME, SUMS_NAME), CHAIN_NAME: (CHAIN_NAME, LINES_NAME), SUMS_NAME: (SUMS_NAME,)}[name]
    found = verify_run(run).findings
    return next((each.message for each in found if each.severity == "damage" and each.place in places), None)


# --- kinds of damage -----------------------------------------------------------------------------------------------


def _flips(fault: str, path: Path, bits: Iterable[int], find: Find) -> Row:
    def change(bit: int) -> None:
        _overwrite(path, bit // 8, lambda before: bytes([before[0] ^ 1 << bit % 8]), 1)

    return _tried(fault, path, [(f"bit {bit}", partial(change, bit)) for bit in bits], find)


def _cuts(fault: str, path: Path, boundaries: Iterable[int], find: Find) -> Row:
    size = path.stat().st_size
    sizes = sorted({at + shift for at in boundaries for shift in (-1, 0, 1) if 0 <= at + shift < size})
    return _tried(fault, path, [(f"to {each} bytes", partial(os.truncate, path, each)) for each in sizes], find)


def _zeros(fault: str, path: Path, windows: Iterable[tuple[int, int]], find: Find) -> Row:
    def change(begin: int, length: int) -> None:
        _overwrite(path, begin, lambda before: bytes(len(before)), length)

    return _tried(
        fault,
        path,
        [(f"{length} bytes from {begin}", partial(change, begin, length)) for begin, length in windows],
        find,
    )


def _appends(fault: str, path: Path, find: Find) -> Row:
    def change(data: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(data)

    more = (b"\0", b"x", b"\n", bytes(_PAGE), path.read_bytes()[:_PAGE], path.read_bytes())
    return _tried(fault, path, [(f"{len(data)} bytes", partial(change, data)) for data in more], find)


def _tried(fault: str, path: Path, changes: Sequence[tuple[str, Callable[[], None]]], find: Find) -> Row:
    """Each change made, looked for, and taken back."""
    data, cases = path.read_bytes(), []
    undamaged = find()
    assert undamaged is None, undamaged
    for what, change in changes:
        change()
        found = find()
        cases.append([f"{what}: not found"] if found is None else [f"{what}: {found!r}"] * ("\n" in found))
        with path.open("r+b") as stream:
            stream.truncate(len(data))
            stream.write(data)
    return row(fault, cases, "each found, told in one line")


def _overwrite(path: Path, begin: int, new: Callable[[bytes], bytes], length: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(begin)
        before = stream.read(length)
        stream.seek(begin)
        stream.write(new(before))
