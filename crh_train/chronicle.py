"""The chronicle's format and how it is read and audited. Never writes; `chronicle_writer.py` does.

`chronicle.jsonl` holds one line a step: a JSON object in UTF-8 and a line feed, without spaces but one run of them.

1. The fields MUST be `epoch, batch, loss, coherence, lr, grad_norm, timestamp, step`, in this order, and line n MUST
   be step n.
2. `loss, coherence, lr, grad_norm` are float32: the fewest decimal digits that a JSON reader, which goes through
   float64, takes back to the same float32, in the form of Python's `repr`; values that are not finite are the strings
   "NaN", "Infinity" and "-Infinity".
3. `timestamp` is seconds since the run began by a monotonic clock, with six decimals, padded on the left with spaces
   to 16 characters. Its width is fixed so that how long a step took never moves a byte offset: a run and its replay
   have lines of equal length, equal chains and equal checkpoints.
4. A line MUST be the text that writing its own values gives, and at most 4096 bytes.

`chronicle.chain` holds one record of 40 bytes a line:

5. the end offset of the line in `chronicle.jsonl` (u64, little-endian);
6. the head: SHA-256(head before ‖ the line without the 16 characters of its timestamp). The head before line 1 is
   SHA-256("crh-train chronicle 1\\n" ‖ the run hash in hexadecimal), so that a chain fits one run only.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from crh_train.errors import CorruptChronicle
from crh_train.filesystem import opened_regular

LINES_NAME = "chronicle.jsonl"
CHAIN_NAME = "chronicle.chain"
TAIL_NAME = "chronicle.tail"

FIELDS = ("epoch", "batch", "loss", "coherence", "lr", "grad_norm", "timestamp", "step")
MAX_LINE_BYTES = 4096
TIMESTAMP_WIDTH = 16
MAX_TIMESTAMP = 1e9  # seconds, 31 years
CHAIN_RECORD = struct.Struct("<Q32s")

_OVERFLOW = 2.0**128 - 2.0**103  # the smallest float64 that rounds to an infinite float32
_NOT_FINITE = {"NaN": np.float32(np.nan), "Infinity": np.float32(np.inf), "-Infinity": np.float32(-np.inf)}


class StepFields(Protocol):
    """What a line says of a step; `types.StepRecord` and `ChronicleRecord` have it."""

    @property
    def epoch(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def loss(self) -> np.float32: ...
    @property
    def coherence(self) -> np.float32: ...
    @property
    def lr(self) -> np.float32: ...
    @property
    def grad_norm(self) -> np.float32: ...
    @property
    def step(self) -> int: ...


class ChronicleRecord(NamedTuple):
    """One line of the chronicle."""

    epoch: int  # the first is 0
    batch: int  # within the epoch, the first is 0
    loss: np.float32
    coherence: np.float32
    lr: np.float32
    grad_norm: np.float32
    timestamp: float  # seconds since the run began
    step: int  # steps done, the first is 1


class ChronicleOffset(NamedTuple):
    """A place between two lines of a chronicle."""

    bytes: int  # of chronicle.jsonl before it
    records: int  # lines before it
    head: str  # of the chain there, 64 hexadecimal digits


def genesis(run_hash: str) -> ChronicleOffset:
    """The place before the first line of a run."""
    return ChronicleOffset(0, 0, hashlib.sha256(f"crh-train chronicle 1\n{run_hash}".encode()).hexdigest())


# --- one line ------------------------------------------------------------------------------------------------------


def float32_text(value: np.float32) -> str:
    """The shortest JSON text that reads back, through float64, as the same float32."""
    if not math.isfinite(value):
        return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'
    read = float(str(value))
    if np.float32(read) != value:  # 7.038531e-26 is lost by rounding twice, to float64 and float32; nine digits survive
        read = float(format(float(value), ".9g"))
    return repr(read)  # NumPy finds the digits; where it puts the exponent has changed from version to version


def format_line(fields: StepFields, timestamp: float) -> bytes:
    """A step's line, with its line feed. Raises `CorruptChronicle` for a timestamp that does not fit its width."""
    clock = f"{timestamp:{TIMESTAMP_WIDTH}.6f}"
    if not 0 <= timestamp < MAX_TIMESTAMP or len(clock) != TIMESTAMP_WIDTH:
        raise CorruptChronicle(f"step {fields.step}: expected a timestamp in [0, 1e9) seconds, got {timestamp}")
    return (
        f'{{"epoch":{fields.epoch},"batch":{fields.batch},"loss":{float32_text(fields.loss)},'
        f'"coherence":{float32_text(fields.coherence)},"lr":{float32_text(fields.lr)},'
        f'"grad_norm":{float32_text(fields.grad_norm)},"timestamp":{clock},"step":{fields.step}}}\n'
    ).encode()


