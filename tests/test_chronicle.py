import hashlib
import struct
from pathlib import Path
from typing import Any

import pytest
from store_samples import RUN_HASH, append_steps, fail_on, flip, make_record, record_calls

from crh_train import chronicle_writer
from crh_train.chronicle import ChronicleOffset, format_line, genesis, next_offset
from crh_train.chronicle_audit import audit, read_chronicle, read_tail
from crh_train.chronicle_writer import FLUSH_LINES, ChronicleWriter, truncate_to
from crh_train.errors import CorruptChronicle, StorageFailed

START = genesis(RUN_HASH)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chronicle_writer.create(tmp_path)
    return tmp_path


@pytest.fixture
def five(folder: Path) -> Path:
    append_steps(folder, START, 1, 5)
    return folder


def lines_of(folder: Path) -> list[bytes]:
    return (folder / "chronicle.jsonl").read_bytes().splitlines(keepends=True)


# --- the files -----------------------------------------------------------------------------------------------------


def test_golden_files(five: Path) -> None:
    assert (
        hashlib.sha256((five / "chronicle.jsonl").read_bytes()).hexdigest()
        == "4c6516a29800dfc6878b4a7a3312f29afc8b3113eac38aa8f10deca10ad9b358"
    )
    assert (
        hashlib.sha256((five / "chronicle.chain").read_bytes()).hexdigest()
        == "000a0f16b459b0acb9ea251936f7dd3395072465cd38c5c073d18a0da22d9ebf"
    )


def test_the_chain_is_the_documented_one(five: Path) -> None:
    head = hashlib.sha256(b"crh-train chronicle 1\n" + RUN_HASH.encode()).digest()
    assert (0, 0, head.hex()) == START
    chain, end = b"", 0
    for line in lines_of(five):
        end += len(line)
        begin = line.index(b'"timestamp":') + 12
        head = hashlib.sha256(head + line[:begin] + line[begin + 16 :]).digest()
        chain += struct.pack("<Q", end) + head
    assert (five / "chronicle.chain").read_bytes() == chain
    assert audit(five, RUN_HASH).good == (end, 5, head.hex())


def test_what_is_read_is_what_was_logged(five: Path) -> None:
    found = read_chronicle(five, RUN_HASH)
    assert [record.step for record in found] == [1, 2, 3, 4, 5]
    assert all(
        format_line(record, record.timestamp) == line for record, line in zip(found, lines_of(five), strict=True)
    )


def test_how_long_a_step_took_moves_nothing_but_its_timestamp(tmp_path: Path) -> None:
    chains = []
    for name, pace in (("fast", 1e-5), ("slow", 1e5)):
        (tmp_path / name).mkdir()
        chronicle_writer.create(tmp_path / name)
        with ChronicleWriter(tmp_path / name, START) as writer:
            for step in range(1, 4):
                writer.append(make_record(step), step * pace)
        chains.append((tmp_path / name / "chronicle.chain").read_bytes())
        assert len(read_chronicle(tmp_path / name, RUN_HASH)) == 3
    assert chains[0] == chains[1]


def test_an_empty_chronicle_is_good(folder: Path) -> None:
    assert audit(folder, RUN_HASH) == (START, START, None, b"", None, False, None)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5])
def test_a_gap_or_a_duplicate_is_refused(folder: Path, step: int) -> None:
    end = append_steps(folder, START, 1, 3)
    before = (folder / "chronicle.jsonl").read_bytes()
    with ChronicleWriter(folder, end) as writer:
        with pytest.raises(CorruptChronicle, match=f"expected step 4 next, got step {step}"):
            writer.append(make_record(1)._replace(step=step), 9.0)
        assert writer.offset() == end
    assert (folder / "chronicle.jsonl").read_bytes() == before


def test_lines_reach_the_file_without_a_sync_after_so_many_or_so_long(folder: Path) -> None:
    with ChronicleWriter(folder, START) as writer:
        for step in range(1, FLUSH_LINES):
            writer.append(make_record(step), 0.5)
        assert lines_of(folder) == []
        writer.append(make_record(FLUSH_LINES), 0.5)
        assert len(lines_of(folder)) == FLUSH_LINES
        writer.append(make_record(FLUSH_LINES + 1), 7.0)
        assert len(lines_of(folder)) == FLUSH_LINES
        writer.append(make_record(FLUSH_LINES + 2), 8.0)
        assert len(lines_of(folder)) == FLUSH_LINES + 2
    assert audit(folder, RUN_HASH).good.records == FLUSH_LINES + 2


