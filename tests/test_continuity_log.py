"""`continuity.jsonl` while a run trains, and what `verify` says of it afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostics_samples import make_records
from store_samples import CONFIG, MANIFEST, PROGRAM, SESSION, create_run, fail_on, finish, make_checkpoint, record_calls

from crh_train.chronicle import genesis
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.continuity_log import ContinuityFile, ContinuityHook
from crh_train.diagnostics.continuity import CONTINUITY_NAME, Continuity, follow
from crh_train.diagnostics.policy import ADVICE_ONLY, parsed
from crh_train.digest import digest_json
from crh_train.errors import StorageFailed
from crh_train.run_store import RunFolder, RunStore
from crh_train.types import StepRecord
from crh_train.verification import verify_run

PER_EPOCH = 4  # as PROGRAM has it
RECORDS = make_records(1 + 0.1 * np.cos(np.arange(48)))
EXPECTED = b"".join(entry.line() for entry in follow(Continuity(PER_EPOCH, ADVICE_ONLY), RECORDS)[1])


def steps(records: list[Any]) -> list[StepRecord]:
    return [StepRecord(r.step, r.epoch, r.batch, r.loss, r.coherence, r.lr, r.grad_norm, np.zeros(1)) for r in records]


def log(folder: Path, first: int, last: int) -> None:
    """What a session does that trains the steps after `first` up to `last`."""
    continuity, entries = follow(Continuity(PER_EPOCH, ADVICE_ONLY), RECORDS[:first])
    with ContinuityFile(folder, b"".join(entry.line() for entry in entries)) as file:
        hook = ContinuityHook(continuity, file.add)
        for record in steps(RECORDS[first:last]):
            hook.after_step(record)


@pytest.mark.parametrize("middle", [0, 10, 32, 37, 48])
def test_a_session_goes_on_with_the_file_whatever_the_one_before_left(tmp_path: Path, middle: int) -> None:
    log(tmp_path, 0, middle)
    for left in (b"", b"half a li", EXPECTED[:700], EXPECTED + b"more"):
        (tmp_path / CONTINUITY_NAME).write_bytes(left)
        log(tmp_path, middle, 48)
        assert (tmp_path / CONTINUITY_NAME).read_bytes() == EXPECTED


def test_the_file_is_synced_at_the_end_and_not_at_each_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record_calls(monkeypatch, ("write_over", "write", "fdatasync"))
    log(tmp_path, 0, 48)
    lines = EXPECTED.count(b"\n")
    assert calls == ["write_over", "write", *["write"] * lines, "fdatasync"]


def test_a_line_that_the_disk_refuses_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on(monkeypatch, "write", call=3)
    with pytest.raises(StorageFailed):
        log(tmp_path, 0, 48)
    assert EXPECTED.startswith((tmp_path / CONTINUITY_NAME).read_bytes())


# --- verify --------------------------------------------------------------------------------------------------------


def run(root: Path, lines: int, acts: bool = False) -> RunFolder:
    """A run of so many steps and their diagnoses, with a checkpoint after the last one."""
    section = {"diagnostics": {"act": True, "patience": 1, "factor": 0.5, "minimum_factor": 0.01}} if acts else {}
    config = {**CONFIG, "config": {**CONFIG["config"], **section, "engine": {"epochs": 12}}}
    document = {
        "config_hash": digest_json(config),
        "dataset_state": digest_json(MANIFEST),
        "seed": 7,
        "semantics_version": 1,
    }
    folder = RunStore(root).create(document, config, MANIFEST, SESSION, PROGRAM)
    with ChronicleWriter(folder.path, genesis(folder.run_hash)) as writer:
        for record in RECORDS[:lines]:
            writer.append(record, record.timestamp)
        writer.flush()
        writer.sync()
        end = writer.offset()
    continuity = Continuity(PER_EPOCH, parsed(config["config"]))
    (folder.path / CONTINUITY_NAME).write_bytes(b"".join(e.line() for e in follow(continuity, RECORDS[:lines])[1]))
    named = {"config_hash": document["config_hash"], "dataset_state": document["dataset_state"], "seed": 7}
    folder.save_checkpoint(
        make_checkpoint(step=lines, epoch_index=0, chronicle_offset=end, run_hash=folder.run_hash, **named)
    )
    return folder


def told(folder: RunFolder) -> list[tuple[str, str]]:
    return [(finding.severity, finding.place) for finding in verify_run(folder).findings]


def test_a_file_that_is_what_the_chronicle_gives_is_good_and_none_is_damage(tmp_path: Path) -> None:
    """As soon as there is a line: each session makes the file before it logs one."""
    folder = run(tmp_path, 48)
    assert told(folder) == []
    (folder.path / CONTINUITY_NAME).unlink()
    assert told(folder) == [("damage", CONTINUITY_NAME)]
    finish(folder)
    assert told(folder) == [("damage", CONTINUITY_NAME)]
    (folder.path / CONTINUITY_NAME).write_bytes(EXPECTED)
    assert told(folder) == []


@pytest.mark.parametrize("lines", [1, 31, 32])
def test_a_missing_file_is_damage_from_the_first_line_on_whether_there_is_a_diagnosis_or_not(
    tmp_path: Path, lines: int
) -> None:
    folder = run(tmp_path, lines)
    assert told(folder) == []
    (folder.path / CONTINUITY_NAME).unlink()
    assert told(folder) == [("damage", CONTINUITY_NAME)]
    with (folder.path / "chronicle.jsonl").open("ab") as stream:  # what a kill in the middle of a line leaves
        stream.write(b'{"epoch":')
    assert told(folder) == [("damage", CONTINUITY_NAME), ("note", "chronicle.jsonl")]


def test_a_run_that_was_killed_before_its_first_step_needs_no_file(tmp_path: Path) -> None:
    assert told(create_run(tmp_path)) == []


def test_the_file_is_durable_before_the_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a kill or a loss of power comes: what `verify` builds on."""
    calls = record_calls(monkeypatch, ("fsync", "replace", "fsync_folder", "write"))
    with ContinuityFile(tmp_path, b""):
        assert calls == ["write", "fsync", "replace", "fsync_folder"]


