"""Small checkpoints, chronicles and runs for the tests of what is on disk."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crh_train import filesystem
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.chronicle import ChronicleOffset, ChronicleRecord, genesis
from crh_train.chronicle_writer import ChronicleWriter
from crh_train.continuity_log import ContinuityFile
from crh_train.diagnostics.continuity import Continuity, follow
from crh_train.diagnostics.policy import ADVICE_ONLY
from crh_train.digest import digest_bytes, digest_json
from crh_train.errors import StorageFailed
from crh_train.run_folder import StoredProgram
from crh_train.run_store import RunFolder, RunStore

RUN_HASH = "ab" * 32
CONFIG = {"config": {"engine": {"epochs": 3}}, "optimizer": {"name": "sample"}, "scheduler": {"name": "sample"}}
MANIFEST = {
    "files": [{"name": "template", "sha256": "cd" * 32}],
    "preprocessing": {},
    "samples": [{"id": "template/axial/000", "volume": "template", "split": "train", "first_slice": 0}],
    "source": "sample",
    "volumes": [{"id": "template"}],
}
FILES = {"init": b"the first state", "step": b"the next state"}
PROGRAM = StoredProgram(
    {
        "format": 1,
        "functions": {name: {"sha256": digest_bytes(data)} for name, data in FILES.items()},
        "steps_per_epoch": 4,
    },
    FILES,
)
SESSION: dict[str, Any] = {
    "command": {"conf": "sample", "overrides": []},
    "fingerprint": {"threads": 4},
    "first_step": 0,
    "program": PROGRAM.digest,
    "runtime": {"keep": None, "retention_days": None},
    "version": "0.1.0",
}
STEPS_PER_EPOCH = 2


def make_checkpoint(**changes: Any) -> Checkpoint:
    """Six small arrays; a field may be given another value."""
    sample = Checkpoint(
        model_state={
            "dense/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / np.float32(7),
            "dense/bias": np.array([-0.0, np.nan, np.inf], np.float32),
        },
        optimizer_state={
            "count": np.array(4, np.int32),
            "mu/dense/kernel": np.full((2, 3), 1e-8, np.float32),
            "mask": np.array([True, False]),
            "nothing": np.zeros((0, 5), np.uint8),
        },
        rng_state=np.array([0, 7], np.uint32),
        step=4,
        epoch_index=2,
        config_hash="01" * 32,
        dataset_state="23" * 32,
        run_hash=RUN_HASH,
        seed=7,
        chronicle_offset=ChronicleOffset(612, 4, "45" * 32),
        previous=None,
    )
    return dataclasses.replace(sample, **changes)


def make_record(step: int) -> ChronicleRecord:
    epoch, batch = divmod(step - 1, STEPS_PER_EPOCH)
    loss = np.float32(1) / np.float32(step)
    return ChronicleRecord(
        epoch, batch, loss, np.float32(0.5), np.float32(3e-4), np.float32("nan"), float(step) / 3, step
    )


def append_steps(folder: Path, offset: ChronicleOffset, first: int, last: int) -> ChronicleOffset:
    """Log steps `first` to `last`, synced."""
    with ChronicleWriter(folder, offset) as writer:
        for step in range(first, last + 1):
            writer.append(make_record(step), make_record(step).timestamp)
        writer.flush()
        writer.sync()
        return writer.offset()


def make_run_document(seed: int = 7) -> dict[str, Any]:
    return {
        "config_hash": digest_json(CONFIG),
        "dataset_state": digest_json(MANIFEST),
        "seed": seed,
        "semantics_version": 1,
    }


def create_run(root: Path, seed: int = 7, **runtime: Any) -> RunFolder:
    """A new run; `runtime` is what its session says of how it runs."""
    session = {**SESSION, "runtime": {**SESSION["runtime"], **runtime}}
    return RunStore(root).create(make_run_document(seed), CONFIG, MANIFEST, session, PROGRAM)


def log_diagnoses(folder: RunFolder, records: Sequence[ChronicleRecord]) -> None:
    """What a session that logs `records`, from the first on, leaves in `continuity.jsonl`."""
    start = Continuity(folder.program_document()["steps_per_epoch"], ADVICE_ONLY)
    with ContinuityFile(folder.path, b"".join(entry.line() for entry in follow(start, records)[1])):
        pass


def train(folder: RunFolder, epochs: int) -> None:
    """What a training session leaves: diagnoses, a chronicle, and a checkpoint an epoch."""
    offset, previous = genesis(folder.run_hash), None
    log_diagnoses(folder, [make_record(step) for step in range(1, epochs * STEPS_PER_EPOCH + 1)])
    for epoch in range(epochs):
        step = (epoch + 1) * STEPS_PER_EPOCH
        offset = append_steps(folder.path, offset, step - STEPS_PER_EPOCH + 1, step)
        sample = make_checkpoint(
            step=step,
            epoch_index=epoch + 1,
            chronicle_offset=offset,
            previous=previous,
            run_hash=folder.run_hash,
            config_hash=folder.run_document()["config_hash"],
            dataset_state=folder.run_document()["dataset_state"],
            seed=folder.run_document()["seed"],
        )
        folder.save_checkpoint(sample)
        previous = checkpoint_hash(sample)


def finish(folder: RunFolder) -> None:
    reports = {"metrics.json": b'{"loss": 1}', "summary.md": b"# Summary\n"}
    for name, data in reports.items():
        folder.publish(f"reports/{name}", data)
    sums = "".join(f"{digest_bytes(data)}  {name}\n" for name, data in reports.items())
    folder.publish("reports/SHA256SUMS", sums.encode())


def snapshot(path: Path) -> dict[str, bytes]:
    """Every file below `path` but locks, by its relative path."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


def flip(path: Path, position: int, bit: int = 0) -> None:
    """Flip one bit of a file in place."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def record_calls(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> list[str]:
    """The list to which each call of one of these functions of `filesystem` adds its name."""
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., Any]:
        original = getattr(filesystem, name)

        def call(*arguments: Any) -> Any:
            calls.append(name)
            return original(*arguments)

        return call

    for name in names:
        monkeypatch.setattr(filesystem, name, recorded(name))
    return calls


def fail_on(monkeypatch: pytest.MonkeyPatch, name: str, call: int = 1) -> None:
    """Let call number `call` of a function of `filesystem`, and no other, be refused by the disk."""
    original = getattr(filesystem, name)
    calls = itertools.count(1)

    def failing(*arguments: Any) -> Any:
        if next(calls) == call:
            raise StorageFailed("no space left on device")
        return original(*arguments)

    monkeypatch.setattr(filesystem, name, failing)
