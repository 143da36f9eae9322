"""Saving in the background: the same files in the same order as if training waited, and no failure goes unheard."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_samples import (
    CONFIG,
    MANIFEST,
    STEPS_PER_EPOCH,
    create_run,
    fail_on,
    log_diagnoses,
    make_checkpoint,
    make_record,
    make_run_document,
    record_calls,
    snapshot,
    train,
)

from crh_train import filesystem
from crh_train.checkpoint_header import CheckpointName
from crh_train.chronicle import genesis
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.errors import StorageFailed
from crh_train.run_folder import Identity
from crh_train.run_store import RunFolder
from crh_train.saving import BackgroundSaver
from crh_train.state import HostState

IDENTITY = Identity(CONFIG, MANIFEST, make_run_document())


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run whose session has begun: too short for a diagnosis."""
    folder = create_run(tmp_path / "runs")
    log_diagnoses(folder, [])
    return folder


@pytest.fixture
def writer(folder: RunFolder) -> Iterator[ChronicleWriter]:
    with ChronicleWriter(folder.path, genesis(folder.run_hash)) as opened:
        yield opened


def saver_of(folder: RunFolder, writer: ChronicleWriter, **changes: Any) -> BackgroundSaver:
    given: dict[str, Any] = {"previous": None, "keep": None, "saved": lambda name: None, **changes}
    return BackgroundSaver(folder, IDENTITY, writer, steps_per_epoch=STEPS_PER_EPOCH, **given)


def host(step: int) -> HostState:
    sample = make_checkpoint()
    model = {name: array.copy() for name, array in sample.model_state.items()}
    return HostState(model, dict(sample.optimizer_state), sample.rng_state, step)


def epoch(writer: ChronicleWriter, saver: BackgroundSaver, number: int) -> None:
    """Log the steps of an epoch, and begin to save the state after it."""
    for step in range((number - 1) * STEPS_PER_EPOCH + 1, number * STEPS_PER_EPOCH + 1):
        record = make_record(step)
        writer.append(record, record.timestamp)
        saver.after_step(record)  # type: ignore[arg-type]
    saver.save(host(number * STEPS_PER_EPOCH))


def test_the_files_are_those_of_a_run_that_waited(folder: RunFolder, writer: ChronicleWriter, tmp_path: Path) -> None:
    with saver_of(folder, writer) as saver:
        for number in range(1, 5):
            epoch(writer, saver, number)
    waited = create_run(tmp_path / "waited")
    train(waited, 4)
    assert snapshot(folder.path) == snapshot(waited.path)


def test_what_is_acknowledged_was_synced_in_the_documented_order(
    folder: RunFolder, writer: ChronicleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = record_calls(monkeypatch, ["fdatasync", "create_exclusive", "fsync", "rename_new", "fsync_folder"])
    with saver_of(folder, writer, saved=lambda name: calls.append("acknowledged")) as saver:
        epoch(writer, saver, 1)
    lines_chain_sums = ["fdatasync"] * 3
    assert calls == [*lines_chain_sums, "create_exclusive", "fsync", "rename_new", "fsync_folder", "acknowledged"]


def test_the_state_may_change_as_soon_as_save_returns(
    folder: RunFolder, writer: ChronicleWriter, tmp_path: Path
) -> None:
    go_on = threading.Event()
    with saver_of(folder, writer, saved=lambda name: go_on.wait()) as saver:
        epoch(writer, saver, 1)
        state = host(4)
        for step in (3, 4):
            saver.after_step(make_record(step))  # type: ignore[arg-type]
            writer.append(make_record(step), make_record(step).timestamp)
        go_on.set()
        saver.save(state)
        for array in state.model_state.values():
            array.fill(np.nan)  # type: ignore[attr-defined]
    waited = create_run(tmp_path / "waited")
    train(waited, 2)
    assert snapshot(folder.path) == snapshot(waited.path)


def test_training_goes_on_while_a_checkpoint_is_written(
    folder: RunFolder, writer: ChronicleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, real = threading.Event(), filesystem.rename_new

    def held(source: Path, target: Path) -> None:
        assert go_on.wait(60)
        real(source, target)

    monkeypatch.setattr(filesystem, "rename_new", held)
    with saver_of(folder, writer) as saver:
        epoch(writer, saver, 1)
        writer.append(make_record(3), 1.0)
        saver.after_step(make_record(3))  # type: ignore[arg-type]
        assert folder.checkpoints() == []
        go_on.set()
    assert [stored.name.step for stored in folder.checkpoints()] == [2]


@pytest.mark.parametrize("operation", ["fdatasync", "create_exclusive", "write", "fsync", "rename_new", "fsync_folder"])
def test_a_failure_stops_the_run_at_the_next_step(
    folder: RunFolder, writer: ChronicleWriter, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    said: list[CheckpointName] = []
    saver = saver_of(folder, writer, saved=said.append)
    writer.flush()
    with monkeypatch.context() as patched:
        fail_on(patched, operation, 4 if operation == "write" else 1)  # three writes are the chronicle's
        with pytest.raises(StorageFailed, match="no space"), saver:  # noqa: PT012
            epoch(writer, saver, 1)
            while True:
                saver.after_step(make_record(3))  # type: ignore[arg-type]
    assert said == []


def test_a_failure_of_the_last_save_is_told_too(
    folder: RunFolder, writer: ChronicleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on(monkeypatch, "fsync_folder")
    with pytest.raises(StorageFailed), saver_of(folder, writer) as saver:
        epoch(writer, saver, 1)


def test_a_failed_save_is_not_hidden_by_another_error(
    folder: RunFolder, writer: ChronicleWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on(monkeypatch, "fsync_folder")
    with pytest.raises(StorageFailed) as raised, saver_of(folder, writer) as saver:  # noqa: PT012
        epoch(writer, saver, 1)
        raise ZeroDivisionError
    assert isinstance(raised.value.__context__, ZeroDivisionError)


# --- how many are kept ---------------------------------------------------------------------------------------------


def steps_of(folder: RunFolder) -> list[int]:
    return [stored.name.step for stored in folder.checkpoints()]


def test_the_newest_and_the_best_are_kept(folder: RunFolder, writer: ChronicleWriter) -> None:
    with saver_of(folder, writer, keep=2) as saver:
        for number in range(1, 6):  # the loss falls, so the newest is the best
            epoch(writer, saver, number)
    assert steps_of(folder) == [8, 10]
    assert [name.step for name in folder.removed()] == [2, 4, 6]


def test_a_resumed_run_keeps_what_an_undisturbed_one_keeps(
    folder: RunFolder, writer: ChronicleWriter, tmp_path: Path
) -> None:
    with saver_of(folder, writer, keep=3) as saver:
        for number in range(1, 7):
            epoch(writer, saver, number)
    stopped = create_run(tmp_path / "stopped")
    log_diagnoses(stopped, [])
    with ChronicleWriter(stopped.path, genesis(stopped.run_hash)) as first, saver_of(stopped, first, keep=3) as saver:
        for number in range(1, 4):
            epoch(first, saver, number)
    previous = stopped.checkpoints()[-1].name.hash
    with (
        ChronicleWriter(stopped.path, first.offset()) as second,
        saver_of(stopped, second, keep=3, previous=previous) as saver,
    ):
        for number in range(4, 7):
            epoch(second, saver, number)
    assert snapshot(stopped.path) == snapshot(folder.path)
