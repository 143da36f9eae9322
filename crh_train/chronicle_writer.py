"""Appends to a chronicle, and cuts one back to an acknowledged place. The format stands in `chronicle.py`.

Lines reach the operating system in batches, so that a step costs microseconds; they are durable, and may be pointed
to by a checkpoint, only after `sync`.
"""

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from crh_train import filesystem
from crh_train.chronicle import (
    CHAIN_NAME,
    CHAIN_RECORD,
    LINES_NAME,
    SUM_BYTES,
    SUMS_NAME,
    TAIL_NAME,
    ChronicleOffset,
    ChronicleRecord,
    StepFields,
    chain_record,
    format_line,
    line_sum,
    next_offset,
)
from crh_train.chronicle_audit import parse_tail, read_tail
from crh_train.errors import CorruptChronicle, StorageFailed
from crh_train.regular_file import opened_regular

FILES = (LINES_NAME, CHAIN_NAME, SUMS_NAME)
"""In the order in which they are written and synced."""
FLUSH_LINES = 64
FLUSH_SECONDS = 1.0
"""Lines are handed to the operating system once so many wait, or once the first has waited so long."""


class ChronicleWriter:
    """The one writer of a run's chronicle; the caller holds the run's lock. Use as a context manager.

    One thread appends and flushes; `sync` may be called by another one meanwhile.

    Args:
      folder: the run's folder; the three files exist in it.
      offset: where to go on: `genesis(run_hash)`, or a checkpoint's offset after `truncate_to`.

    Raises `CorruptChronicle` where the files do not end exactly at `offset`.
    """

    def __init__(self, folder: Path, offset: ChronicleOffset) -> None:
        if any(surplus := _surplus(folder, offset)):
            found = ", ".join(f"{size} bytes more in {name}" for name, size in zip(FILES, surplus, strict=True) if size)
            raise CorruptChronicle(
                f"{folder / LINES_NAME}: expected it to end at byte {offset.bytes}, step {offset.records}, found "
                f"{found}; recover the run first"
            )
        self._path = folder / LINES_NAME
        self._offset = offset
        self._waiting_since = 0.0
        self._failed = False
        self._files = [_Appended(folder / name) for name in FILES]

    def append(self, fields: StepFields, timestamp: float) -> None:
        """Add the next step's line; `timestamp` is seconds since the run began. Raises `CorruptChronicle` for any
        other step than the next one."""
        if fields.step != self._offset.records + 1:
            raise CorruptChronicle(
                f"{self._path}: expected step {self._offset.records + 1} next, got step {fields.step}; "
                "a chronicle has neither gaps nor duplicates, nothing was written"
            )
        line = format_line(fields, timestamp)
        self._offset = next_offset(self._offset, line)
        waiting = self._files[0].waiting
        if not waiting:
            self._waiting_since = timestamp
        for file, data in zip(self._files, (line, chain_record(self._offset), line_sum(line)), strict=True):
            file.waiting.append(data)
        if len(waiting) >= FLUSH_LINES or timestamp - self._waiting_since >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> ChronicleOffset:
        """Hand every line so far to the operating system; returns the place after the last one."""
        if self._failed:
            raise StorageFailed(f"{self._path}: an earlier write failed, so nothing more is written")
        self._on_every_file(_Appended.flush)
        return self._offset

    def sync(self) -> None:
        """Make durable what was flushed. Only after this may a checkpoint hold the offset that `flush` gave."""
        self._on_every_file(_Appended.sync)

    def offset(self) -> ChronicleOffset:
        """The place after the last line appended."""
        return self._offset

    def close(self) -> None:
        """Hand over what waits, without syncing it, and close the files."""
        try:
            if not self._failed:
                self.flush()
        finally:
            for file in self._files:
                os.close(file.descriptor)

    def _on_every_file(self, action: Callable[["_Appended"], None]) -> None:
        try:
            for file in self._files:
                action(file)
        except StorageFailed:
            self._failed = True
            raise

    def __enter__(self) -> "ChronicleWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Appended:
    """A file that is appended to, and what waits to be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: list[bytes] = []
        self.descriptor = filesystem.open_append(path)

    def flush(self) -> None:
        filesystem.write(self.descriptor, b"".join(self.waiting), self.path)
        self.waiting.clear()

    def sync(self) -> None:
        filesystem.fdatasync(self.descriptor, self.path)


def create(folder: Path) -> None:
    """Make the empty files of a new chronicle, durably but for their names: sync the folder afterwards."""
    for name in FILES:
        descriptor = filesystem.create_exclusive(folder / name)
        try:
            filesystem.fsync(descriptor, folder / name)
        finally:
            os.close(descriptor)


def truncate_to(folder: Path, offset: ChronicleOffset) -> int:
    """Cut a chronicle back to `offset`. What follows is first set aside in `chronicle.tail`, unless a longer tail is
    there already: one that a session left which got further.

    Returns the number of bytes set aside. A crash at any point leaves a chronicle on which this can be done again.
    Raises `CorruptChronicle`, and changes nothing, where the chronicle does not reach `offset` or is another one there.
    """
    surplus = _surplus(folder, offset)
    if tail := surplus[0]:
        data = _range(folder / LINES_NAME, offset.bytes, tail)
        if _last_step(parse_tail(io.BytesIO(data))) >= _last_step(read_tail(folder)):
            filesystem.write_over(folder / TAIL_NAME, data)
    for name, size, more in zip(FILES, _sizes(offset), surplus, strict=True):
        if more:
            filesystem.truncate(folder / name, size)
    return tail


def copy_prefix(source: Path, target: Path, until: ChronicleOffset) -> None:
    """Fill the empty chronicle in the folder `target` with the lines of the one in `source` up to `until`."""
    for name, size in zip(FILES, _sizes(until), strict=True):
        filesystem.write_over(target / name, _range(source / name, 0, size))


def _range(path: Path, begin: int, size: int) -> bytes:
    with opened_regular(path, CorruptChronicle) as (descriptor, _), open(descriptor, "rb", closefd=False) as stream:
        stream.seek(begin)
        return stream.read(size)


def _last_step(records: Sequence[ChronicleRecord]) -> int:
    return records[-1].step if records else 0


def _sizes(offset: ChronicleOffset) -> tuple[int, int, int]:
    """The sizes of `FILES` that end at `offset`."""
    return offset.bytes, offset.records * CHAIN_RECORD.size, offset.records * SUM_BYTES


def _surplus(folder: Path, offset: ChronicleOffset) -> tuple[int, int, int]:
    """Bytes after `offset` in each of `FILES`; for the sums, on which nothing depends, it can be negative. Raises
    `CorruptChronicle` where `offset` is not in the lines and the chain."""
    with (
        opened_regular(folder / LINES_NAME, CorruptChronicle) as (_, lines_size),
        opened_regular(folder / CHAIN_NAME, CorruptChronicle) as (chain, chain_size),
        opened_regular(folder / SUMS_NAME, CorruptChronicle) as (_, sums_size),
    ):
        lines_end, chain_end, sums_end = _sizes(offset)
        if lines_size < lines_end or chain_size < chain_end:
            raise CorruptChronicle(
                f"{folder / LINES_NAME}: expected at least {offset.bytes} bytes and {offset.records} chain records, "
                f"acknowledged, found {lines_size} and {chain_size // CHAIN_RECORD.size}; no crash does this: "
                "restore the chronicle files from a copy"
            )
        last = os.pread(chain, CHAIN_RECORD.size, chain_end - CHAIN_RECORD.size) if offset.records else None
        if last is not None and last != chain_record(offset):
            raise CorruptChronicle(
                f"{folder / CHAIN_NAME}: record {offset.records} is not the acknowledged one: the chronicle was "
                "rewritten. Restore the chronicle files from a copy"
            )
        return lines_size - lines_end, chain_size - chain_end, sums_size - sums_end