def parse_line(line: bytes, number: int) -> ChronicleRecord:
    """The record of line `number` (the first is 1). Raises `CorruptChronicle` for any other bytes than `format_line`
    gives for the values that they hold."""
    try:
        if len(line) > MAX_LINE_BYTES:
            raise ValueError(f"is longer than {MAX_LINE_BYTES} bytes")
        items = json.loads(line.decode(), object_pairs_hook=tuple)
        if not isinstance(items, tuple) or tuple(name for name, _ in items) != FIELDS:
            raise ValueError(f"is not an object of the fields {', '.join(FIELDS)} in this order")
        record = _record(dict(items))
        if format_line(record, record.timestamp) != line:
            raise ValueError("is not the canonical text of its own values")
    except (ValueError, RecursionError, CorruptChronicle) as error:
        raise CorruptChronicle(
            f"{LINES_NAME} line {number}: {error}; the lines before it can be trusted as far as `crh-train verify` says"
        ) from error
    return record


def _record(fields: dict[str, Any]) -> ChronicleRecord:
    for name in ("epoch", "batch", "step"):
        if type(fields[name]) is not int or fields[name] < 0:
            raise ValueError(f"{name} is {fields[name]!r}, expected an integer from 0")
    for name in ("loss", "coherence", "lr", "grad_norm"):
        fields[name] = _float32(name, fields[name])
    if type(fields["timestamp"]) is not float:
        raise ValueError(f"timestamp is {fields['timestamp']!r}, expected seconds with six decimals")
    return ChronicleRecord(**fields)


def _float32(name: str, value: Any) -> np.float32:
    if type(value) is float and abs(value) < _OVERFLOW:
        return np.float32(value)
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    raise ValueError(f'{name} is {value!r}, expected a float32, "NaN", "Infinity" or "-Infinity"')


# --- the chain -----------------------------------------------------------------------------------------------------

_AFTER_TIMESTAMP = b',"step":'


def next_offset(offset: ChronicleOffset, line: bytes) -> ChronicleOffset:
    """The place after `line`, which begins at `offset`."""
    end = line.rindex(_AFTER_TIMESTAMP)
    hasher = hashlib.sha256(bytes.fromhex(offset.head))
    hasher.update(line[: end - TIMESTAMP_WIDTH])
    hasher.update(line[end:])
    return ChronicleOffset(offset.bytes + len(line), offset.records + 1, hasher.hexdigest())


def chain_record(offset: ChronicleOffset) -> bytes:
    """The chain's record of the line that ends at `offset`."""
    return CHAIN_RECORD.pack(offset.bytes, bytes.fromhex(offset.head))


# --- reading -------------------------------------------------------------------------------------------------------