@pytest.mark.parametrize("position", [0, 1, 700, len(EXPECTED) // 2, len(EXPECTED) - 1])
def test_a_changed_byte_is_damage_in_a_finished_run(tmp_path: Path, position: int) -> None:
    folder = run(tmp_path, 48)
    changed = bytearray(EXPECTED)
    changed[position] ^= 1
    (folder.path / CONTINUITY_NAME).write_bytes(changed)
    assert told(folder) == [("note", CONTINUITY_NAME)]
    finish(folder)
    assert told(folder) == [("damage", CONTINUITY_NAME)]
    (line,) = [finding.message for finding in verify_run(folder).findings]
    assert line.startswith(f"line {EXPECTED[:position].count(10) + 1} is not what chronicle.jsonl gives")


@pytest.mark.parametrize("end", [0, 1, 700, len(EXPECTED) - 1, len(EXPECTED) + 1])
def test_another_end_is_damage_only_in_a_finished_run(tmp_path: Path, end: int) -> None:
    """In an unfinished one the two files were handed to the disk one after the other."""
    folder = run(tmp_path, 48)
    (folder.path / CONTINUITY_NAME).write_bytes((EXPECTED + b"{")[:end])
    assert told(folder) == []
    finish(folder)
    assert told(folder) == [("damage", CONTINUITY_NAME)]


def test_what_is_no_file_is_damage(tmp_path: Path) -> None:
    folder = run(tmp_path, 48)
    (folder.path / CONTINUITY_NAME).unlink()
    (folder.path / CONTINUITY_NAME).symlink_to("chronicle.jsonl")
    assert told(folder) == [("damage", CONTINUITY_NAME)]


def test_a_run_that_acts_ends_where_its_diagnoses_say(tmp_path: Path) -> None:
    """Without a stop that is the last epoch; with lines cut off at an epoch's end all else holds together."""
    for lines, expected in ((48, []), (44, [("damage", "chronicle.jsonl")])):
        folder = run(tmp_path / str(lines), lines, acts=True)
        assert told(folder) == []
        finish(folder)
        assert told(folder) == expected


def test_documents_that_cannot_be_read_are_told_once(tmp_path: Path) -> None:
    folder = create_run(tmp_path)
    (folder.path / CONTINUITY_NAME).write_bytes(EXPECTED)
    (folder.path / "program.json").write_bytes(b"{}")
    assert told(folder) == [("damage", "program.json")]
