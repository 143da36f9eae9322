"""Runs with a bit changed that only a replay can tell from the truth."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from command_line import copied

from crh_train import checkpoint, chronicle_writer
from crh_train.checkpoint import Checkpoint, checkpoint_hash
from crh_train.chronicle import ChronicleOffset, ChronicleRecord, genesis
from crh_train.run_store import RunFolder


def ulp_up(value: np.float32) -> np.float32:
    return np.nextafter(value, np.float32(np.inf))


def rewritten(
    run: RunFolder,
    runs: Path,
    edit_line: Callable[[ChronicleRecord], ChronicleRecord] = lambda record: record,
    edit_checkpoint: Callable[[Checkpoint], Checkpoint] = lambda saved: saved,
) -> RunFolder:
    """A copy in another store in which everything was written anew after an edit, with every hash in order: what only
    a replay can tell from the truth."""
    copy = copied(run, runs)
    for name in chronicle_writer.FILES:
        (copy.path / name).unlink()
    chronicle_writer.create(copy.path)
    offsets: list[ChronicleOffset] = [genesis(copy.run_hash)]
    with chronicle_writer.ChronicleWriter(copy.path, offsets[0]) as writer:
        for record in run.chronicle():
            writer.append(edit_line(record), record.timestamp)
            offsets.append(writer.offset())
    previous = None
    for saved in copy.checkpoints():
        found = edit_checkpoint(checkpoint.read(saved.path))
        saved.path.unlink()
        forged = dataclasses.replace(found, chronicle_offset=offsets[found.step], previous=previous)
        checkpoint.write(copy.path / "checkpoints", forged)
        previous = checkpoint_hash(forged)
    return copy
