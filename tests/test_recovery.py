"""Recovery: after any crash a run is brought back to its newest good checkpoint, and nothing that was acknowledged is
lost on the way."""

from pathlib import Path

import pytest
from store_samples import append_steps, create_run, fail_on, flip, make_checkpoint, snapshot, train

from crh_train import checkpoint
from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import genesis
from crh_train.chronicle_audit import audit, read_tail
from crh_train.errors import CorruptRun, StorageFailed
from crh_train.recovery import newest_good_checkpoint, recover
from crh_train.run_store import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return create_run(tmp_path / "runs")


def test_the_newest_good_checkpoint_of_an_undamaged_run_is_its_newest(folder: RunFolder) -> None:
    train(folder, 3)
    found = newest_good_checkpoint(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 6
    assert found.notes == ()


def test_a_run_without_checkpoints_begins_at_the_start(folder: RunFolder) -> None:
    append_steps(folder.path, genesis(folder.run_hash), 1, 1)
    with folder.lock():
        assert recover(folder).checkpoint is None
    assert audit(folder.path, folder.run_hash).good == genesis(folder.run_hash)
    assert [record.step for record in read_tail(folder.path)] == [1]


def test_recovery_goes_back_to_the_newest_good_checkpoint(folder: RunFolder) -> None:
    train(folder, 3)
    before = snapshot(folder.path)
    newest = folder.checkpoints()[-1].path
    append_steps(folder.path, audit(folder.path, folder.run_hash).good, 7, 7)
    (folder.path / "checkpoints" / ".tmp-1-0").write_bytes(b"half")
    (folder.path / ".tmp-1-0").write_bytes(b"half")
    with (folder.path / "chronicle.jsonl").open("ab") as stream:
        stream.write(b'{"epoch"')
    with folder.lock():
        found = recover(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 6
    assert newest.exists()
    (folder.path / "chronicle.tail").unlink()
    assert snapshot(folder.path) == before


def test_recovery_sets_a_damaged_checkpoint_aside_and_makes_room_for_its_successor(folder: RunFolder) -> None:
    train(folder, 3)
    newest = folder.checkpoints()[-1].path
    whole = newest.read_bytes()
    flip(newest, 1000)
    with folder.lock():
        found = recover(folder)
        assert found.checkpoint is not None
        assert found.checkpoint.step == 4
        assert any(newest.name in note and "skipped" in note for note in found.notes)
        assert [record.step for record in read_tail(folder.path)] == [5, 6]
        again = append_steps(folder.path, found.checkpoint.chronicle_offset, 5, 6)
        run = folder.run_document()
        changes = {key: run[key] for key in ("config_hash", "dataset_state", "seed")}
        regenerated = make_checkpoint(
            step=6,
            epoch_index=3,
            chronicle_offset=again,
            previous=checkpoint.checkpoint_hash(found.checkpoint),
            run_hash=folder.run_hash,
            **changes,
        )
        assert folder.save_checkpoint(regenerated).path == newest
    assert newest.read_bytes() == whole
    assert newest.with_name(newest.name + ".damaged").exists()


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        *(("remove", 1), ("replace", 1), ("replace", 2), ("fsync", 1)),
        *(("fsync_folder", 1), ("fsync_folder", 2), ("truncate", 1), ("truncate", 2)),
    ],
)
def test_an_interrupted_recovery_can_be_done_again(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, operation: str, call: int
) -> None:
    train(folder, 3)
    flip(folder.checkpoints()[-1].path, 1000)
    (folder.path / ".tmp-1-0").write_bytes(b"half")
    with monkeypatch.context() as patched:
        fail_on(patched, operation, call)
        with folder.lock(), pytest.raises(StorageFailed):
            recover(folder)
    with folder.lock():
        found = recover(folder).checkpoint
    assert found is not None
    assert found.step == 4
    assert audit(folder.path, folder.run_hash).good == found.chronicle_offset
    assert [record.step for record in read_tail(folder.path)] == [5, 6]