def test_lines_are_synced_before_the_chain(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ChronicleWriter(folder, START) as writer:
        writer.append(make_record(1), 0.0)
        calls = record_calls(monkeypatch, ["write", "fdatasync"])
        assert writer.flush() == writer.offset()
        writer.sync()
        assert calls == ["write"] * 3 + ["fdatasync"] * 3


@pytest.mark.parametrize(("operation", "call"), [(name, call) for name in ("write", "fdatasync") for call in (1, 2, 3)])
def test_a_failed_write_or_sync_is_final(
    folder: Path, monkeypatch: pytest.MonkeyPatch, operation: str, call: int
) -> None:
    with ChronicleWriter(folder, START) as writer:
        writer.append(make_record(1), 0.0)
        fail_on(monkeypatch, operation, call)
        with pytest.raises(StorageFailed, match="no space"):  # noqa: PT012
            writer.flush()
            writer.sync()
        writer.append(make_record(2), 0.0)
        size = (folder / "chronicle.jsonl").stat().st_size
        with pytest.raises(StorageFailed, match="an earlier write failed"):
            writer.flush()
    assert (folder / "chronicle.jsonl").stat().st_size == size


# --- audit ---------------------------------------------------------------------------------------------------------


def write_lines(folder: Path, lines: list[bytes]) -> None:
    (folder / "chronicle.jsonl").write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    ("edit", "good", "message"),
    [
        (lambda x: [*x[:2], x[2].replace(b"0.5", b"0.7"), *x[3:]], 2, "line 3: its content and its record in"),
        (lambda x: [*x[:2], *x[3:]], 2, "line 3: expected step 3, found step 4"),
        (lambda x: [*x[:2], x[1], *x[2:]], 2, "line 3: expected step 3, found step 2"),
        (lambda x: [x[1], x[0], *x[2:]], 0, "line 1: expected step 1, found step 2"),
        (lambda x: [*x[:4], b"{}\n"], 4, "line 5: is not an object of the fields"),
        (lambda x: [*x[:4], b"x" * 5000], 4, "line 5: is longer than 4096 bytes"),
        (lambda x: x[:4], 4, "ends after line 4, but chronicle.chain has a record of line 5"),
        (lambda x: [*x[:4], x[4][:-1]], 4, "ends in the middle of line 5"),
        (lambda x: [*x, format_line(make_record(6), 1.0)], 5, "ends before the record of line 6 is whole"),
    ],
)
def test_audit_says_which_line(five: Path, edit: Any, good: int, message: str) -> None:
    write_lines(five, edit(lines_of(five)))
    found = audit(five, RUN_HASH)
    assert found.problem is not None
    assert message in found.problem
    assert found.good.records == good
    with pytest.raises(CorruptChronicle, match=f"the first {good} lines are good"):
        read_chronicle(five, RUN_HASH)


def test_every_flipped_bit_is_found_in_its_line(folder: Path) -> None:
    append_steps(folder, START, 1, 3)
    for name, size in (("chronicle.jsonl", None), ("chronicle.chain", 40), ("chronicle.sums", 32)):
        whole = (folder / name).read_bytes()
        for position in range(len(whole)):
            line = whole[:position].count(b"\n") if size is None else position // size
            begin = whole.rfind(b'"timestamp":', 0, position) + 12
            flip(folder / name, position, position % 8)
            found = audit(folder, RUN_HASH)
            if name == "chronicle.sums" or (size is None and begin <= position < begin + 16 and found.problem is None):
                assert (found.problem, found.good.records, found.unsummed) == (None, 3, line + 1)
            else:
                assert found.problem is not None
                assert found.good.records == line
            (folder / name).write_bytes(whole)
    found = audit(folder, RUN_HASH)
    assert (found.problem, found.unsummed) == (None, None)


