import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from store_samples import (
    CONFIG,
    MANIFEST,
    PROGRAM,
    SESSION,
    append_steps,
    create_run,
    fail_on,
    finish,
    flip,
    make_run_document,
    record_calls,
    snapshot,
    train,
)

from crh_train import checkpoint
from crh_train.chronicle_audit import audit
from crh_train.chronicle_writer import ChronicleWriter, copy_prefix
from crh_train.digest import digest_bytes
from crh_train.errors import CorruptRun, RunBusy, RunNotFound, StorageFailed, UsageError
from crh_train.run_store import RunFolder, RunStore


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run(tmp_path / "runs")


# --- making a run --------------------------------------------------------------------------------------------------


def test_a_run_is_named_by_the_hash_of_its_identity(folder: RunFolder) -> None:
    data = (folder.path / "run.json").read_bytes()
    assert folder.run_hash == digest_bytes(data)
    assert folder.name == folder.run_hash[:16]
    assert data == json.dumps(make_run_document(), sort_keys=True, separators=(",", ":")).encode()
    assert folder.run_document() == make_run_document()
    assert folder.config_document() == CONFIG
    assert folder.manifest() == MANIFEST
    assert folder.sessions() == [SESSION]
    assert audit(folder.path, folder.run_hash).problem is None
    assert folder.checkpoints() == []
    assert folder.status == "unfinished"


def test_the_files_of_a_new_run(folder: RunFolder) -> None:
    assert sorted(os.listdir(folder.path)) == [
        *(".lock", "checkpoints", "chronicle.chain", "chronicle.jsonl", "chronicle.sums", "config.json"),
        "environment.json",
        *("manifest.json", "program", "program.json", "reports", "run.json"),
    ]
    assert os.listdir(folder.path.parent) == [folder.name]


def test_making_a_run_again_returns_it_as_it_is(folder: RunFolder) -> None:
    folder.add_session({"second": True})
    before = snapshot(folder.path)
    assert create_run(folder.path.parent) == folder
    assert snapshot(folder.path) == before
    assert os.listdir(folder.path.parent) == [folder.name]