def test_recovery_falls_back_behind_damage_to_the_chronicle_and_says_so(folder: RunFolder) -> None:
    train(folder, 3)
    lines = (folder.path / "chronicle.jsonl").read_bytes()
    (folder.path / "chronicle.jsonl").write_bytes(lines[:-200])
    with folder.lock():
        found = recover(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 4
    assert any("it acknowledges 6 chronicle lines" in note for note in found.notes)


def test_recovery_does_not_silently_start_over(folder: RunFolder) -> None:
    train(folder, 2)
    for path, _ in folder.checkpoints():
        flip(path, 1000)
    before = snapshot(folder.path)
    with folder.lock(), pytest.raises(CorruptRun, match="none of its 2 checkpoints can be used"):
        recover(folder)
    assert snapshot(folder.path) == before


def test_a_checkpoint_of_another_run_is_not_gone_on_with(tmp_path: Path, folder: RunFolder) -> None:
    train(folder, 2)
    other = create_run(tmp_path / "others", seed=8)
    train(other, 3)
    stranger = other.checkpoints()[-1].path
    stranger.rename(folder.path / "checkpoints" / stranger.name)
    found = newest_good_checkpoint(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.step == 4
    assert "expected the run's run_hash" in found.notes[0]
    assert "expected the run's seed 7, found 8" in found.notes[0]


# --- the tail that is set aside ------------------------------------------------------------------------------------


def log(folder: RunFolder, first: int, last: int) -> None:
    append_steps(folder.path, audit(folder.path, folder.run_hash).good, first, last)


def tail_of(folder: RunFolder) -> list[int]:
    return [record.step for record in read_tail(folder.path)]


def test_the_longer_tail_is_kept(folder: RunFolder) -> None:
    train(folder, 1)
    for last, kept in ((5, [3, 4, 5]), (3, [3, 4, 5]), (6, [3, 4, 5, 6])):
        log(folder, 3, last)
        with folder.lock():
            recover(folder)
        assert tail_of(folder) == kept
        assert audit(folder.path, folder.run_hash).good.records == 2


# --- checkpoints that were removed to save space -------------------------------------------------------------------


def names_of(folder: RunFolder) -> list[CheckpointName]:
    return [stored.name for stored in folder.checkpoints()]


def test_what_was_removed_is_written_down_first(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, 3)
    one, two, three = names_of(folder)
    with monkeypatch.context() as patched:
        fail_on(patched, "remove")
        with pytest.raises(StorageFailed):
            folder.remove_checkpoints([one, two])
    assert folder.removed() == [one, two]
    assert names_of(folder) == [one, two, three]
    with folder.lock():
        recover(folder)
    assert folder.removed() == [one, two]
    assert names_of(folder) == [three]


def test_what_was_removed_and_must_be_made_again_is_struck_out(folder: RunFolder) -> None:
    train(folder, 4)
    one, two, _, four = names_of(folder)
    folder.remove_checkpoints(names_of(folder)[2:3])
    folder.remove_checkpoints([one])
    flip(folder.path / "checkpoints" / four.text, 1000)
    with folder.lock():
        found = recover(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.step == two.step
    assert folder.removed() == [one]


def test_a_checkpoint_written_down_as_removed_is_gone_on_with_where_it_is_the_last_good_one(folder: RunFolder) -> None:
    train(folder, 2)
    one, two = names_of(folder)
    folder.write_removed([one])  # and then came the crash
    flip(folder.path / "checkpoints" / two.text, 1000)
    with folder.lock():
        found = recover(folder)
    assert found.checkpoint is not None
    assert found.checkpoint.step == one.step
    assert folder.removed() == []
    assert names_of(folder) == [one]


def test_a_run_whose_checkpoints_are_all_gone_is_not_begun_again(folder: RunFolder) -> None:
    train(folder, 2)
    folder.remove_checkpoints(names_of(folder))
    with folder.lock(), pytest.raises(CorruptRun, match="none of its 0 checkpoints can be used"):
        recover(folder)


@pytest.mark.parametrize("position", [3, 40, -10])
def test_a_changed_list_of_removed_checkpoints_is_refused(folder: RunFolder, position: int) -> None:
    train(folder, 2)
    folder.remove_checkpoints(names_of(folder)[:1])
    path = folder.path / "removed.json"
    flip(path, position)
    with pytest.raises(CorruptRun, match=r"removed\.json"):
        folder.removed()


def test_a_linked_folder_is_refused(folder: RunFolder, tmp_path: Path) -> None:
    train(folder, 2)
    moved = (folder.path / "checkpoints").rename(tmp_path / "elsewhere")
    (folder.path / "checkpoints").symlink_to(moved)
    before = snapshot(moved)
    with folder.lock(), pytest.raises(CorruptRun, match="cannot be listed"):
        recover(folder)
    assert snapshot(moved) == before
