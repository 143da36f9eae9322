"""Bugs put into the store on purpose, to show that the faults tried here find them."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from crh_train import checkpoint_file, chronicle_writer, disk, filesystem
from crh_train.checkpoint_header import parse_name
from crh_train.chronicle import ChronicleOffset
from crh_train.filesystem import NewFile
from crh_train.saving import BackgroundSaver
from crh_train.state import HostState
from faults.disk_faults import crash_pairs, operations
from faults.laws import undisturbed
from faults.power import losses_in_a_run
from faults.row import Row
from faults.session import Way
from faults.surviving import SECTOR

Check = Callable[[int | None], Row]
"""`limit` -> a row, all of which the store survives without the bug."""


class Bug(NamedTuple):
    put_in: Callable[[], AbstractContextManager[object]]
    check: Check  # that finds it


def seeded_bugs(limit: int | None = 20) -> list[Row]:
    """Each of `BUGS`; it counts as survived if it was found. `limit` as the checks have it."""
    rows = []
    for name, bug in BUGS.items():
        with bug.put_in():
            found = bug.check(limit)
        violating = found.tried - found.survived
        rows.append(Row(f"seeded bug: {name}", 1, int(violating > 0), f"{violating} of {found.tried}, {found.fault}"))
    return rows


# --- checks --------------------------------------------------------------------------------------------------------


def loss_of_power(limit: int | None) -> Row:
    return losses_in_a_run(limit, (Way(keep=2),))


def kills(limit: int | None) -> Row:
    return operations(("kill",), limit, (Way(keep=2),))[0]


def half_writes(limit: int | None) -> Row:
    return operations(("half-write + kill",), limit, (Way(keep=2),))[0]


def damage(limit: int | None) -> Row:
    return crash_pairs(limit, (Way(keep=2),), ("damage",))[0]


# --- bugs ----------------------------------------------------------------------------------------------------------


def _nothing(*_: Any) -> None:
    pass


def _fsync_but_of_checkpoints(descriptor: int, path: Path) -> None:
    if path.parent.name != "checkpoints":
        disk.sync(descriptor)


@contextlib.contextmanager
def _acknowledged_too_early() -> Iterator[None]:
    real = BackgroundSaver._publish
    parsed = [parse_name(Path(name).name) for name in undisturbed(Way()).files]
    names = {name.step: name for name in parsed if name is not None}

    def publish(
        saver: BackgroundSaver,
        host: HostState,
        offset: ChronicleOffset,
        previous: str | None,
        scores: Mapping[int, float],
    ) -> str:
        saver._saved(names[host.step])
        return real(saver, host, offset, previous, scores)

    with mock.patch.object(BackgroundSaver, "_publish", publish):
        yield


def _write_in_place(path: Path, data: bytes) -> None:
    descriptor = disk.open_or_create(path)
    try:
        disk.truncate(descriptor, 0)
        for begin in range(0, len(data), SECTOR):
            filesystem.write(descriptor, data[begin : begin + SECTOR], path)
        filesystem.fsync(descriptor, path)
    finally:
        os.close(descriptor)
    filesystem.fsync_folder(path.parent)


def _publish_in_place(file: NewFile, name: str) -> bool:
    """As `NewFile.publish`, but for the rename: the file gets its name first, and then its bytes."""
    if (file._folder / name).exists():
        return False
    _write_in_place(file._folder / name, file._path.read_bytes())
    return True


@contextlib.contextmanager
def _no_truncation(guarded: bool) -> Iterator[None]:
    """`guarded`: the writer still refuses a chronicle that does not end where it should."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(chronicle_writer, "truncate_to", return_value=0))
        if not guarded:
            stack.enter_context(mock.patch.object(chronicle_writer, "_surplus", return_value=(0, 0, 0)))
        yield


class _Agreeing(bytes):
    """Equal to all bytes."""

    __hash__ = bytes.__hash__

    def __eq__(self, other: object) -> bool:
        return True


def _agreeing(data: bytes | memoryview) -> bytes:
    return _Agreeing(hashlib.sha256(data).digest())


BUGS = {
    "no fsync of a checkpoint": Bug(
        partial(mock.patch.object, filesystem, "fsync", _fsync_but_of_checkpoints), loss_of_power
    ),
    "no fsync of the chronicle": Bug(partial(mock.patch.object, filesystem, "fdatasync", _nothing), loss_of_power),
    "no fsync of a folder": Bug(partial(mock.patch.object, filesystem, "fsync_folder", _nothing), loss_of_power),
    "acknowledged too early": Bug(_acknowledged_too_early, kills),
    "in-place overwrite of a document": Bug(
        partial(mock.patch.object, filesystem, "write_over", _write_in_place), half_writes
    ),
    "in-place writing of a checkpoint": Bug(
        partial(mock.patch.object, NewFile, "publish", _publish_in_place), half_writes
    ),
    "no tail truncation": Bug(partial(_no_truncation, guarded=True), kills),
    "no tail truncation, and the writer does not look": Bug(partial(_no_truncation, guarded=False), kills),
    "no hash check of a checkpoint": Bug(partial(mock.patch.object, checkpoint_file, "sha256", _agreeing), damage),
}
