"""The chronicle's format, line by line. Opens no file: `chronicle_audit.py` reads, `chronicle_writer.py` writes.

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

`chronicle.sums` holds 32 bytes a line:

7. SHA-256 of the whole line, timestamp included: with it a changed timestamp is found too. Nothing else depends on it,
   and like the timestamps it differs from a run to its replay; a line without a good sum is a good line all the same.
"""

import hashlib
import json
import math
import struct
from typing import Any, NamedTuple, Protocol

import numpy as np

from crh_train.errors import CorruptChronicle

LINES_NAME = "chronicle.jsonl"
CHAIN_NAME = "chronicle.chain"
SUMS_NAME = "chronicle.sums"
TAIL_NAME = "chronicle.tail"

FIELDS = ("epoch", "batch", "loss", "coherence", "lr", "grad_norm", "timestamp", "step")
MAX_LINE_BYTES = 4096
TIMESTAMP_WIDTH = 16
MAX_TIMESTAMP = 1e9  # seconds, 31 years
CHAIN_RECORD = struct.Struct("<Q32s")
SUM_BYTES = 32

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
        raise CorruptChronicle(f"{LINES_NAME} line {number}: {error}") from error
    return record


def _record(fields: dict[str, Any]) -> ChronicleRecord:
    for name in ("epoch", "batch", "step"):
        if type(fields[name]) is not int or not 0 <= fields[name] < 2**53:
            raise ValueError(f"{name} is {fields[name]!r:.80}, expected an integer from 0 to 2^53 - 1")
    for name in ("loss", "coherence", "lr", "grad_norm"):
        fields[name] = _float32(name, fields[name])
    if type(fields["timestamp"]) is not float:
        raise ValueError(f"timestamp is {fields['timestamp']!r:.80}, expected seconds with six decimals")
    return ChronicleRecord(**fields)


def _float32(name: str, value: Any) -> np.float32:
    if type(value) is float and abs(value) < _OVERFLOW:
        return np.float32(value)
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    raise ValueError(f'{name} is {value!r:.80}, expected a float32, "NaN", "Infinity" or "-Infinity"')


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


def line_sum(line: bytes) -> bytes:
    """The line's record in `chronicle.sums`."""
    return hashlib.sha256(line).digest()
