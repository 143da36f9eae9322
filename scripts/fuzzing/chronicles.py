"""The reader of chronicles. The lines that it accepts, written again, must be the same bytes in all three files.

An input is the three files one after the other, with the lengths of the first two in front.
"""

import random
import re
import struct
from pathlib import Path

import numpy as np

from crh_train.chronicle import (
    CHAIN_NAME,
    LINES_NAME,
    SUMS_NAME,
    TAIL_NAME,
    ChronicleRecord,
    chain_record,
    format_line,
    genesis,
    line_sum,
    next_offset,
)
from crh_train.chronicle_audit import audit, read_chronicle, read_tail
from crh_train.errors import CorruptChronicle
from fuzzing.target import Change, Target, Violation, expect_line

RUN_HASH = "ab" * 32
NAMES = (LINES_NAME, CHAIN_NAME, SUMS_NAME)

_LENGTHS = struct.Struct("<II")
_FIELD = re.compile(rb'"(\w+)":([^,}]*)')
_TEXTS = (
    *(b"0", b"-0", b"0.0", b"-0.0", b"1", b"1.0", b"01", b"+1", b"1e0", b"1E5", b"1e5", b"100000.0", b"0.1", b"0.10"),
    *(b"NaN", b"Infinity", b'"NaN"', b'"Infinity"', b'"-Infinity"', b'"nan"', b"1e39", b"1e400", b"1e-46", b"1e-400"),
    *(b"3.4028235e+38", b"3.4028236e+38", b"7.038531e-26", b"0.3333333432674408", b"0.33333334", b"null", b"true"),
    *(b'""', b'"\\u0031"', b'"\\ud800"', b"[]", b"{}", b"[" * 2000, b"9" * 4000, b"9" * 5000, b"-1", b" 1", b"1 "),
    *(b"        1.000000", b"  1000000.000000", b"999999999.999999", b"1000000000.000000", b"\xff", b"\xc2\xa0"),
)


def _sample(random: random.Random) -> bytes:
    lines = []
    for step in range(1, random.randrange(6) + 1):
        numbers = [np.float32(random.choice((0, -0.0, 1 / 3, 3e-4, 3e38, np.nan, np.inf, -np.inf))) for _ in range(4)]
        record = ChronicleRecord(0, step - 1, *numbers, round(step / 3, 6), step)
        lines.append(format_line(record, record.timestamp))
    return _joined(b"".join(lines), random)


def _split(data: bytes) -> tuple[bytes, bytes, bytes]:
    if len(data) < _LENGTHS.size:
        return data, b"", b""
    first, second = _LENGTHS.unpack_from(data)
    rest = data[_LENGTHS.size :]
    return rest[:first], rest[first : first + second], rest[first + second :]


def _joined(lines: bytes, random: random.Random) -> bytes:
    """`lines` with the chain and the sums that belong to them, as far as they can have some."""
    offset, chain, sums = genesis(RUN_HASH), b"", b""
    for line in lines.splitlines(keepends=True):
        try:
            offset = next_offset(offset, line)
        except ValueError:
            break
        chain += chain_record(offset)
        sums += line_sum(line)
    return _LENGTHS.pack(len(lines), len(chain)) + lines + chain + sums


def mutate(data: bytes, random: random.Random, plain: Change) -> bytes:
    kind = random.randrange(8)
    if kind == 0:
        return _sample(random)
    if kind == 1:
        return plain(data)
    lines, chain, sums = _split(data)
    if kind == 2:
        chain = plain(chain)
        return _LENGTHS.pack(len(lines), len(chain)) + lines + chain + sums
    each = lines.split(b"\n")
    at = random.randrange(len(each))
    if kind == 3:
        lines = plain(lines)
    elif kind == 4:  # lines swapped, doubled, left out
        each[at : at + 1] = random.choice(([], [each[at]] * 2, [each[at]] * 300, [each[0], each[at]]))
        lines = b"\n".join(each)
    else:
        fields = list(_FIELD.finditer(each[at]))
        if fields:
            field = random.choice(fields)
            name = random.choice((field[1], field[1], field[1], b"step", b"extra"))
            text = b'"' + name + b'":' + random.choice(_TEXTS)
            each[at] = each[at][: field.start()] + text + each[at][field.end() :]
        lines = b"\n".join(each)
    return _joined(lines, random)


def run(data: bytes, folder: Path) -> str | None:
    parts = dict(zip(NAMES, _split(data), strict=True))
    for name, part in (*parts.items(), (TAIL_NAME, parts[LINES_NAME])):
        (folder / name).write_bytes(part)
    records: list[ChronicleRecord] = []
    audited = audit(folder, RUN_HASH, records.append)
    read_tail(folder)
    offset, lines, chain, sums = genesis(RUN_HASH), b"", b"", b""
    for number, record in enumerate(records, 1):
        line = format_line(record, record.timestamp)
        offset = next_offset(offset, line)
        lines, chain, sums = lines + line, chain + chain_record(offset), sums + line_sum(line)
        if not audited.covers(offset) or record.step != number:
            raise Violation(f"line {number} was accepted and is not covered")
    if offset != audited.good or not parts[LINES_NAME].startswith(lines) or chain != audited.chain:
        raise Violation(f"{len(records)} lines were accepted, and written again they are other bytes")
    if not parts[CHAIN_NAME].startswith(chain):
        raise Violation(f"{len(records)} lines were accepted with another chain")
    try:
        whole = read_chronicle(folder, RUN_HASH)
    except CorruptChronicle as error:
        expect_line(str(error), folder)
        if audited.problem is None:
            raise Violation(f"no problem was found, and yet: {error}") from error
        return audited.problem
    if audited.problem is not None or len(whole) != len(records):
        raise Violation(f"accepted whole in spite of: {audited.problem}")
    written = (lines, chain, sums) == tuple(parts.values())
    if written != (audited.unsummed is None):
        raise Violation(
            f"accepted, with the first sum that is wrong at {audited.unsummed}, but the bytes say otherwise"
        )
    return None if written else f"line {audited.unsummed} does not have its sum"


TARGET = Target([_sample(random.Random(seed)) for seed in range(20)], mutate, run)