def test_a_cut_or_lengthened_file_of_sums_is_found_and_costs_no_line(five: Path) -> None:
    whole = (five / "chronicle.sums").read_bytes()
    for length in range(len(whole)):
        (five / "chronicle.sums").write_bytes(whole[:length])
        found = audit(five, RUN_HASH)
        assert (found.problem, found.good.records, found.unsummed) == (None, 5, length // 32 + 1)
    (five / "chronicle.sums").write_bytes(whole + b"\0")
    assert audit(five, RUN_HASH).unsummed == 6


@pytest.mark.parametrize("zeros", [1, 40, 5000, 100_000])
def test_zeros_at_the_end_are_torn_as_a_loss_of_power_leaves_them(five: Path, zeros: int) -> None:
    lines, chain = (five / "chronicle.jsonl").read_bytes(), (five / "chronicle.chain").read_bytes()
    half = lines.rindex(b"batch")
    for end in (half, len(lines)):
        (five / "chronicle.jsonl").write_bytes(lines[:end] + bytes(zeros))
        found = audit(five, RUN_HASH)
        assert (found.torn, found.good.records) == (True, 4 if end == half else 5)
        (five / "chronicle.jsonl").write_bytes(lines[:end] + bytes(zeros) + b"x" * 5000)
        assert not audit(five, RUN_HASH).torn
    (five / "chronicle.jsonl").write_bytes(lines)
    (five / "chronicle.chain").write_bytes(chain[:-20] + bytes(zeros))
    found = audit(five, RUN_HASH)
    assert (found.torn, found.good.records) == (True, 4)


@pytest.mark.parametrize("name", ["chronicle.jsonl", "chronicle.chain"])
def test_every_truncation_is_torn_and_keeps_the_whole_lines(five: Path, name: str) -> None:
    whole = (five / name).read_bytes()
    for length in range(len(whole)):
        (five / name).write_bytes(whole[:length])
        found = audit(five, RUN_HASH)
        assert found.torn
        assert found.good.records == (whole[:length].count(b"\n") if name == "chronicle.jsonl" else length // 40)


def test_a_chain_fits_one_run_only(five: Path) -> None:
    assert audit(five, "cd" * 32).good.records == 0


@pytest.mark.parametrize("name", ["chronicle.jsonl", "chronicle.chain"])
def test_a_missing_or_linked_file_is_refused(five: Path, name: str) -> None:
    moved = (five / name).rename(five / "moved")
    with pytest.raises(CorruptChronicle, match=name):
        audit(five, RUN_HASH)
    (five / name).symlink_to(moved)
    with pytest.raises(CorruptChronicle, match="symbolic link"):
        audit(five, RUN_HASH)


def test_an_offset_is_covered_only_by_its_own_chronicle(five: Path) -> None:
    found = audit(five, RUN_HASH)
    assert all(found.covers(found.place(records)) for records in range(6))
    last = found.good
    for other in (last._replace(bytes=1), last._replace(records=6), last._replace(head="0" * 64)):
        assert not found.covers(other)


# --- going on ------------------------------------------------------------------------------------------------------


def test_a_resumed_chronicle_has_the_bytes_of_an_uninterrupted_one(five: Path, tmp_path: Path) -> None:
    whole = [(five / name).read_bytes() for name in ("chronicle.jsonl", "chronicle.chain")]
    third = audit(five, RUN_HASH).place(3)
    truncate_to(five, third)
    append_steps(five, third, 4, 5)
    assert [(five / name).read_bytes() for name in ("chronicle.jsonl", "chronicle.chain")] == whole


def test_the_tail_is_set_aside_to_be_compared(five: Path) -> None:
    with (five / "chronicle.jsonl").open("ab") as stream:
        stream.write(b'{"epoch":')  # half a line, as a crash leaves it
    lines = lines_of(five)
    second = audit(five, RUN_HASH).place(2)
    assert truncate_to(five, second) == sum(map(len, lines[2:]))
    assert (five / "chronicle.tail").read_bytes() == b"".join(lines[2:])
    assert [record.step for record in read_tail(five)] == [3, 4, 5]
    assert audit(five, RUN_HASH).good == second
    assert audit(five, RUN_HASH).problem is None


def test_nothing_is_set_aside_where_there_is_no_tail(five: Path) -> None:
    assert truncate_to(five, audit(five, RUN_HASH).good) == 0
    assert not (five / "chronicle.tail").exists()
    assert read_tail(five) == []


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("create_exclusive", 1),
        ("fsync", 1),
        ("replace", 1),
        ("fsync_folder", 1),
        ("truncate", 1),
        ("truncate", 2),
        ("truncate", 3),
    ],
)
def test_an_interrupted_truncation_can_be_done_again(
    five: Path, monkeypatch: pytest.MonkeyPatch, operation: str, call: int
) -> None:
    second, tail = audit(five, RUN_HASH).place(2), b"".join(lines_of(five)[2:])
    with monkeypatch.context() as patched:
        fail_on(patched, operation, call)
        with pytest.raises(StorageFailed):
            truncate_to(five, second)
    truncate_to(five, second)
    found = audit(five, RUN_HASH)
    assert (found.problem, found.torn, found.unsummed) == (None, False, None)
    assert audit(five, RUN_HASH).good == second
    assert (five / "chronicle.tail").read_bytes() == tail


@pytest.mark.parametrize(("name", "size"), [("chronicle.jsonl", 300), ("chronicle.chain", 199)])
def test_a_chronicle_shorter_than_acknowledged_is_corrupt(five: Path, name: str, size: int) -> None:
    end = audit(five, RUN_HASH).good
    (five / name).write_bytes((five / name).read_bytes()[:size])
    for go_on in (truncate_to, ChronicleWriter):
        with pytest.raises(CorruptChronicle, match="no crash does this"):
            go_on(five, end)
    assert (five / name).stat().st_size == size


def test_a_rewritten_chronicle_is_not_gone_on_with(five: Path) -> None:
    end = audit(five, RUN_HASH).good
    for go_on in (truncate_to, ChronicleWriter):
        with pytest.raises(CorruptChronicle, match="was rewritten"):
            go_on(five, end._replace(head="0" * 64))


def test_a_writer_refuses_to_begin_before_the_end(five: Path) -> None:
    with pytest.raises(CorruptChronicle, match="recover the run first"):
        ChronicleWriter(five, audit(five, RUN_HASH).place(4))


def test_offsets_add_up() -> None:
    line = format_line(make_record(4), 2.0)
    after = next_offset(START, line)
    assert isinstance(after, ChronicleOffset)
    assert after[:2] == (len(line), 1)
