"""Appends to a chronicle, and cuts one back to an acknowledged place. The format stands in `chronicle.py`.

Lines reach the operating system in batches, so that a step costs microseconds; they are durable, and may be pointed
to by a checkpoint, only after `sync`.
"""

import os
from pathlib import Path
from types import TracebackType

from crh_train import filesystem
from crh_train.chronicle import (
    CHAIN_NAME,
    CHAIN_RECORD,
    LINES_NAME,
    TAIL_NAME,
    ChronicleOffset,
    StepFields,
    chain_record,
    format_line,
    next_offset,
)
from crh_train.errors import CorruptChronicle, StorageFailed

FLUSH_LINES = 64
FLUSH_SECONDS = 1.0
"""Lines are handed to the operating system once so many wait, or once the first has waited so long."""


class ChronicleWriter:
    """The one writer of a run's chronicle; the caller holds the run's lock. Use as a context manager.

    Args:
      folder: the run's folder; both files exist in it.
      offset: where to go on: `genesis(run_hash)`, or a checkpoint's offset after `truncate_to`.

    Raises `CorruptChronicle` where the files do not end exactly at `offset`.
    """

    def __init__(self, folder: Path, offset: ChronicleOffset) -> None:
        if (surplus := _surplus(folder, offset)) != (0, 0):
            raise CorruptChronicle(
                f"{folder / LINES_NAME}: expected it to end at byte {offset.bytes}, step {offset.records}, found "
                f"{surplus[0]} bytes more and {surplus[1]} bytes more in {CHAIN_NAME}; recover the run first"
            )
        self._lines_path = folder / LINES_NAME
        self._chain_path = folder / CHAIN_NAME
        self._offset = offset
        self._waiting_lines: list[bytes] = []
        self._waiting_chain: list[bytes] = []
        self._waiting_since = 0.0
        self._failed = False
        self._lines = filesystem.open_append(self._lines_path)
        self._chain = filesystem.open_append(self._chain_path)

    def append(self, fields: StepFields, timestamp: float) -> None:
        """Add the next step's line; `timestamp` is seconds since the run began. Raises `CorruptChronicle` for any
        other step than the next one."""
        if fields.step != self._offset.records + 1:
            raise CorruptChronicle(
                f"{self._lines_path}: expected step {self._offset.records + 1} next, got step {fields.step}; "
                "a chronicle has neither gaps nor duplicates, nothing was written"
            )
        line = format_line(fields, timestamp)
        self._offset = next_offset(self._offset, line)
        if not self._waiting_lines:
            self._waiting_since = timestamp
        self._waiting_lines.append(line)
        self._waiting_chain.append(chain_record(self._offset))
        if len(self._waiting_lines) >= FLUSH_LINES or timestamp - self._waiting_since >= FLUSH_SECONDS:
            self._flush()

    def sync(self) -> None:
        """Make every line so far durable. Only after this may a checkpoint hold `offset()`."""
        self._flush()
        try:
            filesystem.fdatasync(self._lines, self._lines_path)
            filesystem.fdatasync(self._chain, self._chain_path)
        except StorageFailed:
            self._failed = True
            raise

    def offset(self) -> ChronicleOffset:
        """The place after the last line appended."""
        return self._offset

    def close(self) -> None:
        """Hand over what waits, without syncing it, and close the files."""
        try:
            if not self._failed:
                self._flush()
        finally:
            os.close(self._lines)
            os.close(self._chain)

    def _flush(self) -> None:
        if self._failed:
            raise StorageFailed(
                f"{self._lines_path}: an earlier write failed, so nothing more is written; `crh-train resume` the run"
            )
        try:
            filesystem.write(self._lines, b"".join(self._waiting_lines), self._lines_path)
            filesystem.write(self._chain, b"".join(self._waiting_chain), self._chain_path)
        except StorageFailed:
            self._failed = True
            raise
        self._waiting_lines.clear()
        self._waiting_chain.clear()

    def __enter__(self) -> "ChronicleWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def create(folder: Path) -> None:
    """Make the two empty files of a new chronicle, durably but for their names: sync the folder afterwards."""
    for name in (LINES_NAME, CHAIN_NAME):
        descriptor = filesystem.create_exclusive(folder / name)
        try:
            filesystem.fsync(descriptor, folder / name)
        finally:
            os.close(descriptor)


def truncate_to(folder: Path, offset: ChronicleOffset) -> int:
    """Cut a chronicle back to `offset`; what follows is first set aside in `chronicle.tail`, in place of an older tail.

    Returns the number of bytes set aside. A crash at any point leaves a chronicle on which this can be done again.
    Raises `CorruptChronicle`, and changes nothing, where the chronicle does not reach `offset` or is another one there.
    """
    tail, chain_tail = _surplus(folder, offset)
    if tail:
        with (folder / LINES_NAME).open("rb") as stream:
            stream.seek(offset.bytes)
            filesystem.write_over(folder / TAIL_NAME, stream.read())
        filesystem.truncate(folder / LINES_NAME, offset.bytes)
    if chain_tail:
        filesystem.truncate(folder / CHAIN_NAME, offset.records * CHAIN_RECORD.size)
    return tail


def _surplus(folder: Path, offset: ChronicleOffset) -> tuple[int, int]:
    """Bytes after `offset` in the lines and in the chain. Raises `CorruptChronicle` where `offset` is not in them."""
    with (
        filesystem.opened_regular(folder / LINES_NAME, CorruptChronicle) as (_, lines_size),
        filesystem.opened_regular(folder / CHAIN_NAME, CorruptChronicle) as (chain, chain_size),
    ):
        chain_end = offset.records * CHAIN_RECORD.size
        if lines_size < offset.bytes or chain_size < chain_end:
            raise CorruptChronicle(
                f"{folder / LINES_NAME}: expected at least {offset.bytes} bytes and {offset.records} chain records, "
                f"acknowledged, found {lines_size} and {chain_size // CHAIN_RECORD.size}; no crash does this: "
                "restore the two chronicle files from a copy"
            )
        last = os.pread(chain, CHAIN_RECORD.size, chain_end - CHAIN_RECORD.size) if offset.records else None
        if last is not None and last != chain_record(offset):
            raise CorruptChronicle(
                f"{folder / CHAIN_NAME}: record {offset.records} is not the acknowledged one: the chronicle was "
                "rewritten. Restore the two chronicle files from a copy"
            )
        return lines_size - offset.bytes, chain_size - chain_end