def test_two_processes_that_make_the_same_run_at_once_get_the_same_one(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(folder.path)
    monkeypatch.setattr(RunStore, "get", lambda *_: None)  # the other one was not there yet when this one looked
    assert create_run(folder.path.parent) == folder
    assert snapshot(folder.path) == before
    assert os.listdir(folder.path.parent) == [folder.name]


@pytest.mark.parametrize(
    ("operation", "call"),
    [("make_folder", 1), ("write", 1), ("write", 3), ("fsync", 2), ("fsync_folder", 4), ("rename_folder_new", 1)],
)
def test_a_refusing_disk_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, call: int
) -> None:
    fail_on(monkeypatch, operation, call)
    with pytest.raises(StorageFailed):
        create_run(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_new_run_is_synced_before_and_after_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record_calls(monkeypatch, ["write", "make_folder", "fsync_folder", "rename_folder_new"])
    create_run(tmp_path)
    assert calls[-3:] == ["fsync_folder", "rename_folder_new", "fsync_folder"]


def test_the_store_is_made_with_its_parents(tmp_path: Path) -> None:
    assert create_run(tmp_path / "a" / "b").status == "unfinished"


@pytest.mark.parametrize(
    "change",
    [{"config_hash": "0" * 64}, {"dataset_state": "0" * 64}, {"extra": 1}],
    ids=lambda change: next(iter(change)),
)
def test_documents_that_do_not_have_their_hashes_make_no_run(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(CorruptRun, match="nothing was written"):
        RunStore(tmp_path).create({**make_run_document(), **change}, CONFIG, MANIFEST, SESSION, PROGRAM)
    assert os.listdir(tmp_path) == []


def test_a_folder_with_the_same_first_digits_is_not_taken_for_the_run(folder: RunFolder) -> None:
    with pytest.raises(CorruptRun, match="expected run"):
        RunStore(folder.path.parent).get(folder.run_hash[:16] + "0" * 48)


# --- finding -------------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> RunStore:
    for seed in range(20):
        create_run(tmp_path / "runs", seed)
    return RunStore(tmp_path / "runs")


def test_every_unique_prefix_finds_its_run(many: RunStore) -> None:
    folders = many.list()
    assert [folder.name for folder in folders] == sorted(folder.name for folder in folders)
    assert len(folders) == 20
    for folder in folders:
        for length in range(1, 65):
            prefix = folder.run_hash[:length]
            if sum(other.name.startswith(prefix[:16]) for other in folders) == 1:
                assert many.find(prefix) == many.find(prefix.upper()) == folder
            else:
                with pytest.raises(RunNotFound, match=f"is the beginning of .*{folder.name}.*give more digits"):
                    many.find(prefix)
        assert many.get(folder.run_hash) == folder


def test_a_full_hash_must_fit_in_all_its_digits(many: RunStore) -> None:
    folder = many.list()[0]
    other = "0" if folder.run_hash[-1] != "0" else "1"
    with pytest.raises(RunNotFound, match="no run in"):
        many.find(folder.run_hash[:-1] + other)


def test_what_is_not_there_is_not_found(many: RunStore, tmp_path: Path) -> None:
    absent = next(f"{n:04x}" for n in range(1 << 16) if not any(f.name.startswith(f"{n:04x}") for f in many.list()))
    with pytest.raises(RunNotFound, match=r"crh-train list --runs .*shows the 20"):
        many.find(absent)
    with pytest.raises(RunNotFound):
        RunStore(tmp_path / "nowhere").find(absent)
    assert many.get(absent * 16) is None


@pytest.mark.parametrize("prefix", ["", "..", "../x", "xyz", "a/b", "*", "0x12", "a" * 65, "٣", "ab\n"])
def test_only_hexadecimal_digits_name_a_run(many: RunStore, prefix: str) -> None:
    with pytest.raises(RunNotFound, match="hexadecimal digits"):
        many.find(prefix)


def test_links_files_and_other_names_are_not_listed(folder: RunFolder) -> None:
    root = folder.path.parent
    (root / ("0" * 16)).symlink_to(folder.path)
    (root / ("1" * 16)).touch()
    (root / ".tmp-1-0").mkdir()
    (root / "notes").mkdir()
    assert RunStore(root).list() == [folder]


# --- documents -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.json", "config.json", "manifest.json", "environment.json"])
def test_every_flipped_byte_of_a_document_is_found(folder: RunFolder, name: str) -> None:
    read = {
        "run.json": folder.run_document,
        "config.json": folder.config_document,
        "manifest.json": folder.manifest,
        "environment.json": folder.sessions,
    }[name]
    whole = (folder.path / name).read_bytes()
    for position in range(len(whole)):
        flip(folder.path / name, position, position % 8)
        with pytest.raises(CorruptRun, match=name):
            read()
        (folder.path / name).write_bytes(whole)
    read()
    (folder.path / name).unlink()
    with pytest.raises(CorruptRun, match=name):
        read()


@pytest.mark.parametrize(
    "sessions", ["[" * 100_000, "[1e999]", "[9007199254740993]", '["\\ud800"]', "[" * 900 + "]" * 900]
)
def test_json_made_to_do_harm_is_refused(folder: RunFolder, sessions: str) -> None:
    (folder.path / "environment.json").write_text(f'{{"sessions":{sessions},"sha256":""}}')
    with pytest.raises(CorruptRun, match=r"environment\.json"):
        folder.sessions()


def test_sessions_are_appended_whole_or_not_at_all(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    second = {**SESSION, "first_step": 2}
    folder.add_session(second)
    assert folder.sessions() == [SESSION, second]
    fail_on(monkeypatch, "replace")
    with pytest.raises(StorageFailed):
        folder.add_session({**SESSION, "first_step": 4})
    assert folder.sessions() == [SESSION, second]
    assert not [name for name in os.listdir(folder.path) if name.startswith(".tmp-")]


# --- lock and status -----------------------------------------------------------------------------------------------


def test_one_writer_at_a_time_and_the_other_is_told_who(folder: RunFolder) -> None:
    with folder.lock():
        assert folder.status == "running"
        with pytest.raises(RunBusy, match=f"process {os.getpid()} on .* is writing"), folder.lock():
            pass
        assert folder.status == "running"
    assert folder.status == "unfinished"
    with folder.lock():
        pass
    assert (folder.path / ".lock").exists()


def test_the_lock_ends_with_its_process(folder: RunFolder) -> None:
    program = (
        "import sys, pathlib; from crh_train.run_store import RunFolder\n"
        f"with RunFolder(pathlib.Path({str(folder.path)!r})).lock():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert folder.status == "running"
        with pytest.raises(RunBusy, match=f"process {process.pid}"), folder.lock():
            pass
        process.kill()
    assert folder.status == "unfinished"
    with folder.lock():
        pass


def test_asking_for_the_status_does_not_keep_a_writer_out(folder: RunFolder) -> None:
    with (folder.path / ".lock").open("rb") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        assert folder.status == "unfinished"


def test_a_run_is_finished_once_its_sums_are_there(folder: RunFolder) -> None:
    train(folder, 2)
    folder.publish("reports/metrics.json", b"{}")
    assert not folder.finished
    finish(folder)
    assert folder.finished
    assert folder.status == "finished"
    done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder.path / "reports", check=False)
    assert done.returncode == 0


def test_a_report_is_replaced_atomically(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.publish("reports/a.md", b"old")
    folder.publish("reports/a.md", b"new")
    assert (folder.path / "reports/a.md").read_bytes() == b"new"
    fail_on(monkeypatch, "fsync")
    with pytest.raises(StorageFailed):
        folder.publish("reports/a.md", b"newer")
    assert os.listdir(folder.path / "reports") == ["a.md"]
    assert (folder.path / "reports/a.md").read_bytes() == b"new"


@pytest.mark.parametrize(
    "name", ["a.md", "run.json", "reports/", "reports/../run.json", "/etc/x", "reports/.x", "reports/a/b"]
)
def test_only_plain_names_under_reports_are_published(folder: RunFolder, name: str) -> None:
    before = snapshot(folder.path)
    with pytest.raises(UsageError, match="plain file name"):
        folder.publish(name, b"x")
    assert snapshot(folder.path) == before


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_in_the_order_of_training(folder: RunFolder) -> None:
    train(folder, 3)
    (folder.path / "checkpoints" / "notes.txt").touch()
    assert [name.step for _, name in folder.checkpoints()] == [2, 4, 6]


def test_the_whole_run_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    folders = [create_run(tmp_path / name) for name in ("a", "b")]
    for folder in folders:
        train(folder, 3)
        finish(folder)
    assert snapshot(folders[0].path) == snapshot(folders[1].path)


def test_a_segment_starts_from_a_copied_prefix(tmp_path: Path, folder: RunFolder) -> None:
    train(folder, 3)
    scratch = create_run(tmp_path / "scratch")
    start = checkpoint.read(folder.checkpoints()[1].path)
    copy_prefix(folder.path, scratch.path, start.chronicle_offset)
    with ChronicleWriter(scratch.path, start.chronicle_offset) as writer:
        assert writer.offset().records == 4
    assert len(scratch.chronicle()) == 4
    append_steps(scratch.path, start.chronicle_offset, 5, 6)
    for name in ("chronicle.jsonl", "chronicle.chain"):
        assert (scratch.path / name).read_bytes() == (folder.path / name).read_bytes()
