"""Reading a chronicle and checking every line of it. Never writes.

What does not hold together is told with its line, and the lines before it stay usable.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from crh_train.chronicle import (
    CHAIN_NAME,
    CHAIN_RECORD,
    LINES_NAME,
    MAX_LINE_BYTES,
    SUM_BYTES,
    SUMS_NAME,
    TAIL_NAME,
    ChronicleOffset,
    ChronicleRecord,
    chain_record,
    genesis,
    line_sum,
    next_offset,
    parse_line,
)
from crh_train.errors import CorruptChronicle
from crh_train.regular_file import opened_regular


class ChronicleAudit(NamedTuple):
    """What of a chronicle holds together, from the first line on."""

    start: ChronicleOffset  # before the first line
    good: ChronicleOffset  # after the last good line
    last: ChronicleRecord | None  # the last good line
    chain: bytes  # the chain's records of the good lines
    problem: str | None  # what is wrong with the first line that is not good
    torn: bool  # the problem is only that one of the files ends early, as after a crash between two syncs
    unsummed: int | None  # the first good line that does not have its SHA-256 in `chronicle.sums`

    def place(self, records: int) -> ChronicleOffset:
        """The place after the first `records` lines, all of them good."""
        if records == 0:
            return self.start
        end, head = CHAIN_RECORD.unpack_from(self.chain, (records - 1) * CHAIN_RECORD.size)
        return ChronicleOffset(end, records, head.hex())

    def covers(self, offset: ChronicleOffset) -> bool:
        """Whether `offset` is a place in the good part of this very chronicle."""
        return offset.records <= self.good.records and self.place(offset.records) == offset


def _ignore(_: ChronicleRecord) -> None:
    pass


def audit(folder: Path, run_hash: str, visit: Callable[[ChronicleRecord], object] = _ignore) -> ChronicleAudit:
    """Check every line of a run's chronicle against the format and the chain, up to the first that fails; `visit` is
    called with each good one. Takes 40 bytes of memory a line.

    Raises `CorruptChronicle` only where a file is missing or not a regular file.
    """
    start = good = genesis(run_hash)
    last, unsummed, heads = None, None, bytearray()
    with (
        # The chain is opened first: a line written meanwhile shows as a line without a record, never as a lost line.
        opened(folder / CHAIN_NAME) as chain,
        opened(folder / LINES_NAME) as lines,
        # Nothing depends on the sums, so a run without them is read all the same.
        opened(folder / SUMS_NAME) if os.path.lexists(folder / SUMS_NAME) else io.BytesIO() as sums,
    ):
        while True:
            try:
                found = next_line(lines, chain, good)
            except CorruptChronicle as error:
                return ChronicleAudit(start, good, last, bytes(heads), str(error), isinstance(error, Torn), unsummed)
            if found is None:
                if unsummed is None and sums.read(1):
                    unsummed = good.records + 1
                return ChronicleAudit(start, good, last, bytes(heads), None, False, unsummed)
            line, last, good = found
            heads += chain_record(good)
            if sums.read(SUM_BYTES) != line_sum(line) and unsummed is None:
                unsummed = good.records
            visit(last)


class Torn(CorruptChronicle):
    """The problem is only that a file ends early, as it does while a line is being written."""


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file of the chronicle, from its first byte on. Raises `CorruptChronicle` where it is no regular file."""
    with opened_regular(path, CorruptChronicle) as (descriptor, _), open(descriptor, "rb", closefd=False) as stream:
        yield stream


def next_line(
    lines: BinaryIO, chain: BinaryIO, before: ChronicleOffset
) -> tuple[bytes, ChronicleRecord, ChronicleOffset] | None:
    """The next line, its record and the place after it; None at the end of both files, which stand at `before`.

    Raises `Torn` where either file ends within the line or its record, `CorruptChronicle` where they are not good.
    """
    number = before.records + 1
    line, found = lines.readline(MAX_LINE_BYTES + 1), chain.read(CHAIN_RECORD.size)
    if not line and not found:
        return None
    if not line:
        raise Torn(f"{LINES_NAME} ends after line {before.records}, but {CHAIN_NAME} has a record of line {number}")
    if not line.endswith(b"\n") and (len(line) <= MAX_LINE_BYTES or (line.endswith(b"\0") and _only_zeros(lines))):
        raise Torn(f"{LINES_NAME} ends in the middle of line {number}")
    record = parse_line(line, number)
    if record.step != number:
        raise CorruptChronicle(f"{LINES_NAME} line {number}: expected step {number}, found step {record.step}")
    after = next_offset(before, line)
    expected = chain_record(after)
    if found != expected:
        # After a loss of power a file can have its new length and, at its end, zeros.
        if len(found) < len(expected) or (expected.startswith(found.rstrip(b"\0")) and _only_zeros(chain)):
            raise Torn(f"{CHAIN_NAME} ends before the record of line {number} is whole")
        raise CorruptChronicle(f"{LINES_NAME} line {number}: its content and its record in {CHAIN_NAME} disagree")
    return line, record, after


def _only_zeros(stream: BinaryIO) -> bool:
    while block := stream.read(1 << 16):
        if block.strip(b"\0"):
            return False
    return True


def read_chronicle(folder: Path, run_hash: str) -> Sequence[ChronicleRecord]:
    """All records of a run, fully checked. Raises `CorruptChronicle` with the first bad line."""
    records: list[ChronicleRecord] = []
    audited = audit(folder, run_hash, records.append)
    if audited.problem is not None:
        raise CorruptChronicle(
            f"{folder}: {audited.problem}; the first {audited.good.records} lines are good. "
            "`crh-train verify` says what else can be trusted"
        )
    return records


def read_tail(folder: Path) -> Sequence[ChronicleRecord]:
    """The whole, well-formed lines that recovery set aside, oldest first: what an interrupted session had logged after
    its last checkpoint. Empty where nothing was set aside. They are unchecked evidence, to compare with only."""
    if not (folder / TAIL_NAME).exists():
        return []
    with opened(folder / TAIL_NAME) as stream:
        return parse_tail(stream)


def parse_tail(stream: BinaryIO) -> Sequence[ChronicleRecord]:
    """The whole, well-formed lines from where `stream` stands, up to the first that is not."""
    records: list[ChronicleRecord] = []
    while line := stream.readline(MAX_LINE_BYTES + 1):
        try:
            records.append(parse_line(line, len(records) + 1))
        except CorruptChronicle:
            break
    return records