class ChronicleAudit(NamedTuple):
    """What of a chronicle holds together, from the first line on."""

    records: Sequence[ChronicleRecord]  # of the good lines
    offsets: Sequence[ChronicleOffset]  # before the first line, then after each good line
    problem: str | None  # what is wrong with the first line that is not good
    torn: bool  # the problem is only that one of the files ends early, as after a crash between two syncs

    @property
    def good(self) -> ChronicleOffset:
        """The place after the last good line."""
        return self.offsets[-1]

    def covers(self, offset: ChronicleOffset) -> bool:
        """Whether `offset` is a place in the good part of this very chronicle."""
        return offset.records < len(self.offsets) and self.offsets[offset.records] == offset


def audit(folder: Path, run_hash: str) -> ChronicleAudit:
    """Check every line of a run's chronicle against the format and the chain, up to the first that fails.

    Raises `CorruptChronicle` only where a file is missing or not a regular file.
    """
    records: list[ChronicleRecord] = []
    offsets = [genesis(run_hash)]
    with (
        # The chain is opened first: a line written meanwhile shows as a line without a record, never as a lost line.
        opened_regular(folder / CHAIN_NAME, CorruptChronicle) as (chain_descriptor, _),
        opened_regular(folder / LINES_NAME, CorruptChronicle) as (lines_descriptor, _),
        os.fdopen(os.dup(chain_descriptor), "rb") as chain,
        os.fdopen(os.dup(lines_descriptor), "rb") as lines,
    ):
        while True:
            line = lines.readline(MAX_LINE_BYTES + 1)
            found = chain.read(CHAIN_RECORD.size)
            if not line and not found:
                return ChronicleAudit(records, offsets, None, False)
            problem, torn = _examine(line, found, offsets[-1], records, offsets)
            if problem is not None:
                return ChronicleAudit(records, offsets, problem, torn)


def _examine(
    line: bytes,
    found: bytes,
    before: ChronicleOffset,
    records: list[ChronicleRecord],
    offsets: list[ChronicleOffset],
) -> tuple[str | None, bool]:
    """Append a good line to `records` and `offsets`; otherwise what is wrong with it, and whether it is only torn."""
    number = before.records + 1
    if not line:
        return f"{LINES_NAME} ends after line {before.records}, but {CHAIN_NAME} has a record of line {number}", True
    if not line.endswith(b"\n") and len(line) <= MAX_LINE_BYTES:
        return f"{LINES_NAME} ends in the middle of line {number}", True
    try:
        record = parse_line(line, number)
    except CorruptChronicle as error:
        return str(error), False
    if record.step != number:
        return f"{LINES_NAME} line {number}: expected step {number}, found step {record.step}", False
    if len(found) < CHAIN_RECORD.size:
        return f"{CHAIN_NAME} ends before the record of line {number} is whole", True
    after = next_offset(before, line)
    if chain_record(after) != found:
        return f"{LINES_NAME} line {number}: its content and its record in {CHAIN_NAME} disagree", False
    records.append(record)
    offsets.append(after)
    return None, False


def read_chronicle(folder: Path, run_hash: str) -> Sequence[ChronicleRecord]:
    """All records of a run, fully checked. Raises `CorruptChronicle` with the first bad line."""
    audited = audit(folder, run_hash)
    if audited.problem is not None:
        raise CorruptChronicle(
            f"{folder}: {audited.problem}; the first {audited.good.records} lines are good. "
            "`crh-train verify` says what else can be trusted"
        )
    return audited.records


def read_tail(folder: Path) -> Sequence[ChronicleRecord]:
    """The whole, well-formed lines that recovery set aside, oldest first: what an interrupted session had logged after
    its last checkpoint. Empty where nothing was set aside. They are unchecked evidence, to compare with only."""
    path = folder / TAIL_NAME
    if not path.exists():
        return []
    records: list[ChronicleRecord] = []
    with opened_regular(path, CorruptChronicle) as (descriptor, _), os.fdopen(os.dup(descriptor), "rb") as stream:
        while line := stream.readline(MAX_LINE_BYTES + 1):
            try:
                records.append(parse_line(line, len(records) + 1))
            except CorruptChronicle:
                break
    return records
