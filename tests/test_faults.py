"""The run store under faults: a part of what `make faults` tries, without the real program; and that the simulated disk
is like a real one."""

import random
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from faults.disk_faults import WAYS, Scenario, crash_pairs, operations, tried
from faults.faulty_disk import KINDS, Disk, Killed, session, spread
from faults.laws import undisturbed, unfinishable
from faults.power import losses, losses_after_a_kill
from faults.session import LAST_STEP, NAME, Way, go_on, operated_by
from faults.surviving import SECTOR, File, Folder, Recorder, State, least, left, states

from crh_train import disk, filesystem
from crh_train.run_folder import RunFolder


def test_a_fault_at_any_operation_loses_nothing() -> None:
    for row in operations(limit=1):
        assert row.survived == row.tried > 0, row


def test_a_crash_while_recovering_from_a_crash_loses_nothing() -> None:
    for row in crash_pairs(limit=1, ways=WAYS[1:2], first_crashes=("half-write", "damage")):
        assert row.survived == row.tried > 0, row


def test_a_loss_of_power_loses_nothing_that_was_acknowledged() -> None:
    for row in losses(limit=1, ways=WAYS[1:2]):
        assert row.survived == row.tried > 0, row


def test_an_operation_of_a_save_that_is_refused_once_is_final(tmp_path: Path) -> None:
    way = Way()
    first, second = operations_of(tmp_path / "undisturbed", way).told[:2]
    scenario = Scenario("a run", undisturbed(way))
    for at in range(first.operations + 1, second.operations + 1):
        assert tried(tmp_path, scenario, "EIO", at) == []


def operations_of(runs: Path, way: Way) -> Disk:
    done = Disk()
    assert session(runs, way, done) is None
    return done


def test_what_a_resume_builds_on_is_durable_before(tmp_path: Path) -> None:
    """Before each of these operations, a name is there that only memory holds; the process is killed, and later, while
    the run goes on, the power fails."""
    way = Way(keep=2)
    log = operations_of(tmp_path / "runs", way).log
    removed = next(at for at in range(len(log)) if log[at : at + 3] == ["rename", "sync_folder", "unlink"])
    of_the_store, of_the_run, of_a_removal, of_the_reports = (
        log.index("sync_folder") + 1,
        log.index("open_or_create"),
        removed + 2,
        len(log),
    )
    for kill_at in (of_the_store, of_the_run, of_a_removal, of_the_reports):
        assert log[kill_at - 1] == "sync_folder"
        row = losses_after_a_kill(kill_at, way)
        assert row.survived == row.tried > 0, row


def test_a_resume_removes_what_the_killed_session_was_about_to_remove(tmp_path: Path) -> None:
    way = Way(keep=2)
    told = operations_of(tmp_path / "undisturbed", way).told
    saved = next(each.operations for each in told if each.name is not None and each.name.step == LAST_STEP)
    runs = tmp_path / "runs"
    assert isinstance(session(runs, way, Disk(KINDS["kill"], saved + 1)), Killed)
    assert len(RunFolder(runs / NAME).checkpoints()) == 3
    assert unfinishable(runs, undisturbed(way)) == []


# --- the disk that fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_fails_where_it_should(tmp_path: Path, kind: str) -> None:
    at, way = 60, Way()
    log = operations_of(tmp_path / "undisturbed", way).log
    while not KINDS[kind].fits(log[at - 1]):
        at += 1
    failing = Disk(KINDS[kind], at)
    error = session(tmp_path / "runs", way, failing)
    assert failing.log[:at] == log[:at]
    assert (error is None) == (KINDS[kind].error is None)
    assert (len(failing.log) > len(log)) == (error is None)


def test_numbers_are_spread_and_the_last_is_among_them() -> None:
    assert spread(range(10), None) == list(range(10))
    assert spread(range(10), 3) == [2, 5, 9]
    assert spread(range(2), 3) == [0, 1]


# --- the disk without power ----------------------------------------------------------------------------------------


def on_disk(folder: Path) -> Mapping[str, bytes | None]:
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


def everything(root: Folder) -> State:
    return left(root, Folder.names, File.content)


def test_while_the_power_is_on_the_simulated_disk_is_the_real_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    seen: list[Mapping[str, bytes | None]] = []

    def looked_at(name: str, real: object, *arguments: object) -> object:
        seen.append(on_disk(tmp_path))
        return recorder(name, real, *arguments)  # type: ignore[arg-type]

    with operated_by(looked_at):
        go_on(tmp_path / "runs", Way(keep=2), recorder.tell)
    assert [everything(moment.root) for moment in recorder.moments] == seen
    recorder.now("the end")
    # The words in the lock file matter only while its holder lives.
    lock = f"runs/{NAME}/.lock"
    assert {**least(recorder.moments[-1].root), lock: b""} == {**on_disk(tmp_path), lock: b""}


def possible(recorder: Recorder) -> set[tuple[tuple[str, bytes | None], ...]]:
    recorder.now("the end")
    return {tuple(sorted(state.items())) for state in states(recorder.moments[-1].root, 300, random.Random(0))}


def test_what_is_not_synced_may_be_lost_in_any_way(tmp_path: Path) -> None:
    recorder, data = Recorder(tmp_path), b"1" * SECTOR + b"2" * SECTOR
    with operated_by(recorder):
        descriptor = disk.create(tmp_path / "name")
        disk.write(descriptor, data)
        assert () in possible(recorder)
        disk.sync_folder(tmp_path)
        contents = {dict(state)["name"] for state in possible(recorder)}
        assert contents >= {b"", bytes(2 * SECTOR), data, bytes(SECTOR) + b"2" * SECTOR, b"1" * SECTOR + bytes(SECTOR)}
        assert any(content is not None and 0 < len(content) < SECTOR for content in contents)
        disk.sync(descriptor)
        assert possible(recorder) == {(("name", data),)}
        disk.truncate(descriptor, 5)
        assert {dict(state)["name"] for state in possible(recorder)} == {data, data[:5]}


def test_a_name_may_be_the_old_one_or_the_new_until_its_folder_is_synced(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"old")
    recorder = Recorder(tmp_path)
    with operated_by(recorder):
        filesystem.write_over(tmp_path / "name", b"new")
        assert possible(recorder) == {(("name", b"new"),)}
    recorder = Recorder(tmp_path)
    with operated_by(recorder):
        descriptor = disk.create(tmp_path / "temporary")
        disk.write(descriptor, b"newer")
        disk.sync(descriptor)
        disk.rename(tmp_path / "temporary", tmp_path / "name")
    assert possible(recorder) == {
        (("name", b"new"),),
        (("name", b"new"), ("temporary", b"newer")),
        (("name", b"newer"),),
    }
