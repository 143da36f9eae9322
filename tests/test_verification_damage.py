"""The law of `verify`: whatever is changed in a finished run, it is found, and the changed file is named."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import store_samples
from store_samples import append_steps, create_run, finish, snapshot, train

from crh_train.chronicle_audit import audit
from crh_train.run_folder import RunFolder
from crh_train.verification import Verification, verify_run

FILES = (
    *("run.json", "config.json", "manifest.json", "environment.json", "program.json", "removed.json"),
    *("chronicle.jsonl", "chronicle.chain", "chronicle.sums", "program/init.exported", "program/step.exported"),
    *("reports/metrics.json", "reports/summary.md", "reports/SHA256SUMS", "checkpoint", "continuity.jsonl"),
)
WINDOW = 64
FLIP_STRIDE = 7  # bits: some bit of each byte, and each of the eight places in a byte in turn
LARGE = 1000  # bytes; of longer files, that is checkpoints, test_checkpoint.py tries every bit and every length
LARGE_STRIDE = 37


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start threads, one for each core, would take half of the time here; the checkpoints are small."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Two epochs of one step, of which the first one's checkpoint was removed to save space."""
    folder = create_run(tmp_path_factory.mktemp("damage"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_samples, "STEPS_PER_EPOCH", 1)
        train(folder, 2)
    folder.remove_checkpoints([folder.checkpoints()[0].name])
    finish(folder)
    return folder


def place_of(folder: RunFolder, name: str) -> Path:
    return folder.checkpoints()[0].path if name == "checkpoint" else folder.path / name


def flipped(data: bytes, stride: int) -> Iterator[tuple[str, bytes]]:
    for bit in range(0, 8 * len(data), stride):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit} flipped", bytes(changed)


def truncated(data: bytes, stride: int) -> Iterator[tuple[str, bytes]]:
    for size in range(0, len(data), stride):
        yield f"cut to {size}", data[:size]
    yield "one byte cut off", data[:-1]


def zeroed(data: bytes) -> Iterator[tuple[str, bytes]]:
    for begin in range(0, len(data), WINDOW // 2):
        size = min(WINDOW, len(data) - begin)
        changed = data[:begin] + bytes(size) + data[begin + size :]
        if changed != data:
            yield f"zeros from {begin}", changed


def appended(data: bytes) -> Iterator[tuple[str, bytes]]:
    for more in (b"\n", b" ", b"\0", b"x", *data.splitlines(keepends=True)[-1:], data):
        yield f"{more[:10]!r} appended", data + more


def named(report: Verification, name: str) -> bool:
    """Whether the damage found is that of the file `name`."""
    damage = [f"{finding.place}: {finding.message}" for finding in report.findings if finding.severity == "damage"]
    return any(name in each for each in damage)


@pytest.mark.parametrize("name", FILES)
def test_every_change_of_a_finished_run_is_found_and_named(name: str, finished: RunFolder) -> None:
    path = place_of(finished, name)
    good = path.read_bytes()
    bits, sizes = (LARGE_STRIDE, LARGE_STRIDE) if len(good) > LARGE else (FLIP_STRIDE, 1)
    missed = []
    try:
        for what, data in (*flipped(good, bits), *truncated(good, sizes), *zeroed(good), *appended(good)):
            if data == good:  # nothing can be cut off an empty file
                continue
            path.write_bytes(data)
            report = verify_run(finished)
            if report.ok or not named(report, path.name):
                missed.append((what, report.findings))
    finally:
        path.write_bytes(good)
    assert missed == []


def test_the_law_is_about_every_file(finished: RunFolder) -> None:
    assert {str(place_of(finished, name).relative_to(finished.path)) for name in FILES} == set(snapshot(finished.path))
    assert verify_run(finished).findings == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, finished: RunFolder) -> None:
    path = place_of(finished, name)
    good = path.read_bytes()
    path.unlink()
    try:
        report = verify_run(finished)
    finally:
        path.write_bytes(good)
    if name == "reports/SHA256SUMS":  # it comes last, and without it the run is not finished
        assert report.status == "unfinished"
        assert [(finding.severity, finding.place) for finding in report.findings] == [("note", "reports")]
    else:
        assert not report.ok
        blamed = "checkpoint before it" if name == "removed.json" else path.name
        assert named(report, "newest checkpoint is of step" if name == "checkpoint" else blamed)


@pytest.mark.parametrize("name", ["chronicle.jsonl", "chronicle.chain", "chronicle.sums"])
def test_what_an_unfinished_run_has_acknowledged_is_as_well_kept(name: str, tmp_path: Path) -> None:
    """A crash can leave anything after the last line that a checkpoint points to, and nothing else."""
    folder = create_run(tmp_path)
    train(folder, 1)
    path = folder.path / name
    acknowledged = path.read_bytes()
    append_steps(folder.path, audit(folder.path, folder.run_hash).good, 3, 3)
    tail = path.read_bytes()[len(acknowledged) :]
    for what, data in flipped(acknowledged, LARGE_STRIDE):
        path.write_bytes(data + tail)
        assert not verify_run(folder).ok, what
    for what, data in truncated(acknowledged, FLIP_STRIDE):
        path.write_bytes(data)
        assert not verify_run(folder).ok, what
    for size in range(0, len(tail), FLIP_STRIDE):
        path.write_bytes(acknowledged + tail[:size])
        assert verify_run(folder).ok, size
