"""`crh-train gc`: what it removes, what it never touches."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import crh, document
from store_samples import create_run, fail_on, finish, flip, snapshot, train

from crh_train import filesystem, garbage
from crh_train.errors import StorageFailed
from crh_train.filesystem import NewFolder
from crh_train.run_store import RunFolder, RunStore
from crh_train.verification import verify_run

NOW = 1.8e9
OLD = NOW - 40 * garbage.DAY


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def made(store: RunStore, seed: int = 7, last_line: float = OLD, **runtime: Any) -> RunFolder:
    """A finished run of five checkpoints, of which the last is the best."""
    folder = create_run(store.root, seed, **runtime)
    train(folder, 5)
    finish(folder)
    os.utime(folder.path / "chronicle.jsonl", (last_line, last_line))
    return folder


def steps_of(folder: RunFolder) -> list[int]:
    return [stored.name.step for stored in folder.checkpoints()]


def test_without_wish_or_period_nothing_goes(store: RunStore) -> None:
    folder = made(store)
    before = snapshot(store.root)
    assert garbage.remove(store, None, NOW) == ([], [])
    assert snapshot(store.root) == before
    assert steps_of(folder) == [2, 4, 6, 8, 10]


def test_after_its_period_a_run_keeps_the_best_and_the_last(store: RunStore) -> None:
    expired = made(store, seed=1, retention_days=30.0)
    young = made(store, seed=2, retention_days=50.0)
    future = made(store, seed=3, last_line=NOW + 1e9, retention_days=30.0)  # a clock was put back
    found = garbage.remove(store, None, NOW)
    assert [each.path.parent.parent for each in found.garbage] == [expired.path] * 3
    assert all("retention_days=30" in each.reason for each in found.garbage)
    assert [steps_of(run) for run in (expired, young, future)] == [[8, 10], [2, 4, 6, 8, 10], [2, 4, 6, 8, 10]]
    assert all(verify_run(run).ok for run in (expired, young, future))


def test_keep_thins_every_run_and_verify_knows_what_was_removed(store: RunStore) -> None:
    folder = made(store)
    found = garbage.remove(store, 3, NOW)
    assert steps_of(folder) == [6, 8, 10]
    assert [name.step for name in folder.removed()] == [2, 4]
    assert sum(each.bytes for each in found.garbage) > 0
    assert verify_run(folder).ok
    folder.checkpoints()[0].path.unlink()
    assert not verify_run(folder).ok


def test_finding_changes_nothing_and_finds_what_is_removed(store: RunStore) -> None:
    made(store, retention_days=1.0)
    (store.root / ".tmp-1-0").mkdir()
    before = snapshot(store.root)
    found = garbage.find(store, None, NOW)
    assert snapshot(store.root) == before
    assert garbage.remove(store, None, NOW) == found
    assert garbage.find(store, None, NOW) == ([], [])


def test_what_killed_processes_left_goes_and_what_is_being_made_stays(store: RunStore) -> None:
    folder = made(store)
    left = store.root / ".tmp-99-0"
    left.mkdir()
    (left / "run.json").write_bytes(b"{}")
    halves = [folder.path / name / ".tmp-99-1" for name in (".", "checkpoints", "reports")]
    for half in halves:
        half.write_bytes(b"half")
    with NewFolder(store.root) as making:
        found = garbage.remove(store, None, NOW)
        assert making.path.is_dir()
    assert sorted(each.path for each in found.garbage) == sorted([left, *(Path(half) for half in halves)])
    assert not any(path.exists() for path in (left, *halves))


def running(folder: RunFolder) -> None:
    filesystem.write_over(folder.path / "checkpoints" / ".tmp-1-1", b"being written")


def damaged(folder: RunFolder) -> None:
    path = folder.path / "chronicle.jsonl"
    path.write_bytes(path.read_bytes()[:-5])


def signed(folder: RunFolder) -> None:
    (folder.path / "signatures").mkdir()


@pytest.mark.parametrize(("why", "reason"), [(damaged, "is damaged"), (signed, "is signed")])
def test_what_is_damaged_or_signed_stays_as_it_is(
    store: RunStore, why: Callable[[RunFolder], None], reason: str
) -> None:
    why(made(store, retention_days=1.0))
    before = snapshot(store.root)
    for collect in (garbage.find, garbage.remove):
        found = collect(store, 2, NOW)
        assert found.garbage == []
        assert [left.reason.split(":")[0] for left in found.passed] == [reason]
    assert snapshot(store.root) == before


def only_the_first_good(folder: RunFolder) -> None:
    for stored in folder.checkpoints()[1:]:
        flip(stored.path, stored.path.stat().st_size - 1)


def emptied(folder: RunFolder) -> None:
    for path in (folder.path / "program").iterdir():
        path.unlink()
    (folder.path / "program").rmdir()


@pytest.mark.parametrize("left", [None, "checkpoints/.tmp-1-1"])
@pytest.mark.parametrize(
    "harm",
    [
        only_the_first_good,
        emptied,
        *(
            pytest.param(lambda folder, name=name: (folder.path / name).unlink(), id=name)
            for name in (
                *("run.json", "manifest.json", "config.json", "program.json", "environment.json", "continuity.jsonl"),
                *("reports/metrics.json", "program/step.exported"),
            )
        ),
    ],
)
def test_nothing_goes_of_a_run_that_verify_calls_damaged(
    store: RunStore, harm: Callable[[RunFolder], None], left: str | None
) -> None:
    """It may be the last good checkpoint, or what the damaged file is made whole from."""
    folder, whole = made(store, seed=1), made(store, seed=2)
    if left is not None:
        (folder.path / left).write_bytes(b"half")
    harm(folder)
    assert not verify_run(folder).ok
    before, found = snapshot(folder.path), garbage.find(store, 2, NOW)
    assert garbage.remove(store, 2, NOW) == found
    assert [(passed.run, passed.reason.split(":")[0]) for passed in found.passed] == [(folder.name, "is damaged")]
    assert snapshot(folder.path) == before
    assert steps_of(whole) == [8, 10]


def test_of_a_thinned_run_that_is_damaged_afterwards_the_rest_stays(store: RunStore) -> None:
    """What removed.json says is no damage; one more checkpoint that is gone is."""
    folder = made(store)
    garbage.remove(store, 4, NOW)
    garbage.remove(store, 3, NOW)
    assert steps_of(folder) == [6, 8, 10]
    folder.checkpoints()[1].path.unlink()
    (folder.path / "reports" / ".tmp-1-1").write_bytes(b"half")
    before = snapshot(folder.path)
    assert garbage.remove(store, 2, NOW).garbage == []
    assert snapshot(folder.path) == before


def test_what_is_being_written_to_stays_as_it_is(store: RunStore) -> None:
    folder = made(store, retention_days=1.0)
    running(folder)
    before = snapshot(store.root)
    with folder.lock():
        for collect in (garbage.find, garbage.remove):
            assert collect(store, 2, NOW) == ([], [(folder.name, "is being written to")])
    assert snapshot(store.root) == before


def test_an_interrupted_removal_can_be_done_again(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(store)
    with monkeypatch.context() as patched:
        fail_on(patched, "remove", 2)
        with pytest.raises(StorageFailed):
            garbage.remove(store, 2, NOW)
    assert verify_run(folder).ok
    garbage.remove(store, 2, NOW)
    assert steps_of(folder) == [8, 10]
    assert verify_run(folder).ok


def test_the_command(store: RunStore, env: dict[str, str], tmp_path: Path) -> None:
    folder = made(store)
    before = snapshot(store.root)
    said = crh("gc", "--dry-run", "--keep", "2", env=env, cwd=tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert "would remove 3 files and folders" in said.stdout
    assert snapshot(store.root) == before
    found = document(crh("gc", "--keep", "2", "--json", env=env, cwd=tmp_path))
    assert len(found["removed"]) == 3
    assert steps_of(folder) == [8, 10]
    refused = crh("gc", "--keep", "1", env=env, cwd=tmp_path)
    assert (refused.returncode, json.dumps(refused.stdout)) == (2, '""')
